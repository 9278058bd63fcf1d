"""gpureg's own figures: the fused kernel against the card's bandwidth, steps, evaluations, and the report's job."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from measure import count_launches, seconds

from gpureg.backend import Backend
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.kernels.cuda.pointwise import SoftmaxPointwise
from gpureg.kernels.protocol import Kernels
from gpureg.types import StepPlan

CALLS = 32  # of a kernel between two waits
# rows, features, classes, number of C, tolerance
PATHS = ((50_000, 768, 100, 16, 3e-5), (50_000, 768, 100, 48, 3e-5), (20_000, 512, 1000, 16, 1e-4))
SILENT = Hooks(lambda event: None, lambda: False)


@dataclass(frozen=True)
class Job:
    """The shape of the report's softmax job: 20,000 and 10,000 images of 784 pixels, 10 classes, batches of 128."""

    n: int = 20_000
    n_val: int = 10_000
    features: int = 784
    classes: int = 10
    batch: int = 128
    epochs: int = 50

    def data(self) -> Dataset:
        """Samples of that shape, drawn; without early stopping their values do not matter to the time."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, self.classes, self.n + self.n_val)
        bright = np.arange(self.features) % self.classes == y[:, None]  # learnable, so that no fit warns
        X = rng.integers(0, 128, bright.shape, np.uint8) + np.uint8(127) * bright
        n = self.n
        return Dataset("random", X[:n], y[:n], X[n:], y[n:], tuple(range(self.classes)), pixel_max=255.0)


def fused_kernel(backend: Backend, ops: DeviceOps, rows: int, K: int, copy: float) -> dict[str, Any]:
    """The softmax kernels on `rows` x K logits: seconds, bytes they must move, and the share of the copy bandwidth.

    Each call has the next of several buffers, half a gigabyte together: one alone may stay in the card's cache.
    """
    item = np.dtype(backend.dtype).itemsize
    pointwise = SoftmaxPointwise(K, ops)
    put = backend.from_host
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((rows, K)).astype(backend.dtype)
    logits = cycle([put(drawn) for _ in range(min(16, -(-(1 << 29) // drawn.nbytes)))])
    labels = pointwise.labels(put(rng.integers(0, K, rows).astype(np.int32)), 1)
    scale = pointwise.scales(put(np.ones((1, 1), backend.dtype)))
    loss, hit = ops.empty((rows, 1), backend.dtype), ops.empty((rows, 1), np.bool_)
    found: dict[str, Any] = {"rows": rows, "classes": K, "dtype": backend.dtype}
    small = rows * (item + 4)  # a loss and a label
    for name, size, work in (
        ("gradient", 2 * rows * K * item + small, lambda: pointwise.gradient(labels, scale, next(logits), loss)),
        ("evaluation", rows * K * item + small + rows, lambda: pointwise.evaluate(labels, next(logits), hit, loss)),
    ):
        taken = seconds(work, backend.synchronize, repeats=15, calls=CALLS)
        rate = size / taken["median"]
        found[name] = {"seconds": taken, "bytes": size, "bytes_per_second": rate, "share_of_copy": rate / copy}
    return found


@dataclass(frozen=True)
class Limits:
    """What the card can do, measured: bytes per second of a copy, float32 operations per second of a product."""

    bytes_per_second: float
    operations_per_second: float

    def step_seconds(self, job: Job, columns: int) -> dict[str, float]:
        """The least that a step can take by either limit, in float32: the batch read once, the weights read and
        written once; two products.
        """
        D = job.features + 1
        return {
            "bandwidth": 4 * (job.batch * D + 2 * D * columns) / self.bytes_per_second,
            "arithmetic": 4 * job.batch * D * columns / self.operations_per_second,
        }


def steps(
    kernels: Kernels, backend: Backend, job: Job, models: int, l2: float, *, limits: Limits | None = None
) -> dict[str, Any]:
    """Seconds of an epoch and of a step, evaluations apart; with `limits` the share that the larger of its limits has
    in a step, and for a single model the launches per step.
    """
    rng = np.random.default_rng(0)
    D, b = job.features + 1, job.n // job.batch
    X = rng.standard_normal((job.n, D)).astype(backend.dtype)
    rows = kernels.place(X, rng.integers(0, job.classes, job.n), None, None)
    W = kernels.weights(np.zeros((D, models * kernels.n_columns)))
    order = rng.permutation(job.n)[: b * job.batch].reshape(b, job.batch)

    def run(number: int = b) -> None:
        rates, penalties = np.full(models, 0.01), np.full(models, l2)
        kernels.steps(W, rows, StepPlan(order[:number], rates, penalties, None, ()))
        backend.synchronize()

    taken = seconds(run, backend.synchronize)
    found = {"models": models, "l2": l2, "epoch_seconds": taken, "step_seconds": taken["median"] / b}
    if limits is not None:
        least = limits.step_seconds(job, models * kernels.n_columns)
        found |= {"limit_seconds": least, "share_of_limit": max(least.values()) / found["step_seconds"]}
        if models == 1:
            found["launches_per_step"] = count_launches(run)
    return found


def evaluation(kernels: Kernels, backend: Backend, job: Job, models: int) -> dict[str, Any]:
    """Seconds of one evaluation of all the job's images."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((job.n + job.n_val, job.features + 1)).astype(backend.dtype)
    rows = kernels.place(X, rng.integers(0, job.classes, len(X)), None, None)
    W = kernels.weights(0.01 * rng.standard_normal((job.features + 1, models * kernels.n_columns)))
    taken = seconds(lambda: kernels.evaluate(W, rows, with_loss=True), backend.synchronize)
    return {"models": models, "seconds": taken}


def whole_job(backend: Backend, job: Job, l2: tuple[float, ...], kernels: str, repeats: int = 3) -> dict[str, Any]:
    """Seconds of the report's job from data in host memory to its result, evaluations included, no early stopping."""
    data = job.data()
    config = FitConfig(l2=l2, epochs=job.epochs, batch_size=job.batch, patience=0, dtype=backend.dtype, kernels=kernels)
    fit_on(backend, data, replace(config, epochs=1), SILENT)  # compiles the kernels
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        fit_on(backend, data, config, SILENT)
        times.append(time.perf_counter() - begun)
    return {"models": len(l2), "kernels": kernels, "seconds": sorted(times)[len(times) // 2], "all": times}


def paths(device: str) -> list[dict[str, Any]]:
    """Seconds of `gpureg.fit` of a path of C from 1e-6 to 1e2 in float32, from host arrays to its result: the data of
    `bench/optimum.py`, at the tolerances with which the CPU's path was timed.
    """
    sys.path.append(str(Path(__file__).parent.parent))
    from optimum_jobs import centre, embeddings
    from optimum_path import fit_path

    found = []
    for n, features, classes, count, tol in PATHS:
        data, Cs = centre(embeddings(n, "float32", features, classes)), np.logspace(-6, 2, count)
        taken = [fit_path(data, Cs, tol, device)["seconds"] for _ in range(4)][1:]  # the first compiles
        shape = {"samples": len(data.y), "features": features, "classes": classes}
        found.append({**shape, "C": count, "tol": tol, "seconds": sorted(taken)[1], "all": taken})
    return found
