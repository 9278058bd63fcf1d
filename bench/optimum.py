"""To the optimum: a whole path of C in one batch against scikit-learn's loop, in one run.

    python bench/optimum.py [--quick] [--part PART] [--rounds 3] [--float64] [--write]

mnist       16 C from 1e-6 to 1e2 on MNIST (20,000), to scikit-learn's own objectives plus 1e-6: against its loop,
            cold and warm-started, raw and centred
embeddings  the same on 50,000 x 768 synthetic embeddings with 100 classes, one round
wide        both with 96 C, one round
gap         three λ to a gap of 1e-6: the batch, three fits of gpureg's own, scikit-learn's loop at the
            loosest tolerance that gets there
cost        seconds a model against the number of models, on MNIST and on embeddings: where batching stops paying. Every
            model has C = 1 and goes to the objective that scikit-learn reaches in 60 iterations
fashion     Fashion-MNIST (10,000): certificates at a tolerance of 1e-8, and objectives against scikit-learn's lbfgs

path-16     50,000 x 768, 100 classes, centred, 16 C (and path-48, path-96): through `gpureg.fit`, with its own stop, at
            the loosest tolerance at which every objective is at most the warm loop's plus 1e-6; beside it the same to
            within 1e-6 of the optimum
path-1000   20,000 x 512, 1,000 classes, 16 C, the same
path-mnist  MNIST 20,000, centred, 96 C, the same
cv-mnist    LogisticRegressionCV against scikit-learn's, 5,000 images, centred, 10 C from 1e-5 to 10, 5 folds
cv-vectors  the same on 20,000 x 512, 100 classes, 16 C
probes      torchgeo-bench's way: PyTorch's L-BFGS from zero for each of 41 C, 8,000 x 384, 30 classes

C and λ: `λ = 1 / (2 C n)` for the mean loss plus λ Σ w²; the intercept is not penalised. Both sides get the same
array, in float32 (--float64: in float64). Medians of the rounds, in turn. Not to be run at real-time priority
(chrt): there the threads of scikit-learn's two BLAS libraries wait for each other, and its fits take five times as
long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from optimum_jobs import Data, batch, centre, embeddings, mnist, singles, sklearn_loop
from optimum_path import PATH_PARTS, path_parts
from timing import busy, say, write

EXCESS = 1e-6
PAUSE = 0.3  # s: the threads of the last job's BLAS wait busily for some 20 ms


def rounds_of(jobs: dict[str, Callable[[], dict[str, Any]]], rounds: int, base: str) -> list[dict[str, Any]]:
    """Every job once per round, in turn; medians, and how many times the base's each round took."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            say(f"round {number + 1}/{rounds}: {name}")
            time.sleep(PAUSE)
            seen[name].append(job())
    rows = []
    for name, results in seen.items():
        seconds = [result["seconds"] for result in results]
        factors = [a / b["seconds"] for a, b in zip(seconds, seen[base], strict=True)]
        row = {
            "variant": name,
            "median_s": round(statistics.median(seconds), 3),
            "all_s": [round(s, 3) for s in seconds],
        }
        row |= {"ratio": round(statistics.median(factors), 2)}
        row |= {key: value for key, value in results[-1].items() if key not in ("seconds", "objectives")}
        rows.append(row)
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        extra = f"  {row['passes']} passes" if "passes" in row else ""
        print(f"  {name:52s} {row['median_s']:9.2f} s  {spread:20s} x {row['ratio']:.2f}{extra}")
    return rows


