"""Timing on a device: warm up, repeat, take the median; and how fast the card copies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np


def seconds(
    work: Callable[[], object], wait: Callable[[], None], *, repeats: int = 7, warm: int = 2, calls: int = 1
) -> dict[str, float]:
    """Median, least and most wall time of a call of `work`, the device idle before and after `calls` of them.

    A launch and the wait for it cost the host more than a short kernel takes: with many calls in the queue the time of
    one is the device's.
    """
    for _ in range(warm):
        work()
    wait()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        times.append((time.perf_counter() - begun) / calls)
    return {
        "median": statistics.median(times),
        "least": min(times),
        "most": max(times),
        "repeats": repeats,
        "calls": calls,
    }


def copy_bandwidth(xp: object, wait: Callable[[], None], size: int = 2**30) -> float:
    """Bytes per second of a copy within the device's memory, read and write counted."""
    source, target = (xp.zeros(size // 4, dtype=xp.float32) for _ in range(2))  # type: ignore[attr-defined]

    def copy() -> None:
        target[...] = source

    return 2 * size / seconds(copy, wait, repeats=15, calls=10)["median"]


def product_rate(xp: object, wait: Callable[[], None], size: int = 4096) -> float:
    """Floating-point operations per second of a large float32 product, two for each multiply-add."""
    rng = np.random.default_rng(0)
    a, b = (xp.asarray(rng.standard_normal((size, size), np.float32)) for _ in range(2))  # type: ignore[attr-defined]
    out = xp.empty((size, size), dtype=np.float32)  # type: ignore[attr-defined]
    taken = seconds(lambda: xp.matmul(a, b, out=out), wait, repeats=15, calls=10)  # type: ignore[attr-defined]
    return 2 * size**3 / taken["median"]


def count_launches(run: Callable[[int], object]) -> float | str:
    """Kernels launched per step, by PyTorch's profiler (CUPTI sees the whole process), or the reason why not.

    `run(n)` makes n steps and waits. The difference of two lengths leaves out what a run costs once.
    """
    try:
        import torch
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return "PyTorch is not installed; its profiler counts the launches"
    if not torch.cuda.is_available():
        return "this PyTorch has no CUDA; its profiler counts the launches"

    def launched(steps: int) -> int:
        run(steps)
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
            run(steps)
        names = [e.name for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not name.startswith(("Memcpy", "Memset")) for name in names)

    return (launched(60) - launched(20)) / 40
