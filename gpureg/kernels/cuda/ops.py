"""What the CUDA kernels need from CuPy in addition to their own launches, in one place.

`CudaKernels` is written against `DeviceOps`, so that the tests can run it whole on the CPU: there the operations are
NumPy's and the kernels are CuPy's own source compiled for the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpureg.backend import Backend
from gpureg.types import Array

MOST_PINNED = 16 * 2**20  # bytes
RawLaunch = Callable[[int, int, tuple[Any, ...]], None]


class DeviceOps(Protocol):
    """Array operations on the device; all shapes are 2-D and C-contiguous unless stated otherwise."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised memory."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory set to zero."""
        ...

    def contiguous(self, array: Array) -> Array:
        """The array itself if it is C-contiguous, else a copy that is."""
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

    def raw_kernel(self, source: str, name: str) -> RawLaunch:
        """A raw kernel; call it with (blocks, threads, arguments)."""
        ...

    def captured(self, launches: Callable[[], None]) -> Callable[[], None]:
        """Launches of raw kernels as one, to be repeated: what they were given is what every repetition is given."""
        ...

    def read_later(self, array: Array) -> Callable[[], Any]:
        """Start the copy to the host; the result waits for what was queued before it, and for nothing queued later."""
        ...

    def eigen_workspace(self, order: int) -> int:
        """Bytes of workspace that the library needs for the eigenvectors of a symmetric float64 matrix."""
        ...


@dataclass(frozen=True)
class ToDevice:
    """The way of host arrays to the device, and `dtype`, the float type of the weights there."""

    from_host: Callable[[Any], Array]
    dtype: np.dtype[Any]

    def floats(self, host: Any) -> Array:
        """Contiguous, in the weights' type."""
        return self.from_host(np.ascontiguousarray(host, self.dtype))

    def ints(self, host: Any) -> Array:
        """Contiguous, as int32."""
        return self.from_host(np.ascontiguousarray(host, np.int32))

    def indices(self, host: Any) -> Array:
        """Contiguous, as int64, for `DeviceOps.take`."""
        return self.from_host(np.ascontiguousarray(host, np.int64))


class CupyOps:
    """`DeviceOps` through CuPy, on the backend's device.

    Products of C-contiguous matrices go straight to cuBLAS, the accumulating one in one launch (`_CublasProduct`).
    The interface for that is not documented: with `documented_only`, or if it does not load, `cupy.matmul` makes the
    products, and the accumulating one goes to separate memory and is added by separate launches.
    """

    def __init__(self, backend: Backend, *, documented_only: bool = False) -> None:
        import cupy

        self._cp = cupy
        self._product = None if documented_only else _cublas_product()
        self._raw: dict[str, Any] = {}

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
        if self._product is not None and _contiguous(a, b, out):
            self._product(a, b, out, transposed=False, alpha=1.0, beta=0.0)
        else:
            self._cp.matmul(a, b, out=out)

    def matmul_transposed(self, x: Array, r: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """See the protocol."""
        if self._product is not None and _contiguous(x, r, out):
            self._product(x, r, out, transposed=True, alpha=alpha, beta=beta)
        elif beta == 0.0 and alpha == 1.0:
            self._cp.matmul(x.T, r, out=out)
        else:
            product = self._cp.matmul(x.T, r)
            out *= beta
            out += alpha * product

    def raw_kernel(self, source: str, name: str) -> RawLaunch:
        """See the protocol."""
        kernel = self._raw.get(source)
        if kernel is None:
            kernel = self._raw[source] = self._cp.RawKernel(source, name)

        def launch(blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
            kernel((blocks,), (threads,), arguments)

        return launch

    def captured(self, launches: Callable[[], None]) -> Callable[[], None]:
        """See the protocol; a CUDA graph, captured on a separate stream, where nothing is run."""
        stream = self._cp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                launches()
            finally:
                graph = stream.end_capture()

        def launch() -> None:
            graph.launch()  # on the current stream

        return launch

    def read_later(self, array: Array) -> Callable[[], Any]:
        """See the protocol; through pinned memory, since only a copy to that runs while the host continues. CuPy keeps
        what it pins, so a large array is copied without it, when the result is needed.
        """
        if array.nbytes > MOST_PINNED:
            return lambda: self._cp.asnumpy(array)  # sync
        memory = self._cp.cuda.alloc_pinned_memory(array.nbytes)
        host = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
        array.get(out=host, blocking=False)
        event = self._cp.cuda.Event(disable_timing=True)
        event.record()

        def result() -> Any:
            event.synchronize()  # sync
            return host.copy()

        return result

    def eigen_workspace(self, order: int) -> int:
        """See the protocol; asked of cuSOLVER, by the binding that `cupy.linalg.eigh` uses."""
        cp = self._cp
        try:
            from cupy_backends.cuda.libs import cublas, cusolver

            matrix, lower = cp.empty(1), cublas.CUBLAS_FILL_MODE_LOWER  # only its address is asked for
            params = cusolver.createParams()
            try:
                kind, vectors = cp.cuda.runtime.CUDA_R_64F, cusolver.CUSOLVER_EIG_MODE_VECTOR
                handle, place = cp.cuda.Device().cusolver_handle, matrix.data.ptr
                shape = (handle, params, vectors, lower, order, kind, place, order, kind, place, kind)
                return int(cusolver.xsyevd_bufferSize(*shape)[0])
            finally:
                cusolver.destroyParams(params)
        except (ImportError, AttributeError):
            return 3 * 8 * order**2  # LAPACK's way needs two matrices and a little


def _contiguous(a: Array, b: Array, out: Array) -> bool:
    return bool(a.flags.c_contiguous and b.flags.c_contiguous and out.flags.c_contiguous)


class _CublasProduct:
    """`out = alpha op(a) b + beta out`, op(a) = a' where `transposed`, by CuPy's binding of cuBLAS.

    Matrices are C-contiguous and of one type; alpha and beta are 0, 1 or -1. The binding takes addresses: a call costs
    the host about 2 µs with the check, `cupy.matmul` and `cupy.cublas.gemm` 4 (`bench/cuda_host.py`), and of a step of
    128 x 785 x 10 the host's part may be the longest. Raises ImportError or AttributeError where this CuPy has no such
    binding.
    """

    def __init__(self) -> None:
        from cupy.cuda.device import get_cublas_handle
        from cupy_backends.cuda.libs import cublas

        self._handle = get_cublas_handle
        self._routines = {"f": cublas.sgemm, "d": cublas.dgemm}
        self._plain, self._transpose = cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_T
        factors = (0.0, 1.0, -1.0)
        self._host = {kind: np.array(factors, kind) for kind in self._routines}  # read through their addresses
        self._places = {
            kind: {factor: array.ctypes.data + j * array.itemsize for j, factor in enumerate(factors)}
            for kind, array in self._host.items()
        }

    def __call__(self, a: Array, b: Array, out: Array, *, transposed: bool, alpha: float, beta: float) -> None:
        kind, (rows, columns) = out.dtype.char, out.shape
        inner, operation = (a.shape[0], self._transpose) if transposed else (a.shape[1], self._plain)
        place = self._places[kind]
        # cuBLAS stores by columns, and so sees each matrix transposed: out' = b' op(a)'
        self._routines[kind](
            *(self._handle(), self._plain, operation, columns, rows, inner),
            *(place[alpha], b.data.ptr, columns, a.data.ptr, a.shape[1], place[beta], out.data.ptr, columns),
        )


def _cublas_product() -> _CublasProduct | None:
    try:
        return _CublasProduct()
    except (ImportError, AttributeError):
        return None
