"""Samples as the NumPy twin stores them: sorted by fold and class, so that a class is a slice; cut into tiles."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from gpureg.types import Array, Floats, Ints

Runs = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class NumpyRows:
    """Samples sorted by (fold, class): `X (N, D)`, `y (N,)`, weights `(N, F)` or None; `rank (N,)` takes a sample's own
    index to its place here; `runs` are the stretches of one class, as (class, start, stop); `sample_weight (N,)` or
    None.
    """

    X: Array
    y: Ints
    weights: Array | None
    rank: Ints | None
    runs: Runs
    sample_weight: Floats | None = None

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.y)


def runs_of(y: Ints) -> Runs:
    """Stretches of equal values, as (value, start, stop)."""
    edges = np.flatnonzero(np.diff(y)) + 1
    bounds = [0, *edges.tolist(), len(y)]
    return tuple((int(y[a]), a, b) for a, b in itertools.pairwise(bounds) if b > a)


def tile_runs(rows: NumpyRows, size: int) -> list[tuple[int, int, Runs]]:
    """Tiles of at most `size` rows, as (start, stop, the class runs within, relative to start)."""
    tiles = []
    first = 0
    for start in range(0, rows.n, size):
        stop = min(start + size, rows.n)
        while rows.runs[first][2] <= start:
            first += 1
        inside, number = [], first
        while number < len(rows.runs) and rows.runs[number][1] < stop:
            label, a, b = rows.runs[number]
            inside.append((label, max(a, start) - start, min(b, stop) - start))
            number += 1
        tiles.append((start, stop, tuple(inside)))
    return tiles
