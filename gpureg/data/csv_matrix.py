"""The quick way of reading a CSV file: several parts at once, their numbers put into a matrix while in the cache.

It is for large files of numbers and labels that need nothing else. What does not fit is read again in the usual way,
which finds out what is the matter and has the messages.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.csv_files import Kinds, csv_options
from gpureg.data.csv_header import Header
from gpureg.data.limits import Limit
from gpureg.data.opening import GZIP, MOST_PER_BYTE

Column = Any  # pyarrow.Array; pyarrow has no types
Table = Any
Matrix = npt.NDArray[np.float64]

BLOCK = 1 << 20  # bytes of text that are parsed at once
SPAN = 1 << 24  # bytes of text that one thread reads
MOST_THREADS = 4
_ROWS_AT_ONCE = 1 << 13
_ROOM = 1.05  # rows for which there is room, of those that the first ones let expect


@dataclass(frozen=True)
class CsvMatrix:
    """The rows of a CSV file: numbers `X (N, F)`, missing ones NaN, and a table of the other columns."""

    X: Matrix
    others: Table


def csv_matrix(
    file: Path,
    header: Header,
    numbers: Sequence[str],
    others: Sequence[str],
    limit: Limit,
    *,
    missing: bool,
    span: int = SPAN,
    block: int = BLOCK,
) -> CsvMatrix | None:
    """The columns `numbers` as a matrix and `others` as dictionaries of words; None if the file is smaller than a span,
    packed, or large for this machine, and if a number is missing (unless `missing`) or something else.
    """
    import pyarrow as pa

    odd = header.rare or header.lines > 1 or (header.truths | header.words) & set(numbers) or header.width > block // 16
    if odd or not numbers:
        return None
    with suppress(_OtherwiseError, OSError, pa.ArrowException), file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if not span < size <= limit.most // MOST_PER_BYTE or stream.read(2) == GZIP:
            return None
        reader = _Reader(stream.fileno(), header, tuple(numbers), tuple(others), missing, block)
        return _joined(reader, _spans(stream.fileno(), size, span), size)
    return None


class _OtherwiseError(Exception):
    """The file is to be read in the usual way."""


def _spans(descriptor: int, size: int, span: int) -> list[tuple[int, int]]:
    """Where the parts of a file begin and end: behind line breaks, the first behind the header."""
    begins = []
    for place in range(0, size, span):
        text = os.pread(descriptor, span, place)
        begins.append(place + text.find(b"\n") + 1)
        if b"\n" not in text[: span // 2]:
            raise _OtherwiseError
    return list(pairwise([*begins, size]))


@dataclass(frozen=True)
class _Reader:
    """What reads a part of a file: the columns, and whether numbers may be missing."""

    descriptor: int
    header: Header
    numbers: tuple[str, ...]
    others: tuple[str, ...]
    missing: bool
    block: int

    def part(self, span: tuple[int, int]) -> tuple[Matrix, list[Table]]:
        """The numbers and the other columns of the rows between two places."""
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        text = os.pread(self.descriptor, span[1] - span[0], span[0])
        if len(text) < span[1] - span[0] or text.count(b'"') % 2:  # a quoted cell goes on in the next part
            raise _OtherwiseError
        kinds = Kinds(self.numbers, self.others, once=True, few=True)
        options = csv_options(replace(self.header, lines=0), kinds, self.block, across=False)
        options[0].use_threads = False
        rows, rest = _Rows(len(self.numbers), len(text)), []
        with arrow_csv.open_csv(pa.BufferReader(text), *options) as batches:
            for batch in batches:
                columns = [batch.column(name) for name in self.numbers]
                if not self.missing and any(column.null_count for column in columns):
                    raise _OtherwiseError
                _copy(columns, rows.room(len(batch), min(self.block, len(text))))
                rest.append(batch.select(list(self.others)))
        return rows.X[: rows.count], rest


def _joined(reader: _Reader, spans: Sequence[tuple[int, int]], size: int) -> CsvMatrix:
    """The parts of a file, several of which are read at once."""
    import pyarrow as pa

    threads = min(MOST_THREADS, os.cpu_count() or 1)
    rows, rest, waiting = _Rows(len(reader.numbers), size), [], deque(spans)
    with ThreadPoolExecutor(threads) as pool:
        reading: deque[Future[tuple[Matrix, list[Table]]]] = deque()
        try:
            while waiting or reading:
                while waiting and len(reading) <= threads:
                    reading.append(pool.submit(reader.part, waiting.popleft()))
                X, others = reading.popleft().result()
                rows.room(len(X), spans[0][1])[:] = X
                rest += others
        finally:
            pool.shutdown(cancel_futures=True)
    return CsvMatrix(rows.X[: rows.count], pa.Table.from_batches(rest))


class _Rows:
    """A matrix that grows; `size`: the bytes of its text."""

    def __init__(self, F: int, size: int) -> None:
        self.F, self.size = F, size
        self.X: Matrix = np.empty((0, F))
        self.count = 0

    def room(self, rows: int, text: int) -> Matrix:
        """Room for the next rows, which took `text` bytes."""
        if self.count + rows > len(self.X):
            expected = int(_ROOM * rows * self.size / text) if not self.count else 2 * len(self.X)
            larger = np.empty((max(expected, self.count + rows), self.F))  # untouched memory costs nothing
            larger[: self.count] = self.X[: self.count]
            self.X = larger
        self.count += rows
        return self.X[self.count - rows : self.count]


def _copy(columns: Sequence[Column], rows: Matrix) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        for position, column in enumerate(columns):
            part[:, position] = column.slice(start, len(part)).to_numpy(zero_copy_only=False)
