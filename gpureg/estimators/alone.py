"""One model on few samples on the CPU: from the caller's own array to weights, with as little around it as possible.

The samples are not sorted, and copied only for the products of a step; the loops are those of `solvers.lbfgs.single`,
and the end is proved from their last pass. Few rows of many features are first fitted in their span. What is not proved
before the iterations are used up, and every other fit, takes the way of `batched`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gpureg.backend import Backend
from gpureg.estimators.span import Span
from gpureg.fitting.folds import normalised
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.cpu.one_model import WORTH_THREADS, NumpyOneModel, one_after_the_other
from gpureg.kernels.cpu.workers import Workers
from gpureg.losses import Loss
from gpureg.solvers.lbfgs.alone import HELD
from gpureg.solvers.lbfgs.begin import first_biases
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.metric import MOST_FACTORISED
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.proved import proved_bound
from gpureg.solvers.lbfgs.single import is_worth_it_alone, near_bytes, try_alone, try_briefly
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.solvers.lbfgs.watching import Watch
from gpureg.solvers.lbfgs.wide import MOST_ROWS
from gpureg.types import Floats, Ints

BLAS_THREADS = 1 << 13  # multiply-adds of a product below which a BLAS uses one thread anyway,
BLAS_FEATURES = 16  # and features below which it does so for a factor
FAR = 100.0  # standard deviations from 0 at which a feature's mean costs digits: then the samples are copied
PASSES = (10, 44)  # that the span replaces, with one column and with more
WIDE = 1 << 20  # elements of samples from which it does so with one column: below, a pass over them costs little
FAR_MORE = 8  # times the rows, the features from which it does so for several models
SOME_MORE, MOST_SPANNED = 2, 640  # the same for one that goes on in the span after other ways; and rows at most
FURTHER, LEAST_AIM = 1e-3, 1e-18  # of a tolerance at which the proof fails is the next; and the last, in nats
LEAST_TOLERANCE = 1e-15  # nats: what is smaller is left to the solver that takes one more step


Inner = tuple[Span, NumpyOneModel]


@dataclass(frozen=True)
class Alone:
    """One model: samples `X (n, F)` in float64, class indices `label (n,)` of `classes`, `weight (n,)` as scikit-learn
    sums them, or None for 1; C; the mean `centre (F,)` of the features if there is an intercept, else None; `start (D,
    K)` or None; the tolerance in nats and the maximum number of iterations.
    """

    X: Floats
    label: Ints
    classes: int
    loss: Loss
    weight: Floats | None
    C: float
    centre: Floats | None
    start: Floats | None
    tolerance: float
    max_iter: int

    @property
    def K(self) -> int:  # noqa: N802
        """The columns of the model."""
        return self.loss.columns(self.classes)


@dataclass(frozen=True)
class Reached:
    """The weights `(D, K)` of a model after `steps` iterations, a bound on their gap to the optimum, in nats, and
    whether that is `near` enough.
    """

    weights: Floats
    steps: int
    bound: float
    near: bool

    def short_of(self, tol: float) -> str:
        """A warning that the iterations did not suffice."""
        return (
            f"The model stopped after {self.steps} iterations, before its objective was proved to be within tol² "
            f"({tol**2:g} nats) of the optimum; it is within {self.bound:.2g} nats. Give it more iterations "
            "(max_iter), a larger tol, or a smaller C."
        )


def worth_it(backend: Backend, tolerance: float, C: float, shape: tuple[int, int], K: int) -> bool:
    """Whether a model of K columns on samples of a shape `(n, F)` goes this way. If there is too little memory it
    does not, and the other way says what it needs.
    """
    here = (backend.device, backend.dtype) == ("cpu", "float64")
    n, F = shape
    if not (here and tolerance >= LEAST_TOLERANCE and np.isfinite(C) and is_worth_it_alone(n, F + 1, K)):
        return False
    free = backend.free_memory() if n * F * K >= WORTH_THREADS else None  # to ask takes as long as a small fit's loop
    held = 8 * (n * (2 * F + 4 * K) + 3 * HELD * (F + 1) * K + 3 * min(F + 1, MOST_FACTORISED) ** 2)
    return free is None or held + near_bytes(n, F + 1, K) <= free


def fit_alone(backend: Backend, task: Alone, watch: Watch | None) -> Reached | None:
    """As far as it goes; None if nothing is finite."""
    with making(backend, task) as make:
        return Way.of(task, make).run(watch)


@contextmanager
def making(backend: Backend, task: Alone) -> Iterator[Callable[..., NumpyOneModel]]:
    """What makes the models of a task, within the block: with threads and without the BLAS's own where that pays."""
    make: Callable[..., NumpyOneModel] = partial(NumpyOneModel, lanes=1, share=one_after_the_other)
    steady: AbstractContextManager[None] = nullcontext()
    if task.X.size * task.K >= WORTH_THREADS:
        kernels = choose_kernels(backend, task.loss, task.classes)
        make, steady = partial(NumpyOneModel, lanes=kernels.lanes, share=kernels.share_out), kernels.steady()
    elif task.X.size * task.K >= BLAS_THREADS or task.X.shape[1] >= BLAS_FEATURES:
        steady = Workers(1).single()
    with steady, np.errstate(all="ignore"):
        yield make


