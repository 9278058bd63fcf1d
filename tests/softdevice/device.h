// What the parts of the soft device share.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

namespace soft {
// Work for a stream: null, or the words for what failed.
using Work = std::function<const char*()>;

std::recursive_mutex& lock();
// A line in the log (SOFTDEVICE_LOG names the file): launches, products, copies and waits, in order.
void note(const char* what);
// SOFTDEVICE_IDLE: launches and products are accepted and not run, so that what takes time is the host's part.
bool idle();
// Puts work into a stream's queue, where it stays until somebody waits for it. Returns a cudaError_t.
int enqueue(void* stream, Work work);
// Runs what a wait for the stream waits for. Returns a cudaError_t.
int wait_for(void* stream);
bool is_device_memory(const void* address);
// Ends the process where `size` bytes from `address` on are not device memory: a GPU would fault, or worse, not.
void must_be_device_memory(const void* address, size_t size, const char* what);
// Ends the process with a message.
[[noreturn]] void give_up(const char* what, const char* why);
}  // namespace soft

#define SOFT_LOCK std::lock_guard<std::recursive_mutex> soft_guard(soft::lock())
