"""The optimum of a task's models, by the shortest way there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import Backend
from gpureg.data.sparse import is_sparse
from gpureg.distributed.spread import Spread
from gpureg.errors import UsageError
from gpureg.estimators import alone, one_by_one
from gpureg.estimators.arrays import HostArray
from gpureg.estimators.batched import TOO_LARGE, in_a_batch
from gpureg.estimators.task import Looks, Task, backend_for, centre_of, moved
from gpureg.estimators.telling import warn
from gpureg.solvers.lbfgs.certificate import FOLD_TOLERANCE
from gpureg.solvers.lbfgs.single import MOST_WIDENED
from gpureg.solvers.problem import Start
from gpureg.types import Floats, Ints


def optimum(estimator: Any, task: Task, looks: Looks) -> tuple[Floats, Ints]:
    """The models' weights `(L, D, K)`, the bias last if there is one, and their iterations `(L,)`: at least 1, or 0, at
    the start, if none is allowed.

    scikit-learn's `C Σ s_i loss_i + ½ Σ w²` is, divided by C Σ s_i, `(1/n) Σ v_i loss_i + λ Σ w²` with weights
    v = s / mean(s) and `λ = 1 / (2 C Σ s_i)`. `tol` is on scikit-learn's scale, where it bounds a gradient; the gap to
    the optimum is proportional to its square, so the solver is asked for at most tol² nats.

    The short ways of few samples go in float64, whatever the type of X. Models that float32 can't bring there (its
    gradients are too coarse if a penalty is weak or features differ much in scale) are finished in float64, to the same
    tolerance or to the resolution of float32 in the objective.

    Warns with ConvergenceWarning if a model stopped short of that, and with GpuregWarning if the CPU took over from a
    device with too little memory; raises UsageError if the arithmetic overflowed.
    """
    centre = centre_of(task) if estimator.fit_intercept else None
    if centre is not None and not np.isfinite(centre).all():
        raise UsageError(f"The mean of a feature of X overflows: {TOO_LARGE}")
    start = None
    if task.start is not None:
        at = task.start[:, : task.X.shape[1] + (centre is not None)]
        start = Start(moved(at, centre, 1), np.zeros(len(at), np.int64))
    if estimator.max_iter == 0:
        return _unmoved(task, centre, start)
    backend = backend_for(estimator.device, task)
    if isinstance(task.X, Spread) or is_sparse(task.X):
        return in_a_batch(estimator, task, centre, backend, looks, start)
    short = _short(estimator.device, task, backend)
    if len(task.C) == 1:
        reached = _alone(estimator, task, centre, short, looks)
        if reached is not None and (reached.near or reached.steps >= estimator.max_iter):
            if not reached.near:
                warn(reached.short_of(float(estimator.tol)), ConvergenceWarning)
            return reached.weights[None], np.array([max(reached.steps, 1)])
        if reached is not None:
            start, backend = Start(moved(reached.weights[None], centre, 1), np.array([reached.steps])), short
    elif start is None:
        found = _one_by_one(estimator, task, centre, short, looks)
        if found is not None:
            return found
    return in_a_batch(estimator, task, centre, backend, looks, start)


def _short(device: str, task: Task, backend: Backend) -> Backend:
    """Where the short ways go: on the CPU in float64, whatever the samples' type, unless they are many."""
    logits = len(task.X) * task.loss.columns(task.classes)
    if (backend.device, backend.dtype) == ("cpu", "float32") and logits <= MOST_WIDENED:
        return backend_for(device, task, "float64")
    return backend


def _alone(
    estimator: Any, task: Task, centre: HostArray | None, backend: Backend, looks: Looks
) -> alone.Reached | None:
    """The task's one model by the short way, as far as that goes; None if it is not for it."""
    tolerance = float(estimator.tol) ** 2
    if not alone.worth_it(backend, tolerance, float(task.C[0]), task.X.shape, task.loss.columns(task.classes)):
        return None
    one = _with_weight(estimator, task, centre, None if task.weights is None else task.weights[:, int(task.column[0])])
    return alone.fit_alone(backend, one, looks.watch)


def _one_by_one(
    estimator: Any, task: Task, centre: HostArray | None, backend: Backend, looks: Looks
) -> tuple[Floats, Ints] | None:
    """The models of each column of weights one after the other, and those that do not get there so in a batch; None if
    a batch takes less time for all.
    """
    tolerance, K = float(estimator.tol) ** 2, task.loss.columns(task.classes)
    ways = [np.flatnonzero(task.column == column) for column in np.unique(task.column)]
    if not one_by_one.is_worth_it(backend, tolerance, task.C, task.X.shape, K, len(ways)):
        return None
    ways = [models[np.argsort(task.C[models], kind="stable")] for models in ways]
    paths = [partial(_path, estimator, task, centre, models) for models in ways]
    weights, steps = np.zeros((len(task.C), task.X.shape[1] + (centre is not None), K)), np.zeros(len(task.C), np.int64)
    near = np.zeros(len(task.C), bool)
    for models, found in zip(ways, one_by_one.fit_paths(backend, paths, task.X.size * K), strict=True):
        for model, reached in zip(models, found, strict=False):
            weights[model], steps[model], near[model] = reached.weights, reached.steps, reached.near
    short = np.flatnonzero(~near)
    if len(short):
        start = Start(moved(weights[short], centre, 1), steps[short])
        weights[short], steps[short] = in_a_batch(estimator, task.take(short), centre, backend, looks, start)
    return weights, np.maximum(steps, 1)


def _path(estimator: Any, task: Task, centre: HostArray | None, models: Ints) -> one_by_one.Path:
    """That of `models (C,)` of one column of weights, in rising order of C."""
    own = None if task.weights is None else task.weights[:, int(task.column[models[0]])]
    one = _with_weight(estimator, task, centre, own)
    if task.fold[models[0]] >= 0:
        one = replace(one, tolerance=FOLD_TOLERANCE * one.tolerance)
    return one_by_one.Path(one, task.C[models])


def _with_weight(estimator: Any, task: Task, centre: HostArray | None, weight: Floats | None) -> alone.Alone:
    """The first model of the task with a column of row weights `(n,)`, in float64; rows without weight are left out."""
    X, label = task.X, task.label
    if weight is not None and not weight.all():
        some = weight > 0.0
        X, label, weight = X[some], label[some], weight[some]
    return alone.Alone(
        X.astype(np.float64, copy=False),
        label,
        task.classes,
        task.loss,
        None if weight is None or (weight == 1.0).all() else weight,
        float(task.C[0]),
        None if centre is None else centre.astype(np.float64, copy=False),
        None if task.start is None else task.start[0, : task.X.shape[1] + (centre is not None)],
        float(estimator.tol) ** 2,
        int(estimator.max_iter),
    )


def _unmoved(task: Task, centre: HostArray | None, start: Start | None) -> tuple[Floats, Ints]:
    """Where the models begin, and no iterations."""
    shape = (len(task.C), task.X.shape[1] + (centre is not None), task.loss.columns(task.classes))
    warn("No iteration is allowed (max_iter=0): the weights are those of the start.", ConvergenceWarning)
    weights = np.zeros(shape) if start is None else start.weights
    return moved(weights, centre, -1), np.zeros(len(task.C), np.int64)
