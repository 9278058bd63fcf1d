"""Readers of tables, CSV and Parquet: one column is the label, one may be weights, the rest are features."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.columns import base_column, feature_matrix, is_text, label_column, refuse_words
from gpureg.data.csv_files import parse_csv
from gpureg.data.csv_header import Header, read_header
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import listed, settle
from gpureg.data.limits import Limit
from gpureg.data.parquet_files import index_columns, read_parquet, read_schema
from gpureg.data.raw import RawData, check_weights, pick_column, refuse_absent
from gpureg.data.spelling import MISSING_WORDS
from gpureg.errors import DataError, UsageError, named

Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema


@dataclass(frozen=True)
class _Source:
    """An opened table, whose rows are not read yet: a CSV by its `header`, a Parquet file by its `schema`.

    `names` are its columns; `hidden` those that hold pandas' index, which are read only where an option names them.
    """

    file: Path
    names: tuple[str, ...]
    limit: Limit
    hidden: tuple[str, ...] = ()
    header: Header | None = None
    schema: Schema = None

    def rows(self, columns: tuple[str, ...], label: str | None = None) -> Table:
        """The rows of some columns, of which the label may be words. Raises DataError if there are no rows."""
        if self.header is not None:
            numbers = tuple(name for name in columns if name != label)
            words = tuple(name for name in columns if name == label)
            table = parse_csv(self.file, self.header, numbers, words, self.limit)
        else:
            refuse_words(self.schema, tuple(name for name in columns if name != label), str(self.file))
            words = (label,) if label is not None and is_text(self.schema.field(label).type) else ()
            table = read_parquet(self.file, list(columns), words, self.limit)
        if table.num_rows == 0:
            raise DataError(f"{self.file} has columns but no rows.")
        return table


def read_table(file: Path, *, csv: bool, target: str | None, weights: str | None, limit: Limit) -> RawData:
    """Read a CSV file with a header, or a Parquet file: label `target` (the last column), sample weights `weights`.

    Features are float64 in a CSV; in Parquet they have the narrowest type that holds all the columns. Columns in which
    pandas has stored the index are left out.

    Raises UsageError for a column that is not there (listing the columns), DataError for files that can't be read,
    columns that do not hold numbers, and missing values.
    """
    source = _open(file, csv, limit)
    label = pick_column(target, source.names, "target", source.hidden)
    weight = None if weights is None else pick_column(weights, source.names, "weights", source.hidden)
    if weight == label:
        raise UsageError(f"{named('weights', weights)} is the label column of {file}. Name another column.")
    features = tuple(name for name in source.names if name not in (label, weight))
    if not features:
        raise DataError(f"{file} has the columns {listed(source.names)}: nothing is left as a feature.")
    table = source.rows((*features, label) if weight is None else (*features, label, weight), label)
    row_weights, kept = None, ALL
    if weight is not None:
        values, _ = feature_matrix(table, (weight,), str(file))
        row_weights = check_weights(values[:, 0], len(values), f"{file}, column {weight!r}")
        kept = Kept.of_weights(row_weights)
        table = table if kept.rows is None else table.take(kept.rows)
    X, names = feature_matrix(table, features, str(file), kept)
    where = f"{file}, column {listed([label])!r} (the label)"
    found = label_column(table.column(label), where, kept, MISSING_WORDS if csv else frozenset())
    (codes,), labels = settle([found])
    return RawData(
        name=file.stem,
        X=X,
        codes=codes,
        labels=labels,
        weights=None if row_weights is None else kept.of(row_weights),
        feature_names=names,
        target=label,
    )


def read_columns(
    file: Path, *, csv: bool, features: tuple[str, ...] | None, n_features: int, limit: Limit
) -> npt.NDArray[Any]:
    """The named features of a table, in that order; without names all, or all but a last one too many: X (N, F).

    Raises UsageError for a column that is not there, DataError for what can't be read.
    """
    source = _open(file, csv, limit)
    there = (*source.names, *source.hidden)
    if features is None:
        chosen = source.names if len(source.names) != n_features + 1 else source.names[:-1]
        return feature_matrix(source.rows(chosen), chosen, str(file))[0]
    columns = tuple(dict.fromkeys(name if name in there else base_column(name) for name in features))
    refuse_absent(file, columns, there)
    X, names = feature_matrix(source.rows(columns), columns, str(file))
    refuse_absent(file, features, names)
    position = {name: index for index, name in enumerate(names)}
    return X if names == features else np.ascontiguousarray(X[:, [position[name] for name in features]])


def _open(file: Path, csv: bool, limit: Limit) -> _Source:
    if csv:
        header = read_header(file, limit)
        source = _Source(file, header.names, limit, header=header)
    else:
        schema = read_schema(file)
        index = index_columns(schema)
        names = tuple(name for name in schema.names if name not in index)
        hidden = tuple(name for name in schema.names if name in index)
        source = _Source(file, names, limit, hidden, schema=schema)
    twice = [name for name, count in Counter((*source.names, *source.hidden)).items() if count > 1]
    if twice:
        raise DataError(f"{file}: columns with the same name: {listed(twice)}. Rename them.")
    if not source.names:
        raise DataError(
            f"{file} has no columns but pandas' index ({listed(source.hidden)}). Write it with its columns."
        )
    return source
