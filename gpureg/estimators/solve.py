"""From samples and values of C to fitted weights: one batch, one solver."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import choose_backend, device_kept, numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import UsageError
from gpureg.estimators.arrays import HostArray, cuda_index
from gpureg.estimators.inputs import Samples
from gpureg.fitting.folds import normalised
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.losses import Logistic, Softmax
from gpureg.rows.dense import DenseRows
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.solver import LbfgsSolver, lbfgs_bytes_per_model
from gpureg.solvers.problem import Problem
from gpureg.types import Floats, Ints, ModelTable

PLAIN_WORK = 1 << 20  # multiply-adds of a pass below which the plain kernels' smaller overhead decides
DEVICE_WORK = 1 << 23  # and below which a GPU takes longer to be asked than the CPU to answer
MOST_DOUBLE_BYTES = 1 << 31  # of samples that are placed a second time, in float64
ROWS_AT_ONCE = 4096  # that are copied


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


@dataclass(frozen=True)
class _Found:
    """What the solver found: `weights (L, D, K)`, `steps (L,)`, `reasons (L,)` for stopping, warnings."""

    weights: Floats
    steps: Ints
    reasons: HostArray
    warnings: tuple[str, ...]

    def finished(self, models: Ints, later: _Found) -> _Found:
        """With `models (B,)` as they were found later; the warnings are then those of the later ones."""
        weights, steps, reasons = self.weights.copy(), self.steps.copy(), self.reasons.copy()
        weights[models], steps[models], reasons[models] = later.weights, later.steps, later.reasons
        return _Found(weights, steps, reasons, later.warnings)


@device_kept()
def solve(estimator: Any, samples: Samples, batch: Batch) -> Solution:
    """Fit the batch to its optimum with the estimator's tol, max_iter, fit_intercept and device.

    scikit-learn's `C Σ s_i loss_i + ½ Σ w²` is, divided by C Σ s_i, `(1/n) Σ v_i loss_i + λ Σ w²` with weights
    v = s / mean(s) and `λ = 1 / (2 C Σ s_i)`. `tol` is on scikit-learn's scale, where it bounds a gradient; the gap to
    the optimum goes with its square, and that is what is asked of the solver: at most tol² nats.

    What float32 can't bring there (its gradients are too coarse where a penalty is weak or features differ much in
    scale) is finished in float64, to the same tolerance or what float32 can tell apart in the objective.

    Warns with ConvergenceWarning where a model stopped short of that; raises UsageError where the arithmetic
    overflowed.
    """
    centre = _centre(samples.X) if estimator.fit_intercept else None
    problem, kernels, config = _placed(estimator, samples, batch, centre)
    start = None if batch.start is None else _moved(np.swapaxes(batch.start[:, :, : problem.D], 1, 2), centre, 1)
    found = _run(problem, kernels, config, start)
    short = np.flatnonzero((found.reasons == "max_epochs") & (found.steps < config.max_iter))
    if len(short) and config.dtype == "float32" and 8 * samples.X.size <= MOST_DOUBLE_BYTES:
        del problem, kernels
        some = replace(batch, C=batch.C[short], column=batch.column[short])
        problem, kernels, config = _placed(estimator, samples, some, centre, "float64")
        found = found.finished(short, _run(problem, kernels, config, found.weights[short], found.steps[short]))
    return _solution(found, centre)


def _centre(X: HostArray) -> HostArray:
    """About the mean of the features `(F,)`, in X's type.

    Where the intercept is free any shift of the features is exact, and this one, made before X is rounded to the
    type of the arithmetic, keeps the digits that an offset would cost: float32 has three left at 1000 +- 1.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return X.mean(axis=0, dtype=np.float64).astype(X.dtype)


def _moved(weights: Floats, centre: HostArray | None, sign: int) -> Floats:
    """Weights `(L, D, K)` for features less their centre (`sign` 1), or back from them (-1): only the bias moves."""
    if centre is None:
        return weights
    weights = weights.copy()
    weights[:, -1] += sign * np.einsum("f,lfk->lk", centre.astype(np.float64), weights[:, :-1])
    return weights


