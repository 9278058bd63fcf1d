"""From a path to `RawData`: which format a file has, and the reader for it."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from gpureg.data.catalog import CATALOG
from gpureg.data.raw import RawData
from gpureg.errors import DataError, UsageError

Format = Literal["npz", "npy", "csv", "parquet", "idx"]

_SUFFIXES: tuple[tuple[str, Format], ...] = (
    (".npz", "npz"),
    (".npy", "npy"),
    (".csv", "csv"),
    (".csv.gz", "csv"),
    (".tsv", "csv"),
    (".tsv.gz", "csv"),
    (".parquet", "parquet"),
    (".pq", "parquet"),
)
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PK\x03\x04", "npz"),
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
    (b"\x00\x00", "idx"),
)
_WANTED = "Wanted a file: npz (X, y), npy, csv with a header, parquet, or IDX images"


def read_path(path: str | Path, *, target: str | None, weights: str | None) -> RawData:
    """Read a data set from a file (or a folder of IDX files in MNIST's names).

    `target` and `weights` name columns of a table or arrays of an npz. The result's `source` has the path and, for a
    file, its SHA-256.

    Raises UsageError for a path that is not there or an option that the format has no use for, DataError for what can't
    be read.
    """
    file = existing(path)
    kind: Format = "idx" if file.is_dir() else file_format(file)
    if kind == "idx":
        from gpureg.data.idx_set import read_idx_path

        for option, value in (("--target", target), ("--weights", weights)):
            if value is not None:
                raise UsageError(f"{option} {value!r}: IDX files have no columns to name. Drop {option}.")
        raw = read_idx_path(file)
    elif kind in ("npz", "npy"):
        from gpureg.data.arrays import read_npy, read_npz

        raw = (read_npz if kind == "npz" else read_npy)(file, target=target, weights=weights)
    else:
        from gpureg.data.tables import read_table

        raw = read_table(file, csv=kind == "csv", target=target, weights=weights)
    return replace(raw, source={"origin": str(file.absolute()), **_digest(file)})


def existing(path: str | Path) -> Path:
    """The path, which must be there. Raises UsageError, with the named data sets that it may have been meant for."""
    if str(path) == "":
        raise UsageError(f"--dataset is empty. {_WANTED}, or one of {', '.join(CATALOG)}.")
    file = Path(path).expanduser()
    try:
        there = file.exists()
    except (OSError, ValueError):  # a name too long, a null byte
        there = False
    if there:
        return file
    close = get_close_matches(str(path).lower(), list(CATALOG), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(
        f"--dataset {str(path)!r} is neither a named data set ({', '.join(CATALOG)}) nor a file that exists.{hint}"
    )


def file_format(file: Path) -> Format:
    """The format of a file, by its suffix, else by its first bytes. Raises DataError where neither tells."""
    name = file.name.lower()
    for suffix, kind in _SUFFIXES:
        if name.endswith(suffix):
            return kind
    try:
        with file.open("rb") as stream:
            head = stream.read(6)
            if head[:2] == b"\x1f\x8b":
                stream.seek(0)
                head = gzip.GzipFile(fileobj=stream).read(6)
    except (OSError, EOFError) as error:
        raise DataError(f"can't read {file}: {error}. {_WANTED}.") from error
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    raise DataError(f"{file} is in none of the formats that gpureg reads. {_WANTED}.")


def _digest(file: Path) -> dict[str, str]:
    if file.is_dir():
        return {}
    with file.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
