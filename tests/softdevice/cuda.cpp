// The CUDA runtime and driver on host memory, as far as CuPy asks for them: two devices.
//
// Memory is filled with NaN when it is allocated and when it is freed, so that what is read too early or too late shows.
// A module's image is the path of a library that `hostcuda` compiled; a launch copies its arguments, as a driver does, and
// puts it into the stream's queue (`streams.cpp`).
#include "device.h"
#include "state.h"

#include <cuda.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#undef cuDevicePrimaryCtxRelease
#undef cuModuleGetGlobal

namespace {
constexpr int DEVICES = 2;
constexpr int SHARED = 48 * 1024, SHARED_OPTIN = 227 * 1024;  // as on compute capability 9.0
constexpr char IMAGE[] = "SOFTDEVICE:";

struct Block { size_t size; int device; bool host; };
std::map<char*, Block> blocks;
size_t used[DEVICES];
thread_local std::string driver_text;
using soft::device; using soft::result;

size_t total() {
  static const size_t size = std::getenv("SOFTDEVICE_MEMORY") ? std::strtoull(std::getenv("SOFTDEVICE_MEMORY"), nullptr, 10)
                                                              : size_t(4) << 30;
  return size;
}
int double_ratio() { const char* text = std::getenv("SOFTDEVICE_DOUBLE_RATIO"); return text ? std::atoi(text) : 2; }
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
bool pinned(const void* address) { const auto block = block_of(address); return block != blocks.end() && block->second.host; }
// Host memory that is not pinned has been read or written when the call returns; all else is done in the stream's turn.
cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  SOFT_LOCK;
  const bool up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
  if (!down) soft::must_be_device_memory(to, size, "copy to");
  if (!up) soft::must_be_device_memory(from, size, "copy from");
  soft::note(up ? "copy to the device" : down ? "copy to the host" : "copy");
  if (soft::idle()) { std::memmove(to, from, size); return cudaSuccess; }
  std::shared_ptr<std::vector<char>> staged;
  if (up && !pinned(from)) {
    staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + size);
    from = staged->data();
  }
  const auto error = static_cast<cudaError_t>(soft::enqueue(stream, [=]() -> const char* { (void)staged; std::memmove(to, from, size); return nullptr; }));
  return error || !down || pinned(to) ? error : static_cast<cudaError_t>(soft::wait_for(stream));
}
cudaError_t fill(void* to, int value, size_t size, cudaStream_t stream) {
  SOFT_LOCK;
  soft::must_be_device_memory(to, size, "memset"); soft::note("memset");
  if (soft::idle()) { std::memset(to, value, size); return cudaSuccess; }
  return static_cast<cudaError_t>(soft::enqueue(stream, [=]() -> const char* { std::memset(to, value, size); return nullptr; }));
}
struct Kernel {
  const char* (*launch)(void**, unsigned grid, unsigned block, unsigned first, unsigned last, int reverse, size_t shared);
  const size_t* sizes; std::string name; int dynamic_shared;  // sizes of the arguments, 0 behind them
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
bool is_device_memory(const void* address) {
  SOFT_LOCK; const auto block = block_of(address); return block != blocks.end() && !block->second.host;
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
  switch (e) {
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaErrorInvalidDevice ? "invalid device ordinal" : cudaGetErrorName(e);
}
cudaError_t cudaGetLastError() { const auto e = soft::last_error; soft::last_error = cudaSuccess; return e; }

// devices
cudaError_t cudaDriverGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = DEVICES; return cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { *d = device; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= DEVICES) return result(cudaErrorInvalidDevice);
  device = d; return cudaSuccess;
}
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
    case cudaDevAttrSingleToDoublePrecisionPerfRatio: *v = double_ratio(); break;
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
  if (soft::capturing_strictly()) return result(cudaErrorStreamCaptureUnsupported);
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
  if (soft::capturing_strictly()) return result(cudaErrorStreamCaptureUnsupported);
  soft::wait_for_device();
  std::memset(p, soft::idle() ? 0 : 0xff, block->second.size); used[block->second.device] -= block->second.size;
  blocks.erase(block); std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, size_t size, unsigned) {
  SOFT_LOCK; char* made = allocate(size); blocks[made] = {size, 0, true}; *p = made;
  soft::note(("pinned " + std::to_string(size)).c_str());
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) { SOFT_LOCK; soft::wait_for_device(); blocks.erase(static_cast<char*>(p)); std::free(p); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) { SOFT_LOCK; *t = total(); *f = *t - used[device]; return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t stream) { return copy(d, s, n, k, stream); }
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) {
  const auto error = copy(d, s, n, k, nullptr);
  return error ? error : static_cast<cudaError_t>(soft::wait_for(nullptr));
}
cudaError_t cudaMemset(void* d, int v, size_t n) { return fill(d, v, n, nullptr); }
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t stream) { return fill(d, v, n, stream); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  SOFT_LOCK;
  std::memset(a, 0, sizeof *a); a->type = cudaMemoryTypeUnregistered; a->device = -2;
  const auto block = block_of(p);
  if (block == blocks.end()) return cudaSuccess;
  a->type = block->second.host ? cudaMemoryTypeHost : cudaMemoryTypeDevice; a->device = block->second.device;
  a->devicePointer = const_cast<void*>(p);
  return cudaSuccess;
}

// the driver
CUresult cuGetErrorName(CUresult e, const char** s) {
  *s = e == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return CUDA_SUCCESS;
}
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
  const auto sizes = static_cast<const size_t*>(dlsym(module, "hc_sizes"));
  *function = reinterpret_cast<CUfunction>(new Kernel{reinterpret_cast<decltype(Kernel::launch)>(symbol), sizes, name, SHARED});
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void** arguments, void**) {
  SOFT_LOCK;
  static const bool reverse = std::getenv("SOFTDEVICE_REVERSE") != nullptr;
  const auto* kernel = reinterpret_cast<const Kernel*>(function);
  if (!gx || !bx || bx > 1024 || gy * gz * by * bz != 1) return refused(CUDA_ERROR_INVALID_VALUE, kernel->name + ": a bad shape");
  if (static_cast<int>(shared) > kernel->dynamic_shared)
    return refused(CUDA_ERROR_INVALID_VALUE, kernel->name + ": more shared memory than was asked for");
  soft::note(kernel->name.c_str());
  if (soft::idle()) return CUDA_SUCCESS;
  auto given = std::make_shared<std::vector<std::vector<char>>>();
  for (size_t j = 0; kernel->sizes[j]; ++j)
    given->emplace_back(static_cast<char*>(arguments[j]), static_cast<char*>(arguments[j]) + kernel->sizes[j]);
  const int error = soft::enqueue(stream, [=]() -> const char* {
    static std::string text;
    std::vector<void*> places;
    for (auto& argument : *given) places.push_back(argument.data());
    const char* failure = kernel->launch(places.data(), gx, bx, 0, gx, reverse, shared);
    if (failure) text = kernel->name + ": " + failure;
    return failure ? text.c_str() : nullptr;
  });
  return error ? refused(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, kernel->name + ": a capture forbids this launch") : CUDA_SUCCESS;
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
