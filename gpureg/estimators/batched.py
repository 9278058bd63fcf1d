"""The models of a task as one batch: what `gpureg.fit` does with them, on any device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import Backend
from gpureg.config import FitConfig
from gpureg.errors import UsageError
from gpureg.estimators.arrays import HostArray
from gpureg.estimators.design import design_of
from gpureg.estimators.task import Looks, Task, backend_for, moved
from gpureg.estimators.telling import warn
from gpureg.fitting.assemble import Trained
from gpureg.fitting.folds import class_shares, normalised
from gpureg.fitting.memory import Sizes, cut, on_device
from gpureg.fitting.prepare import bytes_of_a_row, place
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.solvers.lbfgs.doubled import MOST_DOUBLE_BYTES, coarse, together
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Outcome, Problem, Start
from gpureg.types import Floats, Ints, ModelTable

TOO_LARGE = (
    "X has numbers that are too large to square. Scale the features first (sklearn.preprocessing.StandardScaler)."
)
NEEDS_LESS = "Use dtype='float32', fewer rows, or fewer values of C or folds at a time."


def in_a_batch(
    estimator: Any, task: Task, centre: HostArray | None, backend: Backend, looks: Looks, start: Start | None
) -> tuple[Floats, Ints]:
    """See `optimum.optimum`; about the `centre (F,)` of the features if there is an intercept, from a `start` about it,
    or from 0.
    """
    look = looks.about(centre)
    first = _fitted(estimator, task, centre, backend, _Way(look, start))
    found, short = first.outcome, coarse(first.outcome, estimator.max_iter)
    if len(short) and backend.dtype == "float32" and 8 * task.X.size <= MOST_DOUBLE_BYTES:
        some, at_last = task.take(short), Start(found.weights[short], found.steps[short])
        double = backend_for(estimator.device, some, "float64")
        later = _fitted(estimator, some, centre, double, _Way(look, at_last, finishing=True))
        config = _config(estimator, task, first.table, backend.dtype, free=centre is not None)
        found, _ = together(config, first.table, (found, first.history), [(short, later.outcome, later.history)])
    _tell(found)
    return moved(found.weights, centre, -1), np.maximum(found.steps, 1)


@dataclass(frozen=True)
class _Way:
    """How a task is solved: who `looks`, the `start` (None for weights of 0), and whether models are `finishing` that
    float32 has left there.
    """

    looks: Looks
    start: Start | None
    finishing: bool = False


def _fitted(
    estimator: Any,
    task: Task,
    centre: HostArray | None,
    backend: Backend,
    way: _Way,
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


def _tell(found: Outcome) -> None:
    """A warning if some models stopped short. Raises UsageError if some overflowed."""
    diverged = found.reasons.count("diverged")
    if diverged:
        raise UsageError(f"{diverged} of {len(found.reasons)} models overflowed: {TOO_LARGE}")
    for text in found.warnings:
        said = f"{text} (λ = 1 / (2 C Σ s_i): a larger λ is a smaller C; the solver's tolerance is tol².)"
        warn(said, ConvergenceWarning)
