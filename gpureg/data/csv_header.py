"""The header of a CSV file: its column names, and what separates them."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpureg.data.labels import listed
from gpureg.data.limits import Limit
from gpureg.data.opening import opened
from gpureg.data.spelling import BOOLEANS, FEW_CELLS, MISSING_CELLS, reads_as_number
from gpureg.errors import DataError, GpuregError

_DELIMITERS = ",;\t"
_LONGEST_LINE = 1 << 24  # characters; a longer first line is not a table's
FIRST_LINES, _CHARACTERS = 60, 1 << 25  # of the file's beginning that are looked at
_TRUTHS = frozenset(word for spelling in BOOLEANS for word in spelling)


@dataclass(frozen=True)
class Header:
    """The names of the columns, and what separates them.

    `lines`: how many lines of the file the names take (a quoted name may hold line breaks); `width`: their characters.
    `truths`: columns whose first cells are all True or False; `words`: those with a first cell that is not a number;
    `rare`: a first cell has an unusual spelling of a missing value.
    """

    names: tuple[str, ...]
    delimiter: str
    lines: int = 1
    width: int = 0
    truths: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    rare: bool = False


@dataclass(frozen=True)
class _Reading:
    """The beginning of a file, read with one delimiter."""

    delimiter: str
    names: tuple[str, ...]
    lines: int
    records: tuple[list[str], ...]

    def fits(self) -> bool:
        """Whether every row has as many cells as there are names."""
        return bool(self.records) and all(len(record) == len(self.names) for record in self.records)


def read_header(file: Path, limit: Limit) -> Header:
    """The names in the first line of a CSV file.

    The delimiter is the one of `,` `;` and tab with which the header and the rows below it have the same number of
    cells, the more the better; where none does, the one that gives the header most. In a .tsv it is the tab where the
    header has one.

    Raises DataError for a file that can't be read, and for a first line that is not a header.
    """
    return header_of(*_first_lines(file, limit), str(file))


def header_of(lines: list[str], whole: bool, where: str) -> Header:
    """`read_header` for the first lines of a text, or the `whole` of it; `where` names it in messages."""
    readings = [reading for delimiter in _DELIMITERS if (reading := _read(lines, delimiter, whole))]
    if not readings:
        raise DataError(
            f"{where}: its first line has a quoted cell that does not end, or one of more than "
            f"{csv.field_size_limit():,} characters. Expected a line of column names, then the rows."
        )
    best = max(readings, key=lambda reading: (len(reading.names) > 1 and reading.fits(), len(reading.names)))
    tabbed = next((r for r in readings if r.delimiter == "\t" and len(r.names) > 1), None)
    if tabbed is not None and where.lower().removesuffix(".gz").endswith(".tsv"):
        best = tabbed
    _check_names(best.names, where)
    width = sum(len(line) for line in lines[: best.lines])
    return Header(best.names, best.delimiter, best.lines, width, *_kinds(best), _has_rare(best))


def _first_lines(file: Path, limit: Limit) -> tuple[list[str], bool]:
    """The first lines of a file, and whether they are all of it."""
    lines: list[str] = []
    try:
        with opened(file, limit) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            while len(lines) < FIRST_LINES and sum(map(len, lines)) < _CHARACTERS:
                line = text.readline(_LONGEST_LINE)
                if len(line) >= _LONGEST_LINE and not lines:
                    raise DataError(
                        f"{file}: its first line has more than {_LONGEST_LINE:,} characters: it is not a table."
                    )
                if not line:
                    return lines, True
                lines.append(line)
    except GpuregError:
        raise
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(
            f"can't read {file}: it is not UTF-8 text ({error}). Expected UTF-8 text with a header line; save the "
            "table again as CSV UTF-8."
        ) from error
    return lines, False


def _read(lines: list[str], delimiter: str, whole: bool) -> _Reading | None:
    """The lines as records; None if the first one does not end, or has a cell that is too long."""
    source = csv.reader(lines, delimiter=delimiter)
    try:
        names = tuple(name.strip() for name in next(source, []))
    except csv.Error:
        return None
    header_lines = source.line_num
    if not whole and header_lines == len(lines):
        return None
    records = [record for record in _records(source) if record]
    if not whole:
        records = records[:-1]  # the last one may go on
    return _Reading(delimiter, names, header_lines, tuple(records))


def _records(source: Iterator[list[str]]) -> Iterator[list[str]]:
    """Records up to the end, or to one that can't be read."""
    with contextlib.suppress(csv.Error):
        yield from source


def _kinds(reading: _Reading) -> tuple[frozenset[str], frozenset[str]]:
    """The columns that seem to hold True and False, and those that hold words."""
    if not reading.fits():
        return frozenset(), frozenset()
    truths, words = set(), set()
    for name, column in zip(reading.names, zip(*reading.records, strict=True), strict=True):
        cells = {cell.strip() for cell in column} - MISSING_CELLS
        if cells and cells <= _TRUTHS:
            truths.add(name)
        elif not all(_is_number(cell) for cell in cells):
            words.add(name)
    return frozenset(truths), frozenset(words)


def _has_rare(reading: _Reading) -> bool:
    return any(cell in MISSING_CELLS - FEW_CELLS for record in reading.records for cell in record)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _check_names(names: tuple[str, ...], where: str) -> None:
    if not any(names):
        raise DataError(f"{where} has no header: its first line is empty. Expected a line of column names, then rows.")
    if "" in names:
        raise DataError(
            f"{where}: column {names.index('')} (counted from 0) has no name. Name it in the first line; "
            "to_csv(index=False) leaves out an index that pandas would write."
        )
    if _is_data(names):
        raise DataError(
            f"{where} seems to have no header: its first line is {listed(names, 5)}. "
            "Put a line of column names first; without it, one row would be lost."
        )


def _is_data(names: tuple[str, ...]) -> bool:
    """Whether a first line is a row: numbers, but for a word that may be the label. Counting (0, 1, 2, ...) names
    columns, as pandas writes them."""
    numbers = [float(name) for name in names if reads_as_number(name)]
    if not numbers or len(numbers) < len(names) - 1:
        return False
    counting = numbers == [numbers[0] + index for index in range(len(numbers))]
    return not (counting and (numbers[0] == 0 or (numbers[0] == 1 and len(numbers) > 1)))
