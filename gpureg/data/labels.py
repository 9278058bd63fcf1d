"""Labels: from what a file holds to indices into a sorted tuple of Python ints, floats or words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpureg.errors import DataError, UsageError

Label = int | float | str
Codes = npt.NDArray[np.int64]

MISSING_WORDS = frozenset({"", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"})
_MAX_FLOAT_CLASSES = 50
_EXACT = 2.0**53  # every int below it is a float64 of its own


def encode_labels(values: npt.NDArray[np.generic], where: str) -> tuple[Codes, tuple[Label, ...]]:
    """Turn labels `values (N,)` into `codes (N,)` and the sorted labels, so that `labels[codes[i]]` is row i's label.

    Floats that are all integral become ints; booleans become 0 and 1. `where` names the labels in messages.

    Raises DataError for labels that are missing (NaN, an empty word), infinite, of a type that is no label, or so many
    different fractions that they are a measurement.
    """
    if values.dtype.kind == "S":
        values = np.char.decode(values.astype(np.bytes_), "utf-8", "replace")
    if values.dtype.kind not in "biufU":
        raise DataError(f"{where} has type {values.dtype}; labels are numbers or words.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{where}: row {row} (counted from 0) has the label {values[row]}. Remove or label such rows.")
    found, codes = np.unique(values, return_inverse=True)
    labels: list[Label] = found.tolist()
    if values.dtype.kind == "b":
        labels = [int(label) for label in labels]
    if values.dtype.kind == "U" and "" in labels:
        row = int(np.flatnonzero(values == "")[0])
        raise DataError(f"{where}: row {row} (counted from 0) has no label. Remove or label such rows.")
    if values.dtype.kind == "f":
        labels = _tidy_floats(found.tolist(), len(values), where)
    return codes.reshape(-1).astype(np.int64), tuple(labels)


def parse_words(words: Sequence[str]) -> list[Label]:
    """Labels as a text file spells them: ints if all are ints (or integral floats), floats if all are, else words."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return list(words)
    if not all(abs(number) < _EXACT for number in numbers):
        return list(words)  # long ids: as floats, different ones could become one
    return [int(number) for number in numbers] if _integral(numbers) else list(numbers)


def merge_codes(codes: Codes, labels: Sequence[Label], where: str) -> tuple[Codes, tuple[Label, ...]]:
    """Sort `labels` and make them unique (`1` and `1.0` are one class), and renumber `codes (N,)` to match."""
    fractions = [label for label in labels if isinstance(label, float)]
    if fractions:
        labels = _tidy_floats(fractions, len(codes), where)
    ordered = sorted(set(labels))  # all of one type
    position = {label: index for index, label in enumerate(ordered)}
    renumber = np.array([position[label] for label in labels], dtype=np.int64)
    return renumber[codes], tuple(ordered)


def match_classes(named: Sequence[object], labels: Sequence[Label]) -> list[int]:
    """The positions in `labels` of the classes that the user named; `"2"` and `2.0` match the label 2.

    Raises UsageError for a name that is no label (the message lists the labels) and for one that is named twice.
    """
    if isinstance(named, str):
        named = named.split(",")
    positions: list[int] = []
    for name in named:
        position = find_class(name, labels)
        if position is None:
            raise UsageError(f"--classes: no training row has the class {name!r}; the classes are {listed(labels)}.")
        if position in positions:
            raise UsageError(f"--classes names {name!r} twice. Name each class once.")
        positions.append(position)
    return positions


def listed(names: Sequence[object], most: int = 20) -> str:
    """Names for a message: at most so many, then how many more."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"


def find_class(name: object, labels: Sequence[Label]) -> int | None:
    """The position in `labels` of one class as a user names it, None where it is not there."""
    text = str(name).strip()
    for position, label in enumerate(labels):
        if str(label) == text:
            return position
    try:
        number = float(text)
    except ValueError:
        return None
    for position, label in enumerate(labels):
        if not isinstance(label, str) and label == number:
            return position
    return None


def _integral(numbers: Sequence[float]) -> bool:
    return all(abs(number) < _EXACT and number.is_integer() for number in numbers)


def _tidy_floats(labels: Sequence[float], n_rows: int, where: str) -> list[Label]:
    if _integral(labels):
        return [int(label) for label in labels]
    if len(labels) > _MAX_FLOAT_CLASSES or 2 * len(labels) > max(n_rows, 4):
        raise DataError(
            f"{where} holds {len(labels)} different fractions in {n_rows} rows: a measurement, not a class. "
            "Name the label column with --target."
        )
    return list(labels)
