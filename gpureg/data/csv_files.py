"""CSV: its header, read here, and its rows, read by Arrow with the column types given (Arrow's guess looks at the
first block only, and would refuse a column whose first fraction comes later)."""

from __future__ import annotations

import contextlib
import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from gpureg.data.labels import listed
from gpureg.errors import DataError

Table = Any  # pyarrow.Table; pyarrow has no types

_DELIMITERS = ",;\t"
_LONGEST_LINE = 1 << 24  # characters of a header; more is no table
_BLOCK_BYTES = 1 << 20  # that Arrow parses at once; a row must fit in


@dataclass(frozen=True)
class Header:
    """The names of the columns, and what separates them."""

    names: tuple[str, ...]
    delimiter: str
    width: int = 0  # characters of the line


def read_header(file: Path) -> Header:
    """The first line of a CSV file as column names. The delimiter is whichever of `,` `;` and tab it holds most of.

    Raises DataError for a file that can't be read, and for a first line that is no header.
    """
    try:
        with _open_text(file) as stream:
            line = stream.readline(_LONGEST_LINE)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"can't read {file}: {first_words(error)}. Wanted UTF-8 text with a header line.") from error
    delimiter = max(_DELIMITERS, key=line.count)
    names = tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter), []))
    if not any(names):
        raise DataError(f"{file} has no header: its first line is empty. Wanted a line of column names, then the rows.")
    if "" in names:
        raise DataError(
            f"{file}: column {names.index('')} (counted from 0) has no name. Name it in the first line; "
            "an index that pandas wrote is left out by to_csv(index=False)."
        )
    if _is_data(names):
        raise DataError(
            f"{file} seems to have no header: its first line is {listed(names, 5)}. "
            "Put a line of column names first; without it one row would be lost."
        )
    return Header(names, delimiter, len(line))


def parse_csv(file: Path, header: Header, *, words: tuple[str, ...]) -> Table:
    """The rows: columns in `words` as text, the others as float64, empty fields and NaN as missing.

    Raises DataError for rows of another length and for columns that hold no numbers.
    """
    import pyarrow as pa

    try:
        return _parse(file, header, words)
    except (pa.ArrowException, OSError) as error:
        text = first_words(error)
        if "Empty CSV" in text or "file is too short" in text:
            raise DataError(f"{file} has a header but no rows.") from error
        problem = _not_numbers(file, header, words) or f"can't read {file} as CSV: {text}"
        raise DataError(problem) from error


def first_words(error: Exception) -> str:
    """The first line of an error's text, cut at 200 characters."""
    text = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
    return text if len(text) <= 200 else text[:197] + "..."


def _parse(file: Path, header: Header, words: tuple[str, ...]) -> Table:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    types = {name: pa.string() if name in words else pa.float64() for name in header.names}
    with pa.input_stream(str(file), compression="detect") as stream:
        return arrow_csv.read_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                column_names=list(header.names), skip_rows=1, block_size=max(_BLOCK_BYTES, 16 * header.width)
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter),
            convert_options=arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )


def _not_numbers(file: Path, header: Header, words: tuple[str, ...]) -> str | None:
    """After a failure: which columns hold words, found by reading all as text; None where that fails as well."""
    import pyarrow as pa

    try:
        table = _parse(file, header, header.names)
    except (pa.ArrowException, OSError):
        return None
    found = []
    for name in header.names:
        value = next((v for v in table.column(name).to_pylist() if not _is_number(v)), None)
        if name not in words and value is not None:
            found.append(f"{name} ({value!r})")
    if not found:
        return None
    return (
        f"{file}: columns that hold no numbers: {listed(found, 10)}. "
        "Features are numbers: encode or drop these columns, or name the label column with --target."
    )


def _is_number(text: str) -> bool:
    if not text.strip() or text.strip().lower() in ("na", "n/a", "#n/a", "<na>", "null"):
        return True  # missing, which is told apart elsewhere
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_data(names: tuple[str, ...]) -> bool:
    """Whether a first line is a row: numbers, but for a word that may be the label. Counting (0, 1, 2, ...) names
    columns, as pandas writes them."""
    numbers = []
    for name in names:
        with contextlib.suppress(ValueError):
            numbers.append(float(name))
    if not numbers or len(numbers) < len(names) - 1:
        return False
    counting = numbers == [numbers[0] + index for index in range(len(numbers))]
    return not (counting and (numbers[0] == 0 or (numbers[0] == 1 and len(numbers) > 1)))


def _open_text(file: Path) -> TextIO:
    if file.name.lower().endswith(".gz"):
        return cast(TextIO, gzip.open(file, "rt", encoding="utf-8-sig", newline=""))
    return file.open(encoding="utf-8-sig", newline="")
