"""Dense rows: one block, on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpureg.kernels.lines import LogitKernels
from gpureg.kernels.one_model import OneModel
from gpureg.kernels.protocol import Block, Evaluation, Kernels
from gpureg.rows import dual, moments
from gpureg.rows.kronecker import KroneckerSums, kronecker
from gpureg.rows.logits import LogitPasses
from gpureg.rows.one_model import SummedModel
from gpureg.rows.partials import outputs
from gpureg.rows.sampled import DenseSampled
from gpureg.rows.span import Basis, DenseFeatures, basis_of
from gpureg.types import Array, Floats, Ints, StepPlan


@dataclass(frozen=True)
class DenseRows:
    """Samples as the kernels have placed them; see `Rows`."""

    kernels: Kernels
    block: Block
    mass: float

    @classmethod
    def place(
        cls,
        kernels: Kernels,
        X: Array,
        y: Ints,
        weights: Floats | None,
        order: Ints | None,
        sample_weight: Floats | None = None,
    ) -> DenseRows:
        """Host samples `X (N, D)`, labels and weights, all in storage order; see `Kernels.place`."""
        mass = float(len(y)) if sample_weight is None else float(np.sum(sample_weight))
        return cls(kernels, kernels.place(X, y, weights, order, sample_weight), mass)

    @property
    def n(self) -> int:
        """See the protocol."""
        return self.block.n

    @property
    def features(self) -> int:
        """See the protocol."""
        return int(self.block.X.shape[1])

    @property
    def weighted(self) -> bool:
        """See the protocol."""
        return self.block.weights is not None

    @property
    def rotates(self) -> bool:
        """See the protocol."""
        return True

    def by_logits(self) -> LogitPasses | None:
        """See the protocol."""
        return LogitPasses(self.kernels, self.block) if isinstance(self.kernels, LogitKernels) else None

    @property
    def alongside(self) -> bool:
        """See the protocol."""
        return True

    def subset(self, index: Ints) -> DenseRows:
        """See the protocol."""
        block = self.kernels.subset(self.block, index)
        weight = block.sample_weight
        mass = float(block.n) if weight is None else float(self.kernels.to_host(weight).sum())  # sync
        return DenseRows(self.kernels, block, mass)

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        return self.kernels.steps(W, self.block, plan)

    def start_evaluation(self, W: Array, *, with_loss: bool, now: bool = False) -> Evaluation:
        """See the protocol."""
        return self.kernels.start_evaluation(W, self.block, with_loss=with_loss, now=now)

    def outputs(self, W: Array) -> tuple[Floats, Ints, Floats | None]:
        """See the protocol."""
        return outputs(self.kernels, self.block, W)

    def cost_and_gradient(self, W: Array, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """See the protocol."""
        return self.kernels.cost_and_gradient(W, self.block, column)

    def one_model(self, column: int | None, centre: Floats | None = None) -> OneModel:
        """See the protocol."""
        own = self.kernels.one_model(self.block, column, centre)
        return own or SummedModel(self.kernels, self, column, centre)

    def mean(self) -> Floats:
        """See the protocol; a copy."""
        return self._mean.copy()

    @cached_property
    def _mean(self) -> Floats:
        return moments.mean_row(self.kernels, self.block)

    def scatter(self, centre: Floats, *, diagonal: bool = False) -> Array:
        """See the protocol."""
        return moments.scatter(self.kernels, self.block, centre, diagonal=diagonal)

    def span(self, *, free: bool) -> tuple[DenseRows, Basis]:
        """See the protocol."""
        centre = self.mean()[:-1] if free else None
        basis, inside = basis_of(DenseFeatures(self.kernels, self.block.X), centre)
        if free:
            inside = np.concatenate([inside, np.ones((self.n, 1))], axis=1)
        X = self.kernels.backend.from_host(np.ascontiguousarray(inside, self.kernels.backend.dtype))
        return DenseRows(self.kernels, self.kernels.with_samples(self.block, X), self.mass), basis

    def curvature(self, W: Array, column: Ints | None, centre: Floats | None) -> Array:
        """See the protocol."""
        return moments.curvature(self.kernels, self.block, W, column, centre)

    def balanced(self, W: Array, column: Ints | None, imbalance: Floats, samples: int) -> dual.Balanced:
        """See the protocol."""
        return dual.balanced(self.kernels, DenseSampled(self.kernels, self.block), W, column, imbalance, samples)

    def kronecker(self, W: Array, column: Ints | None, *, free: bool, diagonal: bool = False) -> KroneckerSums | None:
        """See the protocol."""
        return kronecker(self.kernels, self.block, W, column, free=free, diagonal=diagonal)
