"""Minibatch gradient descent by the two raw kernels of `pair`, which gather their batches themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.kernels.cuda import pair
from gpureg.kernels.cuda.memory import Budget
from gpureg.kernels.cuda.ops import DeviceOps, ToDevice
from gpureg.types import Array, StepPlan


@dataclass(frozen=True)
class _Given:
    """A plan on the device: `order (steps, B)`; the row-weight table `(N, F)`, F (0: not read) and `column (A,)`;
    `rates`: lr and l2 `(A,)`; `slot (steps,)` the snapshot to fill after a step or -1; `snapshots (slots, D, C)`; how
    many rows of W carry the penalty.
    """

    order: Array
    weights: tuple[Array, np.int32, Array]
    rates: tuple[Array, Array]
    slot: Array
    snapshots: Array
    penalized: np.int32


class PairSteps:
    """The arithmetic of `Kernels.steps` in two launches a step, for models of `columns` columns.

    Weights are `(D, A*K)`, C-contiguous, and are overwritten.
    """

    def __init__(self, ops: DeviceOps, to_device: ToDevice, columns: int, budget: Budget) -> None:
        self.ops, self.to_device, self.columns, self.budget = ops, to_device, columns, budget
        self.dtype = to_device.dtype

    def fits(self) -> bool:
        """Whether models of so many columns can be trained this way."""
        return self.columns <= pair.MAX_COLUMNS

    def run(
        self, W: Array, X: Array, y: Array, weights: Array | None, plan: StepPlan
    ) -> tuple[Array, Array, list[Array]]:
        """As `MinibatchSteps.run`."""
        count = len(plan.snapshot_after)
        slot = np.full(len(plan.order), -1)
        slot[list(plan.snapshot_after)] = np.arange(count)
        given = _Given(
            self.to_device.ints(plan.order),
            self._weights(X, weights, plan),
            (self.to_device.floats(plan.lr), self.to_device.floats(plan.l2)),
            self.to_device.ints(slot),
            self.ops.empty((max(1, count), *W.shape), self.dtype),
            np.int32(W.shape[0] if plan.penalize_bias else W.shape[0] - 1),
        )
        return W, self._steps(W, X, y, given), list(given.snapshots[:count])

    def _steps(self, W: Array, X: Array, y: Array, given: _Given) -> Array:
        """The losses `(steps, A)` float64, reduced as often as their budget asks for."""
        (n_steps, B), D, models = given.order.shape, W.shape[0], len(given.rates[0])
        code = pair.sources(D, self.columns, B, models, self.dtype.name)
        forward, backward = (self.ops.raw_kernel(s, name) for s, name in zip(code, pair.NAMES, strict=True))
        blocks = pair.blocks(D, self.columns, B, models, self.dtype.itemsize)
        rows, features = zip(blocks, pair.THREADS, strict=True)
        stride = min(n_steps, self.budget.gather_steps(B, D, models, self.dtype.itemsize))
        loss = self.ops.empty((stride, B, models), self.dtype)
        residuals = self.ops.empty((B, W.shape[1]), self.dtype)
        losses = self.ops.empty((n_steps, models), np.float64)
        count = np.int32(models)
        for first in range(0, n_steps, stride):
            order, slot = given.order[first : first + stride], given.slot[first : first + stride]
            there = (X, y, order, *given.weights, W, residuals, loss, count)
            back = (X, order, residuals, *given.rates, W, slot, given.snapshots, given.penalized, count)
            for step in np.arange(len(order), dtype=np.int32):
                forward(*rows, (*there, step))
                backward(*features, (*back, step))
            losses[first : first + stride] = loss[: len(order)].sum(axis=1, dtype=np.float64)
        return losses

    def _weights(self, X: Array, weights: Array | None, plan: StepPlan) -> tuple[Array, np.int32, Array]:
        if weights is None or plan.column is None:
            return X, np.int32(0), self.to_device.ints(np.zeros(len(plan.lr)))  # X stands in, and is not read
        return weights, np.int32(weights.shape[1]), self.to_device.ints(plan.column)
