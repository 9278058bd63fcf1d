"""A Parquet data set of one file, or of the files in a folder, which may name columns (`year=2024/`, as Hive does)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from gpureg.data.kept import Files
from gpureg.data.labels import listed
from gpureg.data.limits import Limit
from gpureg.data.opening import reading
from gpureg.data.parquet_files import index_columns, opened_parquet, read_parquet, read_schema, size_of
from gpureg.data.words import holds_words
from gpureg.errors import DataError

Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema

SUFFIXES = (".parquet", ".pq")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Member:
    """A file of a data set, and the columns that its folders name: (column, value) each."""

    file: Path
    partitions: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class ParquetSet:
    """The files of a data set, and the columns of all of them: `schema`, in the order of the first file, then those
    that the folders name.
    """

    path: Path
    members: tuple[Member, ...]
    schema: Schema

    def read(self, columns: Sequence[str], words: Sequence[str], limit: Limit) -> Table:
        """Some columns of all files; of `words` each different one is held once. Raises DataError."""
        import pyarrow as pa

        stored = [[name for name in columns if name not in dict(member.partitions)] for member in self.members]
        texts = [tuple(name for name in words if name in of_file) for of_file in stored]
        if len(self.members) == 1 and not self.members[0].partitions:
            return read_parquet(self.path_of(0), list(columns), texts[0], limit)
        sizes = (size_of(m.file, s, t) for m, s, t in zip(self.members, stored, texts, strict=True))
        limit.check(sum(sizes), self.path)
        tables = []
        for member, names, text in zip(self.members, stored, texts, strict=True):
            table = read_parquet(member.file, names, text, limit) if names else _rows_of(member.file)
            tables.append(self.completed(table, member, columns, once=words))
        return pa.concat_tables(tables)

    @property
    def files(self) -> Files | None:
        """The files of a folder, for messages; None for a single file."""
        return self._files if self.path.is_dir() else None

    def _files(self) -> list[tuple[str, int]]:
        found = []
        for member in self.members:
            with opened_parquet(member.file) as parquet:
                found.append((str(member.file.relative_to(self.path)), parquet.metadata.num_rows))
        return found

    @property
    def partitions(self) -> tuple[str, ...]:
        """The columns that the folders name."""
        return tuple(name for name, _ in self.members[0].partitions)

    def path_of(self, member: int) -> Path:
        """A file's path."""
        return self.members[member].file

    def completed(self, table: Table, member: Member, columns: Sequence[str], once: Sequence[str] = ()) -> Table:
        """Rows of a file with the columns that its folders name, in the order and of the types of all files; the words
        in `once` as dictionaries.
        """
        import pyarrow as pa

        given = dict(member.partitions)
        found = []
        for name in columns:
            kind = self.schema.field(name).type
            column = _constant(given[name], kind, table.num_rows) if name in given else table.column(name)
            if name in once:
                column = _once(column)
            elif column.type != kind:
                column = column.cast(kind)
            found.append(column)
        return pa.table(found, names=list(columns))


def parquet_set(path: Path) -> ParquetSet:
    """The data set at a path, a file or a folder of them. Raises DataError for files that don't belong together."""
    if not path.is_dir():
        return ParquetSet(path, (Member(path),), read_schema(path))
    members = tuple(_members(path))
    keys = [tuple(key for key, _ in member.partitions) for member in members]
    for member, own in zip(members, keys, strict=True):
        if own != keys[0]:
            raise DataError(
                f"{path}: the folders of {member.file} name the columns {listed(own) or 'none'}, those of "
                f"{members[0].file} {listed(keys[0]) or 'none'}. Expected the same columns for every file."
            )
    schemas = [read_schema(member.file) for member in members]
    schema = _joint(path, members, schemas)
    return ParquetSet(path, members, _with_partitions(path, schema, members))


def is_parquet_folder(path: Path) -> bool:
    """Whether a folder holds Parquet files."""
    return next(files_in(path), None) is not None


