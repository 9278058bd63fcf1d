"""The splits of a cross-validation: whatever names rows in scikit-learn, as row numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpureg.errors import UsageError
from gpureg.estimators.arrays import to_host
from gpureg.types import Ints

Splits = list[tuple[Ints, Ints]]  # (training, held-out) row numbers of each fold


def read_splits(splits: Iterable[Any], n: int) -> Splits:
    """The folds of `cv.split`, each as the numbers of its training rows and of its held-out rows, out of n rows.

    Raises UsageError for what does not name rows, and for a part without rows.
    """
    found: Splits = []
    for number, split in enumerate(splits):
        try:
            train, test = split
        except (TypeError, ValueError):
            raise UsageError(
                f"cv: fold {number} is {_short(split)}; expected a pair, the training rows and the held-out rows."
            ) from None
        parts = (("training", train), ("held-out", test))
        numbers = [row_numbers(rows, n, f"fold {number}'s {name} rows") for name, rows in parts]
        found.append((numbers[0], numbers[1]))
    if not found:
        raise UsageError("cv gives no folds; expected at least one.")
    return found


def row_numbers(rows: Any, n: int, what: str) -> Ints:
    """The numbers of rows that are named as NumPy indexes n of them: by whole numbers, from the end if they are
    below 0, by a mask of n booleans, or by a slice.

    Raises UsageError for anything else, for numbers beyond the rows, and for none.
    """
    expected = f"expected whole numbers from {-n} to {n - 1}, a mask of {n} booleans, or a slice"
    if isinstance(rows, slice):
        named = np.arange(n)[rows]
    else:
        array = np.asarray(to_host(rows))
        if array.ndim != 1 or (array.size and array.dtype.kind not in "biu"):
            raise UsageError(f"cv: {what} are {_short(rows)}; {expected}.")
        if array.dtype.kind == "b":
            if len(array) != n:
                raise UsageError(f"cv: {what} are a mask of {len(array)} booleans; {expected}.")
            named = np.flatnonzero(array)
        else:
            beyond = array[(array < -n) | (array >= n)]
            if len(beyond):
                raise UsageError(f"cv: {what} name row {beyond[0]}; {expected}.")
            array = array.astype(np.int64)
            named = np.where(array < 0, array + n, array)
    if not len(named):
        raise UsageError(f"cv: {what} are empty; expected at least one row.")
    return np.asarray(named, np.int64)


def _short(value: Any) -> str:
    text = repr(value)
    return f"a {type(value).__name__}" if len(text) > 60 else text
