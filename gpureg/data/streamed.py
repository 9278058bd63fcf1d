"""Rows that stay in their file: in the place of a matrix `(N, F)`, they are read in pieces whenever they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpureg.data.opening import reading
from gpureg.errors import DataError

Matrix = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Picked = tuple[Matrix, Index | None]  # rows of a file, and which of them are meant, by number; None for all

WORTH_A_JUMP = 1 << 13  # rows of the file between two that are read: fewer are read and thrown away


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was opened: its path, size in bytes, and time of the last change in nanoseconds."""

    path: Path
    size: int
    time: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """That of a file as it is now. Raises DataError if it can't be read."""
        with reading(path):
            found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """Raise DataError if the file is no longer what it was."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(
                f"{self.path} is gone ({error.strerror}): its rows are read in blocks for as long as the fit runs. "
                "Put the file back, and resume or start again."
            ) from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.time):
            raise DataError(
                f"{self.path} has changed while it was read ({self.size:,} bytes before, {found.st_size:,} now): its "
                "rows are read in blocks for as long as the fit runs. Restore the file, with its time of change (cp -p "
                "keeps it), and resume; or start again."
            )


class Scratch:
    """Memory that pieces of rows are read into; a thread has its own."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def get(self, size: int) -> memoryview:
        """Its first `size` bytes."""
        if len(self._memory) < size:
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]


class Reader(Protocol):
    """An opened file of rows."""

    def pieces(self, start: int, stop: int, scratch: Scratch) -> Iterator[Matrix]:
        """The rows `start ... stop - 1` `(b, F)`, some at a time; each piece is overwritten by the next, and the caller
        may write to it, unless it is read-only. `scratch`: what they may be read into.
        """
        ...


class Source(Protocol):
    """A file of rows, of all of them; `where` is what messages call it."""

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, features)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers of a piece."""
        ...

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Its files, as they were when they were opened first."""
        ...

    @property
    def overhead(self) -> int:
        """About what a pass holds of it, in bytes; each thread, if it can be read from anywhere."""
        ...

    @property
    def anywhere(self) -> bool:
        """Whether its rows can be read from anywhere, and in several threads at once."""
        ...

    def place(self, row: int) -> tuple[str, int]:
        """What messages call the file of a row, and the row's number in that file."""
        ...

    def opened(self) -> AbstractContextManager[Reader]:
        """Open it for a pass. Raises DataError if it can't be read."""
        ...


@dataclass(frozen=True)
class Part:
    """The rows `index` of a source, by number, in rising order; None for all."""

    source: Source
    index: Index | None = None

    def __len__(self) -> int:
        return self.source.shape[0] if self.index is None else len(self.index)

    def take(self, rows: slice | Index | npt.NDArray[np.bool_]) -> Part:
        """Some of them, in rising order."""
        index = np.arange(self.source.shape[0]) if self.index is None else self.index
        found = index[rows]
        whole = len(found) == self.source.shape[0]
        return Part(self.source, None if whole else found)

    def pieces(self, reader: Reader, start: int, stop: int, scratch: Scratch) -> Iterator[Picked]:
        """The rows `start ... stop - 1` of these, from the opened source: some at a time, as rows of a piece."""
        if self.index is None:
            yield from ((piece, None) for piece in reader.pieces(start, stop, scratch))
            return
        picks = self.index[start:stop]
        for run in np.split(picks, np.flatnonzero(np.diff(picks) > WORTH_A_JUMP) + 1):
            if not len(run):
                continue
            first, taken = int(run[0]), 0
            for piece in reader.pieces(first, int(run[-1]) + 1, scratch):
                end = int(np.searchsorted(run, first + len(piece)))
                if end > taken:
                    yield piece, None if end - taken == len(piece) else run[taken:end] - first
                first, taken = first + len(piece), end


