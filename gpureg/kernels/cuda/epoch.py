"""A run of minibatch steps in one launch: a block trains a model, its weights in shared memory.

It gathers the batches itself and uses no cuBLAS, so an epoch costs one launch instead of three or four a step. Against
that, a model has one multiprocessor to itself, and each multiply-add reads shared memory. Whether it gains is for a
measurement on the card to say: nothing picks it by itself (`--kernels epoch` does).
"""

from __future__ import annotations

from gpureg.kernels.cuda.ops import DeviceOps

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
  T* w = shared; T* g = w + D * K; T* partial = g + B * K;
  const int t = threadIdx.x, lane = t & 31, warp = t >> 5, model = blockIdx.x, models = gridDim.x;
  const ptrdiff_t C = (ptrdiff_t)models * K;
  const T rate = lr[model], decay = l2[model] + l2[model];
  for (int j = t; j < D * K; j += THREADS) w[j] = W[(j / K) * C + model * K + j % K];
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int* index = order + (ptrdiff_t)step * B;
    T sum = 0;
    for (int r = warp; r < B; r += WARPS) {           // a warp per row; its lanes stride over the features
      const int n = index[r], c = y[n];
      const T* x = X + (ptrdiff_t)n * D;
      const T scale = (F ? weights[(ptrdiff_t)n * F + column[model]] : T(1)) / B;
      T z[K];
      #pragma unroll
      for (int k = 0; k < K; ++k) z[k] = 0;
      for (int d = lane; d < D; d += 32) {
        const T v = x[d];
        #pragma unroll
        for (int k = 0; k < K; ++k) z[k] += v * w[d * K + k];
      }
      #pragma unroll
      for (int k = 0; k < K; ++k)
        for (int o = 16; o > 0; o >>= 1) z[k] += __shfl_xor_sync(0xffffffffu, z[k], o);
      if (K == 1) {                                   // logistic: class 0 is positive; the mirrored logit
        const T u = c == 0 ? -z[0] : z[0], e = exp(u > 0 ? -u : u);
        sum += scale * ((u > 0 ? u : T(0)) + log1p(e));
        const T p = (u > 0 ? T(1) : e) / (1 + e);
        if (lane == 0) g[r] = c == 0 ? -scale * p : scale * p;
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
      for (int k = 0; k < K; ++k) if (lane == (k & 31)) g[r * K + k] = z[k] * (scale / s) - (k == c ? scale : T(0));
    }
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (t == 0) {                                     // always in the same order: the same bits on every run
      T total = 0;
      for (int j = 0; j < WARPS; ++j) total += partial[j];
      loss[(ptrdiff_t)step * models + model] = total;
    }
    const int s = slot[step];
    for (int d = t; d < D; d += THREADS) {            // a thread per feature: gradient, penalty, step
      T a[K];
      #pragma unroll
      for (int k = 0; k < K; ++k) a[k] = 0;
      for (int r = 0; r < B; ++r) {
        const T v = X[(ptrdiff_t)index[r] * D + d];
        #pragma unroll
        for (int k = 0; k < K; ++k) a[k] += v * g[r * K + k];
      }
      #pragma unroll
      for (int k = 0; k < K; ++k) {
        T& own = w[d * K + k];
        own -= rate * (d < penalized_rows ? a[k] + decay * own : a[k]);
        if (s >= 0) snapshots[((ptrdiff_t)s * D + d) * C + model * K + k] = own;
      }
    }
    __syncthreads();
  }
  for (int j = t; j < D * K; j += THREADS) W[(j / K) * C + model * K + j % K] = w[j];
}
"""


def source(features: int, columns: int, batch: int, dtype: str) -> str:
    """The kernel for D features (bias last), K columns a model (1: logistic), batches of B, and a float type's name."""
    real = {"float32": "float", "float64": "double"}[dtype]
    return (
        f"typedef {real} T;\n"
        f"constexpr int D = {features}, K = {columns}, B = {batch}, THREADS = {THREADS}, WARPS = {THREADS // 32};\n"
        f"{_SOURCE}"
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
