"""One model on samples in float64: cost, gradient and Hessian with buffers that are made once.

On few samples a pass takes microseconds, and what surrounds its products decides: this is the arithmetic of `tiles`
with nothing else around it. Samples that exceed a core's cache are taken in tiles, so that the product back finds them
there, and the tiles are shared among the threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from gpureg.kernels.cpu.rows import NumpyRows, Runs, tile_runs
from gpureg.types import Array, Floats

TILE_ELEMENTS = 1 << 17  # of samples in a tile: 1 MiB
WORTH_THREADS = 1 << 20  # multiply-adds of a product above which threads are worth starting
ELEMENTS_AT_ONCE = 1 << 16  # of the factors of a Hessian's product: half a MiB, a core's cache

ShareOut = Callable[[int, Callable[[int], None]], None]


class OneModelTile(ABC):
    """Samples `X (b, D)` sorted by class, the stretches of one class, and their weights `(b,)` or None for 1."""

    def __init__(self, X: Array, runs: Runs, weight: Floats | None, K: int) -> None:
        self.X, self.runs, self.weight, self.K = X, runs, weight, K
        self.z, self.scratch = np.empty((K, len(X))), np.empty((2, len(X)))
        self.absent = None if weight is None or weight.all() else weight == 0

    @abstractmethod
    def losses(self) -> Floats:
        """Turn the logits `z (K, b)` into residuals in place; returns the losses `(b,)`, which may be overwritten."""
        ...

    @abstractmethod
    def curvature(self) -> Floats:
        """The Hessian `(K*D, K*D)` of the tile's cost at the weights of its last `value`."""
        ...

    def value(self, W: Floats) -> tuple[float, Floats]:
        """Cost and gradient `(K, D)` at weights `(K, D)`."""
        np.matmul(W, self.X.T, out=self.z)
        losses = self.losses()
        if self.weight is None:
            return float(losses.sum()), self.z @ self.X
        if self.absent is not None:  # whatever these cost
            losses[self.absent], self.z[:, self.absent] = 0.0, 0.0
        return float(self.weight @ losses), (self.z * self.weight) @ self.X


class SoftmaxOneModelTile(OneModelTile):
    """Those of `losses.Softmax`."""

    def losses(self) -> Floats:
        """See `OneModelTile`."""
        z, (top, own) = self.z, self.scratch
        z -= np.maximum.reduce(z, axis=0, out=top)
        for label, a, b in self.runs:
            own[a:b] = z[label, a:b]
        np.exp(z, out=z)
        total = np.add.reduce(z, axis=0, out=top)
        z /= total
        for label, a, b in self.runs:
            z[label, a:b] -= 1.0
        np.log(total, out=total)
        return np.subtract(total, own, out=total)

    def curvature(self) -> Floats:
        """`Σ s (diag(p) - p p') ⊗ x x'`: with `f = sqrt(s) p ⊗ x`, the second term is f'f."""
        K, D = self.K, self.X.shape[1]
        p = self.z.copy()
        for label, a, b in self.runs:
            p[label, a:b] += 1.0
        own, outer = np.zeros((K * D, D)), np.zeros((K * D, K * D))
        step = max(1, ELEMENTS_AT_ONCE // (K * D))
        for start in range(0, len(self.X), step):
            rows = slice(start, start + step)
            X, some, root = self.X[rows], p[:, rows], None
            if self.weight is not None:
                root = np.sqrt(self.weight[rows])
                some = some * root
            f = (some.T[:, :, None] * X[:, None, :]).reshape(len(X), K * D)
            own += f.T @ (X if root is None else X * root[:, None])
            outer += f.T @ f
        blocks = -outer.reshape(K, D, K, D)
        blocks[np.arange(K), :, np.arange(K), :] += own.reshape(K, D, D)
        return blocks.reshape(K * D, K * D)


class LogisticOneModelTile(OneModelTile):
    """Those of `losses.Logistic`."""

    def losses(self) -> Floats:
        """See `OneModelTile`; `max(m, 0) + log(1 + exp(-|m|))`, m = -z for the positive class and z for the other."""
        m, (small, loss) = self.z[0], self.scratch
        for label, a, b in self.runs:
            if label == 0:
                np.negative(m[a:b], out=m[a:b])
        np.abs(m, out=small)
        np.negative(small, out=small)
        np.exp(small, out=small)
        np.log1p(small, out=loss)
        loss += np.maximum(m, 0.0)
        residual = np.where(m >= 0.0, 1.0, small)  # times 1 / (1 + small): σ(m)
        small += 1.0
        np.divide(residual, small, out=m)
        for label, a, b in self.runs:
            if label == 0:
                np.negative(m[a:b], out=m[a:b])
        return loss

    def curvature(self) -> Floats:
        """`Σ s p (1 - p) x x'`."""
        r = np.abs(self.z[0])
        d = r * (1.0 - r)
        f = self.X * np.sqrt(d if self.weight is None else d * self.weight)[:, None]
        return np.asarray(f.T @ f)


class NumpyOneModel:
    """See `gpureg.kernels.protocol.OneModel`; `weight (N,)` the samples' weights in storage order, None for 1."""

    def __init__(
        self, tile: type[OneModelTile], K: int, rows: NumpyRows, weight: Floats | None, lanes: int, share: ShareOut
    ) -> None:
        D = rows.X.shape[1]
        size, shared = max(1, TILE_ELEMENTS // D), lanes > 1 and rows.n * D * K >= WORTH_THREADS
        size = min(size, -(-rows.n // lanes)) if shared else size
        self._tiles = [
            tile(rows.X[a:b], runs, None if weight is None else weight[a:b], K) for a, b, runs in tile_runs(rows, size)
        ]
        self._share = share if shared else _one_after_the_other

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        costs, gradients = zip(*self._each(lambda tile: tile.value(W)), strict=True)
        return sum(costs), sum(gradients[1:], gradients[0])

    def curvature(self) -> Floats:
        """See the protocol."""
        found = self._each(lambda tile: tile.curvature())
        return np.asarray(sum(found[1:], found[0]))

    def _each(self, work: Callable[[OneModelTile], Any]) -> list[Any]:
        """The work on every tile, in their order."""
        found: list[Any] = [None] * len(self._tiles)

        def task(number: int) -> None:
            found[number] = work(self._tiles[number])

        self._share(len(found), task)
        return found


def _one_after_the_other(count: int, task: Callable[[int], None]) -> None:
    for number in range(count):
        task(number)
