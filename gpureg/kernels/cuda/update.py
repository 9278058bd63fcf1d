"""The penalised step: one elementwise launch after the gradient's product."""

from __future__ import annotations

import functools
from typing import Any

# 2 λ W is added to the gradient as such. Shrinking W by 1 - 2 lr λ is not the same: in float32 that factor is a
# multiple of 6e-8, so that λ = 1e-6 at lr = 0.01 would train as λ = 0.
OPERATION = "w -= lr * (i < penalized ? g + (l2 + l2) * w : g);"


@functools.cache
def update_kernel() -> Any:
    """The `cupy.ElementwiseKernel` of `W <- W - lr_l (G + 2 λ_l W)`, in place.

    Call it as `kernel(g, lr, l2, penalized, w)`. Shapes: g and w (D, L, K); lr and l2 broadcastable to it, as (L, 1);
    `penalized`: how many elements of w, from the first row on, carry the penalty: D*L*K, or (D-1)*L*K where the
    bias, the last row, goes free.
    """
    import cupy

    return cupy.ElementwiseKernel("T g, T lr, T l2, int64 penalized", "T w", OPERATION, "penalized_step")
