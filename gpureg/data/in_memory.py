"""Arrays and data frames in memory: from what `make_dataset` is given to `RawData`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.arrays import label_column
from gpureg.data.collections import without_dask
from gpureg.data.columns import base_column, feature_matrix
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, find_labels, listed, settle
from gpureg.data.marks import Marks
from gpureg.data.opening import first_words
from gpureg.data.raw import (
    Features,
    RawData,
    as_features,
    check_features,
    check_lengths,
    check_weights,
    refuse_absent,
    refuse_twice,
)
from gpureg.data.sparse import is_sparse, read_sparse
from gpureg.data.uses import Uses, advice_missing
from gpureg.data.words import coded_numbers
from gpureg.errors import DataError, UsageError, named

Matrix = npt.NDArray[Any]
_WORDS = "Words are columns of a data frame; see categorical."


@dataclass(frozen=True)
class Arrays:
    """What `make_dataset` is given: rows and labels, and those for validation, with their weights, if there are any;
    the groups of the rows.
    """

    X: Any
    y: Any
    X_val: Any = None
    y_val: Any = None
    weights: Any = None
    weights_val: Any = None
    groups: Any = None


def in_memory(given: Arrays, uses: Uses, name: str) -> RawData:
    """Arrays or frames as `RawData`, without the rows of weight 0; validation columns in the order of training.

    Raises UsageError and DataError as `read_features` and `read_labels` do, and for parts that do not fit.
    """
    if (given.X_val is None) != (given.y_val is None):
        raise UsageError("Only one of X_val and y_val was given; expected both or neither.")
    given = without_dask(given, uses)
    weights, kept = _weights(given.X, given.y, given.weights, ("X", "y", "sample_weight"))
    features = read_features(given.X, "X", kept, uses)
    columns, X_val, weights_val = [read_labels(given.y, "y", kept)], None, None
    if given.X_val is not None:
        names = ("X_val", "y_val", "sample_weight_val")
        weights_val, kept_val = _weights(given.X_val, given.y_val, given.weights_val, names)
        own = _validation(given.X_val, kept_val, uses, features)
        features, X_val = _together(features, own)
        columns.append(read_labels(given.y_val, "y_val", kept_val))
    codes, labels = settle(columns)
    return RawData(
        name=name,
        features=features,
        codes=codes[0],
        labels=labels,
        X_val=X_val,
        codes_val=None if X_val is None else codes[1],
        weights=weights,
        weights_val=weights_val,
        marks=Marks.of(
            {} if given.groups is None else {"groups": mark_array(given.groups, "groups")},
            rows_of(given.X, "X"),
            "the array",
            kept,
        ),
    )


def read_features(
    X: Any,
    where: str,
    kept: Kept = ALL,
    uses: Uses = Uses(),  # noqa: B008  # it is frozen
) -> Features:
    """Features `X (N, F)`, sparse ones in CSR, images `(N, H, W)` or a data frame.

    A frame's columns may be numbers and booleans of several types. Raises UsageError for what is not an array,
    DataError for features that can't be used.
    """
    if isinstance(X, Features):
        return replace(X, X=kept.of(X.X))
    if is_frame(X):
        return _frame(X, where, kept, uses)
    if is_sparse(X):
        uses.refuse_of_sparse(where)
        return Features(read_sparse(X, where, kept))
    array = as_array(X, where)
    if array.dtype.kind == "O":
        array = numbers_of_objects(array, where, missing=uses.keeps_missing)
    if array.dtype.kind in "US":
        raise DataError(f"{where} has type {array.dtype}; features are real numbers. {_WORDS}")
    return as_features(kept.of(array) if array.ndim else array, where, kept, uses)


def read_labels(y: Any, where: str, kept: Kept = ALL) -> Found:
    """Labels `y (N,)`: an array, a list, or a column of a data frame.

    Raises UsageError for what is not one label for each row, DataError for labels that can't be used.
    """
    if is_frame(y) and len(y.columns) != 1:
        raise DataError(
            f"{where} is a data frame of {len(y.columns)} columns; expected one label for each row. Name one column of "
            "it."
        )
    return find_labels(kept.of(label_column(as_array(y, where), where)), where, kept)


def _weights(X: Any, y: Any, given: Any, names: tuple[str, str, str]) -> tuple[Matrix | None, Kept]:
    """The weights of the rows that are kept, and which those are."""
    n_rows = rows_of(X, names[0])
    check_lengths(n_rows, rows_of(y, names[1]), f"{names[0]} and {names[1]}")
    if given is None:
        return None, ALL
    array = as_array(given, names[2])
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    array = numbers_of_objects(array, names[2], "weights") if array.dtype.kind == "O" else array
    weights = check_weights(array, n_rows, names[2])
    kept = Kept.of_weights(weights)
    return kept.of(weights), kept


def rows_of(X: Any, where: str) -> int:
    """How many rows an array or a frame has. Raises UsageError for a single value."""
    X = X.X if isinstance(X, Features) else X
    shape = X.shape if hasattr(X, "shape") else np.shape(as_array(X, where))
    if not shape:
        raise UsageError(f"{where} is a single value; expected one for each row.")
    return int(shape[0])


def _validation(X: Any, kept: Kept, uses: Uses, features: Features) -> Features:
    """The columns of validation rows that are those of training: by name if both sides have names, else by number."""
    plain = replace(uses, features=None, drop=None)
    if not is_frame(X):
        return read_features(X, "X_val", kept, plain if features.names is not None else uses)
    if features.names is None:
        own = read_features(X, "X_val", kept, plain)
        if features.positions is None or own.X.shape[1] != features.width:
            return own
        words = None if own.words is None else tuple(own.words[index] for index in features.positions)
        return Features(own.X[:, list(features.positions)], words=words, width=features.width)
    there = [str(name) for name in (X.column_names if hasattr(X, "column_names") else X.columns)]
    needed = dict.fromkeys(name if name in there else base_column(name) for name in features.names)
    refuse_absent("X_val", tuple(needed), tuple(there))
    return read_features(X, "X_val", kept, replace(plain, features=tuple(needed)))


def _together(features: Features, own: Features) -> tuple[Features, Matrix]:
    """Columns of training, and those of validation in the same order and with the same words.

    Raises UsageError for a column that is not there, DataError for others that do not fit.
    """
    X = own.X
    if features.names is not None and own.names is not None and features.names != own.names:
        refuse_absent("X_val", features.names, own.names)
        order = [own.names.index(name) for name in features.names]
        own = replace(own, words=None if own.words is None else tuple(own.words[index] for index in order))
        X = X[:, order]
    if X.shape[1] != features.X.shape[1] or (own.width and features.width and own.width != features.width):
        raise DataError(
            f"X has {features.width or features.X.shape[1]} features, X_val {own.width or X.shape[1]}; expected the "
            "same ones."
        )
    if features.words is None and own.words is None:
        return features, X
    return _same_words(features, replace(own, X=X))


def _same_words(features: Features, own: Features) -> tuple[Features, Matrix]:
    """Both with one list of words for each column."""
    words = list(features.words or [None] * features.X.shape[1])
    X = own.X.astype(np.float64)
    for column, known in enumerate(words):
        found = None if own.words is None else own.words[column]
        if known is None and found is None:
            continue
        if known is None:
            name = (features.names or ())[column]
            raise DataError(f"X_val: column {listed([name])!r} holds words, but numbers in X. Expected the same kind.")
        if found is None:  # numbers, but words in training
            codes, found = coded_numbers(X[:, column])
        else:
            codes = X[:, column]
        both = tuple(dict.fromkeys((*known, *found)))
        place = np.array([*(float(both.index(word)) for word in found), np.nan])
        X[:, column] = place[np.where(np.isnan(codes), len(found), codes).astype(np.int64)]
        words[column] = both
    return replace(features, words=tuple(words)), X


def mark_array(values: Any, option: str) -> Matrix:
    """Groups or folds as an array, in which a value that is missing is not a word. Raises UsageError."""
    return np.array(values, object) if isinstance(values, (list, tuple)) else as_array(values, option)


def as_array(values: Any, where: str) -> Matrix:
    """A NumPy array of whatever can be one. Raises UsageError for what can't."""
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        raise DataError(f"{where} has masked values. Remove or fill in missing values.")
    if is_sparse(values):
        raise UsageError(f"{where} is sparse ({type(values).__name__}); expected a dense array here: only X is sparse.")
    try:
        array = np.asarray(values)
    except Exception as error:  # lists of different lengths, arrays of another device: what they say is the reason
        raise UsageError(
            f"{where} can't be turned into an array ({first_words(error)}). Expected an array, a list of rows of equal "
            "length, or a data frame, in host memory."
        ) from error
    if array.ndim == 0:
        raise UsageError(f"{where} is a single value ({type(values).__name__}); expected one for each row.")
    return array


