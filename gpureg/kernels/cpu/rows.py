"""Samples as the NumPy twin stores them, cut into tiles: sorted by fold and class, or as they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.kernels.cpu.labels import Labels, MixedLabels, SortedLabels
from gpureg.kernels.protocol import Stretches
from gpureg.types import Array, Floats, Ints

Runs = tuple[tuple[int, int, int], ...]
TILE = 512  # rows: 512 x 785 float32 are 1.6 MB, about a core's second-level cache
LONG_TILE, LONG_BYTES, LEAST_TURNS = 1024, 7 << 19, 4  # of passes: 3 to 6% less time (D = 385 to 785, K = 10 to 1,000)
BARE_BYTES, FEWEST = 3 << 19, 32  # of a tile of bare rows, as long as it has that many of them


@dataclass(frozen=True)
class NumpyRows:
    """Samples sorted by (fold, class): `X (N, D)`, `y (N,)`, weights `(N, F)` or None; `rank (N,)` takes a sample's own
    index to its place here; `runs` are the stretches of one class, as (class, start, stop); `sample_weight (N,)` or
    None.

    `runs` None: bare rows, in their own order and without the column of ones, of which stretches are asked for.
    """

    X: Any
    y: Ints
    weights: Array | None
    rank: Ints | None
    runs: Runs | None
    sample_weight: Floats | None = None

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.y)

    def lane(self, number: int) -> Any:
        """What thread `number` takes its tiles from, `[start:stop]`."""
        return self.X if self.runs is not None else self.X.lane(number)

    def tile_of(self, features: int, itemsize: int) -> int:
        """The rows of a tile, for D features: fewer bare rows if these are long, since each thread has a copy."""
        if self.runs is not None:
            return TILE
        return max(FEWEST, min(TILE, BARE_BYTES // (max(1, features - 1) * itemsize)))

    def tile_of_pass(self, features: int, itemsize: int, lanes: int) -> int:
        """The same of a pass by that many threads: longer ones of many rows that are held, as many for each thread."""
        turns = -(-self.n // (lanes * LONG_TILE))
        if self.runs is None or turns < LEAST_TURNS or LONG_TILE * features * itemsize > LONG_BYTES:
            return self.tile_of(features, itemsize)
        return -(-self.n // (lanes * turns))


@dataclass(frozen=True)
class Chosen:
    """The samples `index` of others `(N, D - 1)`, gathered a tile at a time; see `Stretches`."""

    X: Array
    index: Ints

    def lane(self, number: int) -> Chosen:
        """See the protocol."""
        return self

    def __getitem__(self, where: slice) -> Array:
        return self.X[self.index[where]]


@dataclass(frozen=True)
class Whole:
    """All samples of an array `(N, D - 1)`; see `Stretches`."""

    X: Array

    def lane(self, number: int) -> Array:
        """See the protocol."""
        return self.X


def stretches(X: Array | Stretches) -> Stretches:
    """Bare samples as they are asked for."""
    return Whole(X) if isinstance(X, np.ndarray) else X


def runs_of(y: Ints) -> Runs:
    """Stretches of equal values, as (value, start, stop)."""
    edges = np.flatnonzero(np.diff(y)) + 1
    bounds = [0, *edges.tolist(), len(y)]
    return tuple((int(y[a]), a, b) for a, b in itertools.pairwise(bounds) if b > a)


def tiles_of(rows: NumpyRows, size: int) -> list[tuple[int, int, Labels]]:
    """Tiles of at most `size` rows, as (start, stop, the labels within)."""
    if rows.runs is not None:
        return [(start, stop, SortedLabels(runs)) for start, stop, runs in tile_runs(rows.runs, rows.n, size)]
    bounds = ((start, min(start + size, rows.n)) for start in range(0, rows.n, size))
    return [(start, stop, MixedLabels(rows.y[start:stop])) for start, stop in bounds]


def tile_runs(runs: Runs, n: int, size: int) -> Iterator[tuple[int, int, Runs]]:
    """Tiles of at most `size` of n rows, as (start, stop, the class runs within, relative to start)."""
    first = 0
    for start in range(0, n, size):
        stop = min(start + size, n)
        while runs[first][2] <= start:
            first += 1
        inside, number = [], first
        while number < len(runs) and runs[number][1] < stop:
            label, a, b = runs[number]
            inside.append((label, max(a, start) - start, min(b, stop) - start))
            number += 1
        yield start, stop, tuple(inside)
