"""Rows in blocks: every sum is added up from what each block adds, wherever the blocks are; see `rows.blocks`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gpureg.kernels.one_model import OneModel
from gpureg.kernels.protocol import Kernels
from gpureg.rows import dual, moments, partials
from gpureg.rows.blocks import Blocks, Later, PickedBlocks
from gpureg.rows.dense import DenseRows
from gpureg.rows.kronecker import KroneckerSums, kronecker_of
from gpureg.rows.logits import LogitPasses
from gpureg.rows.one_model import SummedModel
from gpureg.rows.sampled import DensePart, Part
from gpureg.rows.span import Basis
from gpureg.types import Array, Floats, Ints, StepPlan

HELD = 1 << 23  # numbers of the samples that a bound on a gap is made from: a part that is larger passes by again


@dataclass(frozen=True)
class BlockedRows:
    """Samples in blocks; see `Rows`.

    The sums over blocks are in float64, and in the order of the blocks: rows with equal blocks have sums of equal bits,
    wherever the blocks are.
    """

    blocks: Blocks
    _parts: dict[int, Part] = field(default_factory=dict)

    @property
    def kernels(self) -> Kernels:
        """What finishes the sums."""
        return self.blocks.kernels

    @cached_property
    def n(self) -> int:
        """See the protocol."""
        return sum(self.blocks.sizes)

    @property
    def features(self) -> int:
        """See the protocol."""
        return self.blocks.features

    @cached_property
    def mass(self) -> float:
        """See the protocol."""
        weight = self.blocks.sample_weight
        return float(self.n) if weight is None else float(np.sum(weight))

    @property
    def weighted(self) -> bool:
        """See the protocol."""
        return self.blocks.weighted

    @property
    def rotates(self) -> bool:
        """See the protocol."""
        return True

    def by_logits(self) -> LogitPasses | None:
        """See the protocol: none."""
        return None

    @property
    def alongside(self) -> bool:
        """See the protocol."""
        return False

    def subset(self, index: Ints) -> BlockedRows:
        """See the protocol."""
        return BlockedRows(PickedBlocks.of(self.blocks, index))

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        return self.blocks.steps(W, plan)

    def start_evaluation(self, W: Array, *, with_loss: bool, now: bool = False) -> Evaluating:
        """See the protocol; evaluations of rows and of their subsets that are asked for together share a pass."""
        return Evaluating(self.blocks.later(partials.Evaluated(W, with_loss)))

    def outputs(self, W: Array) -> tuple[Floats, Ints, Floats | None]:
        """See the protocol."""
        logits, y, mass = zip(*self.blocks.each(partials.Outputs(W)), strict=True)
        return np.concatenate(logits), np.concatenate(y), None if mass[0] is None else np.concatenate(mass)

    def cost_and_gradient(self, W: Array, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """See the protocol."""
        cost, gradient, hits = self.blocks.total(partials.Cost(W, column))
        return cost, gradient, hits

    def one_model(self, column: int | None, centre: Floats | None = None) -> OneModel:
        """See the protocol."""
        return SummedModel(self.kernels, self, column, centre)

    def mean(self) -> Floats:
        """See the protocol."""
        return self._mean.copy()

    @cached_property
    def _mean(self) -> Floats:
        total, mass = self.blocks.total(partials.Mean())
        return moments.mean_of(self.kernels, (total, mass))

    def scatter(self, centre: Floats, *, diagonal: bool = False) -> Array:
        """See the protocol."""
        total, mass = self.blocks.total(partials.Scatter(centre, diagonal))
        return moments.scatter_of((total, mass))

    def span(self, *, free: bool) -> tuple[DenseRows, Basis]:
        """See the protocol: few rows, which are held for it, and numbered as they are stored."""
        X, y, table, mass = self._joined(partials.Every(1))
        X, y, table, mass = map(self._placeable, (X, y, table, mass))
        block = self.kernels.place(X, y, table, None, mass)
        return DenseRows(self.kernels, block, self.mass).span(free=free)

    def _placeable(self, array: Array | None) -> Any:
        """An array of the device as `place` takes it."""
        return None if array is None else np.asarray(self.kernels.backend.to_host(array))  # sync

    def curvature(self, W: Array, column: Ints | None, centre: Floats | None) -> Array:
        """See the protocol."""
        (found,) = self.blocks.total(partials.Curvature(W, column, centre))
        return found

    def balanced(self, W: Array, column: Ints | None, imbalance: Floats, samples: int) -> dual.Balanced:
        """See the protocol. Of a part of the rows, no more than `HELD` numbers are taken, and they are held; all rows
        pass by for each product.
        """
        if samples < self.n:
            samples = max(1, min(samples, HELD // self.features))
        return dual.balanced(self.kernels, self, W, column, imbalance, samples)

    def kronecker(self, W: Array, column: Ints | None, *, free: bool, diagonal: bool = False) -> KroneckerSums | None:
        """See the protocol: one pass, about the mean of the rows, near which the samples' own mean lies."""
        centre = self.mean() if free else np.zeros(self.features)
        sums = self.blocks.total(partials.Kronecker(W, column, centre, diagonal))
        return kronecker_of(self.kernels, sums, self.n, centre, free=free)

    def every(self, stride: int) -> Part:
        """Every `stride`-th sample of each block; see `sampled.Sampled`. The last such part is kept."""
        if stride not in self._parts:
            self._parts.clear()
            self._parts[stride] = self._every(stride)
        return self._parts[stride]

    def _every(self, stride: int) -> Part:
        fits = sum(-(-size // stride) for size in self.blocks.sizes) * self.features <= HELD
        X, y, table, _ = self._joined(partials.Every(stride, samples=fits))
        if fits:
            return DensePart(self.kernels.backend.xp, X, y, table)
        return PassingPart(self.blocks, stride, y, table)

    def _joined(self, partial: partials.Every) -> tuple[Any, ...]:
        """What the blocks give, one after the other, in single arrays."""
        xp = self.kernels.backend.xp
        found = zip(*self.blocks.each(partial), strict=True)
        return tuple(None if parts[0] is None else xp.concat(list(parts), axis=0) for parts in found)


@dataclass(frozen=True)
class Evaluating:
    """An evaluation that was asked for; see `Evaluation`."""

    later: Later

    def result(self) -> tuple[Floats, Floats]:
        """See the protocol."""
        loss_sum, hits = self.later()
        return loss_sum, hits


@dataclass(frozen=True)
class PassingPart:
    """S of samples that are not held: the blocks pass by for each product; see `sampled.Part`."""

    blocks: Blocks
    stride: int
    y: Array
    weights: Array | None

    def logits(self, W: Array) -> Array:
        """See the protocol."""
        found = self.blocks.each(partials.Logits(W, self.stride))
        return self.blocks.kernels.backend.xp.concat([logits for (logits,) in found], axis=0)

    def combined(self, R: Array) -> Array:
        """See the protocol."""
        ends = np.cumsum([0, *(-(-size // self.stride) for size in self.blocks.sizes)]).tolist()
        parts = tuple(R[start:stop, :] for start, stop in itertools.pairwise(ends))
        (found,) = self.blocks.total(partials.Combined(parts, self.stride))
        return found
