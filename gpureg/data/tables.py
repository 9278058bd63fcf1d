"""Readers of tables, CSV and Parquet: one column is the label, one may be weights, the rest are features."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.columns import feature_matrix, label_column, refuse_types
from gpureg.data.csv_files import parse_csv
from gpureg.data.csv_header import Header, read_header
from gpureg.data.csv_matrix import CsvMatrix, csv_matrix
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, listed, settle
from gpureg.data.limits import Limit
from gpureg.data.marks import Marks
from gpureg.data.of_rows import rows_of
from gpureg.data.parquet_files import index_columns
from gpureg.data.parquet_folder import ParquetSet, parquet_set
from gpureg.data.parquet_rows import ParquetRows
from gpureg.data.raw import Features, RawData, check_features, check_weights, pick_column
from gpureg.data.spelling import MISSING_CELLS, MISSING_WORDS
from gpureg.data.uses import Uses
from gpureg.data.words import is_text
from gpureg.errors import DataError, UsageError, named

Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema


@dataclass(frozen=True)
class _Source:
    """An opened table, whose rows are not read yet: a CSV by its `header`, Parquet by its schema.

    `names` are its columns; `hidden` those that hold pandas' index, which are read only if an option names them.
    """

    file: Path
    names: tuple[str, ...]
    limit: Limit
    hidden: tuple[str, ...] = ()
    header: Header | None = None
    parquet: ParquetSet | None = None

    @property
    def every(self) -> Kept:
        """All rows."""
        return ALL if self.parquet is None else Kept(None, self.parquet.files)

    def rows(self, columns: tuple[str, ...], free: tuple[str, ...], *, one_hot: bool) -> Table:
        """The rows of some columns, of which the `free` ones (the label, groups, folds) may be words.

        Raises DataError if there are no rows.
        """
        features = tuple(name for name in columns if name not in free)
        if self.header is not None:
            table = parse_csv(self.file, self.header, features, free, self.limit, one_hot=one_hot)
        else:
            assert self.parquet is not None
            refuse_types(self.parquet.schema, features, str(self.file), one_hot=one_hot)
            words = tuple(name for name in columns if is_text(self.parquet.schema.field(name).type))
            table = self.parquet.read(columns, words, self.limit)
        if table.num_rows == 0:
            raise DataError(f"{self.file} has columns but no rows.")
        return table


def read_table(file: Path, uses: Uses, limit: Limit, *, csv: bool) -> RawData:
    """Read a CSV file with a header, or a Parquet file: by default the last column is the label.

    Features are float64 in a CSV; in Parquet they have the narrowest type that holds all the columns. Columns in which
    pandas has stored the index are left out.

    Raises UsageError for a column that is not there (listing the columns), DataError for files that can't be read,
    and for columns of words and missing values that `uses` does not keep.
    """
    source = _open(file, csv, limit)
    chosen = _Chosen.of(source, uses)
    if uses.stream:
        return _streamed(source, chosen)
    weight, features, numbers, quick = chosen.weight, chosen.features, chosen.numbers, None
    if source.header is not None:
        quick = csv_matrix(file, source.header, numbers, chosen.free, limit, missing=uses.keeps_missing)
    table = (
        source.rows((*features, *chosen.taken), chosen.free, one_hot=uses.one_hot) if quick is None else quick.others
    )
    row_weights, kept, whole = None, source.every, table
    if weight is not None:
        values = feature_matrix(table, (weight,), str(file)).X[:, 0] if quick is None else quick.X[:, -1]
        row_weights = check_weights(values, len(values), f"{file}, column {weight!r}", source.every)
        kept = Kept.of_weights(row_weights, source.every.files)
        table = table if kept.rows is None else table.take(kept.rows)
    if quick is None:
        found = feature_matrix(table, features, str(file), kept, uses, MISSING_CELLS if csv else frozenset())
    else:
        found = _features(quick, features, str(file), kept, uses)
    labels = label_column(table.column(chosen.label), chosen.where(file), kept, MISSING_WORDS if csv else frozenset())
    return _raw(file, chosen, found, labels, row_weights, _marks(whole, chosen.marks, str(file), kept, csv))


@dataclass(frozen=True)
class _Chosen:
    """The columns of a table by their use; `marks` by their options."""

    label: str
    weight: str | None
    features: tuple[str, ...]
    marks: dict[str, str]

    @classmethod
    def of(cls, source: _Source, uses: Uses) -> _Chosen:
        """Raises UsageError for columns that are not there, or have another use."""
        file, label = source.file, _label(source, uses)
        weight = None if uses.weights is None else pick_column(uses.weights, source.names, "weights", source.hidden)
        if weight == label:
            raise UsageError(f"{named('weights', weight)} is the label column of {file}. Name another column.")
        others = (label,) if weight is None else (label, weight)
        marks = uses.marked((*source.names, *source.hidden), others, str(file))
        taken = (*others, *marks.values())
        rest = [name for name in source.names if name not in taken]
        return cls(label, weight, uses.chosen(rest, taken, str(file), source.hidden, label=label), marks)

    @property
    def free(self) -> tuple[str, ...]:
        """Those that may be words."""
        return tuple(dict.fromkeys((self.label, *self.marks.values())))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Those that may not."""
        return self.features if self.weight is None else (*self.features, self.weight)

    @property
    def taken(self) -> tuple[str, ...]:
        """Those that are not features, each once."""
        weight = () if self.weight is None else (self.weight,)
        return tuple(dict.fromkeys((self.label, *weight, *self.marks.values())))

    def where(self, file: Path) -> str:
        """What messages call the labels."""
        return f"{file}, column {listed([self.label])!r} (the label)"


