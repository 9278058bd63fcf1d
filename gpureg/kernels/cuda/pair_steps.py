"""Minibatch gradient descent by the raw kernels of `pair`, which gather their batches themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.kernels.cuda import pair
from gpureg.kernels.cuda.memory import Budget
from gpureg.kernels.cuda.ops import DeviceOps, RawLaunch, ToDevice
from gpureg.types import Array, StepPlan

STEPS_OF_A_GRAPH = 8  # of an epoch of 156 steps: 19 graphs and 4 steps by themselves
Step = Callable[[int], None]


@dataclass(frozen=True)
class _Samples:
    """What the kernels read: `X (N, D)`, `y (N,)`, the row-weight table `(N, F)` or None."""

    X: Array
    y: Array
    weights: Array | None

    def are(self, other: _Samples) -> bool:
        """Whether these are the same arrays."""
        return self.X is other.X and self.y is other.y and self.weights is other.weights


class _Memory:
    """What the kernels read and write in a run of up to `steps` steps, at addresses that stay: a graph repeats them.

    On the device `W (D, C)`, `order (steps, B)`, `slot (steps,)` the snapshot to fill after a step or -1, `snapshots
    (slots, D, C)`, `loss (steps, B, A)`, residuals `(B, C)`, `column`, `lr`, `l2` `(A,)`, and `at (1,)`, the number
    that the steps are counted from.
    """

    def __init__(self, ops: DeviceOps, samples: _Samples, shape: tuple[int, ...], columns: int, dtype: Any) -> None:
        steps, B, D, A, slots = shape
        C = A * columns
        self.shape, self.samples = shape, samples
        self.W, self.residuals = ops.empty((D, C), dtype), ops.empty((B, C), dtype)
        self.order, self.slot = ops.empty((steps, B), np.int32), ops.empty((steps,), np.int32)
        self.loss, self.snapshots = ops.empty((steps, B, A), dtype), ops.empty((slots, D, C), dtype)
        self.column, self.at = ops.empty((A,), np.int32), ops.empty((1,), np.int32)
        self.lr, self.l2 = ops.empty((A,), dtype), ops.empty((A,), dtype)
        self.graph: Callable[[], None] | None = None
        self.penalized = np.int32(-1)

    def holds(self, samples: _Samples, shape: tuple[int, ...]) -> bool:
        """Whether a run of this shape fits: as many steps and slots or fewer, and all else the same."""
        same = self.shape[1:-1] == shape[1:-1] and self.samples.are(samples)
        return same and self.shape[0] >= shape[0] and self.shape[-1] >= shape[-1]


class PairSteps:
    """The arithmetic of `Kernels.steps` in two launches a step, for models of `columns` columns.

    Eight steps at a time are one graph, once eight have been run one by one.
    """

    def __init__(self, ops: DeviceOps, to_device: ToDevice, columns: int, budget: Budget) -> None:
        self.ops, self.to_device, self.columns, self.budget = ops, to_device, columns, budget
        self.dtype = to_device.dtype
        self._memory: _Memory | None = None

    def fits(self) -> bool:
        """Whether models of this many columns can be trained this way."""
        return self.columns <= pair.MAX_COLUMNS

    def is_quick(self, batch: int, features: int, columns: int) -> bool:
        """Whether a step of B x D x L*K is expected to be faster than with cuBLAS's products."""
        return batch * features * columns <= pair.QUICK

    def forget(self) -> None:
        """Give back the memory that is kept from one run to the next."""
        self._memory = None

    def run(
        self, W: Array, X: Array, y: Array, weights: Array | None, plan: StepPlan
    ) -> tuple[Array, Array, list[Array]]:
        """As `MinibatchSteps.run`."""
        (n_steps, B), D, models, count = plan.order.shape, W.shape[0], len(plan.lr), len(plan.snapshot_after)
        stride = min(n_steps, self.budget.gather_steps(B, D, models, self.dtype.itemsize))
        samples = _Samples(X, y, None if plan.column is None else weights)
        memory = self._remembered(samples, (stride, B, D, models, max(1, count)))
        self._load(memory, W, plan)
        slot = np.full(n_steps, -1, np.int32)
        slot[list(plan.snapshot_after)] = np.arange(count)
        orders, slots = self.to_device.ints(plan.order), self.to_device.ints(slot)
        losses = self.ops.empty((n_steps, models), np.float64)
        for first in range(0, n_steps, stride):
            part = orders[first : first + stride]
            memory.order[: len(part)], memory.slot[: len(part)] = part, slots[first : first + stride]
            self._steps(memory, len(part))
            losses[first : first + stride] = memory.loss[: len(part)].sum(axis=1, dtype=np.float64)
        return memory.W.copy(), losses, list(memory.snapshots[:count].copy())

    def _remembered(self, samples: _Samples, shape: tuple[int, ...]) -> _Memory:
        memory = self._memory
        if memory is None or not memory.holds(samples, shape):
            self._memory = memory = None  # given back before the new one is asked for
            self._memory = memory = _Memory(self.ops, samples, shape, self.columns, self.dtype)
        return memory

    def _load(self, memory: _Memory, W: Array, plan: StepPlan) -> None:
        """What is constant in a run, into the memory."""
        memory.W[...] = W
        memory.lr[...], memory.l2[...] = self.to_device.floats(plan.lr), self.to_device.floats(plan.l2)
        if memory.samples.weights is not None:
            memory.column[...] = self.to_device.ints(plan.column)
        penalized = np.int32(W.shape[0] if plan.penalize_bias else W.shape[0] - 1)
        if penalized != memory.penalized:
            memory.penalized, memory.graph = penalized, None

    def _steps(self, memory: _Memory, count: int) -> None:
        """The first `count` steps of the memory."""
        step, advance = self._launches(memory)
        memory.at[...] = 0
        done = 0
        while count - done >= STEPS_OF_A_GRAPH:
            if memory.graph is None:  # what it takes is loaded by running it once
                _several(step, advance)
                memory.graph = self.ops.captured(lambda: _several(step, advance))
            else:
                memory.graph()
            done += STEPS_OF_A_GRAPH
        for number in range(count - done):
            step(number)

    def _launches(self, memory: _Memory) -> tuple[Step, Callable[[], None]]:
        """The two launches of the step which is `number` behind `memory.at`, and the one that moves that on."""
        _, B, D, models, _ = memory.shape
        samples, count, at = memory.samples, np.int32(models), memory.at
        F = 0 if samples.weights is None else samples.weights.shape[1]
        table = (samples.X if samples.weights is None else samples.weights, np.int32(F), memory.column)
        code = pair.sources(D, self.columns, B, models, self.dtype.name)
        forward, backward, advance = (self.ops.raw_kernel(*found) for found in zip(code, pair.NAMES, strict=True))
        rows, features = zip(pair.blocks(D, self.columns, B, models, self.dtype.itemsize), pair.THREADS, strict=True)
        there = (samples.X, samples.y, memory.order, *table, memory.W, memory.residuals, memory.loss, count, at)
        given = (samples.X, memory.order, memory.residuals, memory.lr, memory.l2)
        back = (*given, memory.W, memory.slot, memory.snapshots, memory.penalized, count, at)

        def step(number: int) -> None:
            forward(*rows, (*there, np.int32(number)))
            backward(*features, (*back, np.int32(number)))

        return step, _advancing(advance, at)


def _advancing(advance: RawLaunch, at: Array) -> Callable[[], None]:
    return lambda: advance(1, 1, (at, np.int32(STEPS_OF_A_GRAPH)))


def _several(step: Step, advance: Callable[[], None]) -> None:
    for number in range(STEPS_OF_A_GRAPH):
        step(number)
    advance()
