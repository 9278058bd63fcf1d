"""The file formats: how each is recognised, and its two readers, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gpureg.data.limits import Limit, machine_limit
from gpureg.data.opening import opened
from gpureg.data.raw import RawData, as_features
from gpureg.errors import DataError, UsageError, named

EXPECTED = "Expected a file: npz (X, y), npy, csv with a header, parquet, or IDX images"
Names = tuple[str, ...] | None


@dataclass(frozen=True)
class FileFormat:
    """A format: the `suffixes` of its files' names, the first bytes that tell it without them, and its readers.

    `labelled(file, target, weights, limit)` reads rows with their labels, without those of weight 0.
    `features(file, n_features, feature_names, limit)` reads the matrix X (N, F) alone, for a model that is trained
    already. `limit` bounds the memory that either takes.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: bytes | None
    labelled: Callable[[Path, str | None, str | None, Limit], RawData]
    features: Callable[[Path, int, Names, Limit], npt.NDArray[Any]]


def _npz(file: Path, target: str | None, weights: str | None, limit: Limit) -> RawData:
    from gpureg.data.arrays import read_npz_data

    return read_npz_data(file, target=target, weights=weights, limit=limit)


def _npz_features(file: Path, n_features: int, names: Names, limit: Limit) -> npt.NDArray[Any]:
    from gpureg.data.arrays import load_npz_features

    return load_npz_features(file, limit)


def _npy(file: Path, target: str | None, weights: str | None, limit: Limit) -> RawData:
    from gpureg.data.arrays import read_npy_data

    return read_npy_data(file, target=target, weights=weights, limit=limit)


def _npy_features(file: Path, n_features: int, names: Names, limit: Limit) -> npt.NDArray[Any]:
    from gpureg.data.arrays import load_npy

    matrix = load_npy(file, limit)
    labelled = matrix.ndim == 2 and matrix.shape[1] == n_features + 1
    return as_features(matrix[:, :n_features] if labelled else matrix, str(file))[0]


def _csv(file: Path, target: str | None, weights: str | None, limit: Limit) -> RawData:
    from gpureg.data.tables import read_table

    return read_table(file, csv=True, target=target, weights=weights, limit=limit)


def _csv_features(file: Path, n_features: int, names: Names, limit: Limit) -> npt.NDArray[Any]:
    from gpureg.data.tables import read_columns

    return read_columns(file, csv=True, features=names, n_features=n_features, limit=limit)


def _parquet(file: Path, target: str | None, weights: str | None, limit: Limit) -> RawData:
    from gpureg.data.tables import read_table

    return read_table(file, csv=False, target=target, weights=weights, limit=limit)


def _parquet_features(file: Path, n_features: int, names: Names, limit: Limit) -> npt.NDArray[Any]:
    from gpureg.data.tables import read_columns

    return read_columns(file, csv=False, features=names, n_features=n_features, limit=limit)


def _idx(file: Path, target: str | None, weights: str | None, limit: Limit) -> RawData:
    from gpureg.data.idx_set import read_idx_path

    for option, value in (("target", target), ("weights", weights)):
        if value is not None:
            raise UsageError(f"{named(option, value)}: IDX files have no columns to name. Leave out {named(option)}.")
    return read_idx_path(file, limit)


def _idx_features(file: Path, n_features: int, names: Names, limit: Limit) -> npt.NDArray[Any]:
    from gpureg.data.idx_set import images_in, read_idx

    return as_features(read_idx(images_in(file) if file.is_dir() else file, limit), str(file))[0]


IDX = FileFormat("idx", (), b"\x00\x00", _idx, _idx_features)
FORMATS = (
    FileFormat("npz", (".npz",), b"PK\x03\x04", _npz, _npz_features),
    FileFormat("npy", (".npy",), b"\x93NUMPY", _npy, _npy_features),
    FileFormat("csv", (".csv", ".csv.gz", ".tsv", ".tsv.gz"), None, _csv, _csv_features),
    FileFormat("parquet", (".parquet", ".pq"), b"PAR1", _parquet, _parquet_features),
    IDX,
)


def format_of(file: Path) -> FileFormat:
    """The format of a file, by its suffix, else by its first bytes; a folder holds IDX files.

    Raises DataError if neither tells.
    """
    if file.is_dir():
        return IDX
    name = file.name.lower()
    for known in FORMATS:
        if name.endswith(known.suffixes):
            return known
    with opened(file, machine_limit()) as stream:
        head = stream.read(6)
    for known in FORMATS:
        if known.magic is not None and head.startswith(known.magic):
            return known
    raise DataError(f"{file} is in none of the formats that gpureg reads. {EXPECTED}.")
