"""The quick way of reading a CSV file: its numbers go into their matrix block by block, while a block is in the cache.

It is for large files of numbers and labels that need nothing else. What does not fit is read again in the usual way,
which finds out what is the matter and has the messages.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.csv_files import Kinds, csv_options
from gpureg.data.csv_header import Header
from gpureg.data.limits import Limit
from gpureg.data.opening import GZIP, MOST_PER_BYTE, reading

Column = Any  # pyarrow.Array; pyarrow has no types
Table = Any
Matrix = npt.NDArray[np.float64]

BLOCK = 1 << 20  # bytes of text that are parsed at once
LEAST = 1 << 22  # bytes of a file that is worth it
_ROWS_AT_ONCE = 1 << 13
_ROOM = 1.1  # rows for which there is room, of those that the first block lets expect


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
    least: int = LEAST,
    block: int = BLOCK,
) -> CsvMatrix | None:
    """The columns `numbers` as a matrix and `others` as dictionaries of words; None if the file is small or packed, or
    large for this machine, and if a number is missing (unless `missing`) or something else.
    """
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    size = _size(file)
    odd = header.rare or (header.truths | header.words) & set(numbers) or 16 * header.width > block
    if odd or not numbers or not max(least, block) <= size <= limit.most // MOST_PER_BYTE:
        return None
    kinds = Kinds(tuple(numbers), tuple(others), once=True, few=True)
    rest: list[Any] = []
    with suppress(pa.ArrowException), reading(file), pa.OSFile(os.fsencode(file)) as stream:
        rows = _Rows(len(numbers), size)
        with arrow_csv.open_csv(stream, *csv_options(header, kinds, block, across=False)) as batches, rows:
            for batch in batches:
                if not missing and any(batch.column(name).null_count for name in numbers):
                    return None
                rows.add([batch.column(name) for name in numbers], block)
                rest.append(batch.select(list(others)))
            return CsvMatrix(rows.done(), pa.Table.from_batches(rest))
    return None


class _Rows:
    """A matrix that grows by blocks. One is copied into it while the next is parsed."""

    def __init__(self, F: int, size: int) -> None:
        self.F, self.size = F, size
        self.X: Matrix = np.empty((0, F))
        self.count = 0
        self.pool = ThreadPoolExecutor(1)
        self.copying: Future[None] | None = None

    def __enter__(self) -> None:
        self.pool.__enter__()

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def add(self, columns: Sequence[Column], text: int) -> None:
        """The next rows, which took `text` bytes."""
        if self.copying is not None:
            self.copying.result()
        rows = len(columns[0])
        if self.count + rows > len(self.X):
            expected = int(_ROOM * rows * self.size / text) if not self.count else 2 * len(self.X)
            larger = np.empty((max(expected, self.count + rows), self.F))  # untouched memory costs nothing
            larger[: self.count] = self.X[: self.count]
            self.X = larger
        self.copying = self.pool.submit(_copy, columns, self.X[self.count : self.count + rows])
        self.count += rows

    def done(self) -> Matrix:
        """All rows."""
        if self.copying is not None:
            self.copying.result()
        return self.X[: self.count]


def _copy(columns: Sequence[Column], rows: Matrix) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        for position, column in enumerate(columns):
            part[:, position] = column.slice(start, len(part)).to_numpy(zero_copy_only=False)


def _size(file: Path) -> int:
    """The bytes of a plain file; 0 for any other, and for one that can't be read."""
    with suppress(OSError), file.open("rb") as stream:
        return 0 if stream.read(2) == GZIP else os.fstat(stream.fileno()).st_size
    return 0
