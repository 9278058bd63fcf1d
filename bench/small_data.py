"""Small data: one `fit` of gpureg's estimators and of scikit-learn's, default and newton-cholesky, in a warm process.

    python bench/small_data.py [--rounds 40] [--write]

Every method once per round, in turn; medians. Beside the time: how far the probabilities are from the optimum's
(newton-cholesky at tol 1e-12). For such data newton-cholesky is what a user of scikit-learn would pick. Then the same
for cross-validation, 10 values of C from 1e-4 to 1e4 and 5 folds, with the held-out scores in place of probabilities.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.linear_model import LogisticRegressionCV as TheirCV
from sklearn.preprocessing import StandardScaler
from timing import busy, say, write

import gpureg

SETS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}
METHODS: dict[str, Callable[[], Any]] = {
    "gpureg": lambda: gpureg.LogisticRegression(device="cpu"),
    "scikit-learn, default (lbfgs)": TheirRegression,
    "scikit-learn, newton-cholesky": lambda: TheirRegression(solver="newton-cholesky"),
}
CV = {"cv": 5, "scoring": "neg_log_loss", "use_legacy_attributes": False, "l1_ratios": (0,)}
CV_METHODS: dict[str, Callable[[], Any]] = {
    "gpureg": lambda: gpureg.LogisticRegressionCV(device="cpu"),
    "scikit-learn, default (lbfgs)": lambda: TheirCV(**CV),
    "scikit-learn, newton-cholesky": lambda: TheirCV(**CV, solver="newton-cholesky"),
}


def in_turn(
    methods: dict[str, Callable[[], Any]], X: Any, y: Any, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every method's fits, once per round in turn, and its last fitted model."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    fitted: dict[str, Any] = {}
    for _ in range(rounds):
        for name, make in methods.items():
            begun = time.perf_counter()
            fitted[name] = make().fit(X, y)
            times[name].append(time.perf_counter() - begun)
    return times, fitted


def compare(X: Any, y: Any, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each method, their ratio to scikit-learn's default round by round, and their error."""
    best = TheirRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y).predict_proba(X)
    for make in METHODS.values():
        make().fit(X, y)  # what is imported and started once is not timed
    times, fitted = in_turn(METHODS, X, y, rounds)
    base = times["scikit-learn, default (lbfgs)"]
    return [
        {
            "method": name,
            "median_s": round(statistics.median(mine), 5),
            "min_s": round(min(mine), 5),
            "ratio_to_default": round(statistics.median(a / b for a, b in zip(mine, base, strict=True)), 2),
            "furthest_probability": float(f"{np.abs(fitted[name].predict_proba(X) - best).max():.2g}"),
        }
        for name, mine in times.items()
    ]


def compare_cv(X: Any, y: Any, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each method's cross-validation, the C it picks, and how far its held-out scores are off."""
    best = TheirCV(**CV, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    times, fitted = in_turn(CV_METHODS, X, y, rounds)
    return [
        {
            "method": name,
            "median_s": round(statistics.median(mine), 4),
            "all_s": [round(t, 4) for t in mine],
            "C": float(np.ravel(fitted[name].C_)[0]),
            "best_C": float(np.ravel(best.C_)[0]),
            "furthest_score": float(f"{np.abs(np.ravel(fitted[name].scores_) - np.ravel(best.scores_)).max():.2g}"),
        }
        for name, mine in times.items()
    ]


def main() -> None:
    """Time, print, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    note = busy()
    if note:
        say(note)
    warnings.simplefilter("ignore")  # scikit-learn's default stops at 100 iterations, and says so
    content: dict[str, Any] = {"busy": note, "rounds": options.rounds, "sets": {}}
    for name, load in SETS.items():
        raw, y = load(return_X_y=True)
        for kind, X in (("raw", raw), ("standardised", StandardScaler().fit_transform(raw))):
            rounds = max(3, options.rounds // 8) if name == "digits" else options.rounds
            rows = content["sets"][f"{name}, {kind}"] = compare(X, y, rounds)
            for row in rows:
                print(
                    f"{name + ', ' + kind:28s} {row['method']:32s} {1000 * row['median_s']:9.2f} ms  x "
                    f"{row['ratio_to_default']:5.2f}  off by {row['furthest_probability']:.0e}"
                )
    content["cross_validation"] = {}
    for name in ("iris", "breast_cancer", "digits"):
        raw, y = SETS[name](return_X_y=True)
        for kind, X in (("raw", raw), ("standardised", StandardScaler().fit_transform(raw))):
            rows = content["cross_validation"][f"{name}, {kind}"] = compare_cv(X, y, 3)
            for row in rows:
                print(
                    f"CV: {name + ', ' + kind:28s} {row['method']:32s} {row['median_s']:8.3f} s  C = {row['C']:<10.4g} "
                    f"scores off by {row['furthest_score']:.0e}"
                )
    if options.write:
        say(f"written to {write('small_data', content)}")


if __name__ == "__main__":
    main()
