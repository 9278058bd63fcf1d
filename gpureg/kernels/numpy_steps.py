"""`BatchStep`: one minibatch update of A models in NumPy, with its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.kernels.reference import penalty_rows
from gpureg.types import Array, Ints, StepPlan

WIDE = 160  # columns from which class-major logits straight out of the product beat a copy


class BatchStep:
    """The step `W -= lr * (X' R + 2 λ W)` on `weights (D, A*K)`, in place. Built once per run of steps."""

    def __init__(self, task: str, K: int, rows: Any, plan: StepPlan, models: Ints, weights: Array) -> None:
        self.rows, self.W, self.K, self.logistic = rows, weights, K, task == "logistic"
        B, A, dtype = plan.order.shape[1], len(models), weights.dtype
        self.X = np.empty((B, weights.shape[0]), dtype)
        self.flat = np.empty((B, A * K), dtype)
        self.z = np.empty((A, K, B), dtype)
        self.gradient = np.empty_like(weights)
        self.rate = (plan.lr[models] / B).astype(dtype)[:, None]
        self.inverse_batch = 1.0 / B
        self.column = None if plan.column is None or rows.weights is None else plan.column[models]
        # Σ over the batch is divided by B in the end; the rate carries the learning rate over into the product
        self.own = np.arange(A)[:, None] * (K * B) + np.arange(B)[None, :]
        shrink = penalty_rows(weights.shape[0], plan, K)[:, np.repeat(models, K) * K + np.tile(np.arange(K), A)]
        self.decay = (np.repeat(plan.lr[models], K) * shrink).astype(dtype) if plan.l2[models].any() else None

    def run(self, batch: Ints, loss_out: Array) -> None:
        """One update with the samples `batch (B,)`; writes the batch's losses before it to `loss_out (A,)`."""
        X, flat, z = self.X, self.flat, self.z
        np.take(self.rows.X, batch, axis=0, out=X, mode="clip")
        y = self.rows.y[batch]
        major = z.reshape(-1, len(batch))
        wide = len(major) >= WIDE
        if wide:
            np.matmul(self.W.T, X.T, out=major)
        else:
            np.matmul(X, self.W, out=flat)
            major[...] = flat.T
        weight = None if self.column is None else self.rows.weights[batch][:, self.column].T
        scale = self.rate if weight is None else self.rate * weight
        loss = self._logistic(y, scale) if self.logistic else self._softmax(y, scale)
        if weight is not None:
            loss = np.where(weight != 0, loss * weight, 0)  # a masked row says nothing, not even infinity
        loss.sum(axis=1, out=loss_out)
        loss_out *= self.inverse_batch
        if wide:
            np.matmul(X.T, major.T, out=self.gradient)
        else:
            flat[...] = major.T
            np.matmul(X.T, flat, out=self.gradient)
        if self.decay is not None:
            # added as such: 1 - 2 lr λ is not representable in float32 where λ is small
            self.gradient += self.decay * self.W
        self.W -= self.gradient

    def _softmax(self, y: Ints, scale: Array) -> Array:
        """z `(A, K, B)` -> scale * (softmax - one-hot), in place; returns the losses `(A, B)`."""
        z = self.z
        own = self.own + y * len(y)
        z -= z.max(axis=1, keepdims=True)
        loss = z.reshape(-1)[own]
        np.exp(z, out=z)
        total = z.sum(axis=1)
        z *= (scale / total)[:, None]
        z.reshape(-1)[own] -= scale
        np.log(total, out=total)
        return np.subtract(total, loss, out=loss)

    def _logistic(self, y: Ints, scale: Array) -> Array:
        """z `(A, 1, B)` -> scale * (σ(z) - target), in place; returns the losses `(A, B)`."""
        z = self.z[:, 0]
        target = (y == 0).astype(z.dtype)
        small = np.exp(-np.abs(z))
        loss = np.maximum(z, 0) - z * target + np.log1p(small)
        np.subtract(np.where(z >= 0, 1, small) / (1 + small), target, out=z)
        z *= scale
        return loss
