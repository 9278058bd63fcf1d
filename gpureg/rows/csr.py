"""Sparse rows in CSR, on the CPU: products by stretches of rows on the kernels' threads, never a dense copy.

A product with a row of weights costs what reading that row costs, so the columns of many models go side by side, but
only as many as a row of the cache holds well: `WIDTH` bytes. Measured (20,000 x 50,000, 94 non-zeros a row, 2 threads,
forward and back, milliseconds for every 20 columns): float64 at 20, 40, 80, 160 columns: 9.4, 8.9, 13.8, 18.7; float32:
5.5, 4.9, 4.6, 6.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpureg.errors import UsageError, named
from gpureg.kernels.one_model import OneModel
from gpureg.kernels.protocol import Kernels, Ready
from gpureg.rows import csr_moments, dual, moments
from gpureg.rows.csr_steps import steps
from gpureg.rows.dense import DenseRows
from gpureg.rows.kronecker import KroneckerSums, kronecker
from gpureg.rows.logits import LogitPasses
from gpureg.rows.one_model import SummedModel
from gpureg.rows.samples import CsrPart, CsrSamples, DenseBlock, DenseBlocks, pieces
from gpureg.rows.span import Basis, CsrFeatures, basis_of
from gpureg.types import Array, Floats, Ints, StepPlan

WIDTH = 320  # bytes of a row of weights in one product
LOGITS_BYTES = 1 << 23  # of the stretches of rows that are at work at the same time
POINTS = 1 << 14  # logits that the loss sees at once: its arrays stay in a core's cache
ALWAYS_ROTATED, MOST_ROTATED = 64, 512  # features whose second moments are worth their decomposition


@dataclass(frozen=True)
class CsrRows:
    """Sparse samples in their own order; see `Rows`. `y (N,)` class indices, `weights (N, T)` the row-weight table in
    the type of the arithmetic or None, `sample_weight (N,)` float64 or None.
    """

    kernels: Kernels
    samples: CsrSamples
    y: Ints
    weights: Array | None
    sample_weight: Floats | None = None

    @classmethod
    def place(
        cls,
        kernels: Kernels,
        samples: CsrSamples,
        y: Ints,
        weights: Floats | None,
        sample_weight: Floats | None = None,
    ) -> CsrRows:
        """Host samples, labels and weights, in the order of the data. Raises UsageError off the CPU."""
        if kernels.backend.name != "numpy":
            raise UsageError(
                f"Sparse rows are fitted on the CPU by NumPy, but the backend is {kernels.backend.name}; give "
                f"{named('device', 'cpu')}, or dense rows."
            )
        table = None if weights is None else np.ascontiguousarray(weights, kernels.backend.dtype)
        mass = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        return cls(kernels, samples, np.asarray(y, np.int64), table, mass)

    @property
    def n(self) -> int:
        """See the protocol."""
        return self.samples.n

    @property
    def features(self) -> int:
        """See the protocol."""
        return self.samples.features

    @property
    def mass(self) -> float:
        """See the protocol."""
        return float(self.n) if self.sample_weight is None else float(self.sample_weight.sum())

    @property
    def weighted(self) -> bool:
        """See the protocol."""
        return self.weights is not None

    @property
    def rotates(self) -> bool:
        """See the protocol: for few features, or if a product with D² numbers costs no more than one with the rows."""
        D = self.features
        return D <= ALWAYS_ROTATED or (D <= MOST_ROTATED and self.samples.X.nnz >= D * D)

    def by_logits(self) -> LogitPasses | None:
        """See the protocol: none."""
        return None

    @property
    def alongside(self) -> bool:
        """See the protocol."""
        return True

    def subset(self, index: Ints) -> CsrRows:
        """See the protocol; a copy."""
        index = np.sort(index)
        mass = None if self.sample_weight is None else self.sample_weight[index]
        return CsrRows(self.kernels, self.samples.take(index), self.y[index], None, mass)

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        return steps(self.kernels, self.samples, self.y, self.weights, W, plan)

    def start_evaluation(self, W: Array, *, with_loss: bool, now: bool = False) -> Ready:
        """See the protocol; made at once."""
        K, models = self.kernels.n_columns, W.shape[1] // self.kernels.n_columns
        found = np.zeros((2, models))
        for some in pieces(models, K, W.itemsize, WIDTH):
            found[:, some] = self._evaluated(W[:, some.start * K : some.stop * K], with_loss=with_loss)
        return Ready(*found)

    def outputs(self, W: Array) -> tuple[Floats, Ints, Floats | None]:
        """See the protocol."""
        K, logits = self.kernels.n_columns, np.empty((self.n, W.shape[1]))
        for some in pieces(W.shape[1] // K, K, W.itemsize, WIDTH):
            columns = slice(some.start * K, some.stop * K)

            def task(lane: int, start: int, stop: int, z: Array, columns: slice = columns) -> None:
                logits[start:stop, columns] = z

            self.over(W[:, columns], task)
        return logits, self.y, self.sample_weight

    def cost_and_gradient(self, W: Array, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """See the protocol. Each thread adds up its own stretches; the threads' sums are added in order."""
        K, models = self.kernels.n_columns, W.shape[1] // self.kernels.n_columns
        costs, hits, slopes = np.zeros(models), np.zeros(models), []
        for some in pieces(models, K, W.itemsize, WIDTH):
            own = None if column is None or self.weights is None else self.weights[:, column[some]]
            costs[some], slope, hits[some] = self.summed(W[:, some.start * K : some.stop * K], own)
            slopes.append(slope)
        gradient = slopes[0] if len(slopes) == 1 else np.concatenate([slope.T for slope in slopes]).T
        return costs, gradient, hits if column is None or self.weights is None else None

    def one_model(self, column: int | None, centre: Floats | None = None) -> OneModel:
        """See the protocol."""
        return SummedModel(self.kernels, self, column, centre)

    def mean(self) -> Floats:
        """See the protocol."""
        return csr_moments.mean(self.samples, self._averaged())

    def scatter(self, centre: Floats, *, diagonal: bool = False) -> Array:
        """See the protocol."""
        if diagonal:
            return csr_moments.scatter(self.samples, self._averaged(), centre)
        return moments.scatter(self.kernels, self._block(), centre)

    def span(self, *, free: bool) -> tuple[DenseRows, Basis]:
        """See the protocol."""
        basis, inside = basis_of(CsrFeatures(self.samples), self.mean()[:-1] if free else None)
        if free:
            inside = np.concatenate([inside, np.ones((self.n, 1))], axis=1)
        order = self.kernels.storage_order(self.y, None)
        place = np.arange(self.n) if order is None else order
        X = np.ascontiguousarray(inside[place], self.kernels.backend.dtype)
        weights = None if self.weights is None else self.weights[place]
        mass = None if self.sample_weight is None else self.sample_weight[place]
        return DenseRows.place(self.kernels, X, self.y[place], weights, order, mass), basis

    def curvature(self, W: Array, column: Ints | None, centre: Floats | None) -> Array:
        """See the protocol."""
        return moments.curvature(self.kernels, self._block(), W, column, centre)

    def balanced(self, W: Array, column: Ints | None, imbalance: Floats, samples: int) -> dual.Balanced:
        """See the protocol."""
        return dual.balanced(self.kernels, self, W, column, imbalance, samples)

    def every(self, stride: int) -> CsrPart:
        """See `sampled.Sampled`."""
        samples = self.samples if stride == 1 else self.samples.take(np.arange(0, self.n, stride))
        return CsrPart(samples, self.y[::stride], None if self.weights is None else self.weights[::stride])

    def kronecker(self, W: Array, column: Ints | None, *, free: bool, diagonal: bool = False) -> KroneckerSums | None:
        """See the protocol."""
        if not diagonal:
            return kronecker(self.kernels, self._block(), W, column, free=free)
        weight = None if column is None or self.weights is None else self.weights[:, int(column[0])]
        return csr_moments.kronecker(self, W, weight, free=free)

    def over(self, W: Array, task: Callable[[int, int, int, Array], None]) -> None:
        """Hand out the logits of `W (D, C)`, stretch by stretch: `task(lane, start, stop, logits (b, C))`, at most one
        at a time for each of the lanes.
        """
        lanes = self.kernels.lanes
        product = self.samples.weights(W)
        cuts = self.samples.cuts(W.shape[1], W.itemsize, lanes, LOGITS_BYTES)

        def work(lane: int) -> None:
            with np.errstate(all="ignore"):  # a diverging model overflows on its way out
                for start, stop in cuts[lane::lanes]:
                    task(lane, start, stop, product.logits(self.samples.part(start, stop)))

        self.kernels.share_out(lanes, work)

    def summed(self, W: Array, weight: Array | None) -> tuple[Floats, Array, Floats]:
        """Cost `(l,)`, gradient `(D, l K)` and hits `(l,)` of some models; `weight (N, l)` or None."""
        K, models = self.kernels.n_columns, W.shape[1] // self.kernels.n_columns
        costs, hits = np.zeros((2, self.kernels.lanes, models))
        totals = np.zeros((self.kernels.lanes, W.shape[1]))
        slopes: list[Array] = [None] * self.kernels.lanes

        def task(lane: int, start: int, stop: int, z: Array) -> None:
            for a, b in _points(stop - start, W.shape[1]):
                y, own = self.y[start + a : start + b], None if weight is None else weight[start + a : start + b]
                loss, hit, slope = self.kernels.loss.value(np, z[a:b].reshape(b - a, models, K), y)
                hits[lane] += np.count_nonzero(hit, axis=0)
                if own is not None:
                    loss, slope = np.where(own != 0, loss * own, 0), slope * own[:, :, None]
                costs[lane] += loss.sum(axis=0, dtype=np.float64)
                z[a:b] = slope.reshape(b - a, -1)
            totals[lane] += z.sum(axis=0, dtype=np.float64)
            part = self.samples.part(start, stop).T @ z
            if slopes[lane] is None:
                slopes[lane] = part
            else:
                slopes[lane] += part

        self.over(W, task)
        total = [slope for slope in slopes if slope is not None]
        for other in total[1:]:
            total[0] += other
        return costs.sum(axis=0), self.samples.gradient(total[0], totals.sum(axis=0)), hits.sum(axis=0)

    def _evaluated(self, W: Array, *, with_loss: bool) -> Floats:
        """Losses and hits `(2, l)` of some models."""
        K, models = self.kernels.n_columns, W.shape[1] // self.kernels.n_columns
        sums = np.zeros((self.kernels.lanes, 2, models))

        def task(lane: int, start: int, stop: int, z: Array) -> None:
            for a, b in _points(stop - start, W.shape[1]):
                rows = slice(start + a, start + b)
                loss, hit, _ = self.kernels.loss.value(np, z[a:b].reshape(b - a, models, K), self.y[rows])
                for number, values in enumerate((loss, hit) if with_loss else (None, hit)):
                    if values is not None:
                        wide = values.astype(np.float64)
                        mass = self.sample_weight
                        sums[lane, number] += wide.sum(axis=0) if mass is None else mass[rows] @ wide

        self.over(W, task)
        return np.asarray(sums.sum(axis=0))

    def _averaged(self) -> Floats:
        """Each row's weight averaged over the columns of the table `(N,)`."""
        return np.ones(self.n) if self.weights is None else self.weights.mean(axis=1, dtype=np.float64)

    def _block(self) -> DenseBlock:
        return DenseBlock(DenseBlocks(self.samples), self.y, self.weights, self.sample_weight)


def _points(rows: int, columns: int) -> list[tuple[int, int]]:
    """Stretches of rows whose logits are few enough for the arithmetic of the loss."""
    step = max(1, POINTS // columns)
    return [(a, min(a + step, rows)) for a in range(0, rows, step)]