def _columns(X: HostArray, order: Ints | None, centre: HostArray | None, dtype: np.dtype[Any]) -> HostArray:
    """X as it is placed: in storage order, and with a centre less that and a column of ones after it."""
    if centre is None:
        return (X if order is None else X[order]).astype(dtype, copy=False)
    D = np.ones((len(X), X.shape[1] + 1), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(X), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            D[rows, :-1] = X[rows] if order is None else X[order[rows]]
            D[rows, :-1] -= centre
    return D


def _placed(
    estimator: Any, samples: Samples, batch: Batch, centre: HostArray | None, dtype: str | None = None
) -> tuple[Problem, Kernels, FitConfig]:
    """The batch's problem, samples and weights on the device; in `dtype`, or what suits their number."""
    total = np.full(len(batch.C), float(len(samples.X)))
    table = None
    if batch.weights is not None:
        total = batch.weights.sum(axis=0)[batch.column]
        table = np.stack([normalised(column, "a model") for column in batch.weights.T], axis=1)
    l2 = l2_of(batch.C, total)
    kernels = _kernels(estimator.device, samples, len(batch.C), dtype)
    own = np.dtype(kernels.backend.dtype)
    place = samples.label if len(samples.classes) > 2 else 1 - samples.label  # a logistic model's class 0 is positive
    order = kernels.storage_order(place, None)
    X = _columns(samples.X, order, centre, own)
    if order is not None:
        place, table = place[order], None if table is None else table[order]
    train = DenseRows.place(kernels, X, place, table, order)
    models = ModelTable.plain(l2, np.ones(len(l2)))
    models = ModelTable(models.l2, models.lr, models.fold, models.seed, batch.column, models.stream)
    config = FitConfig(
        task=kernels.loss.name,
        solver="lbfgs",
        l2=tuple(l2.tolist()),
        dtype=own.name,
        penalize_bias=centre is None,
        tol=max(float(estimator.tol) ** 2, np.finfo(float).tiny),
        max_iter=int(estimator.max_iter),
    )
    return Problem(train, None, {}, models, len(X), X.shape[1], table is not None), kernels, config


def _kernels(device: str, samples: Samples, models: int, dtype: str | None) -> Kernels:
    """Kernels for the device that was asked for. `auto`: the GPU that the samples lie on or else the first, unless
    they are so few that the CPU is done sooner.

    The fewest are fitted in float64 whatever their type: it costs nothing there, and float32 can't certify what it
    finds where features differ much in scale.
    """
    K = 1 if samples.binary else len(samples.classes)
    work = samples.X.size * K * models
    dtype = dtype or ("float64" if work < PLAIN_WORK else samples.X.dtype.name)
    if device == "auto" and work < DEVICE_WORK:
        backend = numpy_backend(dtype, why="few samples: a GPU would take longer", requested=device)
    else:
        index = cuda_index(samples.home)
        named = f"cuda:{index}" if device == "auto" and index is not None else device
        backend = choose_backend(named, dtype, factorises=True)
    which = "reference" if backend.name == "numpy" and work < PLAIN_WORK else "auto"
    return choose_kernels(backend, Logistic() if samples.binary else Softmax(), len(samples.classes), which)


def _chunks(problem: Problem, kernels: Kernels, config: FitConfig) -> list[Ints]:
    """All models as one block, or as many as the memory budget asks for."""
    at_once = max(1, config.memory // lbfgs_bytes_per_model(problem.D, kernels.n_columns))
    L = len(problem.table)
    return np.array_split(np.arange(L), -(-L // at_once))


def _run(
    problem: Problem, kernels: Kernels, config: FitConfig, start: Floats | None, begun: Ints | None = None
) -> _Found:
    """All models, in as many parts as the memory budget asks for; `start (L, D, K)`.

    `begun (L,)`: float32 brought them to `start` in so many iterations; float64 is to bring them as far as float32
    could tell.
    """
    resolution = None if begun is None else float(np.finfo(np.float32).eps)
    parts = []
    for models in _chunks(problem, kernels, config):
        part = replace(problem, table=problem.table.take(models))
        solver = LbfgsSolver(part, kernels, config, resolution=resolution)
        at, taken = None if start is None else start[models], None if begun is None else begun[models]
        state = solver.start(at, taken)
        for _ in solver.run(state):
            pass
        parts.append(solver.finish(state)[0])
    texts = tuple(dict.fromkeys(text for outcome in parts for text in outcome.warnings))
    weights = np.concatenate([outcome.weights for outcome in parts])
    steps, reasons = (np.concatenate([getattr(outcome, name) for outcome in parts]) for name in ("steps", "reasons"))
    return _Found(weights, steps, reasons, texts)


def _solution(found: _Found, centre: HostArray | None) -> Solution:
    """The weights, and a warning where some stopped short. Raises UsageError where some overflowed."""
    diverged = int((found.reasons == "diverged").sum())
    if diverged:
        raise UsageError(
            f"{diverged} of {len(found.reasons)} models overflowed: X has numbers too large to square. "
            "Scale the features first (sklearn.preprocessing.StandardScaler)."
        )
    for text in found.warnings:
        said = f"{text} (λ = 1 / (2 C Σ s_i): a larger λ is a smaller C; the solver's tolerance is tol².)"
        warnings.warn(said, ConvergenceWarning, stacklevel=4)
    W = np.swapaxes(_moved(found.weights, centre, -1), 1, 2)  # (L, K, D)
    n_iter = np.maximum(found.steps, 1)
    if centre is not None:
        return Solution(W[:, :, :-1], W[:, :, -1], n_iter)
    return Solution(W, np.zeros(W.shape[:2]), n_iter)
