// The CUDA runtime and driver on host memory, as far as CuPy asks for them: two devices, synchronous.
//
// Memory is filled with NaN when it is allocated and when it is freed, so that what is read too early or too late shows.
// A module's image is the path of a library that `hostcuda` compiled; its kernel is run at once.
#include "device.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#undef cuDevicePrimaryCtxRelease
#undef cuModuleGetGlobal

namespace {
constexpr int DEVICES = 2;
constexpr int SHARED = 48 * 1024, SHARED_OPTIN = 227 * 1024;  // as on compute capability 9.0
constexpr char IMAGE[] = "SOFTDEVICE:";

struct Block { size_t size; int device; bool host; };
std::map<char*, Block> blocks;
size_t used[DEVICES];
thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string driver_text;

size_t total() {
  static const size_t size = std::getenv("SOFTDEVICE_MEMORY") ? std::strtoull(std::getenv("SOFTDEVICE_MEMORY"), nullptr, 10)
                                                              : size_t(4) << 30;
  return size;
}
cudaError_t result(cudaError_t error) { if (error) last_error = error; return error; }
CUresult refused(CUresult error, const std::string& text) {
  driver_text = text; std::fprintf(stderr, "soft device: %s\n", text.c_str()); return error;
}
char* allocate(size_t size) { return static_cast<char*>(std::aligned_alloc(512, (size + 1023) / 512 * 512)); }
std::map<char*, Block>::iterator block_of(const void* address) {
  auto found = blocks.upper_bound(static_cast<char*>(const_cast<void*>(address)));
  if (found == blocks.begin()) return blocks.end();
  --found;
  return static_cast<const char*>(address) < found->first + found->second.size ? found : blocks.end();
}
cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  SOFT_LOCK;
  if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) soft::must_be_device_memory(to, size, "copy to");
  if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice) soft::must_be_device_memory(from, size, "copy from");
  soft::note(kind == cudaMemcpyHostToDevice ? "copy to the device" : kind == cudaMemcpyDeviceToHost ? "copy to the host" : "copy");
  std::memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t fill(void* to, int value, size_t size) {
  SOFT_LOCK; soft::must_be_device_memory(to, size, "memset"); soft::note("memset"); std::memset(to, value, size);
  return cudaSuccess;
}
struct Event { std::chrono::steady_clock::time_point time; };
Event* event_of(cudaEvent_t event) { return reinterpret_cast<Event*>(event); }
struct Kernel {
  const char* (*launch)(void**, unsigned grid, unsigned block, int reverse, size_t shared);
  std::string name; int dynamic_shared;
};
}  // namespace

namespace soft {
std::recursive_mutex& lock() { static std::recursive_mutex mutex; return mutex; }
bool idle() { static const bool found = std::getenv("SOFTDEVICE_IDLE") != nullptr; return found; }
void note(const char* what) {
  static std::FILE* file = std::getenv("SOFTDEVICE_LOG") ? std::fopen(std::getenv("SOFTDEVICE_LOG"), "a") : nullptr;
  if (file) { std::fprintf(file, "%s\n", what); std::fflush(file); }
}
void give_up(const char* what, const char* why) {
  std::fprintf(stderr, "soft device: %s: %s\n", what, why); std::abort();
}
void must_be_device_memory(const void* address, size_t size, const char* what) {
  SOFT_LOCK;
  if (!size) return;
  const auto block = block_of(address);
  if (block == blocks.end() || block->second.host) give_up(what, "this is no device memory");
  if (static_cast<const char*>(address) + size > block->first + block->second.size) give_up(what, "past the end of the memory");
}
}  // namespace soft

extern "C" {
// errors
const char* cudaGetErrorName(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : e == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice" : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaErrorInvalidDevice ? "invalid device ordinal" : "unknown error";
}
cudaError_t cudaGetLastError() { const auto e = last_error; last_error = cudaSuccess; return e; }

// devices
cudaError_t cudaDriverGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = DEVICES; return cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { *d = device; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= DEVICES) return result(cudaErrorInvalidDevice);
  device = d; return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int d) { std::snprintf(text, size, "0000:%02x:00.0", d); return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMultiProcessorCount: *v = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = SHARED; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = SHARED_OPTIN; break;
    case cudaDevAttrUnifiedAddressing: *v = 1; break;
    default: *v = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int d) {
  std::memset(p, 0, sizeof *p); std::snprintf(p->name, sizeof p->name, "soft device %d", d);
  p->totalGlobalMem = total(); p->sharedMemPerBlock = SHARED; p->sharedMemPerBlockOptin = SHARED_OPTIN; p->warpSize = 32;
  p->maxThreadsPerBlock = 1024; p->major = 9; p->multiProcessorCount = 132;
  return cudaSuccess;
}

