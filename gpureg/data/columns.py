"""Arrow's columns, of a table in a file or of a data frame, as features and as labels."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, decoded, find_labels, listed, no_label
from gpureg.data.raw import Features, check_features
from gpureg.data.spelling import Label
from gpureg.data.uses import Uses, advice_missing, not_numbers
from gpureg.data.words import coded, holds_words, is_date, is_text
from gpureg.errors import DataError, named

Table = Any  # pyarrow.Table; pyarrow has no types
Column = Any  # pyarrow.ChunkedArray
Schema = Any  # pyarrow.Schema
Matrix = npt.NDArray[Any]

_ROWS_AT_ONCE, _ROWS_OF_A_THREAD, _MOST_THREADS = 1 << 14, 1 << 16, 8


def refuse_types(schema: Schema, names: tuple[str, ...], where: str, *, one_hot: bool = False) -> None:
    """Raise DataError unless the columns hold numbers, booleans, lists of numbers, or, if `one_hot`, words."""
    other = [name for name in names if not holds_numbers(schema.field(name).type)]
    if one_hot:
        other = [name for name in other if not holds_words(schema.field(name).type)]
    if other:
        raise not_numbers(where, [f"{name} ({schema.field(name).type})" for name in other], one_hot=one_hot)


def feature_matrix(
    table: Table,
    names: tuple[str, ...],
    where: str,
    kept: Kept = ALL,
    uses: Uses = Uses(),  # noqa: B008  # it is frozen
    missing: frozenset[str] = frozenset(),
) -> Features:
    """Columns of a table as one matrix.

    It has the narrowest type that holds all of them. A column `e` of lists of length k is `e[0]`, ..., `e[k-1]`.
    `missing`: words that mean that there is none. Raises DataError for other types, infinite values, lists of different
    lengths, and unless `uses` keeps them for words and missing values.
    """
    refuse_types(table.schema, names, where, one_hot=uses.one_hot)
    words: dict[str, tuple[str, ...]] = {}
    columns: dict[str, Column | Matrix] = {}
    for name in names:
        column = table.column(name)
        if holds_numbers(column.type):
            columns[name] = _numbers(column, name, where, kept, uses)
        else:
            codes, words[name] = coded(column, f"{where}, column {listed([name])!r}", missing)
            _check_words(codes, words[name], name, where, kept, uses)
            columns[name] = codes[:, None]
    widths = {name: column.shape[1] if isinstance(column, np.ndarray) else 1 for name, column in columns.items()}
    X = np.empty((table.num_rows, sum(widths.values())), np.result_type(*(_dtype(c) for c in columns.values())))
    start, scalars = 0, {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            X[:, start : start + widths[name]] = column
        else:
            scalars[start] = column
        start += widths[name]
    finite = _fill(X, scalars)
    spread = [(m, name) for name in names for m in _members(name, widths[name], table.schema.field(name).type)]
    spread_names = tuple(member for member, _ in spread)
    if not finite or 0 in X.shape:
        check_features(X, where, spread_names, kept, missing=uses.keeps_missing)
    return Features(X, spread_names, tuple(words.get(name) for _, name in spread) if words else None)


def _check_words(codes: Matrix, words: tuple[str, ...], name: str, where: str, kept: Kept, uses: Uses) -> None:
    """Raise DataError for missing words, unless they are kept, and for dates."""
    absent = np.isnan(codes)
    if absent.any() and not uses.keeps_missing:
        raise DataError(
            f"{where}: column {listed([name])!r} has {int(absent.sum())} missing values, the first in row "
            f"{kept.number(int(np.argmax(absent)))} (counted from 0). {advice_missing()}"
        )
    if words and all(is_date(word) for word in words):
        raise DataError(
            f"{where}: column {listed([name])!r} holds dates ({listed(words[:1])!r}), which are neither numbers nor "
            f"categories. Leave it out with {named('drop', name)}, or store numbers (a year, days since a first day)."
        )


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
    codes, values = distinct(column, where)
    found = Found(codes, tuple(_label(value, where) for value in values), where, kept)
    found.refuse_missing(missing)
    return found


def distinct(column: Column, where: str) -> tuple[npt.NDArray[np.int64], list[Any]]:
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
        there = np.zeros(len(whole.dictionary), np.bool_)
        there[indices] = True
        if not there.all():
            indices = (np.cumsum(there) - 1).take(indices)
        return indices, whole.dictionary.filter(pa.array(there)).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} holds words that are not UTF-8 text ({error}). Write the file again.") from error
    except pa.ArrowException as error:
        raise DataError(f"{where} has type {column.type}, whose values can't be told apart ({error}).") from error


def _label(value: Any, where: str) -> Label:
    if isinstance(value, bytes):
        return decoded(value, where)
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        if not whole and Decimal(repr(float(value))) != value:
            raise DataError(f"{where} holds {value}, a decimal with more digits than a float can hold. Store words.")
        return int(value) if whole else float(value)
    if value is None:
        raise DataError(f"{where} has a row without a label. Remove or label such rows.")
    return str(value)


def _numbers(column: Column, name: str, where: str, kept: Kept, uses: Uses) -> Column | Matrix:
    """A column of numbers, without missing values unless they are kept; one of lists as its matrix (N, k)."""
    import pyarrow as pa
    import pyarrow.types as types

    if column.null_count and not uses.keeps_missing:
        raise DataError(
            f"{where}: column {listed([name])!r} has {column.null_count} missing values, the first in row "
            f"{kept.number(_first_null(column))} (counted from 0). {advice_missing()}"
        )
    if types.is_decimal(column.type) or types.is_null(column.type):
        return column.cast(pa.float64())
    if types.is_boolean(column.type) and column.null_count:
        return column.cast(pa.uint8())
    return _lists(column, name, where, kept, uses) if is_list(column.type) else column


def _lists(column: Column, name: str, where: str, kept: Kept, uses: Uses) -> Matrix:
    """A column of lists as its matrix (N, k); a missing list is a row of NaN."""
    import pyarrow.compute as pc

    there = np.asarray(column.is_valid().to_numpy())
    lengths = pc.list_value_length(column).drop_null().to_numpy()
    different = np.flatnonzero(lengths != lengths[:1])
    if different.size:
        rows = np.flatnonzero(there)[[0, different[0]]]
        raise DataError(
            f"{where}: column {listed([name])!r} holds lists of different lengths: {lengths[0]} in row "
            f"{kept.number(int(rows[0]))}, {lengths[different[0]]} in row {kept.number(int(rows[1]))} (counted from "
            "0). Expected lists of one length."
        )
    k = int(lengths[0]) if len(lengths) else 0
    values = pc.list_flatten(column)
    if values.null_count and not uses.keeps_missing:
        row = kept.number(_first_null(values) // max(1, k))
        raise DataError(
            f"{where}: column {listed([name])!r} has a missing value in row {row} (counted from 0). {advice_missing()}"
        )
    numbers = np.asarray(values.to_numpy()).reshape(int(there.sum()), k)
    if there.all():
        return numbers
    whole = np.full((len(column), k), np.nan, np.result_type(numbers, np.float32))
    whole[there] = numbers
    return whole


def _fill(X: Matrix, columns: dict[int, Column]) -> bool:
    """Copy columns into a matrix, a block of rows at a time that fits the processor's cache; several at once. Whether
    all of the matrix is finite, as far as was looked at.
    """
    import pyarrow as pa

    if not columns:
        return False
    table = pa.Table.from_arrays(list(columns.values()), names=[str(position) for position in columns])
    batches = table.to_batches(max_chunksize=_ROWS_OF_A_THREAD)
    ends = np.cumsum([len(batch) for batch in batches])

    def copy(batch: Any, end: int) -> bool:
        finite, parts = True, [part.to_numpy(zero_copy_only=False) for part in batch.columns]
        for start in range(0, len(batch), _ROWS_AT_ONCE):
            rows = X[end - len(batch) : end][start : start + _ROWS_AT_ONCE]
            with np.errstate(invalid="ignore"):  # a signalling NaN, which is found to be missing later
                for position, part in zip(columns, parts, strict=True):
                    rows[:, position] = part[start : start + len(rows)]
            finite &= X.dtype.kind != "f" or bool(np.isfinite(rows).all())
        return finite

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        return all(list(pool.map(copy, batches, ends.tolist())))  # a list: all of them are copied


def _dtype(column: Column | Matrix) -> npt.DTypeLike:
    import pyarrow.types as types

    if isinstance(column, np.ndarray):
        return np.uint8 if column.dtype == np.bool_ else column.dtype
    if types.is_boolean(column.type):
        return np.uint8
    if column.null_count and not types.is_floating(column.type):
        return np.float64
    return column.type.to_pandas_dtype()


def holds_numbers(kind: Any) -> bool:
    """Whether a column of this Arrow type holds numbers, booleans, or lists of them."""
    import pyarrow.types as types

    if is_list(kind):
        kind = kind.value_type
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number or types.is_boolean(kind) or types.is_null(kind))


def is_list(kind: Any) -> bool:
    """Whether a column of this Arrow type holds lists."""
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _members(name: str, width: int, kind: Any) -> list[str]:
    return [f"{name}[{index}]" for index in range(width)] if is_list(kind) else [name]


def _first_null(column: Column) -> int:
    return int(np.flatnonzero(column.is_null().to_numpy())[0])
