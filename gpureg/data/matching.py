"""The columns that a trained model expects, found in new data: by name if both sides have names, else by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.columns import base_column
from gpureg.data.in_memory import as_array, is_frame, numbers_of_objects
from gpureg.data.labels import listed
from gpureg.errors import DataError, UsageError

Matrix = npt.NDArray[Any]
Table = Any  # a table or a batch of pyarrow, which has no types


@dataclass(frozen=True)
class Expected:
    """The features of a model: how many there are, and their names if the training data had any."""

    n_features: int
    names: tuple[str, ...] | None = None

    def name(self, feature: int) -> str:
        """A feature as messages call it."""
        return str(feature) if self.names is None else repr(listed([self.names[feature]]))

    def columns(self, there: Sequence[str], where: str) -> tuple[str, ...]:
        """The columns that hold the features, each once, in the order of the features; all of them without names.

        The features `e[0]`, `e[1]`, ... come from a column `e` of lists. Raises UsageError for columns that are not
        there, and without names for another number of columns.
        """
        if self.names is None:
            if len(there) != self.n_features:
                raise UsageError(
                    f"{where} has {len(there)} columns; expected {self.n_features}, the features that this model was "
                    "trained on (it knows their number, not their names)."
                )
            return tuple(there)
        present = set(there)
        found = tuple(dict.fromkeys(name if name in present else base_column(name) for name in self.names))
        absent = [name for name in found if name not in present]
        if absent:
            raise UsageError(
                f"{where} lacks columns that this model was trained on: {listed(absent)}; it has {listed(there)}."
            )
        return found


@dataclass(frozen=True)
class NotFinite:
    """Rows with NaN or infinite values: how many, and the first of them with its first such feature and value."""

    count: int
    row: int
    feature: int
    value: float

    @classmethod
    def among(cls, rows: Matrix, start: int, number: Callable[[int], int]) -> NotFinite:
        """Those of a matrix whose rows are finite up to `start`; `number` gives a row's number in the data."""
        count, place, step = 0, (0, 0), 1 << 14
        for begin in range(start, len(rows), step):
            bad = ~np.isfinite(rows[begin : begin + step].astype(np.float64, copy=False))
            of_rows = bad.any(axis=1)
            if not count and of_rows.any():
                row = int(np.argmax(of_rows))
                place = (begin + row, int(np.argmax(bad[row])))
            count += int(of_rows.sum())
        return cls(count, number(place[0]), place[1], float(rows[place]))


def not_finite(found: NotFinite, expected: Expected, where: str) -> DataError:
    """The error for rows that can't be predicted for."""
    if not found.count:  # finite as they came
        return DataError(f"{where}: a value is beyond the range of float64 once it is scaled. Rescale that feature.")
    rows = "1 row holds" if found.count == 1 else f"{found.count:,} rows hold"
    return DataError(
        f"{where}: {rows} NaN or infinite values; the first is row {found.row} (counted from 0), feature "
        f"{expected.name(found.feature)}, which is {found.value}. Remove or fill in missing and infinite values."
    )


def read_rows(X: Any, expected: Expected, where: str = "X") -> Matrix:
    """Rows `(N, D)` of an array, images `(N, height, width)` or a data frame, in the order of the model's features.

    A missing value of a frame becomes NaN. Raises UsageError for what does not fit the model, DataError for values that
    are not numbers.
    """
    if is_frame(X):
        return _of_frame(X, expected, where)
    array = as_array(X, where)
    if array.dtype.kind == "O":
        array = numbers_of_objects(array, where)
    if array.ndim == 3:
        array = array.reshape(len(array), array.shape[1] * array.shape[2])
    if array.ndim != 2 or array.shape[1] != expected.n_features:
        raise UsageError(
            f"{where} has the shape {np.shape(X)}; expected (rows, {expected.n_features}), the features that this "
            "model was trained on."
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} has type {array.dtype}; features are real numbers.")
    return array


def table_matrix(table: Table, expected: Expected, columns: Sequence[str], where: str) -> Matrix:
    """The features in the `columns` of an Arrow table as `(N, D)` in float64, each feature's numbers side by side.

    Missing values become NaN. Raises DataError for columns that do not hold numbers, booleans or lists of numbers, and
    for lists of another length than the model has features of.
    """
    names = expected.names or tuple(columns)
    position = {name: index for index, name in enumerate(names)}
    by_feature = np.empty((expected.n_features, table.num_rows))
    filled = 0
    for name in columns:
        column = table.column(name)
        if name in position:
            by_feature[position[name]] = _numbers(column, name, where)
            filled += 1
        else:
            lists = _lists(column, name, where)
            for index in range(lists.shape[1]):
                if (feature := f"{name}[{index}]") in position:
                    by_feature[position[feature]] = lists[:, index]
                    filled += 1
    if filled < expected.n_features:
        raise DataError(
            f"{where}: its columns of lists are shorter than those that this model was trained on: {filled} of "
            f"{expected.n_features} features are there."
        )
    return by_feature.T


def _of_frame(X: Any, expected: Expected, where: str) -> Matrix:
    import pyarrow as pa

    by_text = {str(name): name for name in (X.column_names if hasattr(X, "column_names") else X.columns)}
    there = tuple(by_text)
    if len(there) < (X.num_columns if hasattr(X, "num_columns") else len(X.columns)):
        raise DataError(f"{where}: columns with the same name. Rename them.")
    columns = expected.columns(there, where)
    chosen = [by_text[name] for name in columns]
    part = X[chosen] if hasattr(X, "iloc") else X.select(chosen)
    kinds = [getattr(kind, "kind", "O") for kind in part.dtypes] if hasattr(part, "iloc") else ["O"]
    if set(kinds) <= set("biuf") and (expected.names is None or columns == expected.names):
        plain = all(isinstance(kind, np.dtype) for kind in part.dtypes) and "b" not in kinds
        numbers: Matrix = part.to_numpy() if plain else part.to_numpy(np.float64, na_value=np.nan)
        return numbers
    if hasattr(part, "iloc"):  # its index is not a column
        part = part.reset_index(drop=True).set_axis(list(columns), axis=1)
    try:
        table = pa.table(part)
    except Exception as error:  # columns of mixed objects
        raise DataError(f"{where}: {error}. Features are numbers.") from error
    return table_matrix(table, expected, columns, where)


def _numbers(column: Any, name: str, where: str) -> Matrix:
    """A column of numbers or booleans `(N,)`; missing values are NaN."""
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_decimal(kind) or types.is_boolean(kind) or types.is_float16(kind):
        column = column.cast(pa.float64() if not types.is_boolean(kind) else pa.uint8())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        raise DataError(f"{where}: column {listed([name])!r} has type {kind}; this model was trained on numbers in it.")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _lists(column: Any, name: str, where: str) -> Matrix:
    """A column of lists of one length k as `(N, k)`."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    kind = column.type
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise DataError(f"{where}: column {listed([name])!r} holds {kind}; this model was trained on lists of numbers.")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False))
    different = np.flatnonzero(lengths != lengths[:1])
    if different.size or (lengths == -1).any():
        raise DataError(f"{where}: column {listed([name])!r} holds lists of different lengths; expected one length.")
    k = int(lengths[0]) if len(lengths) else 0
    return _numbers(pc.list_flatten(column), name, where).reshape(len(column), k)
