"""Arrays in npy and npz files and IDX images, whose rows are read one after the other."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from gpureg.data.idx import read_idx_header
from gpureg.data.limits import UNLIMITED, machine_limit
from gpureg.data.opening import first_words, opened, reading
from gpureg.errors import DataError, GpuregError

Matrix = npt.NDArray[Any]


@dataclass(frozen=True)
class ArrayStream:
    """An array of which the next rows are read from `stream`; `name` is for messages.

    `columns_at`: where the numbers begin of a matrix that is stored column by column, in a stream that seeks.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: BinaryIO
    columns_at: int | None = None

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def check_numbers(self) -> None:
        """Raise DataError for what is neither features nor images."""
        if self.dtype.kind not in "biuf" or len(self.shape) not in (2, 3):
            raise DataError(
                f"{self.name} has type {self.dtype} and shape {self.shape}; expected numbers (rows, features) or "
                "images (rows, height, width)."
            )

    def read(self, start: int, count: int) -> Matrix:
        """The rows from `start` on, which are the next ones: `(count, ...)`. Raises DataError if they are not there."""
        if self.columns_at is None:
            flat = np.frombuffer(self._bytes(count * self.width * self.dtype.itemsize), self.dtype)
            return self._native(flat.reshape(count, *self.shape[1:]))
        columns = []
        for column in range(self.width):
            self.stream.seek(self.columns_at + (column * self.shape[0] + start) * self.dtype.itemsize)
            columns.append(np.frombuffer(self._bytes(count * self.dtype.itemsize), self.dtype))
        return self._native(np.stack(columns).T.reshape((count, *self.shape[1:]), order="F"))

    def _bytes(self, size: int) -> bytearray:
        content = bytearray()
        while len(content) < size:
            block = self.stream.read(size - len(content))
            if not block:
                raise DataError(f"{self.name} is cut off: its header promises the shape {self.shape}. Write it again.")
            content += block
        return content

    def _native(self, values: Matrix) -> Matrix:
        return values.astype(self.dtype.newbyteorder("="), copy=False)


def npy_stream(stream: BinaryIO, name: str, *, searchable: bool) -> ArrayStream:
    """The array that an npy stream begins with; one that is stored column by column is read whole, if it must be.

    Raises DataError for a single value, ValueError for pickled objects and for what is not an npy stream.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if not shape:
        raise DataError(f"{name} is a single value; expected one for each row.")
    if not by_column or len(shape) == 1:
        return ArrayStream(name, shape, dtype, stream)
    if searchable:
        return ArrayStream(name, shape, dtype, stream, stream.tell())
    size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    machine_limit().check(size, Path(name))
    return ArrayStream(name, shape, dtype, io.BytesIO(stream.read(size)), 0)


def npz_stream(archive: zipfile.ZipFile, name: str, file: Path, stack: ExitStack) -> ArrayStream:
    """The array `name` of an archive."""
    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    stream = stack.enter_context(archive.open(member))
    return npy_stream(cast(BinaryIO, stream), f"{name} in {file}", searchable=False)


def idx_stream(path: Path, stack: ExitStack) -> ArrayStream:
    """The array of an IDX file, plain or gzip."""
    stream = stack.enter_context(opened(path, UNLIMITED))
    with reading(path):
        shape, dtype = read_idx_header(stream, path)
    return ArrayStream(str(path), shape, dtype, stream)


@contextmanager
def numpy_errors(file: Path) -> Iterator[None]:
    """Turn what reading raises into a DataError: NumPy's header parser lets errors through, even tokenize's."""
    try:
        with reading(file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged header is read as Python's source, which has its own
            yield
    except GpuregError:
        raise
    except Exception as error:  # as above, and zipfile's and zlib's
        if "allow_pickle" in str(error):
            raise DataError(
                f"{file} holds pickled Python objects, which gpureg does not load: they can run any code. "
                "Store plain arrays of numbers or fixed-width words."
            ) from error
        raise DataError(
            f"can't read {file}: {first_words(error)}. It is damaged or cut off; write it again."
        ) from error
