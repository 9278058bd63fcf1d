"""Samples that stay in their file: the kernels' threads read them, a tile at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.data.design import Designer
from gpureg.data.streamed import Opened
from gpureg.types import Array


class Lane:
    """What one thread reads of opened rows, in the type of the arithmetic and as they are stored."""

    def __init__(self, opened: Opened, designer: Designer) -> None:
        self._opened, self._features, self._dtype = opened, designer.width - 1, designer.dtype
        self._memory: Array = np.empty(0, self._dtype)

    def read(self, start: int, stop: int) -> Array:
        """The rows `start ... stop - 1` `(b, F)`, one after the other in memory; gone when others are read. Raises
        DataError if they can't be read.
        """
        n, filled = stop - start, 0
        found: Array = None
        for piece, picks in self._opened.picked(start, stop):
            like = piece.dtype == self._dtype and piece.flags.c_contiguous
            if like and picks is None and len(piece) == n:
                found = piece  # where it was read
                continue
            found = self._room(n) if found is None else found
            count = len(piece) if picks is None else len(picks)
            part = found[filled : filled + count]
            if like and picks is not None:
                np.take(piece, picks, axis=0, out=part, mode="clip")  # which copies once
            else:
                part[...] = piece if picks is None else piece[picks]
            filled += count
        return self._room(n) if found is None else found

    def _room(self, n: int) -> Array:
        """Memory for n rows."""
        if len(self._memory) < n * self._features:
            self._memory = np.empty(n * self._features, self._dtype)
        return self._memory[: n * self._features].reshape(n, self._features)


@dataclass(frozen=True)
class Stretch:
    """The samples of a block that begins with row `first`; see `kernels.protocol.Stretches`."""

    lanes: Sequence[Lane]
    first: int

    def lane(self, number: int) -> _Lane:
        """See the protocol."""
        return _Lane(self.lanes[number], self.first)


@dataclass(frozen=True)
class _Lane:
    lane: Lane
    first: int

    def __getitem__(self, where: slice) -> Array:
        return self.lane.read(self.first + where.start, self.first + where.stop)
