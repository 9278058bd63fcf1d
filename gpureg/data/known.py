"""Labels of new data as indices into the classes of a trained model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

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
            f"{where}: of {total:,} rows {self.rows.total():,} are of classes that this model does not know: {held}. "
            f"It knows {listed([repr(name) for name in classes])}. Leave those rows out."
        )


def class_numbers(labels: Sequence[Label], classes: Sequence[Any]) -> Codes:
    """For each label the index of its class, `UNKNOWN` for a label that is none of them.

    Labels match classes as they do in training: `"2"`, `2` and `"2.0"` are the class 2, `"02"` is not.
    """
    found = (find_class(label, classes) for label in labels)
    return np.array([UNKNOWN if number is None else number for number in found], np.int64)
