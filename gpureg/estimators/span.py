"""Few samples of many features in their span, where a single model is as small as they are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.types import Floats

JITTER = 1e-14  # of the trace of a Gram matrix: keeps the factor of one that has no inverse


@dataclass(frozen=True)
class Span:
    """Few rows `X (n, F)` less their centre in an orthonormal basis of their span: `rows (n, n)` is the factor L of
    their Gram matrix, and `w = X' L'^-1 u` (`rows.span`; here without a rank, for one penalty above 0).
    """

    X: Floats
    centre: Floats | None
    rows: Floats

    @classmethod
    def of(cls, X: Floats, centre: Floats | None) -> Span | None:
        """None if the Gram matrix has no factor."""
        from scipy.linalg.lapack import dpotrf

        G = X @ X.T
        if centre is not None:
            t = X @ centre
            G -= t
            G -= t[:, None] - float(centre @ centre)
        G.reshape(-1)[:: len(G) + 1] += JITTER * float(np.trace(G))
        factor, failed = dpotrf(G, lower=1, clean=1, overwrite_a=1)
        return None if failed else cls(X, centre, np.ascontiguousarray(factor))

    def outside(self, u: Floats) -> Floats:
        """The point `(K, D)` of one in the span `(K, n)`, a bias as it is after both."""
        from scipy.linalg.lapack import dtrtrs

        n = len(self.rows)
        a, _ = dtrtrs(self.rows, u[:, :n].T, lower=1, trans=1)
        w = a.T @ self.X
        if self.centre is None:
            return w
        return np.concatenate([w - a.sum(axis=0)[:, None] * self.centre, u[:, n:]], axis=1)

    def inside(self, V: Floats) -> Floats:
        """The part of a point that lies in the span."""
        from scipy.linalg.lapack import dtrtrs

        n, F = self.X.shape
        if not V[:, :F].any():
            return np.concatenate([np.zeros((len(V), n)), V[:, F:]], axis=1)
        logits = V[:, :F] @ self.X.T
        if self.centre is not None:
            logits -= (V[:, :F] @ self.centre)[:, None]
        u, _ = dtrtrs(self.rows, logits.T, lower=1)
        return np.concatenate([u.T, V[:, F:]], axis=1)
