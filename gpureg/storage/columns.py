"""Columns that come block by block, kept on the disk until all are there: an npz wants each array in one piece."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same arrays give the same bytes, whenever they are written


@dataclass(frozen=True)
class _Piece:
    """Where a block of a column lies in the file, and what it is."""

    start: int
    length: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class ColumnStore:
    """A file of blocks, each column of a block in one piece."""

    stream: BinaryIO
    pieces: dict[str, list[_Piece]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def beside(cls, path: Path) -> Iterator[ColumnStore]:
        """A store in the folder of `path`, gone when the block ends."""
        place = path.with_name(f"{path.name}.columns")
        try:
            with place.open("xb+") as stream:
                yield cls(stream)
        finally:
            place.unlink(missing_ok=True)

    @property
    def rows(self) -> bool:
        """Whether a block was added."""
        return bool(self.pieces)

    def add(self, columns: Mapping[str, Array]) -> None:
        """The next rows of every column. Raises OSError."""
        for name, values in columns.items():
            piece = _Piece(self.stream.tell(), len(values), values.dtype)
            self.stream.write(values.tobytes())
            self.pieces.setdefault(name, []).append(piece)

    def write_npz(self, path: Path) -> None:
        """All columns as an uncompressed archive, each of the narrowest type that holds its blocks. Raises OSError."""
        with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
            for name, pieces in self.pieces.items():
                dtype = np.result_type(*(piece.dtype for piece in pieces))
                rows = sum(piece.length for piece in pieces)
                with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH), "w", force_zip64=True) as member:
                    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows,)}
                    np.lib.format.write_array_header_1_0(member, header)
                    for piece in pieces:
                        member.write(self._read(piece).astype(dtype, copy=False).tobytes())

    def _read(self, piece: _Piece) -> Array:
        self.stream.seek(piece.start)
        return np.frombuffer(self.stream.read(piece.length * piece.dtype.itemsize), piece.dtype)
