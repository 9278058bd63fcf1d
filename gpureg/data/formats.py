"""The file formats: how each is recognised, and its two readers, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpureg.data.blocks import Blocks, Request
from gpureg.data.limits import Limit, machine_limit
from gpureg.data.opening import opened
from gpureg.data.raw import RawData
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named

EXPECTED = "Expected a file: npz (X, y, or sparse), npy, csv with a header, parquet, IDX images, or svmlight"


@dataclass(frozen=True)
class FileFormat:
    """A format: the `suffixes` of its files' names, the first bytes that tell it without them, and its readers.

    `labelled(file, uses, limit)` reads rows with their labels, without those of weight 0.
    `limit` bounds the memory that they take. `blocks(file, request)` reads rows for a trained model.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: bytes | None
    labelled: Callable[[Path, Uses, Limit], RawData]
    blocks: Callable[[Path, Request], Blocks]


def _npz(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.arrays import read_npz_data
    from gpureg.data.labels_file import labelled_by
    from gpureg.data.sparse_files import holds_labels, is_sparse_npz, no_labels

    if not is_sparse_npz(file):
        return read_npz_data(file, uses, limit)
    if uses.stream:
        raise _cannot_stream(file, "sparse rows")
    if not holds_labels(file):
        raise no_labels(file)
    return labelled_by(file, file, uses, limit)


def _npz_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.array_blocks import npz_blocks
    from gpureg.data.sparse_files import is_sparse_npz, sparse_npz_blocks

    return sparse_npz_blocks(file, request) if is_sparse_npz(file) else npz_blocks(file, request)


def _npy(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.arrays import read_npy_data

    return read_npy_data(file, uses, limit)


def _npy_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.array_blocks import npy_blocks

    return npy_blocks(file, request)


def _csv(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.tables import read_table

    if uses.stream:
        raise _cannot_stream(file, "CSV")
    return read_table(file, uses, limit, csv=True)


def _csv_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.csv_blocks import csv_blocks

    return csv_blocks(file, request)


def _parquet(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.tables import read_table

    return read_table(file, uses, limit, csv=False)


def _parquet_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.parquet_blocks import parquet_blocks

    return parquet_blocks(file, request)


def _idx(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.idx_set import read_idx_path

    for option, value in (("target", uses.target), ("weights", uses.weights), *uses.marks.items()):
        if value is not None:
            raise UsageError(f"{named(option, value)}: IDX files have no columns to name. Leave out {named(option)}.")
    uses.refuse_choice("IDX images")
    return read_idx_path(file, limit, stream=uses.stream)


def _idx_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.array_blocks import idx_blocks

    return idx_blocks(file, request)


def _svmlight(file: Path, uses: Uses, limit: Limit) -> RawData:
    from gpureg.data.sparse_files import read_svmlight_data

    if uses.stream:
        raise _cannot_stream(file, "sparse rows")
    return read_svmlight_data(file, uses, limit)


def _svmlight_blocks(file: Path, request: Request) -> Blocks:
    from gpureg.data.sparse_files import svmlight_blocks

    return svmlight_blocks(file, request)


SVMLIGHT = tuple(f"{name}{packed}" for name in (".svm", ".svmlight", ".libsvm") for packed in ("", ".gz"))
IDX = FileFormat("idx", (), b"\x00\x00", _idx, _idx_blocks)
NPY = FileFormat("npy", (".npy",), b"\x93NUMPY", _npy, _npy_blocks)
PARQUET = FileFormat("parquet", (".parquet", ".pq"), b"PAR1", _parquet, _parquet_blocks)
FORMATS = (
    FileFormat("npz", (".npz",), b"PK\x03\x04", _npz, _npz_blocks),
    NPY,
    FileFormat("csv", (".csv", ".csv.gz", ".tsv", ".tsv.gz"), None, _csv, _csv_blocks),
    PARQUET,
    IDX,
    FileFormat("svmlight", SVMLIGHT, None, _svmlight, _svmlight_blocks),
)


def _cannot_stream(file: Path, what: str) -> DataError:
    """The error for a format whose rows can't be read again and again, with the conversion to one that can."""
    how = {
        "CSV": "Convert it to Parquet once, in pieces, with pyarrow.csv.open_csv and pyarrow.parquet.ParquetWriter; "
        "docs/large-data.md has the lines.",
        "sparse rows": f"Sparse rows are held: leave out {named('stream')}. Dense ones can be streamed as npy or npz.",
    }
    return DataError(
        f"{named('stream', True)}: {file} holds {what}, which is not read in blocks for a fit; expected npy, an npz "
        f"that is not compressed, IDX or Parquet. {how[what]}"
    )


def format_of(file: Path) -> FileFormat:
    """The format of a file, by its suffix, else by its first bytes; a folder holds Parquet files, npy files, or IDX
    files.

    Raises DataError if neither tells.
    """
    if file.is_dir():
        from gpureg.data.npy_matrix import npy_files
        from gpureg.data.parquet_folder import is_parquet_folder

        if is_parquet_folder(file):
            return PARQUET
        return NPY if npy_files(file) else IDX
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
