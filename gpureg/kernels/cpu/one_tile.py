"""One model on a tile of samples in float64: its part of the sums of `one_model`, with buffers that are made once.

This is the arithmetic of `tiles` with nothing else around it: on few samples a pass takes microseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpureg.types import Array, Floats, Ints

FEW_COLUMNS = 3  # the BLAS takes longer for a product of a matrix and this many vectors than for one after the other
LONG = 64  # features from which the product back is faster with the samples as its left factor
ELEMENTS_AT_ONCE = 1 << 16  # that are copied: half a MiB, a core's cache

Sums = tuple[Any, ...]  # arrays and numbers that are added up over the tiles


def forth(W: Array, X: Array, out: Array) -> None:
    """`W X'` `(K, b)` of `W (K, F)`, in samples `X (b, F)`."""
    if 1 < len(W) <= FEW_COLUMNS:
        for w, z in zip(W, out, strict=True):
            np.matmul(X, w, out=z)
    else:
        np.matmul(W, X.T, out=out)


def back(r: Array, X: Array) -> Array:
    """`r X` `(K, F)` of `r (K, b)`."""
    if 1 < len(r) <= FEW_COLUMNS:
        return np.stack([row @ X for row in r])
    return np.asarray((X.T @ r.T).T if X.shape[1] >= LONG and len(r) > 1 else r @ X)


class OneModelTile(ABC):
    """Samples `X (b, F)`, their class indices `(b,)`, and their weights `(b,)` or None for 1."""

    def __init__(self, X: Array, label: Ints, weight: Floats | None, K: int) -> None:
        self.X, self.label, self.weight, self.K = X, label, weight, K
        self.z, self.scratch = np.empty((K, len(X))), np.empty((2, len(X)))
        self.absent = None if weight is None or weight.all() else weight == 0

    @abstractmethod
    def losses(self) -> Floats:
        """Turn the logits `z (K, b)` into residuals in place; returns the losses `(b,)`, which may be overwritten."""
        ...

    @abstractmethod
    def curvature(self, centre: Floats | None) -> Floats:
        """The Hessian `(K*D, K*D)` of the tile's cost at the weights of its last `value`; see `samples`."""
        ...

    @abstractmethod
    def spread(self) -> tuple[Floats, Floats]:
        """There, of `M_i = diag(p) - p p'` of the samples: `Σ s M (K, K)`, and the traces `(b,)` of `s M`."""
        ...

    @abstractmethod
    def tilted(self, c: Floats) -> Floats:
        """There, `s M c` `(K, b)` of `c (K,)`."""
        ...

    def value(self, W: Floats, bias: Floats | None) -> Sums:
        """Cost, its gradient `(K, F)` in the weights `W (K, F)`, and that in the biases `(K,)` if there are any."""
        self.logits(W, bias)
        return self.slopes(*self.residuals(), bias)

    def logits(self, W: Floats, bias: Floats | None) -> None:
        """Set z to those of the weights `(K, F)` and the biases `(K,)`, None for 0."""
        if W.any():
            forth(W, self.X, self.z)
        else:  # at the beginning
            self.z[:] = 0.0
        if bias is not None:
            self.z += bias[:, None]

    def residuals(self) -> tuple[float, Floats]:
        """Cost and residuals `(K, b)`, both weighted, of the logits in z, which become residuals without weights."""
        losses = self.losses()
        if self.weight is None:
            return losses.sum(), self.z
        if self.absent is not None:  # whatever these cost
            losses[self.absent], self.z[:, self.absent] = 0.0, 0.0
        losses *= self.weight
        return losses.sum(), self.weighted()

    def weighted(self) -> Floats:
        """The weighted residuals `(K, b)` of the last evaluation, which the next one may overwrite."""
        return self.z if self.weight is None else self.z * self.weight

    def trial(self, z: Floats, step: Floats, t: float) -> tuple[float, float]:
        """Cost, and its derivative in t, at logits `z + t step`: both `(K, b)` or, of one column, `(b,)`."""
        np.multiply(step, t, out=self.z)
        self.z += z
        cost, r = self.residuals()
        return cost, float(np.vdot(r, step))

    def slopes(self, cost: float, r: Floats, bias: Floats | None) -> Sums:
        """What `value` returns of a cost and residuals `(K, b)`."""
        return (cost, self.back(r)) if bias is None else (cost, self.back(r), r.sum(axis=1))

    def back(self, r: Floats) -> Floats:
        """`r X` `(K, F)` of `r (K, b)`."""
        return back(r, self.X)

    def samples(self, centre: Floats | None, rows: slice = slice(None)) -> Floats:
        """The samples as they are or, with a `centre (F,)`, less that, a bias's ones after them; `(b, D)`."""
        if centre is None:
            return self.X[rows]
        own = np.empty((len(self.X[rows]), len(centre) + 1))
        np.subtract(self.X[rows], centre, out=own[:, :-1])
        own[:, -1] = 1.0
        return own

    def kronecker(self, centre: Floats | None) -> Sums:
        """`Σ s M (K, K)`, `Σ s u x x' (D, D)` with u the trace of M, and `Σ s u`."""
        own, u = self.spread()
        root, S = np.sqrt(u), np.zeros((self._width(centre), self._width(centre)))
        for rows in self._stretches():
            f = self.samples(centre, rows) * root[rows, None]
            S += f.T @ f
        return own, S, u.sum()

    def _width(self, centre: Floats | None) -> int:
        """D of the samples as they are, or less their centre and with a bias's ones."""
        return int(self.X.shape[1]) + (centre is not None)

    def _stretches(self) -> Iterator[slice]:
        """The samples, as many at a time as a core's cache holds."""
        step = max(1, ELEMENTS_AT_ONCE // max(1, self.X.shape[1]))
        return (slice(start, start + step) for start in range(0, len(self.X), step))


class SoftmaxOneModelTile(OneModelTile):
    """Those of `losses.Softmax`."""

    def __init__(self, X: Array, label: Ints, weight: Floats | None, K: int) -> None:
        super().__init__(X, label, weight, K)
        self.own = label * len(X) + np.arange(len(X))  # the place of a sample's own class in z
        self.flat = self.z.reshape(-1)

    def losses(self) -> Floats:
        """See `OneModelTile`."""
        z, (top, own) = self.z, self.scratch
        z -= np.maximum.reduce(z, axis=0, out=top)
        np.take(self.flat, self.own, out=own, mode="clip")
        np.exp(z, out=z)
        total = np.add.reduce(z, axis=0, out=top)
        z /= total
        self.flat[self.own] -= 1.0
        np.log(total, out=total)
        return np.subtract(total, own, out=total)

    def probabilities(self) -> Floats:
        """There, `(K, b)`."""
        p = self.z.copy()
        p.reshape(-1)[self.own] += 1.0
        return p

    def spread(self) -> tuple[Floats, Floats]:
        """See `OneModelTile`."""
        p = self.probabilities()
        u = np.maximum(p.sum(axis=0) - (p * p).sum(axis=0), 0.0)
        q = p if self.weight is None else p * self.weight
        own = -(q @ p.T)
        own[np.diag_indices(self.K)] += q.sum(axis=1)
        return own, u if self.weight is None else u * self.weight

    def tilted(self, c: Floats) -> Floats:
        """See `OneModelTile`."""
        p = self.probabilities()
        t = p * (c[:, None] - c @ p)
        return t if self.weight is None else t * self.weight

    def curvature(self, centre: Floats | None) -> Floats:
        """`Σ s (diag(p) - p p') ⊗ x x'`: with `f = sqrt(s) p ⊗ x`, the second term is f'f."""
        K, D = self.K, self._width(centre)
        p = self.probabilities()
        own, outer = np.zeros((K * D, D)), np.zeros((K * D, K * D))
        step = max(1, ELEMENTS_AT_ONCE // (K * D))
        for start in range(0, len(self.X), step):
            rows = slice(start, start + step)
            X, some, root = self.samples(centre, rows), p[:, rows], None
            if self.weight is not None:
                root = np.sqrt(self.weight[rows])
                some = some * root
            f = (some[:, None, :] * np.ascontiguousarray(X.T)).reshape(K * D, len(X))
            own += f @ (X if root is None else X * root[:, None])
            outer += f @ f.T
        blocks = -outer.reshape(K, D, K, D)
        blocks[np.arange(K), :, np.arange(K), :] += own.reshape(K, D, D)
        return blocks.reshape(K * D, K * D)


class LogisticOneModelTile(OneModelTile):
    """Those of `losses.Logistic`."""

    def __init__(self, X: Array, label: Ints, weight: Floats | None, K: int) -> None:
        super().__init__(X, label, weight, K)
        self.sign = np.where(label == 0, -1.0, 1.0)  # class 0 is positive: its loss falls with the logit

    def losses(self) -> Floats:
        """See `OneModelTile`; `max(m, 0) + log(1 + exp(-|m|))`, m = -z for the positive class and z for the other."""
        m, (small, loss) = self.z[0], self.scratch
        m *= self.sign
        np.abs(m, out=small)
        np.negative(small, out=small)
        np.exp(small, out=small)
        np.log1p(small, out=loss)
        loss += np.maximum(m, 0.0)
        residual = np.where(m >= 0.0, 1.0, small)  # times 1 / (1 + small): σ(m)
        small += 1.0
        np.divide(residual, small, out=m)
        m *= self.sign
        return loss

    def second(self) -> Floats:
        """There, `s p (1 - p)` `(b,)`."""
        r = np.abs(self.z[0])
        d = r * (1.0 - r)
        return d if self.weight is None else d * self.weight

    def spread(self) -> tuple[Floats, Floats]:
        """See `OneModelTile`."""
        u = self.second()
        return u.sum().reshape(1, 1), u

    def tilted(self, c: Floats) -> Floats:
        """See `OneModelTile`."""
        return (self.second() * c)[None, :]

    def curvature(self, centre: Floats | None) -> Floats:
        """`Σ s p (1 - p) x x'`."""
        return self.kronecker(centre)[1]
