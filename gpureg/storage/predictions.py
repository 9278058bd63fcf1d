"""Predicted rows as a table that is written block by block: CSV, Parquet, npz, npy. A file appears whole or not at all.

The columns are `label`, `p_<class>` for each class, and those copied from the data. An npy holds only the
probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gpureg.atomic import replacing
from gpureg.errors import UsageError, named
from gpureg.storage.columns import ColumnStore

if TYPE_CHECKING:
    from gpureg.data.blocks import Blocks
    from gpureg.model.linear import LinearModel

Doubles = npt.NDArray[np.float64]
Table = Any  # pyarrow.Table; pyarrow has no types
Label = int | float | str
LABEL, PREFIX = "label", "p_"
GROUP_BYTES = 1 << 25  # of a row group, at the least


@dataclass(frozen=True)
class Layout:
    """The columns of the output: the classes, and the schema of those that are carried along."""

    classes: tuple[Label, ...]
    kept: Any

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in their order. Raises UsageError if a kept one has the name of another."""
        own = (LABEL, *(f"{PREFIX}{name}" for name in self.classes))
        for name in self.kept.names:
            if name in own:
                raise UsageError(
                    f"{named('keep', name)}: the output already has a column of that name. Rename it in the data."
                )
        return (*own, *self.kept.names)

    def table(self, codes: npt.NDArray[np.int64], probabilities: Doubles, kept: Table) -> Table:
        """A block: labels from `codes (n,)` (-1: none), `probabilities (n, K)` and the kept columns."""
        import pyarrow as pa

        labels = pa.array(self.labels()).take(taken(codes))
        columns = [labels, *(pa.array(np.ascontiguousarray(column)) for column in probabilities.T)]
        return pa.table([*columns, *(kept.columns if kept is not None else ())], names=list(self.names))

    def labels(self) -> list[Label]:
        """The classes as Arrow takes them: of one type."""
        kinds = {type(name) for name in self.classes}
        return list(self.classes) if len(kinds) == 1 else [float(name) for name in self.classes]


def taken(codes: npt.NDArray[np.int64]) -> Any:
    """Indices as Arrow takes them: null if there is no label."""
    import pyarrow as pa

    return pa.array(codes, mask=codes < 0)


Write = Callable[[npt.NDArray[np.int64], Doubles, Table], None]


@contextmanager
def csv_stream(stream: BinaryIO, layout: Layout) -> Iterator[Write]:
    """CSV text, block by block; numbers have the digits that give them back."""
    import pyarrow as pa
    import pyarrow.types as types

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(layout.names)
    stream.write(text.getvalue().encode())

    def write(codes: npt.NDArray[np.int64], probabilities: Doubles, kept: Table) -> None:
        table = _plain(layout.table(codes, probabilities, kept))
        if types.is_boolean(table.schema.field(0).type):  # spelled as in the names of the columns
            table = table.set_column(0, LABEL, pa.array([str(name) for name in layout.classes]).take(taken(codes)))
        try:
            stream.write(_csv_text(table, "none"))
        except pa.ArrowInvalid:  # words with a comma, a quote or a line break in them: all words in quotes
            try:
                stream.write(_csv_text(table, "needed"))
            except pa.ArrowException as error:
                raise _unsuited(error, ".parquet") from error

    yield write


@contextmanager
def open_predictions(path: Path, layout: Layout) -> Iterator[Write]:
    """The file at `path`, of the format that its suffix says; it takes its place when the block ends.

    Raises UsageError for another suffix, for a column that the format can't hold, and if the disk refuses.
    """
    form = next((form for suffix, form in FORMATS.items() if path.name.lower().endswith(suffix)), None)
    if form is None:
        raise UsageError(f"{named('out', str(path))}: expected a name that ends in {', '.join(FORMATS)}.")
    _ = layout.names  # refused before anything is written
    try:
        with replacing(path) as temporary, form(temporary, layout) as write:
            yield write
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (path, temporary):
            raise
        raise UsageError(
            f"{named('out', str(path))} can't be written ({error.strerror or error}); give another path."
        ) from error


def predict_rows(
    model: LinearModel, index: int, blocks: Blocks, write: Write, is_over: Callable[[], bool] = lambda: False
) -> int:
    """Predict block by block, until the reader of the output has gone; returns the number of rows."""
    rows = 0
    for block in blocks.rows:
        where, first = block.place(blocks.where)
        logits = model.logits(block.X, index, where, lambda row, first=first: first + row)  # type: ignore[misc]
        codes = np.asarray(model.loss.predict(np, logits), np.int64)
        if block.left_out is not None:
            codes[block.left_out] = -1
        write(codes, np.asarray(model.loss.probabilities(np, logits)), block.kept)
        rows += len(codes)
        if is_over():
            break
    return rows


