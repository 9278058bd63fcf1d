"""Samples with fewer rows than features, expressed in the span of the rows.

With a penalty the optimum lies in that span: `w = X_c' a`, X_c the samples less a centre (where the bias is free; any
centre serves, since the residuals of an optimum sum to 0). The Gram matrix `G = X_c X_c'` has the pivoted Cholesky
factorisation `P G P' = L L'` of rank r. Then `V = X_c' P' L_r^-T` has orthonormal columns, `X_c V = P' L`, and with
`w = V u` both the logits and `λ ||w||²` are those of r features: the problem is the same, for every λ, fold and class,
and the number of features hardly matters. Both are made in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from gpureg.kernels.protocol import Kernels
from gpureg.types import Array, Floats, Ints

RANK = 1e-13  # of the trace of the Gram matrix: what is left of a row below it is rounding
ELEMENTS_AT_ONCE = 1 << 21  # of float64 in a block of features


@dataclass(frozen=True)
class Basis:
    """The orthonormal basis V of the rows' span, by its factors.

    `X (N, D)` are the samples on the device, `centre (F,)` what X_c is without, or None for nothing (then there is no
    free bias, and the bias column, if there is one, is among the F features). `pivots (r,)` are the rows that span the
    others, `inverse (r, r)` is that of their factor, `L_r^-1`.
    """

    kernels: Kernels
    X: Array
    centre: Floats | None
    pivots: Ints
    inverse: Floats

    def outside(self, weights: Floats) -> Floats:
        """Weights `(L, r, K)` for the samples' own features, `(L, F, K)`; a free bias is one more row of both."""
        L, r, K = len(weights), len(self.pivots), weights.shape[2]
        inner = np.moveaxis(weights[:, :r], 1, 0).reshape(r, L * K)
        spread = np.zeros((self.X.shape[0], L * K))
        spread[self.pivots] = self.inverse.T @ inner
        found = np.moveaxis(self._combined(spread).reshape(-1, L, K), 1, 0)
        if self.centre is None:
            return found
        bias = weights[:, r:] - np.einsum("f,lfk->lk", self.centre, found)[:, None, :]
        return np.concatenate([found, bias], axis=1)

    def inside(self, weights: Floats) -> Floats:
        """The part of weights `(L, F, K)` that lies in the span: the inverse of `outside`."""
        L, K, F = len(weights), weights.shape[2], weights.shape[1] - (self.centre is not None)
        logits = self._logits(np.moveaxis(weights[:, :F], 1, 0).reshape(F, L * K))[self.pivots]
        found = np.moveaxis((self.inverse @ logits).reshape(-1, L, K), 1, 0)
        if self.centre is None:
            return found
        bias = weights[:, F:] + np.einsum("f,lfk->lk", self.centre, weights[:, :F])[:, None, :]
        return np.concatenate([found, bias], axis=1)

    def _combined(self, spread: Floats) -> Floats:
        """`X_c' a` `(F, C)` of `a (N, C)`."""
        backend = self.kernels.backend
        xp, a = backend.xp, backend.from_host(spread)
        parts = [xp.matmul(xp.matrix_transpose(X), a) for _, X in _by_features(self.kernels, self.X, self.centre)]
        return np.concatenate([self.kernels.to_host(part) for part in parts])  # sync

    def _logits(self, outer: Floats) -> Floats:
        """`X_c W` `(N, C)` of `W (F, C)`."""
        backend = self.kernels.backend
        total: Array = 0.0
        for some, X in _by_features(self.kernels, self.X, self.centre):
            total = total + backend.xp.matmul(X, backend.from_host(np.ascontiguousarray(outer[some])))
        return np.asarray(self.kernels.to_host(total))  # sync


def basis_of(kernels: Kernels, X: Array, centre: Floats | None) -> tuple[Basis, Floats]:
    """The basis of the rows' span, and the samples in it, `(N, r)` float64 on the host.

    `X (N, D)` on the device; with a `centre (F,)` the last column is a free bias, which is left out.
    """
    from scipy.linalg.lapack import dpstrf, dtrtri

    xp, N = kernels.backend.xp, X.shape[0]
    gram: Array = 0.0
    for _, part in _by_features(kernels, X, centre):
        gram = gram + xp.matmul(part, xp.matrix_transpose(part))
    G = np.array(kernels.to_host(gram), order="F")  # sync
    with threadpool_limits(1, user_api="blas"):  # SciPy's BLAS is another than NumPy's: their threads would fight
        factor, order, rank, _ = dpstrf(G, lower=1, tol=RANK * float(np.trace(G)), overwrite_a=1)
        rank = max(1, int(rank))
        lower, place = np.tril(factor)[:, :rank], order.astype(np.int64) - 1
        inverse, _ = dtrtri(lower[:rank], lower=1)
    inside = np.empty((N, rank))
    inside[place] = lower
    return Basis(kernels, X, centre, place[:rank], inverse), inside


def _by_features(kernels: Kernels, X: Array, centre: Floats | None) -> Iterator[tuple[slice, Array]]:
    """X_c in float64, some features at a time: the slice, and `(N, f)` on the device."""
    xp = kernels.backend.xp
    F = X.shape[1] if centre is None else len(centre)
    size = max(1, ELEMENTS_AT_ONCE // X.shape[0])
    for start in range(0, F, size):
        some = slice(start, min(start + size, F))
        part = xp.astype(X[:, some], xp.float64)
        yield some, part if centre is None else part - kernels.backend.from_host(centre[None, some])
