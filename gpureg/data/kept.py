"""Which rows of a file are read: those whose weight is above 0. Messages number rows as the file does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Kept:
    """The rows that are read, `rows (N,)` in the file's own numbers, from 0; None for all."""

    rows: npt.NDArray[np.int64] | None = None

    @classmethod
    def of_weights(cls, weights: npt.NDArray[np.float64] | None) -> Kept:
        """Rows of weight 0 count nowhere: not in sizes, splits, folds, scaling, losses."""
        if weights is None or weights.all():
            return ALL
        return cls(np.flatnonzero(weights))

    def number(self, row: int) -> int:
        """The file's number of the row that is `row` among those kept."""
        return row if self.rows is None else int(self.rows[row])

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The kept rows of an array."""
        return values if self.rows is None else values[self.rows]


ALL = Kept()
