"""The specification: residuals, losses and the minibatch step in the plain array API.

Written for reading and for every namespace (NumPy, CuPy, PyTorch, array-api-strict): no `out=`, no integer-array
indexing, no in-place arithmetic. The fused twins must give what this gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.backend import Backend
from gpureg.kernels.protocol import OneLane, Ready
from gpureg.losses import Loss
from gpureg.types import Array, Floats, Ints, RunShape, StepPlan

ROWS_PER_BLOCK = 4096


@dataclass(frozen=True)
class ReferenceRows:
    """Samples on the device: `X (N, D)`, `y (N,)`, row weights `(N, F)` or None."""

    X: Array
    y: Array
    weights: Array | None
    sample_weight: Array | None = None

    @property
    def n(self) -> int:
        """The number of samples."""
        return int(self.X.shape[0])


class ReferenceKernels(OneLane):
    """The array-API twin of the kernels' protocol; see `gpureg.kernels.Kernels`."""

    name = "reference"
    stack_columns = 200

    def __init__(self, backend: Backend, loss: Loss, n_classes: int) -> None:
        self.backend, self.xp, self.loss, self.n_columns = backend, backend.xp, loss, loss.columns(n_classes)

    def storage_order(self, y: Ints, fold: Ints | None) -> Ints | None:
        """Samples stay as they are."""
        return None

    def place(
        self, X: Array, y: Ints, weights: Floats | None, order: Ints | None, sample_weight: Floats | None = None
    ) -> ReferenceRows:
        """See the protocol."""
        table = None if weights is None else self._floats(weights)
        mass = None if sample_weight is None else self.backend.from_host(np.asarray(sample_weight, np.float64))
        return ReferenceRows(self.backend.from_host(X), self.backend.from_host(np.asarray(y, np.int64)), table, mass)

    def subset(self, rows: ReferenceRows, index: Ints) -> ReferenceRows:
        """See the protocol."""
        picked = self.backend.from_host(np.asarray(index, np.int64))
        mass = None if rows.sample_weight is None else self.xp.take(rows.sample_weight, picked, axis=0)
        return ReferenceRows(self.xp.take(rows.X, picked, axis=0), self.xp.take(rows.y, picked, axis=0), None, mass)

    def with_samples(self, rows: ReferenceRows, X: Array) -> ReferenceRows:
        """See the protocol."""
        return replace(rows, X=X)

    def run_bytes(self, shape: RunShape) -> int | None:
        """See the protocol. Array expressions hold about ten arrays as large as a block's logits."""
        columns = shape.models * self.n_columns
        columns = max(columns, min(shape.queued * columns, self.stack_columns))
        logits = 10 * min(shape.evaluated, ROWS_PER_BLOCK) * columns
        return np.dtype(self.backend.dtype).itemsize * (logits + 6 * shape.features * columns)

    def weights(self, host: Floats) -> Array:
        """See the protocol."""
        return self._floats(host)

    def to_host(self, array: Array) -> Floats:
        """See the protocol."""
        return np.asarray(self.backend.to_host(array), np.float64)

    def read_later(self, array: Array) -> Callable[[], Floats]:
        """See the protocol: read at once."""
        return lambda: self.to_host(array)

    def select(self, W: Array, models: Ints) -> Array:
        """See the protocol."""
        K = self.n_columns
        columns = (np.asarray(models, np.int64)[:, None] * K + np.arange(K)).reshape(-1)
        return self.xp.take(W, self.backend.from_host(columns), axis=1)

    def concat(self, parts: list[Array]) -> Array:
        """See the protocol."""
        return self.xp.concat(parts, axis=1)

    def store(self, vectors: Array, slot: int, values: Array, models: npt.NDArray[np.bool_]) -> Array:
        """See the protocol; a copy, since arrays are never written to here."""
        here = (np.arange(vectors.shape[1]) == slot)[None, :, None] & models[:, None, None]
        return self.xp.where(self.backend.from_host(here), values[:, None, :], vectors)

    def steps(self, W: Array, rows: ReferenceRows, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        xp, B = self.xp, plan.order.shape[1]
        K = self.n_columns
        lr = self._floats(np.repeat(plan.lr, K)[None, :])
        decay = self._floats(penalty_rows(W.shape[0], plan, K))
        column = None if plan.column is None else self.backend.from_host(np.asarray(plan.column, np.int64))
        losses, snapshots = [], []
        for step, batch in enumerate(plan.order):
            index = self.backend.from_host(np.asarray(batch, np.int64))
            X, y = xp.take(rows.X, index, axis=0), xp.take(rows.y, index, axis=0)
            weight = self._batch_weights(rows, index, column, len(plan.lr))
            loss, gradient, _ = self._block(W, X, y, weight / float(B))
            W = W - lr * (gradient + decay * W)
            losses.append(loss)
            if step in plan.snapshot_after:
                snapshots.append(W)  # arrays are never written to here, so this is a copy
        return W, xp.stack(losses), snapshots

    def evaluate(self, W: Array, rows: ReferenceRows, *, with_loss: bool) -> tuple[Floats, Floats]:
        """See the protocol."""
        xp, models = self.xp, W.shape[1] // self.n_columns
        loss_sum, hits = np.zeros(models), np.zeros(models)
        for start in range(0, rows.n, ROWS_PER_BLOCK):
            stop = min(start + ROWS_PER_BLOCK, rows.n)
            X, y = rows.X[start:stop, :], rows.y[start:stop]
            logits = xp.reshape(xp.matmul(X, W), (X.shape[0], models, self.n_columns))
            loss, hit, _ = self.loss.value(xp, logits, y)
            mass = None if rows.sample_weight is None else rows.sample_weight[start:stop]
            hits += self.to_host(_total(xp, hit, mass))  # sync
            if with_loss:
                loss_sum += self.to_host(_total(xp, loss, mass))
        return loss_sum, hits

    def start_evaluation(self, W: Array, rows: ReferenceRows, *, with_loss: bool, now: bool = False) -> Ready:
        """See the protocol; made at once."""
        return Ready(*self.evaluate(W, rows, with_loss=with_loss))

    def overlaps(self, columns: int, step_rows: int, evaluation_rows: int) -> bool:
        """Never."""
        return False

    def cost_and_gradient(
        self, W: Array, rows: ReferenceRows, column: Ints | None
    ) -> tuple[Array, Array, Array | None]:
        """See the protocol."""
        xp, models = self.xp, W.shape[1] // self.n_columns
        picked = None if column is None else self.backend.from_host(np.asarray(column, np.int64))
        cost, gradient, hits = (
            self._floats(np.zeros(models)),
            xp.zeros_like(W),
            self.backend.from_host(np.zeros(models)),
        )
        for start in range(0, rows.n, ROWS_PER_BLOCK):
            stop = min(start + ROWS_PER_BLOCK, rows.n)
            index = self.backend.from_host(np.arange(start, stop))
            weight = self._batch_weights(rows, index, picked, models)
            part, slope, hit = self._block(W, rows.X[start:stop, :], rows.y[start:stop], weight)
            cost, gradient, hits = cost + part, gradient + slope, hits + hit
        return cost, gradient, hits if rows.weights is None or picked is None else None

    def _block(self, W: Array, X: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
        """`Σ weight * loss` `(L,)`, its gradient `(D, C)` and the hits `(L,)` of one block of rows; `weight (n or 1,
        L)`.
        """
        xp = self.xp
        shape = (X.shape[0], W.shape[1] // self.n_columns, self.n_columns)
        loss, hit, slope = self.loss.value(xp, xp.reshape(xp.matmul(X, W), shape), y)
        scaled = weight[:, :, None] * slope
        slope = xp.matmul(xp.matrix_transpose(X), xp.reshape(scaled, (shape[0], W.shape[1])))
        return xp.sum(weight * loss, axis=0), slope, xp.sum(xp.astype(hit, xp.float64), axis=0)

    def _batch_weights(self, rows: ReferenceRows, index: Array, column: Array | None, models: int) -> Array:
        """Row weights `(len(index), L)` of a block, `(1, L)` of ones if there are none."""
        if rows.weights is None or column is None:
            return self._floats(np.ones((1, models)))
        return self.xp.take(self.xp.take(rows.weights, index, axis=0), column, axis=1)

    def _floats(self, host: Floats) -> Array:
        return self.backend.from_host(np.ascontiguousarray(host, self.backend.dtype))


def _total(xp: Any, values: Array, mass: Array | None) -> Array:
    """The sum of `values (n, L)` over the rows, in float64, each times its mass."""
    values = xp.astype(values, xp.float64)
    return xp.sum(values if mass is None else mass[:, None] * values, axis=0)


def penalty_rows(D: int, plan: StepPlan, K: int) -> Floats:
    """`2 λ` for every weight, `(D, C)` (or `(1, C)` if all rows carry it); the bias row is 0 unless it is
    penalised."""
    decay = np.repeat(2.0 * plan.l2, K)[None, :]
    if plan.penalize_bias:
        return decay
    free = np.ones((D, 1))
    free[-1] = 0.0
    return free * decay
