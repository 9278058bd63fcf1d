"""Opening a file of data: a regular file only, plain or gzip, with one kind of error for whatever goes wrong."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpureg.data.limits import Limit
from gpureg.errors import DataError

GZIP = b"\x1f\x8b"
MOST_PER_BYTE = 8  # a cell of one character and its delimiter become two float64: Arrow's and the matrix's
_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def refuse_special(path: Path) -> None:
    """Raise DataError for what is not a file on a disk: reading a pipe or a device may never end."""
    with reading(path):
        mode = path.stat().st_mode
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise DataError(f"{path} is {name}; expected a file. Write the data to a file and name that.")


@contextmanager
def reading(path: Path, what: str = "") -> Iterator[None]:
    """What the system, or too little memory, makes of reading `path` becomes a DataError that names it.

    `what` says what the file should be, e.g. " as CSV".
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"can't read {path}{what}: {first_words(error)}. {_advice(error)}") from error
    except MemoryError as error:
        raise DataError(
            f"can't read {path}{what}: {first_words(error)}. Its rows do not fit in the free memory: keep fewer "
            "rows or columns, or store a narrower type."
        ) from error


@contextmanager
def opened(path: Path, limit: Limit, row_bytes: int = 0) -> Iterator[BinaryIO]:
    """The content of a file, unpacked where its first bytes are gzip's (files go by wrong names).

    `row_bytes`: what each of its lines takes once it is read, which the limit counts too (of a file so small that it
    can't take too much they are not counted). Raises DataError.
    """
    refuse_special(path)
    with reading(path), path.open("rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        if not packed and (not row_bytes or MOST_PER_BYTE * path.stat().st_size <= limit.most):
            yield file
            return
        yield cast(BinaryIO, _Counted(path, file, packed, limit, row_bytes))


def first_words(error: BaseException) -> str:
    """The first line of an error's text, cut at 200 characters; for the system's own errors their reason."""
    said = getattr(error, "strerror", None) or str(error)
    text = (said.splitlines() or [""])[0].rstrip(". ") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Check its permissions and those of its folder."
    return "Check that the file is there and whole; write or fetch it again."


class _Counted(io.BufferedIOBase):
    """A file's unpacked bytes and lines, counted while they are read."""

    def __init__(self, path: Path, file: BinaryIO, packed: bool, limit: Limit, row_bytes: int) -> None:
        super().__init__()
        self._path, self._file, self._limit, self._row_bytes = path, file, limit, row_bytes
        self._source: Any = gzip.GzipFile(fileobj=file) if packed else file
        self._packed = packed
        self._bytes = self._lines = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._count(self._source.read, size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._count(self._source.read1, size)

    def _count(self, read: Callable[[Any], bytes], size: int | None) -> bytes:
        try:
            block = read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"can't read {self._path}: damaged gzip data ({first_words(error)}). Write or fetch the file again."
            ) from error
        self._bytes += len(block)
        if self._row_bytes:
            self._lines += block.count(b"\n")
            self._limit.check(self._row_bytes * self._lines, self._path)
        if self._packed:
            self._limit.check(self._bytes, self._path, self._file.tell())
        return block
