"""One model on samples in float64: cost, gradient and curvature, where a pass takes microseconds.

Samples stay as they are, in any order: a centre is subtracted from the logits and from the gradient, and a bias has no
column. They are cut into tiles only for the threads, or where their logits exceed a core's cache by far (measured: a
product is not any faster on samples that are in it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from gpureg.kernels.cpu.copies import OFFSET, SMALLEST, Copies
from gpureg.kernels.cpu.curved_tile import CurvedTile, LogisticCurvedTile, SoftmaxCurvedTile
from gpureg.kernels.cpu.dual_model import DualOneModel
from gpureg.kernels.cpu.near_tile import NearTile
from gpureg.kernels.cpu.one_tile import FEW_COLUMNS, LogisticOneModelTile, OneModelTile, SoftmaxOneModelTile, Sums
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.types import Array, Floats, Ints

LOGITS_AT_ONCE = 1 << 20  # of a tile
AGAIN = 1 << 20  # elements of samples that products with few columns, one after the other, find in the last cache
WORTH_THREADS = 1 << 22  # multiply-adds of a product above which threads are worth starting (measured, K = 1 to 100)

T = TypeVar("T")
NEAR_FEATURES, NEAR_ELEMENTS = 64, 1 << 17  # of samples at least, whose copy in float32 is worth making
CURVED_ELEMENTS = 1 << 15  # of samples at least, whose copy for `CurvedOneModel` is in float32
ROUNDED = 1.0001  # times a sum of squares in float32 is at least the sum
SEEN = 16  # samples, of which the variances say whether features are far from 0

ShareOut = Callable[[int, Callable[[int], None]], None]
TILES: Mapping[Loss, type[OneModelTile]] = MappingProxyType(
    {Softmax(): SoftmaxOneModelTile, Logistic(): LogisticOneModelTile}
)
CURVED_TILES: Mapping[type[OneModelTile], Callable[[Any, Array], CurvedTile]] = MappingProxyType(
    {SoftmaxOneModelTile: SoftmaxCurvedTile, LogisticOneModelTile: LogisticCurvedTile}
)


class NumpyOneModel:
    """See `gpureg.kernels.one_model.OneModel`: samples `X (N, F)` in float64, in any order, with class indices `label
    (N,)`, and `weight (N,)` or None for 1; `centre (F,)` if there is a bias besides their weights, else None.
    """

    double = True

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
        self.tiles = [tile(X[at], label[at], None if weight is None else weight[at], K) for at in parts]
        self.share = share if shared else one_after_the_other
        self.length = np.inf  # at least `sqrt(Σ s x²)` about the centre, once that is known

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        w, bias = self.apart(W)
        cost, *slopes = self._sums(lambda tile: tile.value(w, bias))
        return float(cost), self.whole(slopes)

    def apart(self, W: Floats) -> tuple[Floats, Floats | None]:
        """Weights `(K, D)` for the samples as they are: those `(K, F)`, and the biases `(K,)` if there are any."""
        if self.centre is None:
            return W, None
        w = W[:, :-1]
        return w, W[:, -1] - w @ self.centre

    def whole(self, slopes: Sequence[Floats]) -> Floats:
        """The gradient `(K, D)` of those, in the weights and, if there are any, in the biases."""
        if self.centre is None:
            return slopes[0]
        slope, own = slopes
        gradient = np.empty((len(own), len(self.centre) + 1))
        np.subtract(slope, own[:, None] * self.centre, out=gradient[:, :-1])
        gradient[:, -1] = own
        return gradient

    def nearby(self) -> NearModel | None:
        """See the protocol."""
        F, single = self.tiles[0].X.shape[1], self._copies.dtype == np.float32
        worth = F >= NEAR_FEATURES and self._n * F >= NEAR_ELEMENTS
        return NearModel(self, self._copies.samples) if worth and single else None

    def curved(self) -> CurvedOneModel:
        """See the protocol."""
        return CurvedOneModel(self, self._copies.samples)

    def dual(self) -> DualOneModel | None:
        """See the protocol."""
        tile, moved = self.tiles[0], None
        if len(self.tiles) > 1 or not isinstance(tile, LogisticOneModelTile):
            return None
        X, m = tile.X, self.centre
        if X.size >= CURVED_ELEMENTS:
            if self.is_far(OFFSET):
                X, moved = (X - m).astype(np.float32), m
            else:
                X = X.astype(np.float32)
        found = DualOneModel(tile, X, moved, m)
        if X.dtype == np.float32 and not SMALLEST < float(found.squares.max()) < 1.0 / SMALLEST:
            return None
        total = found.squares.sum() if tile.weight is None else tile.weight @ found.squares
        self.length = float(np.sqrt(ROUNDED * total))
        return found

    def is_far(self, limit: float) -> bool:
        """Whether some feature's centre is further from 0 than a number of standard deviations, about it, of samples
        here and there.
        """
        return self.centre is not None and bool((self.centre**2 > limit**2 * self._variances).any())

    @cached_property
    def _variances(self) -> Floats:
        X, weight = self.tiles[0].X, self.tiles[0].weight
        if weight is not None and (heavy := np.flatnonzero(weight >= 0.5 * weight.mean())).size:
            rows = heavy[:: max(1, len(heavy) // SEEN)]  # the others have less than half of the total
            some, own = X[rows] - self.centre, weight[rows]
            return np.asarray(own @ (some * some) / own.sum())
        some = X[:: max(1, len(X) // SEEN)] - self.centre
        return np.asarray(np.einsum("ij,ij->j", some, some) / len(some))

    def curvature(self) -> Floats:
        """See the protocol."""
        return self._sums(lambda tile: (tile.curvature(self.centre),))[0]

    def squares(self) -> Floats:
        """See the protocol."""
        return self._copies.squares.copy()

    @cached_property
    def _copies(self) -> Copies:
        """In float32, if that saves something and nothing is lost."""
        if self._n * self.tiles[0].X.shape[1] >= CURVED_ELEMENTS:
            copies = Copies(self.tiles, self.centre, self.share, np.dtype(np.float32))
            if copies.fit:
                return copies
        return Copies(self.tiles, self.centre, self.share, np.dtype(np.float64))

    @property
    def _n(self) -> int:
        return sum(len(tile.X) for tile in self.tiles)

    def kronecker(self) -> tuple[Floats, Floats] | None:
        """See the protocol."""
        own, S, mass = self._sums(lambda tile: tile.kronecker(self.centre))
        n = self._n
        return (own / n, S / mass) if mass > n * np.finfo(float).eps else None

    def biases(self) -> Floats:
        """`Σ_i s_i M_i` `(K, K)`, the Hessian in the biases, at the weights of the last `value`."""
        return self._sums(lambda tile: tile.spread()[:1])[0]

    def tilted(self, c: Floats) -> Floats:
        """There, `Σ_i s_i M_i c x_i'` `(K, F)` of `c (K,)`, about the centre."""
        found, total = self._sums(lambda tile: (tile.back(t := tile.tilted(c)), t.sum(axis=1)))
        return found if self.centre is None else np.asarray(found - total[:, None] * self.centre)

    def _sums(self, work: Callable[[OneModelTile], Sums]) -> Sums:
        return sums(self.tiles, self.share, work)


class NearModel:
    """See `gpureg.kernels.one_model.NearbyModel`."""

    def __init__(self, model: NumpyOneModel, copies: Sequence[Array]) -> None:
        self._model, self._share = model, model.share
        self._tiles = [NearTile(tile, X) for tile, X in zip(model.tiles, copies, strict=True)]
        self._at = self._slope = np.empty(0)

    def settle(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        w, bias = self._model.apart(W)
        cost, *slopes = sums(self._tiles, self._share, lambda tile: tile.settle(w, bias))
        self._at, self._slope = W, self._model.whole(slopes)
        return float(cost), self._slope.copy()

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        d = (W - self._at).astype(np.float32)
        cost, slope = sums(self._tiles, self._share, lambda tile: tile.value(d))
        return float(cost), self._slope + slope


class CurvedOneModel:
    """See `gpureg.kernels.one_model.CurvedModel`."""

    def __init__(self, model: NumpyOneModel, copies: Sequence[Array]) -> None:
        self._model, self._share, self.dtype = model, model.share, copies[0].dtype
        self._tiles = [CURVED_TILES[type(tile)](tile, X) for tile, X in zip(model.tiles, copies, strict=True)]
        self._slope: Any = 0.0  # where the point was settled
        self.bend = np.zeros(len(model.tiles[0].z))

    def start(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        _, bias = self._model.apart(W)
        cost, slope, self.bend = sums(self._tiles, self._share, lambda tile: tile.start(bias))
        self._slope = 0.0
        return float(cost), slope.astype(np.float64)

    def settle(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        w, bias = self._model.apart(W)
        cost, *slopes, self.bend = sums(self._tiles, self._share, lambda tile: tile.settle(w, bias))
        slope = self._model.whole(slopes)
        self._slope = slope.copy()
        return float(cost), slope

    def product(self, p: Array) -> Array:
        """See the protocol."""
        return sums(self._tiles, self._share, lambda tile: tile.product(p))[0]

    def extend(self, a: float) -> None:
        """See the protocol."""
        for tile in self._tiles:
            tile.extend(a)

    def trial(self, t: float) -> tuple[float, float]:
        """See the protocol."""
        cost, slope = sums(self._tiles, self._share, lambda tile: tile.trial(t))
        return float(cost), slope

    def along(self) -> float:
        """See the protocol."""
        return float(sums(self._tiles, self._share, lambda tile: (tile.along(),))[0])

    def move(self, t: float) -> Floats:
        """See the protocol."""
        change, self.bend = sums(self._tiles, self._share, lambda tile: tile.move(t))
        return np.asarray(self._slope + change, np.float64)


def sums(tiles: Sequence[T], share: ShareOut, work: Callable[[T], Sums]) -> Sums:
    """The sums of what the work on the tiles gives, in their order."""
    if len(tiles) == 1:
        return work(tiles[0])
    found: list[Any] = [None] * len(tiles)

    def task(number: int) -> None:
        found[number] = work(tiles[number])

    share(len(found), task)
    return tuple(sum(parts[1:], parts[0]) for parts in zip(*found, strict=True))


def one_after_the_other(count: int, task: Callable[[int], None]) -> None:
    """Every task in this thread."""
    for number in range(count):
        task(number)
