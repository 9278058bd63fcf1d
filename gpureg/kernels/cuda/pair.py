"""A minibatch step in two launches without cuBLAS: forward with the loss, and backward with the update.

The cost of a step of 128 x 785 x 10 is that of its launches, on the host and on the device. Here it has two instead of
three or four; nothing is gathered, since the kernels read their rows through the batch's indices. The number of the
step is on the device too, so that several steps are captured as one graph and repeated: the host's part is a launch in
eight steps. The weights are read once per row or four, the batch once per model, so it is for few models of few
classes. On an H100 with batches of 128 x 785 a step of 10 columns takes 11 µs in place of 40 (62 with a penalty), of
120 columns 19 in place of some 50, of 320 columns 70 in place of 45 (`python bench/gpu/run.py`).
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cuda.reduce import ADD_LANES, tile

THREADS = 128, 256  # forward: of a row; backward: of a group of features
MAX_COLUMNS = 32  # a lane per class
QUICK = 12_500_000  # multiplications of a product, B x D x L*K: up to here cuBLAS's part waits for the host
_FEW_MODELS = 4  # 512 blocks of one row for batches of 128; the weights are read from L2 once per block
_FEATURES = 8  # of a block of the backward kernel; a warp's lanes read 32 bytes of four rows
NAMES = "sgd_forward", "sgd_backward", "sgd_advance"

# All: the step is at[0] + step. Both: X (N, D), order (steps, B), W (D, L*K), residuals R (B, L, K). Forward, a block
# per TILE rows and model: y (N), row weights (N, F) with F = 0 for none, column (L), loss (steps, B, L).
_FORWARD = r"""
extern "C" __global__ void __launch_bounds__(THREADS) sgd_forward(
    const T* X, const int* y, const int* order, const T* weights, int F, const int* column, const T* W, T* R, T* loss,
    int models, const int* at, int step) {
  __shared__ T partial[WARPS][TILE * K];
  step += at[0];
  const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
  const int first = blockIdx.x / models * TILE, model = blockIdx.x % models;
  const ptrdiff_t C = (ptrdiff_t)models * K;
  const int* index = order + (ptrdiff_t)step * B;
  const T* w = W + model * K;
  const T* x[TILE]; T z[TILE * K];
  #pragma unroll
  for (int q = 0; q < TILE; ++q) x[q] = X + (ptrdiff_t)index[first + q < B ? first + q : first] * D;
  #pragma unroll
  for (int j = 0; j < TILE * K; ++j) z[j] = 0;
  for (int d = t; d < D; d += THREADS) {
    T v[TILE];
    #pragma unroll
    for (int q = 0; q < TILE; ++q) v[q] = x[q][d];
    #pragma unroll
    for (int k = 0; k < K; ++k) {
      const T u = w[d * C + k];                       // read once for TILE rows
      #pragma unroll
      for (int q = 0; q < TILE; ++q) z[q * K + k] += v[q] * u;
    }
  }
  add_lanes<TILE * K>(z, lane, 1);
  #pragma unroll
  for (int j = 0; j < (TILE * K + 31) / 32; ++j) partial[warp][place_of<TILE * K>(j, lane, 1)] = z[j];
  __syncthreads();
  const int r = first + warp;                         // a warp per row, a lane per class
  if (warp >= TILE || r >= B) return;
  const ptrdiff_t n = index[r];
  T u = 0;
  if (lane < K) for (int j = 0; j < WARPS; ++j) u += partial[j][warp * K + lane];
  const int c = y[n];
  const T scale = (F ? weights[n * F + column[model]] : T(1)) / B;
  T* residual = R + ((ptrdiff_t)r * models + model) * K;
  T* own_loss = loss + ((ptrdiff_t)step * B + r) * models + model;
  if (K == 1) {                                       // logistic: class 0 is positive; the mirrored logit
    if (lane > 0) return;
    const T q = c == 0 ? -u : u, e = exp(q > 0 ? -q : q), p = (q > 0 ? T(1) : e) / (1 + e);
    *own_loss = scale * ((q > 0 ? q : T(0)) + log1p(e));
    *residual = c == 0 ? -scale * p : scale * p;
    return;
  }
  const T minus_inf = -(T)__int_as_float(0x7f800000);
  T m = lane < K ? u : minus_inf;
  for (int o = 16; o > 0; o >>= 1) { const T m2 = __shfl_xor_sync(0xffffffffu, m, o); if (m2 > m) m = m2; }
  const T e = lane < K ? exp(u - m) : T(0), own = __shfl_sync(0xffffffffu, u, c);
  T s = e;
  for (int o = 16; o > 0; o >>= 1) s += __shfl_xor_sync(0xffffffffu, s, o);
  if (lane < K) residual[lane] = e * (scale / s) - (lane == c ? scale : T(0));
  if (lane == 0) *own_loss = scale * (log(s) - (own - m));
}
"""

# Backward, a block per eight features and model: lr, l2 (L), slot (steps) the snapshot to fill after a step or -1,
# snapshots (slots, D, L*K).
_BACKWARD = r"""
extern "C" __global__ void __launch_bounds__(THREADS) sgd_backward(
    const T* X, const int* order, const T* R, const T* lr, const T* l2, T* W, const int* slot, T* snapshots,
    int penalized_rows, int models, const int* at, int step) {
  __shared__ T partial[WARPS][FEATURES * K];
  step += at[0];
  const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
  const int first = blockIdx.x / models * FEATURES, model = blockIdx.x % models, d = first + t % FEATURES;
  const ptrdiff_t C = (ptrdiff_t)models * K;
  const int* index = order + (ptrdiff_t)step * B;
  T a[K];
  #pragma unroll
  for (int k = 0; k < K; ++k) a[k] = 0;
  for (int r = t / FEATURES; r < B; r += THREADS / FEATURES) {
    const T v = d < D ? X[(ptrdiff_t)index[r] * D + d] : T(0);
    const T* g = R + ((ptrdiff_t)r * models + model) * K;
    #pragma unroll
    for (int k = 0; k < K; ++k) a[k] += v * g[k];
  }
  add_lanes<K>(a, lane, FEATURES);                       // those of a feature
  #pragma unroll
  for (int j = 0; j < (K * FEATURES + 31) / 32; ++j)
    partial[warp][lane % FEATURES * K + place_of<K>(j, lane, FEATURES)] = a[j];
  __syncthreads();
  const T rate = lr[model], decay = l2[model] + l2[model];
  const int s = slot[step];
  for (int j = t; j < FEATURES * K; j += THREADS) {
    const int row = first + j / K;
    if (row >= D) break;
    T g = 0;                                          // always in the same order: the same bits on every run
    for (int q = 0; q < WARPS; ++q) g += partial[q][j];
    const ptrdiff_t place = row * C + model * K + j % K;
    const T w = W[place], moved = w - rate * (row < penalized_rows ? g + decay * w : g);
    W[place] = moved;
    if (s >= 0) snapshots[s * (D * C) + place] = moved;
  }
}
"""


_ADVANCE = r"""
extern "C" __global__ void sgd_advance(int* at, int steps) { at[0] += steps; }
"""


def _rows(columns: int, models: int, itemsize: int) -> int:
    """Rows of a forward block, a warp for each at its end: one while the blocks of single rows are few."""
    return 1 if models <= _FEW_MODELS else tile(columns, itemsize)


def sources(features: int, columns: int, batch: int, models: int, dtype: str) -> tuple[str, str, str]:
    """The two kernels, for D features (bias last), K columns a model (1: logistic), batches of B, how many models,
    which only the forward tile depends on, and a float type; and the one that counts steps."""
    real = {"float32": "float", "float64": "double"}[dtype]
    rows = _rows(columns, models, np.dtype(dtype).itemsize)
    forward, backward = (
        f"typedef {real} T;\n"
        f"constexpr int D = {features}, K = {columns}, B = {batch}, THREADS = {threads}, WARPS = {threads // 32}, "
        f"FEATURES = {_FEATURES}, TILE = {rows};\n{ADD_LANES}"
        for threads in THREADS
    )
    return forward + _FORWARD, backward + _BACKWARD, _ADVANCE


def blocks(features: int, columns: int, batch: int, models: int, itemsize: int) -> tuple[int, int]:
    """Blocks of the two launches."""
    return -(-batch // _rows(columns, models, itemsize)) * models, -(-features // _FEATURES) * models
