"""Labels: from what a file or an array holds to indices into a sorted tuple of Python ints, floats, bools or words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.spelling import Label, exact_numbers, kind_of, plain_number, reads_as_number, spelled
from gpureg.errors import DataError, UsageError, named

Codes = npt.NDArray[np.int64]

MOST_FRACTIONS = 50  # different ones that may be classes
_LAST_CHARACTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


@dataclass(frozen=True)
class Found:
    """A column of labels as it was found: row i has `values[codes[i]]`. Words are as they were written.

    `codes (N,)`; values may repeat. `where` names the column in messages, `kept` numbers its rows.
    """

    codes: Codes
    values: tuple[Label, ...]
    where: str
    kept: Kept = ALL

    def refuse_missing(self, missing: frozenset[str]) -> None:
        """Raise DataError if a row's label is one of the words `missing`, or nothing but space."""
        for code, value in enumerate(self.values):
            if isinstance(value, str) and (not value.strip() or value.strip() in missing):
                shown = f", but {value!r}" if value else ""
                hint = "; a class of that name needs another one" if value.strip() else ""
                raise no_label(self.where, self.kept.number(int(np.flatnonzero(self.codes == code)[0])), shown, hint)


def no_label(where: str, row: str, shown: str = "", hint: str = "") -> DataError:
    """The error for a row, counted from 0, without a label."""
    return DataError(f"{where}: row {row} (counted from 0) has no label{shown}. Remove or label such rows{hint}.")


def encode_labels(values: npt.NDArray[Any], where: str) -> tuple[Codes, tuple[Label, ...]]:
    """Labels `values (N,)` as `codes (N,)` and the sorted labels: row i's label is `labels[codes[i]]`.

    Raises DataError as `find_labels` and `settle` do.
    """
    (codes,), labels = settle([find_labels(values, where)])
    return codes, labels


def settle(columns: Sequence[Found]) -> tuple[list[Codes], tuple[Label, ...]]:
    """One numbering for the columns of one target (training and validation): codes for each, and the sorted labels.

    All columns together decide what words mean; `1` and `1.0` are one class, and whole floats become ints.

    Raises DataError if columns hold different kinds of labels, or more fractions than classes can be: a measurement.
    """
    words = list(dict.fromkeys(value for column in columns for value in column.values if isinstance(value, str)))
    meaning: dict[Label, Label] = dict(zip(words, spelled(words), strict=True))
    meant = [[meaning[v] if isinstance(v, str) else v for v in column.values] for column in columns]
    _refuse_mixture(columns, meant)
    labels = _tidy(list(dict.fromkeys(label for part in meant for label in part)), columns)
    ordered = sorted(set(labels.values()))  # all of one kind
    position = {label: index for index, label in enumerate(ordered)}
    codes = []
    for column, part in zip(columns, meant, strict=True):
        renumber = np.array([position[labels[label]] for label in part], dtype=np.int64)
        codes.append(renumber.take(column.codes))
    return codes, tuple(ordered)


def find_labels(values: npt.NDArray[Any], where: str, kept: Kept = ALL) -> Found:
    """The labels in an array `values (N,)`. Objects may be words, bytes, booleans or numbers, all of one kind.

    Raises DataError for labels that are missing (None, NaN, an empty word), infinite, of a type that is not a label, or
    not text.
    """
    kind = values.dtype.kind
    if kind in "OT":
        return _of_objects(values.tolist(), where, kept)
    if kind == "U":
        _check_characters(values, where, kept)
    if kind in "SU":
        return _of_objects(values.tolist(), where, kept)
    if kind not in "biuf":
        raise DataError(f"{where} has type {values.dtype}; labels are numbers or words.")
    if kind == "f":
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            row = kept.number(int(bad[0]))
            raise DataError(
                f"{where}: row {row} (counted from 0) has the label {values[bad[0]]}. Remove or label such rows."
            )
    found, codes = np.unique(values, return_inverse=True)
    return Found(codes.reshape(-1).astype(np.int64), _plain(found), where, kept)


