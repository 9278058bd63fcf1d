"""`Backend`: an array namespace, a device and a float type, chosen once at the edge and passed on.

It adds what the array API lacks: transfers to the device and back, waiting, and free memory.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpureg.errors import DeviceError, GpuregWarning, UsageError, named, size_text
from gpureg.types import Array


@dataclass(frozen=True)
class Backend:
    """Where and in what the arithmetic is done.

    `xp` is an array-API namespace, `dtype` the float type's name, `why` one sentence that says how the device was
    chosen, `requested` the requested device, `card` a GPU's name, compute capability and memory and the versions of its
    driver and runtime, as text. `from_host` takes a NumPy array to the device, `to_host` brings
    one back.
    """

    name: str
    xp: Any
    device: str
    dtype: str
    why: str
    requested: str
    from_host: Callable[[Any], Array]
    to_host: Callable[[Array], Any]
    synchronize: Callable[[], None]
    free_memory: Callable[[], int | None]
    card: dict[str, str] = field(default_factory=dict)

    @property
    def float_type(self) -> Any:
        """The namespace's own dtype object."""
        return getattr(self.xp, self.dtype)


def numpy_backend(dtype: str, *, why: str = "asked for", requested: str = "cpu") -> Backend:
    """NumPy on the CPU."""
    return Backend("numpy", np, "cpu", dtype, why, requested, np.asarray, np.asarray, lambda: None, _free_host_memory)


def cupy_backend(dtype: str, index: int, *, why: str, requested: str) -> Backend:
    """CuPy on CUDA device `index`; raises DeviceError, with the reason, if it is not available."""
    reason = cuda_unusable(index)
    if reason is not None:
        raise DeviceError(f"cuda:{index} can't be used: {reason}.")
    return _on_cuda(dtype, index, why, requested)


def _on_cuda(dtype: str, index: int, why: str, requested: str) -> Backend:
    """The backend of a device that has been found usable."""
    import array_api_compat.cupy as xp
    import cupy

    cupy.cuda.Device(index).use()

    def free() -> int:
        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.Device(index).mem_info[0]) + int(pool.free_bytes())

    wait = cupy.cuda.get_current_stream().synchronize
    to_device, to_host = cupy.asarray, cupy.asnumpy
    return Backend("cupy", xp, f"cuda:{index}", dtype, why, requested, to_device, to_host, wait, free, _card(index))


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
            "driver) brings all of them"
        )
    except Exception as error:  # whatever the driver objects to is the reason
        return f"cuda:{index} does not work ({type(error).__name__}: {_first_line(error)})"
    return None


@contextmanager
def device_kept() -> Iterator[None]:
    """Restore CuPy's current device on exit; the caller may rely on it."""
    before = _current_device()
    try:
        yield
    finally:
        if _current_device() != before:
            sys.modules["cupy"].cuda.runtime.setDevice(before)


def parse_device(device: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:N` as (kind, index). Raises UsageError for anything else."""
    kind, _, index = device.partition(":")
    if kind in ("auto", "cpu") and not index and ":" not in device:
        return kind, 0
    if kind == "cuda" and (index.isdecimal() or ":" not in device):
        return kind, int(index or 0)
    raise UsageError(f"Device {device!r} is unknown; expected auto, cpu, cuda or cuda:N (N = 0, 1, ...).")


def choose_backend(
    device: str = "auto", dtype: str = "float32", *, strict: bool = False, factorises: bool = False
) -> Backend:
    """The backend for a device, decided once. `factorises`: whether matrices will be factorised on it, as the
    full-batch solver does.

    `auto` takes CUDA if there is a usable device, else NumPy. An explicit CUDA device that is not available falls back
    to the CPU with one GpuregWarning that says why; with `strict` it raises DeviceError (exit code 3).
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return numpy_backend(dtype, why="the CPU was asked for", requested=device)
    reason = cuda_unusable(index, factorises=factorises)
    if reason is None:
        why = "a usable CUDA device was found" if kind == "auto" else "it was asked for"
        return _on_cuda(dtype, index, why, device)
    if kind == "cuda":
        if strict:
            raise DeviceError(
                f"{named('device', device)} is required by {named('strict_device')}, but {reason}. Install what is "
                f"missing, or drop {named('strict_device')} to run on the CPU."
            )
        notice = f"{named('device', device)} is not available: {reason}. Running on the CPU."
        warnings.warn(notice, GpuregWarning, stacklevel=2)
    return numpy_backend(dtype, why=reason, requested=device)


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


def _current_device() -> int:
    """CuPy's current device; 0, CuPy's default, if CuPy is not loaded or there is no device."""
    try:
        return int(sys.modules["cupy"].cuda.runtime.getDevice())
    except (KeyError, RuntimeError):
        return 0


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _free_host_memory() -> int | None:
    try:
        with open("/proc/meminfo") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
