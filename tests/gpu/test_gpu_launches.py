"""Launches of a step and transfers of an epoch, counted where they happen: by the profiler, or by the soft device."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import gpureg
from gpureg.config import FitConfig
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.kernels.cuda import CudaKernels
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

from .conftest import device_backend

pytestmark = pytest.mark.gpu
NO_LAUNCHES = ("Memcpy", "Memset", "copy", "memset", "wait", "pinned")


@contextmanager
def recorded(names: list[str]):
    """Adds to `names` what runs on the device meanwhile."""
    log = os.environ.get("SOFTDEVICE_LOG")
    if log is not None:
        before = len(Path(log).read_text().splitlines())
        yield
        names += Path(log).read_text().splitlines()[before:]
        return
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("counting launches needs a PyTorch with CUDA for its profiler")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        yield
    names += [e.name for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]


def launches(job: Callable[[], object]) -> int:
    """Kernels and products that a job launches; it is run once before, so that nothing is compiled meanwhile."""
    job()
    names: list[str] = []
    with recorded(names):
        job()
    return sum(not name.startswith(NO_LAUNCHES) for name in names)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("way", "l2", "wanted"), [("fused", 0.0, 3), ("fused", 0.1, 4), ("pair", 0.1, 2)])
@pytest.mark.parametrize(("task", "classes"), [("softmax", 10), ("logistic", 2)])
def test_launches_of_a_step(task, classes, way, l2, wanted, weighted):
    """On a real device cuBLAS may give a product a second kernel (split-k) where it sees fit; 4 launches are the goal.
    The pair does without cuBLAS."""
    rng = np.random.default_rng(0)
    kernels = CudaKernels(device_backend("float32"), LOSSES[task], classes, steps_by=way)
    weights = rng.uniform(0.5, 1.5, (4096, 2)) if weighted else None
    rows = kernels.place(rng.standard_normal((4096, 785)), rng.integers(0, classes, 4096), weights, None)
    column = np.array([0, 1]) if weighted else None

    def steps(count: int) -> Callable[[], object]:
        plan = StepPlan(rng.integers(0, 4096, (count, 128)), np.array([0.01, 0.02]), np.full(2, l2), column, ())
        start = np.zeros((785, 2 * kernels.n_columns))
        return lambda: kernels.to_host(kernels.steps(kernels.weights(start), rows, plan)[0])

    per_step = (launches(steps(12)) - launches(steps(6))) / 6
    most = wanted if way == "pair" or "SOFTDEVICE_LOG" in os.environ else 4
    assert wanted <= per_step <= most


@pytest.mark.parametrize(("l2", "most"), [((0.0,), 1.5), (tuple(np.geomspace(1.0, 1e-4, 24)), 4.0)])
def test_transfers_of_an_epoch(l2, most):
    """One for an epoch's losses, three for evaluations that are decided on (of one model ten are made together): none
    for a step."""
    data = gpureg.load_dataset("digits")
    backend, silent = device_backend("float32"), Hooks(lambda event: None, lambda: False)

    def transfers(epochs: int) -> int:
        # few evaluations, so that what an epoch costs shows beside them
        config = FitConfig(l2=l2, lr=(0.1,), epochs=epochs, batch_size=16, evals_per_epoch=1, patience=0)
        names: list[str] = []
        with recorded(names):
            fit_on(backend, data, config, silent)
        return sum(name == "copy to the host" or "DtoH" in name for name in names)

    transfers(2)
    assert (transfers(20) - transfers(10)) / 10 <= most  # of 89 steps each
