"""A tile of one model near a point V at which its logits and residuals are known in float64 (`one_tile`).

At `V + δ` the logits are those at V and, in float32, `x δ`; the gradient is that at V and, in float32, what the change
of the residuals adds. So only the change from V is rounded: near V that is as good as float64, at half the bytes.
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cpu.one_tile import OneModelTile, Sums, back, forth
from gpureg.types import Floats


class NearTile:
    """The samples of a tile in float32, less the `centre (F,)` if there is one."""

    def __init__(self, tile: OneModelTile, centre: Floats | None) -> None:
        self.tile, self.X = tile, np.empty(tile.X.shape, np.float32)
        np.subtract(tile.X, 0.0 if centre is None else centre, out=self.X, casting="same_kind")
        self.z, self.r = np.empty((2, *tile.z.shape))
        self.change = np.empty(tile.z.shape, np.float32)

    def settle(self, w: Floats, bias: Floats | None) -> Sums:
        """`OneModelTile.value`; what it finds is kept."""
        tile = self.tile
        tile.logits(w, bias)
        self.z[:] = tile.z
        cost, r = tile.residuals()
        self.r[:] = r
        return tile.slopes(cost, r, bias)

    def value(self, w: Floats, bias: Floats | None) -> Sums:
        """Cost, and the change of its gradient; `w (K, F)`, in float32, and `bias (K,)` are the change of the
        weights.
        """
        tile, change = self.tile, self.change
        forth(w, self.X, change)
        np.add(self.z, change, out=tile.z)
        if bias is not None:
            tile.z += bias[:, None]
        cost, r = tile.residuals()
        np.subtract(r, self.r, out=change, casting="same_kind")
        slope = back(change, self.X).astype(np.float64)
        return (cost, slope) if bias is None else (cost, slope, change.sum(axis=1, dtype=np.float64))
