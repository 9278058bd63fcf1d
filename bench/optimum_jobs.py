"""The jobs of bench/optimum.py: data, scikit-learn's loops, and gpureg's batch to a given objective."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np

from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import load_dataset
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax
from gpureg.rows.dense import DenseRows
from gpureg.solvers.lbfgs.objective import l2_of
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Problem
from gpureg.types import ModelTable

NEVER = 1e-30  # a tolerance that is never met: what ends these runs is the objective


@dataclass(frozen=True)
class Data:
    """`X (n, F)`, `y (n,)` into K classes."""

    name: str
    X: np.ndarray
    y: np.ndarray
    classes: int


def mnist(n: int, dtype: str, name: str = "mnist") -> Data:
    """The first n images, pixels from -1 to 1."""
    data = load_dataset(name)
    return Data(name, (data.X_train[:n] / 127.5 - 1).astype(dtype), data.y_train[:n], 10)


def embeddings(n: int, dtype: str, features: int = 768, classes: int = 100) -> Data:
    """Synthetic embeddings: classes around centres, a common offset, and directions of falling variance."""
    random = np.random.default_rng(0)
    y = random.integers(0, classes, n)
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(features) / 20.0)
    X = random.normal(size=(n, features)) + 0.8 * random.normal(size=(classes, features))[y]
    turn, _ = np.linalg.qr(random.normal(size=(features, features)))
    X = (X * spectrum) @ turn + random.normal(size=features)
    return Data("embeddings", X.astype(dtype), y.astype(np.int64), classes)


def centre(data: Data) -> Data:
    """The same with its features' means at 0: what a user of scikit-learn can do for it."""
    X = data.X - data.X.mean(axis=0, dtype=np.float64).astype(data.X.dtype)
    return Data(data.name + ", centred", X, data.y, data.classes)


def objective(data: Data, coef: np.ndarray, intercept: np.ndarray, C: float) -> float:
    """`(1/n) Σ loss + λ Σ w²` in float64."""
    z = data.X.astype(np.float64) @ coef.astype(np.float64).T + intercept
    peak = z.max(axis=1)
    loss = np.log(np.exp(z - peak[:, None]).sum(axis=1)) + peak - z[np.arange(len(z)), data.y]
    return float(loss.mean() + l2_of(C, len(z)) * (coef.astype(np.float64) ** 2).sum())


def sklearn_loop(
    data: Data, Cs: np.ndarray, *, warm: bool, tol: float = 1e-4, max_iter: int = 100
) -> dict[str, object]:
    """One C after the other, ascending; `warm`: each starts where the last ended. Seconds and objectives."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(tol=tol, max_iter=max_iter, warm_start=warm)
    seconds, found = 0.0, []
    for C in Cs:
        model = model.set_params(C=C) if warm else LogisticRegression(C=C, tol=tol, max_iter=max_iter)
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(data.X, data.y)
        seconds += time.perf_counter() - begun
        found.append(objective(data, model.coef_, model.intercept_, C))
    return {"seconds": seconds, "objectives": found}


def batch(data: Data, Cs: np.ndarray, targets: list[float]) -> dict[str, object]:
    """All C along one path, each until its objective is at most its target. Seconds from host arrays to weights."""
    begun = time.perf_counter()
    dtype = str(data.X.dtype)
    kernels = choose_kernels(numpy_backend(dtype), Softmax(), data.classes)
    order = kernels.storage_order(data.y, None)
    D = np.ones((len(data.y), data.X.shape[1] + 1), dtype)
    D[:, :-1] = data.X if order is None else data.X[order]
    y = data.y if order is None else data.y[order]
    l2 = np.asarray(l2_of(Cs, len(data.y)))
    table = ModelTable.plain(l2, np.ones(len(l2)))
    problem = Problem(DenseRows.place(kernels, D, y, None, order), None, {}, table, len(y), D.shape[1])
    config = FitConfig(solver="lbfgs", penalize_bias=False, dtype=dtype, tol=NEVER, max_iter=5000)
    descent = Lbfgs(config, target=np.array(targets)).on(problem, kernels)
    state = descent.start()
    with kernels.steady():
        while not descent.done(state):
            for _ in descent.advance(state):
                pass
    seconds = time.perf_counter() - begun
    state = getattr(state, "run", state)  # of a path: the models' own
    weights = [state.finals[model] for model in range(len(l2))]
    found = [objective(data, W[:, :-1], W[:, -1], C) for W, C in zip(weights, Cs, strict=True)]
    result: dict[str, object] = {"seconds": seconds, "passes": state.passes, "iterations": state.iterations.tolist()}
    result |= {"passes_a_model": float(state.evaluated.mean())}
    result |= {"objectives": found, "worst_excess": float(np.max(np.array(found) - targets))}
    return result


def singles(data: Data, Cs: np.ndarray, targets: list[float]) -> dict[str, object]:
    """gpureg's own solver, one C after the other."""
    parts = [batch(data, Cs[i : i + 1], targets[i : i + 1]) for i in range(len(Cs))]
    return {"seconds": sum(float(part["seconds"]) for part in parts)}  # type: ignore[arg-type]