def files_in(folder: Path) -> Iterator[Path]:
    """The Parquet files in a folder and in those below it that name columns; names that begin with a dot or `_` are not
    data (`_SUCCESS`).
    """
    with reading(folder):
        found = sorted(folder.iterdir())
    for file in found:
        if file.name.startswith((".", "_")):
            continue
        if file.is_dir():
            yield from files_in(file) if "=" in file.name else ()
        elif file.name.lower().endswith(SUFFIXES) and file.is_file():
            yield file


def _members(folder: Path) -> Iterator[Member]:
    for file in files_in(folder):
        named = [part.split("=", 1) for part in file.relative_to(folder).parts[:-1] if "=" in part]
        yield Member(file, tuple((unquote(k), None if v == _NO_VALUE else unquote(v)) for k, v in named))


def _joint(path: Path, members: Sequence[Member], schemas: Sequence[Schema]) -> Schema:
    """One schema for all files: numbers of the widest type, words as text."""
    import pyarrow as pa

    first = schemas[0]
    fields = {name: first.field(name).type for name in first.names if first.names.count(name) == 1}
    index = index_columns(first)
    for member, schema in zip(members[1:], schemas[1:], strict=True):
        lacking = [name for name in fields if name not in schema.names and name not in index]
        more = [name for name in schema.names if name not in fields and name not in index_columns(schema)]
        if lacking or more:
            what = f"lacks the columns {listed(lacking)}" if lacking else f"has further columns, {listed(more)}"
            raise DataError(
                f"{path}: {member.file} {what} of {members[0].file}. Expected the same columns in every file."
                if lacking
                else f"{path}: {member.file} {what}, which {members[0].file} lacks. Expected the same columns in every "
                "file."
            )
        for name in [name for name in fields if name in schema.names]:
            kind = _common(fields[name], schema.field(name).type)
            if kind is None:
                raise DataError(
                    f"{path}: the column {listed([name])!r} holds {fields[name]} in {members[0].file}, "
                    f"{schema.field(name).type} in {member.file}. Expected one kind."
                )
            fields[name] = kind
    if len(members) == 1:
        return first
    return pa.schema(list(fields.items()), metadata=first.metadata)


def _common(one: Any, other: Any) -> Any:
    """The type that holds both, None if there is none."""
    import pyarrow as pa
    import pyarrow.types as types

    if one == other:
        return one
    if types.is_null(one) or types.is_null(other):
        return other if types.is_null(one) else one
    if holds_words(one) and holds_words(other):
        return pa.large_string()
    try:
        schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _with_partitions(path: Path, schema: Schema, members: Sequence[Member]) -> Schema:
    """The schema with the columns that folders name: whole numbers if all their values are, else words."""
    import pyarrow as pa

    for position, (name, _) in enumerate(members[0].partitions):
        if name in schema.names:
            raise DataError(f"{path}: the column {name!r} is both in the files and in folder names. Rename one.")
        values = [member.partitions[position][1] for member in members]
        whole = all(value is None or value.lstrip("-").isdecimal() for value in values)
        schema = schema.append(pa.field(name, pa.int64() if whole else pa.string()))
    return schema


def _constant(value: str | None, kind: Any, rows: int) -> Any:
    import pyarrow as pa
    import pyarrow.types as types

    single = None if value is None else int(value) if types.is_integer(kind) else value
    return pa.array([single], kind).take(pa.array(np.zeros(rows, np.int64)))


def _once(column: Any) -> Any:
    """Words as a dictionary, of one type for all files."""
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()).dictionary_encode()


def _rows_of(file: Path) -> Table:
    """A table without columns of a file's number of rows: what its folders name is all that is read."""
    import pyarrow as pa

    with opened_parquet(file) as parquet:
        rows = parquet.metadata.num_rows
    return pa.table({"": pa.nulls(rows)})
