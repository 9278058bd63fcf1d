"""What the CUDA kernels ask of CuPy besides their own launches, in one place.

`CudaKernels` is written against `DeviceOps`, so that the tests can run it whole on the CPU: there the operations are
NumPy's and the kernels are CuPy's own source compiled for the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gpureg.backend import Backend
from gpureg.types import Array

RawLaunch = Callable[[int, int, tuple[Any, ...]], None]


class DeviceOps(Protocol):
    """Array operations on the device; all shapes are 2-D and C-contiguous where nothing else is said."""

    out_of_memory: type[BaseException]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised memory."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory set to zero."""
        ...

    def contiguous(self, array: Array) -> Array:
        """The array itself where it is C-contiguous, else a copy that is."""
        ...

    def concat(self, parts: list[Array]) -> Array:
        """Columns side by side."""
        ...

    def take(self, array: Array, index: Array, axis: int, out: Array | None = None) -> Array:
        """Rows or columns by index; indices out of range wrap silently."""
        ...

    def broadcast_to(self, array: Array, shape: tuple[int, ...]) -> Array:
        """A view with strides of 0."""
        ...

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """`out = a b`."""
        ...

    def matmul_transposed(self, x: Array, r: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """`out = alpha x' r + beta out`, x (B, D), r (B, C), out (D, C); beta is 0 or 1."""
        ...

    def raw_kernel(self, source: str, name: str, shared_bytes: int) -> RawLaunch:
        """A raw kernel with dynamic shared memory; call it with (blocks, threads, arguments)."""
        ...

    def shared_memory_limit(self) -> int:
        """Bytes of shared memory that one block may ask for."""
        ...


class CupyOps:
    """`DeviceOps` through CuPy, on the backend's device.

    The accumulating product is `cupy.cublas.gemm`, one launch. That module is not documented: with
    `documented_only`, or where it does not load, the product goes to memory of its own and is added in a second launch.
    """

    def __init__(self, backend: Backend, *, documented_only: bool = False) -> None:
        import cupy

        self._cp = cupy
        self._gemm: Callable[..., Any] | None = None if documented_only else _gemm()
        self._raw: dict[tuple[str, int], Any] = {}
        self.out_of_memory: type[BaseException] = cupy.cuda.memory.OutOfMemoryError

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See the protocol."""
        return self._cp.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See the protocol."""
        return self._cp.zeros(shape, dtype)

    def contiguous(self, array: Array) -> Array:
        """See the protocol."""
        return self._cp.ascontiguousarray(array)

    def concat(self, parts: list[Array]) -> Array:
        """See the protocol."""
        return self._cp.concatenate(parts, axis=1)

    def take(self, array: Array, index: Array, axis: int, out: Array | None = None) -> Array:
        """See the protocol."""
        return self._cp.take(array, index, axis=axis, out=out)

    def broadcast_to(self, array: Array, shape: tuple[int, ...]) -> Array:
        """See the protocol."""
        return self._cp.broadcast_to(array, shape)

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """See the protocol."""
        self._cp.matmul(a, b, out=out)

    def matmul_transposed(self, x: Array, r: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """See the protocol."""
        if self._gemm is not None:
            self._gemm("T", "N", x, r, out=out, alpha=alpha, beta=beta)
        elif beta == 0.0 and alpha == 1.0:
            self._cp.matmul(x.T, r, out=out)
        else:
            product = self._cp.matmul(x.T, r)
            out *= beta
            out += alpha * product

    def raw_kernel(self, source: str, name: str, shared_bytes: int) -> RawLaunch:
        """See the protocol."""
        kernel = self._raw.get((source, shared_bytes))
        if kernel is None:
            kernel = self._raw[source, shared_bytes] = self._cp.RawKernel(source, name)
            kernel.max_dynamic_shared_size_bytes = shared_bytes  # above 48 kB a kernel has to ask

        def launch(blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
            kernel((blocks,), (threads,), arguments, shared_mem=shared_bytes)

        return launch

    def shared_memory_limit(self) -> int:
        """See the protocol."""
        attributes = self._cp.cuda.Device().attributes
        return int(attributes.get("MaxSharedMemoryPerBlockOptin", attributes["MaxSharedMemoryPerBlock"]))


def _gemm() -> Callable[..., Any] | None:
    try:
        from cupy.cublas import gemm
    except ImportError:
        return None
    return gemm
