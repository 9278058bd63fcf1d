"""The rows of an array that lies in a file as it is: an npy file, a member of an npz that is not compressed, IDX."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gpureg.data.array_streams import ArrayStream, npy_stream, numpy_errors
from gpureg.data.idx import read_idx_header
from gpureg.data.opening import GZIP, reading, refuse_special
from gpureg.data.streamed import Scratch, Stamp
from gpureg.errors import DataError, named

Matrix = npt.NDArray[Any]

PIECE_BYTES = 3 << 19  # of rows that are read at once: they are still in a core's cache when they are converted
FEWEST = 32  # rows that are asked for at once, however long they are
POSITIONED = hasattr(os, "preadv")  # reads that say from where: threads may share a file
_LOCAL_HEADER = 30  # bytes before a member's name; the lengths of name and further fields are its last four


@dataclass(frozen=True)
class ArrayRows:
    """`rows` records of `width` numbers of a type, which begin at byte `begin` of a file; see `streamed.Source`.

    `columns`: those that are features, by number; None for all. `image_shape`: (height, width) of images.
    """

    stamp: Stamp
    where: str
    begin: int
    rows: int
    width: int
    stored: np.dtype[Any]
    image_shape: tuple[int, int] | None = None
    columns: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """See the protocol."""
        return self.rows, self.width if self.columns is None else len(self.columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """See the protocol: the machine's byte order; booleans are 0 and 1, and what is wider than float64 is that."""
        if self.stored == np.bool_:
            return np.dtype(np.uint8)
        wide = self.stored.kind == "f" and self.stored.itemsize > 8
        return np.dtype(np.float64) if wide else self.stored.newbyteorder("=")

    @property
    def overhead(self) -> int:
        """See the protocol."""
        return 2 * max(PIECE_BYTES, FEWEST * self.width * self.stored.itemsize)

    @property
    def anywhere(self) -> bool:
        """See the protocol."""
        return POSITIONED

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """See the protocol."""
        return (self.stamp,)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """As the file has it: (rows, width), or (rows, height, width)."""
        return (self.rows, self.width) if self.image_shape is None else (self.rows, *self.image_shape)

    def place(self, row: int) -> tuple[str, int]:
        """See the protocol."""
        return self.where, row

    def of(self, columns: Sequence[int]) -> ArrayRows:
        """Some of its columns as the features."""
        return replace(self, columns=tuple(columns))

    @contextmanager
    def opened(self) -> Iterator[_ArrayReader]:
        """See the protocol."""
        path = self.stamp.path
        with reading(path):
            stream = path.open("rb", buffering=0)
        with stream:
            yield _ArrayReader(self, stream)


class _ArrayReader:
    """See `streamed.Reader`. Rows are read, not mapped: a file that shrinks is an error, and not the end of the
    process."""

    def __init__(self, source: ArrayRows, stream: Any) -> None:
        self._source, self._stream = source, stream
        self._row_bytes = source.width * source.stored.itemsize
        self._at_once = max(1, PIECE_BYTES // max(1, self._row_bytes))
        columns = source.columns
        together = columns is not None and columns == tuple(range(columns[0], columns[0] + len(columns)))
        self._columns = slice(columns[0], columns[-1] + 1) if columns and together else columns

    def pieces(self, start: int, stop: int, scratch: Scratch) -> Iterator[Matrix]:
        """See the protocol."""
        source = self._source
        for first in range(start, stop, self._at_once):
            count = min(self._at_once, stop - first)
            content = scratch.get(count * self._row_bytes)
            self._fill(content, source.begin + first * self._row_bytes)
            rows = np.frombuffer(content, source.stored, count * source.width).reshape(count, source.width)
            rows = rows if self._columns is None else rows[:, self._columns]
            rows = rows.view(np.uint8) if rows.dtype == np.bool_ else rows
            with np.errstate(over="ignore"):  # what float64 does not hold becomes infinite, and is refused
                yield rows.astype(source.dtype, copy=False)

    def _fill(self, target: memoryview, begin: int) -> None:
        """The bytes of the file from one on. Raises DataError if it ends before."""
        filled = 0
        with reading(self._source.stamp.path):
            while filled < len(target):
                count = self._read(target[filled:], begin + filled)
                if not count:
                    self._source.stamp.check()
                    raise DataError(
                        f"{self._source.where} ends before its {self._source.rows:,} rows do: it is cut off. Write it "
                        "again."
                    )
                filled += count

    def _read(self, target: memoryview, begin: int) -> int:
        """Read some bytes from one on; how many there were."""
        if POSITIONED:
            return os.preadv(self._stream.fileno(), [target], begin)
        self._stream.seek(begin)
        return int(self._stream.readinto(target))


def npy_rows(file: Path) -> ArrayRows:
    """The rows of an npy file. Raises DataError for one that can't be streamed."""
    refuse_special(file)
    stamp = Stamp.of(file)
    with numpy_errors(file), file.open("rb") as stream:
        return _of_stream(stamp, stream, str(file))


def npz_rows(file: Path, name: str) -> ArrayRows:
    """The rows of the array `name` of an archive. Raises DataError if it is compressed, or can't be streamed."""
    refuse_special(file)
    stamp, where = Stamp.of(file), f"{name} in {file}"
    with numpy_errors(file), file.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            member = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
        if member.compress_type != zipfile.ZIP_STORED:
            raise DataError(
                f"{where} is compressed, and {named('stream', True)} reads rows where they lie in the file. Write it "
                f"with np.savez, which does not compress, or write the features as an npy file and name the labels "
                f"with {named('labels')}."
            )
        stream.seek(member.header_offset)
        head = stream.read(_LOCAL_HEADER)
        lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        stream.seek(member.header_offset + _LOCAL_HEADER + lengths)
        return _of_stream(stamp, stream, where)


def idx_rows(file: Path) -> ArrayRows:
    """The images of an IDX file. Raises DataError for one that is compressed."""
    refuse_special(file)
    stamp = Stamp.of(file)
    with reading(file), file.open("rb") as stream:
        if stream.read(2) == GZIP:
            raise DataError(
                f"{file} is compressed, and {named('stream', True)} reads rows where they lie in the file. Unpack it: "
                f"gunzip {file.name}"
            )
        stream.seek(0)
        return _rows(stamp, ArrayStream(str(file), *read_idx_header(stream, file), stream))


def _of_stream(stamp: Stamp, stream: BinaryIO, where: str) -> ArrayRows:
    array = npy_stream(stream, where, searchable=True)
    if array.columns_at is not None and array.shape[0] > 1 and array.width > 1:
        raise DataError(
            f"{where} is stored column by column, and {named('stream', True)} reads it row by row. Write it again with "
            "np.save(path, np.ascontiguousarray(X))."
        )
    array.check_numbers()
    return _rows(stamp, array)


def _rows(stamp: Stamp, array: ArrayStream) -> ArrayRows:
    """The rows that begin where the stream is. Raises DataError if there are none, or the file is too short."""
    where, shape, begin = array.name, array.shape, array.stream.tell()
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"{where} has shape {shape}; expected (rows, features), or (rows, height, width) for images.")
    needed = begin + shape[0] * array.width * array.dtype.itemsize
    if needed > stamp.size:
        raise DataError(
            f"{where} is cut off: its header promises {shape[0]:,} rows of {array.width:,} numbers, which end at "
            f"byte {needed:,}, but the file has {stamp.size:,}. Write it again."
        )
    image = (shape[1], shape[2]) if len(shape) == 3 else None
    return ArrayRows(stamp, where, begin, shape[0], array.width, array.dtype, image)
