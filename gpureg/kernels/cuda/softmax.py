"""Fused softmax kernels: from the logits to residual, loss and hit in one launch.

For a row of K logits z with class y and scale s:

    residual_k = s (exp(z_k - lse z) - [k = y])       loss = lse z - z_y       hit = [y = first argmax z]

Two families of `cupy.ElementwiseKernel`, chosen by K alone:

* tile (K <= 256): G lanes of a warp share a row and hold ceil(K/G) <= 8 logits each in registers, so the logits are
  read once and written once: 2 E bytes for E bytes of logits, the least a kernel in place can do. A thread per row
  moves as few bytes in theory but reads uncoalesced, a log-sum-exp reduction with an elementwise pass behind it moves
  3 E in two launches, and array expressions move about 13 E in nine or more.
* warp (K > 256): a warp strides over the row, whose K logits no longer fit registers; the second and third pass come
  from the cache.

The loop has the shape (B, L, G): it is set by the labels broadcast to it, while logits, loss and hit are raw. A row's
lanes are neighbours in one warp because G divides 32 and CuPy's blocks are multiples of 32 threads.
"""

from __future__ import annotations

import functools
from typing import Any

TILE_MAX_CLASSES = 256
_REGISTERS_PER_LANE = 8  # logits a lane holds; more of them spill in float64
_WARP = 32

# The mask of a shuffle names the lanes of this row only: the last warp may be partial, and rows may diverge.
_TILE_HEAD = r"""
  const ptrdiff_t r = i / G;                        // row = sample * L + model
  const int lane = (int)(i % G);
  const unsigned mask = G == 32 ? 0xffffffffu
      : (((1u << (G & 31)) - 1u) << (threadIdx.x & 31u & ~(unsigned)(G - 1)));
  const T minus_inf = -(T)__int_as_float(0x7f800000);
  auto* row = &z[r * K];                            // const where the logits are only read
  T v[V]; T m = minus_inf; int am = 0;
  #pragma unroll
  for (int j = 0; j < V; ++j) {
    const int k = j * G + lane;
    v[j] = k < K ? row[k] : minus_inf;
    if (v[j] > m) { m = v[j]; am = k; }
  }
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
  const T inv = scale / s;
  #pragma unroll
  for (int j = 0; j < V; ++j) {
    const int k = j * G + lane;
    if (k < K) row[k] = v[j] * inv - (k == y ? scale : T(0));
  }
"""

_WARP_HEAD = r"""
  const ptrdiff_t r = i / G;
  const int lane = (int)(i % G);
  const unsigned mask = 0xffffffffu;
  const T minus_inf = -(T)__int_as_float(0x7f800000);
  auto* row = &z[r * K];                            // const where the logits are only read
  T m = minus_inf; int am = 0;
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
  const T inv = scale / s;
  for (int k = lane; k < K; k += G) row[k] = exp(row[k] - m) * inv - (k == y ? scale : T(0));
"""

# The first of equal logits wins, also across lanes.
_ARGMAX = r"""
  #pragma unroll
  for (int o = G / 2; o > 0; o >>= 1) {
    const T m2 = __shfl_xor_sync(mask, m, o, G); const int a2 = __shfl_xor_sync(mask, am, o, G);
    if (m2 > m || (m2 == m && a2 < am)) { m = m2; am = a2; }
  }
"""

# Read again, from the cache: picked out of the registers, v[y], the compiler would move v to memory.
_OWN = "  const T own = row[y];\n"
_LOSS = "  if (lane == 0) loss[r] = log(s) - (own - m);\n"
_SYNC = "  if (G > 1) __syncwarp(mask);                      // row[y] is read by all before its owner overwrites it\n"
_HIT_AFTER_SUM = "  if (lane == 0) hit[r] = am == y && s == s;\n"
_HIT_ALONE = "  if (lane == 0) hit[r] = am == y && !bad && m - m == 0;\n"  # as s == s: no NaN, and a finite maximum


def lanes(classes: int) -> int:
    """Lanes of a warp for a row of `classes` logits: the fewest (a power of 2) that hold 8 or fewer each, else 32."""
    group = 1
    while group < _WARP and -(-classes // group) > _REGISTERS_PER_LANE:
        group *= 2
    return group


def operation(classes: int, *, gradient: bool, loss: bool, hit: bool) -> str:
    """The body of the loop in CUDA C++, put together from the parts that the wanted outputs need."""
    tile = classes <= TILE_MAX_CLASSES
    parts = [(_TILE_HEAD if tile else _WARP_HEAD, True), (_OWN, loss), (_ARGMAX, True)]
    summed = gradient or loss
    parts += [(_TILE_SUM if tile else _WARP_SUM, summed), (_TILE_NAN if tile else _WARP_NAN, not summed)]
    parts += [(_LOSS, loss), (_HIT_AFTER_SUM, hit and summed), (_HIT_ALONE, hit and not summed)]
    parts += [(_SYNC, gradient and loss), (_TILE_RESIDUAL if tile else _WARP_RESIDUAL, gradient)]
    return "".join(text for text, wanted in parts if wanted)


@functools.cache
def softmax_kernel(classes: int, *, gradient: bool, loss: bool, hit: bool) -> Any:
    """The `cupy.ElementwiseKernel` for K = `classes` >= 2 that computes the wanted outputs, at least one of them.

    Call it as `kernel(y, scale, z, loss, hit)` for a gradient, else as `kernel(y, z, loss, hit)`, without the outputs
    that are not wanted. Shapes: y int32, broadcast to (B, L, G) with G = `lanes(K)`; scale broadcastable to it, in
    the logits' dtype; z (B, L*K), C-contiguous, float32 or float64, overwritten by the residual in place; loss (B, L)
    in nats, same dtype; hit (B, L) bool. A NaN among the logits gives a NaN loss and no hit. Raises ValueError where
    nothing is wanted.
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
        preamble=f"constexpr int K = {classes}, G = {group}, V = {-(-classes // group)};",
    )
