"""Features in an npy file or a sparse npz, and their labels in another, in any form in which a column is written."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.config import DataConfig
from gpureg.data.array_rows import ArrayRows, npy_rows
from gpureg.data.arrays import label_column, load_npy, npz_arrays
from gpureg.data.files import existing, named_as
from gpureg.data.formats import format_of
from gpureg.data.kept import Kept
from gpureg.data.labels import Found, find_labels, listed, settle
from gpureg.data.limits import Limit, machine_limit
from gpureg.data.marks import Marks
from gpureg.data.npy_matrix import NpyMatrix
from gpureg.data.of_rows import of_rows
from gpureg.data.opening import opened
from gpureg.data.raw import Features, RawData, as_features, check_lengths, check_weights
from gpureg.data.sparse import is_sparse
from gpureg.data.sparse_files import is_sparse_npz, load_sparse_npz, own_arrays
from gpureg.data.spelling import MISSING_WORDS
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named

Array = npt.NDArray[Any]
_DELIMITERS = ",;\t"


def read_labelled(config: DataConfig, uses: Uses, limit: Limit | None = None) -> RawData:
    """The features of an npy file, `X (N, F)` or images `(N, H, W)`, of a folder of npy files, or of a sparse npz, and
    their labels, which `config.labels` names.

    The labels are a file of one column: npy, parquet, csv or tsv (with or without a header), lines of a txt, or an npz
    (the only array, or `y`); `uses` names columns of it: the labels, weights, groups, folds. `limit` bounds the memory,
    by default to the machine's. Raises UsageError and DataError.
    """
    file, labels = existing(config.dataset), existing(str(config.labels), "labels")
    refuse_labels(file, str(labels))
    return labelled_by(file, labels, uses, limit or machine_limit())


def labelled_by(file: Path, labels: Path, uses: Uses, limit: Limit) -> RawData:
    """The features of an npy file or a sparse npz, with the labels in another file, or of a sparse npz in the same one.

    Raises UsageError and DataError.
    """
    X = _features_of(file, uses, limit)
    rows = X.shape[0]
    columns = label_file(labels, uses, rows, limit)
    check_lengths(rows, len(columns.labels), f"{file} and {labels.name}")
    row_weights = None
    if columns.weights is not None:
        row_weights = check_weights(columns.weights, rows, f"{named('weights', uses.weights)} of {labels}")
    kept = Kept.of_weights(row_weights)
    if isinstance(X, NpyMatrix):
        features = _of_folder(X, str(file), replace(kept, files=X.files), uses)
    elif isinstance(X, ArrayRows):
        features = of_rows(X, kept, uses)
    elif is_sparse(X):
        uses.refuse_of_sparse(str(file))
        features = Features(kept.of(X))
    else:
        features = as_features(kept.of(X), str(file), kept, uses)
    (codes,), classes = settle([columns.found(kept, f"{labels} (the labels)")])
    return named_as(
        RawData(
            name=file.stem,
            features=features,
            codes=codes,
            labels=classes,
            weights=None if row_weights is None else kept.of(row_weights),
            marks=Marks.of(columns.marks, rows, str(labels), kept, MISSING_WORDS if columns.text else frozenset()),
        ),
        file,
    )


def _features_of(file: Path, uses: Uses, limit: Limit) -> Any:
    """The array of a file, sparse or not, or its rows if they stay there; the matrix of a folder."""
    if file.is_dir():
        return NpyMatrix.of(file, None if uses.stream else partial(load_npy, limit=limit))
    if uses.stream:
        if is_sparse_npz(file):
            return format_of(file).labelled(file, uses, limit)  # which refuses them
        return npy_rows(file)
    X = load_sparse_npz(file, limit) if is_sparse_npz(file) else load_npy(file, limit)
    if X.ndim not in (2, 3):
        raise DataError(f"{file} has shape {X.shape}; expected (rows, features), or (rows, height, width) for images.")
    return X


def _of_folder(matrix: NpyMatrix, where: str, kept: Kept, uses: Uses) -> Features:
    """The matrix of a folder as features."""
    width = int(matrix.shape[1])
    positions = uses.positions(width, where)
    X = matrix.features(list(range(width) if positions is None else positions), kept)
    if not uses.stream:
        return replace(as_features(X, where, kept), width=width, positions=positions)
    return Features(X, width=width, positions=positions)


def refuse_labels(file: Path, labels: str) -> None:
    """Raise UsageError if a file is neither an npy nor a sparse npz, whose labels another one may hold."""
    if format_of(file).name != "npy" and not is_sparse_npz(file):
        raise UsageError(
            f"{named('labels', labels)}: it belongs to features in an npy file or a sparse npz, but {file} has its own "
            f"labels. Leave out {named('labels')}; {named('target')} names the label of a table or an npz."
        )


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a file of labels: `labels (N,)`, an array or an Arrow column; if they were named, `weights (N,)`
    and, by their options, `marks (N,)`, the groups and folds. `text`: whether the file is text.
    """

    labels: Any
    weights: Array | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    text: bool = False

    def found(self, kept: Kept, where: str) -> Found:
        """The labels of the rows that are kept. Raises DataError."""
        if not isinstance(self.labels, np.ndarray):
            from gpureg.data.columns import label_column as of_table

            return of_table(self.labels if kept.rows is None else self.labels.take(kept.rows), where, kept)
        found = find_labels(kept.of(self.labels), where, kept)
        if self.labels.dtype.kind == "O":
            found.refuse_missing(MISSING_WORDS)
        return found


