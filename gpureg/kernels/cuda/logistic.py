"""Fused logistic kernels: from the logit to residual, loss and hit in one launch.

For a logit z with target t (1 for the positive class, which is class index 0) and scale s:

    residual = s (sigmoid(z) - t)      loss = log(1 + exp(z)) - z t      hit = [z > 0] = t

Both are taken in the mirrored logit u = -z if t = 1 else z, where loss = max(u, 0) + log1p(exp(-|u|)) and the
residual is -+ sigmoid(u): exp never overflows, and a confident correct prediction keeps its small residual to full
relative precision, which sigmoid(z) - 1 would cancel.
"""

from __future__ import annotations

import functools
from typing import Any

_MIRROR = r"""
  const bool positive = y == 0;
  const T u = positive ? -z : z;
"""
_SCALE = "  const T f = scale;                                // read before anything is stored\n"
_EXP = "  const T e = exp(u > 0 ? -u : u);                  // never exponentiate a positive number\n"
_LOSS = "  loss = (u > 0 ? u : T(0)) + log1p(e);             // NaN passes through e\n"
_HIT = "  hit = positive ? z > 0 : z <= 0;                  // both false for NaN\n"
_RESIDUAL = r"""
  const T p = (u > 0 ? T(1) : e) / (1 + e);         // sigmoid(u)
  z = positive ? -f * p : f * p;
"""


def operation(*, gradient: bool, loss: bool, hit: bool) -> str:
    """The body of the loop in CUDA C++; the residual comes last because it overwrites the logit."""
    body = _SCALE if gradient else ""
    body += _MIRROR if gradient or loss else "  const bool positive = y == 0;\n"
    body += _EXP if gradient or loss else ""
    return body + (_LOSS if loss else "") + (_HIT if hit else "") + (_RESIDUAL if gradient else "")


@functools.cache
def logistic_kernel(*, gradient: bool, loss: bool, hit: bool) -> Any:
    """The `cupy.ElementwiseKernel` that computes the requested outputs, at least one of them.

    Call it as `kernel(y, scale, z, loss, hit)` for a gradient, else as `kernel(y, z, loss, hit)`, without the outputs
    that are not requested. Shapes: y int32 (B, 1), 0 for the positive class; scale broadcastable to (B, L), in the
    logits' dtype; z (B, L) float32 or float64, overwritten by the residual in place; loss (B, L) in nats, same dtype;
    hit (B, L) bool. A NaN logit gives a NaN loss and no hit. Raises ValueError if no output is requested.
    """
    if not (gradient or loss or hit):
        raise ValueError("logistic_kernel needs an output; got none of three.")
    import cupy

    outputs = [("T z", gradient), ("T loss", loss), ("bool hit", hit)]
    name = "logistic_" + "_".join(n for n, wanted in (("grad", gradient), ("loss", loss), ("hit", hit)) if wanted)
    return cupy.ElementwiseKernel(
        "int32 y, T scale" if gradient else "int32 y, T z",
        ", ".join(text for text, wanted in outputs if wanted),
        operation(gradient=gradient, loss=loss, hit=hit),
        name,
    )
