"""Problems for the full-batch solver, placed by hand, and their solution by other means."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from gpureg.backend import Backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.fitting.stages import Hooks, Stages
from gpureg.history import History
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.losses import LOSSES
from gpureg.rows.dense import DenseRows
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Outcome, Problem, Start
from gpureg.types import ModelTable

# Newton from the start, L-BFGS alone, and L-BFGS that hands over after a few iterations
WAYS = {
    "newton": Hessians(tiny_weights=10**9, tiny_product=np.inf),
    "alone": Hessians(tiny_weights=0, middling_weights=0),
    "whitened": Hessians(tiny_weights=0, fewest=5, weights_per_iteration=10**9),
}


def place(
    X: np.ndarray,
    y: np.ndarray,
    l2: list[float],
    task: str = "softmax",
    *,
    weights: np.ndarray | None = None,
    column: list[int] | None = None,
    backend: Backend | None = None,
    which: str = "auto",
    classes: int | None = None,
) -> tuple[Problem, Kernels]:
    """Rows `X (N, F)` with a column of ones, weights `(N,)` or `(N, T)` (brought to mean 1), models by λ and column."""
    backend = backend or numpy_backend("float64")
    kernels = choose_kernels(backend, LOSSES[task], classes or int(y.max()) + 1, which)
    D = np.concatenate([X, np.ones((len(X), 1))], axis=1).astype(backend.dtype)
    order = kernels.storage_order(y, None)
    order = np.arange(len(y)) if order is None else order
    if weights is not None:
        weights = weights.reshape(len(y), -1)
        weights = (weights / weights.mean(axis=0))[order]
    rows = DenseRows.place(kernels, D[order], y[order], weights, order)
    table = ModelTable.plain(np.array(l2, float), np.ones(len(l2)))
    if column is not None:
        table = replace(table, column=np.array(column, np.int64))
    return Problem(rows, None, {}, table, len(y), D.shape[1], weights is not None), kernels


def config(
    problem: Problem, kernels: Kernels, *, free: bool = True, tol: float = 1e-12, max_iter: int = 500
) -> FitConfig:
    """A configuration of the full-batch solver for the problem."""
    return FitConfig(
        task=kernels.loss.name,
        solver="lbfgs",
        dtype=kernels.backend.dtype,
        penalize_bias=not free,
        tol=tol,
        max_iter=max_iter,
    )


def solve(
    problem: Problem,
    kernels: Kernels,
    *,
    free: bool = True,
    tol: float = 1e-12,
    max_iter: int = 500,
    start: np.ndarray | None = None,
    hessians: Hessians | None = None,
    hooks: Hooks | None = None,
    alone: bool = False,
) -> tuple[Outcome, History]:
    """Run the solver through the loop that every solver goes through; `alone`: a single model by its own loop."""
    made = config(problem, kernels, free=free, tol=tol, max_iter=max_iter)
    if start is not None:
        problem = replace(problem, start=Start(start, np.zeros(len(start), np.int64)))
    solver = Lbfgs(made, hessians=hessians or Hessians(), alone=alone)
    trained = Stages(kernels, solver, hooks or Hooks()).train(problem, np.arange(len(problem.table)))
    return trained.outcome, trained.history


def probabilities(X: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Softmax of `X (N, F)` under `W (F + 1, K)`; for one column, of (z, 0): the positive class first."""
    z = X @ W[:-1] + W[-1]
    z = np.concatenate([z, np.zeros_like(z)], axis=1) if z.shape[1] == 1 else z
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def by_sklearn(X: np.ndarray, y: np.ndarray, l2: float, weights: np.ndarray | None = None) -> LogisticRegression:
    """scikit-learn's Newton solution at the C that belongs to λ."""
    total = len(y) if weights is None else weights.sum()
    model = LogisticRegression(C=1 / (2 * l2 * total), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last step may be lost in rounding
        return model.fit(X, y, sample_weight=weights)


def objective(
    X: np.ndarray, y: np.ndarray, W: np.ndarray, l2: float, *, free: bool, weights: np.ndarray | None = None
) -> float:
    """J in plain NumPy, for `W (F + 1, K)`; weights of mean 1."""
    z = X @ W[:-1] + W[-1]
    z = np.concatenate([z, np.zeros_like(z)], axis=1) if z.shape[1] == 1 else z
    peak = z.max(axis=1)
    loss = np.log(np.exp(z - peak[:, None]).sum(axis=1)) + peak - z[np.arange(len(y)), y]
    weights = np.ones(len(y)) if weights is None else weights
    return float((weights * loss).mean() + l2 * ((W[:-1] if free else W) ** 2).sum())