def path_part(data: Data, count: int, rounds: int) -> dict[str, Any]:
    """A path of C to scikit-learn's own objectives, cold and warm, raw and centred."""
    Cs = np.logspace(-6, 2, count)
    found: dict[str, Any] = {}
    for kind in (data, centre(data)):
        say(f"{kind.name}: scikit-learn's objectives")
        cold = sklearn_loop(kind, Cs, warm=False)
        warm = sklearn_loop(kind, Cs, warm=True)
        to = {name: [J + EXCESS for J in loop["objectives"]] for name, loop in (("cold", cold), ("warm", warm))}  # type: ignore[attr-defined]
        batch(kind, Cs[:1], to["cold"][:1])  # what is imported and started once is not timed
        first = iter((cold, warm))  # the loops just made are the first round's
        print(f"{kind.name}, {len(kind.y):,} x {kind.X.shape[1]}, {count} C, {kind.X.dtype}")

        def once(warm: bool, kind: Data = kind, first: Any = first) -> dict[str, Any]:
            return next(first, None) or sklearn_loop(kind, Cs, warm=warm)

        jobs = {
            "scikit-learn, cold": lambda once=once: once(False),
            "scikit-learn, warm start": lambda once=once: once(True),
            "gpureg path, to the cold loop's objectives": lambda kind=kind, to=to: batch(kind, Cs, to["cold"]),
            "gpureg path, to the warm loop's objectives": lambda kind=kind, to=to: batch(kind, Cs, to["warm"]),
        }
        found[kind.name] = rounds_of(jobs, rounds, "gpureg path, to the cold loop's objectives")  # type: ignore[arg-type]
    return found


def gap_part(data: Data, rounds: int) -> dict[str, Any]:
    """Three λ to a gap of 1e-6, on centred data."""
    data = centre(data)
    n = len(data.y)
    l2 = np.array([0.5e-2, 0.5e-3, 0.5e-4])
    Cs = 1 / (2 * l2 * n)
    exact = Data(data.name, data.X.astype(np.float64), data.y, data.classes)
    say("the optima")
    best = batch(exact, Cs, [0.0] * 3)["objectives"]
    targets = [J + EXCESS for J in best]  # type: ignore[attr-defined]
    for tol in (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7):
        loop = sklearn_loop(data, Cs, warm=False, tol=tol, max_iter=5000)
        if all(target >= J for J, target in zip(loop["objectives"], targets, strict=True)):  # type: ignore[call-overload]
            break
    print(f"three λ to a gap of 1e-6, {data.name}, {n:,} samples, {data.X.dtype}; scikit-learn at tol = {tol:g}")
    jobs = {
        "gpureg, one path": lambda: batch(data, Cs, targets),
        "gpureg, three fits": lambda: singles(data, Cs, targets),
        f"scikit-learn, tol = {tol:g}": lambda: sklearn_loop(data, Cs, warm=False, tol=tol, max_iter=5000),
    }
    return {"tol": tol, "rows": rounds_of(jobs, rounds, "gpureg, one path")}


