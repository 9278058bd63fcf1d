"""Fused softmax kernels: from the logits to residual, loss and hit in one launch.

For a row of K logits z with class y and scale s:

    residual_k = s (exp(z_k - lse z) - [k = y])       loss = lse z - z_y       hit = [y = first argmax z]

Two families of `cupy.ElementwiseKernel`, chosen by K alone:

* tile (K <= 1024): G lanes of a warp share a row and hold its logits in registers, 8 or fewer each as long as a row
  can have more lanes, up to 32 in a whole warp. The logits are read once and written once: 2 E bytes for E bytes of
  logits, the least a kernel in place can do. A log-sum-exp reduction with an elementwise pass behind it moves 3 E in
  two launches, and array expressions move about 13 E in nine or more.
* warp (K > 1024): a warp strides over the row, whose K logits no longer fit registers; the second and third pass come
  from the cache.

Where a row has few lanes, a warp's store would touch as many pieces of lines as it has rows: with 10 classes 80 pieces
of 8 bytes for 640 bytes, four times the 20 sectors that these are. The residuals of up to 8 lanes a row therefore go
through shared memory and leave in whole lines. Loads need no such care, since the first one brings the line into L1.

The loop has the shape (B, L, G): it is set by the labels broadcast to it, while logits, loss and hit are raw. A row's
lanes are neighbours in one warp because G divides 32 and CuPy's blocks are multiples of 32 threads.
"""

from __future__ import annotations

import functools
from typing import Any

TILE_MAX_CLASSES = 1024
_REGISTERS_PER_LANE = 8  # logits a lane holds while a row can have more lanes
_WARP = 32
_WARPS = 4  # of a block: CuPy launches an ElementwiseKernel with 128 threads
_STAGED_LANES = 8  # rows of more lanes are written in pieces of 64 bytes and more as it is

# CuPy hands `y` and `scale` over as references: copied here, they are not read again after each store.
_COPIES = "  const int c = y;\n"
_SCALE = "  const T f = scale;\n"

# The mask of a shuffle names the lanes of this row only: the last warp may be partial, and rows may diverge.
_TILE_HEAD = r"""
  const ptrdiff_t r = (ptrdiff_t)((size_t)i / G);   // row = sample * L + model
  const int lane = (int)(threadIdx.x & (G - 1));    // i % G: blocks are multiples of G threads
  const unsigned mask = G == 32 ? 0xffffffffu
      : (((1u << (G & 31)) - 1u) << (threadIdx.x & 31u & ~(unsigned)(G - 1)));
  const T minus_inf = -(T)__int_as_float(0x7f800000);
  auto* row = &z[r * K];                            // const where the logits are only read
  auto* mine = row + lane;
  T v[V]; T m = minus_inf;
  #pragma unroll
  for (int j = 0; j < V; ++j) v[j] = j * G + lane < K ? mine[j * G] : minus_inf;
"""

_TILE_MAX = r"""
  #pragma unroll
  for (int j = 0; j < V; ++j) if (v[j] > m) m = v[j];
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) { const T m2 = __shfl_xor_sync(mask, m, o, G); if (m2 > m) m = m2; }
"""

# The first of equal logits wins, in a lane and across lanes.
_TILE_ARGMAX = r"""
  int am = 0;
  #pragma unroll
  for (int j = 0; j < V; ++j) if (v[j] > m) { m = v[j]; am = j * G + lane; }
"""

_TILE_SUM = r"""
  T s = 0;                                          // never exponentiate a positive number
  #pragma unroll
  for (int j = 0; j < V; ++j) { v[j] = exp(v[j] - m); s += v[j]; }
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) s += __shfl_xor_sync(mask, s, o, G);
"""

_TILE_NAN = r"""
  int bad = 0;                                      // without the sum, look for NaN by itself
  #pragma unroll
  for (int j = 0; j < V; ++j) bad |= v[j] != v[j];
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) bad |= __shfl_xor_sync(mask, bad, o, G);
"""

_TILE_RESIDUAL = r"""
  const T inv = f / s;
  #pragma unroll
  for (int j = 0; j < V; ++j) v[j] = v[j] * inv - (j * G + lane == c ? f : T(0));
"""

_TILE_STORE = r"""
  #pragma unroll
  for (int j = 0; j < V; ++j) if (j * G + lane < K) mine[j * G] = v[j];
"""

# A warp's rows lie behind one another: through shared memory they are written in whole lines, not in pieces of G.
_TILE_STAGED = r"""
  __shared__ T stage[WARPS][32 / G * K];
  const int t = (int)(threadIdx.x & 31u);
  T* shelf = stage[threadIdx.x / 32u];
  if (i - t + 32 <= _ind.size()) {                  // a whole warp
    #pragma unroll
    for (int j = 0; j < V; ++j) if (j * G + lane < K) shelf[t / G * K + j * G + lane] = v[j];
    __syncwarp();
    auto* tile = row - t / G * K + t;
    #pragma unroll
    for (int e = 0; e < 32 / G * K; e += 32) if (e + t < 32 / G * K) tile[e] = shelf[e + t];
    __syncwarp();                                   // the shelf is free again
  } else {
    __syncwarp(mask);
    STORE
  }
""".replace("STORE", _TILE_STORE)

_WARP_HEAD = r"""
  const ptrdiff_t r = i / G;
  const int lane = (int)(i % G);
  const unsigned mask = 0xffffffffu;
  const T minus_inf = -(T)__int_as_float(0x7f800000);
  auto* row = &z[r * K];                            // const where the logits are only read
  T m = minus_inf;
"""

