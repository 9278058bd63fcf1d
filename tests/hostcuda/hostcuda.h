// CUDA on the CPU, for tests: enough for the source that CuPy generates for an ElementwiseKernel and for raw kernels with
// warp shuffles, barriers and shared memory, compiled by g++ -std=c++17.
//
// The threads of a block are fibers (ucontext), run one after another between the points where CUDA makes them wait. The
// order of blocks and lanes is an argument of the launch: a kernel without races gives the same bits in either order. A
// deadlock, a warp collective that names a lane which has left, and a failed device assert end the launch with a message.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static

struct dim3 { unsigned x, y, z; };
// CUDA's vectors, with the alignment that their loads need
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
static dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim{1, 1, 1}, gridDim{1, 1, 1};
static const int warpSize = 32;

// CUDA's overloads for float and double
using std::abs; using std::exp; using std::expm1; using std::fabs; using std::floor; using std::fmax; using std::fmin;
using std::isfinite; using std::isinf; using std::isnan; using std::log; using std::log1p; using std::max; using std::min;
using std::pow; using std::sqrt; using std::tanh;
inline float __int_as_float(int x) { float f; std::memcpy(&f, &x, 4); return f; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T> inline T __ldg(const T* p) { return *p; }

namespace hc {
enum Wait { RUNNING = 0, WARP = 1, BLOCK = 2 };
constexpr size_t STACK = 64 * 1024;
// A context is entered by ucontext the first time and by longjmp from then on: swapcontext asks the kernel to save the
// signal mask, which costs more than the kernels under test. AddressSanitizer wants to see swapcontext, and gets it.
struct Context { ucontext_t uc; jmp_buf jump; bool entered = false; };
struct Fiber {
  Context ctx; std::unique_ptr<char[]> stack; bool made = false, done = true; Wait wait = RUNNING; unsigned mask = 0;
  char slot[16], shown[16];                           // what it gives; what the others see from the release on
};
static std::vector<Fiber> fibers;
static Context scheduler;
inline void change(Context& from, Context& to) {
#ifdef __SANITIZE_ADDRESS__
  swapcontext(&from.uc, &to.uc);
#else
  if (_setjmp(from.jump)) return;
  if (to.entered) _longjmp(to.jump, 1);
  to.entered = true;
  setcontext(&to.uc);
#endif
}
static unsigned current = 0;
static bool fibers_on = false, reversed = false;
static char failure[200] = "";
static void* dynamic_shared = nullptr;

inline void suspend(Wait why, unsigned mask) {
  Fiber& f = fibers[current]; f.wait = why; f.mask = mask; change(f.ctx, scheduler);
}
inline void fail(const char* text) {                  // ends the launch: the fiber is left where it stands
  if (!failure[0]) std::snprintf(failure, sizeof failure, "%s", text);
  if (fibers_on) change(fibers[current].ctx, scheduler);
}
// A warp's lanes go on once every lane that the mask names is waiting with the same mask.
inline bool release_warp(unsigned warp, unsigned n) {
  const unsigned lo = warp * 32, hi = std::min(lo + 32, n);
  for (unsigned t = lo; t < hi; ++t) {
    if (fibers[t].done || fibers[t].wait != WARP) continue;
    const unsigned m = fibers[t].mask; bool ready = true;
    if (!(m >> (t - lo) & 1)) { std::snprintf(failure, sizeof failure, "warp collective: mask leaves out its caller"); return false; }
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) continue;
      const unsigned u = lo + l;
      if (u >= hi || fibers[u].done) {
        std::snprintf(failure, sizeof failure, "warp collective: mask names lane %u, which has left", l); return false;
      }
      ready &= fibers[u].wait == WARP && fibers[u].mask == m;
    }
    if (!ready) continue;
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) continue;
      Fiber& released = fibers[lo + l];
      released.wait = RUNNING; std::memcpy(released.shown, released.slot, sizeof released.slot);
    }
  }
  return true;
}
inline bool release(unsigned n) {                     // false on a deadlock or a bad collective
  for (unsigned w = 0; w * 32 < n; ++w) if (!release_warp(w, n)) return false;
  bool left = false, barrier = true, runnable = false;
  for (unsigned t = 0; t < n; ++t) if (!fibers[t].done) { left = true; barrier &= fibers[t].wait == BLOCK; }
  for (unsigned t = 0; t < n; ++t) {
    if (fibers[t].done) continue;
    if (barrier) fibers[t].wait = RUNNING;
    runnable |= fibers[t].wait == RUNNING;
  }
  if (left && !runnable) std::snprintf(failure, sizeof failure, "deadlock: threads of a block wait for one another");
  return !left || runnable;
}
template <class F> struct Body {
  static F* f;
  // A fiber is made once and runs one thread after another: making one asks the kernel for its signal mask.
  static void run() { for (;;) { (*f)(); fibers[current].done = true; change(fibers[current].ctx, scheduler); } }
};
template <class F> F* Body<F>::f = nullptr;

