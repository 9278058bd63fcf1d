"""The ladder of ways through a grid of λ, on the report's data, side by side, each a whole process.

    python bench/sweep.py [--quick] [--rounds 3] [--part report|grid|cv|cost] [--write]

report  the report's four λ: one batch; gpureg's own single fits; plain NumPy in float64; a PyTorch ModuleList;
        scikit-learn
grid    96 λ from 1e-6 to 10: one batch; 96 single fits; plain NumPy (three λ timed, scaled by steps)
cv      32 λ: with 5 folds and without
cost    time against the number of models, from 1 to 256, with the limit that the machine's matrix product sets
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from timing import RESULTS, Variant, alternate, busy, say, table, write

HERE = Path(__file__).parent / "baselines"
REPORT = "2,0.2,0.02,0.002"
GRID = "1e-6:10:96"
SAMPLE = (1e-6, 1e-3, 0.1)  # λ of the grid at which plain NumPy is timed


def ours(name: str, *options: str) -> Variant:
    """gpureg with options of bench/baselines/ours.py."""
    return Variant(name, [sys.executable, str(HERE / "ours.py"), *options])


def baseline(name: str, script: str, *options: str, scale: float = 1.0) -> Variant:
    """Another script of bench/baselines."""
    return Variant(name, [sys.executable, str(HERE / script), *options], scale)


def peak(dtype: str = "float32", columns: int = 960) -> float:
    """GFLOP/s of the product (20000, 785) @ (785, columns): the median of nine."""
    random = np.random.default_rng(0)
    X, W = (random.normal(size=shape).astype(dtype) for shape in ((20000, 785), (785, columns)))
    out, times = np.empty((20000, columns), dtype), []
    for _ in range(9):
        begun = time.perf_counter()
        np.matmul(X, W, out=out)
        times.append(time.perf_counter() - begun)
    return 2e-9 * 20000 * 785 * columns / statistics.median(times)


def report_part(rounds: int) -> dict[str, Any]:
    """The report's four λ."""
    variants = [
        ours("gpureg, one batch, float32", "--lambdas", REPORT),
        ours("gpureg, one batch, float64", "--lambdas", REPORT, "--dtype", "float64"),
        ours("gpureg, four single fits, float32", "--lambdas", REPORT, "--singles"),
        baseline("plain NumPy, float64, the report's way", "report_way.py", "--l2", REPORT),
        baseline("PyTorch ModuleList of heads, float32", "torch_way.py", "--l2", REPORT),
    ]
    alternate(variants, rounds)
    # another result (the optimum of each), timed once
    variants.append(baseline("scikit-learn, lbfgs, one C after the other", "sklearn_way.py", "--lambdas", REPORT))
    variants[-1].run()
    print("the report's four λ, whole processes; x = times gpureg's batch")
    whole = table(variants, variants[0])
    print("training alone")
    return {"processes": whole, "training": table(variants, variants[0], inner=True)}


def grid_part(rounds: int, epochs: int) -> dict[str, Any]:
    """96 λ; what plain NumPy takes is scaled from a sample by the steps that the batch took."""
    batch = ours("gpureg, 96 λ in one batch, float32", "--grid", GRID, "--epochs", str(epochs))
    singles = ours("gpureg, 96 single fits, float32", "--grid", GRID, "--singles", "--epochs", str(epochs))
    steps = 156 * min(5, epochs)
    sample = ",".join(str(l2) for l2 in SAMPLE)
    plain = baseline(
        "plain NumPy, float64, scaled by steps", "report_way.py", "--l2", sample, "--max-steps", str(steps)
    )
    limit = peak()
    alternate([batch, singles, plain], rounds)
    plain.scale = batch.printed["steps"] / (steps * len(SAMPLE))
    plain.seconds = [
        seconds * plain.scale for seconds in plain.inner
    ]  # without its start, which a scale would multiply
    rate = batch.printed["gflop"] / statistics.median(batch.inner)
    print(
        f"96 λ, {epochs} epochs at most; the product's peak is {limit:.0f} GFLOP/s, "
        f"the batch reaches {rate:.0f} ({rate / limit:.0%})"
    )
    rows = table([batch, singles, plain], batch)
    return {
        "variants": rows,
        "peak_gflops": round(limit, 1),
        "batch_gflops": round(rate, 1),
        "share_of_peak": round(rate / limit, 3),
    }


def cv_part(rounds: int, epochs: int) -> dict[str, Any]:
    """32 λ with five folds, and without."""
    without = ours("32 λ", "--grid", "1e-6:10:32", "--epochs", str(epochs))
    folds = ours("32 λ x 5 folds, and the refit", "--grid", "1e-6:10:32", "--cv", "5", "--epochs", str(epochs))
    alternate([without, folds], rounds)
    print(f"cross-validation, {epochs} epochs at most")
    return {"variants": table([without, folds], without)}


def cost_part(epochs: int) -> dict[str, Any]:
    """Time of a batch of L models from 1 to 256, and what its products take at the machine's peak."""
    limit, rows = peak(), []
    for models in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        variant = ours(f"{models} models", "--grid", f"1e-6:0.01:{models}", "--epochs", str(epochs))
        variant.run()
        least = variant.printed["gflop"] / limit
        rows.append({"models": models, "seconds": round(variant.inner[0], 3), "limit_s": round(least, 3)})
        print(
            f"{models:4d} models {variant.inner[0]:8.2f} s, {variant.inner[0] / models:7.3f} s each, "
            f"{least / variant.inner[0]:5.0%} of the limit"
        )
    return {"epochs": epochs, "peak_gflops": round(limit, 1), "rows": rows}


def draw(cost: dict[str, Any], path: Path) -> None:
    """Seconds per model against the number of models, with the limit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    models = [row["models"] for row in cost["rows"]]
    axes.loglog(
        models,
        [row["seconds"] / row["models"] for row in cost["rows"]],
        "o-",
        color="#0072B2",
        label="gpureg, one batch",
    )
    axes.loglog(
        models,
        [row["limit_s"] / row["models"] for row in cost["rows"]],
        "--",
        color="#D55E00",
        label=f"products alone at {cost['peak_gflops']:.0f} GFLOP/s",
    )
    axes.set_xlabel("models in the batch, L")
    axes.set_ylabel(f"seconds per model ({cost['epochs']} epochs)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, few epochs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--part", choices=("report", "grid", "cv", "cost"), action="append")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rounds, epochs = (1, 2) if options.quick else (options.rounds, options.epochs)
    parts = options.part or ["report", "grid", "cv", "cost"]
    note = busy()
    if note:
        say(note)
    made = {
        "report": lambda: report_part(rounds),
        "grid": lambda: grid_part(rounds, epochs),
        "cv": lambda: cv_part(rounds, epochs),
        "cost": lambda: cost_part(min(5, epochs)),
    }
    for part in parts:
        found = made[part]()
        if options.write:
            say(f"written to {write(f'sweep_{part}', {'busy': note, **found})}")
            if part == "cost":
                draw(found, RESULTS / "sweep_cost.svg")


if __name__ == "__main__":
    main()
