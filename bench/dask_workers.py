"""Rows on Dask's workers: a pass on more of them, what a pass costs beyond its products, and the model's forecasts.

    python bench/dask_workers.py [--part PART] [--rounds 9] [--write]

fixed    262,144 x 256 float32 and 10 classes, 6 models: seconds of a cost and gradient in this process with one thread,
         and on 1, 2 and 4 workers of one thread
growing  131,072 rows for each worker
latency  a pass over 64 rows of 8 features: what Dask itself takes for a pass on 1, 2 and 4 workers
model    computed, not measured: `gpureg.distributed.cost` with the rate and the latency of these measurements (of the
         results file, if the other parts are not run), for a billion rows of 784 features and 10 classes, 32 models
         side by side, links of 10 Gbit/s

Medians of the rounds. Where there are fewer cores than workers, the workers share them: the results say how many there
are. (The file is not called dask.py: Python would import it in place of Dask.)
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_limits
from timing import medians, noted, write, written

from gpureg.backend import numpy_backend
from gpureg.data import Scaling
from gpureg.distributed.connecting import connected
from gpureg.distributed.cost import Pass
from gpureg.distributed.spread import Options, spread_over
from gpureg.fitting.prepare import designed, place
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax
from gpureg.rows.protocol import Rows

FEATURES, CLASSES, MODELS = 256, 10, 6
WORKERS = (1, 2, 4)
BANDWIDTH = 10e9 / 8  # bytes a second of a link of 10 Gbit/s


def drawn(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal features, and classes."""
    random = np.random.default_rng(0)
    return random.standard_normal((rows, features), np.float32), random.integers(0, CLASSES, rows)


def seconds_of(rows: Rows, rounds: int) -> float:
    """The median of a cost and gradient of the models."""
    random = np.random.default_rng(1)
    W = 0.01 * random.standard_normal((rows.features, MODELS * CLASSES)).astype(np.float32)
    return medians({"pass": lambda: rows.cost_and_gradient(W, None)}, rounds)["pass"]


def here(rows: int, features: int, rounds: int) -> float:
    """A pass in this process, with one thread."""
    X, y = drawn(rows, features)
    with threadpool_limits(1, user_api="blas"):
        kernels = choose_kernels(numpy_backend("float32"), Softmax(), CLASSES)
        scaling = Scaling(np.zeros(features), np.ones(features))
        return seconds_of(place(kernels, designed(X, scaling, "float32"), y, None), rounds)


def there(rows: int, features: int, workers: int, rounds: int) -> float:
    """A pass on workers of one thread each."""
    X, y = drawn(rows, features)
    kernels = choose_kernels(numpy_backend("float32"), Softmax(), CLASSES)
    scaling = Scaling(np.zeros(features), np.ones(features))
    options: dict[str, Any] = {
        "threads_per_worker": 1,
        "memory_limit": 0,
        "dashboard_address": None,
        "silence_logs": 50,
    }
    with (
        LocalCluster(n_workers=workers, **options) as processes,
        Client(processes),  # which `connected` finds
        connected(None, None, dask_data=False) as cluster,
    ):
        spread = designed(spread_over(cluster, Options(), X), scaling, "float32")
        return seconds_of(place(kernels, spread, y, None), rounds)


def fixed(rounds: int, rows: int = 1 << 18) -> dict[str, Any]:
    """The same rows on more workers."""
    alone = here(rows, FEATURES, rounds)
    work = Pass(rows, FEATURES + 1, CLASSES * MODELS, MODELS, 1).work
    print(f"fixed, here, one thread  {alone:7.3f} s  {work / alone / 1e9:6.1f} G multiply-adds/s")
    found: dict[str, Any] = {"rows": rows, "here": round(alone, 4), "rate": round(work / alone)}
    for workers in WORKERS:
        seconds = there(rows, FEATURES, workers, rounds)
        found[f"{workers} workers"] = round(seconds, 4)
        print(f"fixed, {workers} workers         {seconds:7.3f} s  {alone / seconds:5.2f} times as fast")
    return found


def growing(rounds: int, each: int = 1 << 17) -> dict[str, Any]:
    """As many more rows as workers."""
    found: dict[str, Any] = {"rows of a worker": each}
    for workers in WORKERS:
        seconds = there(each * workers, FEATURES, workers, rounds)
        found[f"{workers} workers"] = round(seconds, 4)
        print(f"growing, {workers} workers       {seconds:7.3f} s")
    return found


def latency(rounds: int) -> dict[str, Any]:
    """What a pass takes that has next to nothing to do."""
    found: dict[str, Any] = {}
    for workers in WORKERS:
        seconds = there(64, 8, workers, 3 * rounds)
        found[f"{workers} workers"] = round(seconds, 4)
        print(f"latency, {workers} workers       {1e3 * seconds:7.1f} ms")
    return found


def model(measured: dict[str, Any]) -> dict[str, Any]:
    """Forecasts for a billion rows."""
    rate, round_trip = float(measured["fixed"]["rate"]), float(measured["latency"]["1 workers"])
    found: dict[str, Any] = {"rate": rate, "latency": round_trip, "bandwidth": BANDWIDTH}
    for workers in (16, 64, 256, 1024):
        one = Pass(10**9, 785, 32 * CLASSES, 32, workers)
        computing, talking = one.seconds(rate, BANDWIDTH, round_trip)
        balance = one.balance(rate, BANDWIDTH)
        found[f"{workers} workers"] = {
            "computing": round(computing, 2),
            "communicating": round(talking, 3),
            "GB of a worker": round(10**9 * 785 * 4 / workers / 1e9, 1),
            "MB moved": round(one.moved / 1e6, 1),
            "rows of a worker in balance": round(balance),
        }
        print(
            f"model, {workers:5d} workers: {computing:8.1f} s computing, {talking:6.3f} s communicating, "
            f"{one.moved / 1e6:8.1f} MB moved; in balance at {balance:,.0f} rows of a worker"
        )
    return found


def main() -> None:
    """The chosen parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("fixed", "growing", "latency", "model"), action="append")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    parts: dict[str, Callable[[int], dict[str, Any]]] = {"fixed": fixed, "growing": growing, "latency": latency}
    chosen = given.part or [*parts, "model"]
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    for part in [one for one in parts if one in chosen]:
        found[part] = noted(partial(parts[part], given.rounds))
    if "model" in chosen:
        found["model"] = model(written("dask") | found)
    if given.write:
        write("dask", found)


if __name__ == "__main__":
    main()
