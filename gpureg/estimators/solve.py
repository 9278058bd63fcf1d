"""From samples and values of C to fitted weights: one batch, one solver."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import choose_backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import UsageError
from gpureg.estimators.arrays import cuda_index
from gpureg.estimators.inputs import Samples
from gpureg.folds import normalised
from gpureg.kernels import Kernels, choose_kernels
from gpureg.objective import l2_of
from gpureg.solvers.lbfgs import lbfgs_bytes_per_model, run_lbfgs
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import Floats, Ints, ModelTable

PLAIN_WORK = 1 << 20  # multiply-adds of a pass below which the plain kernels' smaller overhead decides
DEVICE_WORK = 1 << 23  # and below which a GPU takes longer to be asked than the CPU to answer


@dataclass(frozen=True)
class Batch:
    """L models on the samples: `C (L,)`, `column (L,)` into `weights (N, F)`, the row weights as scikit-learn sums
    them (None: all 1). `start (L, K, F + 1)`: weights to begin at, or None."""

    C: Floats
    weights: Floats | None
    column: Ints
    start: Floats | None = None


@dataclass(frozen=True)
class Solution:
    """Fitted models: `coef (L, K, F)`, `intercept (L, K)` (0 where there is none), `n_iter (L,)` of at least 1."""

    coef: Floats
    intercept: Floats
    n_iter: Ints


def solve(estimator: Any, samples: Samples, batch: Batch) -> Solution:
    """Fit the batch to its optimum with the estimator's tol, max_iter, fit_intercept and device.

    scikit-learn's `C Σ s_i loss_i + ½ Σ w²` is, divided by C Σ s_i, `(1/n) Σ v_i loss_i + λ Σ w²` with weights
    v = s / mean(s) and `λ = 1 / (2 C Σ s_i)`. `tol` is on scikit-learn's scale, where it bounds a gradient; the gap to
    the optimum goes with its square, and that is what is asked of the solver: at most tol² nats.

    Warns with ConvergenceWarning where a model stopped short of that; raises UsageError where the arithmetic
    overflowed.
    """
    free = bool(estimator.fit_intercept)
    total = np.full(len(batch.C), float(len(samples.X)))
    table = None
    if batch.weights is not None:
        total = batch.weights.sum(axis=0)[batch.column]
        table = np.stack([normalised(column, "a model") for column in batch.weights.T], axis=1)
    l2 = l2_of(batch.C, total)
    kernels = _kernels(estimator.device, samples, len(batch.C))
    dtype = np.dtype(kernels.backend.dtype)
    place = samples.label if len(samples.classes) > 2 else 1 - samples.label  # a logistic model's class 0 is positive
    order = kernels.storage_order(place, None)
    X = samples.X.astype(dtype, copy=False)
    if free:
        X = np.concatenate([X, np.ones((len(X), 1), dtype)], axis=1)
    if order is not None:
        X, place, table = X[order], place[order], None if table is None else table[order]
    train = kernels.place(X, place, table, order)
    models = ModelTable.plain(l2, np.ones(len(l2)))
    models = ModelTable(models.l2, models.lr, models.fold, models.seed, batch.column, models.stream)
    problem = Problem(train, None, {}, models, len(X), X.shape[1], table is not None)
    config = FitConfig(
        task=kernels.task,
        solver="lbfgs",
        l2=tuple(l2.tolist()),
        dtype=dtype.name,
        penalize_bias=not free,
        tol=max(float(estimator.tol) ** 2, np.finfo(float).tiny),
        max_iter=int(estimator.max_iter),
    )
    start = None if batch.start is None else np.swapaxes(batch.start[:, :, : X.shape[1]], 1, 2)
    return _join([_part(problem, kernels, config, start, models) for models in _chunks(problem, kernels, config)], free)


def _kernels(device: str, samples: Samples, models: int) -> Kernels:
    """Kernels for the device that was asked for. `auto`: the GPU that the samples lie on or else the first, unless
    they are so few that the CPU is done sooner.

    The fewest are fitted in float64 whatever their type: it costs nothing there, and float32 can't certify what it
    finds where features differ much in scale.
    """
    K = 1 if samples.binary else len(samples.classes)
    work = samples.X.size * K * models
    dtype = "float64" if work < PLAIN_WORK else samples.X.dtype.name
    if device == "auto" and work < DEVICE_WORK:
        backend = numpy_backend(dtype, why="few samples: a GPU would take longer", requested=device)
    else:
        index = cuda_index(samples.home)
        named = f"cuda:{index}" if device == "auto" and index is not None else device
        backend = choose_backend(named, dtype)
    which = "reference" if backend.name == "numpy" and work < PLAIN_WORK else "auto"
    return choose_kernels(backend, "logistic" if samples.binary else "softmax", len(samples.classes), which)


def _chunks(problem: Problem, kernels: Kernels, config: FitConfig) -> list[Ints]:
    """All models as one block, or as many as the memory budget asks for."""
    at_once = max(1, config.memory // lbfgs_bytes_per_model(problem.D, kernels.n_columns))
    L = len(problem.table)
    return np.array_split(np.arange(L), -(-L // at_once))


def _part(problem: Problem, kernels: Kernels, config: FitConfig, start: Floats | None, models: Ints) -> Outcome:
    part = Problem(problem.train, None, {}, problem.table.take(models), problem.n, problem.D, weighted=problem.weighted)
    silent: Callable[[object], None] = lambda event: None  # noqa: E731
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that overflow end as diverged, which is told
        outcome, _ = run_lbfgs(part, kernels, config, silent, start=None if start is None else start[models])
    return outcome


def _join(outcomes: list[Outcome], free: bool) -> Solution:
    """The parts' weights side by side, and one warning for all that stopped short."""
    reasons = [reason for outcome in outcomes for reason in outcome.reasons]
    if "diverged" in reasons:
        raise UsageError(
            f"{reasons.count('diverged')} of {len(reasons)} models overflowed: X has numbers too large to square. "
            "Scale the features first (sklearn.preprocessing.StandardScaler)."
        )
    for text in dict.fromkeys(text for outcome in outcomes for text in outcome.warnings):
        said = f"{text} (λ = 1 / (2 C Σ s_i): a larger λ is a smaller C; the solver's tolerance is tol².)"
        warnings.warn(said, ConvergenceWarning, stacklevel=4)
    W = np.swapaxes(np.concatenate([outcome.weights for outcome in outcomes]), 1, 2)  # (L, K, D)
    n_iter = np.maximum(np.concatenate([outcome.steps for outcome in outcomes]), 1)
    if free:
        return Solution(W[:, :, :-1], W[:, :, -1], n_iter)
    return Solution(W, np.zeros(W.shape[:2]), n_iter)
