"""Which rows of a file are read: those whose weight is above 0. Messages number rows as the file does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Files = Callable[[], Sequence[tuple[str, int]]]  # the files of a folder, by name, with the number of their rows


@dataclass(frozen=True)
class Kept:
    """The rows that are read, `rows (N,)` in the file's own numbers, from 0; None for all. `files`: asked for if they
    are those of a folder, one file after the other, and a message is about one of them.
    """

    rows: npt.NDArray[np.int64] | None = None
    files: Files | None = None

    @classmethod
    def of_weights(cls, weights: npt.NDArray[np.float64] | None, files: Files | None = None) -> Kept:
        """Rows of weight 0 count nowhere: not in sizes, splits, folds, scaling, losses."""
        if weights is None or weights.all():
            return ALL if files is None else cls(None, files)
        return cls(np.flatnonzero(weights), files)

    def number(self, row: int) -> str:
        """What messages call the row that is `row` among those kept: its number in its file, and of which file of a
        folder that is.
        """
        number = row if self.rows is None else int(self.rows[row])
        for name, count in () if self.files is None else self.files():
            if number < count:
                return f"{number:d} of {name}"
            number -= count
        return str(number)

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The kept rows of an array."""
        return values if self.rows is None else values[self.rows]


ALL = Kept()
