"""The rows of any file that can be read front to back, as `streamed.Source`: a validation set of the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import Block, Blocks
from gpureg.data.parquet_folder import files_in
from gpureg.data.streamed import Scratch, Stamp
from gpureg.errors import DataError

Matrix = npt.NDArray[Any]


@dataclass(frozen=True)
class OpenedRows:
    """The features of what `again()` opens, in the type `dtype`; see `streamed.Source`."""

    where: str
    again: Callable[[], Blocks]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    stamps: tuple[Stamp, ...]
    overhead: int

    anywhere = False

    def place(self, row: int) -> tuple[str, int]:
        """See the protocol."""
        return self.where, row

    @contextmanager
    def opened(self) -> Iterator[_OpenedReader]:
        """See the protocol."""
        reader = _OpenedReader(self)
        try:
            yield reader
        finally:
            reader.close()


class _OpenedReader:
    """See `streamed.Reader`. What comes before the rows that were read last is read again from the front."""

    def __init__(self, source: OpenedRows) -> None:
        self._source = source
        self._blocks: Any = None
        self._block: Block | None = None

    def pieces(self, start: int, stop: int, scratch: Scratch) -> Iterator[Matrix]:
        """See the protocol."""
        while start < stop:
            block = self._at(start)
            own = slice(start - block.first, min(stop - block.first, len(block.X)))
            yield block.X[own].astype(self._source.dtype, copy=False)
            start = block.first + own.stop

    def close(self) -> None:
        """Close the file."""
        if self._blocks is not None:
            self._blocks.close()
        self._blocks = self._block = None

    def _at(self, row: int) -> Block:
        """The block that holds a row."""
        if self._block is None or row < self._block.first:
            self.close()
            self._blocks = self._source.again().rows
        while self._block is None or row >= self._block.first + len(self._block.X):
            self._block = next(self._blocks, None)
            if self._block is None:
                raise DataError(f"{self._source.where} ends before its {self._source.shape[0]:,} rows do.")
        return self._block


def stamps_of(path: str) -> tuple[Stamp, ...]:
    """Those of a file, or of the files in a folder."""
    place = Path(path).expanduser()
    return tuple(map(Stamp.of, sorted(files_in(place)) if place.is_dir() else [place]))
