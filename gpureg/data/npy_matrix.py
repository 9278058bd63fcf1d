"""The matrix of an npy file, or of the npy files of a folder, one after the other by name; held, or left there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.array_rows import ArrayRows, npy_rows
from gpureg.data.kept import Files, Kept
from gpureg.data.of_rows import column_of
from gpureg.data.opening import reading
from gpureg.data.streamed import Part, Streamed
from gpureg.errors import DataError

Array = npt.NDArray[Any]
SUFFIX = ".npy"


def npy_files(path: Path) -> list[Path]:
    """A file itself; of a folder its npy files, by name. Names that begin with a dot or `_` are not data."""
    if not path.is_dir():
        return [path]
    with reading(path):
        found = sorted(path.iterdir())
    return [f for f in found if f.name.lower().endswith(SUFFIX) and not f.name.startswith((".", "_")) and f.is_file()]


@dataclass(frozen=True)
class NpyMatrix:
    """A matrix `(N, R)` in parts; its columns are named by number. `names`: of the files of a folder."""

    parts: tuple[Array | ArrayRows, ...]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, load: Any) -> NpyMatrix:
        """That of a file or a folder: `load` gives the array of a file; None: the rows stay there. Raises DataError for
        files of different shapes.
        """
        files = npy_files(path)
        parts = tuple(npy_rows(file) if load is None else load(file) for file in files)
        first = cls(parts[:1]).shape
        for file, part in zip(files, parts, strict=True):
            own = cls((part,)).shape
            if len(own) != len(first) or own[1:] != first[1:] or (len(files) > 1 and len(own) != 2):
                raise DataError(
                    f"{path}: {file.name} has shape {own}, {files[0].name} {first}; expected (rows, columns) in every "
                    "file, and the same columns."
                )
        return cls(parts, tuple(file.name for file in files) if path.is_dir() else ())

    @property
    def files(self) -> Files | None:
        """The files of a folder, for messages; None for those of one file."""
        return self._files if self.names else None

    def _files(self) -> list[tuple[str, int]]:
        return [(name, NpyMatrix((part,)).shape[0]) for name, part in zip(self.names, self.parts, strict=True)]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all parts together."""
        shapes = [part.stored_shape if isinstance(part, ArrayRows) else part.shape for part in self.parts]
        return (sum(int(shape[0]) for shape in shapes), *shapes[0][1:]) if shapes[0] else ()

    def column(self, name: str) -> Array:
        """A column `(N,)`."""
        return np.concatenate(list(self._column(int(name))))

    def features(self, numbers: list[int], kept: Kept) -> Any:
        """The kept rows of some columns, in the machine's byte order; of rows that stay in their files `Streamed`."""
        if isinstance(self.parts[0], ArrayRows):
            whole = Streamed(tuple(Part(part.of(numbers)) for part in self.parts if isinstance(part, ArrayRows)))
            return whole if kept.rows is None else whole[kept.rows]
        if len(self.parts) == 1:
            X = kept.of(self.parts[0])[:, numbers]
        else:
            X = kept.of(np.concatenate([np.asarray(part)[:, numbers] for part in self.parts]))
        return X.astype(X.dtype.newbyteorder("="), copy=False)

    def _column(self, number: int) -> Iterator[Array]:
        for part in self.parts:
            yield column_of(part, number) if isinstance(part, ArrayRows) else np.asarray(part[:, number])
