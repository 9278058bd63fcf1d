"""The parts of bench/optimum.py that go through the public door: paths, cross-validations, and a client's loop.

Each side stops by itself. gpureg's tolerance is the loosest of `TOLERANCES` at which no objective is above the peer's
by more than 1e-6 (found before the rounds, not timed); "to the optimum" is the tolerance 1e-6, where nothing is gained
by stopping early.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from optimum_jobs import Data, centre, embeddings, mnist, objective, sklearn_loop
from timing import say

import gpureg
from gpureg.data import Dataset
from gpureg.solvers.lbfgs.objective import l2_of

PATH_PARTS = ("path-16", "path-48", "path-96", "path-1000", "path-mnist", "cv-mnist", "cv-vectors", "probes")
TOLERANCES = tuple(float(f"{10.0**-tenths:.2g}") for tenths in np.arange(10, 71, 2) / 10)  # 0.1 to 1e-7, five a decade
EXCESS = 1e-6
Rounds = Callable[[dict[str, Callable[[], dict[str, Any]]], int, str], list[dict[str, Any]]]


def path_parts(part: str, quick: bool, dtype: str, rounds: int, rounds_of: Rounds) -> dict[str, Any]:
    """One part, at full or small size."""
    if part.startswith("cv-"):
        return cv_part(part, quick, dtype, rounds, rounds_of)
    if part == "probes":
        data = centre(embeddings(1000 if quick else 8000, dtype, 384, 30))
        data = Data("embeddings, standardised", data.X / data.X.std(axis=0), data.y, data.classes)
        return against(data, np.logspace(-6, 4, 5 if quick else 41), torch_loop, "PyTorch, cold", rounds, rounds_of)
    if part == "path-mnist":
        data, count = mnist(2000 if quick else 20000, dtype), 96
    elif part == "path-1000":
        data, count = embeddings(3000 if quick else 20000, dtype, 512, 1000), 16
    else:
        data, count = embeddings(3000 if quick else 50000, dtype), int(part.removeprefix("path-"))
    Cs = np.logspace(-6, 2, min(count, 8) if quick else count)
    return against(centre(data), Cs, warm_loop, "scikit-learn, warm start", rounds, rounds_of)


def warm_loop(data: Data, Cs: np.ndarray) -> dict[str, object]:
    """scikit-learn's loop, each C from the last one's weights."""
    return sklearn_loop(data, Cs, warm=True)


def fit_path(data: Data, Cs: np.ndarray, tol: float, device: str = "cpu") -> dict[str, Any]:
    """`gpureg.fit` of all C, from host arrays to its result."""
    none = slice(0, 0)
    own = Dataset(data.name, data.X, data.y, data.X[none], data.y[none], tuple(range(data.classes)))
    l2 = np.asarray(l2_of(Cs, len(data.y))).tolist()
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gpureg.fit(
            own,
            l2=l2,
            solver="lbfgs",
            scale="none",
            penalize_bias=False,
            dtype=str(data.X.dtype),
            tol=tol,
            device=device,
            strict_device=True,
        )
    seconds = time.perf_counter() - begun
    weights = zip(found.model.coef, found.model.intercept, Cs, strict=True)
    iterations = [model.steps for model in found.models]
    return {
        "seconds": seconds,
        "objectives": [objective(data, coef, intercept, C) for coef, intercept, C in weights],
        "iterations_a_model": float(np.mean(iterations)),
    }


def loosest(fit: Callable[[float], dict[str, Any]], targets: np.ndarray) -> float:
    """The loosest tolerance at which every objective that `fit` finds is at most its target, by bisection."""
    low, high = 0, len(TOLERANCES) - 1
    while low < high:
        middle = (low + high) // 2
        say(f"tolerance {TOLERANCES[middle]:g}?")
        if (np.array(fit(TOLERANCES[middle])["objectives"]) <= targets).all():
            high = middle
        else:
            low = middle + 1
    return TOLERANCES[low]


def against(
    data: Data,
    Cs: np.ndarray,
    peer: Callable[[Data, np.ndarray], dict[str, Any]],
    name: str,
    rounds: int,
    rounds_of: Rounds,
) -> dict[str, Any]:
    """A path against a peer's loop, in turn."""
    say(f"{data.name}: {name}'s objectives")
    first = peer(data, Cs)
    targets = np.array(first["objectives"]) + EXCESS
    tol = loosest(lambda tol: fit_path(data, Cs, tol), targets)
    print(f"{data.name}, {len(data.y):,} x {data.X.shape[1]}, {data.classes} classes, {len(Cs)} C, tolerance {tol:g}")
    again = iter((first,))  # the peer's run that was just made is the first round's
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda: next(again, None) or peer(data, Cs),
        "gpureg.fit, to its objectives": lambda: fit_path(data, Cs, tol),
        "gpureg.fit, to the optimum": lambda: fit_path(data, Cs, EXCESS),
    }
    rows = rounds_of(jobs, rounds, "gpureg.fit, to its objectives")
    worst = float((np.array(fit_path(data, Cs, tol)["objectives"]) - targets + EXCESS).max())
    return {"tolerance": tol, "worst_excess": worst, "rows": rows}


