"""Sparse rows: a path of C in one fit against scikit-learn's warm loop, and what a pass over the rows takes.

    python bench/sparse.py [--part PART] [--quick] [--rounds 3] [--float32] [--write]

path    20,000 x 50,000, 94 values a row, columns by Zipf's law, weighted as tf-idf, 20 classes, 8 C from 1e-2 to 1e2:
        `gpureg.fit` at the loosest tolerance at which every objective is at most the warm loop's plus 1e-6, and to
        within 1e-6 of the optimum, against scikit-learn's loop, each C from the last one's weights
width   milliseconds of a cost and gradient for every 20 columns, by the number of columns side by side

Both sides get the same matrix, in float64 (--float32: in float32). Medians of the rounds, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optimum import rounds_of
from optimum_path import EXCESS, loosest
from scipy import sparse
from timing import busy, say, write

import gpureg
from gpureg.backend import numpy_backend
from gpureg.data import Dataset
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax
from gpureg.rows import csr
from gpureg.rows.csr import CsrRows
from gpureg.rows.samples import CsrSamples
from gpureg.solvers.lbfgs.objective import l2_of


@dataclass(frozen=True)
class Texts:
    """`X (n, F)` in CSR, `y (n,)` into K classes."""

    X: sparse.csr_array
    y: np.ndarray
    classes: int


def texts(n: int, features: int, classes: int, dtype: str) -> Texts:
    """Counts of 122 words a text, weighted as tf-idf, rows of length 1; classes of a linear model, with noise."""
    random, words = np.random.RandomState(0), 122
    shares = 1.0 / np.arange(1, features + 1)
    drawn = np.minimum(np.searchsorted(np.cumsum(shares / shares.sum()), random.rand(n * words)), features - 1)
    pointers = np.arange(0, n * words + 1, words, dtype=np.int32)
    X = sparse.csr_array((np.ones(n * words), drawn.astype(np.int32), pointers), shape=(n, features))
    X.sum_duplicates()
    X.data *= (np.log((1 + n) / (1 + np.bincount(X.indices, minlength=features))) + 1)[X.indices]
    X.data /= np.sqrt(np.repeat(np.add.reduceat(X.data**2, X.indptr[:-1]), np.diff(X.indptr)))
    W = random.standard_normal((features, classes)) * (random.rand(features, 1) < 0.2)
    y = np.argmax(4 * (X @ W) + random.gumbel(size=(n, classes)), axis=1)
    return Texts(X.astype(dtype), y, classes)


def objective(data: Texts, coef: np.ndarray, intercept: np.ndarray, C: float) -> float:
    """`(1/n) Σ loss + λ Σ w²` in float64."""
    z = data.X.astype(np.float64) @ np.ascontiguousarray(coef.T, np.float64) + intercept
    peak = z.max(axis=1)
    loss = np.log(np.exp(z - peak[:, None]).sum(axis=1)) + peak - z[np.arange(len(z)), data.y]
    return float(loss.mean() + l2_of(C, len(z)) * (coef.astype(np.float64) ** 2).sum())


def warm_loop(data: Texts, Cs: np.ndarray) -> dict[str, Any]:
    """scikit-learn's loop, each C from the last one's weights; its defaults."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model, seconds, found, iterations = LogisticRegression(warm_start=True), 0.0, [], []
    for C in Cs:
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=C).fit(data.X, data.y)
        seconds += time.perf_counter() - begun
        found.append(objective(data, model.coef_, model.intercept_, C))
        iterations.append(int(model.n_iter_[0]))
    return {"seconds": seconds, "objectives": found, "iterations": iterations}


def fit_path(data: Texts, Cs: np.ndarray, tol: float) -> dict[str, Any]:
    """`gpureg.fit` of all C, from the matrix to its result."""
    none = data.X[:0]
    own = Dataset("texts", data.X, data.y, none, data.y[:0], tuple(range(data.classes)))
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gpureg.fit(own, Cs=Cs.tolist(), solver="lbfgs", dtype=str(data.X.dtype), tol=tol, device="cpu")
    seconds = time.perf_counter() - begun
    weights = zip(found.model.coef, found.model.intercept, Cs, strict=True)
    return {
        "seconds": seconds,
        "objectives": [objective(data, coef, intercept, C) for coef, intercept, C in weights],
        "iterations": [model.steps for model in found.models],
    }


def path_part(data: Texts, rounds: int) -> dict[str, Any]:
    """The path against the loop, in turn."""
    Cs = np.logspace(-2, 2, 8)
    n, F = data.X.shape
    print(f"{n:,} x {F:,}, {data.X.nnz / n:.0f} values a row, {data.classes} classes, 8 C, {data.X.dtype}")
    say("scikit-learn's objectives")
    first = warm_loop(data, Cs)
    targets = np.array(first["objectives"]) + EXCESS
    tol = loosest(lambda tol: fit_path(data, Cs, tol), targets)
    again = iter((first,))  # the loop that was just made is the first round's
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "scikit-learn, warm start": lambda: next(again, None) or warm_loop(data, Cs),
        f"gpureg.fit, to its objectives (tol {tol:g})": lambda: fit_path(data, Cs, tol),
        "gpureg.fit, to the optimum": lambda: fit_path(data, Cs, EXCESS),
    }
    rows = rounds_of(jobs, rounds, f"gpureg.fit, to its objectives (tol {tol:g})")
    return {"tolerance": tol, "rows": rows}


def width_part(data: Texts, rounds: int) -> list[dict[str, Any]]:
    """Models of 20 classes side by side, in one product whatever their number."""
    kernels = choose_kernels(numpy_backend(str(data.X.dtype)), Softmax(), data.classes)
    rows, found = CsrRows.place(kernels, CsrSamples(data.X), data.y, None), []
    random, F = np.random.default_rng(0), data.X.shape[1]
    for models in (1, 2, 3, 4, 5, 6, 8, 16):
        columns = models * data.classes
        W = np.ascontiguousarray(random.normal(size=(columns, F + 1)).astype(data.X.dtype)).T
        times = []
        with kernels.steady():
            for _ in range(3 * rounds):
                begun = time.perf_counter()
                rows.summed(W, None)
                times.append(time.perf_counter() - begun)
        each = 1e3 * statistics.median(times) * 20 / columns
        found.append({"columns": columns, "bytes": columns * data.X.dtype.itemsize, "ms_for_20": round(each, 2)})
        print(f"  {columns:4d} columns ({found[-1]['bytes']} bytes)  {each:7.1f} ms for every 20")
    print(f"  side by side: {csr.WIDTH} bytes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("path", "width"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    dtype = "float32" if options.float32 else "float64"
    data = texts(2000, 5000, 20, dtype) if options.quick else texts(20_000, 50_000, 20, dtype)
    found: dict[str, Any] = {"busy": busy()}
    if found["busy"]:
        print(found["busy"])
    if options.part != "width":
        found["path"] = path_part(data, options.rounds)
    if options.part != "path":
        found["width"] = width_part(data, options.rounds)
    if options.write:
        print(write("sparse_float32" if options.float32 else "sparse", found))


if __name__ == "__main__":
    main()
