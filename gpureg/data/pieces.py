"""`Pieces`: rows of features that are not held here, but read piece by piece, wherever they are needed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.raw import check_features
from gpureg.data.streamed import Streamed, by_part
from gpureg.types import Ints

Matrix = npt.NDArray[Any]
HASHED = 1 << 26  # bytes at once


class Piece(Protocol):
    """Some rows of features, not read yet; a value that can be pickled and read by another process."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        ...

    @property
    def identity(self) -> str:
        """What tells whether these are the rows of an earlier run: a file's path, size and time, an array's hash."""
        ...

    def part(self, start: int, stop: int) -> Piece:
        """The rows `start ... stop - 1`."""
        ...

    def read(self) -> Matrix:
        """The rows `(rows, F)`, finite numbers. Raises DataError."""
        ...


@dataclass(frozen=True)
class HeldPiece:
    """Rows of an array in this process, `X (N, F)`, from `start` to `stop`; only they travel."""

    X: Matrix
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """See `Piece`."""
        return self.stop - self.start

    @property
    def identity(self) -> str:
        """See `Piece`: a hash."""
        digest = hashlib.sha256()
        for part in bytes_of(self.read()):
            digest.update(part)
        return digest.hexdigest()

    def part(self, start: int, stop: int) -> HeldPiece:
        """See `Piece`."""
        return HeldPiece(self.X, self.start + start, self.start + stop)

    def read(self) -> Matrix:
        """See `Piece`."""
        return self.X[self.start : self.stop]

    def __getstate__(self) -> tuple[Matrix, int, int]:
        return self.read(), 0, self.rows

    def __setstate__(self, state: tuple[Matrix, int, int]) -> None:
        for name, value in zip(("X", "start", "stop"), state, strict=True):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Pieces:
    """N rows of F features in pieces, of which some rows are taken: `picked` are their numbers in each piece, in rising
    order, None for all. It is indexed by rows as an array is, and nothing is read.
    """

    pieces: tuple[Piece, ...]
    picked: tuple[Ints | None, ...]
    width: int
    dtype: np.dtype[Any]

    ndim = 2

    @classmethod
    def of(cls, pieces: Sequence[Piece], width: int, dtype: npt.DTypeLike) -> Pieces:
        """All rows of the pieces, one after the other."""
        return cls(tuple(pieces), (None,) * len(pieces), width, np.dtype(dtype))

    @property
    def sizes(self) -> list[int]:
        """The rows that are taken of each piece."""
        both = zip(self.pieces, self.picked, strict=True)
        return [piece.rows if rows is None else len(rows) for piece, rows in both]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return sum(self.sizes), self.width

    @property
    def size(self) -> int:
        """N F."""
        return self.shape[0] * self.width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Pieces:
        """Some rows: a slice, a mask, or numbers in rising order."""
        if not self.pieces:
            return self
        if isinstance(rows, slice):
            numbers = np.arange(*rows.indices(len(self)))
        else:
            numbers = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows, np.int64)
        if len(numbers) > 1 and not (np.diff(numbers) > 0).all():
            raise ValueError("rows in pieces are taken in rising order")
        both = zip(by_part(numbers, self.sizes), self.picked, strict=True)
        picked = [own if before is None else before[own] for own, before in both]
        kept = [number for number, own in enumerate(picked) if len(own)]
        taken = tuple(self._whole(number, picked[number]) for number in kept)
        return replace(self, pieces=tuple(self.pieces[number] for number in kept), picked=taken)

    def _whole(self, number: int, rows: Ints) -> Ints | None:
        """None for all rows of a piece."""
        return None if len(rows) == self.pieces[number].rows else rows

    def joined(self, other: Pieces) -> Pieces:
        """These rows and then others."""
        return replace(self, pieces=self.pieces + other.pieces, picked=self.picked + other.picked)

    def cut(self, most: int) -> Pieces:
        """The same rows in pieces of at most `most` rows each."""
        pieces: list[Piece] = []
        picked: list[Ints | None] = []
        for piece, rows in zip(self.pieces, self.picked, strict=True):
            count = -(-piece.rows // most)
            bounds = [piece.rows * number // count for number in range(count + 1)]
            for start, stop in itertools.pairwise(bounds):
                own = None if rows is None else rows[(rows >= start) & (rows < stop)] - start
                if own is None or len(own):
                    pieces.append(piece if count == 1 else piece.part(start, stop))
                    picked.append(own)
        return replace(self, pieces=tuple(pieces), picked=tuple(picked))

    def dealt(self, values: npt.NDArray[Any] | None) -> list[Any]:
        """What each piece has of values `(N, ...)` about all rows, or None for each."""
        if values is None:
            return [None] * len(self.pieces)
        return [values[start:stop] for start, stop in itertools.pairwise(itertools.accumulate(self.sizes, initial=0))]

    def identity(self) -> Iterator[bytes]:
        """What a fingerprint hashes: what each piece is, and which of its rows are taken."""
        for piece, rows in zip(self.pieces, self.picked, strict=True):
            yield piece.identity.encode()
            yield b"" if rows is None else rows.tobytes()


@dataclass(frozen=True)
class StreamedPiece:
    """Rows that stay in their files, read where they are needed: by the paths under which this process knows them.

    `names` are the features', for messages.
    """

    X: Streamed
    names: tuple[str, ...] | None = None

    @property
    def rows(self) -> int:
        """See `Piece`."""
        return len(self.X)

    @property
    def identity(self) -> str:
        """See `Piece`."""
        return self.X.identity()

    def part(self, start: int, stop: int) -> StreamedPiece:
        """See `Piece`."""
        return replace(self, X=self.X[start:stop])

    def read(self) -> Matrix:
        """See `Piece`."""
        found = np.empty(self.X.shape, self.X.dtype)
        start = 0
        with self.X.opened() as rows:
            for piece in rows.pieces(0, len(self.X)):
                found[start : start + len(piece)] = piece
                start += len(piece)
        start = 0
        for part in self.X.parts:
            kept = ALL if part.index is None else Kept(part.index)
            check_features(found[start : start + len(part)], part.source.where, self.names, kept)
            start += len(part)
        return found


def bytes_of(array: Matrix) -> Iterator[bytes]:
    """What a fingerprint hashes of an array: its type and shape, and its values, some at a time."""
    yield f"{array.dtype.str}{array.shape}".encode()
    step = max(1, HASHED // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step]).tobytes()


def in_pieces(X: Any) -> bool:
    """Whether the rows of X are read piece by piece, by workers."""
    return isinstance(X, Pieces)


def lies_elsewhere(X: Any) -> bool:
    """Whether the rows of X are not held here: they are in pieces, or stay in their file."""
    return isinstance(X, (Pieces, Streamed))
