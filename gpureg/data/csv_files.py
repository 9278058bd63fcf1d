"""The rows of a CSV file, read by Arrow with the column types given (Arrow's guess looks at the first block only, and
would refuse a column whose first fraction comes later)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpureg.data.csv_header import Header
from gpureg.data.limits import Limit
from gpureg.data.opening import first_words, opened
from gpureg.data.spelling import BOOLEANS, FEW_CELLS, MISSING_CELLS
from gpureg.data.uses import not_numbers
from gpureg.errors import DataError

Table = Any  # pyarrow.Table; pyarrow has no types
Column = Any  # pyarrow.Array

_BLOCK_BYTES, _LARGEST_BLOCK = 1 << 20, 1 << 30  # that Arrow parses at once; a row must fit in


def parse_csv(
    file: Path, header: Header, numbers: tuple[str, ...], words: tuple[str, ...], limit: Limit, *, one_hot: bool = False
) -> Table:
    """The rows of some columns: `words` as dictionaries of text, `numbers` as float64 or booleans, empty cells and NaN
    as missing; if `one_hot`, those of the numbers that hold words are dictionaries of text too.

    Raises DataError for rows of another length and for columns that do not hold numbers.
    """
    import pyarrow as pa

    guess = Kinds(
        numbers,
        words,
        header.truths & set(numbers),
        header.words & set(numbers) if one_hot else frozenset(),
        once=True,
    )
    if not header.rare:
        with suppress(pa.ArrowException):
            return _parse(file, header, replace(guess, few=True), limit)
    try:
        return _parse(file, header, guess, limit)
    except pa.ArrowException as error:
        text = first_words(error)
        if "Empty CSV" in text or "file is too short" in text:
            raise DataError(f"{file} has a header but no rows.") from error
        kinds = _kinds_of_all(file, header, guess, limit, one_hot=one_hot)
        if kinds is None or kinds == guess:
            raise DataError(
                f"can't read {file} as CSV: {text}. Expected rows of as many cells as the header."
            ) from error
    try:
        return _parse(file, header, kinds, limit)
    except pa.ArrowException as error:
        raise DataError(f"can't read {file} as CSV: {first_words(error)}.") from error


@dataclass(frozen=True)
class Kinds:
    """Which columns are read, and as what; of the `numbers`, `truths` are those that hold True and False, and
    `categories` those of words. `once`: of the `words` each different one is held once. `few`: only the usual spellings
    of a missing value are looked for, which is quicker.
    """

    numbers: tuple[str, ...]
    words: tuple[str, ...]
    truths: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    once: bool = False
    few: bool = False

    def types(self) -> dict[str, Any]:
        """Arrow's types of the columns."""
        import pyarrow as pa

        kinds = {name: pa.bool_() if name in self.truths else pa.float64() for name in self.numbers}
        kinds |= {name: pa.dictionary(pa.int32(), pa.string()) for name in self.numbers if name in self.categories}
        return kinds | dict.fromkeys(self.words, pa.dictionary(pa.int32(), pa.string()) if self.once else pa.string())


def _parse(file: Path, header: Header, kinds: Kinds, limit: Limit, block: int = 0) -> Table:
    """`block`: the bytes of Arrow's block; cells with line breaks, and rows longer than a block, take another try."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    size = block or min(max(_BLOCK_BYTES, 16 * header.width), _LARGEST_BLOCK)
    row_bytes = 16 * (len(kinds.numbers) + len(kinds.words))  # the columns, and the matrix made of them
    try:
        with opened(file, limit, row_bytes) as stream:
            return arrow_csv.read_csv(stream, *csv_options(header, kinds, size, across=block > 0))
    except pa.ArrowCancelled as error:  # by a signal
        raise KeyboardInterrupt from error
    except pa.ArrowInvalid as error:
        if "newlines_in_values" in str(error) and not block:
            return _parse(file, header, kinds, limit, size)
        if "straddl" in str(error) and size < _LARGEST_BLOCK:
            return _parse(file, header, kinds, limit, min(16 * size, _LARGEST_BLOCK))
        raise


def csv_options(header: Header, kinds: Kinds, block: int, *, across: bool) -> tuple[Any, Any, Any]:
    """Arrow's options of reading, parsing and converting."""
    import pyarrow.csv as arrow_csv

    types = kinds.types()
    return (
        arrow_csv.ReadOptions(column_names=list(header.names), skip_rows=header.lines, block_size=block),
        arrow_csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=across),
        arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=sorted(FEW_CELLS if kinds.few else MISSING_CELLS),
            strings_can_be_null=False,
        ),
    )


def _kinds_of_all(file: Path, header: Header, guess: Kinds, limit: Limit, *, one_hot: bool) -> Kinds | None:
    """After a failure: which columns hold True and False, and which words, found by reading all as text; None if that
    fails as well.

    Raises DataError if columns hold words and are not `one_hot`.
    """
    import pyarrow as pa

    names = guess.numbers
    numbers, truths = set(names), set(names)
    examples: dict[str, str] = {}
    try:
        for batch in _batches(file, header, names, limit):
            for name in sorted(numbers | truths):
                column = batch.column(names.index(name))
                if name in truths and (word := first_but(column, truths=True)) is not None:
                    truths.discard(name)
                    examples.setdefault(name, word)
                if name in numbers and (word := first_but(column, truths=False)) is not None:
                    numbers.discard(name)
                    examples[name] = word
    except (pa.ArrowException, OSError):
        return None
    found = [name for name in names if name in set(examples) - numbers - truths]
    if found and not one_hot:
        raise not_numbers(str(file), [f"{name} ({examples[name]!r})" for name in found], one_hot=False)
    return Kinds(names, guess.words, frozenset(truths - numbers), frozenset(found), once=True)


def _batches(file: Path, header: Header, names: tuple[str, ...], limit: Limit) -> Iterator[Any]:
    """The rows as text, a block at a time."""
    import pyarrow.csv as arrow_csv

    options = csv_options(header, Kinds((), names), max(_BLOCK_BYTES, 16 * header.width), across=True)
    with opened(file, limit) as stream, arrow_csv.open_csv(stream, *options) as batches:
        yield from batches


def first_but(column: Column, *, truths: bool) -> str | None:
    """The first cell of text that is neither missing nor a number (`truths`: nor True or False); None without one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(column)
    absent = pa.array([*MISSING_CELLS, *(word for spelling in BOOLEANS for word in spelling if truths)])
    cells = cells.filter(pc.invert(pc.is_in(cells, value_set=absent)))
    if truths:
        return str(cells[0]) if len(cells) else None
    try:
        cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return next((word for word in cells.to_pylist() if not _casts(word)), None)
    return None


def _casts(word: str) -> bool:
    import pyarrow as pa

    try:
        pa.scalar(word).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
