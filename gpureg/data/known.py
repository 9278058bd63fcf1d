"""Labels of new data as indices into the classes of a trained model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import Blocks
from gpureg.data.labels import Found, find_class, listed
from gpureg.data.spelling import Label
from gpureg.errors import DataError

Codes = npt.NDArray[np.int64]
UNKNOWN = -1


@dataclass(frozen=True)
class Unknown:
    """Labels that are none of a model's classes, with the number of their rows."""

    rows: Counter[Label] = field(default_factory=Counter)

    def plus(self, found: Found, numbers: Codes, counted: npt.NDArray[np.bool_]) -> Unknown:
        """With those of further rows, of which some are `counted (n,)`; `numbers`: for each of their values the index
        of its class, as below.
        """
        counts = np.bincount(found.codes[counted], minlength=len(found.values)).tolist()
        strange = [code for code, number in enumerate(numbers.tolist()) if number == UNKNOWN and counts[code]]
        return Unknown(self.rows + Counter({found.values[code]: counts[code] for code in strange}))

    def refuse(self, total: int, classes: Sequence[Any], where: str) -> None:
        """Raise DataError if there are any among `total` rows."""
        if not self.rows:
            return
        held = listed([f"{label!r} ({count:,})" for label, count in self.rows.most_common()], 10)
        raise DataError(
            f"{where}: {self.rows.total():,} of {total:,} rows have classes that this model does not know: {held}. "
            f"It knows {listed([repr(name) for name in classes])}. Leave those rows out."
        )


def class_numbers(labels: Sequence[Label], classes: Sequence[Any]) -> Codes:
    """For each label the index of its class, `UNKNOWN` for a label that is none of them.

    Labels match classes as they do in training: `"2"`, `2` and `"2.0"` are the class 2, `"02"` is not.
    """
    found = (find_class(label, classes) for label in labels)
    return np.array([UNKNOWN if number is None else number for number in found], np.int64)


@dataclass(frozen=True)
class Known:
    """Rows whose classes `y (n,)` a model knows, as they were read: `X (n, D)`, `weights (n,)` above 0 or None, and the
    `numbers (n,)` that they have in the data. `where`: what messages call the file that holds them; there are `before`
    rows in files before it.
    """

    X: npt.NDArray[Any]
    y: Codes
    weights: npt.NDArray[np.float64] | None
    numbers: Codes
    where: str
    before: int

    def number(self, row: int) -> int:
        """The number of a row in its file."""
        return int(self.numbers[row]) - self.before


def known_rows(blocks: Blocks, classes: Sequence[Any], *, select: bool = False) -> Iterator[Known]:
    """The rows of opened data that count, block by block.

    `select`: rows of classes that are not known are left out. Raises DataError for those rows otherwise, with their
    number, after the last one, and for data without rows.
    """
    unknown, total = Unknown(), 0
    known: dict[Any, int] = {}  # the labels seen so far: every block has the same few
    for block in blocks.rows:
        found, weights = block.labels, block.weights
        assert found is not None, "labels were asked for"
        fresh = [value for value in found.values if value not in known]
        known |= dict(zip(fresh, class_numbers(fresh, classes).tolist(), strict=True))
        numbers = np.array([known[value] for value in found.values], np.int64)
        y = numbers[found.codes]
        counted = np.ones(len(y), bool) if weights is None else weights > 0
        if block.left_out is not None:
            counted &= ~block.left_out
        if select:
            counted &= y >= 0
        unknown = unknown.plus(found, numbers, counted)
        total += int(counted.sum())
        rows = np.flatnonzero(counted)
        if len(rows) and not unknown.rows:
            some = slice(None) if counted.all() else rows
            of_them = None if weights is None else weights[some]
            where, first = block.place(blocks.where)
            yield Known(block.X[some], y[some], of_them, block.first + rows, where, block.first - first)
    unknown.refuse(total, classes, blocks.where)
    if not total:
        raise DataError(f"{blocks.where} has no rows to evaluate on.")
