"""gpureg's own way through a grid of λ on the report's data: as one batch, or one fit after the other.

    python bench/baselines/ours.py --grid 1e-6:10:96 [--singles] [--cv 5] [--epochs 50] [--dtype float32]

It prints one JSON line: seconds, the floating-point operations that the kept steps and evaluations need, and losses.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np

import gpureg
from gpureg.fitting.grid import lambda_grid


def main() -> None:
    """Train, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lambdas")
    parser.add_argument("--grid")
    parser.add_argument("--singles", action="store_true")
    parser.add_argument("--cv", type=int)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    warnings.simplefilter("ignore", gpureg.GpuregWarning)
    grid = lambda_grid(options.grid) if options.grid else tuple(float(l2) for l2 in options.lambdas.split(","))
    data = gpureg.load_dataset("mnist")
    begun = time.perf_counter()
    batches = [(l2,) for l2 in grid] if options.singles else [grid]
    results = [
        gpureg.fit(data, l2=batch, cv=options.cv, epochs=options.epochs, dtype=options.dtype) for batch in batches
    ]
    seconds = time.perf_counter() - begun
    models = [model for result in results for model in result.models]
    work = sum(operations(result, options.cv) for result in results)
    runs = [{"l2": m.l2, "steps": m.steps, "val_loss": m.val_loss} for m in models]
    print(json.dumps({"seconds": seconds, "gflop": work / 1e9, "steps": sum(m.steps for m in models), "runs": runs}))


def operations(result: gpureg.FitResult, cv: int | None) -> float:
    """Those of the matrix products: two per step over the batch, one per evaluation over the rows that are
    evaluated."""
    columns, D = len(result.classes), result.n_features + 1
    rows = result.n_train // cv if cv else result.n_train + result.n_val
    evaluations = np.isfinite(result.history.val_loss).sum()
    steps = sum(model.steps for model in result.models)
    return 2.0 * D * columns * (2 * 128 * steps + rows * evaluations)


if __name__ == "__main__":
    main()
