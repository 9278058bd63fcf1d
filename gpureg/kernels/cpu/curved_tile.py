"""A tile of one model near a point, with its Hessian there as a product, and trials along a step that take no product
(`one_tile`).

The logits of a step are known once its product is: along it a trial costs what the losses cost, and the gradient at
its end half a pass. As in `near_tile` a point is known in float64, and what changes from there may be in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from gpureg.kernels.cpu.near_tile import NearTile
from gpureg.kernels.cpu.one_tile import LogisticOneModelTile, OneModelTile, SoftmaxOneModelTile, Sums, back, forth
from gpureg.kernels.cpu.parts import HELD, Parts
from gpureg.types import Array, Floats

HELD_ELEMENTS = 1 << 20  # logits of a step's parts, at most, before they are summed


class CurvedTile(NearTile, ABC):
    """A `NearTile` that also moves: `z` are the logits at the point, `r` the residuals where it was settled last."""

    def __init__(self, tile: OneModelTile, X: Array) -> None:
        super().__init__(tile, X)
        self.step = Parts(tile.z.shape, X.dtype, max(1, min(HELD, HELD_ELEMENTS // max(1, tile.z.size))))

    @abstractmethod
    def bend(self) -> Floats:
        """Keep the curvatures at the last evaluation, as M; returns `Σ s M_kk` `(K,)`."""
        ...

    @abstractmethod
    def turned(self, q: Array) -> Array:
        """`s M q` `(K, b)` of logits `(K, b)`."""
        ...

    @abstractmethod
    def along(self) -> float:
        """`Σ s q' M q` of the step's logits q, at the last trial."""
        ...

    def start(self, bias: Floats | None) -> Sums:
        """Cost, its gradient `(K, D)` and `bend` at weights of 0."""
        self.z[:] = 0.0 if bias is None else bias[:, None]
        self.tile.z[:] = self.z
        cost, r = self.tile.residuals()
        self.r[:] = 0.0
        return cost, *self._changed(r)

    def settle(self, w: Floats, bias: Floats | None) -> Sums:
        """`OneModelTile.value`, and `bend`; what is found is kept."""
        self.step.clear()
        return *super().settle(w, bias), self.bend()

    def product(self, p: Array) -> Sums:
        """The Hessian `Σ s M ⊗ x x'` at the point times `p (K, D)`."""
        q = self.step.following()
        forth(p, self.X, q)
        return (back(self.turned(q), self.X),)

    def extend(self, a: float) -> None:
        """The step is longer by a times the last p."""
        self.step.add(a)

    def trial(self, t: float) -> tuple[float, float]:
        """Cost and slope along the step, t times the step from the point."""
        return self.tile.trial(self.z, self.step.total(), t)

    def move(self, t: float) -> Sums:
        """To the last trial, at t: what the change of the residuals since they were settled adds to the gradient
        `(K, D)`, and `bend`.
        """
        self.z += t * self.step.total()
        return self._changed(self.tile.weighted())

    def _changed(self, r: Floats) -> Sums:
        np.subtract(r, self.r, out=self.change, casting="same_kind")
        self.step.clear()
        return back(self.change, self.X), self.bend()


class LogisticCurvedTile(CurvedTile):
    """`M = p (1 - p)`."""

    tile: LogisticOneModelTile

    def __init__(self, tile: LogisticOneModelTile, X: Array) -> None:
        super().__init__(tile, X)
        self.h = np.empty(len(X), X.dtype)

    def bend(self) -> Floats:
        """See `CurvedTile`."""
        h = self.tile.second()
        self.h[:] = h
        return h.sum(keepdims=True)

    def turned(self, q: Array) -> Array:
        """See `CurvedTile`."""
        return q * self.h

    def along(self) -> float:
        """See `CurvedTile`."""
        step = self.step.total()[0]
        return float((self.tile.second() * step) @ step)


class SoftmaxCurvedTile(CurvedTile):
    """`M = diag(p) - p p'`. Logits are taken from that of a sample's own class, which changes nothing: where p is
    nearly 1 there, its difference from 1 would be lost.
    """

    tile: SoftmaxOneModelTile

    def __init__(self, tile: SoftmaxOneModelTile, X: Array) -> None:
        super().__init__(tile, X)
        self.p = np.empty(tile.z.shape, X.dtype)
        self.sp: Any = self.p  # with the weights

    def bend(self) -> Floats:
        """See `CurvedTile`."""
        tile, p = self.tile, self.p
        np.abs(tile.z, out=p, casting="same_kind")
        p *= 1.0 - p  # of p or of 1 - p
        found = p.sum(axis=1, dtype=np.float64) if tile.weight is None else p @ tile.weight
        p[:] = tile.z
        p.reshape(-1)[tile.own] += 1
        self.sp = p if tile.weight is None else p * tile.weight.astype(p.dtype)
        return np.asarray(found)

    def turned(self, q: Array) -> Array:
        """See `CurvedTile`."""
        t = self._from_own(q)
        t -= np.einsum("kb,kb->b", self.p, t)
        t *= self.sp
        return t

    def along(self) -> float:
        """See `CurvedTile`."""
        step = self._from_own(self.step.total())
        first = self.tile.probabilities() * step
        second = np.einsum("kb,kb->b", first, step) - first.sum(axis=0) ** 2
        return float(second.sum() if self.tile.weight is None else second @ self.tile.weight)

    def _from_own(self, q: Array) -> Array:
        return np.asarray(q - np.take(q.reshape(-1), self.tile.own))