@contextmanager
def _csv(path: Path, layout: Layout) -> Iterator[Write]:
    with path.open("xb") as stream, csv_stream(stream, layout) as write:
        yield write


def _csv_text(table: Table, quoting: str) -> Any:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    buffer = pa.BufferOutputStream()
    arrow_csv.write_csv(table, buffer, arrow_csv.WriteOptions(include_header=False, quoting_style=quoting))
    return buffer.getvalue()


@contextmanager
def _parquet(path: Path, layout: Layout) -> Iterator[Write]:
    """Row groups of several blocks. Probabilities are not compressed: their digits do not repeat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    empty = np.zeros(0, np.int64)
    schema = layout.table(empty, np.zeros((0, len(layout.classes))), layout.kept.empty_table()).schema
    numbers = {name for name in layout.names if name.startswith(PREFIX) and name not in layout.kept.names}
    waiting: list[Table] = []
    with path.open("xb") as stream:
        writer = pq.ParquetWriter(
            stream,
            schema,
            compression={name: "NONE" if name in numbers else "SNAPPY" for name in layout.names},
            use_dictionary=[name for name in layout.names if name not in numbers],
        )

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()

        def write(codes: npt.NDArray[np.int64], probabilities: Doubles, kept: Table) -> None:
            waiting.append(layout.table(codes, probabilities, kept))
            if sum(table.nbytes for table in waiting) >= GROUP_BYTES:
                flush()

        with writer:
            yield write
            flush()


@contextmanager
def _npz(path: Path, layout: Layout) -> Iterator[Write]:
    """An archive of one array for each column."""
    with ExitStack() as stack:
        store = stack.enter_context(ColumnStore.beside(path))

        def write(codes: npt.NDArray[np.int64], probabilities: Doubles, kept: Table) -> None:
            table = layout.table(codes, probabilities, kept)
            store.add({name: _array(table.column(name), name) for name in layout.names})

        yield write
        if not store.rows:
            write(np.zeros(0, np.int64), np.zeros((0, len(layout.classes))), layout.kept.empty_table())
        store.write_npz(path)


@contextmanager
def _npy(path: Path, layout: Layout) -> Iterator[Write]:
    """The probabilities `(N, K)`; the header is written again when N is known, in the same room."""
    if layout.kept.names:
        raise UsageError(
            f"{named('keep')}: an npy holds only the probabilities. Leave out {named('keep')}, or write another format."
        )
    K, rows = len(layout.classes), [0]
    with path.open("xb") as stream:
        stream.write(_npy_header(0, K))

        def write(codes: npt.NDArray[np.int64], probabilities: Doubles, kept: Table) -> None:
            stream.write(np.ascontiguousarray(probabilities, "<f8").data)
            rows[0] += len(probabilities)

        yield write
        stream.seek(0)
        stream.write(_npy_header(rows[0], K))


FORMATS: Mapping[str, Any] = MappingProxyType({".csv": _csv, ".parquet": _parquet, ".npz": _npz, ".npy": _npy})


def _npy_header(rows: int, columns: int) -> bytes:
    """The first 128 bytes of an npy file of float64."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def _plain(table: Table) -> Table:
    """Dictionaries as their values, which is what CSV can hold."""
    import pyarrow as pa
    import pyarrow.types as types

    for index, field in enumerate(table.schema):
        if types.is_dictionary(field.type):
            table = table.set_column(
                index, pa.field(field.name, field.type.value_type), table[index].cast(field.type.value_type)
            )
    return table


def _array(column: Any, name: str) -> npt.NDArray[Any]:
    """A column as an array of numbers, booleans, dates or words; missing numbers are NaN, missing words empty."""
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_decimal(kind):
        column, kind = column.cast(pa.float64()), pa.float64()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        words = column.to_pylist()
        return np.array([word or "" for word in words], np.str_)
    if types.is_boolean(kind) and column.null_count:
        column = column.cast(pa.uint8())
    values = np.asarray(column.to_numpy())
    if values.dtype.kind not in "biufmM":
        raise _unsuited(TypeError(f"column {name!r} has type {kind}"), ".parquet")
    return values


def _unsuited(error: Exception, other: str) -> UsageError:
    return UsageError(f"{named('keep')}: the output can't hold a column ({error}). Write to a {other} file.")
