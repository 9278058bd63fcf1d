"""Small and wide fits: `gpureg.LogisticRegression` at its defaults beside scikit-learn's, a grid of sizes.

    python bench/small_grid.py [--rounds 5] [--write] [--quick]

Two figures a size, both medians of the rounds' ratios: how many times as long scikit-learn's default takes (lbfgs, tol
1e-4, which stops short of the optimum), and how long its lbfgs takes at the loosest tol whose objective is at most
gpureg's plus 1e-6. Samples lie around random centres, float64; objectives are means, with the penalty.
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

TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
WIDE = ((60, 2000, 3), (300, 1000, 2), (100, 20000, 2))
EXCESS = 1e-6


def cells(*, quick: bool) -> list[tuple[int, int, int]]:
    """Samples, features, classes: 33 small sizes (100 classes only where there are samples for them), three wide."""
    sizes = [(n, p) for n in (100, 1000, 10000) for p in (4, 30, 300)]
    small = [(n, p, K) for n, p in sizes for K in (2, 3, 10, 100) if K < 100 or n >= 1000]
    return (small[:4] if quick else small) + list(WIDE)


def blobs(n: int, p: int, K: int) -> tuple[np.ndarray, np.ndarray]:
    """Every class has a sample."""
    random = np.random.default_rng(0)
    y = np.concatenate([np.arange(K), random.integers(0, K, n - K)])
    return random.normal(size=(n, p)) + random.normal(size=(K, p))[y], y


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


def cell(n: int, p: int, K: int, rounds: int) -> dict[str, Any]:
    """One size."""
    X, y = blobs(n, p, K)
    ours: Callable[[], Any] = lambda: gpureg.LogisticRegression(device="cpu")  # noqa: E731
    target = objective(ours().fit(X, y), X, y) + EXCESS
    reaching = TOLERANCES[-1]
    for tol in TOLERANCES:
        if objective(LogisticRegression(tol=tol, max_iter=10000).fit(X, y), X, y) <= target:
            reaching = tol
            break
    makes = {
        "gpureg": ours,
        "default": LogisticRegression,
        "reaching": lambda: LogisticRegression(tol=reaching, max_iter=10000),
    }
    seconds: dict[str, list[float]] = {name: [] for name in makes}
    for _ in range(rounds):
        for name, make in makes.items():
            seconds[name].append(timed(make, X, y)[0])
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[name], seconds["gpureg"], strict=True))
        for name in ("default", "reaching")
    }
    row = {"n": n, "p": p, "K": K, "tol": reaching, "gpureg_ms": 1e3 * statistics.median(seconds["gpureg"])}
    row |= {f"times_{name}": round(ratio, 3) for name, ratio in ratios.items()}
    print(
        f"{n:6d} x {p:<6d} {K:4d} classes  gpureg {row['gpureg_ms']:8.2f} ms   its default {ratios['default']:6.2f} "
        f"   to our objective (tol {reaching:g}) {ratios['reaching']:6.2f}",
        flush=True,
    )
    return row


def main() -> None:
    """Every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/cpu/small_grid.json")
    options = parser.parse_args()
    note = busy()
    if note:
        say(note)
    warnings.simplefilter("ignore")
    rows = [cell(*size, options.rounds) for size in cells(quick=options.quick)]
    for name in ("default", "reaching"):
        small = [row for row in rows if (row["n"], row["p"], row["K"]) not in WIDE]
        worst = min(small, key=lambda row: row[f"times_{name}"])
        print(f"worst small size against {name}: {worst[f'times_{name}']} ({worst['n']} x {worst['p']}, {worst['K']})")
    if options.write:
        print(write("small_grid", {"busy": note, "rows": rows}))


if __name__ == "__main__":
    main()
