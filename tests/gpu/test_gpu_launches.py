"""Launches of a step and transfers of an epoch, counted where they happen: by the profiler, or by the soft device.

Counted are our own kernels and the products that we ask for. How many kernels a product is, cuBLAS decides."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import gpureg
from gpureg.config import FitConfig
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.kernels.cuda import CudaKernels
from gpureg.kernels.cuda.ops import CupyOps
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

from .conftest import ON_SOFT_DEVICE, device_backend

pytestmark = pytest.mark.gpu
OURS = re.compile(r"softmax_|logistic_|penalized_step|sgd_|cupy_")  # CuPy's own kernels are launched by us too


@contextmanager
def recorded(names: list[str]):
    """Adds to `names` what runs on the device meanwhile."""
    if ON_SOFT_DEVICE:
        log = Path(os.environ["SOFTDEVICE_LOG"])
        before = len(log.read_text().splitlines())
        yield
        names += log.read_text().splitlines()[before:]
        return
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("counting launches needs a PyTorch with CUDA for its profiler")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        yield
    names += [e.name for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]


class CountingOps(CupyOps):
    """CuPy's operations, with the products counted."""

    products = 0

    def matmul(self, *arguments):
        self.products += 1
        super().matmul(*arguments)

    def matmul_transposed(self, *arguments, **options):
        self.products += 1
        super().matmul_transposed(*arguments, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("way", "l2", "kernels", "products"), [("fused", 0.0, 1, 2), ("fused", 0.1, 2, 2), ("pair", 0.1, 2, 0)]
)
@pytest.mark.parametrize(("task", "classes"), [("softmax", 10), ("logistic", 2)])
def test_launches_of_a_step(task, classes, way, l2, kernels, products, weighted):
    """The steps that a run has more cost these launches and nothing else. A graph of the pair has one launch more, and
    is not counted by its kernels here."""
    rng = np.random.default_rng(0)
    backend = device_backend("float32")
    ops = CountingOps(backend)
    twin = CudaKernels(backend, LOSSES[task], classes, steps_by=way, ops=ops)
    weights = rng.uniform(0.5, 1.5, (4096, 2)) if weighted else None
    rows = twin.place(rng.standard_normal((4096, 785)), rng.integers(0, classes, 4096), weights, None)
    column = np.array([0, 1]) if weighted else None

    def counted(steps: int) -> tuple[int, int]:
        plan = StepPlan(rng.integers(0, 4096, (steps, 128)), np.array([0.01, 0.02]), np.full(2, l2), column, ())
        start = np.zeros((785, 2 * twin.n_columns))
        for _ in range(2):  # the first loads what it needs
            names: list[str] = []
            ops.products = 0
            with recorded(names):
                twin.to_host(twin.steps(twin.weights(start), rows, plan)[0])
        return sum(OURS.match(name) is not None for name in names), ops.products

    few, many = counted(4), counted(7)  # steps that are no graph
    assert ((many[0] - few[0]) / 3, (many[1] - few[1]) / 3) == (kernels, products)


def test_steps_of_the_pair_are_graphs():
    """Eight steps are one launch of the host's, once eight have been made one by one."""
    if not ON_SOFT_DEVICE:
        pytest.skip("a graph is one launch to the soft device; a profiler shows its kernels")
    rng = np.random.default_rng(0)
    twin = CudaKernels(device_backend("float32"), LOSSES["softmax"], 10, steps_by="pair")
    rows = twin.place(rng.standard_normal((500, 20)), rng.integers(0, 10, 500), None, None)
    plan = StepPlan(rng.integers(0, 500, (37, 16)), np.array([0.01]), np.zeros(1), None, (3,))
    found = []
    for _ in range(2):
        names: list[str] = []
        with recorded(names):
            twin.to_host(twin.steps(twin.weights(np.zeros((20, 10))), rows, plan)[0])
        found.append({name: names.count(name) for name in ("graph", "sgd_forward", "sgd_backward")})
    assert found[1] == {"graph": 4, "sgd_forward": 5, "sgd_backward": 5}  # 37 = 4 x 8 + 5
    assert found[0]["graph"] == 3  # and in the first run 8 steps by themselves, then captured


GRID = tuple(np.geomspace(1.0, 1e-4, 24))


def of_epochs(config: dict, epochs: int) -> list[str]:
    """What a fit of the digits has on the device."""
    names: list[str] = []
    silent = Hooks(lambda event: None, lambda: False)
    with recorded(names):
        whole = {"lr": (0.1,), "batch_size": 16, "patience": 0} | config
        fit_on(device_backend("float32"), gpureg.load_dataset("digits"), FitConfig(epochs=epochs, **whole), silent)
    return names


def an_epochs(config: dict, counts: Callable[[str], bool]) -> float:
    """How many of what `counts` says an epoch adds."""
    of_epochs(config, 2)
    few, many = (sum(map(counts, of_epochs(config, epochs))) for epochs in (10, 20))
    return (many - few) / 10


def to_the_host(name: str) -> bool:
    return name == "copy to the host" or "DtoH" in name


@pytest.mark.parametrize(
    ("config", "most"), [({"l2": (0.0,)}, 1.5), ({"l2": GRID}, 4.0), ({"l2": GRID, "keep": "best"}, 5.0)]
)
def test_transfers_of_an_epoch(config, most):
    """One for an epoch's losses, and three for evaluations that are decided on (of one model ten are made together),
    one more for all the best weights among them: none for a step, and none for a model."""
    # one evaluation an epoch, so that what an epoch costs shows beside it
    assert an_epochs(config | {"evals_per_epoch": 1}, to_the_host) <= most  # of 89 steps each


def test_the_device_goes_on_while_the_host_decides():
    """Five evaluations an epoch of 24 models: when the host waits for one, the next steps are in the queue already. At
    the end of an epoch it waits for all."""
    if not ON_SOFT_DEVICE:
        pytest.skip("the soft device sees what is queued")
    config = {"l2": GRID, "evals_per_epoch": 5}
    assert an_epochs(config, lambda name: name == "wait") <= 1.5
    assert an_epochs(config, lambda name: name == "wait, and the device goes on") >= 10
