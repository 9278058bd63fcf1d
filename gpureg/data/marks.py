"""Columns that say which rows belong together: groups, which are never cut, and the fold of each row.

Equal values are numbered in rising order of the values: as numbers, as words, as dates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Codes, decoded, listed
from gpureg.data.spelling import spelled
from gpureg.data.words import word_of
from gpureg.errors import DataError, named

MOST_FOLDS = 1000


@dataclass(frozen=True)
class Marks:
    """The group and the fold of each row, `(N,)` numbers from 0; None if the data name none. `names`: those of the
    groups, as words.
    """

    groups: Codes | None = None
    folds: Codes | None = None
    names: tuple[str, ...] = ()

    def take(self, rows: slice | npt.NDArray[Any]) -> Marks:
        """Those of some rows."""
        groups, folds = (None if codes is None else codes[rows] for codes in (self.groups, self.folds))
        return Marks(groups, folds, self.names)

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Any],
        rows: int,
        where: str,
        kept: Kept = ALL,
        missing: Collection[str] = (),
    ) -> Marks:
        """Those in the columns `(rows,)`, arrays or Arrow's, that the options `groups` and `folds` name.

        `missing`: words of a text file that stand for a missing value; in text, words that are numbers count as such.
        Raises DataError for rows without a value, for columns that
        mark nothing, and for groups that lie in several folds.
        """
        found = {option: _codes(column, rows, option, where, kept, missing) for option, column in columns.items()}
        groups, names = found.get("groups", (None, ()))
        marks = cls(groups, found.get("folds", (None, ()))[0], names)
        if marks.folds is not None and (count := int(marks.folds.max()) + 1) > MOST_FOLDS:
            raise DataError(
                f"{named('folds')}: {where} has {count:,} different values there; expected a column that names the "
                f"fold of each row, of at most {MOST_FOLDS:,}. For a column of ids, use {named('groups')}."
            )
        if marks.groups is not None and marks.folds is not None:
            pairs = len(np.unique(np.stack([marks.groups, marks.folds]), axis=1).T)
            if pairs > marks.groups.max() + 1:
                raise DataError(
                    f"{where}: rows of one group ({named('groups')}) are in different folds ({named('folds')}). Give "
                    "the rows of a group the same fold, or leave one of the two out."
                )
        return marks


def _codes(
    column: Any, rows: int, option: str, where: str, kept: Kept, missing: Collection[str]
) -> tuple[Codes, tuple[str, ...]]:
    """A number for each row, and what these stand for."""
    place = f"{named(option)}: {where}"
    if hasattr(column, "null_count"):
        codes, values = _of_arrow(column if kept.rows is None else column.take(kept.rows), place, kept)
    else:
        codes, values = _of_array(_one_dimensional(column, rows, place), place, kept)
    for code, value in enumerate(values):
        if value != value or (isinstance(value, str) and (not value.strip() or value.strip() in missing)):
            raise _no_value(place, kept.number(int(np.flatnonzero(codes == code)[0])))
    meant = spelled(values) if missing else values
    try:
        ordered = sorted(set(meant))
    except TypeError as error:
        raise DataError(f"{place} mixes values of different kinds ({error}). Expected one kind.") from error
    if len(ordered) < 2:
        held = f"the value {listed(ordered)!r} in every row" if ordered else "no rows"
        raise DataError(f"{place} has {held}; expected at least two {option}. Name another column.")
    position = {value: index for index, value in enumerate(ordered)}
    return np.array([position[value] for value in meant], np.int64)[codes], tuple(map(str, map(word_of, ordered)))


def _no_value(place: str, row: str) -> DataError:
    return DataError(f"{place}, row {row} (counted from 0) has no value. Fill it in, or remove such rows.")


def _one_dimensional(values: Any, rows: int, place: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.shape != (rows,):
        raise DataError(f"{place} has shape {array.shape}; expected one value for each of the {rows} rows.")
    return array


def _of_array(array: npt.NDArray[Any], place: str, kept: Kept) -> tuple[Codes, list[Any]]:
    """Indices `(N,)` into the different values, and these; a value that is missing is not equal to itself."""
    array = kept.of(array)
    if array.dtype.kind in "Mm":
        absent = np.flatnonzero(np.isnat(array))
        if absent.size:
            raise _no_value(place, kept.number(int(absent[0])))
    if array.dtype.kind in "biufUSMm":
        found, codes = np.unique(array, return_inverse=True)
        values = found.tolist() if array.dtype.kind not in "Mm" else list(found)
        return codes.reshape(-1).astype(np.int64), [decoded(v, place) if isinstance(v, bytes) else v for v in values]
    if array.dtype.kind not in "OT":
        raise DataError(f"{place} has type {array.dtype}; expected numbers, words or dates.")
    position: dict[Any, int] = {}
    codes = np.empty(len(array), np.int64)
    for row, value in enumerate(array.tolist()):
        nothing = value is None or type(value).__name__ in ("NAType", "NaTType")
        if nothing or (isinstance(value, float) and value != value):
            raise _no_value(place, kept.number(row))
        try:
            codes[row] = position.setdefault(value, len(position))
        except TypeError as error:
            raise DataError(f"{place} holds a {type(value).__name__}; expected numbers, words or dates.") from error
    return codes, list(position)


def _of_arrow(column: Any, place: str, kept: Kept) -> tuple[Codes, list[Any]]:
    """The same of an Arrow column, which may hold words, numbers, booleans, dates, or a dictionary of these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from gpureg.data.columns import distinct, is_list

    if is_list(column.type):
        raise DataError(f"{place} holds lists; expected numbers, words or dates.")
    if column.null_count:
        raise _no_value(place, kept.number(int(pc.index(column.is_null(), pa.scalar(True)).as_py())))
    codes, values = distinct(column, place)
    return codes, [decoded(value, place) if isinstance(value, bytes) else value for value in values]