_WARP_MAX = r"""
  for (int k = lane; k < K; k += G) { const T v = row[k]; if (v > m) m = v; }
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) { const T m2 = __shfl_xor_sync(mask, m, o); if (m2 > m) m = m2; }
"""

_WARP_ARGMAX = r"""
  int am = 0;
  for (int k = lane; k < K; k += G) { const T v = row[k]; if (v > m) { m = v; am = k; } }
"""

_WARP_SUM = r"""
  T s = 0;                                          // never exponentiate a positive number
  for (int k = lane; k < K; k += G) s += exp(row[k] - m);
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) s += __shfl_xor_sync(mask, s, o);
"""

_WARP_NAN = r"""
  int bad = 0;                                      // without the sum, look for NaN by itself
  for (int k = lane; k < K; k += G) { const T v = row[k]; bad |= v != v; }
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) bad |= __shfl_xor_sync(mask, bad, o);
"""

_WARP_RESIDUAL = r"""
  const T inv = f / s;
  for (int k = lane; k < K; k += G) row[k] = exp(row[k] - m) * inv - (k == c ? f : T(0));
"""

_ARGMAX = r"""
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) {
    const T m2 = __shfl_xor_sync(mask, m, o, G); const int a2 = __shfl_xor_sync(mask, am, o, G);
    if (m2 > m || (m2 == m && a2 < am)) { m = m2; am = a2; }
  }
"""

# Read again, from the cache: picked out of the registers, v[y], the compiler would move v to memory.
_OWN = "  const T own = row[c];\n"
_LOSS = "  if (lane == 0) loss[r] = log(s) - (own - m);\n"
_SYNC = "  if (G > 1) __syncwarp(mask);                      // row[y] is read by all before its owner overwrites it\n"
_HIT_AFTER_SUM = "  if (lane == 0) hit[r] = am == c && s == s;\n"
_HIT_ALONE = "  if (lane == 0) hit[r] = am == c && !bad && m - m == 0;\n"  # as s == s: no NaN, and a finite maximum


def lanes(classes: int) -> int:
    """Lanes of a warp for a row of `classes` logits: the fewest (a power of 2) that hold 8 or fewer each, else 32."""
    group = 1
    while group < _WARP and -(-classes // group) > _REGISTERS_PER_LANE:
        group *= 2
    return group


def operation(classes: int, *, gradient: bool, loss: bool, hit: bool) -> str:
    """The body of the loop in CUDA C++, put together from the parts that the requested outputs need."""
    tile = classes <= TILE_MAX_CLASSES
    staged = tile and lanes(classes) <= _STAGED_LANES
    summed = gradient or loss
    parts = [(_COPIES, True), (_SCALE, gradient), (_TILE_HEAD if tile else _WARP_HEAD, True), (_OWN, loss)]
    if hit:
        parts += [(_TILE_ARGMAX if tile else _WARP_ARGMAX, True), (_ARGMAX, True)]
    else:
        parts += [(_TILE_MAX if tile else _WARP_MAX, True)]
    parts += [(_TILE_SUM if tile else _WARP_SUM, summed), (_TILE_NAN if tile else _WARP_NAN, not summed)]
    parts += [(_LOSS, loss), (_HIT_AFTER_SUM, hit and summed), (_HIT_ALONE, hit and not summed)]
    parts += [(_SYNC, gradient and loss and not staged), (_TILE_RESIDUAL if tile else _WARP_RESIDUAL, gradient)]
    parts += [(_TILE_STAGED, gradient and staged), (_TILE_STORE, gradient and tile and not staged)]
    return "".join(text for text, wanted in parts if wanted)


@functools.cache
def softmax_kernel(classes: int, *, gradient: bool, loss: bool, hit: bool) -> Any:
    """The `cupy.ElementwiseKernel` for K = `classes` >= 2 that computes the requested outputs, at least one of them.

    Call it as `kernel(y, scale, z, loss, hit)` for a gradient, else as `kernel(y, z, loss, hit)`, without the outputs
    that are not requested. Shapes: y int32, broadcast to (B, L, G) with G = `lanes(K)`; scale broadcastable to it, in
    the logits' dtype; z (B, L*K), C-contiguous, float32 or float64, overwritten by the residual in place; loss (B, L)
    in nats, same dtype; hit (B, L) bool. A NaN among the logits gives a NaN loss and no hit. Raises ValueError if no
    output is requested.
    """
    if classes < 2 or not (gradient or loss or hit):
        raise ValueError(f"softmax_kernel needs 2 classes or more and an output; got {classes} and none of three.")
    import cupy

    group = lanes(classes)
    given = "int32 y, T scale" if gradient else "int32 y, raw T z"
    outputs = [("raw T z", gradient), ("raw T loss", loss), ("raw bool hit", hit)]
    name = "softmax_" + "_".join(n for n, wanted in (("grad", gradient), ("loss", loss), ("hit", hit)) if wanted)
    return cupy.ElementwiseKernel(
        given,
        ", ".join(text for text, wanted in outputs if wanted),
        operation(classes, gradient=gradient, loss=loss, hit=hit),
        f"{name}_k{classes}",
        preamble=f"constexpr int K = {classes}, G = {group}, V = {-(-classes // group)}, WARPS = {_WARPS};",
    )