def label_file(file: Path, uses: Uses, rows: int, limit: Limit) -> LabelColumns:
    """The labels in a file of them, for this number of `rows`. Raises UsageError and DataError."""
    if not file.is_dir() and file.name.lower().removesuffix(".gz").endswith((".txt", ".csv", ".tsv")):
        return _of_text(file, uses, rows, limit)
    kind = format_of(file).name
    if kind == "npy":
        _refuse_names(file, uses, "no columns to name")
        return LabelColumns(label_column(np.atleast_1d(load_npy(file, limit)), str(file)))
    if kind == "npz":
        return _of_archive(file, uses, limit)
    if kind == "parquet":
        return _of_parquet(file, uses, limit)
    raise DataError(f"{named('labels', str(file))}: expected labels as npy, npz, parquet, csv, tsv or txt.")


def _refuse_names(file: Path, uses: Uses, has: str, header: str | None = None) -> None:
    """Raise UsageError if columns are named of a file that has none, or only the labels, under a `header`."""
    for option, name in {"target": uses.target, "weights": uses.weights, **uses.marks}.items():
        if name is None or (option == "target" and name == header):
            continue
        if option in uses.marks:
            advice = f"Store labels and {option} as columns of one csv, parquet or npz file"
            raise UsageError(
                f"{named(option, name)}: {file} has {has}. {advice}, and name that with {named('labels')}."
            )
        raise UsageError(f"{named(option, name)}: {file} has {has}. Leave out {named(option)}.")


def _column(uses: Uses, columns: list[str], file: Path, usual: str = "") -> str:
    """The column of the labels: the named one, the usual one, or the only one."""
    for option, name in {"target": uses.target, "weights": uses.weights, **uses.marks}.items():
        if name is not None and name not in columns:
            raise UsageError(f"{named(option, name)}: {file} has no such column; it has {listed(columns, 40)}.")
    others = [name for name in columns if name != uses.weights and name not in uses.marks.values()]
    if uses.target is not None and uses.target == uses.weights:
        raise UsageError(f"{named('weights', uses.weights)} is the label column. Name another column.")
    found = uses.target or (usual if usual in others else others[0] if len(others) == 1 else None)
    if found is None:
        raise UsageError(
            f"{file} has the columns {listed(columns, 40)}; which are the labels? Name one with {named('target')}."
        )
    taken = [found] if uses.weights is None else [found, uses.weights]
    uses.marked([name for name in columns if name not in taken], taken, str(file))
    return found


