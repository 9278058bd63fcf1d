"""Minibatch gradient descent on sparse samples: a step touches the weights of its own features, and all for the
penalty."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.kernels.reference import penalty_rows
from gpureg.rows.samples import CsrSamples
from gpureg.types import Array, Floats, Ints, StepPlan


def steps(
    kernels: Kernels, samples: CsrSamples, y: Ints, table: Array | None, W: Array, plan: StepPlan
) -> tuple[Array, Array, list[Array]]:
    """See `Kernels.steps`; W is overwritten."""
    K, (count, B) = kernels.n_columns, plan.order.shape
    models, dtype = len(plan.lr), W.dtype
    rate = np.repeat(plan.lr, K).astype(dtype)
    decay = None
    if plan.l2.any():
        decay = (np.repeat(plan.lr, K) * penalty_rows(W.shape[0], plan, K)).astype(dtype)
    losses, copies, change = np.empty((count, models), dtype), [], np.empty_like(W)
    with kernels.steady(), np.errstate(all="ignore"):  # a diverging model overflows before it leaves
        for step, batch in enumerate(plan.order):
            s: Any = dtype.type(1.0 / B)
            if table is not None and plan.column is not None:
                s = table[batch][:, plan.column] * s
            used, part = _compressed(samples.X[batch])
            z = part @ W[used] + _bias(samples, W)
            loss, _, slope = kernels.loss.value(np, z.reshape(B, models, K), y[batch])
            loss, slope = np.where(s != 0, loss * s, 0), slope * (s[:, :, None] if np.ndim(s) else s)
            losses[step] = loss.sum(axis=0)
            R = slope.reshape(B, -1).astype(dtype, copy=False)
            gradient, total = part.T @ R, R.sum(axis=0)
            if decay is not None:  # of the weights before the step
                W -= np.multiply(decay, W, out=change)
            W[used] -= rate * gradient
            _shifted(samples, W, rate * total)
            if step in plan.snapshot_after:
                copies.append(W.copy())
    return W, losses, copies


def _compressed(part: Any) -> tuple[Ints, Any]:
    """The features that some rows have values of, and the rows with those alone."""
    from scipy import sparse

    used, place = np.unique(part.indices, return_inverse=True)
    arrays = (part.data, place.astype(part.indptr.dtype, copy=False), part.indptr)
    return used, sparse.csr_array(arrays, shape=(part.shape[0], len(used)), copy=False)


def _bias(samples: CsrSamples, W: Array) -> Floats | float:
    """What every row adds to the logits `(C,)`."""
    F = samples.X.shape[1]
    bias: Any = W[F] if samples.bias else W.dtype.type(0)
    return bias if samples.shift is None else bias - (samples.shift.astype(W.dtype) @ W[:F])


def _shifted(samples: CsrSamples, W: Array, total: Array) -> None:
    """The part of a step that the shift and the bias have, `total (C,)`: rate times the sums of the residuals."""
    F = samples.X.shape[1]
    if samples.shift is not None:
        W[:F] += samples.shift.astype(W.dtype)[:, None] * total
    if samples.bias:
        W[F] -= total
