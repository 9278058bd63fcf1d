"""Minibatch gradient descent on the device: three launches a step, four with a penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.kernels.cuda.memory import Budget
from gpureg.kernels.cuda.ops import DeviceOps, ToDevice
from gpureg.kernels.cuda.pointwise import Pointwise
from gpureg.kernels.cuda.update import update_kernel
from gpureg.types import Array, StepPlan


@dataclass(frozen=True)
class _Penalty:
    """What the penalised step takes: `lr, l2 (A, 1)`, a buffer for the gradient `(D, A*K)`, how many elements of W from
    its first row on carry the penalty, and gradient and weights as `(D, A, K)`.
    """

    lr: Array
    l2: Array
    gradient: Array
    elements: int
    cube: Array
    weights: Array


class _Memory:
    """What up to `steps` gathered steps lie in, and each step's views of it.

    It is kept from one run of steps to the next: a view costs the host 1.1 µs, and three of them are as much as a
    launch (`bench/cuda_host.py`).
    """

    def __init__(self, ops: DeviceOps, pointwise: Pointwise, shape: tuple[int, int, int, int], dtype: Any) -> None:
        steps, B, D, models = shape
        self.shape = shape
        self.batches = ops.empty((steps, B, D), dtype)
        self.labels = ops.empty((steps, B), np.int32)
        self.loss = ops.empty((steps, B, models), dtype)
        self.views = list(zip(self.batches, pointwise.labels(self.labels, models), self.loss, strict=True))

    def holds(self, shape: tuple[int, int, int, int]) -> bool:
        """Whether a run of this shape fits: as many steps or fewer, and all else the same."""
        return self.shape[0] >= shape[0] and self.shape[1:] == shape[1:]


class MinibatchSteps:
    """The arithmetic of `Kernels.steps`. Weights are `(D, A*K)`, C-contiguous, and are overwritten."""

    def __init__(self, ops: DeviceOps, to_device: ToDevice, pointwise: Pointwise, budget: Budget) -> None:
        self.ops, self.to_device, self.pointwise, self.budget = ops, to_device, pointwise, budget
        self.dtype = to_device.dtype
        self._memory: _Memory | None = None

    def forget(self) -> None:
        """Give back the memory that is kept from one run to the next."""
        self._memory = None

    def run(
        self, W: Array, X: Array, y: Array, weights: Array | None, plan: StepPlan
    ) -> tuple[Array, Array, list[Array]]:
        """Weights, step losses `(steps, A)` float64 and snapshots; `X (N, D)`, `y (N,)` int32, `weights (N, F)`."""
        n_steps, B = plan.order.shape
        models = len(plan.lr)
        order = self.to_device.indices(plan.order)
        penalty = self._penalty(W, plan)
        # without a penalty the learning rate goes into the residual, and the product adds straight onto the weights
        factor = self.to_device.floats((np.ones(models) if penalty is not None else plan.lr)[None, None, :] / B)
        losses = self.ops.empty((n_steps, models), np.float64)
        snapshots: list[Array] = []
        stride = self.budget.gather_steps(B, X.shape[1], models, self.dtype.itemsize)
        for first in range(0, n_steps, stride):
            part = order[first : first + stride]
            memory = self._gather(X, y, part, models)
            weight = self._batch_weights(weights, part, plan)
            scales = self.pointwise.scales(factor if weight is None else weight * factor)
            wanted = {step - first for step in plan.snapshot_after}
            self._steps(W, memory.views[: len(part)], scales, penalty, wanted, snapshots)
            loss = memory.loss[: len(part)]
            if weight is not None:
                loss *= weight
            losses[first : first + stride] = loss.sum(axis=1, dtype=np.float64) / B
        return W, losses, snapshots

    def _steps(
        self,
        W: Array,
        steps: list[tuple[Array, Array, Array]],
        scales: Array,
        penalty: _Penalty | None,
        snapshot_after: set[int],
        snapshots: list[Array],
    ) -> None:
        """The steps, each with its batch, labels and losses; scales have the step as their first axis, or 1."""
        ops, gradient_of = self.ops, self.pointwise.gradient
        Z = ops.empty((steps[0][0].shape[0], W.shape[1]), self.dtype)
        shared = scales[0] if len(scales) == 1 else None
        for step, (X, labels, loss) in enumerate(steps):
            ops.matmul(X, W, Z)
            gradient_of(labels, scales[step] if shared is None else shared, Z, loss)
            if penalty is None:
                ops.matmul_transposed(X, Z, W, alpha=-1.0, beta=1.0)
            else:
                ops.matmul_transposed(X, Z, penalty.gradient)
                update_kernel()(penalty.cube, penalty.lr, penalty.l2, penalty.elements, penalty.weights)
            if step in snapshot_after:
                snapshots.append(W.copy())

    def _gather(self, X: Array, y: Array, order: Array, models: int) -> _Memory:
        """The batches in one gather, and their labels, in the first steps of the memory."""
        n, B = order.shape
        shape = (n, B, X.shape[1], models)
        memory = self._memory
        if memory is None or not memory.holds(shape):
            self._memory = memory = None  # given back before the new one is asked for
            self._memory = memory = _Memory(self.ops, self.pointwise, shape, self.dtype)
        index = order.reshape(-1)
        self.ops.take(X, index, 0, memory.batches[:n].reshape(-1, X.shape[1]))
        self.ops.take(y, index, 0, memory.labels[:n].reshape(-1))
        return memory

    def _batch_weights(self, weights: Array | None, order: Array, plan: StepPlan) -> Array | None:
        """Row weights `(steps, B, A)` of the batches, None if every sample weighs 1."""
        if weights is None or plan.column is None:
            return None
        column = self.to_device.indices(plan.column)
        return self.ops.take(self.ops.take(weights, order.reshape(-1), 0), column, 1).reshape(*order.shape, -1)

    def _penalty(self, W: Array, plan: StepPlan) -> _Penalty | None:
        if not np.any(plan.l2):
            return None
        rows = W.shape[0] if plan.penalize_bias else W.shape[0] - 1
        lr, l2 = self.to_device.floats(plan.lr[:, None]), self.to_device.floats(plan.l2[:, None])
        G, cube = self.ops.empty(W.shape, self.dtype), (W.shape[0], -1, self.pointwise.n_columns)
        return _Penalty(lr, l2, G, rows * W.shape[1], G.reshape(cube), W.reshape(cube))
