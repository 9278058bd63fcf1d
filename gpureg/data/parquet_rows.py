"""The rows of Parquet files as `streamed.Source`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.columns import base_column, feature_matrix
from gpureg.data.labels import listed
from gpureg.data.parquet_files import BUFFER, opened_parquet, tables_of
from gpureg.data.parquet_folder import Member, ParquetSet
from gpureg.data.streamed import Scratch, Stamp
from gpureg.errors import DataError

Matrix = npt.NDArray[Any]
Table = Any  # pyarrow.Table; pyarrow has no types

PIECE_NUMBERS = 1 << 22  # of a piece: with fewer, what each of many columns costs counts
PAGE = 1 << 20  # bytes, as writers make them


@dataclass(frozen=True)
class ParquetRows:
    """Columns of the files of a data set, as features of the `names`; see `streamed.Source`. `counts`: rows of each
    file.
    """

    parquet: ParquetSet
    columns: tuple[str, ...]
    names: tuple[str, ...]
    dtype: np.dtype[Any]
    counts: tuple[int, ...]
    stamps: tuple[Stamp, ...]

    anywhere = False

    @classmethod
    def of(cls, parquet: ParquetSet, columns: Sequence[str]) -> ParquetRows:
        """Their first row says how many features columns of lists are. Raises DataError for what are not numbers."""
        stamps = tuple(Stamp.of(member.file) for member in parquet.members)
        counts = []
        for member in parquet.members:
            with opened_parquet(member.file) as opened:
                counts.append(max(0, opened.metadata.num_rows))
        first = next(iter(np.flatnonzero(counts)), 0)
        member = parquet.members[int(first)]
        table = next(_completed(parquet, member, tuple(columns), 1), None)
        table = parquet.schema.empty_table().select(list(columns)) if table is None else table
        found = feature_matrix(table, tuple(columns), str(parquet.path))
        return cls(parquet, tuple(columns), found.names or (), found.X.dtype, tuple(counts), stamps)

    @property
    def where(self) -> str:
        """See the protocol."""
        return str(self.parquet.path)

    @property
    def shape(self) -> tuple[int, int]:
        """See the protocol."""
        return sum(self.counts), len(self.names)

    def place(self, row: int) -> tuple[str, int]:
        """See the protocol."""
        for member, count in zip(self.parquet.members, self.counts, strict=True):
            if row < count:
                return str(member.file), row
            row -= count
        raise IndexError(row)

    @property
    def overhead(self) -> int:
        """See the protocol: of each stored column a page and a buffer, and a piece."""
        return len(self.columns) * (BUFFER + PAGE) + 3 * self.dtype.itemsize * PIECE_NUMBERS

    @contextmanager
    def opened(self) -> Iterator[_ParquetReader]:
        """See the protocol."""
        reader = _ParquetReader(self)
        try:
            yield reader
        finally:
            reader.close()


class _ParquetReader:
    """See `streamed.Reader`. Rows that follow those of the last call are read on; else the row group that holds the
    first is read from its start.
    """

    def __init__(self, source: ParquetRows) -> None:
        self._source = source
        self._at = 0
        self._left: Matrix | None = None
        self._matrices: Iterator[Matrix] | None = None

    def pieces(self, start: int, stop: int, scratch: Scratch) -> Iterator[Matrix]:
        """See the protocol."""
        if self._matrices is None or start != self._at:
            self.close()
            self._at, self._matrices = start, self._from(start)
        while self._at < stop:
            piece = next(self._matrices) if self._left is None else self._left
            taken = min(len(piece), stop - self._at)
            self._left = piece[taken:] if taken < len(piece) else None
            self._at += taken
            yield piece[:taken]

    def close(self) -> None:
        """Close the file that is being read."""
        if self._matrices is not None:
            self._matrices.close()  # type: ignore[attr-defined]
        self._matrices = self._left = None

    def _from(self, start: int) -> Iterator[Matrix]:
        """All rows from one on."""
        source, first = self._source, 0
        at_once = max(1, PIECE_NUMBERS // max(1, len(source.names)))
        for member, count in zip(source.parquet.members, source.counts, strict=True):
            if count and start < first + count:
                where, skipped = str(member.file), max(0, start - first)
                for table in _completed(source.parquet, member, source.columns, at_once, skipped):
                    found = feature_matrix(table, source.columns, where)
                    self._check_names(found.names or (), where)
                    yield found.X.astype(source.dtype, copy=False)
            first += count

    def _check_names(self, found: tuple[str, ...], where: str) -> None:
        """Raise DataError if the lists of a file are not as long as those of the first row."""
        expected = self._source.names
        if found == expected:
            return
        widths = [Counter(map(base_column, names)) for names in (found, expected)]
        name = next(name for name in widths[1] if widths[0][name] != widths[1][name])
        raise DataError(
            f"{where}: column {listed([name])!r} holds lists of {widths[0][name]:,} numbers; those of the first row of "
            f"{self._source.where} hold {widths[1][name]:,}. Expected lists of one length."
        )


def _completed(
    parquet: ParquetSet, member: Member, columns: tuple[str, ...], at_once: int, skipped: int = 0
) -> Iterator[Table]:
    """The rows of a file after the first ones, with the columns that its folders name."""
    stored = [name for name in columns if name not in dict(member.partitions)]
    for table in tables_of(member.file, stored, at_once, skipped=skipped):
        yield parquet.completed(table, member, columns)
