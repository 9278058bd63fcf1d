"""`BatchStep`: one minibatch update of A models in NumPy, with its buffers.

At the report's size a step is 150 µs, and every call of NumPy in it about 1: what can be done for a whole run of steps
(labels, the losses' logarithms and sums) is done outside of the loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from gpureg.kernels.cpu.rows import NumpyRows
from gpureg.kernels.reference import penalty_rows
from gpureg.types import Array, Ints, StepPlan

WIDE = 160  # columns from which class-major logits straight out of the product beat a copy


class BatchStep(ABC):
    """The steps `W -= lr * (X' R + 2 λ W)` on `weights (D, A*K)`, in place, of one run `order (steps, B)` (in storage
    order).

    `models` are the A of the plan's models that `weights` has. After the last step `losses` gives `(steps, A)`.
    """

    def __init__(self, K: int, rows: NumpyRows, plan: StepPlan, order: Ints, models: Ints, weights: Array) -> None:
        self.rows, self.W, self.K, self.order = rows, weights, K, order
        (steps, B), A, dtype = order.shape, len(models), weights.dtype
        self.X = np.empty((B, weights.shape[0]), dtype)
        self.flat = np.empty((B, A * K), dtype)
        self.z = np.empty((A, K, B), dtype)
        self.row = np.empty((A, B), dtype)
        self.gradient = np.empty_like(weights)
        self.rate = (plan.lr[models] / B).astype(dtype)[:, None]
        self.column = None if plan.column is None or rows.weights is None else plan.column[models]
        self.y = rows.y[order]
        # where a sample's own logit lies in z (A, K, B)
        self.own = np.arange(A)[:, None] * (K * B) + np.arange(B)[None, :]
        shrink = penalty_rows(weights.shape[0], plan, K)[:, np.repeat(models, K) * K + np.tile(np.arange(K), A)]
        self.decay = (np.repeat(plan.lr[models], K) * shrink).astype(dtype) if plan.l2[models].any() else None
        # the parts of each step's and sample's loss, from which `row_losses` makes it after the last step
        self.total, self.own_logit = np.ones((2, steps, A, B), dtype)

    def run(self, step: int) -> None:
        """One update."""
        X, flat, z, batch = self.X, self.flat, self.z, self.order[step]
        np.take(self.rows.X, batch, axis=0, out=X, mode="clip")
        major = z.reshape(-1, len(batch))
        wide = len(major) >= WIDE
        if wide:
            np.matmul(self.W.T, X.T, out=major)
        else:
            np.matmul(X, self.W, out=flat)
            major[...] = flat.T
        scale = self.rate if self.column is None else self.rate * self._weight(batch)
        self.residual(step, scale)
        if wide:
            np.matmul(X.T, major.T, out=self.gradient)
        else:
            flat[...] = major.T
            np.matmul(X.T, flat, out=self.gradient)
        if self.decay is not None:
            # added as such: 1 - 2 lr λ is not representable in float32 where λ is small
            self.gradient += self.decay * self.W
        self.W -= self.gradient

    def losses(self) -> Array:
        """`Σ_i s_i loss_i / B` of every step, `(steps, A)`, in nats."""
        loss = self.row_losses()
        if self.column is not None:
            for step, batch in enumerate(self.order):
                weight = self._weight(batch)  # 0 * inf is NaN: masked rows must not contribute
                loss[step] = np.where(weight != 0, loss[step] * weight, 0)
        result: Array = loss.sum(axis=2)
        result /= self.order.shape[1]
        return result

    def _weight(self, batch: Ints) -> Array:
        return self.rows.weights[batch][:, self.column].T  # type: ignore[index]

    @abstractmethod
    def residual(self, step: int, scale: Array) -> None:
        """z `(A, K, B)` -> scale * residual, in place; notes the parts of the loss."""
        ...

    @abstractmethod
    def row_losses(self) -> Array:
        """The losses `(steps, A, B)` of all steps."""
        ...


class SoftmaxStep(BatchStep):
    """The steps of `losses.Softmax`."""

    def residual(self, step: int, scale: Array) -> None:
        """z `(A, K, B)` -> scale * (softmax - one-hot), in place."""
        z, row, total = self.z, self.row, self.total[step]
        own = self.own + self.y[step] * z.shape[2]
        np.max(z, axis=1, out=row)
        z -= row[:, None]
        values = z.reshape(-1)
        values.take(own, out=self.own_logit[step], mode="clip")
        np.exp(z, out=z)
        np.sum(z, axis=1, out=total)
        np.divide(scale, total, out=row)
        z *= row[:, None]
        values[own] -= scale

    def row_losses(self) -> Array:
        """`log(total) - own logit`."""
        np.log(self.total, out=self.total)
        self.total -= self.own_logit
        return self.total


class LogisticStep(BatchStep):
    """The steps of `losses.Logistic`."""

    def residual(self, step: int, scale: Array) -> None:
        """z `(A, 1, B)` -> scale * (σ(z) - target), in place."""
        z = self.z[:, 0]
        target = (self.y[step] == 0).astype(z.dtype)
        small = np.exp(-np.abs(z))
        np.add(np.maximum(z, 0) - z * target, np.log1p(small), out=self.total[step])
        np.subtract(np.where(z >= 0, 1, small) / (1 + small), target, out=z)
        z *= scale

    def row_losses(self) -> Array:
        """They are noted as such."""
        return self.total
