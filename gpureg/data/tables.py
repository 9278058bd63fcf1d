"""Readers of tables, CSV and parquet, through Arrow: one column is the label, one may be weights, the rest features."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.csv_files import Header, first_words, parse_csv, read_header
from gpureg.data.labels import MISSING_WORDS, Codes, Label, encode_labels, listed, merge_codes, parse_words
from gpureg.data.raw import RawData, check_features, check_weights, pick_column
from gpureg.errors import DataError, UsageError

Table = Any  # pyarrow.Table; pyarrow has no types
Column = Any  # pyarrow.ChunkedArray


@dataclass(frozen=True)
class _Source:
    """An opened table: its column names are known, its rows are read (parquet) or not yet (CSV: `header`)."""

    file: Path
    names: tuple[str, ...]
    table: Table
    header: Header | None = None

    def rows(self, words: tuple[str, ...]) -> Table:
        """All rows; a CSV's columns in `words` are text, the others numbers. Raises DataError where there are none."""
        table = self.table if self.header is None else parse_csv(self.file, self.header, words=words)
        if table.num_rows == 0:
            raise DataError(f"{self.file} has columns but no rows.")
        return table


def read_table(file: Path, *, csv: bool, target: str | None, weights: str | None) -> RawData:
    """Read a CSV file with a header, or a parquet file: label `target` (the last column), sample weights `weights`.

    Labels of a CSV are ints where all of them are, else floats, else words. Features are float64 in a CSV; in parquet
    they have the narrowest type that holds all the columns.

    Raises UsageError for a column that is not there (listing the columns), DataError for files that can't be read,
    columns that are no numbers, and missing values.
    """
    source = _open(file, csv)
    names = source.names
    label = names[pick_column(target, names, "--target")]
    weight = None if weights is None else names[pick_column(weights, names, "--weights")]
    if weight == label:
        raise UsageError(f"--weights {weights!r} is the label column of {file}. Name another column.")
    features = tuple(name for name in names if name not in (label, weight))
    if not features:
        raise DataError(f"{file} has the columns {listed(names)}: nothing is left as a feature.")
    table = source.rows(words=(label,))
    X = feature_matrix(table, features, file)
    codes, labels = _labels(table.column(label), f"{file}, column {label!r} (the label)", parse=csv)
    row_weights = None
    if weight is not None:
        row_weights = check_weights(feature_matrix(table, (weight,), file)[:, 0], len(X), f"{file}, column {weight!r}")
    return RawData(name=file.stem, X=X, codes=codes, labels=labels, weights=row_weights, feature_names=features)


def read_columns(file: Path, *, csv: bool, features: tuple[str, ...] | None, n_features: int) -> npt.NDArray[Any]:
    """The named feature columns of a table, in that order; without names all, or all but a last one too many: X (N, F).

    Raises UsageError for a column that is not there, DataError for what can't be read.
    """
    source = _open(file, csv)
    absent = [name for name in features or () if name not in source.names]
    if absent:
        raise UsageError(
            f"{file} lacks columns that the model was trained on: {listed(absent)}; it has {listed(source.names)}."
        )
    chosen = features or (source.names if len(source.names) != n_features + 1 else source.names[:-1])
    return feature_matrix(source.rows(words=tuple(set(source.names) - set(chosen))), chosen, file)


def feature_matrix(table: Table, names: tuple[str, ...], file: Path) -> npt.NDArray[Any]:
    """Columns of numbers as one matrix (N, F) in C order. Raises DataError for other types and missing values."""
    import pyarrow.types as types

    columns = [table.column(name) for name in names]
    words = [
        name
        for name, column in zip(names, columns, strict=True)
        if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type))
        and not types.is_decimal(column.type)
        and not types.is_null(column.type)
    ]
    if words:
        raise DataError(
            f"{file}: columns that hold no numbers: {listed(words)}. "
            "Features are numbers: encode or drop these columns, or name the label column with --target."
        )
    for name, column in zip(names, columns, strict=True):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise DataError(
                f"{file}: column {name!r} has {column.null_count} missing values, the first in row {row} (counted "
                "from 0). Fill them in or drop these rows."
            )
    dtype = np.result_type(*(_dtype(column) for column in columns))
    X = np.empty((table.num_rows, len(columns)), dtype=dtype)
    for index, column in enumerate(columns):
        X[:, index] = column.to_numpy()
    check_features(X, str(file), names)
    return X


def _dtype(column: Column) -> npt.DTypeLike:
    import pyarrow.types as types

    if types.is_boolean(column.type):
        return np.uint8
    return np.float64 if types.is_decimal(column.type) else column.type.to_pandas_dtype()


def _labels(column: Column, where: str, *, parse: bool) -> tuple[Codes, tuple[Label, ...]]:
    """The label column. `parse`: it is text, and what it spells may be numbers."""
    import pyarrow.types as types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(f"{where}: row {row} (counted from 0) has no label. Remove or label such rows.")
    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        if types.is_decimal(column.type):
            column = column.cast("float64")
        return encode_labels(column.to_numpy(), where)
    coded = column.combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy().astype(np.int64)
    words = [word.strip() for word in coded.dictionary.to_pylist()]
    absent = MISSING_WORDS if parse else frozenset({""})
    for code, word in enumerate(words):
        if word in absent:
            row = int(np.flatnonzero(codes == code)[0])
            raise DataError(
                f"{where}: row {row} (counted from 0) has no label, but {word!r}. Remove or label such rows; "
                "a class of that name needs another one."
            )
    return merge_codes(codes, parse_words(words) if parse else words, where)


def _read_parquet(file: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"can't read {file} as parquet: {first_words(error)}. Write the file again.") from error


def _open(file: Path, csv: bool) -> _Source:
    if csv:
        header = read_header(file)
        source = _Source(file, header.names, None, header)
    else:
        table = _read_parquet(file)
        source = _Source(file, _column_names(table), table)
    twice = [name for name, count in Counter(source.names).items() if count > 1]
    if twice:
        raise DataError(f"{file}: columns with the same name: {listed(twice)}. Rename them.")
    return source


def _column_names(table: Table) -> tuple[str, ...]:
    """Without the row index that pandas stores as a column of its own."""
    return tuple(name for name in table.column_names if not name.startswith("__index_level_"))
