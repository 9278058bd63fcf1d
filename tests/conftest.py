"""The two suites, and backends for the tests: NumPy, PyTorch and JAX on the CPU, and array-api-strict on its second
device, where every hidden transfer and every hidden scalar is an error."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpureg.backend import Backend, numpy_backend

BackendFactory = Callable[[str], Backend]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all` runs the whole suite, as `make test-all` does."""
    parser.addoption("--all", action="store_true", help="run the tests marked `long` too, as `make test-all` does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `--all` the tests marked `long` are deselected, unless the command line names a test."""
    if config.getoption("--all") or any("::" in argument for argument in config.args):
        return
    long = [item for item in items if item.get_closest_marker("long") is not None]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


def pytest_configure() -> None:
    """The collector of cycles looks at nothing while modules are imported: they stay, and it would go over their
    hundreds of thousands of objects again and again. `pytest_collection_finish` turns it on."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What has been imported and collected by now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def strict_backend(dtype: str) -> Backend:
    import array_api_strict as xp

    device, host = xp.Device("device1"), xp.Device("CPU_DEVICE")
    return Backend(
        "array-api-strict",
        xp,
        "device1",
        dtype,
        "a test asked for it",
        "device1",
        lambda array: xp.asarray(np.asarray(array), device=device),
        lambda array: np.asarray(array.to_device(host)),
        lambda: None,
        lambda: None,
    )


def torch_backend(dtype: str) -> Backend:
    import array_api_compat.torch as xp
    import torch

    torch.set_num_threads(1)  # the arrays here are small, and a second thread would only spin beside the first
    return Backend(
        "torch",
        xp,
        "cpu",
        dtype,
        "a test asked for it",
        "cpu",
        lambda array: torch.from_numpy(np.ascontiguousarray(array)),
        lambda array: array.detach().numpy(),
        lambda: None,
        lambda: None,
    )


def jax_backend(dtype: str) -> Backend:
    """JAX on the CPU, with its 64-bit types; its arrays can't be written to."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    import jax.numpy as xp

    return Backend(
        "jax", xp, "cpu", dtype, "a test asked for it", "cpu", xp.asarray, np.asarray, lambda: None, lambda: None
    )


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """For what does not hold the BLAS at one thread, as the CPU kernels do: a second one makes small products slower,
    and a hundred times slower if another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch, one_blas_thread: None) -> Iterator[BackendFactory]:
    """array-api-strict's second device, data-dependent shapes off, and `float(x)`, `bool(x)`, `int(x)` turned into
    errors."""
    import array_api_strict as xp

    def refuse(self: Any) -> Any:
        raise AssertionError("a scalar was taken off the device behind the backend's back")

    array = type(xp.asarray(1.0))
    for name in ("__float__", "__bool__", "__int__", "__index__"):
        monkeypatch.setattr(array, name, refuse)
    with xp.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False):
        yield strict_backend


@pytest.fixture(params=["numpy", "torch", "strict", pytest.param("jax", marks=pytest.mark.long)])
def any_backend(request: pytest.FixtureRequest) -> BackendFactory:
    """Each of the four in turn."""
    if request.param == "strict":
        factory: BackendFactory = request.getfixturevalue("strict")
        return factory
    if request.param != "numpy":
        request.getfixturevalue("one_blas_thread")
    factories: dict[str, BackendFactory] = {"numpy": numpy_backend, "torch": torch_backend, "jax": jax_backend}
    return factories[request.param]


@pytest.fixture(scope="session")
def soft() -> dict[str, str]:
    """The environment of processes that see the soft device; where it can't be built the tests skip, or fail under
    GPUREG_REQUIRE_SOFT_DEVICE=1."""
    from softdevice import build

    try:
        return build.environment()
    except build.SoftDeviceError as error:
        if os.environ.get("GPUREG_REQUIRE_SOFT_DEVICE") == "1":
            pytest.fail(f"GPUREG_REQUIRE_SOFT_DEVICE=1, but {error}", pytrace=False)
        pytest.skip(f"no soft device: {error}")
