"""Parquet: its schema, which says what the columns are before any is read, and its rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpureg.data.limits import Limit, machine_limit
from gpureg.data.opening import first_words, reading, refuse_special
from gpureg.errors import DataError, GpuregError

Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema

_ROWS_OF_LISTS = 1024  # that are read at once
_FEW_COLUMNS, _MOST_THREADS = 4, 8
BUFFER = 1 << 18  # bytes of a column that are read at once
# A smaller file is read a whole column of a row group at a time, bounded by the file's size: in a buffer, Arrow trusts
# the header of a page, which may claim 2 GiB.
SMALL_FILE = 1 << 23


def read_schema(file: Path) -> Schema:
    """The columns of a Parquet file. Raises DataError if it can't be read or has none."""
    with opened_parquet(file) as parquet:
        schema = parquet.schema_arrow
        names = schema.names  # decodes them
    if not names:
        raise DataError(f"{file} has no columns. Write the file again.")
    return schema


def read_parquet(file: Path, columns: list[str], words: tuple[str, ...], limit: Limit) -> Table:
    """The named columns of a Parquet file; of text in `words` each different word is held once.

    Raises DataError for a file that can't be read, or would take too much memory.
    """
    import pyarrow as pa

    with opened_parquet(file, read_dictionary=list(words), pre_buffer=True) as parquet:
        schema = parquet.schema_arrow
        limit.check(_bytes(parquet.metadata, schema, columns, words), file)
        if not any(_is_list(schema.field(name).type) for name in columns):
            if len(columns) < _FEW_COLUMNS:
                return _sound(parquet.read(columns=columns))
            return _side_by_side(file, columns, words)
        batches, size = [], 0
        for batch in parquet.iter_batches(_ROWS_OF_LISTS, columns=columns):  # how long they are is not known before
            size += batch.nbytes
            limit.check(2 * size, file)
            batches.append(_sound(batch))
        return pa.Table.from_batches(batches, batches[0].schema if batches else schema)


def _side_by_side(file: Path, columns: list[str], words: tuple[str, ...]) -> Table:
    """The named columns, some in each thread: Arrow's own threads wait for each other between the columns."""
    import pyarrow as pa

    def some(names: list[str]) -> Table:
        with opened_parquet(file, read_dictionary=list(words), pre_buffer=False) as parquet:
            return _sound(parquet.read(columns=names, use_threads=False))

    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    parts = min(2 * threads, len(columns))
    with ThreadPoolExecutor(threads) as pool:
        tables = list(pool.map(some, [columns[part::parts] for part in range(parts)]))
    found = {name: table.column(name) for table in tables for name in table.column_names}
    return pa.table({name: found[name] for name in columns})


def _sound(table: Table) -> Table:
    """The table, in which every index into a dictionary has an entry there: Arrow does not check a damaged file's."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    for column in table.columns:
        if not types.is_dictionary(column.type):
            continue
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            least, most = pc.min_max(chunk.indices).as_py().values()
            if most is not None and not 0 <= least <= most < len(chunk.dictionary):
                raise pa.ArrowInvalid(f"an index of {most if least >= 0 else least} into {len(chunk.dictionary)} words")
    return table


def size_of(file: Path, columns: list[str], words: tuple[str, ...]) -> int:
    """What some columns of a file take once they are unpacked."""
    with opened_parquet(file) as parquet:
        return _bytes(parquet.metadata, parquet.schema_arrow, columns, words)


def index_columns(schema: Schema) -> set[str]:
    """The columns in which pandas has stored the index of its rows, as its note in the schema names them."""
    found = {name for name in schema.names if name.startswith("__index_level_")}
    try:
        noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):  # no note, or not one of pandas'
        noted = []
    return found | {name for name in noted if isinstance(name, str)} if isinstance(noted, list) else found


def _bytes(metadata: Any, schema: Schema, columns: list[str], words: tuple[str, ...]) -> int:
    """What the columns take once they are unpacked: their values and the matrix made of them, and the words.

    Of the metadata, only that of the whole file or of a row group is used: asking for a column's ends the process if it
    is damaged.
    """
    rows = max(0, metadata.num_rows)
    size = sum(2 * rows * width_of(schema.field(name).type) for name in columns if name not in words)
    if words:
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        size += 4 * rows + sum(max(0, group.total_byte_size) for group in groups)
    return size


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def width_of(kind: Any) -> int:
    """Bytes of one value, 0 of a list whose length is not fixed."""
    import pyarrow.types as types

    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * width_of(kind.value_type)
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # it is not fixed
        return 0


@contextmanager
def opened_parquet(file: Path, **options: Any) -> Iterator[Any]:
    """What Arrow raises for a file that is damaged is of many kinds; here it becomes a DataError.

    Arrow opens the file itself: reads through a Python file object wait for the interpreter, a column at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    refuse_special(file)
    with reading(file, " as Parquet"), file.open("rb") as stream:
        stream.read(1)  # here the system's refusals have the clearest messages
    try:
        with (
            reading(file, " as Parquet"),
            pa.OSFile(os.fsencode(file)) as stream,
            pq.ParquetFile(stream, page_checksum_verification=True, **options) as parquet,
        ):
            yield parquet
    except GpuregError:
        raise
    except Exception as error:  # Arrow's own, and Python's for names and numbers that it passes on
        raise DataError(f"can't read {file} as Parquet: {first_words(error)}. Write the file again.") from error


def tables_of(
    file: Path, columns: list[str], at_once: int, once: Sequence[str] = (), *, skipped: int = 0
) -> Iterator[Table]:
    """Some columns of a file, at most `at_once` rows at a time, after the first rows, which are `skipped`; `once`:
    columns of words of which each different one is held once. Memory is that of two such pieces.
    """
    import pyarrow as pa

    with reading(file):
        buffer = BUFFER if file.stat().st_size > SMALL_FILE else 0
    # read-ahead buffers stay until the file is closed, and would hold all of it
    with opened_parquet(file, pre_buffer=False, buffer_size=buffer, read_dictionary=list(once)) as parquet:
        width = sum(width_of(parquet.schema_arrow.field(name).type) for name in columns if name not in once)
        machine_limit().check(2 * min(at_once, parquet.metadata.num_rows) * width, file)
        groups, before = _groups_from(parquet.metadata, skipped) if skipped else (None, 0)
        left_out = skipped - before
        for batch in parquet.iter_batches(at_once, row_groups=groups, columns=columns):
            if left_out >= batch.num_rows:
                left_out -= batch.num_rows
                continue
            batch, left_out = _sound(batch).slice(left_out), 0
            yield pa.Table.from_batches([batch]) if columns else pa.table({"": pa.nulls(batch.num_rows)})


def _groups_from(metadata: Any, row: int) -> tuple[list[int], int]:
    """The row groups from the one on that holds a row, and the number of rows before them."""
    before = 0
    for number in range(metadata.num_row_groups):
        rows = max(0, metadata.row_group(number).num_rows)
        if row < before + rows:
            return list(range(number, metadata.num_row_groups)), before
        before += rows
    return [], before
