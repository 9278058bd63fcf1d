"""The quick way of reading a CSV file: several parts at once, their numbers put into the matrix while in the cache.

It is for large files of numbers and labels that need nothing else. The cells of plain text are read as they lie
(`csv_cells`, `csv_decimals`); from the first part on that is not plain, Arrow parses. What does not fit is read again
in the usual way, which finds out what is the matter and has the messages.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.csv_cells import LINE, QUOTE, Cells, count
from gpureg.data.csv_decimals import MARGIN
from gpureg.data.csv_files import Kinds, csv_options
from gpureg.data.csv_header import Header
from gpureg.data.limits import Limit
from gpureg.data.opening import GZIP, MOST_PER_BYTE

Column = Any  # pyarrow.Array; pyarrow has no types
Table = Any
Matrix = npt.NDArray[np.float64]

BLOCK = 1 << 20  # bytes of text that are parsed at once
SPAN = 1 << 21  # bytes of text that one thread reads
MOST_THREADS = 8
_ROWS_AT_ONCE = 1 << 13  # which stay in a core's cache
_KEPT = 1 << 24  # bytes
_ROOM = 1.05  # rows for which there is room, of those that the first ones let expect


@dataclass(frozen=True)
class CsvMatrix:
    """The rows of a CSV file: numbers `X (N, F)`, missing ones NaN, and a table of the other columns. `finite`: whether
    all numbers are.
    """

    X: Matrix
    others: Table
    finite: bool


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
        reader = _Reader(header, tuple(numbers), tuple(others), missing, block)
        return _joined(reader, _texts(stream.fileno(), size, span), size)
    return None


class _OtherwiseError(Exception):
    """The file is to be read in the usual way."""


def _texts(descriptor: int, size: int, span: int) -> Iterator[memoryview]:
    """The parts of a file, whole lines each and `MARGIN` bytes that are not theirs, the first behind the header."""
    place = 0
    while place < size:
        text = os.pread(descriptor, span, place)
        begin = text.find(b"\n") + 1 if place == 0 else 0
        end = len(text) if place + len(text) == size else text.rfind(b"\n") + 1
        if not text or place + len(text) > size or end <= span // 2 < len(text):
            raise _OtherwiseError
        place += end
        if not text.endswith(b"\n", 0, end):  # the file's last line
            text, end = text + b"\n", end + 1
        if len(text) < end + MARGIN:
            text += bytes(MARGIN)
        yield memoryview(text)[begin : end + MARGIN]


@dataclass(frozen=True)
class _Part:
    """The rows of a part of a file: how many, the columns that are not numbers, and whether all numbers are finite."""

    rows: int
    others: list[Table]
    finite: bool


@dataclass(frozen=True)
class _Reader:
    """What reads a part of a file: the columns, and whether numbers may be missing."""

    header: Header
    numbers: tuple[str, ...]
    others: tuple[str, ...]
    missing: bool
    block: int
    odd: Event = field(default_factory=Event)  # set once a part is not plain: then the others need not be tried

    def part(self, text: memoryview, X: Matrix) -> _Part:
        """The other columns of the rows in a text, whose numbers are written into `X`: a row for each of its lines."""
        import pyarrow as pa

        if not self.odd.is_set():
            with suppress(pa.ArrowException):
                if (found := self._cells(text, X)) is not None:
                    return found
            self.odd.set()
        return self._parsed(text[:-MARGIN], X)

    def _cells(self, text: memoryview, X: Matrix) -> _Part | None:
        """`part` of a text that is plain, else None. Raises ArrowException for what is neither number nor word."""
        import pyarrow as pa

        places = {name: place for place, name in enumerate(self.header.names)}
        numbers, others = ([places[name] for name in columns] for columns in (self.numbers, self.others))
        cells = Cells.of(text, len(X), len(places), self.header.delimiter)
        if cells is None or (len(numbers) + len(others) < len(places) and cells.hidden(others)):
            return None
        if (words := cells.words(others)) is None:
            return None
        together = numbers == list(range(numbers[0], numbers[-1] + 1))
        finite = cells.numbers(slice(numbers[0], numbers[-1] + 1) if together else numbers, X)
        if not (finite or self.missing) and np.isnan(X).any():
            raise _OtherwiseError
        return _Part(len(X), [pa.RecordBatch.from_arrays(words, list(self.others))], finite)

    def _parsed(self, text: memoryview, X: Matrix) -> _Part:
        """`part` of any text."""
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        if count(text, QUOTE) % 2:  # a quoted cell goes on in the next part
            raise _OtherwiseError
        kinds = Kinds(self.numbers, self.others, once=True, few=True)
        options = csv_options(replace(self.header, lines=0), kinds, self.block, across=False)
        options[0].use_threads = False
        rows, rest, finite = 0, [], True
        with arrow_csv.open_csv(pa.BufferReader(text), *options) as batches:
            for batch in batches:
                columns = batch.columns[: len(self.numbers)]  # in the order of the kinds
                if not self.missing and any(column.null_count for column in columns):
                    raise _OtherwiseError
                if rows + len(batch) > len(X):  # lines that end in another way
                    raise _OtherwiseError
                finite &= _copy(columns, X[rows : rows + len(batch)])
                rows += len(batch)
                rest.append(batch.select(self.others))
        return _Part(rows, rest, finite)


def _joined(reader: _Reader, texts: Iterator[memoryview], size: int) -> CsvMatrix:
    """The parts of a file of `size` bytes, several of which are read at once."""
    import pyarrow as pa

    _keep_memory()
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    X, rows, begins, parts = np.empty((0, len(reader.numbers))), 0, [], []
    with ThreadPoolExecutor(threads) as pool:
        reading: deque[Future[_Part]] = deque()
        try:
            for text in texts:
                lines = count(text[:-MARGIN], LINE)
                needed = rows + lines
                while len(reading) > (threads if needed <= len(X) else 0):
                    parts.append(reading.popleft().result())
                if needed > len(X):
                    X = _larger(X, rows, needed, int(_ROOM * lines * size / len(text)))
                reading.append(pool.submit(reader.part, text, X[rows:needed]))
                begins.append(rows)
                rows = needed
            parts += [part.result() for part in reading]
        finally:
            pool.shutdown(cancel_futures=True)
    rows = 0
    for begin, part in zip(begins, parts, strict=True):
        if begin > rows:  # there were lines without a row
            X[rows : rows + part.rows] = X[begin : begin + part.rows]
        rows += part.rows
    if not rows:
        raise _OtherwiseError
    others = pa.Table.from_batches([batch for part in parts for batch in part.others])
    return CsvMatrix(X[:rows], others, all(part.finite for part in parts))


def _keep_memory() -> None:
    """Let the C library keep what arrays of a part free for those of the next one. To return it to the system, and have
    it cleared page by page again, takes longer than to read the part. glibc keeps blocks that are smaller than the
    largest one that was freed; this one is never touched.
    """
    np.empty(_KEPT, np.uint8)


def _larger(X: Matrix, rows: int, needed: int, expected: int) -> Matrix:
    """A matrix with more room, with the first `rows` of X; memory that is not touched costs nothing."""
    larger = np.empty((max(needed, 2 * len(X), expected), X.shape[1]))
    larger[:rows] = X[:rows]
    return larger


def _copy(columns: Sequence[Column], rows: Matrix) -> bool:
    """Write columns into a matrix; whether all of their numbers are finite."""
    finite, columns = True, [column.to_numpy(zero_copy_only=False) for column in columns]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        for position, column in enumerate(columns):
            part[:, position] = column[start : start + len(part)]
        finite &= bool(np.isfinite(part).all())
    return finite
