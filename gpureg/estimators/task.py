"""`Task`: samples of which every class has some with weight, and the models that are fitted to them in one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import Backend, choose_backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.data.sparse import is_sparse
from gpureg.distributed.scaling import moments
from gpureg.distributed.spread import Spread
from gpureg.errors import UsageError
from gpureg.estimators import alone
from gpureg.estimators.arrays import Home, HostArray, cuda_index
from gpureg.estimators.design import design_of
from gpureg.estimators.inputs import mean_of
from gpureg.estimators.telling import warn
from gpureg.events import Event
from gpureg.fitting.assemble import Trained
from gpureg.fitting.folds import class_shares, normalised
from gpureg.fitting.memory import Sizes, cut, on_device
from gpureg.fitting.prepare import bytes_of_a_row, place
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Loss
from gpureg.solvers.lbfgs.doubled import MOST_DOUBLE_BYTES, coarse, together
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.lbfgs.watching import Watch
from gpureg.solvers.problem import Outcome, Problem, Start
from gpureg.types import Floats, Ints, ModelTable

TOO_LARGE = (
    "X has numbers that are too large to square. Scale the features first (sklearn.preprocessing.StandardScaler)."
)
NEEDS_LESS = "Use dtype='float32', fewer rows, or fewer values of C or folds at a time."
PLAIN_WORK = 1 << 20  # multiply-adds of a pass below which the plain kernels' smaller overhead decides
DEVICE_WORK = 1 << 23  # and below which starting a GPU takes longer than the work on the CPU
ROWS_AT_ONCE = 4096  # of a weighted mean


@dataclass(frozen=True)
class Task:
    """L models of one loss on n samples.

    `X (n, F)` on the host, an array or CSR, in the type of the arithmetic; `label (n,)` class indices of K `classes`;
    `C (L,)` and `column (L,)` into `weights (n, T)`, the row weights as scikit-learn sums them (None: all 1); `fold
    (L,)` a model's fold, -1 for none. `start (L, F + 1, K)`: weights to begin at, the last row an intercept's, or None.
    `home`: where the caller's samples lie. `mean (F,)`: that of all of them without weights, or None if it is not
    known.
    """

    X: Any
    label: Ints
    classes: int
    loss: Loss
    C: Floats
    weights: Floats | None
    column: Ints
    fold: Ints
    start: Floats | None
    home: Home
    mean: Floats | None = None

    @property
    def work(self) -> int:
        """The multiply-adds of a pass over the data."""
        return self.X.size * self.loss.columns(self.classes) * len(self.C)

    def take(self, models: Ints) -> Task:
        """The same samples for `models (A,)` alone."""
        start = None if self.start is None else self.start[models]
        return replace(self, C=self.C[models], column=self.column[models], fold=self.fold[models], start=start)


@dataclass(frozen=True)
class Looks:
    """The observers of a task: `observe` sees its events, `watch` the iterations of a single model."""

    observe: Callable[[Event], None]
    watch: Watch | None = None

    def about(self, centre: HostArray | None) -> Looks:
        """The same, for weights of features less their `centre`."""
        watch = self.watch
        if watch is None:
            return self
        return replace(
            self, watch=lambda iterations, weights: watch(iterations, lambda: _moved(weights()[None], centre, -1)[0])
        )


def optimum(estimator: Any, task: Task, looks: Looks) -> tuple[Floats, Ints]:
    """The models' weights `(L, D, K)`, the bias last if there is one, and their iterations `(L,)`: at least 1, or 0, at
    the start, if none is allowed.

    scikit-learn's `C Σ s_i loss_i + ½ Σ w²` is, divided by C Σ s_i, `(1/n) Σ v_i loss_i + λ Σ w²` with weights
    v = s / mean(s) and `λ = 1 / (2 C Σ s_i)`. `tol` is on scikit-learn's scale, where it bounds a gradient; the gap to
    the optimum is proportional to its square, so the solver is asked for at most tol² nats.

    Models that float32 can't bring there (its gradients are too coarse if a penalty is weak or features differ much in
    scale) are finished in float64, to the same tolerance or to the resolution of float32 in the objective.

    Warns with ConvergenceWarning if a model stopped short of that, and with GpuregWarning if the CPU took over from a
    device with too little memory; raises UsageError if the arithmetic overflowed.
    """
    centre = _centre(task) if estimator.fit_intercept else None
    if centre is not None and not np.isfinite(centre).all():
        raise UsageError(f"The mean of a feature of X overflows: {TOO_LARGE}")
    start = None
    if task.start is not None:
        at = task.start[:, : task.X.shape[1] + (centre is not None)]
        start = Start(_moved(at, centre, 1), np.zeros(len(at), np.int64))
    if estimator.max_iter == 0:
        return _unmoved(task, centre, start)
    backend = _backend(estimator.device, task)
    if len(task.C) == 1 and not isinstance(task.X, Spread) and not is_sparse(task.X):
        reached = _alone(estimator, task, centre, backend, looks)
        if reached is not None and (reached.near or reached.steps >= estimator.max_iter):
            if not reached.near:
                warn(reached.short_of(float(estimator.tol)), ConvergenceWarning)
            return reached.weights[None], np.array([max(reached.steps, 1)])
        if reached is not None:
            start = Start(_moved(reached.weights[None], centre, 1), np.array([reached.steps]))
    look = looks.about(centre)
    first = _fitted(estimator, task, centre, backend, Way(look, start))
    found, short = first.outcome, coarse(first.outcome, estimator.max_iter)
    if len(short) and backend.dtype == "float32" and 8 * task.X.size <= MOST_DOUBLE_BYTES:
        some, at_last = task.take(short), Start(found.weights[short], found.steps[short])
        double = _backend(estimator.device, some, "float64")
        later = _fitted(estimator, some, centre, double, Way(look, at_last, finishing=True))
        config = _config(estimator, task, first.table, backend.dtype, free=centre is not None)
        found, _ = together(config, first.table, (found, first.history), [(short, later.outcome, later.history)])
    _tell(found)
    return _moved(found.weights, centre, -1), np.maximum(found.steps, 1)


def _alone(
    estimator: Any, task: Task, centre: HostArray | None, backend: Backend, looks: Looks
) -> alone.Reached | None:
    """The task's one model by the short way, as far as that goes; None if it is not for it."""
    tolerance, C = float(estimator.tol) ** 2, float(task.C[0])
    if not alone.worth_it(backend, tolerance, C, task.X.shape, task.loss.columns(task.classes)):
        return None
    one = alone.Alone(
        task.X.astype(np.float64, copy=False),
        task.label,
        task.classes,
        task.loss,
        None if task.weights is None else task.weights[:, int(task.column[0])],
        C,
        None if centre is None else centre.astype(np.float64, copy=False),
        None if task.start is None else task.start[0, : task.X.shape[1] + (centre is not None)],
        tolerance,
        int(estimator.max_iter),
    )
    return alone.fit_alone(backend, one, looks.watch)


