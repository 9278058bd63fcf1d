"""`CudaKernels` whole on the CPU: NumPy for what CuPy's libraries do, CuPy's own source for the kernels."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from gpureg.backend import Backend, numpy_backend
from gpureg.kernels.cuda import CudaKernels
from gpureg.losses import LOSSES
from hostcuda.launch import Settings, host, launch_raw


class HostOps:
    """`DeviceOps` on HostArrays; products and gathers are recorded beside the kernels, to count launches."""

    def empty(self, shape, dtype):
        made = host(np.empty(shape, dtype))
        if made.dtype.kind == "f":
            made.fill(np.nan)  # what is read before it is written must show
        return made

    def zeros(self, shape, dtype):
        return host(np.zeros(shape, dtype))

    def contiguous(self, array):
        return host(array)

    def concat(self, parts):
        return host(np.concatenate(parts, axis=1))

    def take(self, array, index, axis, out=None):
        _record("take")
        return host(np.take(array, index, axis=axis, out=out))

    def broadcast_to(self, array, shape):
        return np.broadcast_to(array, shape, subok=True)

    def matmul(self, a, b, out):
        _record("matmul")
        np.matmul(a, b, out=out)

    def matmul_transposed(self, x, r, out, alpha=1.0, beta=0.0):
        _record("matmul_transposed")
        product = np.matmul(x.T, r)
        out[...] = alpha * product if beta == 0.0 else beta * out + alpha * product

    def raw_kernel(self, source, name):
        def launch(blocks, threads, arguments):
            launch_raw(source, name, blocks, threads, arguments)

        return launch

    def captured(self, launches):
        return launches

    def read_later(self, array):
        made = np.array(array)
        return lambda: made

    def eigen_workspace(self, order):
        return 2 * 8 * order**2


def _record(name: str) -> None:
    if Settings.launches is not None:
        Settings.launches.append(name)


def host_backend(dtype: str, free: int | None = None) -> Backend:
    """A backend that calls itself cupy and lives in host memory."""
    own = {"from_host": host, "to_host": np.array, "free_memory": lambda: free}
    return replace(numpy_backend(dtype, why="a test", requested="cuda:0"), name="cupy", device="cuda:0", **own)


def host_kernels(task: str, n_classes: int, dtype: str, *, memory=None, steps_by="fused", free=None) -> CudaKernels:
    """The product's CUDA kernels, executed on the CPU."""
    return CudaKernels(
        host_backend(dtype, free), LOSSES[task], n_classes, memory=memory, steps_by=steps_by, ops=HostOps()
    )


def launches_per_step(record: list[str], steps: int) -> float:
    """Launches that recur with each step, out of a record of `steps` steps."""
    return sum(not re.fullmatch("take", name) for name in record) / steps
