"""The namespace and device of the caller's arrays: bringing them to the host, and results back to where they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import array_api_compat as compat
import numpy as np
import numpy.typing as npt

from gpureg.data.collections import is_dask
from gpureg.data.sparse import is_sparse
from gpureg.errors import OutOfMemoryError
from gpureg.types import Array

HostArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Home:
    """An array namespace and a device of it; NumPy's is `Home(numpy, None)`."""

    xp: Any
    device: Any

    @property
    def host(self) -> bool:
        """Whether its arrays are NumPy's."""
        return self.xp is np

    def bring(self, array: HostArray) -> Array:
        """A host array as one of this namespace, on its device; text stays NumPy's: the others have none."""
        if self.host or array.dtype.kind not in "biuf":
            return array
        with memory_explained():
            return self.xp.asarray(array, device=self.device)

    def same(self, other: Home) -> bool:
        """Whether arrays of the two can meet in one operation."""
        return self.xp is other.xp and self.device == other.device

    def __str__(self) -> str:
        return "numpy" if self.host else f"{self.xp.__name__.rpartition('.')[2]} on {self.device}"


HOST = Home(np, None)


@contextmanager
def memory_explained() -> Iterator[None]:
    """Within the block, or the function that it decorates, an allocator's error of the caller's own device becomes an
    OutOfMemoryError that says what helps.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:  # PyTorch's is a RuntimeError
        if not isinstance(error, MemoryError) and "out of memory" not in str(error):
            raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise OutOfMemoryError(
            f"There is too little memory where X lies ({reason}). Free some of it, or pass fewer rows at a time, or "
            "NumPy arrays: results are then on the host."
        ) from error


def home_of(value: Any) -> Home:
    """The home of an array; lists, data frames, scalars and what Dask computes are at home on the host."""
    if is_dask(value) or isinstance(value, (np.ndarray, np.generic)) or not compat.is_array_api_obj(value):
        return HOST
    return Home(compat.array_namespace(value), compat.device(value))


def to_host(value: Any) -> Any:
    """An array of another namespace as NumPy's, cupyx's sparse matrices as SciPy's, Dask's collections computed;
    anything else as it is.

    CuPy and PyTorch copy their own to the host, others go through DLPack. NumPy lacks bfloat16: it becomes float32.
    """
    if is_dask(value):
        return value.compute()
    if is_sparse(value) and type(value).__module__.startswith("cupyx"):
        return value.get()
    home = home_of(value)
    if home.host:
        return value
    xp = home.xp
    if compat.is_torch_array(value) and str(value.layout) != "torch.strided":
        raise TypeError(
            f"X is a sparse tensor of PyTorch ({value.layout}); expected a dense one, or one of SciPy's formats: "
            "scipy.sparse.csr_array((values, columns, row_pointers))."
        )
    if "bfloat16" in str(value.dtype):
        value = xp.astype(value, xp.float32)
    if compat.is_torch_array(value):
        return np.from_dlpack(value.detach().cpu())
    if compat.is_cupy_array(value):
        return compat.to_device(value, "cpu")
    try:
        return np.from_dlpack(value, device="cpu")
    except (AttributeError, BufferError, TypeError, ValueError):
        return np.asarray(value)


def cuda_index(home: Home) -> int | None:
    """The CUDA device that arrays of this home lie on, None for any other."""
    device = home.device
    if getattr(device, "type", None) == "cuda":  # PyTorch
        return int(device.index or 0)
    return int(device.id) if home.xp is not np and home.xp.__name__.endswith("cupy") else None
