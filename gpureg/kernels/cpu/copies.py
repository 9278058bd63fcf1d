"""The samples of tiles as a model uses them near a point: a second time, about their centre, mostly in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gpureg.kernels.cpu.one_tile import OneModelTile
from gpureg.types import Array, Floats

ELEMENTS_AT_ONCE = 1 << 19  # that are squared
SMALLEST = 1e-30  # a feature's mean square, and its inverse the largest: in float32 nothing overflows or vanishes
OFFSET = 4.0  # standard deviations of a centre from 0 above which samples are rounded after it is subtracted


@dataclass(frozen=True)
class Copies:
    """Of `tiles`: each one's samples `(b, D)` in `dtype`, with a `centre (F,)` less that, and a bias's ones after them.
    `share` runs a number of tasks in threads.
    """

    tiles: Sequence[OneModelTile]
    centre: Floats | None
    share: Callable[[int, Callable[[int], None]], None]
    dtype: Any

    @property
    def samples(self) -> list[Array]:
        """Those of every tile."""
        return self._made[0]

    @property
    def squares(self) -> Floats:
        """`Σ s x²` `(D,)`."""
        return self._made[1]

    @property
    def _n(self) -> int:
        return sum(len(tile.X) for tile in self.tiles)

    @cached_property
    def fit(self) -> bool:
        """Whether no square overflowed or vanished in float32."""
        total, n = self.squares, self._n
        small = np.flatnonzero(total < SMALLEST * n)
        offset = 0.0 if self.centre is None else self.centre[small]
        constant = not any((tile.X[:, small] != offset).any() for tile in self.tiles)
        return constant and bool((total < n / SMALLEST).all())

    @cached_property
    def _made(self) -> tuple[list[Array], Floats]:
        made = self._make(exact=False)
        if self.dtype == np.float32 and self.centre is not None:
            with np.errstate(all="ignore"):
                far = (self.centre**2 * self._n > OFFSET**2 * made[1][:-1]).any()
            if far:
                return self._make(exact=True)
        return made

    def _make(self, *, exact: bool) -> tuple[list[Array], Floats]:
        made: list[Any] = [None] * len(self.tiles)

        def make(number: int) -> None:
            tile = self.tiles[number]
            with np.errstate(all="ignore"):  # see `fit`
                X = _copied(tile.X, self.centre, self.dtype, exact=exact)
                made[number] = X, _squares(X, tile.weight)

        self.share(len(made), make)
        return [X for X, _ in made], sum(total for _, total in made)


def _copied(X: Array, centre: Floats | None, dtype: Any, *, exact: bool) -> Array:
    """`exact`: the differences are rounded, not the samples, which takes twice as long."""
    F = X.shape[1]
    own = np.empty((len(X), F + (centre is not None)), dtype)
    if centre is not None and exact:
        np.subtract(X, centre, out=own[:, :F], casting="same_kind")
    else:
        own[:, :F] = X
        own[:, F:] = 1.0
        if centre is not None:
            own -= np.append(centre, 0.0).astype(dtype)  # of whole rows: a part of them takes twice as long
    own[:, F:] = 1.0
    return own


def _squares(X: Array, weight: Floats | None) -> Floats:
    total = np.zeros(X.shape[1])
    step = max(1, ELEMENTS_AT_ONCE // X.shape[1])
    for start in range(0, len(X), step):
        some = X[start : start + step]
        total += np.einsum("ij,ij->j", some, some) if weight is None else weight[start : start + step] @ (some * some)
    return total