def is_frame(X: Any) -> bool:
    """pandas', Polars' and Arrow's tables: they have columns, and Arrow can read them."""
    return hasattr(X, "columns") and hasattr(X, "__arrow_c_stream__")


def _frame(X: Any, where: str, kept: Kept, uses: Uses) -> Features:
    import pyarrow as pa

    from gpureg.data.parquet_files import index_columns

    given = [str(name) for name in (X.column_names if hasattr(X, "column_names") else X.columns)]
    refuse_twice(given, where)
    by_text = dict(zip(given, X.column_names if hasattr(X, "column_names") else X.columns, strict=True))
    names = tuple(given)
    if uses.chooses and given:
        names = uses.chosen(given, (), where)
        X = X[[by_text[name] for name in names]] if hasattr(X, "iloc") else X.select([by_text[name] for name in names])
    if hasattr(X, "iloc"):  # pandas
        if all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in X.dtypes):
            matrix = kept.of(X.to_numpy())
            check_features(matrix, where, names, kept, missing=uses.keeps_missing)
            return Features(matrix, names)
        X = X.set_axis(list(names), axis=1).reset_index(drop=True)
    try:
        table = pa.table(X)
    except Exception as error:  # columns of mixed objects
        raise DataError(
            f"{where}: {first_words(error)}. A column holds values of one type; leave columns out with {named('drop')}."
        ) from error
    index = index_columns(table.schema)
    names = tuple(name for name in table.column_names if name not in index)
    if not names or not table.num_rows:
        raise DataError(f"{where} has {table.num_rows} rows and {len(names)} columns: there is nothing to fit.")
    return feature_matrix(table if kept is ALL else table.take(kept.rows), names, where, kept, uses)


def numbers_of_objects(array: Matrix, where: str, what: str = "features", *, missing: bool = False) -> Matrix:
    """An array of objects that are all numbers (or booleans) as float64; nothing is NaN, if that may be `missing`.

    Raises DataError for any other object.
    """
    for row, value in np.ndenumerate(array):
        if isinstance(value, (int, float, np.bool_, np.integer, np.floating)):
            continue
        nothing = _is_nothing(value)
        if not (nothing and missing):
            advice = f" {_WORDS}" if isinstance(value, str) else f" {advice_missing()}" if nothing else ""
            raise DataError(
                f"{where}: row {row[0]} (counted from 0) holds {'nothing' if nothing else type(value).__name__}; "
                f"{what} are real numbers.{advice if what == 'features' else ''}"
            )
    if missing:
        array = np.where(np.frompyfunc(_is_nothing, 1, 1)(array).astype(bool), np.nan, array)
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise DataError(f"{where} holds whole numbers beyond the range of a float64. Rescale them.") from error


def _is_nothing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")