def _of_archive(file: Path, uses: Uses, limit: Limit) -> LabelColumns:
    def needed(there: list[str]) -> list[str | None]:
        return [*dict.fromkeys((_column(uses, there, file, "y"), uses.weights, *uses.marks.values()))]

    arrays = npz_arrays(file, lambda there: needed(own_arrays(there)), limit)
    label = _column(uses, list(arrays), file, "y")
    return LabelColumns(
        label_column(np.atleast_1d(arrays[label]), f"{label} in {file}"),
        None if uses.weights is None else arrays[uses.weights],
        {option: arrays[name] for option, name in uses.marks.items()},
    )


def _of_parquet(file: Path, uses: Uses, limit: Limit) -> LabelColumns:
    from gpureg.data.columns import feature_matrix
    from gpureg.data.parquet_files import index_columns
    from gpureg.data.parquet_folder import parquet_set

    parquet = parquet_set(file)
    index = index_columns(parquet.schema)
    label = _column(uses, [name for name in parquet.schema.names if name not in index], file)
    names = [label] if uses.weights is None else [label, uses.weights]
    table = parquet.read([*dict.fromkeys((*names, *uses.marks.values()))], (), limit)
    weights = None if uses.weights is None else feature_matrix(table, (uses.weights,), str(file)).X[:, 0]
    return LabelColumns(
        table.column(label), weights, {option: table.column(name) for option, name in uses.marks.items()}
    )


def _of_text(file: Path, uses: Uses, rows: int, limit: Limit) -> LabelColumns:
    """One label in each line, under a header if there is a line more than rows; or a table with a header."""
    with opened(file, limit, 64) as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"can't read {file}: it is not UTF-8 text ({error}). Save it again as UTF-8.") from error
    if file.name.lower().removesuffix(".gz").endswith(".txt"):
        records = [[line] for line in text.splitlines()]
    else:
        first = text.split("\n", 1)[0]
        delimiter = max(_DELIMITERS, key=first.count)
        try:
            records = [record or [""] for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
        except csv.Error as error:
            raise DataError(f"can't read {file} as CSV: {error}. Expected a label in each line.") from error
    while records and not any(cell.strip() for cell in records[-1]):
        records.pop()
    if not records:
        raise DataError(f"{file} is empty. Expected one label for each row.")
    if len(records[0]) > 1:
        return _of_records(file, uses, records)
    header = records[0][0].strip() if len(records) == rows + 1 else None
    _refuse_names(file, uses, "no such column; it has only one, the labels", header)
    labels = [record[0] for record in records[header is not None :]]
    return LabelColumns(_words(labels), text=True)


def _of_records(file: Path, uses: Uses, records: list[list[str]]) -> LabelColumns:
    names = [name.strip() for name in records[0]]
    label = _column(uses, names, file)
    wrong = next((row for row, record in enumerate(records) if len(record) != len(names)), None)
    if wrong is not None:
        raise DataError(
            f"can't read {file} as CSV: row {wrong - 1} (counted from 0) has {len(records[wrong])} cells, the header "
            f"{len(names)}. Expected rows of as many cells as the header."
        )
    columns = dict(zip(names, zip(*records[1:], strict=True), strict=True))
    if label not in columns:
        raise DataError(f"{file} has a header but no rows.")
    weights = None
    if uses.weights is not None:
        try:
            weights = np.array(columns[uses.weights], np.float64)
        except ValueError as error:
            raise DataError(f"{file}, column {uses.weights!r}: {error}; weights are numbers.") from error
    marks = {option: _words(list(columns[name])) for option, name in uses.marks.items()}
    return LabelColumns(_words(list(columns[label])), weights, marks, text=True)


def _words(labels: list[str]) -> Array:
    found = np.empty(len(labels), object)
    found[:] = labels
    return found