def _streamed(source: _Source, chosen: _Chosen) -> RawData:
    """The rows of Parquet files whose features stay there."""
    file, weight = source.file, chosen.weight
    assert source.parquet is not None
    refuse_types(source.parquet.schema, chosen.features, str(file))
    rows = ParquetRows.of(source.parquet, chosen.features)
    table = source.rows(chosen.taken, chosen.taken, one_hot=False)
    row_weights = None
    if weight is not None:
        values = feature_matrix(table, (weight,), str(file)).X[:, 0]
        row_weights = check_weights(values, len(values), f"{file}, column {weight!r}", source.every)
    kept = Kept.of_weights(row_weights, source.every.files)
    column = table.column(chosen.label)
    labels = label_column(column if kept.rows is None else column.take(kept.rows), chosen.where(file), kept)
    marks = _marks(table, chosen.marks, str(file), kept, csv=False)
    return _raw(file, chosen, Features(rows_of(rows, kept), rows.names), labels, row_weights, marks)


def _raw(
    file: Path,
    chosen: _Chosen,
    features: Features,
    labels: Found,
    weights: npt.NDArray[np.float64] | None,
    marks: Marks,
) -> RawData:
    (codes,), classes = settle([labels])
    return RawData(
        name=file.stem,
        features=features,
        codes=codes,
        labels=classes,
        weights=None if weights is None else Kept.of_weights(weights).of(weights),
        target=chosen.label,
        marks=marks,
    )


def _features(quick: CsvMatrix, features: tuple[str, ...], where: str, kept: Kept, uses: Uses) -> Features:
    """The first of the numbers that were read."""
    X = quick.X if quick.X.shape[1] == len(features) else np.ascontiguousarray(quick.X[:, : len(features)])
    found = Features(kept.of(X), features)
    if not quick.finite:
        check_features(found.X, where, features, kept, missing=uses.keeps_missing)
    return found


def _label(source: _Source, uses: Uses) -> str:
    """The label's column: without a name the last one, which those that folders name are not: a reader may put them
    anywhere.
    """
    if uses.target is None and source.parquet is not None and source.parquet.partitions:
        raise UsageError(
            f"{source.file}: its folders name columns ({listed(source.parquet.partitions)}), so that no column is the "
            f"last one; which is the label? Name it with {named('target')}; the columns are {listed(source.names, 40)}."
        )
    return pick_column(uses.target, source.names, "target", source.hidden)


def _marks(table: Table, marks: dict[str, str], where: str, kept: Kept, csv: bool) -> Marks:
    columns = {option: table.column(name) for option, name in marks.items()}
    return Marks.of(columns, table.num_rows, where, kept, MISSING_WORDS if csv else frozenset())


def _open(file: Path, csv: bool, limit: Limit) -> _Source:
    if csv:
        header = read_header(file, limit)
        source = _Source(file, header.names, limit, header=header)
    else:
        parquet = parquet_set(file)
        schema, index = parquet.schema, index_columns(parquet.schema)
        names = tuple(name for name in schema.names if name not in index)
        hidden = tuple(name for name in schema.names if name in index)
        source = _Source(file, names, limit, hidden, parquet=parquet)
    twice = [name for name, count in Counter((*source.names, *source.hidden)).items() if count > 1]
    if twice:
        raise DataError(f"{file}: columns with the same name: {listed(twice)}. Rename them.")
    if not source.names:
        raise DataError(
            f"{file} has no columns except pandas' index ({listed(source.hidden)}). Write it with its columns."
        )
    return source
