"""Groups that are in the training rows and in a file of validation rows too."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpureg.data.files import existing
from gpureg.data.formats import format_of
from gpureg.data.labels import Codes, listed
from gpureg.data.limits import Limit, machine_limit
from gpureg.data.spelling import MISSING_WORDS, spelled
from gpureg.data.words import coded, word_of
from gpureg.errors import named


@dataclass(frozen=True)
class Groups:
    """The column that names the groups, and those of the training rows, as words."""

    column: str
    trained: frozenset[str]

    @classmethod
    def of(cls, column: str | None, names: tuple[str, ...], codes: Codes | None) -> Groups | None:
        """Those of rows with these numbers `(N,)` of `names`; None if no groups are named."""
        if column is None or codes is None:
            return None
        return cls(column, frozenset(names[code] for code in np.unique(codes).tolist()))

    def notices(self, path: str, rows: Codes) -> list[str]:
        """What is said of the `rows`, by their numbers, of a file that has the column."""
        found = _groups_in(existing(path, "val"), self.column, machine_limit())
        if found is None:
            return []
        codes, names = found
        counts = np.bincount(codes[rows] + 1, minlength=len(names) + 1)[1:].tolist()
        both = [(name, count) for name, count in zip(names, counts, strict=True) if count and name in self.trained]
        if not both:
            return []
        shown, held = listed([repr(name) for name, _ in both], 5), sum(count for _, count in both)
        many = "a group" if len(both) == 1 else f"{len(both):,} groups"
        return [
            f"{path}: {held:,} of its {len(rows):,} rows are of {many} ({named('groups', self.column)}) that training "
            f"rows have too: {shown}. What is measured on them may be too good: keep the rows of a group in one of the "
            "two."
        ]


def _groups_in(file: Path, column: str, limit: Limit) -> tuple[Codes, tuple[str, ...]] | None:
    """The group of each row as a number, -1 for none, and the groups as words; None if there is no such column."""
    import pyarrow as pa

    values, text = _column(file, format_of(file).name, column, limit)
    if values is None:
        return None
    if isinstance(values, np.ndarray):
        values = pa.array(values)
    missing: Collection[str] = MISSING_WORDS if text else ()
    codes, words = coded(values, f"{file}, column {listed([column])!r}", frozenset(missing))
    meant = spelled(words) if text else words
    return np.where(np.isnan(codes), -1, codes).astype(np.int64), tuple(str(word_of(value)) for value in meant)


def _column(file: Path, kind: str, column: str, limit: Limit) -> tuple[Any, bool]:
    """A column of a table or an array of an archive, None if there is none; and whether it comes from text."""
    if kind == "csv":
        from gpureg.data.csv_files import parse_csv
        from gpureg.data.csv_header import read_header

        header = read_header(file, limit)
        there = column in header.names
        return parse_csv(file, header, (), (column,), limit).column(column) if there else None, True
    if kind == "parquet":
        from gpureg.data.parquet_folder import parquet_set

        parquet = parquet_set(file)
        there = column in parquet.schema.names
        return parquet.read((column,), (), limit).column(column) if there else None, False
    if kind in ("npz", "npy"):
        from gpureg.data.arrays import load_npy, npz_arrays

        if kind == "npz":
            return npz_arrays(file, lambda there: [column] if column in there else [], limit).get(column), False
        array = load_npy(file, limit)
        there = array.ndim == 2 and column.isdecimal() and int(column) < array.shape[1]
        return array[:, int(column)] if there else None, False
    return None, False
