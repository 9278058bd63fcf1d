"""Cells of plain CSV text. In it every delimiter and every line break ends a cell, so that all cells are found at once
and lie in the order of a matrix; what is not plain is for a parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = Any  # pyarrow.Array; pyarrow has no types
Columns = slice | Sequence[int]

LINE, RETURN, QUOTE = b'\n\r"'
_COUNTED = 1 << 17  # characters that stay in a core's cache


@dataclass(frozen=True)
class Cells:
    """The cells of N rows of C columns: `text[begin : end]` for each of the `bounds (N, C, 2)`. What they hold shows
    when they are read; if a column is not read, `hidden` says whether it may be something else than cells.
    """

    text: memoryview
    bounds: npt.NDArray[np.int32]

    @classmethod
    def of(cls, text: memoryview, rows: int, columns: int, delimiter: str) -> Cells | None:
        """The cells of a text of `rows` lines; None unless each holds `columns` cells and ends in the same way."""
        values = np.frombuffer(text, np.uint8)
        found = values == ord(delimiter)
        found |= values == LINE
        ends = np.flatnonzero(found)
        last = ends[columns - 1 :: columns]
        if not 0 < len(ends) == rows * columns or not (values[last] == LINE).all():
            return None
        bounds = np.empty((len(ends), 2), np.int32)
        bounds[0, 0], bounds[:, 1] = 0, ends
        np.add(bounds[:-1, 1], 1, out=bounds[1:, 0])
        returns = values[last - 1] == RETURN
        if returns.any() and not returns.all():
            return None
        bounds[columns - 1 :: columns, 1] -= returns
        return cls(text, bounds.reshape(-1, columns, 2))

    def numbers(self, chosen: Columns) -> npt.NDArray[np.float64]:
        """Columns as a matrix, NaN where a cell is empty. Raises ArrowInvalid for what is not a number."""
        rows, columns, _ = self.bounds.shape
        four = np.zeros((4, columns, 2), np.bool_)  # rows, which are whole bytes of bits
        four[:, chosen, 0] = True
        there = np.tile(np.packbits(four, bitorder="little"), rows // 4 + 1)
        empty = self.bounds[..., 0] == self.bounds[..., 1]
        holes = bool(empty.any())
        if holes:
            filled = np.packbits(np.repeat(~empty, 2), bitorder="little")
            there[: len(filled)] &= filled
        numbers = self._strings(self.bounds, there).cast("float64")
        X = np.frombuffer(numbers.buffers()[1], np.float64)[: self.bounds.size : 2].reshape(empty.shape)[:, chosen]
        return np.where(empty[:, chosen], np.nan, X) if holes else X

    def words(self, chosen: Sequence[int]) -> list[Column] | None:
        """Columns as dictionaries of words, None if a word has quotes other than around it. Raises ArrowInvalid for
        bytes that are not UTF-8.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = []
        for column in chosen:
            bounds = np.ascontiguousarray(self.bounds[:, column])
            found = self._strings(bounds, np.full(len(bounds) // 4 + 1, 0b01010101, np.uint8)).dictionary_encode()
            words = found.dictionary
            words.validate(full=True)
            if _holds(words, QUOTE):
                words = pc.replace_substring_regex(words, '^"([^"]*)"$', r"\1")
                if _holds(words, QUOTE) or len(words.unique()) < len(words):
                    return None
            if _holds(words, RETURN):
                return None
            indices = np.frombuffer(found.indices.buffers()[1], np.int32)[: bounds.size : 2]
            columns.append(pa.DictionaryArray.from_arrays(np.ascontiguousarray(indices), words))
        return columns

    def hidden(self, chosen: Sequence[int]) -> bool:
        """Whether there are quotes, or line breaks of another kind, other than at the ends of the columns `chosen` and
        of rows.
        """
        values, ends = np.frombuffer(self.text, np.uint8), self.bounds[:, chosen]
        quotes = sum(np.count_nonzero(values[place] == QUOTE) for place in (ends[..., 0], ends[..., 1] - 1))
        returns = np.count_nonzero(values[self.bounds[:, -1, 1]] == RETURN)
        return count(self.text, QUOTE) != quotes or count(self.text, RETURN) != returns

    def _strings(self, bounds: npt.NDArray[np.int32], there: npt.NDArray[np.uint8]) -> Column:
        """What lies from each bound to the next one, which are cells and what separates them; null but for the bits
        `there`.
        """
        import pyarrow as pa

        buffers = [pa.py_buffer(one) for one in (there, bounds, self.text)]
        return pa.Array.from_buffers(pa.string(), bounds.size - 1, buffers)


def _holds(words: Column, character: int) -> bool:
    data = words.buffers()[2]
    return data is not None and count(memoryview(data), character) > 0


def count(text: memoryview, character: int) -> int:
    """How often a character is in a text."""
    values = np.frombuffer(text, np.uint8)
    parts = (values[start : start + _COUNTED] for start in range(0, len(values), _COUNTED))
    return sum(int(np.count_nonzero(part == character)) for part in parts)
