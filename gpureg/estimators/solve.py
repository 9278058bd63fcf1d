"""From samples and values of C to fitted weights: one batch, one solver."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpureg.backend import Backend, choose_backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import UsageError
from gpureg.estimators.arrays import HostArray, cuda_index
from gpureg.estimators.inputs import Samples
from gpureg.fitting.folds import normalised
from gpureg.fitting.memory import Sizes, cut, on_device
from gpureg.fitting.prepare import place
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Outcome, Problem, Start
from gpureg.types import Floats, Ints, ModelTable

NEEDS_LESS = "Use dtype='float32', fewer rows, or fewer values of C or folds at a time."
PLAIN_WORK = 1 << 20  # multiply-adds of a pass below which the plain kernels' smaller overhead decides
DEVICE_WORK = 1 << 23  # and below which a GPU takes longer to be asked than the CPU to answer
MOST_DOUBLE_BYTES = 1 << 31  # of samples that are placed a second time, in float64
ROWS_AT_ONCE = 4096  # that are copied


@dataclass(frozen=True)
class Batch:
    """L models on the samples: `C (L,)`, `column (L,)` into `weights (N, F)`, the row weights as scikit-learn sums
    them (None: all 1); `fold (L,)` a model's fold, -1 for none. `start (L, K, F + 1)`: weights to begin at, or
    None."""

    C: Floats
    weights: Floats | None
    column: Ints
    fold: Ints
    start: Floats | None = None


@dataclass(frozen=True)
class Solution:
    """Fitted models: `coef (L, K, F)`, `intercept (L, K)` (0 where there is none), `n_iter (L,)` of at least 1."""

    coef: Floats
    intercept: Floats
    n_iter: Ints

    def parted(self, count: int) -> tuple[Solution, Solution]:
        """The first models, so many, and the others."""
        first, rest = slice(count), slice(count, None)
        return (
            Solution(self.coef[first], self.intercept[first], self.n_iter[first]),
            Solution(self.coef[rest], self.intercept[rest], self.n_iter[rest]),
        )


def solve(estimator: Any, samples: Samples, batch: Batch) -> Solution:
    """Fit the batch to its optimum with the estimator's tol, max_iter, fit_intercept and device.

    scikit-learn's `C Σ s_i loss_i + ½ Σ w²` is, divided by C Σ s_i, `(1/n) Σ v_i loss_i + λ Σ w²` with weights
    v = s / mean(s) and `λ = 1 / (2 C Σ s_i)`. `tol` is on scikit-learn's scale, where it bounds a gradient; the gap to
    the optimum goes with its square, and that is what is asked of the solver: at most tol² nats.

    What float32 can't bring there (its gradients are too coarse where a penalty is weak or features differ much in
    scale) is finished in float64, to the same tolerance or what float32 can tell apart in the objective.

    Warns with ConvergenceWarning if a model stopped short of that, and with GpuregWarning if the CPU took over from a
    device with too little memory; raises UsageError if the arithmetic overflowed.
    """
    centre = _centre(samples.X) if estimator.fit_intercept else None
    start = None
    if batch.start is not None:
        F = samples.X.shape[1] + (centre is not None)
        at = _moved(np.swapaxes(batch.start[:, :, :F], 1, 2), centre, 1)
        start = Start(at, np.zeros(len(at), np.int64))
    backend = _backend(estimator.device, samples, len(batch.C))
    found = _fitted(estimator, samples, batch, centre, backend, start)
    reasons = np.array(found.reasons)
    short = np.flatnonzero((reasons == "precision") & (found.steps < estimator.max_iter))
    if len(short) and backend.dtype == "float32" and 8 * samples.X.size <= MOST_DOUBLE_BYTES:
        some = replace(batch, C=batch.C[short], column=batch.column[short], fold=batch.fold[short])
        at_last = Start(found.weights[short], found.steps[short])
        backend = _backend(estimator.device, samples, len(short), "float64")
        later = _fitted(estimator, samples, some, centre, backend, at_last, resolution=float(np.finfo(np.float32).eps))
        found = _finished(found, short, later)
    return _solution(found, centre)


def _finished(first: Outcome, models: Ints, later: Outcome) -> Outcome:
    """With `models (B,)` as they were found later; the warnings are then those of the later ones."""
    weights, steps, reasons = first.weights.copy(), first.steps.copy(), list(first.reasons)
    weights[models], steps[models] = later.weights, later.steps
    for model, reason in zip(models.tolist(), later.reasons, strict=True):
        reasons[model] = reason
    return replace(first, weights=weights, steps=steps, reasons=tuple(reasons), warnings=later.warnings)


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


def _columns(X: HostArray, centre: HostArray | None, dtype: np.dtype[Any], order: Ints | None) -> HostArray:
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


def _fitted(
    estimator: Any,
    samples: Samples,
    batch: Batch,
    centre: HostArray | None,
    backend: Backend,
    start: Start | None,
    *,
    resolution: float | None = None,
) -> Outcome:
    """The batch's models on the backend, or on the CPU if its memory does not suffice, in as many stages as fit.

    `resolution`: see `Lbfgs`.
    """
    n, total = len(samples.X), np.full(len(batch.C), float(len(samples.X)))
    table = None
    if batch.weights is not None:
        total = batch.weights.sum(axis=0)[batch.column]
        table = np.stack([normalised(column, "a model") for column in batch.weights.T], axis=1)
    plain = ModelTable.plain(l2_of(batch.C, total), np.ones(len(total)))
    models = replace(plain, column=batch.column, fold=batch.fold)
    loss: Loss = Logistic() if samples.binary else Softmax()
    label = 1 - samples.label if samples.binary else samples.label  # a logistic model's class 0 is positive
    D = samples.X.shape[1] + (centre is not None)
    config = FitConfig(
        task=loss.name,
        solver="lbfgs",
        l2=tuple(models.l2.tolist()),
        dtype=backend.dtype,
        penalize_bias=centre is None,
        tol=max(float(estimator.tol) ** 2, np.finfo(float).tiny),
        max_iter=int(estimator.max_iter),
    )
    solver = Lbfgs(config, resolution=resolution, measures=False)

    def work(backend: Backend) -> Outcome:
        kernels = choose_kernels(backend, loss, len(samples.classes))
        sizes = Sizes(len(np.unique(solver.members(models))), n, 0, D, 0 if table is None else table.shape[1])
        least = solver.bytes_per_model(n, D, kernels.n_columns)  # one model at a time, however large
        blocks = cut(solver, kernels, models, sizes, max(config.memory, least))
        design = partial(_columns, samples.X, centre, np.dtype(backend.dtype))
        rows = place(kernels, design, label, table)
        problem = Problem(rows, None, {}, models, n, D, table is not None, start)
        return Stages(kernels, solver, Hooks()).train_all(problem, blocks).outcome

    return on_device(backend, work, NEEDS_LESS)


def _work(samples: Samples, models: int) -> int:
    """The multiply-adds of a pass over the data."""
    return samples.X.size * (1 if samples.binary else len(samples.classes)) * models


def _backend(device: str, samples: Samples, models: int, dtype: str | None = None) -> Backend:
    """The device that was asked for. `auto`: the GPU that the samples lie on or else the first, unless they are too few
    for a GPU to pay off.

    The fewest are fitted in float64 whatever their type: it costs nothing there, and float32 can't certify what it
    finds where features differ much in scale.
    """
    work = _work(samples, models)
    dtype = dtype or ("float64" if work < PLAIN_WORK else samples.X.dtype.name)
    if device == "auto" and work < DEVICE_WORK:
        return numpy_backend(dtype, why="few samples: a GPU would take longer", requested=device)
    return choose_backend(device, dtype, factorises=True, near=cuda_index(samples.home) or 0)


def _solution(found: Outcome, centre: HostArray | None) -> Solution:
    """The weights, and a warning if some stopped short. Raises UsageError if some overflowed."""
    diverged = found.reasons.count("diverged")
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
