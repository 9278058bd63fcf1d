"""`CudaKernels`: the kernels' protocol on an NVIDIA GPU, in as few launches as CuPy allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gpureg.backend import Backend
from gpureg.kernels.cuda.memory import DEFAULT_BUDGET, Budget, run_bytes
from gpureg.kernels.cuda.ops import CupyOps, DeviceOps, ToDevice
from gpureg.kernels.cuda.pair_steps import PairSteps
from gpureg.kernels.cuda.pointwise import POINTWISE, Pointwise
from gpureg.kernels.cuda.steps import MinibatchSteps
from gpureg.kernels.cuda.sums import Sums
from gpureg.kernels.protocol import OneLane
from gpureg.losses import Loss
from gpureg.types import Array, Floats, Ints, RunShape, StepPlan


@dataclass(frozen=True)
class CudaRows:
    """Samples on the device: `X (N, D)` C-contiguous, `y (N,)` int32, row weights `(N, F)` or None."""

    X: Array
    y: Array
    weights: Array | None
    sample_weight: Array | None = None

    @property
    def n(self) -> int:
        """The number of samples."""
        return int(self.X.shape[0])


@dataclass(frozen=True)
class PendingSums:
    """An evaluation on the device's queue, and the way of its sums `(2, L)`, losses and hits, to the host."""

    sums: Callable[[], Floats]

    def result(self) -> tuple[Floats, Floats]:
        """The sums."""
        loss_sum, hits = self.sums()  # sync
        return loss_sum, hits


