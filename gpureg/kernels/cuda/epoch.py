"""A run of minibatch steps in one launch: a block trains a model, its weights in shared memory.

It gathers the batches itself and uses no cuBLAS, so an epoch costs one launch instead of three or four a step. Against
that, a model has one multiprocessor to itself. Shared memory gives a value to one warp at a time where four warps can
multiply: each value read is used for several rows or features (with 10 classes 0.35 reads of shared or global memory
per multiply-add, where one row at a time needs 1.1). Whether it gains is for a measurement on the card to say: nothing
picks it by itself (`--kernels epoch` does).
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.kernels.cuda.reduce import ADD_LANES, tile

THREADS = 256
_ACCUMULATOR_BYTES = 128  # one per column in the registers of a thread; twice as many spill
NAME = "sgd_epoch"

# X (N, D), y (N), order (steps, B), weights (N, F) with F = 0 for none, column, lr, l2 (L), W (D, L*K), loss (steps,
# L), slot (steps) the snapshot to fill after a step or -1, snapshots (slots, D, L*K). One block per model.
_SOURCE = r"""
extern "C" __global__ void __launch_bounds__(THREADS, 1) sgd_epoch(
    const T* X, const int* y, const int* order, const T* weights, int F, const int* column, const T* lr, const T* l2,
    T* W, T* loss, const int* slot, T* snapshots, int steps, int penalized_rows) {
  extern __shared__ T shared[];
  T* w = shared; T* g = w + K * D; T* partial = g + B * K;  // w (K, D): lanes read neighbours; g (B, K)
  const int t = threadIdx.x, lane = t & 31, warp = t >> 5, model = blockIdx.x, models = gridDim.x;
  const ptrdiff_t C = (ptrdiff_t)models * K;
  const T rate = lr[model], decay = l2[model] + l2[model];
  for (int j = t; j < D * K; j += THREADS) w[j % K * D + j / K] = W[(j / K) * C + model * K + j % K];
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int* index = order + (ptrdiff_t)step * B;
    for (int first = warp * TILE; first < B; first += WARPS * TILE) {  // logits: a warp per TILE rows
      T z[TILE * K];
      #pragma unroll
      for (int j = 0; j < TILE * K; ++j) z[j] = 0;
      const T* x[TILE];
      #pragma unroll
      for (int q = 0; q < TILE; ++q) x[q] = X + (ptrdiff_t)index[first + q < B ? first + q : first] * D;
      for (int d = lane; d < D; d += 32) {
        T v[TILE];
        #pragma unroll
        for (int q = 0; q < TILE; ++q) v[q] = x[q][d];
        #pragma unroll
        for (int k = 0; k < K; ++k) {
          const T u = w[k * D + d];                   // read once for TILE rows
          #pragma unroll
          for (int q = 0; q < TILE; ++q) z[q * K + k] += v[q] * u;
        }
      }
      add_lanes<TILE * K>(z, lane, 1);
      #pragma unroll
      for (int j = 0; j < (TILE * K + 31) / 32; ++j) {
        const int place = place_of<TILE * K>(j, lane, 1);
        if (first + place / K < B) g[first * K + place] = z[j];
      }
    }
    __syncthreads();
    T sum = 0;
    for (int r = t; r < B; r += THREADS) {            // residuals and losses: a thread per row
      const ptrdiff_t n = index[r];
      const int c = y[n];
      const T scale = (F ? weights[n * F + column[model]] : T(1)) / B;
      T z[K];
      #pragma unroll
      for (int k = 0; k < K; ++k) z[k] = g[r * K + k];
      if (K == 1) {                                   // logistic: class 0 is positive; the mirrored logit
        const T u = c == 0 ? -z[0] : z[0], e = exp(u > 0 ? -u : u);
        sum += scale * ((u > 0 ? u : T(0)) + log1p(e));
        const T p = (u > 0 ? T(1) : e) / (1 + e);
        g[r] = c == 0 ? -scale * p : scale * p;
        continue;
      }
      T m = z[0];
      #pragma unroll
      for (int k = 1; k < K; ++k) if (z[k] > m) m = z[k];
      T s = 0, own = 0;
      #pragma unroll
      for (int k = 0; k < K; ++k) { if (k == c) own = z[k] - m; z[k] = exp(z[k] - m); s += z[k]; }
      sum += scale * (log(s) - own);
      #pragma unroll
      for (int k = 0; k < K; ++k) g[r * K + k] = z[k] * (scale / s) - (k == c ? scale : T(0));
    }
    #pragma unroll
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (t == 0) {                                     // always in the same order: the same bits on every run
      T total = 0;
      for (int j = 0; j < WARPS; ++j) total += partial[j];
      loss[(ptrdiff_t)step * models + model] = total;
    }
    const int s = slot[step];
    for (int first = t; first < D; first += THREADS * SPAN) {  // a thread per SPAN features: gradient, penalty, step
      T a[SPAN * K];
      #pragma unroll
      for (int j = 0; j < SPAN * K; ++j) a[j] = 0;
      for (int r = 0; r < B; ++r) {
        const T* x = X + (ptrdiff_t)index[r] * D + first;
        T v[SPAN];
        #pragma unroll
        for (int q = 0; q < SPAN; ++q) v[q] = first + q * THREADS < D ? x[q * THREADS] : T(0);
        #pragma unroll
        for (int k = 0; k < K; ++k) {
          const T u = g[r * K + k];                   // read once for SPAN features
          #pragma unroll
          for (int q = 0; q < SPAN; ++q) a[q * K + k] += v[q] * u;
        }
      }
      #pragma unroll
      for (int q = 0; q < SPAN; ++q) {
        const int d = first + q * THREADS;
        if (d >= D) continue;
        #pragma unroll
        for (int k = 0; k < K; ++k) {
          T& own = w[k * D + d];
          own -= rate * (d < penalized_rows ? a[q * K + k] + decay * own : a[q * K + k]);
          if (s >= 0) snapshots[((ptrdiff_t)s * D + d) * C + model * K + k] = own;
        }
      }
    }
    __syncthreads();
  }
  for (int j = t; j < D * K; j += THREADS) W[(j / K) * C + model * K + j % K] = w[j % K * D + j / K];
}
"""


def source(features: int, columns: int, batch: int, dtype: str) -> str:
    """The kernel for D features (bias last), K columns a model (1: logistic), batches of B, and a float type's name."""
    real = {"float32": "float", "float64": "double"}[dtype]
    rows = tile(columns, np.dtype(dtype).itemsize)
    span = min(rows, -(-features // THREADS))  # more features than there are would be multiplied by 0
    return (
        f"typedef {real} T;\n"
        f"constexpr int D = {features}, K = {columns}, B = {batch}, THREADS = {THREADS}, WARPS = {THREADS // 32}, "
        f"TILE = {rows}, SPAN = {span};\n{ADD_LANES}{_SOURCE}"
    )


def shared_bytes(features: int, columns: int, batch: int, itemsize: int) -> int:
    """Shared memory of a block: the weights, a batch's residuals, and a partial loss per warp."""
    return itemsize * (features * columns + batch * columns + THREADS // 32)


def max_columns(itemsize: int) -> int:
    """The most columns a model may have: 32 in float32, 16 in float64."""
    return _ACCUMULATOR_BYTES // itemsize


def fits(ops: DeviceOps, features: int, columns: int, batch: int, itemsize: int) -> bool:
    """Whether the shape can be trained this way on the device at hand."""
    return (
        columns <= max_columns(itemsize)
        and shared_bytes(features, columns, batch, itemsize) <= ops.shared_memory_limit()
    )