// memory
cudaError_t cudaMalloc(void** p, size_t size) {
  SOFT_LOCK;
  char* made = used[device] + size > total() ? nullptr : allocate(size);
  if (!made) return result(cudaErrorMemoryAllocation);
  std::memset(made, soft::idle() ? 0 : 0xff, size); used[device] += size; blocks[made] = {size, device, false}; *p = made;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  SOFT_LOCK;
  if (!p) return cudaSuccess;
  const auto block = blocks.find(static_cast<char*>(p));
  if (block == blocks.end()) return result(cudaErrorInvalidValue);
  std::memset(p, soft::idle() ? 0 : 0xff, block->second.size); used[block->second.device] -= block->second.size;
  blocks.erase(block); std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, size_t size, unsigned) {
  SOFT_LOCK; char* made = allocate(size); blocks[made] = {size, 0, true}; *p = made; return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) { SOFT_LOCK; blocks.erase(static_cast<char*>(p)); std::free(p); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) { SOFT_LOCK; *t = total(); *f = *t - used[device]; return cudaSuccess; }
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) { return copy(d, s, n, k); }
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t) { return copy(d, s, n, k); }
cudaError_t cudaMemset(void* d, int v, size_t n) { return fill(d, v, n); }
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t) { return fill(d, v, n); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  SOFT_LOCK;
  std::memset(a, 0, sizeof *a); a->type = cudaMemoryTypeUnregistered; a->device = -2;
  const auto block = block_of(p);
  if (block == blocks.end()) return cudaSuccess;
  a->type = block->second.host ? cudaMemoryTypeHost : cudaMemoryTypeDevice; a->device = block->second.device;
  a->devicePointer = const_cast<void*>(p);
  return cudaSuccess;
}

// streams and events: everything has been done when a call returns
cudaError_t cudaStreamCreate(cudaStream_t* s) { *s = static_cast<cudaStream_t>(std::malloc(8)); return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { return cudaStreamCreate(s); }
cudaError_t cudaStreamDestroy(cudaStream_t s) { std::free(s); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { soft::note("wait"); return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* e) { *e = reinterpret_cast<cudaEvent_t>(new Event); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventDestroy(cudaEvent_t e) { delete event_of(e); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t) { event_of(e)->time = std::chrono::steady_clock::now(); return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  *ms = std::chrono::duration<float, std::milli>(event_of(b)->time - event_of(a)->time).count(); return cudaSuccess;
}

// the driver
CUresult cuGetErrorName(CUresult, const char** s) { *s = "CUDA_ERROR"; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, const char** s) { *s = driver_text.c_str(); return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext* c) { *c = reinterpret_cast<CUcontext>(1); return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* d) { *d = device; return CUDA_SUCCESS; }
CUresult cuStreamGetCtx(CUstream, CUcontext* c) { return cuCtxGetCurrent(c); }
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  const char* text = static_cast<const char*>(image);
  if (std::strncmp(text, IMAGE, sizeof IMAGE - 1)) return refused(CUDA_ERROR_INVALID_IMAGE, "the image was not made by hostcuda");
  void* library = dlopen(text + sizeof IMAGE - 1, RTLD_NOW | RTLD_LOCAL);
  if (!library) return refused(CUDA_ERROR_INVALID_IMAGE, dlerror());
  *module = static_cast<CUmodule>(library);
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  void* symbol = dlsym(module, "hc_launch");
  if (!symbol || !dlsym(module, name)) return refused(CUDA_ERROR_NOT_FOUND, std::string("no kernel ") + name);
  *function = reinterpret_cast<CUfunction>(new Kernel{reinterpret_cast<decltype(Kernel::launch)>(symbol), name, SHARED});
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream, void** arguments, void**) {
  SOFT_LOCK;
  static const bool reverse = std::getenv("SOFTDEVICE_REVERSE") != nullptr;
  const auto* kernel = reinterpret_cast<const Kernel*>(function);
  if (!gx || !bx || bx > 1024 || gy * gz * by * bz != 1) return refused(CUDA_ERROR_INVALID_VALUE, kernel->name + ": a bad shape");
  if (static_cast<int>(shared) > kernel->dynamic_shared)
    return refused(CUDA_ERROR_INVALID_VALUE, kernel->name + ": more shared memory than was asked for");
  soft::note(kernel->name.c_str());
  if (soft::idle()) return CUDA_SUCCESS;
  const char* failure = kernel->launch(arguments, gx, bx, reverse, shared);
  return failure ? refused(CUDA_ERROR_LAUNCH_FAILED, kernel->name + ": " + failure) : CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* v, CUfunction_attribute attribute, CUfunction f) {
  *v = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
     : attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? reinterpret_cast<Kernel*>(f)->dynamic_shared : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int v) {
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
  if (v > SHARED_OPTIN) return refused(CUDA_ERROR_INVALID_VALUE, "more shared memory than a block can have");
  reinterpret_cast<Kernel*>(f)->dynamic_shared = v;
  return CUDA_SUCCESS;
}
}
