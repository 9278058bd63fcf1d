"""A tile of one model near a point V at which its logits and residuals are known in float64 (`one_tile`).

At `V + δ` the logits are those at V and, in float32, `x δ`; the gradient is that at V and, in float32, what the change
of the residuals adds. So only the change from V is rounded: near V that is as good as float64, at half the bytes.
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cpu.one_tile import OneModelTile, Sums, back, forth
from gpureg.types import Array, Floats


class NearTile:
    """A tile with its samples `(b, D)` in the type of the products, as `copies` makes them."""

    def __init__(self, tile: OneModelTile, X: Array) -> None:
        self.tile, self.X = tile, X
        self.z, self.r = np.empty((2, *tile.z.shape))
        self.change = np.empty(tile.z.shape, X.dtype)

    def settle(self, w: Floats, bias: Floats | None) -> Sums:
        """`OneModelTile.value`; what it finds is kept."""
        tile = self.tile
        tile.logits(w, bias)
        self.z[:] = tile.z
        cost, r = tile.residuals()
        self.r[:] = r
        return tile.slopes(cost, r, bias)

    def value(self, d: Array) -> Sums:
        """Cost, and the change of its gradient `(K, D)`, if the weights have changed by `d (K, D)`, in float32."""
        tile, change = self.tile, self.change
        forth(d, self.X, change)
        np.add(self.z, change, out=tile.z)
        cost, r = tile.residuals()
        np.subtract(r, self.r, out=change, casting="same_kind")
        return cost, back(change, self.X)
