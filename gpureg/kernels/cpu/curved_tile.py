"""A tile of a model of one column near a point, with its Hessian there as a product, and trials along a step that take
no product (`one_tile`).

The logits of a step are known once its product is: along it a trial costs what the losses cost, and the gradient at
its end half a pass. As in `near_tile` a point is known in float64, and what changes from there may be in float32.
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cpu.one_tile import LogisticOneModelTile, Sums
from gpureg.types import Array, Floats

HELD = 8  # logits of a step's parts before they are summed


class CurvedTile:
    """A tile with its samples `(b, D)` in the type of the products, as `copies` makes them."""

    def __init__(self, tile: LogisticOneModelTile, X: Array) -> None:
        self.tile, self.X = tile, X
        self.z, self.r = np.empty((2, len(X)))  # logits, and residuals where they were settled
        self.step, self.h, self.change = np.zeros((3, len(X)), X.dtype)
        self.Q = np.empty((HELD, len(X)), X.dtype)  # the logits of the last parts of the step, and their lengths
        self.lengths: list[float] = []

    def start(self, bias: Floats | None) -> Sums:
        """Cost, its gradient `(D,)` and the sum of the curvatures at weights of 0."""
        self.z[:] = 0.0 if bias is None else bias[0]
        self.tile.z[0] = self.z
        cost, _ = self.tile.residuals()
        self.r[:] = 0.0
        return cost, *self._changed()

    def settle(self, w: Floats, bias: Floats | None) -> Sums:
        """`OneModelTile.value`, and the sum of the curvatures; what is found is kept."""
        tile = self.tile
        tile.logits(w, bias)
        self.z[:] = tile.z[0]
        cost, r = tile.residuals()
        self.r[:] = r[0]
        return *tile.slopes(cost, r, bias), self._bend()

    def product(self, p: Array) -> Sums:
        """The Hessian `Σ s h x x'` at the point times `p (D,)`."""
        if len(self.lengths) == HELD:
            self._take()
        q = np.matmul(self.X, p, out=self.Q[len(self.lengths)])
        return ((self.h * q) @ self.X,)

    def extend(self, a: float) -> None:
        """The step is longer by a times the last p."""
        self.lengths.append(a)

    def trial(self, t: float) -> tuple[float, float, float]:
        """Cost, slope and curvature along the step, t times the step from the point."""
        if self.lengths:
            self._take()
        tile, step = self.tile, self.step
        z = np.multiply(step, t, out=tile.z[0])
        z += self.z
        cost, r = tile.residuals()
        h = tile.second()
        h *= step
        return cost, float(r[0] @ step), float(h @ step)

    def move(self, t: float) -> Sums:
        """To the last trial, at t: what the change of the residuals since they were settled adds to the gradient
        `(D,)`, and the sum of the curvatures.
        """
        self.z += t * self.step
        return self._changed()

    def _take(self) -> None:
        self.step += np.array(self.lengths, self.step.dtype) @ self.Q[: len(self.lengths)]
        self.lengths.clear()

    def _changed(self) -> Sums:
        tile = self.tile
        r = tile.z[0] if tile.weight is None else tile.z[0] * tile.weight
        np.subtract(r, self.r, out=self.change, casting="same_kind")
        return self.change @ self.X, self._bend()

    def _bend(self) -> float:
        h = self.tile.second()
        self.h[:] = h
        self.step[:] = 0.0
        return float(h.sum())
