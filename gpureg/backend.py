"""`Backend`: an array namespace, a device and a float type, chosen once at the edge and passed on.

It adds to the array API what that lacks: the way to the device and back, waiting, and free memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.errors import DeviceError, GpuregWarning, UsageError
from gpureg.types import Array


@dataclass(frozen=True)
class Backend:
    """Where and in what the arithmetic is done.

    `xp` is an array-API namespace, `dtype` the float type's name, `why` one sentence that says how the device was
    chosen, `requested` the device that was asked for. `from_host` takes a NumPy array to the device, `to_host` brings
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

    @property
    def float_type(self) -> Any:
        """The namespace's own dtype object."""
        return getattr(self.xp, self.dtype)


def numpy_backend(dtype: str, *, why: str = "asked for", requested: str = "cpu") -> Backend:
    """NumPy on the CPU."""
    return Backend("numpy", np, "cpu", dtype, why, requested, np.asarray, np.asarray, lambda: None, _free_host_memory)


def cupy_backend(dtype: str, index: int, *, why: str, requested: str) -> Backend:
    """CuPy on CUDA device `index`; raises DeviceError, with the reason, where it can't be had."""
    reason = cuda_unusable(index)
    if reason is not None:
        raise DeviceError(reason)
    import array_api_compat.cupy as xp
    import cupy

    cupy.cuda.Device(index).use()

    def free() -> int:
        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.Device(index).mem_info[0]) + int(pool.free_bytes())

    wait = cupy.cuda.get_current_stream().synchronize
    return Backend("cupy", xp, f"cuda:{index}", dtype, why, requested, cupy.asarray, cupy.asnumpy, wait, free)


def cuda_unusable(index: int = 0) -> str | None:
    """Why CUDA device `index` can't be used, as one clause; None where it can."""
    try:
        import cupy
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):
            return f"CuPy is installed but does not load ({error})"
        return "CuPy is not installed (pip install 'gpureg[cuda13]', or cuda12 for a CUDA 12 driver)"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA driver reports no usable device ({error})"
    if index >= count:
        return f"there is no cuda:{index}; this machine has {count} CUDA device{'s' if count != 1 else ''}"
    try:
        cupy.cuda.Device(index).use()
        cupy.zeros(1).sum()
    except Exception as error:  # whatever the driver objects to is the reason
        return f"cuda:{index} does not work ({type(error).__name__}: {error})"
    return None


def parse_device(device: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:N` as (kind, index). Raises UsageError for anything else."""
    kind, _, index = device.partition(":")
    if kind in ("auto", "cpu") and not index and ":" not in device:
        return kind, 0
    if kind == "cuda" and (index.isdecimal() or ":" not in device):
        return kind, int(index or 0)
    raise UsageError(f"Device {device!r} is unknown; wanted auto, cpu, cuda or cuda:N (N = 0, 1, ...).")


def choose_backend(device: str = "auto", dtype: str = "float32", *, strict: bool = False) -> Backend:
    """The backend for a device, decided once.

    `auto` takes CUDA where there is a usable device, else NumPy. An explicit CUDA device that can't be had falls back
    to the CPU with one GpuregWarning that says why; with `strict` it raises DeviceError (exit code 3).
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return numpy_backend(dtype, why="the CPU was asked for", requested=device)
    reason = cuda_unusable(index)
    if reason is None:
        why = "a usable CUDA device was found" if kind == "auto" else "it was asked for"
        return cupy_backend(dtype, index, why=why, requested=device)
    if kind == "cuda":
        if strict:
            raise DeviceError(
                f"--device {device} was demanded with --strict-device, but {reason}. Install what is missing, or drop "
                "--strict-device to run on the CPU."
            )
        warnings.warn(f"--device {device} can't be had: {reason}. Running on the CPU.", GpuregWarning, stacklevel=2)
    return numpy_backend(dtype, why=reason, requested=device)


def _free_host_memory() -> int | None:
    try:
        with open("/proc/meminfo") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
