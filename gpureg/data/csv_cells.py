"""Cells of plain CSV text. In it every delimiter and every line break ends a cell, so that all cells are found at once
and lie in the order of a matrix; what is not plain is for a parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.csv_decimals import MARGIN, WORD, Places, eight_characters, short_decimals, unused_bits

Column = Any  # pyarrow.Array; pyarrow has no types
Columns = slice | Sequence[int]

LINE, RETURN, QUOTE = b'\n\r"'
_COUNTED = 1 << 20  # characters at once
_CELLS = 1 << 16  # which are read at once


@dataclass(frozen=True)
class Cells:
    """The cells of N rows of C columns: `text[starts : ends]`, both `(N, C)`. What they hold shows when they are read;
    if a column is not read, `hidden` says whether it may be something else than cells.
    """

    text: memoryview
    starts: Places
    ends: Places

    @classmethod
    def of(cls, text: memoryview, rows: int, columns: int, delimiter: str) -> Cells | None:
        """The cells of a text of `rows` lines and `MARGIN` bytes that are not theirs; None unless each line holds
        `columns` cells and ends in the same way.
        """
        values = np.frombuffer(text, np.uint8, len(text) - MARGIN)
        found = np.zeros(len(values) // 4 * 4 + 4, np.bool_)
        found[0] = True  # the first cell starts as if behind a delimiter
        behind = np.equal(values, ord(delimiter), out=found[1 : len(values) + 1])
        behind |= values == LINE
        starts = _places(found)
        if not 0 < rows * columns == len(starts) - 1:
            return None
        ends = (starts[1:] - 1).reshape(rows, columns)
        if not (values[ends[:, -1]] == LINE).all():
            return None
        returns = values[ends[:, -1] - 1] == RETURN
        if returns.any():
            if not returns.all():
                return None
            ends[:, -1] -= 1
        return cls(text, starts[:-1].reshape(rows, columns), ends)

    def numbers(self, chosen: Columns, X: npt.NDArray[np.float64]) -> bool:
        """Write columns into a matrix `X`, NaN if a cell is empty; whether all are finite. Raises ArrowInvalid for what
        is not a number.
        """
        finite, step = True, max(1, _CELLS // X.shape[1])
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            starts, ends = (np.ascontiguousarray(of_all[rows, chosen]) for of_all in (self.starts, self.ends))
            rest = short_decimals(self.text, starts, ends, X[rows])
            if isinstance(rest, slice) or rest.size:
                left = self._parsed(starts.ravel()[rest], ends.ravel()[rest])
                X[rows].reshape(-1, copy=False)[rest] = left
                finite &= bool(np.isfinite(left).all())
        return finite

    def words(self, chosen: Sequence[int]) -> list[Column] | None:
        """Columns as dictionaries of words, None if a word has quotes other than around it. Raises ArrowInvalid for
        bytes that are not UTF-8.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = []
        for column in chosen:
            codes, words = self._coded(self.starts[:, column], self.ends[:, column])
            words.validate(full=True)
            if _holds(words, QUOTE):
                words = pc.replace_substring_regex(words, '^"([^"]*)"$', r"\1")
                if _holds(words, QUOTE) or len(words.unique()) < len(words):
                    return None
            if _holds(words, RETURN):
                return None
            columns.append(pa.DictionaryArray.from_arrays(codes, words))
        return columns

    def hidden(self, chosen: Sequence[int]) -> bool:
        """Whether there are quotes, or line breaks of another kind, other than at the ends of the columns `chosen` and
        of rows.
        """
        values, starts, ends = np.frombuffer(self.text, np.uint8), self.starts[:, chosen], self.ends[:, chosen]
        quotes = sum(np.count_nonzero(values[place] == QUOTE) for place in (starts, ends - 1))
        returns = np.count_nonzero(values[self.ends[:, -1]] == RETURN)
        text = self.text[:-MARGIN]
        return count(text, QUOTE) != quotes or count(text, RETURN) != returns

    def _coded(self, starts: Places, ends: Places) -> tuple[npt.NDArray[np.int32], Column]:
        """A column `(N,)` of cells as indices into the different ones."""
        import pyarrow as pa

        lengths = ends - starts
        if lengths.max() <= 8:  # numbers are compared more quickly than words
            keys = eight_characters(self.text, starts) << unused_bits(lengths)
            different, codes = np.unique(keys, return_inverse=True)
            words = [word.lstrip(b"\0") for word in different.astype(WORD).view("S8").tolist()]
            if np.array_equal(np.array([len(word) for word in words])[codes], lengths):  # nor are there zero bytes
                return codes.astype(np.int32), pa.array(words, pa.binary()).cast(pa.string())
        found = self._strings(starts, ends, np.ones(len(starts), np.bool_)).dictionary_encode()
        codes = np.frombuffer(found.indices.buffers()[1], np.int32)[: 2 * len(starts) : 2]
        return np.ascontiguousarray(codes), found.dictionary

    def _parsed(self, starts: Places, ends: Places) -> npt.NDArray[np.float64]:
        """Cells `(N,)` as numbers, NaN if a cell is empty. Raises ArrowInvalid for what is not a number."""
        there = starts < ends
        numbers = self._strings(starts, ends, there).cast("float64")
        found = np.frombuffer(numbers.buffers()[1], np.float64)[: 2 * len(starts) : 2]
        return found if there.all() else np.where(there, found, np.nan)

    def _strings(self, starts: Places, ends: Places, there: npt.NDArray[np.bool_]) -> Column:
        """Cells `(N,)` and what lies between them, which is null as are cells that are not `there`."""
        import pyarrow as pa

        bounds = np.stack((starts, ends), axis=1, dtype=np.int32, casting="same_kind")
        valid = np.zeros(bounds.shape, np.bool_)
        valid[:, 0] = there
        buffers = [pa.py_buffer(one) for one in (np.packbits(valid, bitorder="little"), bounds, self.text)]
        return pa.Array.from_buffers(pa.string(), bounds.size - 1, buffers)


def _places(found: npt.NDArray[np.bool_]) -> Places:
    """Where `found (4 M,)` is true. It is quicker to look at four values at once, if at most one of four is true."""
    four, number = found.view(np.dtype("<u4")), np.count_nonzero(found)
    if 6 * number > len(found) or len(places := np.flatnonzero(four != 0)) < number:
        return np.flatnonzero(found)
    within = np.bitwise_count(four.take(places, mode="wrap") - 1)  # eight bits for each value before the one
    within >>= 3
    places <<= 2
    places += within
    return places


def _holds(words: Column, character: int) -> bool:
    data = words.buffers()[2]
    return data is not None and count(memoryview(data), character) > 0


def count(text: memoryview, character: int) -> int:
    """How often a character is in a text."""
    values = np.frombuffer(text, np.uint8)
    parts = (values[start : start + _COUNTED] for start in range(0, len(values), _COUNTED))
    return sum(int(np.count_nonzero(part == character)) for part in parts)
