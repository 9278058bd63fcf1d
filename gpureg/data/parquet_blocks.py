"""Blocks of rows from Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpureg.data.blocks import Block, Blocks, Columns, Request, checked_weights, table_columns
from gpureg.data.columns import label_column
from gpureg.data.kept import Kept
from gpureg.data.labels import listed
from gpureg.data.matching import Expected, table_matrix
from gpureg.data.parquet_files import index_columns, tables_of
from gpureg.data.parquet_folder import ParquetSet, parquet_set
from gpureg.data.words import is_text


def parquet_blocks(file: Path, request: Request) -> Blocks:
    """The rows of a Parquet file, or of the files in a folder.

    Columns in which pandas has stored the index are read only if they are named.
    """
    import pyarrow as pa

    parquet = parquet_set(file)
    schema = parquet.schema
    index = index_columns(schema)
    names = tuple(name for name in schema.names if name not in index)
    chosen = table_columns(names, tuple(name for name in schema.names if name in index), request, str(file))
    kept = pa.schema([schema.field(name) for name in chosen.keep])
    words = [*([] if chosen.label is None else [chosen.label]), *request.expected.words()]
    once = [name for name in words if name not in chosen.keep and is_text(schema.field(name).type)]
    return Blocks(str(file), kept, _rows(parquet, chosen, request, once), chosen.notices)


def _rows(parquet: ParquetSet, chosen: Columns, request: Request, once: list[str]) -> Iterator[Block]:
    """The files one after the other; `once`: columns of words of which each different one is held once."""
    first = 0
    for member in parquet.members:
        begin = first
        stored = [name for name in chosen.all if name not in dict(member.partitions)]
        for table in tables_of(member.file, stored, request.block_rows, [name for name in once if name in stored]):
            whole = (
                parquet.completed(table, member, chosen.all, once)
                if len(stored) < len(chosen.all) or len(parquet.members) > 1
                else table
            )
            yield _block(whole, (first, first - begin), chosen, request, str(member.file))
            first += table.num_rows


def _block(table: Any, firsts: tuple[int, int], chosen: Columns, request: Request, where: str) -> Block:
    """Rows of a file; `firsts`: the number of the first among all rows, and in the file."""
    X, (first, own) = table_matrix(table, request.expected, chosen.features, where), firsts
    labels = weights = None
    if chosen.label is not None:
        kept = Kept(np.arange(own, own + table.num_rows))
        labels = label_column(
            table.column(chosen.label), f"{where}, column {listed([chosen.label])!r} (the label)", kept
        )
    if chosen.weights is not None:
        described = f"{where}, column {chosen.weights!r}"
        values = table_matrix(table, Expected(1), (chosen.weights,), described)[:, 0]
        weights = checked_weights(values, len(X), described)
    further = table.select(list(chosen.keep)) if chosen.keep else None
    return Block(first, X, labels, weights, further, file=(where, own))
