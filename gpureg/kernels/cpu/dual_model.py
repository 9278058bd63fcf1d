"""One logistic model near a point `w = X' a`: a number a per sample, where samples are fewer than features.

What a step needs of the samples is then the product `X X' c` alone; all else is a number per sample. As in `near_tile`
a point that was settled is known in float64, and what changes from there may be in float32. Samples are about a centre,
which is subtracted from what is made of them where it is near 0: a copy of them takes as long as a few products.
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.cpu.one_tile import LogisticOneModelTile
from gpureg.types import Array, Floats

BIAS_STEPS, LEAST = 3, 1e-10  # of Newton's method, by which a bias is settled, and the shortest, in logits


class DualOneModel:
    """See `gpureg.kernels.one_model.DualModel`: a tile of all samples; `X (n, F)`, these in the type of the products,
    less `moved (F,)`; their `centre (F,)` if the bias is free, else None.
    """

    def __init__(self, tile: LogisticOneModelTile, X: Array, moved: Floats | None, centre: Floats | None) -> None:
        n, F = X.shape
        self.tile, self.centre, self.X, self.dtype = tile, centre, X, X.dtype
        self.rest = None if centre is None or moved is centre else centre.astype(X.dtype)
        self.squares = np.vecdot(X, X)
        if self.rest is not None:
            self.squares += float(self.rest @ self.rest) - 2.0 * (X @ self.rest)
            np.maximum(self.squares, 0.0, out=self.squares)
        self.v, self.step, self.z = np.empty(F, X.dtype), np.zeros(n), np.zeros(n)
        self.r = self.h = self.z

    def start(self, bias: float) -> float:
        """See the protocol."""
        self.z[:] = self.tile.z[:] = bias
        return self._seen()

    def settle(self, W: Floats, *, bias: bool) -> tuple[float, Floats, float]:
        """See the protocol."""
        tile, centre, w = self.tile, self.centre, W[:, : self.X.shape[1]]
        tile.logits(w, None if centre is None else W[:, -1] - w @ centre)
        self.z[:] = tile.z[0]
        cost = self._seen()
        if centre is None:
            return cost, tile.back(self.r[None]), 0.0
        found, own = float(W[0, -1]), float(self.r.sum())
        for _ in range(BIAS_STEPS if bias else 0):
            bend = float(self.h.sum())
            if not LEAST * bend < abs(own) < bend:
                break
            found -= own / bend
            self.z -= own / bend
            tile.z[0] = self.z
            cost, own = self._seen(), float(self.r.sum())
        return cost, np.append(tile.back(self.r[None])[0] - own * centre, own)[None], found

    def product(self, c: Array, out: Array) -> None:
        """See the protocol."""
        v = np.matmul(c, self.X, out=self.v)
        np.matmul(self.X, v, out=out)
        if self.rest is not None:
            out -= self.rest @ v

    def weights(self, a: Floats) -> Floats:
        """See the protocol."""
        c = a.astype(self.dtype)
        w = (c @ self.X).astype(np.float64)
        if self.rest is not None and self.centre is not None:
            w -= c.sum(dtype=np.float64) * self.centre
        return w

    def trial(self, t: float) -> tuple[float, float]:
        """See the protocol."""
        return self.tile.trial(self.z, self.step, t)

    def along(self) -> float:
        """See the protocol."""
        return float((self.tile.second() * self.step) @ self.step)

    def move(self, t: float) -> None:
        """See the protocol."""
        self.z += t * self.step
        self._keep(self.tile.weighted())

    def _seen(self) -> float:
        """The cost at the logits of the tile, where the point is now."""
        cost, r = self.tile.residuals()
        self._keep(r)
        return float(cost)

    def _keep(self, r: Floats) -> None:
        """The point's residuals and curvatures are those of the last evaluation."""
        self.r, self.h = r[0].copy(), self.tile.second()
