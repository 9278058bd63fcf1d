"""Arrays and data frames in memory: from what `make_dataset` is given to `RawData`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.arrays import label_column
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, find_labels, listed, settle
from gpureg.data.opening import first_words
from gpureg.data.raw import RawData, as_features, check_features, check_lengths, check_weights, refuse_absent
from gpureg.errors import DataError, UsageError

Matrix = npt.NDArray[Any]
Features = tuple[Matrix, tuple[int, int] | None, float | None, tuple[str, ...] | None]


def in_memory(X: Any, y: Any, X_val: Any, y_val: Any, sample_weight: Any, name: str) -> RawData:
    """Arrays or frames as `RawData`, without the rows of weight 0; validation columns in the order of training.

    Raises UsageError and DataError as `read_features` and `read_labels` do, and for parts that do not fit.
    """
    if (X_val is None) != (y_val is None):
        raise UsageError("One of X_val and y_val was given; expected both or neither.")
    n_rows, weights = rows_of(X, "X"), None
    check_lengths(n_rows, rows_of(y, "y"), "X and y")
    if sample_weight is not None:
        weights = check_weights(_weights(sample_weight), n_rows, "sample_weight")
    kept = Kept.of_weights(weights)
    features, image_shape, pixel_max, names = read_features(X, "X", kept)
    columns, features_val = [read_labels(y, "y", kept)], None
    if X_val is not None:
        check_lengths(rows_of(X_val, "X_val"), rows_of(y_val, "y_val"), "X_val and y_val")
        features_val, _, _, own_names = read_features(X_val, "X_val")
        features_val = _in_order(features_val, own_names, names)
        if features_val.shape[1] != features.shape[1]:
            raise DataError(
                f"X has {features.shape[1]} features, X_val {features_val.shape[1]}; expected the same ones."
            )
        columns.append(read_labels(y_val, "y_val"))
    codes, labels = settle(columns)
    return RawData(
        name=name,
        X=features,
        codes=codes[0],
        labels=labels,
        X_val=features_val,
        codes_val=None if features_val is None else codes[1],
        weights=None if weights is None else kept.of(weights),
        image_shape=image_shape,
        pixel_max=pixel_max,
        feature_names=names,
    )


def read_features(X: Any, where: str, kept: Kept = ALL) -> Features:
    """Features `X (N, F)`, images `(N, H, W)` or a data frame: (X, image shape, largest pixel, names).

    A frame's columns may be numbers and booleans of several types. Raises UsageError for what is not an array,
    DataError for features that can't be used.
    """
    if is_frame(X):
        matrix, names = _frame(X, where, kept)
        return matrix, None, None, names
    array = as_array(X, where)
    if array.dtype.kind == "O":
        array = numbers_of_objects(array, where)
    matrix, image_shape, pixel_max = as_features(kept.of(array) if array.ndim else array, where, kept)
    return matrix, image_shape, pixel_max, None


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


def _weights(sample_weight: Any) -> Matrix:
    array = as_array(sample_weight, "sample_weight")
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    return numbers_of_objects(array, "sample_weight", "weights") if array.dtype.kind == "O" else array


def rows_of(X: Any, where: str) -> int:
    """How many rows an array or a frame has. Raises UsageError for a single value."""
    shape = X.shape if hasattr(X, "shape") else np.shape(as_array(X, where))
    if not shape:
        raise UsageError(f"{where} is a single value; expected one for each row.")
    return int(shape[0])


def _in_order(X: Matrix, names: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> Matrix:
    """The columns `expected`, by name where both sides have names. Raises UsageError for one that is not there."""
    if names is None or expected is None or names == expected:
        return X
    refuse_absent("X_val", expected, names)
    return X[:, [names.index(name) for name in expected]]


def as_array(values: Any, where: str) -> Matrix:
    """A NumPy array of whatever can be one. Raises UsageError for what can't."""
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        raise DataError(f"{where} has masked values. Remove or fill in missing values.")
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise UsageError(
            f"{where} is sparse ({type(values).__name__}, {' x '.join(map(str, values.shape))}); expected a dense "
            f"array. Make it one with {where}.toarray()."
        )
    try:
        array = np.asarray(values)
    except Exception as error:  # lists of different lengths, arrays of another device: what they say is the reason
        raise UsageError(
            f"{where} can't be made an array ({first_words(error)}). Expected an array, a list of rows of equal "
            "length, or a data frame, in host memory."
        ) from error
    if array.ndim == 0:
        raise UsageError(f"{where} is a single value ({type(values).__name__}); expected one for each row.")
    return array


def is_frame(X: Any) -> bool:
    """pandas', Polars' and Arrow's tables: they have columns, and Arrow can read them."""
    return hasattr(X, "columns") and hasattr(X, "__arrow_c_stream__")


def _frame(X: Any, where: str, kept: Kept) -> tuple[Matrix, tuple[str, ...]]:
    if hasattr(X, "iloc"):  # pandas
        names = tuple(str(name) for name in X.columns)
        _refuse_twice(names, where)
        if all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in X.dtypes):
            matrix = kept.of(X.to_numpy())
            check_features(matrix, where, names, kept)
            return matrix, names
        X = X.set_axis(list(names), axis=1).reset_index(drop=True)
    import pyarrow as pa

    from gpureg.data.columns import feature_matrix
    from gpureg.data.parquet_files import index_columns

    try:
        table = pa.table(X)
    except Exception as error:  # columns of mixed objects, names that are not unique
        raise DataError(
            f"{where}: {first_words(error)}. Features are numbers: encode or leave out other columns."
        ) from error
    index = index_columns(table.schema)
    names = tuple(name for name in table.column_names if name not in index)
    _refuse_twice(names, where)
    if not names or not table.num_rows:
        raise DataError(f"{where} has {table.num_rows} rows and {len(names)} columns: there is nothing to fit.")
    return feature_matrix(table if kept is ALL else table.take(kept.rows), names, where, kept)


def _refuse_twice(names: tuple[str, ...], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{where}: columns with the same name: {listed(twice)}. Rename them.")


def numbers_of_objects(array: Matrix, where: str, what: str = "features") -> Matrix:
    """An array of objects that are all numbers (or booleans) as float64. Raises DataError for any other."""
    for row, value in np.ndenumerate(array):
        if not isinstance(value, (int, float, np.bool_, np.integer, np.floating)):
            raise DataError(
                f"{where}: row {row[0]} (counted from 0) holds {'nothing' if value is None else type(value).__name__}; "
                f"{what} are real numbers."
            )
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise DataError(f"{where} holds whole numbers beyond the range of a float64. Rescale them.") from error
