// What the runtime and its streams share.
#pragma once
#include <cuda_runtime_api.h>

namespace soft {
extern thread_local int device;
extern thread_local cudaError_t last_error;
// Keeps an error for cudaGetLastError, and hands it on.
cudaError_t result(cudaError_t error);
// Runs all that the current device has to do. Returns a cudaError_t.
int wait_for_device();
// Whether a stream is being captured in a mode that forbids what may synchronise.
bool capturing_strictly();
}  // namespace soft