template <class F> void run_block(unsigned n, F& f) {
  if (fibers.size() < n) {
    fibers.resize(n);
    for (Fiber& b : fibers) b.made = false;           // a context must not be moved
  }
  Body<F>::f = &f; fibers_on = true; scheduler.entered = true;
  for (unsigned t = 0; t < n; ++t) {
    Fiber& b = fibers[t];
    b.done = false; b.wait = RUNNING;
    if (b.made) continue;
    if (!b.stack) b.stack.reset(new char[STACK]);      // not zeroed: a page that no thread touches takes no memory
    ucontext_t& uc = b.ctx.uc;
    getcontext(&uc); uc.uc_stack.ss_sp = b.stack.get(); uc.uc_stack.ss_size = STACK; uc.uc_link = nullptr;
    b.made = true; b.ctx.entered = false; makecontext(&uc, (void (*)()) & Body<F>::run, 0);
  }
  unsigned left = n;
  while (left && !failure[0]) {
    for (unsigned q = 0; q < n && !failure[0]; ++q) {
      const unsigned t = reversed ? n - 1 - q : q;
      if (fibers[t].done || fibers[t].wait) continue;
      current = t; threadIdx.x = t; change(scheduler, fibers[t].ctx); left -= fibers[t].done;
    }
    if (!failure[0] && !release(n)) break;
  }
  for (unsigned t = 0; t < n; ++t) fibers[t].made &= fibers[t].done;  // left where it stood by a failure
  fibers_on = false;
}
// The blocks `first` to `last` - 1 of a grid.
template <class F> void run_grid(unsigned grid, unsigned block, unsigned first, unsigned last, bool as_fibers, F& f) {
  gridDim.x = grid; blockDim.x = block; failure[0] = 0;
  for (unsigned b = first; b < last && !failure[0]; ++b) {
    blockIdx.x = reversed ? last - 1 - (b - first) : b;
    if (as_fibers) { run_block(block, f); continue; }
    for (unsigned q = 0; q < block; ++q) { threadIdx.x = reversed ? block - 1 - q : q; f(); }
  }
}
template <class T> T exchange(unsigned mask, T v, unsigned source) {
  static_assert(sizeof(T) <= sizeof(Fiber::slot), "shuffled value too large");
  std::memcpy(fibers[current].slot, &v, sizeof v);
  suspend(WARP, mask);                                // all that are released run before anybody is released again
  T r; std::memcpy(&r, fibers[(current & ~31u) + source].shown, sizeof r);
  return r;
}
}  // namespace hc

#undef assert
#define assert(x) do { if (!(x)) hc::fail("device assert: " #x); } while (0)
inline void __syncthreads() { hc::suspend(hc::BLOCK, 0); }
inline void __syncwarp(unsigned m = 0xffffffffu) { hc::suspend(hc::WARP, m); }
template <class T> T __shfl_xor_sync(unsigned m, T v, int x, int width = 32) {
  const unsigned l = hc::current & 31; unsigned s = l ^ x;
  if (s / width > l / width) s = l;
  return hc::exchange(m, v, s);
}
template <class T> T __shfl_sync(unsigned m, T v, int source, int width = 32) {
  const unsigned l = hc::current & 31;
  return hc::exchange(m, v, (l / width) * width + (source & (width - 1)));
}
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int width = 32) {
  const unsigned l = hc::current & 31; unsigned s = l + d;
  if (s / width != l / width) s = l;
  return hc::exchange(m, v, s);
}
