"""Blocks of rows from CSV text, of a file or a stream. A block is the whole rows among the next bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpureg.data.blocks import Block, Blocks, Columns, Request, checked_weights, table_columns
from gpureg.data.columns import label_column
from gpureg.data.csv_files import Kinds, csv_options, first_but
from gpureg.data.csv_header import FIRST_LINES, Header, header_of
from gpureg.data.kept import Kept
from gpureg.data.labels import listed
from gpureg.data.limits import UNLIMITED
from gpureg.data.matching import table_matrix
from gpureg.data.opening import first_words, opened
from gpureg.data.spelling import MISSING_CELLS, MISSING_WORDS
from gpureg.errors import DataError

Table = Any  # pyarrow.Table; pyarrow has no types

CHUNK = 1 << 22  # bytes that are read at once
HEAD = 1 << 20  # of these, the bytes in which the header is looked for
LONGEST = 1 << 28  # bytes of a row
_BOM = b"\xef\xbb\xbf"
_ROW = re.compile(r"Row #(\d+)")


@dataclass(frozen=True)
class _Beginning:
    """The first bytes of a text: the header, and the rows that came with it."""

    header: Header
    rest: bytes
    newline: bytes


def csv_blocks(file: Path, request: Request) -> Blocks:
    """The rows of a CSV file, plain or gzip."""
    with opened(file, UNLIMITED) as stream:
        header = _beginning(stream, str(file)).header
    chosen = table_columns(header.names, (), request, str(file))

    def rows() -> Iterator[Block]:
        with opened(file, UNLIMITED) as stream:
            yield from _rows(stream, _beginning(stream, str(file)), chosen, request, str(file))

    return Blocks(str(file), _schema(chosen), rows(), chosen.notices)


def stream_blocks(stream: BinaryIO, request: Request, where: str = "standard input") -> Blocks:
    """The rows of CSV text that comes from a stream, read as it comes."""
    beginning = _beginning(stream, where)
    chosen = table_columns(beginning.header.names, (), request, where)
    return Blocks(where, _schema(chosen), _rows(stream, beginning, chosen, request, where), chosen.notices)


def _beginning(stream: BinaryIO, where: str) -> _Beginning:
    content = _read(stream, CHUNK)
    text = content.removeprefix(_BOM)
    newline = b"\n" if b"\n" in text else b"\r"  # as old Macs end a line
    lines, whole = _first_lines(text, newline, len(content) < CHUNK, where)
    if not lines:
        raise DataError(f"{where} is empty. Expected a line of column names, then the rows.")
    header = header_of(lines, whole, where)
    begin = sum(len(line.encode()) for line in lines[: header.lines])
    return _Beginning(header, text[begin:], newline)


def _first_lines(text: bytes, newline: bytes, ended: bool, where: str) -> tuple[list[str], bool]:
    """The first lines of a text, and whether they are all of it; `ended`: nothing follows."""
    looked = text if len(text) <= HEAD else text[: text.rfind(newline, 0, HEAD) + 1] or text
    complete = looked if ended and looked is text else looked[: looked.rfind(newline) + 1] or looked
    try:
        lines = list(islice(io.StringIO(complete.decode("utf-8"), newline=""), FIRST_LINES + 1))
    except UnicodeDecodeError as error:
        raise DataError(
            f"can't read {where}: it is not UTF-8 text ({error}). Expected UTF-8 text with a header line; save the "
            "table again as CSV UTF-8."
        ) from error
    return lines[:FIRST_LINES], ended and looked is text and len(lines) <= FIRST_LINES


def _schema(chosen: Columns) -> Any:
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in chosen.keep])


def _rows(stream: BinaryIO, beginning: _Beginning, chosen: Columns, request: Request, where: str) -> Iterator[Block]:
    reader = _Reader(replace(beginning.header, lines=0), chosen, where, request.expected.words())
    first = 0
    for text in _whole_rows(stream, beginning, where):
        numbers, words = reader.read(text, first)
        rows = max(numbers.num_rows, words.num_rows)
        for start in range(0, rows, request.block_rows):
            parts = numbers.slice(start, request.block_rows), words.slice(start, request.block_rows)
            yield _block(*parts, first + start, chosen, request, where)
        first += rows


def _block(numbers: Table, words: Table, first: int, chosen: Columns, request: Request, where: str) -> Block:
    X = table_matrix(numbers, request.expected, chosen.features, where, MISSING_CELLS)
    labels = weights = None
    if chosen.label is not None:
        kept = Kept(np.arange(first, first + words.num_rows))
        described = f"{where}, column {listed([chosen.label])!r} (the label)"
        labels = label_column(words.column(chosen.label), described, kept, MISSING_WORDS)
    if chosen.weights is not None:
        values = numbers.column(chosen.weights).to_numpy()
        weights = checked_weights(values, len(X), f"{where}, column {chosen.weights!r}")
    return Block(first, X, labels, weights, words.select(list(chosen.keep)) if chosen.keep else None)


class _Reader:
    """Rows of text as Arrow tables; `categories`: the features that are words. Which columns hold True and False is
    kept from one to the next.
    """

    def __init__(self, header: Header, chosen: Columns, where: str, categories: Container[str]) -> None:
        weights = () if chosen.weights is None else (chosen.weights,)
        self.header, self.where = header, where
        columns = tuple(dict.fromkeys((*chosen.features, *weights)))
        self.numbers = tuple(name for name in columns if name not in categories)
        self.categories = tuple(name for name in columns if name in categories)
        self.words = tuple(dict.fromkeys(name for name in (chosen.label, *chosen.keep) if name is not None))
        self.truths = header.truths & set(self.numbers)

    def read(self, text: bytes, first: int) -> tuple[Table, Table]:
        """The rows of `text`, the first of which has the number `first`: columns of numbers, and columns of words.

        Raises DataError.
        """
        if set(self.numbers) & set(self.words):  # a feature that is kept as it is written
            columns = self._table(text, first, self.numbers, self.categories)
            return columns, self._table(text, first, (), self.words)
        table = self._table(text, first, self.numbers, tuple(dict.fromkeys((*self.words, *self.categories))))
        return table, table

    def _table(self, text: bytes, first: int, numbers: tuple[str, ...], words: tuple[str, ...]) -> Table:
        import pyarrow as pa

        try:
            return self._parse(text, Kinds(numbers, words, self.truths))
        except pa.ArrowCancelled as error:  # by a signal
            raise KeyboardInterrupt from error
        except pa.ArrowException:
            self.truths = self._find_truths(text, first, numbers)
        try:
            return self._parse(text, Kinds(numbers, words, self.truths))
        except pa.ArrowException as error:
            raise self._unreadable(first, error) from error

    def _parse(self, text: bytes, kinds: Kinds, *, threads: bool = True) -> Table:
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        reading, parsing, converting = csv_options(self.header, kinds, max(len(text) + 1, 1024), across=b'"' in text)
        reading.use_threads = threads
        return arrow_csv.read_csv(pa.BufferReader(text), reading, parsing, converting)

    def _find_truths(self, text: bytes, first: int, numbers: tuple[str, ...]) -> frozenset[str]:
        """After a failure: the columns of True and False. Raises DataError for a column of other words."""
        import pyarrow as pa

        try:
            table = self._parse(text, Kinds((), numbers), threads=False)  # which knows the rows' numbers
        except pa.ArrowException as error:
            raise self._unreadable(first, error) from error
        truths = []
        for name in numbers:
            word = first_but(table.column(name), truths=False)
            if word is None:
                continue
            if first_but(table.column(name), truths=True) is None:
                truths.append(name)
                continue
            cells = [cell.strip() for cell in table.column(name).to_pylist()]
            raise DataError(
                f"{self.where}: column {listed([name])!r} holds {listed([word])!r} in row {first + cells.index(word)} "
                "(counted from 0), which is not a number."
            )
        return frozenset(truths)

    def _unreadable(self, first: int, error: Exception) -> DataError:
        text = _ROW.sub(lambda found: f"row {first + int(found[1]) - 1}", first_words(error))
        return DataError(
            f"can't read {self.where} as CSV: {text}. Expected rows of as many cells as the header (rows are counted "
            "from 0)."
        )


def _whole_rows(stream: BinaryIO, beginning: _Beginning, where: str) -> Iterator[bytes]:
    """The text in pieces of whole rows. A line break between quotes does not end a row."""
    content, newline = beginning.rest, beginning.newline
    while True:
        block = _read(stream, CHUNK - len(content) if len(content) < CHUNK else CHUNK)
        content += block
        if not block:
            if content.strip():
                yield content
            return
        end = _end_of_row(content, newline)
        if end:
            yield content[:end]
            content = content[end:]
        elif len(content) > LONGEST:
            raise DataError(f"{where} has a row or a quoted cell of more than {LONGEST:,} bytes: it is not a table.")


def _end_of_row(content: bytes, newline: bytes) -> int:
    """Where the last whole row ends: behind a line break before which the quotes are closed; 0 if there is none.

    A quote that is never closed, as in a cell of inches (5"), would keep all that follows: beyond a few pieces of text
    the last line break ends the row.
    """
    end, quotes = len(content), content.count(b'"')
    while end > 0:
        found = content.rfind(newline, 0, end)
        if found < 0:
            break
        quotes -= content.count(b'"', found, end)
        if quotes % 2 == 0:
            return found + 1
        end = found
    return content.rfind(newline) + 1 if len(content) > 4 * CHUNK else 0


def _read(stream: BinaryIO, size: int) -> bytes:
    """That number of bytes, or fewer at the end of the stream."""
    # one call of the system at a time: between two, Python sees a signal that has come meanwhile
    read = getattr(stream, "read1", stream.read)
    parts, left = [], size
    while left > 0 and (block := read(left)):
        parts.append(block)
        left -= len(block)
    return b"".join(parts)
