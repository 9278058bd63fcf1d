"""The kernels' protocol.

A `Kernels` object is bound to a backend, a loss and a number of columns K. It owns everything that touches an array of
the backend; the trainer above it decides when, never how. Its twins (`reference` in the plain array API, `cpu`,
`cuda`) do the same arithmetic and are held together by parity tests.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpureg.backend import Backend
from gpureg.kernels.one_model import OneModel
from gpureg.losses import Loss
from gpureg.types import Array, Floats, Ints, RunShape, StepPlan


class Evaluation(Protocol):
    """Sums over the samples of an evaluation, once they are known."""

    def result(self) -> tuple[Floats, Floats]:
        """Wait: the loss `(M,)` in nats (zeros if it was not asked for) and the hits `(M,)`, weighted sums."""
        ...


@dataclass(frozen=True)
class Ready:
    """An evaluation that was made when it was asked for."""

    loss_sum: Floats
    hits: Floats

    def result(self) -> tuple[Floats, Floats]:
        """The sums."""
        return self.loss_sum, self.hits


class Block(Protocol):
    """N samples placed on the device by `Kernels.place`, in storage order; what a kernel takes."""

    @property
    def n(self) -> int:
        """The number of samples."""
        ...

    @property
    def X(self) -> Array:  # noqa: N802
        """The samples `(N, D)`, the bias column last."""
        ...

    @property
    def y(self) -> Array:
        """The class indices `(N,)`."""
        ...

    @property
    def weights(self) -> Array | None:
        """The row-weight table `(N, F)`, or None for ones."""
        ...

    @property
    def sample_weight(self) -> Array | None:
        """What a sample counts in an evaluation `(N,)`, or None for 1."""
        ...


class Stretches(Protocol):
    """Samples that are made when they are asked for, and that several threads ask for at once."""

    def lane(self, number: int) -> Any:
        """What thread `number`, from 0, asks for the samples `[start:stop]` `(b, D - 1)`, in rising order; they may be
        gone when it asks for the next.
        """
        ...


class Kernels(Protocol):
    """The arithmetic of L linear classifiers in one product. Shapes: `gpureg.types`."""

    @property
    def name(self) -> str:
        """The name of the twin."""
        ...

    @property
    def backend(self) -> Backend:
        """Where the arithmetic is done."""
        ...

    @property
    def loss(self) -> Loss:
        """The loss of the models."""
        ...

    @property
    def n_columns(self) -> int:
        """K, the columns of a model."""
        ...

    @property
    def stack_columns(self) -> int:
        """The product width above which stacking more weight snapshots gains nothing."""
        ...

    def storage_order(self, y: Ints, fold: Ints | None) -> Ints | None:
        """The order `(N,)` in which this twin stores samples, or None to keep them as given."""
        ...

    def place(
        self, X: Array, y: Ints, weights: Floats | None, order: Ints | None, sample_weight: Floats | None = None
    ) -> Block:
        """Put samples on the device: `X (N, D)` host array in the backend's dtype, bias column last; `y (N,)`; the
        row-weight table `weights (N, F)` that models are trained with, or None for ones; `sample_weight (N,)`, what a
        sample counts in an evaluation, or None for 1. All are already in storage order; `order` is that order, so that
        a plan may name samples by their own index.
        """
        ...

    @property
    def bare(self) -> bool:
        """Whether there is `place_bare`."""
        ...

    def place_bare(
        self, X: Array | Stretches, y: Ints, weights: Floats | None, sample_weight: Floats | None = None
    ) -> Block:
        """Samples for `cost_and_gradient` and `evaluate` alone: `X (N, D - 1)` on the host in the backend's dtype, in
        their own order and without the column of ones, or what is asked for stretches of them. All else as for `place`.
        """
        ...

    def subset(self, rows: Any, index: Ints) -> Block:
        """The samples `index` (their own indices, not storage's) of `rows`, for evaluation."""
        ...

    def with_samples(self, rows: Any, X: Array) -> Block:
        """The block with other samples `X (N, any)` on the device, in the same order: labels and weights stay."""
        ...

    def run_bytes(self, shape: RunShape) -> int | None:
        """Upper bound on the device memory used beyond the samples, in bytes; None if the solver's own estimate is
        complete.
        """
        ...

    def weights(self, host: Floats) -> Array:
        """Host weights `(D, C)` as weights on the device."""
        ...

    def to_host(self, array: Array) -> Floats:
        """An array of the device as float64 on the host; waits for it."""
        ...

    def read_later(self, array: Array) -> Callable[[], Floats]:
        """`to_host` whose result is asked for later. On a device the transfer begins now, and the result waits for what
        was queued before it, and for nothing that was queued since.
        """
        ...

    def select(self, W: Array, models: Ints) -> Array:
        """The columns of `models`: `(D, A*K)` -> `(D, len(models)*K)`."""
        ...

    def concat(self, parts: list[Array]) -> Array:
        """Weights side by side: `(D, sum of C)`."""
        ...

    def store(self, vectors: Array, slot: int, values: Array, models: npt.NDArray[np.bool_]) -> Array:
        """`vectors (A, S, P)` with `values (A, P)` at `slot` for the models that `models (A,)` marks; may overwrite
        its argument.
        """
        ...

    def steps(self, W: Array, rows: Any, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """Minibatch gradient descent; may overwrite W.

        Per step, with the batch's rows X (B, D), weights s and one-hot labels t:
        `Z = X W; R = s/B * (softmax(Z) - t); W -= lr * (X' R + 2 λ W)`.

        Returns the weights, the step losses `(steps, A)` on the device (`Σ s_i loss_i / B`, before the update, nats),
        and the snapshots that the plan asks for.
        """
        ...

    def evaluate(self, W: Array, rows: Any, *, with_loss: bool) -> tuple[Floats, Floats]:
        """`Σ m_i loss_i` in nats (zeros without `with_loss`) and `Σ m_i hit_i`, each `(L,)`, on the host; m the
        block's `sample_weight`.
        """
        ...

    def start_evaluation(self, W: Array, rows: Any, *, with_loss: bool, now: bool = False) -> Evaluation:
        """`evaluate` whose result is asked for later; with `now` it runs in the meantime, if the backend can do that.
        W must not be written to until then.
        """
        ...

    def overlaps(self, columns: int, step_rows: int, evaluation_rows: int) -> bool:
        """Whether evaluations `now` should run alongside the steps: a product of `columns`, over `step_rows` rows
        between two evaluations (forward and back) and over `evaluation_rows` rows in one.
        """
        ...

    def cost_and_gradient(self, W: Array, rows: Any, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """`Σ_i s_il loss_il` `(L,)` and its gradient `(D, C)`, on the device, as sums over row blocks, without a
        penalty and not divided by anything; and the number of hits `(L,)`, None if they are not counted in passing, as
        with row weights. `column` as in `StepPlan`.
        """
        ...

    def one_model(self, rows: Any, column: int | None, centre: Floats | None = None) -> OneModel | None:
        """One model with that `column` of the row-weight table (None: weights of 1), for a solver whose passes are so
        short that what surrounds the products decides; None if this twin has no such way, or not in its dtype. With a
        `centre (D - 1,)` the last column is left out: it is the bias's.
        """
        ...

    def steps_as_asked(self, features: int, batch: int) -> bool:
        """Whether the way of stepping that was named supports D features and batches of B; if not, the fused kernels
        are used.
        """
        ...

    @property
    def lanes(self) -> int:
        """The number of tasks that `share_out` runs at the same time."""
        ...

    def share_out(self, count: int, task: Callable[[int], None]) -> None:
        """Run `task(0) ... task(count - 1)`, which touch nothing in common, on the kernels' threads."""
        ...

    def steady(self) -> AbstractContextManager[None]:
        """A context for a loop that makes its own products between those of the kernels."""
        ...


class OneLane:
    """The members of `Kernels` that concern threads, and others that a twin without its own threads leaves as they
    are."""

    lanes = 1
    bare = False

    def place_bare(
        self, X: Array | Stretches, y: Ints, weights: Floats | None, sample_weight: Floats | None = None
    ) -> Block:
        """See the protocol: there is none."""
        raise NotImplementedError("bare samples")

    def one_model(self, rows: Any, column: int | None, centre: Floats | None = None) -> OneModel | None:
        """See the protocol: there is none."""
        return None

    def steps_as_asked(self, features: int, batch: int) -> bool:
        """See the protocol: there is one way."""
        return True

    def share_out(self, count: int, task: Callable[[int], None]) -> None:
        """See the protocol: one after the other."""
        for number in range(count):
            task(number)

    def steady(self) -> AbstractContextManager[None]:
        """See the protocol: nothing to hold."""
        return nullcontext()
