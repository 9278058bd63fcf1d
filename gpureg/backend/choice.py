"""The choice of a device."""

from __future__ import annotations

import warnings

from gpureg.backend.cuda import backend_of, cuda_unusable, slow_doubles
from gpureg.backend.host import Backend, numpy_backend
from gpureg.errors import DeviceError, GpuregWarning, UsageError, named

SPARSE = "sparse rows are fitted on the CPU"


def parse_device(device: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:N` as (kind, index). Raises UsageError for anything else."""
    kind, _, index = device.partition(":")
    if kind in ("auto", "cpu") and not index and ":" not in device:
        return kind, 0
    if kind == "cuda" and (index.isdecimal() or ":" not in device):
        return kind, int(index or 0)
    raise UsageError(f"Device {device!r} is unknown; expected auto, cpu, cuda or cuda:N (N = 0, 1, ...).")


def choose_backend(
    device: str = "auto",
    dtype: str = "float32",
    *,
    strict: bool = False,
    factorises: bool = False,
    near: int = 0,
    sparse: bool = False,
    tell: bool = True,
) -> Backend:
    """The backend for a device, decided once. `factorises`: whether matrices will be factorised on it, as the
    full-batch solver does; `sparse`: whether the rows are sparse, which only the CPU takes.

    `auto` takes CUDA device `near` if it is usable, else NumPy; also NumPy if the arithmetic is in float64 and that is
    slow on the device. An explicit CUDA device that is not available falls back to the CPU with one GpuregWarning that
    says why (none without `tell`); with `strict` it raises DeviceError (exit code 3).
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return numpy_backend(dtype, why="the CPU was asked for", requested=device)
    index = near if kind == "auto" else index
    if sparse and kind == "auto":
        notice = None if cuda_unusable(index, factorises=factorises) else f"Running on the CPU: {SPARSE}."
        return numpy_backend(dtype, why=SPARSE, requested=device, notice=notice)
    reason = SPARSE if sparse else cuda_unusable(index, factorises=factorises)
    if reason is None and kind == "auto" and dtype == "float64":
        slow = slow_doubles(index)
        if slow is not None:
            way = f"{named('device', f'cuda:{index}')} or {named('dtype', 'float32')}"
            notice = f"Running on the CPU: {slow}; {way} uses it."
            return numpy_backend(dtype, why=slow, requested=device, notice=notice)
    if reason is None:
        why = "a usable CUDA device was found" if kind == "auto" else "it was asked for"
        return backend_of(dtype, index, why, device)
    if kind == "cuda":
        if strict:
            raise DeviceError(
                f"{named('device', device)} is required by {named('strict_device', True)}, but {reason}. Install what "
                f"is missing, or leave out {named('strict_device', True)} to run on the CPU."
            )
        said = f"{named('device', device)} is not available: {reason}. Running on the CPU."
        if tell:
            warnings.warn(said, GpuregWarning, stacklevel=2)
    return numpy_backend(dtype, why=reason or "", requested=device)
