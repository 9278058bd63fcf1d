"""One model on samples in float64: cost, gradient and curvature, where a pass takes microseconds.

Samples stay as they are, in any order: a centre is subtracted from the logits and from the gradient, and a bias has no
column. They are cut into tiles only for the threads, or where their logits exceed a core's cache by far (measured: a
product is not any faster on samples that are in it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from gpureg.kernels.cpu.one_tile import FEW_COLUMNS, LogisticOneModelTile, OneModelTile, SoftmaxOneModelTile, Sums
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.types import Array, Floats, Ints

LOGITS_AT_ONCE = 1 << 20  # of a tile
AGAIN = 1 << 20  # elements of samples that products with few columns, one after the other, find in the last cache
WORTH_THREADS = 1 << 20  # multiply-adds of a product above which threads are worth starting

ShareOut = Callable[[int, Callable[[int], None]], None]
TILES: Mapping[Loss, type[OneModelTile]] = MappingProxyType(
    {Softmax(): SoftmaxOneModelTile, Logistic(): LogisticOneModelTile}
)


class NumpyOneModel:
    """See `gpureg.kernels.protocol.OneModel`: samples `X (N, F)` in float64, in any order, with class indices `label
    (N,)`, and `weight (N,)` or None for 1; `centre (F,)` if there is a bias besides their weights, else None.
    """

    def __init__(
        self,
        loss: Loss,
        K: int,
        X: Array,
        label: Ints,
        weight: Floats | None,
        centre: Floats | None,
        lanes: int,
        share: ShareOut,
    ) -> None:
        self.centre = centre
        n, F = X.shape
        size, shared = max(1, LOGITS_AT_ONCE // K), lanes > 1 and n * F * K >= WORTH_THREADS
        if 1 < K <= FEW_COLUMNS:
            size = min(size, max(1, AGAIN // max(1, F)))
        size = min(size, -(-n // lanes)) if shared else size
        tile = TILES[loss]
        parts = [slice(start, start + size) for start in range(0, n, size)]
        self._tiles = [tile(X[at], label[at], None if weight is None else weight[at], K) for at in parts]
        self._share = share if shared else one_after_the_other

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        m = self.centre
        if m is None:
            cost, gradient = self._sums(lambda tile: tile.value(W, None))
            return float(cost), gradient
        w = W[:, :-1]
        cost, slope, own = self._sums(lambda tile: tile.value(w, W[:, -1] - w @ m))
        gradient = np.empty_like(W)
        np.subtract(slope, own[:, None] * m, out=gradient[:, :-1])
        gradient[:, -1] = own
        return float(cost), gradient

    def curvature(self) -> Floats:
        """See the protocol."""
        return self._sums(lambda tile: (tile.curvature(self.centre),))[0]

    def squares(self) -> Floats:
        """See the protocol."""
        return self._squares.copy()

    @cached_property
    def _squares(self) -> Floats:
        return self._sums(lambda tile: (tile.squares(self.centre),))[0]

    def kronecker(self) -> tuple[Floats, Floats] | None:
        """See the protocol."""
        own, S, mass = self._sums(lambda tile: tile.kronecker(self.centre))
        n = sum(len(tile.X) for tile in self._tiles)
        return (own / n, S / mass) if mass > n * np.finfo(float).eps else None

    def biases(self) -> Floats:
        """`Σ_i s_i M_i` `(K, K)`, the Hessian in the biases, at the weights of the last `value`."""
        return self._sums(lambda tile: tile.spread()[:1])[0]

    def tilted(self, c: Floats) -> Floats:
        """There, `Σ_i s_i M_i c x_i'` `(K, F)` of `c (K,)`, about the centre."""
        found, total = self._sums(lambda tile: (tile.back(t := tile.tilted(c)), t.sum(axis=1)))
        return found if self.centre is None else np.asarray(found - total[:, None] * self.centre)

    def _sums(self, work: Callable[[OneModelTile], Sums]) -> Sums:
        """The sums of what the work on the tiles gives, in their order."""
        found: list[Any] = [None] * len(self._tiles)

        def task(number: int) -> None:
            found[number] = work(self._tiles[number])

        self._share(len(found), task)
        if len(found) == 1:
            return tuple(found[0])
        return tuple(sum(parts[1:], parts[0]) for parts in zip(*found, strict=True))


def one_after_the_other(count: int, task: Callable[[int], None]) -> None:
    """Every task in this thread."""
    for number in range(count):
        task(number)
