"""`HostArray`: NumPy arrays for which a real CuPy ElementwiseKernel call runs on the CPU.

`ElementwiseKernel.__call__` looks for `__cupy_override_elementwise_kernel__` on its arguments before it touches a
device. The call site in the product stays as it is. (The hook does not receive `size=`: a non-raw argument must fix
the loop.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hostcuda.build import HostFunction, build
from hostcuda.generate import Arg, elementwise_source

BLOCK = 128  # CuPy's own block size for an ElementwiseKernel
_INDEX32_LIMIT = 2**31  # bytes of an array, elements of a loop, as in cupy/_core/_carray.pyx


class Settings:
    """How kernels run: the order of blocks and lanes, the sanitizers, 64-bit indexing by force, only the last blocks of
    a grid, and a record of launches."""

    reverse = False
    sanitize = os.environ.get("HOSTCUDA_SANITIZE") == "1"
    index64 = False
    last_blocks: int | None = None
    launches: list[str] | None = None


@contextmanager
def settings(*, reverse: bool = False, index64: bool = False, last_blocks: int | None = None) -> Iterator[list[str]]:
    """Run kernels in this way inside; yields the names of the kernels launched."""
    before = Settings.reverse, Settings.index64, Settings.last_blocks, Settings.launches
    Settings.reverse, Settings.index64, Settings.last_blocks, Settings.launches = reverse, index64, last_blocks, []
    try:
        yield Settings.launches
    finally:
        Settings.reverse, Settings.index64, Settings.last_blocks, Settings.launches = before


class HostArray(np.ndarray):
    """A NumPy array that stands in for a CuPy one where it meets an ElementwiseKernel."""

    def __cupy_override_elementwise_kernel__(self, kernel, *args):
        launch_elementwise(kernel, *args)
        made = args[kernel.nin :]
        return made[0] if len(made) == 1 and not kernel.return_tuple else made


def host(array) -> HostArray:
    """The array, C-contiguous, as a HostArray."""
    return np.ascontiguousarray(array).view(HostArray)


def launch_elementwise(kernel, *args) -> None:
    """What `ElementwiseKernel.__call__` does, its type and shape checks included, with NumPy arrays for CuPy ones."""
    if len(args) != kernel.nargs:
        raise TypeError(f"{kernel.name} takes {kernel.nargs} arguments, outputs included; got {len(args)}")
    # kernel.params ends with the indexer, which the caller does not pass
    arrays = [a for a, p in zip(args, kernel.params, strict=False) if not p.raw and isinstance(a, np.ndarray)]
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    for array, param in zip(args[kernel.nin :], kernel.out_params, strict=True):
        if not isinstance(array, np.ndarray) or not (param.raw or array.shape == shape):
            raise ValueError(f"{kernel.name}: out shape is mismatched")
        if not array.flags.writeable:
            raise ValueError(f"{kernel.name}: output array is read-only")
    given = tuple(a.dtype if isinstance(a, np.ndarray) else None for a in args[: kernel.nin])
    types = kernel._decide_params_type(given, tuple(a.dtype for a in args[kernel.nin :]))
    spec, buffers = [], []
    for value, param, kind in zip(args, kernel.params, [*types[0], *types[1]], strict=False):
        arg, buffer = _argument(value, param.raw, kind, shape)
        spec.append(arg)
        buffers.append(buffer)
    size = int(np.prod(shape))
    if size == 0:
        return
    buffers.append(np.array([size, *shape, *([0] * len(shape))], np.int64))
    source = elementwise_source(kernel, spec, len(shape), index32=size <= _INDEX32_LIMIT and not Settings.index64)
    if Settings.launches is not None:
        Settings.launches.append(kernel.name)
    function = build(source, kernel.name, Settings.sanitize)
    _run(function, buffers, -(-size // BLOCK), BLOCK)


def _argument(value, raw: bool, kind, shape: tuple[int, ...]) -> tuple[Arg, np.ndarray]:
    """How CuPy sees an argument, and its bytes as the kernel receives them."""
    if not isinstance(value, np.ndarray):
        return Arg(np.dtype(kind).str), np.array(value, kind)
    view = np.asarray(value) if raw else np.broadcast_to(np.asarray(value), shape)
    if view.dtype != kind:
        raise TypeError(f"an array of {view.dtype} where the kernel wants {np.dtype(kind)}")
    index32 = view.nbytes <= _INDEX32_LIMIT and not Settings.index64
    fields = [view.ctypes.data, view.size, *view.shape, *view.strides]  # CArray: data, size, shape, strides
    return Arg(view.dtype.str, view.ndim, view.flags.c_contiguous, index32), np.array(fields, np.int64)


def launch_raw(source: str, name: str, grid: int, block: int, args: tuple) -> None:
    """What `cupy.RawKernel(source, name)((grid,), (block,), args)` does."""
    buffers = []
    for value in args:
        if isinstance(value, np.ndarray) and value.ndim:
            if not value.flags.c_contiguous:
                raise ValueError(f"{name}: a raw kernel sees only an address; the array must be contiguous")
            buffers.append(np.array([value.ctypes.data], np.int64))
        else:
            buffers.append(np.asarray(value))
    if Settings.launches is not None:
        Settings.launches.append(name)
    function = build(source, name, Settings.sanitize)
    _run(function, buffers, grid, block)


def _run(function: HostFunction, buffers: list[np.ndarray], grid: int, block: int) -> None:
    addresses = [buffer.ctypes.data for buffer in buffers]
    function(addresses, grid, block, reverse=Settings.reverse, last_blocks=Settings.last_blocks)