def torch_loop(data: Data, Cs: np.ndarray) -> dict[str, Any]:
    """A client's loop, with torchgeo-bench's settings: for each C a new linear layer, PyTorch's L-BFGS on the whole
    set.
    """
    import torch

    torch.manual_seed(0)
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    begun, weights = time.perf_counter(), []
    for C in Cs:
        layer = torch.nn.Linear(X.shape[1], data.classes, dtype=X.dtype)
        optimiser = torch.optim.LBFGS(
            layer.parameters(),
            lr=0.1,
            max_iter=1000,
            history_size=10,
            tolerance_grad=1e-7,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )
        l2 = float(l2_of(C, len(y)))

        def closure(layer: Any = layer, optimiser: Any = optimiser, l2: float = l2) -> Any:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(layer(X), y) + l2 * (layer.weight**2).sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        weights.append((layer.weight.detach().numpy(), layer.bias.detach().numpy()))
    seconds = time.perf_counter() - begun
    found = [objective(data, coef, bias, C) for (coef, bias), C in zip(weights, Cs, strict=True)]
    return {"seconds": seconds, "objectives": found}


def cv_part(part: str, quick: bool, dtype: str, rounds: int, rounds_of: Rounds) -> dict[str, Any]:
    """Both classes of cross-validation, each at its own defaults but for max_iter."""
    from sklearn.linear_model import LogisticRegressionCV

    if part == "cv-mnist":
        data, Cs = centre(mnist(1000 if quick else 5000, dtype)), np.logspace(-5, 1, 4 if quick else 10)
    else:
        data = centre(embeddings(2000 if quick else 20000, dtype, 512, 100))
        Cs = np.logspace(-6, 2, 4 if quick else 16)
    print(f"{data.name}, {len(data.y):,} x {data.X.shape[1]}, {data.classes} classes, {len(Cs)} C, 5 folds")

    def once(make: Callable[[], Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make().fit(data.X, data.y)
        seconds = time.perf_counter() - begun
        C = float(np.ravel(model.C_)[0])
        return {"seconds": seconds, "C": C, "objective": objective(data, model.coef_, model.intercept_, C)}

    options: dict[str, Any] = {"Cs": Cs, "cv": 5, "scoring": "neg_log_loss", "max_iter": 1000}
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "scikit-learn's LogisticRegressionCV": lambda: once(lambda: LogisticRegressionCV(**options)),
        "gpureg, tol 1e-3": lambda: once(lambda: gpureg.LogisticRegressionCV(tol=1e-3, device="cpu", **options)),
        "gpureg, tol 1e-4": lambda: once(lambda: gpureg.LogisticRegressionCV(tol=1e-4, device="cpu", **options)),
    }
    return {"rows": rounds_of(jobs, rounds, "gpureg, tol 1e-3")}
