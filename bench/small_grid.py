"""Small and wide fits: `gpureg.LogisticRegression` compared with scikit-learn's, a grid of sizes.

    python bench/small_grid.py [--rounds 5] [--write] [--quick] [--cells 100x4x2,1000x300x2]

Samples lie around random centres, float64; objectives are means, with the penalty. `--spread` scales the centres: at
0.3 classes overlap; at 1 they are far apart if there are many features, and scikit-learn's default stops after an
iteration or two. Three figures a size, medians of the rounds' ratios, all of them scikit-learn's time over gpureg's:

    default    both at their defaults: scikit-learn stops short of the optimum, gpureg within 1e-12 nats
    reaching   scikit-learn's lbfgs at its loosest tol whose objective is gpureg's (to 1e-12), gpureg at its default
    equal      scikit-learn's default, gpureg at its loosest tol whose objective is at most that plus 1e-6
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from timing import busy, say, write

import gpureg

TOLERANCES = tuple(10.0**-exponent for exponent in range(1, 11))
WIDE = ((60, 2000, 3), (300, 1000, 2), (100, 20000, 2))
EXCESS, SAME = 1e-6, 1e-12
SPREADS = (0.3, 1.0)
PAUSE = 0.15  # s: the threads of the last fit's BLAS wait busily for some 100 ms, and take half of a core from the next
FIGURES = ("default", "reaching", "equal")


def cells(*, quick: bool) -> list[tuple[int, int, int]]:
    """Samples, features, classes: 33 small sizes (100 classes only where there are samples for them), three wide."""
    sizes = [(n, p) for n in (100, 1000, 10000) for p in (4, 30, 300)]
    small = [(n, p, K) for n, p in sizes for K in (2, 3, 10, 100) if K < 100 or n >= 1000]
    return (small[:4] if quick else small) + list(WIDE)


def blobs(n: int, p: int, K: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Every class has a sample."""
    random = np.random.default_rng(0)
    y = np.concatenate([np.arange(K), random.integers(0, K, n - K)])
    return random.normal(size=(n, p)) + spread * random.normal(size=(K, p))[y], y


def objective(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """`(1/n) Σ loss + Σ w² / (2 n)`, C = 1."""
    logp = model.predict_log_proba(X)
    own = logp[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(-own.mean() + (model.coef_**2).sum() / (2 * len(y)))


def timed(make: Callable[[], Any], X: np.ndarray, y: np.ndarray) -> tuple[float, Any]:
    """Seconds of a fit, at least 20 ms of fits in all, and the model."""
    count, begun = 0, time.perf_counter()
    while not count or time.perf_counter() - begun < 0.02:
        model = make().fit(X, y)
        count += 1
    return (time.perf_counter() - begun) / count, model


def loosest(make: Callable[[float], Any], target: float, X: np.ndarray, y: np.ndarray) -> float:
    """The loosest tolerance at which a fit's objective is at most `target`, else the tightest."""
    for tol in TOLERANCES:
        if objective(make(tol).fit(X, y), X, y) <= target:
            return tol
    return TOLERANCES[-1]


def ours(tol: float = 1e-6) -> Any:
    """gpureg's estimator on the CPU."""
    return gpureg.LogisticRegression(device="cpu", tol=tol)


def theirs(tol: float) -> Any:
    """scikit-learn's lbfgs, to its end."""
    return LogisticRegression(tol=tol, max_iter=10000)


def cell(n: int, p: int, K: int, spread: float, rounds: int) -> dict[str, Any]:
    """One size."""
    X, y = blobs(n, p, K, spread)
    reaching = loosest(theirs, objective(ours().fit(X, y), X, y) + SAME, X, y)
    equal = loosest(ours, objective(LogisticRegression().fit(X, y), X, y) + EXCESS, X, y)
    makes = {
        "gpureg": ours,
        "looser": lambda: ours(equal),
        "default": LogisticRegression,
        "reaching": lambda: theirs(reaching),
    }
    seconds: dict[str, list[float]] = {name: [] for name in makes}
    for _ in range(rounds):
        for name, make in makes.items():
            time.sleep(PAUSE)
            seconds[name].append(timed(make, X, y)[0])
    pairs = {"default": ("default", "gpureg"), "reaching": ("reaching", "gpureg"), "equal": ("default", "looser")}
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
        for name, (over, under) in pairs.items()
    }
    row: dict[str, Any] = {"n": n, "p": p, "K": K, "spread": spread, "tol_reaching": reaching, "tol_equal": equal}
    row |= {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
    row |= {f"times_{name}": round(ratio, 3) for name, ratio in ratios.items()}
    said = "   ".join(f"{name} {ratios[name]:6.2f}" for name in FIGURES)
    print(f"{n:6d} x {p:<6d} {K:4d} classes, {spread:g}   gpureg {row['gpureg_ms']:8.2f} ms   {said}", flush=True)
    return row


def main() -> None:
    """Every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spread", type=float, help="of the class centres; default 0.3 and then 1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", help="samples x features x classes, as 100x4x2,1000x300x2; default all")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/cpu/small_grid.json")
    options = parser.parse_args()
    note = busy()
    if note:
        say(note)
    warnings.simplefilter("ignore")
    spreads = SPREADS if options.spread is None else (options.spread,)
    sizes = cells(quick=options.quick)
    if options.cells:
        sizes = [(int(n), int(p), int(K)) for n, p, K in (name.split("x") for name in options.cells.split(","))]
    rows = [cell(*size, spread, options.rounds) for spread in spreads for size in sizes]
    for spread in spreads:
        small = [row for row in rows if row["spread"] == spread and (row["n"], row["p"], row["K"]) not in WIDE]
        for name in FIGURES if small else ():
            ordered = sorted(small, key=lambda row: row[f"times_{name}"])
            worst, middle = ordered[0], ordered[len(ordered) // 2]
            print(
                f"small sizes, {spread:g}, {name}: worst {worst[f'times_{name}']} ({worst['n']} x {worst['p']}, "
                f"{worst['K']} classes), median {middle[f'times_{name}']}"
            )
    if options.write:
        print(write("small_grid", {"busy": note, "rows": rows}))


if __name__ == "__main__":
    main()