@dataclass(frozen=True)
class Way:
    """The goal of a task, whose point is about `moved (F,)` and the goal's own centre; `total` is the sum of its
    weights, and `inner` the span of few samples with the model there. `later` makes that, if it is the next thing to
    try where steps in the features take too long.
    """

    task: Alone
    goal: Goal
    model: NumpyOneModel
    total: float
    moved: Floats | None
    inner: Inner | None
    later: Callable[[], Inner | None] | None

    @classmethod
    def of(cls, task: Alone, make: Callable[..., NumpyOneModel], models: int = 1) -> Way:
        """On the samples as they are or, if some feature is far from 0, on a copy less their mean; for a number of
        `models`.
        """
        n = len(task.label)
        weight = None if task.weight is None else normalised(task.weight, "a model")
        total = float(n) if task.weight is None else float(task.weight.sum())
        model = make(task.loss, task.K, task.X, task.label, weight, task.centre)
        X, moved = task.X, None
        if task.centre is not None and model.is_far(FAR):
            X, moved = task.X - task.centre, task.centre
            model = make(task.loss, task.K, X, task.label, weight, np.zeros_like(moved))
        goal = Goal(
            model,
            task.loss,
            n,
            task.K,
            float(l2_of(task.C, total)),
            model.centre,
            task.tolerance,
            float(np.finfo(float).eps),
        )

        def inner() -> Inner | None:
            span = Span.of(X, model.centre)
            if span is None:
                return None
            origin = None if model.centre is None else np.zeros(span.rows.shape[1])
            return span, make(task.loss, task.K, span.rows, task.label, weight, origin)

        worth = is_worth_a_span(task, models)
        later = inner if not worth and models == 1 and may_need_a_span(task) else None
        return cls(task, goal, model, total, moved, inner() if worth else None, later)

    def at(self, C: float, start: Floats | None) -> Way:
        """The same samples with another C and start."""
        return replace(
            self,
            task=replace(self.task, C=C, start=start),
            goal=replace(self.goal, l2=float(l2_of(C, self.total))),
        )

    def run(self, watch: Watch | None) -> Reached | None:
        """To the end. A point whose proof fails, as it may if the tolerance is large, is not the end."""
        task, goal = self.task, self.goal
        W, inner, aim, best = self._begin(), self.inner, goal.tolerance, None
        trials = Trials(goal, 0, None if watch is None else partial(self._told, watch, lambda at: at))
        if self.later is not None:
            try_briefly(trials, W, task.max_iter, products_worth_a_span(task))
            if not trials.met and trials.iterations < task.max_iter:
                W, inner = W if trials.best is None else trials.best.W, self.later()
                best, trials = trials.best, trials.again(goal, trials.iterations)
        if inner is not None:
            there, before = self._through(*inner, W, trials.before, watch)
            W, trials = self._nearer(there, W, best), trials.again(goal, before)
        while True:
            if trials.best is None:
                try_alone(trials, W, task.max_iter - trials.before, Hessians())
            reached = self._reached(trials)
            if reached is None or reached.near or trials.best is None or not trials.met or aim <= LEAST_AIM:
                return reached
            W, aim = trials.best.W, max(FURTHER * aim, LEAST_AIM)
            trials = trials.again(replace(goal, tolerance=aim), trials.iterations)

    def _nearer(self, there: Floats, W: Floats, best: Trial | None) -> Floats:
        """The point from the span; or W, where steps in the features ended, if the objective of that, `best`, is lower:
        rows that all but depend on each other are not known in their span.
        """
        return there if best is None or self.goal.at(there).objective <= best.objective else W

    def _reached(self, trials: Trials) -> Reached | None:
        """The best point and what is proved of it; None if it is not finite."""
        goal, best = self.goal, trials.best
        if best is None or not np.isfinite(best.objective):
            return None
        if trials.last is not best or not trials.met:
            goal.at(best.W)  # the proof is made where the model was evaluated last; there may have been a step since
        bound = min(proved_bound(goal, self.model, best), best.objective)  # no loss is below 0
        near = bound <= max(goal.tolerance, goal.resolution * abs(best.objective))
        return Reached(self.outside(best.W), trials.iterations, bound, near)

    def _through(
        self, span: Span, model: NumpyOneModel, W: Floats, before: int, watch: Watch | None
    ) -> tuple[Floats, int]:
        """The optimum in the span, as a point, and the iterations that led there."""
        goal = replace(self.goal, model=model, centre=model.centre)
        trials = Trials(goal, before, None if watch is None else partial(self._told, watch, span.outside))
        try_alone(trials, span.inside(W), self.task.max_iter - before, Hessians())
        best = trials.best
        return (W, before) if best is None else (span.outside(best.W), trials.iterations)

    def outside(self, V: Floats) -> Floats:
        """The weights of a point `(D, K)`."""
        W = self.goal.outside(V)
        if self.moved is not None:
            W[:, -1] -= W[:, :-1] @ self.moved
        if self.task.loss.shift_invariant and self.task.centre is not None:
            W[:, -1] -= W[:, -1].mean()
        return W.T

    def _begin(self) -> Floats:
        """The point to begin at."""
        task = self.task
        if task.start is not None:
            W = np.array(task.start.T, np.float64, order="C")
            if self.moved is not None:
                W[:, -1] += W[:, :-1] @ self.moved
            return self.goal.inside(W)
        W = np.zeros((task.K, task.X.shape[1] + (task.centre is not None)))
        if task.centre is not None:
            counts = np.bincount(task.label, task.weight, task.classes)
            own = first_biases(task.loss, counts / counts.sum(), self.goal.l2)
            W[:, -1] = 0.0 if own is None else own
        return W

    def _told(self, watch: Watch, whole: Callable[[Floats], Floats], iterations: int, best: Trial, met: bool) -> None:
        watch(iterations, lambda: self.outside(whole(best.W)))


def may_need_a_span(task: Alone) -> bool:
    """Whether the span may be the shorter way for one model, where steps in the features take many products."""
    n, F = task.X.shape
    return task.K == 1 and n <= MOST_SPANNED and SOME_MORE * n <= F


def products_worth_a_span(task: Alone) -> int:
    """How many take as long as the span does (measured)."""
    n, F = task.X.shape
    return int(n * (1 / 3 + 450 / F))


def is_worth_a_span(task: Alone, models: int) -> bool:
    """Whether few samples of many features have a span that costs less than it saves a number of models."""
    (n, F), K = task.X.shape, task.K
    if n >= F or n > MOST_ROWS or (K == 1 and n * F < WIDE and (models == 1 or FAR_MORE * n > F)):
        return False
    return n < 4 * PASSES[K > 1] * (2 + K) * models
