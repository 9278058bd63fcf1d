"""The columns that a trained model expects, found in new data: by name if both sides have names, else by number."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.columns import base_column, holds_numbers, is_list
from gpureg.data.encoding import UNSEEN, Encoding, unseen_notices
from gpureg.data.in_memory import as_array, is_frame, numbers_of_objects
from gpureg.data.labels import listed
from gpureg.data.sparse import Csr, is_sparse, new_rows
from gpureg.data.words import coded, holds_words, matched
from gpureg.errors import DataError, GpuregWarning, UsageError

Matrix = npt.NDArray[Any]
Table = Any  # a table or a batch of pyarrow, which has no types
Names = tuple[str, ...] | None


@dataclass(frozen=True)
class Expected:
    """The columns that a model takes: how many there are, and their names if the training data had any. `encoding`
    makes its features of them, None if each is one as it is. `index_base`: the number from which the indices of an
    svmlight file count, None if that is not known."""

    n_features: int
    names: Names = None
    encoding: Encoding | None = None
    index_base: int | None = None

    @classmethod
    def of(cls, n_features: int, names: Names, encoding: Encoding | None, index_base: int | None = None) -> Expected:
        """What a model takes that has this number of features, of these names."""
        own = cls(n_features, names, None, index_base)
        return own if encoding is None else cls(encoding.width, encoding.names, encoding)

    @property
    def leaves_out(self) -> bool:
        """Whether rows with missing values were left out in training, and so get no label."""
        return self.encoding is not None and self.encoding.missing == "drop"

    def words(self) -> dict[str, tuple[str | None, ...]]:
        """The columns that hold words, with their categories."""
        if self.encoding is None or self.names is None:
            return {}
        return {
            name: found for name, found in zip(self.names, self.encoding.categories, strict=True) if found is not None
        }

    def encoded(self, columns: Matrix) -> Matrix:
        """The features `(N, F)` of columns `(N, n_features)`."""
        return columns if self.encoding is None else self.encoding.applied(columns)

    def unseen(self, columns: Matrix) -> dict[int, int]:
        """For each column of words the number of rows with a word that no training row has."""
        found = () if self.encoding is None else self.encoding.words
        return {column: int((columns[:, column] == UNSEEN).sum()) for column in found}

    def name(self, feature: int) -> str:
        """The column of a feature as messages call it."""
        if self.encoding is not None:
            feature = self.encoding.column_of(feature)
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
    row: int | str
    feature: int
    value: float

    @classmethod
    def among(cls, rows: Matrix, start: int, number: Callable[[int], int | str]) -> NotFinite:
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

    @classmethod
    def of_sparse(cls, rows: Csr, number: Callable[[int], int | str]) -> NotFinite:
        """Those of CSR rows."""
        bad = np.flatnonzero(~np.isfinite(rows.data))
        row = np.searchsorted(rows.indptr, bad, side="right") - 1
        return cls(len(np.unique(row)), number(int(row[0])), int(rows.indices[bad[0]]), float(rows.data[bad[0]]))


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
    """Features `(N, D)` of an array, sparse ones in CSR, images `(N, height, width)` or a data
    frame, in the order of the model's.

    Warns with GpuregWarning of words that no training row has. Raises as `read_columns_of`.
    """
    columns = read_columns_of(X, expected, where)
    if expected.encoding is not None:
        for notice in unseen_notices(expected.unseen(columns), expected.encoding, f"{where}: rows"):
            warnings.warn(notice, GpuregWarning, stacklevel=4)
    return expected.encoded(columns)


def read_columns_of(X: Any, expected: Expected, where: str) -> Matrix:
    """The columns of rows that a model takes: `(N, n_features)`.

    A missing value of a frame becomes NaN. Raises UsageError for what does not fit the model, DataError for values that
    are not numbers.
    """
    if is_frame(X):
        return _of_frame(X, expected, where)
    if is_sparse(X):
        if expected.encoding is not None:
            raise UsageError(f"{where} is sparse; this model was trained on the columns of a table. Give a data frame.")
        return new_rows(X, expected.n_features, where)
    array = as_array(X, where)
    if words := expected.words():
        raise UsageError(
            f"{where} is an array ({array.dtype}); this model was trained on a table with columns of words "
            f"({listed(list(words), 5)}). Give a data frame."
        )
    if array.dtype.kind == "O":
        fills = expected.encoding is not None and expected.encoding.missing != "refuse"
        array = numbers_of_objects(array, where, missing=fills)
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


def table_matrix(
    table: Table,
    expected: Expected,
    columns: Sequence[str],
    where: str,
    missing: frozenset[str] = frozenset(),
) -> Matrix:
    """The `columns` of an Arrow table as `(N, n_features)` in float64, each column's numbers side by side.

    Missing values become NaN; a column of words holds indices into its categories. `missing`: words that mean that
    there is none. Raises DataError for columns that hold something else than those of the model, and for lists of
    another length.
    """
    names = expected.names or tuple(columns)
    position = {name: index for index, name in enumerate(names)}
    words = expected.words()
    by_feature = np.empty((expected.n_features, table.num_rows))
    filled = 0
    for name in columns:
        column = table.column(name)
        if name in words:
            by_feature[position[name]] = _categories(column, words[name], name, where, missing)
            filled += 1
        elif name in position:
            by_feature[position[name]] = _numbers(column, name, where)
            filled += 1
        else:
            lists = _lists(column, name, where, position)
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
    in_order = expected.names is None or columns == expected.names
    if set(kinds) <= set("biuf") and in_order and not expected.words():
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


def _categories(
    column: Any, known: tuple[str | None, ...], name: str, where: str, missing: frozenset[str]
) -> npt.NDArray[np.float64]:
    """A column of words as indices `(N,)` into its categories: -1 for one that is none of them, NaN if it is missing
    and missing words are not a category.
    """
    kind = column.type
    if not (holds_words(kind) or holds_numbers(kind)) or is_list(kind):
        raise DataError(f"{where}: column {listed([name])!r} has type {kind}; this model was trained on words in it.")
    codes, found = coded(column, f"{where}, column {listed([name])!r}", missing - set(known))
    places = [*matched(found, known).tolist(), float(known.index(None)) if None in known else np.nan]
    return np.array(places)[np.where(np.isnan(codes), len(found), codes).astype(np.int64)]


def _numbers(column: Any, name: str, where: str) -> Matrix:
    """A column of numbers or booleans `(N,)`; missing values are NaN."""
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_null(kind) or types.is_decimal(kind) or types.is_float16(kind):
        column = column.cast(pa.float64())
    elif types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        raise DataError(f"{where}: column {listed([name])!r} has type {kind}; this model was trained on numbers in it.")
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _lists(column: Any, name: str, where: str, expected: Container[str]) -> Matrix:
    """A column of lists of one length k as `(N, k)`; a missing list is a row of NaN."""
    import pyarrow.compute as pc

    kind = column.type
    if not is_list(kind):
        raise DataError(f"{where}: column {listed([name])!r} holds {kind}; this model was trained on lists of numbers.")
    there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    lengths = np.asarray(pc.list_value_length(column).drop_null().to_numpy(zero_copy_only=False))
    if (lengths != lengths[:1]).any():
        raise DataError(f"{where}: column {listed([name])!r} holds lists of different lengths; expected one length.")
    k = int(lengths[0]) if len(lengths) else _longest(name, expected)
    whole = np.full((len(column), k), np.nan)
    whole[there] = _numbers(pc.list_flatten(column), name, where).reshape(int(there.sum()), k)
    return whole


def _longest(name: str, expected: Container[str]) -> int:
    """The length of a column's lists in training."""
    return next(k for k in itertools.count() if f"{name}[{k}]" not in expected)
