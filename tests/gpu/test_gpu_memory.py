"""Device memory: what a run takes is no more than was estimated; running out of it is explained."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

import gpureg
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning, OutOfMemoryError
from gpureg.fitting import memory
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.fitting.memory import check_memory

from .conftest import device_backend

pytestmark = pytest.mark.gpu
SILENT = Hooks(lambda event: None, lambda: False)
GRID = tuple(np.geomspace(1.0, 1e-4, 16))
# rows, features, classes and options; the shapes differ in what takes most
RUNS = {
    "samples": (5000, 300, 10, {}),
    "models": (2000, 64, 10, {"l2": GRID}),
    "best": (3000, 100, 10, {"l2": GRID[:2], "keep": "best"}),
    "classes": (3000, 100, 100, {"l2": GRID[:3]}),
    "folds": (2000, 64, 10, {"l2": GRID, "cv": 5}),
    "seeds": (2000, 64, 10, {"seeds": 3, "cv": 3}),
    "logistic": (4000, 50, 2, {"task": "logistic", "l2": GRID}),
    "full-batch": (2000, 64, 10, {"solver": "lbfgs", "l2": GRID, "max_iter": 30}),
    "full-batch-wide": (4000, 300, 10, {"solver": "lbfgs", "l2": GRID[:2], "max_iter": 10}),
    "full-batch-rows": (50_000, 4, 10, {"solver": "lbfgs", "l2": GRID[:4], "max_iter": 10}),
    "full-batch-classes": (3000, 20, 100, {"solver": "lbfgs", "l2": GRID[:4], "max_iter": 10}),
    "full-batch-logistic": (2000, 64, 2, {"solver": "lbfgs", "task": "logistic", "l2": GRID}),
    "full-batch-folds": (2000, 64, 10, {"solver": "lbfgs", "l2": GRID[:4], "cv": 4, "max_iter": 10}),
}


def peak_of(run) -> int:
    """The most bytes that were in use at once, of CuPy's pool."""
    import cupy
    from cupy.cuda.memory_hook import MemoryHook

    pool = cupy.get_default_memory_pool()

    class Peak(MemoryHook):
        name, before, most = "peak", pool.used_bytes(), 0

        def malloc_postprocess(self, **_):
            self.most = max(self.most, pool.used_bytes() - self.before)

    hook = Peak()
    with hook:
        run()
    return hook.most


CASES = [(name, dtype, "fused") for name in RUNS for dtype in ("float32", "float64")]
CASES += [(name, "float32", "reference") for name in ("samples", "logistic", "seeds", "full-batch-wide")]
CASES += [(name, "float32", "pair") for name in ("samples", "models", "best", "seeds", "logistic")]


@pytest.mark.parametrize(("name", "dtype", "kernels"), CASES)
def test_a_run_takes_no_more_than_was_estimated(name, dtype, kernels, monkeypatch):
    rows, features, classes, options = RUNS[name]
    rng = np.random.default_rng(0)
    data = gpureg.make_dataset(rng.standard_normal((rows, features)).astype(np.float32), rng.integers(0, classes, rows))
    backend = device_backend(dtype)
    found: list[int] = []

    def estimated(solver, kernels, *arguments):
        """The smallest free memory with which the run is not refused, by halving."""
        low, high = 0, 2**34
        while high - low > 1:
            free = (low + high) // 2
            real, kernels.backend = kernels.backend, replace(kernels.backend, free_memory=lambda free=free: free)
            try:
                check_memory(solver, kernels, *arguments)
                high = free
            except OutOfMemoryError:
                low = free
            finally:
                kernels.backend = real
        found.append(high)

    monkeypatch.setattr(memory, "check_memory", estimated)
    limit = {} if "solver" in options else {"epochs": 2}
    config = FitConfig(**(limit | {"dtype": dtype, "kernels": kernels} | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        peak = peak_of(lambda: fit_on(backend, data, config, SILENT))
    assert peak <= found[0]
    if config.solver == "sgd" and kernels == "fused":
        assert found[0] <= 3 * peak  # and it does not refuse what would fit easily
