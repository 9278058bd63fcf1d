"""Samples with fewer rows than features, expressed in the span of the rows.

With a penalty the optimum lies in that span: `w = X_c' a`, X_c the samples less a centre (where the bias is free; any
centre serves, since the residuals of an optimum sum to 0). The Gram matrix `G = X_c X_c'` has the pivoted Cholesky
factorisation `P G P' = L L'` of rank r. Then `V = X_c' P' L_r^-T` has orthonormal columns, `X_c V = P' L`, and with
`w = V u` both the logits and `λ ||w||²` are those of r features: the problem is the same, for every λ, fold and class,
and the number of features hardly matters. Both are made in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from gpureg.kernels.protocol import Kernels
from gpureg.rows.samples import CsrSamples
from gpureg.types import Array, Floats, Ints

RANK = 1e-13  # of the trace of the Gram matrix: what is left of a row below it is rounding
ELEMENTS_AT_ONCE = 1 << 21  # of float64 in a block of features
FEW_ROWS = 512  # whose factorisation takes no threads


class Features(Protocol):
    """The features of N samples as a basis takes them, in float64 on the host, less a `centre (F,)`: then the last
    column, a free bias, is left out; None for nothing, and all D columns.
    """

    @property
    def n(self) -> int:
        """N."""
        ...

    def gram(self, centre: Floats | None) -> Floats:
        """`X_c X_c'` `(N, N)`."""
        ...

    def combined(self, a: Floats, centre: Floats | None) -> Floats:
        """`X_c' a` `(F, C)` of `a (N, C)`."""
        ...

    def logits(self, W: Floats, centre: Floats | None) -> Floats:
        """`X_c W` `(N, C)` of `W (F, C)`."""
        ...


@dataclass(frozen=True)
class DenseFeatures:
    """Those of `X (N, D)` on the device, some features at a time."""

    kernels: Kernels
    X: Array

    @property
    def n(self) -> int:
        """See the protocol."""
        return int(self.X.shape[0])

    def gram(self, centre: Floats | None) -> Floats:
        """See the protocol."""
        xp, total = self.kernels.backend.xp, 0.0
        for _, X in self._parts(centre):
            total = total + xp.matmul(X, xp.matrix_transpose(X))
        return np.array(self.kernels.to_host(total), order="F")  # sync

    def combined(self, a: Floats, centre: Floats | None) -> Floats:
        """See the protocol."""
        xp, there = self.kernels.backend.xp, self.kernels.backend.from_host(a)
        parts = [xp.matmul(xp.matrix_transpose(X), there) for _, X in self._parts(centre)]
        return np.concatenate([self.kernels.to_host(part) for part in parts])  # sync

    def logits(self, W: Floats, centre: Floats | None) -> Floats:
        """See the protocol."""
        backend, total = self.kernels.backend, 0.0
        for some, X in self._parts(centre):
            total = total + backend.xp.matmul(X, backend.from_host(np.ascontiguousarray(W[some])))
        return np.asarray(self.kernels.to_host(total))  # sync

    def _parts(self, centre: Floats | None) -> Iterator[tuple[slice, Array]]:
        """X_c in float64, some features at a time: the slice, and `(N, f)` on the device."""
        xp = self.kernels.backend.xp
        F = self.X.shape[1] if centre is None else len(centre)
        size = max(1, ELEMENTS_AT_ONCE // self.X.shape[0])
        for start in range(0, F, size):
            some = slice(start, min(start + size, F))
            part = xp.astype(self.X[:, some], xp.float64)
            yield some, part if centre is None else part - self.kernels.backend.from_host(centre[None, some])


@dataclass(frozen=True)
class CsrFeatures:
    """Those of sparse samples; what is subtracted from them is never made part of them."""

    samples: CsrSamples

    @property
    def n(self) -> int:
        """See the protocol."""
        return self.samples.n

    def gram(self, centre: Floats | None) -> Floats:
        """See the protocol."""
        X, shift, ones = self._terms(centre)
        cross = X @ shift
        found = (X @ X.T).toarray() - cross[:, None] - cross + (shift @ shift + ones)
        return np.asfortranarray(found)

    def combined(self, a: Floats, centre: Floats | None) -> Floats:
        """See the protocol."""
        X, shift, ones = self._terms(centre)
        found = X.T @ a - shift[:, None] * a.sum(axis=0)
        return np.concatenate([found, a.sum(axis=0)[None, :]]) if ones else np.asarray(found)

    def logits(self, W: Floats, centre: Floats | None) -> Floats:
        """See the protocol."""
        X, shift, ones = self._terms(centre)
        F = X.shape[1]
        return np.asarray(X @ np.ascontiguousarray(W[:F]) - shift @ W[:F] + (W[F] if ones else 0.0))

    def _terms(self, centre: Floats | None) -> tuple[Any, Floats, float]:
        """X in float64, what is subtracted from its rows `(F,)`, and 1 if a column of ones counts among the features,
        else 0.
        """
        own, shift = self.samples, np.zeros(self.samples.X.shape[1])
        shift = shift if own.shift is None else shift + own.shift
        ones = float(own.bias and centre is None)
        return own.X.astype(np.float64, copy=False), shift if centre is None else shift + centre, ones


@dataclass(frozen=True)
class Basis:
    """The orthonormal basis V of the rows' span, by its factors.

    `samples` are the rows, `centre (F,)` what X_c is without, or None for nothing (then there is no free bias, and the
    bias column, if there is one, is among the F features). `pivots (r,)` are the rows that span the others, `inverse
    (r, r)` is that of their factor, `L_r^-1`.
    """

    samples: Features
    centre: Floats | None
    pivots: Ints
    inverse: Floats

    def outside(self, weights: Floats) -> Floats:
        """Weights `(L, r, K)` for the samples' own features, `(L, F, K)`; a free bias is one more row of both."""
        L, r, K = len(weights), len(self.pivots), weights.shape[2]
        inner = np.moveaxis(weights[:, :r], 1, 0).reshape(r, L * K)
        spread = np.zeros((self.samples.n, L * K))
        spread[self.pivots] = self.inverse.T @ inner
        found = np.moveaxis(self.samples.combined(spread, self.centre).reshape(-1, L, K), 1, 0)
        if self.centre is None:
            return found
        bias = weights[:, r:] - np.einsum("f,lfk->lk", self.centre, found)[:, None, :]
        return np.concatenate([found, bias], axis=1)

    def inside(self, weights: Floats) -> Floats:
        """The part of weights `(L, F, K)` that lies in the span: the inverse of `outside`."""
        L, K, F = len(weights), weights.shape[2], weights.shape[1] - (self.centre is not None)
        outer = np.moveaxis(weights[:, :F], 1, 0).reshape(F, L * K)
        logits = self.samples.logits(outer, self.centre)[self.pivots]
        found = np.moveaxis((self.inverse @ logits).reshape(-1, L, K), 1, 0)
        if self.centre is None:
            return found
        bias = weights[:, F:] + np.einsum("f,lfk->lk", self.centre, weights[:, :F])[:, None, :]
        return np.concatenate([found, bias], axis=1)


def basis_of(samples: Features, centre: Floats | None) -> tuple[Basis, Floats]:
    """The basis of the rows' span, and the samples in it, `(N, r)` float64 on the host; with a `centre (F,)` the last
    column is a free bias, which is left out.
    """
    from scipy.linalg.lapack import dpstrf, dtrtri

    G = samples.gram(centre)
    # SciPy has its own BLAS, whose threads would fight with NumPy's; to look for it takes milliseconds
    with threadpool_limits(1, user_api="blas") if samples.n > FEW_ROWS else nullcontext():
        factor, order, rank, _ = dpstrf(G, lower=1, tol=RANK * float(np.trace(G)), overwrite_a=1)
        rank = max(1, int(rank))
        lower, place = np.tril(factor)[:, :rank], order.astype(np.int64) - 1
        inverse, _ = dtrtri(lower[:rank], lower=1)
    inside = np.empty((samples.n, rank))
    inside[place] = lower
    return Basis(samples, centre, place[:rank], inverse), inside