def decoded(value: bytes, where: str) -> str:
    """A word that is stored as bytes. Raises DataError if they are not UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} holds the bytes {value[:40]!r}, which are not UTF-8 text; labels are numbers or words. Decode "
            "them in their own encoding first."
        ) from error


def match_classes(given: Sequence[object], labels: Sequence[Label]) -> list[int]:
    """The positions in `labels` of the classes that the user named; `"2"` and `2.0` match the label 2.

    Raises UsageError for a name that is not a label (the message lists the labels) and for one that is named twice.
    """
    if isinstance(given, str):
        given = given.split(",")
    positions: list[int] = []
    for name in given:
        position = find_class(name, labels)
        if position is None:
            raise UsageError(
                f"{named('classes')}: no training row has the class {name!r}; the classes are {listed(labels)}."
            )
        if position in positions:
            raise UsageError(f"{named('classes')} names {name!r} twice. Name each class once.")
        positions.append(position)
    return positions


def find_class(name: object, labels: Sequence[Label]) -> int | None:
    """The position in `labels` of one class as a user names it, None if it is not there."""
    text = str(name)
    for spelling in (text, text.strip()):
        for position, label in enumerate(labels):
            if str(label) == spelling or (isinstance(label, bool) and str(label).lower() == spelling.lower()):
                return position
    number = int(name) if isinstance(name, (bool, np.bool_)) else plain_number(text.strip())
    for position, label in enumerate(labels):
        if number is not None and not isinstance(label, str) and label == number:
            return position
    return None


def listed(names: Sequence[object], most: int = 20) -> str:
    """Names for a message: the first ones, on one line, then how many more."""
    shown = ", ".join(_short(str(name)) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"


def _short(name: str) -> str:
    """A name as it may stand in a message: no control characters, and no longer than a line."""
    if not name.isprintable():
        name = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name[:80])
    return name if len(name) <= 80 else name[:77] + "..."


def _of_objects(values: list[Any], where: str, kept: Kept) -> Found:
    kinds = {type(value) for value in values}
    if not all(issubclass(kind, (str, bytes, bool, np.bool_, int, float, np.integer, np.floating)) for kind in kinds):
        _refuse_objects(values, where, kept)
    try:
        codes, distinct = _coded(values)
    except TypeError as error:  # what can't be a key
        raise DataError(f"{where}: {error}; labels are numbers or words.") from error
    labels: list[Label] = []
    for value in distinct:
        if isinstance(value, bytes):
            value = decoded(value, where)
        labels.append(value.item() if isinstance(value, np.generic) else value)
    found = Found(codes, tuple(labels), where, kept)
    found.refuse_missing(frozenset())
    for code, label in enumerate(labels):
        if isinstance(label, float) and not np.isfinite(label):
            raise no_label(where, kept.number(int(np.flatnonzero(codes == code)[0])), f", but {label}")
        if isinstance(label, str):
            _check_text(label, where)
    kind = {kind_of(label) for label in labels}
    if len(kind) > 1:
        raise DataError(f"{where} mixes {' and '.join(sorted(kind))}. Give every row the same kind of label.")
    return found


def _refuse_objects(values: list[Any], where: str, kept: Kept) -> None:
    """Raise DataError for the first object that is not a label: one that is missing, or of another type."""
    allowed = (str, bytes, bool, np.bool_, int, float, np.integer, np.floating)
    row, value = next((row, value) for row, value in enumerate(values) if not isinstance(value, allowed))
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        raise no_label(where, kept.number(row))
    raise DataError(f"{where}: row {kept.number(row)} (counted from 0) is a {kind}; labels are numbers or words.")


def _coded(values: Iterable[Any]) -> tuple[Codes, list[Any]]:
    """Equal values of one type numbered in the order of their first row."""
    position: dict[tuple[type, Any] | Any, int] = {}
    codes = np.array([position.setdefault((type(v), v) if v in (0, 1) else v, len(position)) for v in values], np.int64)
    return codes, [key[1] if isinstance(key, tuple) else key for key in position]


def _plain(found: npt.NDArray[Any]) -> tuple[Label, ...]:
    """Numbers of an array as Python's: of a narrow float the fraction that it is written as (0.1, not its float64)."""
    if found.dtype.kind == "f" and found.dtype.itemsize != 8:
        return tuple(float(str(value)) for value in found)
    return tuple(found.tolist())


def _check_characters(values: npt.NDArray[np.str_], where: str, kept: Kept) -> None:
    """Raise DataError for numbers in an array of words that are not characters: NumPy reads any 32 bits."""
    if values.dtype.itemsize == 0 or not len(values):
        return
    native = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
    points = native.view(np.uint32).reshape(len(native), -1)
    bad = np.flatnonzero((points > _LAST_CHARACTER).any(axis=1))
    if bad.size:
        raise DataError(
            f"{where}: row {kept.number(int(bad[0]))} (counted from 0) holds numbers that are not characters (above "
            "U+10FFFF). The file is damaged; write it again."
        )


def _check_text(word: str, where: str) -> None:
    if any(_SURROGATES[0] <= ord(letter) <= _SURROGATES[1] for letter in word):
        raise DataError(
            f"{where} holds {word[:40]!r}, which is not text (a lone surrogate, as undecodable bytes become). Decode "
            "it in its own encoding first."
        )


def _refuse_mixture(columns: Sequence[Found], meant: Sequence[Sequence[Label]]) -> None:
    kinds = [(column.where, kind_of(part[0])) for column, part in zip(columns, meant, strict=True) if part]
    if {kind == "words" for _, kind in kinds} == {True, False}:
        held = ", ".join(f"{where} holds {kind}" for where, kind in kinds)
        raise DataError(f"{held}. Expected the same kind of labels in both.")


def _tidy(labels: list[Label], columns: Sequence[Found]) -> dict[Label, Label]:
    """Each label as it is to be reported. Raises DataError for a measurement, and beyond what numbers hold."""
    where = " and ".join(column.where for column in columns)
    rows = sum(len(column.codes) for column in columns)
    if any(isinstance(label, str) for label in labels):
        fractions = [label for label in labels if "." in str(label)]
        if fractions and all(reads_as_number(str(label)) for label in labels):
            _refuse_measurement(len(labels), rows, where)
        return {label: label for label in labels}
    if all(isinstance(label, bool) for label in labels):
        return {label: label for label in labels}
    numbers = exact_numbers([label if isinstance(label, float) else int(label) for label in labels])
    if numbers is None:
        raise DataError(
            f"{where} holds whole numbers beyond 64 bits, or beyond 2**53 along with fractions: store words."
        )
    if any(isinstance(number, float) for number in numbers):
        _refuse_measurement(len(labels), rows, where)
    return dict(zip(labels, numbers, strict=True))


def _refuse_measurement(labels: int, rows: int, where: str) -> None:
    if labels > MOST_FRACTIONS or 2 * labels > max(rows, 4):
        raise DataError(
            f"{where} holds {labels} different fractions in {rows} rows: a measurement, not a class. Name the label "
            f"column with {named('target')}."
        )
