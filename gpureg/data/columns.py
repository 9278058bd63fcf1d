"""Arrow's columns, of a table in a file or of a data frame, as features and as labels."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, decoded, find_labels, listed, no_label
from gpureg.data.raw import check_features
from gpureg.data.spelling import Label
from gpureg.errors import DataError, named

Table = Any  # pyarrow.Table; pyarrow has no types
Column = Any  # pyarrow.ChunkedArray
Schema = Any  # pyarrow.Schema
Matrix = npt.NDArray[Any]

_ROWS_AT_ONCE = 1 << 14


def refuse_words(schema: Schema, names: tuple[str, ...], where: str) -> None:
    """Raise DataError unless the columns hold numbers, booleans, or lists of numbers."""
    words = [f"{name} ({schema.field(name).type})" for name in names if not _holds_numbers(schema.field(name).type)]
    if words:
        raise DataError(
            f"{where}: columns that do not hold numbers: {listed(words)}. "
            f"Features are numbers: encode or leave out these columns, or name the label column with {named('target')}."
        )


def feature_matrix(
    table: Table, names: tuple[str, ...], where: str, kept: Kept = ALL
) -> tuple[Matrix, tuple[str, ...]]:
    """Columns of numbers as one matrix (N, F) in C order, and the names of its columns.

    It has the narrowest type that holds all of them. A column `e` of lists of length k is the features `e[0]`, ...,
    `e[k-1]`. Raises DataError for other types, missing and infinite values, and lists of different lengths.
    """
    refuse_words(table.schema, names, where)
    columns = {name: _numbers(table.column(name), name, where, kept) for name in names}
    widths = {name: column.shape[1] if isinstance(column, np.ndarray) else 1 for name, column in columns.items()}
    X = np.empty((table.num_rows, sum(widths.values())), np.result_type(*(_dtype(c) for c in columns.values())))
    start, scalars = 0, {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            X[:, start : start + widths[name]] = column
        else:
            scalars[start] = column
        start += widths[name]
    _fill(X, scalars)
    spread = tuple(
        found
        for name in names
        for found in ([name] if not _is_list(table.schema.field(name).type) else _members(name, widths[name]))
    )
    check_features(X, where, spread, kept)
    return X, spread


def base_column(feature: str) -> str:
    """The column that a feature comes from: `e` for the `e[0]` of a column of lists."""
    name, bracket, rest = feature.rpartition("[")
    return name if bracket and rest.endswith("]") and rest[:-1].isdecimal() else feature


def label_column(column: Column, where: str, kept: Kept = ALL, missing: frozenset[str] = frozenset()) -> Found:
    """A column of labels: words, bytes of text, numbers, booleans, or a dictionary of them.

    Raises DataError for other types and for labels that are missing; `missing`: words that mean that there is none.
    """
    import pyarrow.types as types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if column.null_count:
        raise no_label(where, kept.number(_first_null(column)))
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        if types.is_dictionary(column.type):
            column = column.cast(kind)
        return find_labels(column.to_numpy(), where, kept)
    if not (is_text(kind) or types.is_decimal(kind)):
        raise DataError(f"{where} has type {column.type}; labels are numbers or words.")
    codes, values = _distinct(column, where)
    found = Found(codes, tuple(_label(value, where) for value in values), where, kept)
    found.refuse_missing(missing)
    return found


def _distinct(column: Column, where: str) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """A column as indices (N,) into its different values, of which each has a row."""
    import pyarrow as pa
    import pyarrow.types as types

    try:
        if not types.is_dictionary(column.type):
            for view, plain in ((types.is_string_view, pa.large_string()), (types.is_binary_view, pa.large_binary())):
                column = column.cast(plain) if view(column.type) else column
            column = column.dictionary_encode()
        whole = column.unify_dictionaries().combine_chunks()
        indices = whole.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        used, codes = np.unique(indices, return_inverse=True)
        return codes.reshape(-1).astype(np.int64), whole.dictionary.take(pa.array(used)).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} holds words that are not UTF-8 text ({error}). Write the file again.") from error
    except pa.ArrowException as error:
        raise DataError(f"{where} has type {column.type}, which can't be read as labels ({error}).") from error


def _label(value: Any, where: str) -> Label:
    if isinstance(value, bytes):
        return decoded(value, where)
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        if not whole and Decimal(repr(float(value))) != value:
            raise DataError(f"{where} holds {value}, a decimal of more digits than a number has. Store words.")
        return int(value) if whole else float(value)
    if value is None:
        raise DataError(f"{where} has a row without a label. Remove or label such rows.")
    return str(value)


def _numbers(column: Column, name: str, where: str, kept: Kept) -> Column | Matrix:
    """A column without missing values; one of lists as its matrix (N, k)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if column.null_count:
        raise DataError(
            f"{where}: column {listed([name])!r} has {column.null_count} missing values, the first in row "
            f"{kept.number(_first_null(column))} (counted from 0). Fill them in or drop these rows."
        )
    if types.is_decimal(column.type):
        return column.cast(pa.float64())
    if not _is_list(column.type):
        return column
    lengths = pc.list_value_length(column).to_numpy()
    different = np.flatnonzero(lengths != lengths[:1])
    if different.size:
        raise DataError(
            f"{where}: column {listed([name])!r} holds lists of different lengths: {lengths[0]} in row "
            f"{kept.number(0)}, {lengths[different[0]]} in row {kept.number(int(different[0]))} (counted from 0). "
            "Expected one length."
        )
    k = int(lengths[0]) if len(lengths) else 0
    values = pc.list_flatten(column)
    if values.null_count:
        row = kept.number(_first_null(values) // max(1, k))
        raise DataError(f"{where}: column {listed([name])!r} has a missing value in row {row} (counted from 0).")
    return np.asarray(values.to_numpy()).reshape(len(column), k)


def _fill(X: Matrix, columns: dict[int, Column]) -> None:
    """Copy columns into a matrix, a block of rows at a time, small enough for the processor's cache."""
    import pyarrow as pa

    if not columns:
        return
    table = pa.Table.from_arrays(list(columns.values()), names=[str(position) for position in columns])
    row = 0
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is found to be missing later
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for position, part in zip(columns, batch.columns, strict=True):
                X[row : row + len(batch), position] = part.to_numpy(zero_copy_only=False)
            row += len(batch)


def _dtype(column: Column | Matrix) -> npt.DTypeLike:
    import pyarrow.types as types

    if isinstance(column, np.ndarray):
        return np.uint8 if column.dtype == np.bool_ else column.dtype
    if types.is_null(column.type) or types.is_boolean(column.type):
        return np.uint8
    return column.type.to_pandas_dtype()


def _holds_numbers(kind: Any) -> bool:
    import pyarrow.types as types

    if _is_list(kind):
        kind = kind.value_type
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number or types.is_boolean(kind) or types.is_null(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_text(kind: Any) -> bool:
    """Whether a column of this type holds words, or bytes that may be words."""
    import pyarrow.types as types

    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    whole = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(text or whole or types.is_fixed_size_binary(kind) or types.is_null(kind))


def _members(name: str, width: int) -> list[str]:
    return [f"{name}[{index}]" for index in range(width)]


def _first_null(column: Column) -> int:
    return int(np.flatnonzero(column.is_null().to_numpy())[0])
