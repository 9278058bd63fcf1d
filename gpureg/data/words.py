"""Columns of words: the different words, and each row's as an index into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.labels import decoded
from gpureg.data.spelling import plain_number
from gpureg.errors import DataError

Column = Any  # pyarrow.ChunkedArray
Matrix = npt.NDArray[Any]

_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?"
_DATE = re.compile(rf"(?:\d{{4}}([-/.])\d{{1,2}}\1\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\2\d{{4}}){_TIME}")


def coded(
    column: Column, where: str, missing: frozenset[str] = frozenset()
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Indices `(N,)` into the different words of a column, NaN if there is none, and the words.

    The column may hold words, numbers, booleans, or a dictionary of them; a number is the word that it is written as.
    `missing`: words that mean that there is none. Raises DataError for bytes that are not text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if types.is_null(column.type):
        return np.full(len(column), np.nan), ()
    if not types.is_dictionary(column.type):
        for view, plain in ((types.is_string_view, pa.large_string()), (types.is_binary_view, pa.large_binary())):
            column = column.cast(plain) if view(column.type) else column
        column = column.dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
        column = column if not isinstance(column, pa.ChunkedArray) else column.chunk(0)  # as older Arrows leave it
    indices = np.asarray(pc.fill_null(column.indices.cast(pa.int64()), -1))
    values = [word_of(value, where) for value in _plain(column.dictionary, where)]
    values = [None if word is None or word in missing else word for word in values]
    used = np.unique(indices[indices >= 0])
    words = tuple(dict.fromkeys(word for word in (values[index] for index in used) if word is not None))
    position = {word: float(index) for index, word in enumerate(words)}
    table = np.array([*(np.nan if word is None else position.get(word, np.nan) for word in values), np.nan])
    return table[indices], words


def coded_numbers(values: Matrix) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Indices `(N,)` into the different numbers, as words, and these; NaN is missing."""
    found, codes = np.unique(values[~np.isnan(values)], return_inverse=True)
    indices = np.full(len(values), np.nan)
    indices[~np.isnan(values)] = codes.reshape(-1)
    return indices, tuple(word_of(value) or "" for value in found.tolist())


def _plain(dictionary: Any, where: str) -> list[Any]:
    try:
        found: list[Any] = dictionary.to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} holds words that are not UTF-8 text ({error}). Write the data again.") from error
    return found


def word_of(value: Any, where: str = "a column") -> str | None:
    """A value as the word of its category: `2.0` and 2 are the same; None for one that is missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return decoded(value, where)
    if isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, (float, Decimal)):
        number = float(value)
        if np.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)


def matched(words: Sequence[str], known: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """For each word the index of its category, -1 for a word that is none: `2.0` is the category `2`."""
    position = {word: float(index) for index, word in enumerate(known) if word is not None}

    def index(word: str) -> float:
        if word in position:
            return position[word]
        number = plain_number(word.strip())
        return position.get(word_of(number) or "", -1.0) if number is not None else -1.0

    return np.array([index(word) for word in words], np.float64)


def is_date(word: str) -> bool:
    """Whether a word is a day, with or without a time."""
    return _DATE.fullmatch(word.strip()) is not None


def holds_words(kind: Any) -> bool:
    """Whether a column of this Arrow type holds words, or a dictionary of words, numbers or booleans."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
        number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        return bool(number or types.is_boolean(kind) or is_text(kind))
    return is_text(kind) and not types.is_null(kind)


def is_text(kind: Any) -> bool:
    """Whether a column of this type holds words, or bytes that may be words."""
    import pyarrow.types as types

    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    whole = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(text or whole or types.is_fixed_size_binary(kind) or types.is_null(kind))