def _unmoved(task: Task, centre: HostArray | None, start: Start | None) -> tuple[Floats, Ints]:
    """Where the models begin, and no iterations."""
    shape = (len(task.C), task.X.shape[1] + (centre is not None), task.loss.columns(task.classes))
    warn("No iteration is allowed (max_iter=0): the weights are those of the start.", ConvergenceWarning)
    weights = np.zeros(shape) if start is None else start.weights
    return _moved(weights, centre, -1), np.zeros(len(task.C), np.int64)


@dataclass(frozen=True)
class Way:
    """How a task is solved: who `looks`, the `start` (None for weights of 0), and whether models are `finishing` that
    float32 has left there.
    """

    looks: Looks
    start: Start | None
    finishing: bool = False


def _centre(task: Task) -> HostArray:
    """About the weighted mean of the features `(F,)`, in X's type.

    If the intercept is free, any shift of the features is exact, and this one, made before X is rounded to the type
    of the arithmetic, keeps the digits that an offset would cost: float32 has three left at 1000 +- 1.
    """
    if isinstance(task.X, Spread):
        weight = None if task.weights is None else task.weights.mean(axis=1)
        return moments(task.X, weight).mean.astype(task.X.dtype)
    if is_sparse(task.X):  # not shifted: most of its entries are 0
        return np.zeros(task.X.shape[1], task.X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if task.weights is None:
            mean = mean_of(task.X) if task.mean is None else task.mean
            return mean.astype(task.X.dtype)
        weight = task.weights.mean(axis=1)
        parts = range(0, len(task.X), ROWS_AT_ONCE)
        total = sum(weight[at : at + ROWS_AT_ONCE] @ task.X[at : at + ROWS_AT_ONCE].astype(np.float64) for at in parts)
        return np.asarray(total / weight.sum()).astype(task.X.dtype)


def _moved(weights: Floats, centre: HostArray | None, sign: int) -> Floats:
    """Weights `(L, D, K)` for features less their centre (`sign` 1), or back from them (-1): only the bias moves."""
    if centre is None:
        return weights
    weights = weights.copy()
    weights[:, -1] += sign * np.einsum("f,lfk->lk", centre.astype(np.float64), weights[:, :-1])
    return weights


def _fitted(
    estimator: Any,
    task: Task,
    centre: HostArray | None,
    backend: Backend,
    way: Way,
) -> Trained:
    """The task's models on the backend, or on the CPU if its memory does not suffice, in as many stages as fit."""
    n, D = task.X.shape[0], task.X.shape[1] + (centre is not None)
    total, table = np.full(len(task.C), float(n)), None
    if task.weights is not None:
        total = task.weights.sum(axis=0)[task.column]
        table = np.stack([normalised(column, "a model") for column in task.weights.T], axis=1)
    models = replace(ModelTable.plain(l2_of(task.C, total), np.ones(len(total))), column=task.column, fold=task.fold)
    config = _config(estimator, task, models, backend.dtype, free=centre is not None)
    solver = Lbfgs(config, measures=False, watch=way.looks.watch)
    solver = solver.finishing() if way.finishing else solver

    def work(backend: Backend) -> Trained:
        kernels = choose_kernels(backend, task.loss, task.classes)
        sizes = Sizes(len(np.unique(solver.members(models))), n, 0, D, 0 if table is None else table.shape[1])
        sizes = replace(sizes, row_bytes=bytes_of_a_row(task.X, backend.dtype))
        least = solver.bytes_per_model(n, D, kernels.n_columns)  # one model at a time, however large
        blocks = cut(solver, kernels, models, sizes, max(config.memory, least))
        design = design_of(task.X, centre, np.dtype(backend.dtype))
        rows = place(kernels, design, task.label, table)
        shares = class_shares(task.label, table, task.classes)
        problem = Problem(rows, None, {}, models, n, D, table is not None, way.start, shares=shares)
        return Stages(kernels, solver, Hooks(way.looks.observe)).train_all(problem, blocks)

    return on_device(backend, work, NEEDS_LESS)


def _config(estimator: Any, task: Task, models: ModelTable, dtype: str, *, free: bool) -> FitConfig:
    """The configuration of the full-batch solver; `free` if there is an intercept."""
    return FitConfig(
        task=task.loss.name,
        solver="lbfgs",
        l2=tuple(models.l2.tolist()),
        dtype=dtype,
        penalize_bias=not free,
        tol=max(float(estimator.tol) ** 2, np.finfo(float).tiny),
        max_iter=int(estimator.max_iter),
    )


def _backend(device: str, task: Task, dtype: str | None = None) -> Backend:
    """The device that was asked for. `auto`: the GPU that holds the samples, else the first, unless the samples are too
    few for a GPU to pay off.

    The smallest data are fitted in float64 whatever their type: it costs nothing there, and float32 can't certify what
    it finds if features differ much in scale.
    """
    dtype = dtype or ("float64" if task.work < PLAIN_WORK else task.X.dtype.name)
    if isinstance(task.X, Spread):
        return numpy_backend(dtype, why="the rows lie on Dask's workers", requested=device)
    if device == "auto" and task.work < DEVICE_WORK:
        return numpy_backend(dtype, why="few samples: a GPU would take longer", requested=device)
    near, sparse = cuda_index(task.home) or 0, is_sparse(task.X)
    return choose_backend(device, dtype, factorises=True, near=near, sparse=sparse)


def _tell(found: Outcome) -> None:
    """A warning if some models stopped short. Raises UsageError if some overflowed."""
    diverged = found.reasons.count("diverged")
    if diverged:
        raise UsageError(f"{diverged} of {len(found.reasons)} models overflowed: {TOO_LARGE}")
    for text in found.warnings:
        said = f"{text} (λ = 1 / (2 C Σ s_i): a larger λ is a smaller C; the solver's tolerance is tol².)"
        warn(said, ConvergenceWarning)
