"""A usable CUDA device or a reason: tests here skip without one, or fail where GPUREG_REQUIRE_GPU=1."""

from __future__ import annotations

import os

import pytest

from gpureg.backend import Backend, cuda_unusable, cupy_backend

ON_SOFT_DEVICE = "SOFTDEVICE_LOG" in os.environ


@pytest.fixture(autouse=True, scope="session")
def usable_device() -> None:
    """Every test here asks for it; the reason is printed with the skip (`pytest -ra`)."""
    reason = cuda_unusable(0)
    if reason is None:
        return
    if os.environ.get("GPUREG_REQUIRE_GPU") == "1":
        pytest.fail(f"GPUREG_REQUIRE_GPU=1, but {reason}", pytrace=False)
    pytest.skip(f"no GPU: {reason}")


def device_backend(dtype: str, index: int = 0) -> Backend:
    """CuPy on a device, as the product makes it."""
    return cupy_backend(dtype, index, why="a test", requested=f"cuda:{index}")