class CudaKernels(OneLane):
    """The CUDA twin of the kernels' protocol; see `gpureg.kernels.Kernels`.

    A minibatch step is three launches where no model has a penalty: the product into a buffer, the fused kernel with
    the learning rate in its scale, and the accumulating product; four with a penalty. Batches are gathered once per
    epoch, losses reduced once per epoch, and nothing waits for the device but `to_host` and `evaluate`. `memory`
    bounds the working memory in addition to the data, in bytes. `steps_by`: "pair" trains in two launches a step, if
    the models are narrow enough, and "auto" where that is faster. If there is too little memory, CuPy raises, and
    `Backend.in_use` says it in our words.
    """

    name = "cuda"
    implements = POINTWISE
    stack_columns = 256  # far above the width at which the product stops being bound by reading X

    def __init__(
        self,
        backend: Backend,
        loss: Loss,
        n_classes: int,
        *,
        memory: int | None = None,
        steps_by: str = "fused",
        ops: DeviceOps | None = None,
    ) -> None:
        self.backend, self.loss, self.n_columns = backend, loss, loss.columns(n_classes)
        self.budget = Budget(DEFAULT_BUDGET if memory is None else memory)
        self._ops: DeviceOps = CupyOps(backend) if ops is None else ops
        self._pointwise: Pointwise = self.implements[loss](self.n_columns, self._ops)
        self._dtype = np.dtype(backend.dtype)
        self._to_device = ToDevice(backend.from_host, self._dtype)
        self._minibatches = MinibatchSteps(self._ops, self._to_device, self._pointwise, self.budget)
        self._pair = PairSteps(self._ops, self._to_device, self.n_columns, self.budget)
        self._steps_by = steps_by
        self._ones: Array | None = None

    def storage_order(self, y: Ints, fold: Ints | None) -> Ints | None:
        """Samples stay as they are: a gather on the device costs the same in any order."""
        return None

    def place(
        self, X: Array, y: Ints, weights: Floats | None, order: Ints | None, sample_weight: Floats | None = None
    ) -> CudaRows:
        """See the protocol."""
        put = self._to_device
        table = None if weights is None else put.floats(weights)
        mass = None if sample_weight is None else self.backend.from_host(np.asarray(sample_weight, np.float64))
        return CudaRows(put.floats(X), put.ints(y), table, mass)

    def subset(self, rows: CudaRows, index: Ints) -> CudaRows:
        """See the protocol."""
        picked = self._to_device.indices(index)
        mass = None if rows.sample_weight is None else self._ops.take(rows.sample_weight, picked, 0)
        return CudaRows(self._ops.take(rows.X, picked, 0), self._ops.take(rows.y, picked, 0), None, mass)

    def with_samples(self, rows: CudaRows, X: Array) -> CudaRows:
        """See the protocol."""
        return replace(rows, X=X)

    def run_bytes(self, shape: RunShape) -> int | None:
        """See the protocol."""
        work = self._ops.eigen_workspace(shape.factorised) if shape.factorised else 0
        return work + run_bytes(shape, self.n_columns, self.stack_columns, self._dtype.itemsize, self.budget)

    def weights(self, host: Floats) -> Array:
        """See the protocol."""
        return self._to_device.floats(host)

    def to_host(self, array: Array) -> Floats:
        """See the protocol."""
        return np.asarray(self.backend.to_host(array), np.float64)  # sync

    def read_later(self, array: Array) -> Callable[[], Floats]:
        """See the protocol."""
        result = self._ops.read_later(array)
        return lambda: np.asarray(result(), np.float64)

    def select(self, W: Array, models: Ints) -> Array:
        """See the protocol."""
        K = self.n_columns
        columns = (np.asarray(models, np.int64)[:, None] * K + np.arange(K)).reshape(-1)
        return self._ops.take(W, self._to_device.indices(columns), 1)

    def concat(self, parts: list[Array]) -> Array:
        """See the protocol."""
        return self._ops.concat(parts)

    def store(self, vectors: Array, slot: int, values: Array, models: npt.NDArray[np.bool_]) -> Array:
        """See the protocol; in place."""
        xp, place = self.backend.xp, vectors[:, slot, :]
        place[...] = values if models.all() else xp.where(self.backend.from_host(models[:, None]), values, place)
        return vectors

    def steps(self, W: Array, rows: CudaRows, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        pair, other = self._pair, self._minibatches
        quick = self._steps_by == "auto" and pair.is_quick(plan.order.shape[1], *W.shape)
        run, idle = (pair, other) if pair.fits() and (quick or self._steps_by == "pair") else (other, pair)
        idle.forget()  # models stop, and the rest may be narrow enough for the pair
        return run.run(self._ops.contiguous(W), rows.X, rows.y, rows.weights, plan)

    def steps_as_asked(self, features: int, batch: int) -> bool:
        """See the protocol."""
        return self._steps_by != "pair" or self._pair.fits()

    def start_evaluation(self, W: Array, rows: CudaRows, *, with_loss: bool, now: bool = False) -> PendingSums:
        """See the protocol: put on the device's queue at once, brought back when the result is asked for.

        One product, one fused launch and one or two launches of partial sums per block of rows.
        """
        models, mass = W.shape[1] // self.n_columns, rows.sample_weight
        sums = Sums.of(self._ops, 2, rows.n, models)
        for block, logits in self._logits(W, rows):
            hit = self._ops.empty((logits.shape[0], models), np.bool_)
            loss = self._ops.empty(hit.shape, self._dtype) if with_loss else None
            self._pointwise.evaluate(self._pointwise.labels(rows.y[block], models), logits, hit, loss)
            weight = self._ones_of(models)[:, :1] if mass is None else mass[block][:, None]
            if loss is not None:
                sums.add(0, loss, weight)
            sums.add(1, hit, weight)  # counts are exact in float64
        return PendingSums(self.read_later(sums.total()))

    def overlaps(self, columns: int, step_rows: int, evaluation_rows: int) -> bool:
        """If an evaluation has a product to itself. Everything goes through one queue, but the host decides on a wide
        evaluation while the device does the next steps; narrow ones are stacked, ten to a product, and learning of
        their stops later would cost more steps than that saves.
        """
        return 2 * columns > self.stack_columns

    def evaluate(self, W: Array, rows: CudaRows, *, with_loss: bool) -> tuple[Floats, Floats]:
        """See the protocol; one transfer."""
        return self.start_evaluation(W, rows, with_loss=with_loss).result()

    def cost_and_gradient(self, W: Array, rows: CudaRows, column: Ints | None) -> tuple[Array, Array, None]:
        """See the protocol. The cost is summed in float64 whatever the weights' type."""
        ops, models = self._ops, W.shape[1] // self.n_columns
        picked = None if column is None else self._to_device.indices(column)
        ones, cost = self._ones_of(models), Sums.of(ops, 1, rows.n, models)
        gradient = ops.empty(W.shape, self._dtype)
        for block, logits in self._logits(W, rows):
            loss = ops.empty((logits.shape[0], models), self._dtype)
            unweighted = rows.weights is None or picked is None
            weight = ones if unweighted else ops.take(rows.weights[block], picked, 1)  # type: ignore[index]
            labels = self._pointwise.labels(rows.y[block], models)
            self._pointwise.gradient(labels, self._pointwise.scales(weight), logits, loss)
            cost.add(0, loss, ones[:, :1] if unweighted else weight)
            ops.matmul_transposed(rows.X[block], logits, gradient, beta=1.0 if block.start else 0.0)
        return cost.total()[0], gradient, None

    def _ones_of(self, models: int) -> Array:
        """`(1, models)` ones, kept from one pass to the next."""
        if self._ones is None or self._ones.shape[1] != models:
            self._ones = self._to_device.floats(np.ones((1, models)))
        return self._ones

    def _logits(self, W: Array, rows: CudaRows) -> Iterator[tuple[slice, Array]]:
        """`X W` by blocks of rows, in one buffer."""
        models = W.shape[1] // self.n_columns
        size = self.budget.even_block(rows.n, W.shape[1], models, self._dtype.itemsize)
        buffer = self._ops.empty((size, W.shape[1]), self._dtype)
        for start in range(0, rows.n, max(size, 1)):
            block = slice(start, min(start + size, rows.n))
            logits = buffer[: block.stop - start]
            self._ops.matmul(rows.X[block], W, logits)
            yield block, logits