def cost_part(data: Data, counts: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Seconds per model for L equal models, all taking the same passes: what a batch of that size saves."""
    print(f"{data.name}, {len(data.y):,} x {data.X.shape[1]}, {data.classes} classes: seconds a model")
    rows = []
    target = batch_target(data)
    batch(data, np.ones(1), [target])
    for count in counts:
        times = []
        for _ in range(rounds):
            found = batch(data, np.full(count, 1.0), [target] * count)
            times.append(float(found["seconds"]) / count)  # type: ignore[arg-type]
        rows.append({"models": count, "seconds_a_model": statistics.median(times), "passes": found["passes"]})
        print(f"  {count:4d} models  {rows[-1]['seconds_a_model']:8.3f} s  {found['passes']} passes", flush=True)
    return rows


def batch_target(data: Data) -> float:
    """An objective at C = 1 on the way to the optimum."""
    loop = sklearn_loop(data, np.ones(1), warm=False, max_iter=60)
    return float(loop["objectives"][0])  # type: ignore[index]


def fashion_part(n: int) -> dict[str, Any]:
    """Fashion-MNIST: certificates at 1e-8 in float64, and no objective above scikit-learn's."""
    from gpureg.backend import numpy_backend
    from gpureg.config import FitConfig
    from gpureg.fitting.stages import Hooks, Stages
    from gpureg.kernels.choice import choose_kernels
    from gpureg.losses import Softmax
    from gpureg.rows.dense import DenseRows
    from gpureg.solvers.lbfgs.objective import l2_of
    from gpureg.solvers.lbfgs.solver import Lbfgs
    from gpureg.solvers.problem import Problem
    from gpureg.types import ModelTable

    data = mnist(n, "float64", "fashion-mnist")
    Cs = np.array([1e-4, 1e-2, 1.0])
    kernels = choose_kernels(numpy_backend("float64"), Softmax(), 10)
    order = kernels.storage_order(data.y, None)
    D = np.concatenate([data.X, np.ones((n, 1))], axis=1)
    table = ModelTable.plain(np.asarray(l2_of(Cs, n)), np.ones(3))
    y = data.y if order is None else data.y[order]
    rows = DenseRows.place(kernels, D if order is None else D[order], y, None, order)
    config = FitConfig(solver="lbfgs", penalize_bias=False, dtype="float64", tol=1e-8, max_iter=5000)
    problem = Problem(rows, None, {}, table, n, D.shape[1])
    outcome = Stages(kernels, Lbfgs(config), Hooks()).train(problem, np.arange(3)).outcome
    theirs = sklearn_loop(data, Cs, warm=False, max_iter=300)["objectives"]
    print(f"Fashion-MNIST, {n:,} samples: objective and bound on its gap; scikit-learn's lbfgs (max_iter 300)")
    found = []
    for C, mine, other in zip(Cs, outcome.certificates or (), theirs, strict=True):  # type: ignore[call-overload]
        row = {"C": float(C), **mine, "sklearn_objective": other, "no_higher": mine["objective"] <= other}
        found.append(row)
        print(f"  C = {C:<8g} {mine['objective']:.9f}  {mine['gap_bound']:.1e}   {other:.9f}  {row['no_higher']}")
    return {"rows": found}


def main() -> None:
    """The parts, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("mnist", "gap", "embeddings", "fashion", "cost", "wide", *PATH_PARTS)
    parser.add_argument("--part", choices=parts, action="append")
    parser.add_argument("--quick", action="store_true", help="small data, few C, one round: a few minutes in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument(
        "--write", action="store_true", help="keep each part's figures in bench/results/cpu/optimum_PART.json"
    )
    options = parser.parse_args()
    quick, dtype = options.quick, "float64" if options.float64 else "float32"
    for part in options.part or parts:
        note = busy()
        if note:
            say(note)
        found = run_part(part, quick, dtype, options.rounds)
        if options.write:
            print(write(f"optimum_{part}", {"quick": quick, "dtype": dtype, "busy": note, "found": found}), flush=True)


def run_part(part: str, quick: bool, dtype: str, rounds: int) -> dict[str, Any]:
    """One part at full or small size."""
    rounds = 1 if quick else rounds
    images, vectors = (3000, 3000) if quick else (20000, 50000)
    count, most = (4, 8) if quick else (16, 96)
    if part == "mnist":
        return path_part(mnist(images, dtype), count, rounds)
    if part == "embeddings":
        return path_part(embeddings(vectors, dtype), count, 1)
    if part == "wide":
        return path_part(mnist(images, dtype), most, 1) | path_part(embeddings(vectors, dtype), most, 1)
    if part in PATH_PARTS:
        return path_parts(part, quick, dtype, rounds, rounds_of)
    if part == "gap":
        return gap_part(mnist(images, dtype), rounds)
    if part == "cost":
        sets = (centre(mnist(images, dtype)), centre(embeddings(vectors, dtype)))
        counts = (1, 2, 4) if quick else (1, 2, 4, 8, 16)
        return {data.name: cost_part(data, counts, rounds) for data in sets}
    return fashion_part(2000 if quick else 10000)


if __name__ == "__main__":
    main()
