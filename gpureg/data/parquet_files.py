"""Parquet: its schema, which says what the columns are before any is read, and its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpureg.data.limits import Limit
from gpureg.data.opening import first_words, reading, refuse_special
from gpureg.errors import DataError, GpuregError

Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema

_WIDTHS: Mapping[str, int] = MappingProxyType({"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8})


def read_schema(file: Path) -> Schema:
    """The columns of a Parquet file. Raises DataError if it can't be read or has none."""
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
        names = schema.names  # decodes them
    if not names:
        raise DataError(f"{file} has no columns. Write the file again.")
    return schema


def read_parquet(file: Path, columns: list[str], words: tuple[str, ...], limit: Limit) -> Table:
    """The named columns of a Parquet file; of text in `words` each different word is held once.

    Raises DataError for a file that can't be read, or would take too much memory.
    """
    with _opened(file, read_dictionary=list(words)) as parquet:
        limit.check(_bytes(parquet, set(columns), words), file)
        return parquet.read(columns=columns)


def index_columns(schema: Schema) -> set[str]:
    """The columns in which pandas has stored the index of its rows, as its note in the schema names them."""
    found = {name for name in schema.names if name.startswith("__index_level_")}
    try:
        noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):  # no note, or not one of pandas'
        noted = []
    return found | {name for name in noted if isinstance(name, str)} if isinstance(noted, list) else found


def _bytes(parquet: Any, columns: set[str], words: tuple[str, ...]) -> int:
    """What the columns take once they are unpacked: their values and the matrix made of them, and the words' pages."""
    metadata = parquet.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = 0
    for index in range(metadata.num_columns):
        described = metadata.schema.column(index)
        name = described.path if described.path in columns else described.path.split(".")[0]
        if name not in columns:
            continue
        for group in groups:
            piece = group.column(index)
            values = max(piece.num_values, group.num_rows)
            if name in words:
                size += 4 * values + max(0, piece.total_uncompressed_size)
            else:
                size += 2 * values * _WIDTHS.get(described.physical_type, 16)
    return size


@contextmanager
def _opened(file: Path, **options: Any) -> Iterator[Any]:
    """What Arrow raises for a file that is damaged is of many kinds; here it becomes a DataError."""
    import pyarrow.parquet as pq

    refuse_special(file)
    try:
        with (
            reading(file, " as Parquet"),
            file.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=True, **options) as parquet,
        ):
            yield parquet
    except GpuregError:
        raise
    except Exception as error:  # Arrow's own, and Python's for names and numbers that it passes on
        raise DataError(f"can't read {file} as Parquet: {first_words(error)}. Write the file again.") from error
