"""The NumPy twin: class-major logits, buffers reused, every core on its own models or rows.

What it does differently from the reference, most gain first: samples are stored sorted by class, so that a sample's own
logit and the first-on-a-tie rule are slices and not gathers; row tiles that fit the cache go to threads with a
single-threaded BLAS each; logits are class-major, so max and sum run along the long axis; nothing is allocated in the
loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gpureg.backend import Backend
from gpureg.kernels.cpu.evaluation import TiledEvaluation
from gpureg.kernels.cpu.one_model import NumpyOneModel
from gpureg.kernels.cpu.rows import Chosen, NumpyRows, runs_of, stretches, tiles_of
from gpureg.kernels.cpu.steps import BatchStep, LogisticStep, SoftmaxStep
from gpureg.kernels.cpu.tiles import LogisticTile, SoftmaxTile, TileLoss, padded
from gpureg.kernels.cpu.workers import Workers
from gpureg.kernels.lines import Kept, Line
from gpureg.kernels.protocol import Evaluation, Stretches
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.types import Array, Floats, Ints, RunShape, StepPlan

SPLIT_COLUMNS = 40  # at this width or above, a thread for each share of the models beats one thread for all
WORTH_THREADS = 2  # tiles per thread above which the threads are worth starting
WIDE_COLUMNS = 320  # at this width or above, evaluating alongside the steps gains nothing


class NumpyKernels:
    """The NumPy twin of the kernels' protocol; see `gpureg.kernels.Kernels`."""

    name = "fused"
    bare = True
    stack_columns = 200

    implements: Mapping[Loss, tuple[type[BatchStep], type[TileLoss]]] = MappingProxyType(
        {
            Softmax(): (SoftmaxStep, SoftmaxTile),
            Logistic(): (LogisticStep, LogisticTile),
        }
    )

    def __init__(self, backend: Backend, loss: Loss, n_classes: int) -> None:
        self.backend, self.loss, self.n_columns = backend, loss, loss.columns(n_classes)
        self._step, self._tile = self.implements[loss]
        self.dtype = np.dtype(backend.dtype)
        self.workers = Workers()

    def storage_order(self, y: Ints, fold: Ints | None) -> Ints | None:
        """Sorted by fold, then class: a fold's held-out rows and a class's rows are each one slice."""
        key = y if fold is None else fold * (int(y.max(initial=0)) + 1) + y
        small = int(key.max(initial=0)) < 1 << 16  # NumPy sorts such numbers by their digits
        return np.argsort(key.astype(np.uint16) if small else key, kind="stable")

    def place(
        self, X: Array, y: Ints, weights: Floats | None, order: Ints | None, sample_weight: Floats | None = None
    ) -> NumpyRows:
        """See the protocol."""
        rank = None
        if order is not None:
            rank = np.empty(len(order), np.intp)
            rank[order] = np.arange(len(order))
        table = None if weights is None else np.ascontiguousarray(weights, self.dtype)
        mass = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        return NumpyRows(np.asarray(X, self.dtype), np.asarray(y), table, rank, runs_of(np.asarray(y)), mass)

    def place_bare(
        self, X: Array | Stretches, y: Ints, weights: Floats | None, sample_weight: Floats | None = None
    ) -> NumpyRows:
        """See the protocol."""
        table = None if weights is None else np.ascontiguousarray(weights, self.dtype)
        mass = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        return NumpyRows(stretches(X), np.asarray(y), table, None, None, mass)

    def subset(self, rows: NumpyRows, index: Ints) -> NumpyRows:
        """See the protocol; a view if the samples lie together (a fold of the first fold assignment), else a
        copy. Bare ones are gathered tile by tile."""
        if rows.runs is None:
            index, own = np.sort(index), rows.sample_weight
            X = Chosen(rows.lane(0), index)
            return NumpyRows(X, rows.y[index], None, None, None, None if own is None else own[index])
        place = np.sort(index if rows.rank is None else rows.rank[index])
        if len(place) and place[-1] - place[0] + 1 == len(place):
            part: slice | Ints = slice(place[0], place[-1] + 1)
        else:
            part = place[np.argsort(rows.y[place], kind="stable")]
        y, mass = rows.y[part], None if rows.sample_weight is None else rows.sample_weight[part]
        return NumpyRows(rows.X[part], y, None, None, runs_of(y), mass)

    def weights(self, host: Floats) -> Array:
        """See the protocol."""
        return np.array(host, self.dtype, order="C")

    def to_host(self, array: Array) -> Floats:
        """See the protocol."""
        return np.asarray(array, np.float64)

    def read_later(self, array: Array) -> Callable[[], Floats]:
        """See the protocol: read at once."""
        return lambda: self.to_host(array)

    def select(self, W: Array, models: Ints) -> Array:
        """See the protocol."""
        split = W.reshape(W.shape[0], -1, self.n_columns)
        return np.ascontiguousarray(split[:, models]).reshape(W.shape[0], -1)

    def concat(self, parts: list[Array]) -> Array:
        """See the protocol."""
        return np.concatenate(parts, axis=1)

    def store(self, vectors: Array, slot: int, values: Array, models: npt.NDArray[np.bool_]) -> Array:
        """See the protocol; in place."""
        np.copyto(vectors[:, slot], values, where=models[:, None])
        return vectors

    def steps(self, W: Array, rows: NumpyRows, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol. Models are independent, so a wide batch is split among the threads for the whole run."""
        order = plan.order if rows.rank is None else rows.rank[plan.order]
        models, K = len(plan.lr), self.n_columns
        losses = np.empty((len(order), models), self.dtype)
        copies = [np.empty_like(W) for _ in plan.snapshot_after]
        split = self.workers.count > 1 and models > 1 and models * K >= SPLIT_COLUMNS and not plan.beside_evaluation
        parts = np.array_split(np.arange(models), self.workers.count if split else 1)

        def work(worker: int) -> None:
            mine = parts[worker]
            if len(mine) == 0:
                return
            block = slice(mine[0] * K, (mine[-1] + 1) * K)
            own = np.ascontiguousarray(W[:, block]) if split else W
            step = self._step(K, rows, plan, order, mine, own)
            taken = iter(copies)
            with np.errstate(all="ignore"):  # a diverging model overflows before it leaves; it is reported as diverged
                for number in range(len(order)):
                    step.run(number)
                    if number in plan.snapshot_after:
                        next(taken)[:, block] = own
                losses[:, mine[0] : mine[-1] + 1] = step.losses()
            if split:
                W[:, block] = own

        if split:
            self.workers.run(work)
        else:
            with self.workers.single():
                work(0)
        return W, losses, copies

    def with_samples(self, rows: NumpyRows, X: Array) -> NumpyRows:
        """See the protocol."""
        return replace(rows, X=X)

    def run_bytes(self, shape: RunShape) -> int | None:
        """See the protocol: the models' work arrays are the whole of it."""
        return None

    def overlaps(self, columns: int, step_rows: int, evaluation_rows: int) -> bool:
        """If evaluating is more work than stepping, one thread steps while the others evaluate."""
        return self.workers.count > 1 and columns < WIDE_COLUMNS and evaluation_rows >= step_rows

    def start_evaluation(self, W: Array, rows: NumpyRows, *, with_loss: bool, now: bool = False) -> Evaluation:
        """See the protocol."""
        evaluation = TiledEvaluation(self.workers, self._tile, self.n_columns, W, rows, with_loss)
        return evaluation.start() if now else evaluation

    def evaluate(self, W: Array, rows: NumpyRows, *, with_loss: bool) -> tuple[Floats, Floats]:
        """See the protocol."""
        return self.start_evaluation(W, rows, with_loss=with_loss).result()

    def cost_and_gradient(self, W: Array, rows: NumpyRows, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """See the protocol."""
        columns = padded(W)
        return self._sums(W.shape[::-1], rows, column, lambda tile, X, *_: tile.logits(columns, X))

    def keeping(self, W: Array, rows: NumpyRows, column: Ints | None) -> Kept:
        """See `lines.LogitKernels`."""
        columns = padded(W)
        kept = [np.empty((self.n_columns, rows.n), self.dtype) for _ in range(W.shape[1] // self.n_columns)]

        def logits(tile: TileLoss, X: Array, start: int, stop: int) -> Array:
            z = tile.logits(columns, X)
            for own, at in zip(z, kept, strict=True):
                at[:, start:stop] = own
            return z

        return *self._sums(W.shape[::-1], rows, column, logits), tuple(map(Line.of, kept))

    def along(self, lines: tuple[Line, ...], rows: NumpyRows, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """See `lines.LogitKernels`."""
        shape = len(lines) * self.n_columns, rows.X.shape[1]
        return self._sums(shape, rows, column, lambda tile, X, start, stop: tile.along(lines, start, stop))

    def _sums(
        self,
        shape: tuple[int, ...],
        rows: NumpyRows,
        column: Ints | None,
        logits: Callable[[TileLoss, Array, int, int], Array],
    ) -> tuple[Array, Array, Array | None]:
        """Costs, gradients, whose transpose is of this `shape (C, D)`, and hits, at the `logits` of a tile and its
        rows, from one to another. Each thread adds up its own tiles; the threads' sums are added in order.
        """
        models, lanes = shape[0] // self.n_columns, self.workers.count
        size = rows.tile_of_pass(shape[1], self.dtype.itemsize, lanes)
        tiles = tiles_of(rows, size)
        count = lanes if len(tiles) >= WORTH_THREADS * lanes else 1
        shares = [len(tiles) * worker // count for worker in range(count + 1)]  # together: a file is read on
        weighted = rows.weights is not None and column is not None
        costs, hits, slopes = *np.zeros((2, count, models)), np.zeros((count, *shape), self.dtype)

        def work(worker: int) -> None:
            tile, samples = self._tile(models, self.n_columns, size, self.dtype), rows.lane(worker)
            sums, out = (costs[worker], hits[worker], slopes[worker]), np.empty((tile.width, shape[1]), self.dtype)
            with np.errstate(all="ignore"):
                for start, stop, labels in tiles[shares[worker] : shares[worker + 1]]:
                    weight = None
                    if rows.weights is not None and column is not None:
                        weight = rows.weights[start:stop][:, column].T
                    X = samples[start:stop]
                    tile.gradient(logits(tile, X, start, stop), X, labels, weight, sums, out)

        if count == 1:
            with self.workers.single():
                work(0)
        else:
            self.workers.run(work)
        slope = np.ascontiguousarray(slopes.sum(axis=0).T)
        return costs.sum(axis=0), slope, None if weighted else hits.sum(axis=0)

    def one_model(self, rows: NumpyRows, column: int | None, centre: Floats | None = None) -> NumpyOneModel | None:
        """See the protocol; of a copy in float64, if the samples are in float32."""
        weight = None if rows.weights is None or column is None else rows.weights[:, column].astype(np.float64)
        X = (rows.X if centre is None else rows.X[:, :-1]).astype(np.float64, copy=False)
        return NumpyOneModel(self.loss, self.n_columns, X, rows.y, weight, centre, self.lanes, self.share_out)

    def steps_as_asked(self, features: int, batch: int) -> bool:
        """See the protocol: there is one way."""
        return True

    @property
    def lanes(self) -> int:
        """See the protocol."""
        return self.workers.count

    def share_out(self, count: int, task: Callable[[int], None]) -> None:
        """See the protocol: thread t takes the tasks t, t + lanes, ..."""
        if count < 2:
            for number in range(count):
                task(number)
            return

        def work(worker: int) -> None:
            with np.errstate(all="ignore"):  # a thread has its own; numbers that overflow are reported by the caller
                for number in range(worker, count, self.workers.count):
                    task(number)

        self.workers.run(work)

    def steady(self) -> AbstractContextManager[None]:
        """See the protocol: BLAS threads are kept idle; after a product they busy-wait and steal cores from the kernels
        (measured on 2 cores: 5.4 s with them, 3.3 s without).
        """
        return self.workers.single()
