"""The backend of an NVIDIA GPU, through CuPy, which is imported inside the functions that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpureg.backend.host import Backend
from gpureg.errors import DeviceError, size_text
from gpureg.types import Array

SLICE = 16 * 2**20  # bytes: CuPy pins a copy of what it uploads, up to twice as large, and keeps that for the process
SLOW_DOUBLES = 8  # float32's rate over float64's above which float64 belongs on a CPU; most cards have 32 or 64


def cupy_backend(dtype: str, index: int, *, why: str, requested: str) -> Backend:
    """CuPy on CUDA device `index`; raises DeviceError, with the reason, if it is not available."""
    reason = cuda_unusable(index)
    if reason is not None:
        raise DeviceError(f"cuda:{index} can't be used: {reason}.")
    return backend_of(dtype, index, why, requested)


def backend_of(dtype: str, index: int, why: str, requested: str) -> Backend:
    """The backend of a device that has been found usable. Use it inside `Backend.in_use`."""
    import array_api_compat.cupy as xp
    import cupy

    @contextmanager
    def current() -> Iterator[None]:
        before = cupy.cuda.runtime.getDevice()  # the caller's own
        cupy.cuda.runtime.setDevice(index)
        try:
            yield
        finally:
            cupy.cuda.runtime.setDevice(before)

    return Backend(
        name="cupy",
        xp=xp,
        device=f"cuda:{index}",
        dtype=dtype,
        why=why,
        requested=requested,
        from_host=_upload,
        to_host=cupy.asnumpy,
        synchronize=lambda: cupy.cuda.get_current_stream().synchronize(),
        free_memory=lambda: _free_memory(index),
        card=_card(index),
        current=current,
        lacks_memory=_lacks_memory,
        release=lambda: cupy.get_default_memory_pool().free_all_blocks(),
    )


def cuda_unusable(index: int = 0, *, factorises: bool = False) -> str | None:
    """Why CUDA device `index` can't be used, as one clause; None if it can.

    Runs a kernel, a product and, with `factorises`, a factorisation: the driver may be present while a library that
    they need is not.
    """
    try:
        import cupy
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):
            return f"CuPy is installed but does not load ({_first_line(error)})"
        return "CuPy is not installed (pip install 'gpureg[cuda13]', or cuda12 for a CUDA 12 driver)"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA driver reports no usable device ({error})"
    if index >= count:
        return f"there is no cuda:{index}; this machine has {count} CUDA device{'s' if count != 1 else ''}"
    try:
        with cupy.cuda.Device(index):
            product = cupy.matmul(cupy.ones((2, 2)), cupy.eye(2))
            if factorises:
                product = cupy.linalg.cholesky(product + cupy.eye(2))
            product.sum().item()
    except ImportError as error:
        return (
            f"a CUDA library is missing ({_first_line(error)}); pip install 'gpureg[cuda13]' (cuda12 for a CUDA 12 "
            "driver) installs all of them"
        )
    except Exception as error:  # whatever the driver objects to is the reason
        if _lacks_memory(error):
            return f"cuda:{index} has no memory left ({_first_line(error).rstrip('.')})"
        return f"cuda:{index} does not work ({type(error).__name__}: {_first_line(error)})"
    return None


def cuda_count() -> int:
    """The number of CUDA devices of this machine; 0 without CuPy or a driver."""
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # whatever is missing: there is none
        return 0


def slow_doubles(index: int) -> str | None:
    """That a usable device is slow in float64, as one clause; None if it is not, or does not say."""
    import cupy

    ratio = int(cupy.cuda.Device(index).attributes.get("SingleToDoublePrecisionPerfRatio", 0))
    return f"cuda:{index} is {ratio} times as slow in float64 as in float32" if ratio > SLOW_DOUBLES else None


def _upload(host: Any) -> Array:
    """A copy on the device; a large one in slices of its first axis, none of which is pinned."""
    import cupy

    if not isinstance(host, np.ndarray) or host.nbytes <= SLICE:
        return cupy.asarray(host)
    made = cupy.empty(host.shape, host.dtype)
    rows = max(1, SLICE * len(host) // host.nbytes)
    for start in range(0, len(host), rows):
        made[start : start + rows].set(host[start : start + rows])
    return made


def _free_memory(index: int) -> int:
    """What the device has, what CuPy's pool keeps for later, and no more than the pool's limit leaves."""
    import cupy

    pool = cupy.get_default_memory_pool()
    with cupy.cuda.Device(index) as device:
        free, limit = int(device.mem_info[0]) + int(pool.free_bytes()), int(pool.get_limit())
        return min(free, limit - int(pool.used_bytes())) if limit else free


def _lacks_memory(error: BaseException) -> bool:
    """CuPy's allocator, the runtime, the driver and the libraries each say it in their own way."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        type(error).__module__.startswith("cupy")
        and any(words in said for words in ("ErrorMemoryAllocation", "OUT_OF_MEMORY", "ALLOC_FAILED"))
    )


def _card(index: int) -> dict[str, str]:
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(index)
    return {
        "name": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "memory": size_text(properties["totalGlobalMem"]),
        "driver": _cuda_version(runtime.driverGetVersion()),
        "runtime": _cuda_version(runtime.runtimeGetVersion()),
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