class Opened:
    """Streamed rows during a pass; `may_change`: the caller may write to the pieces."""

    may_change = True

    def __init__(self, parts: tuple[Part, ...], readers: tuple[Reader, ...]) -> None:
        self._parts, self._readers, self._scratch = parts, readers, Scratch()

    def lane(self) -> Opened:
        """The same for another thread."""
        return Opened(self._parts, self._readers)

    def pieces(self, start: int, stop: int) -> Iterator[Matrix]:
        """The rows `start ... stop - 1`, some at a time; see `Reader`."""
        for piece, picks in self.picked(start, stop):
            yield piece if picks is None else piece[picks]

    def picked(self, start: int, stop: int) -> Iterator[Picked]:
        """The same before they are gathered: a piece, and which of its rows they are, None for all."""
        first = 0
        for part, reader in zip(self._parts, self._readers, strict=True):
            own = max(start - first, 0), min(stop - first, len(part))
            if own[0] < own[1]:
                yield from part.pieces(reader, *own, self._scratch)
            first += len(part)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Rows `(N, F)` of files, one part after the other; see the module. It has an array's shape and type, and a
    selection of rows, in rising order, is another such value. `asked`: whether the caller asked for it.
    """

    parts: tuple[Part, ...]
    asked: bool = True

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return sum(map(len, self.parts)), self.parts[0].source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""
        return np.result_type(*(part.source.dtype for part in self.parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Index | npt.NDArray[np.bool_]) -> Streamed:
        numbers = by_part(np.arange(len(self))[rows], [len(part) for part in self.parts])
        found = [part.take(own) for part, own in zip(self.parts, numbers, strict=True)]
        kept = [part for part in found if len(part)]
        return Streamed(tuple(kept or found[:1]), self.asked)

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """Open the files for a pass. Raises DataError if one of them is not what it was, now or after the pass."""
        self._check()
        with ExitStack() as stack:
            yield Opened(self.parts, tuple(stack.enter_context(part.source.opened()) for part in self.parts))
        self._check()

    def _check(self) -> None:
        for stamp in self.stamps:
            stamp.check()

    def overhead(self, threads: int) -> int:
        """About what a pass of that number of threads holds in addition to its result, in bytes."""
        sources = [part.source for part in self.parts]
        each = max((source.overhead for source in sources if source.anywhere), default=0)
        return threads * each + sum(source.overhead for source in sources if not source.anywhere)

    @property
    def anywhere(self) -> bool:
        """Whether rows can be read from anywhere, and in several threads at once."""
        return all(part.source.anywhere for part in self.parts)

    def place(self, row: int) -> tuple[str, int]:
        """What messages call the file of a row, and the row's number in that file."""
        for part in self.parts:
            if row < len(part):
                return part.source.place(row if part.index is None else int(part.index[row]))
            row -= len(part)
        raise IndexError(row)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(stamp for part in self.parts for stamp in part.source.stamps))

    def identity(self) -> str:
        """What identifies the rows: paths, sizes and times of the files."""
        files = [(os.fspath(stamp.path.absolute()), stamp.size, stamp.time) for stamp in self.stamps]
        return repr((self.shape, self.dtype.str, files))


def is_streamed(X: Any) -> bool:
    """Whether these are rows that stay in their file."""
    return isinstance(X, Streamed)


def row_pieces(X: Any, size: int) -> Iterator[Matrix]:
    """The rows of an array, or streamed ones, `size` at a time; a piece may be overwritten by the next."""
    if not isinstance(X, Streamed):
        for start in range(0, len(X), size):
            yield X[start : start + size]
        return
    with X.opened() as rows:
        yield from regrouped(rows.pieces(0, len(X)), size, (min(size, len(X)), X.shape[1]), X.dtype)


def regrouped(pieces: Iterator[Matrix], size: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> Iterator[Matrix]:
    """Pieces of `size` rows each, but for the last."""
    buffer, filled = np.empty(shape, dtype), 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            count = min(size - filled, len(piece) - start)
            buffer[filled : filled + count] = piece[start : start + count]
            filled, start = filled + count, start + count
            if filled == size:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def by_part(numbers: Index, sizes: Sequence[int]) -> list[Index]:
    """The numbers of some rows, in rising order, as numbers in each of the parts, which have these sizes."""
    ends = np.cumsum(sizes)
    cuts = np.split(numbers, np.searchsorted(numbers, ends[:-1]))
    return [own - first for own, first in zip(cuts, [0, *ends[:-1].tolist()], strict=True)]


def joined(one: Streamed, other: Streamed) -> Streamed:
    """The rows of both, one after the other."""
    return Streamed((*one.parts, *other.parts), one.asked)
