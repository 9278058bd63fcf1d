"""What L-BFGS takes for the inverse of the Hessian before its pairs correct it, for a single model.

First the diagonal of `h S + 2 λ I`, S the samples' second moments about their mean and h the loss's curvature at
logits of 0: it costs one look at the samples. Later, if it is worth its cost, `A^-1 ⊗ (S + 2 λ / a I)^-1` at the point
reached, A ⊗ S the Kronecker product that describes the Hessian there (`conditioning`) and a the mean of A's
eigenvalues: two small products a step, and a third fewer steps (measured: 1,000 x 300, 10 classes, 30 iterations where
the diagonal takes 45). Pairs are of the weights, so they stay as the metric changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.solvers.lbfgs.trials import Goal
from gpureg.types import Floats

MOST_FACTORISED = 2048  # features whose moments are worth a factor
SAVED, MOST_SAVED = 0.35, 0.6  # of the iterations to come, by the product: round samples, and correlated ones
USUAL = 44  # iterations of a softmax by the diagonal, to a gap of 1e-12 nats


@dataclass(frozen=True)
class Diagonal:
    """`g -> g * inverse`, `inverse (K * D,)`."""

    inverse: Floats

    @classmethod
    def of(cls, goal: Goal) -> Diagonal:
        """The diagonal at logits of 0."""
        diagonal = goal.curvature * (goal.model.squares() / goal.n)
        free = goal.centre is not None
        diagonal[: -1 if free else None] += 2.0 * goal.l2
        least = np.finfo(float).tiny
        diagonal = np.where(diagonal > least, diagonal, max(float(diagonal.max()), least))
        return cls(np.tile(1.0 / diagonal, goal.K))

    def __call__(self, g: Floats) -> Floats:
        """`(K * D,)`."""
        return g * self.inverse


@dataclass(frozen=True)
class Kronecker:
    """`G -> classes G features`, `classes (K, K)` and `features (D, D)`."""

    classes: Floats
    features: Floats

    @classmethod
    def of(cls, goal: Goal) -> Kronecker | None:
        """That at the point evaluated last; None if its probabilities are 0 and 1, or its moments have no factor."""
        from scipy.linalg.lapack import dpotrf, dpotri

        found = goal.model.kronecker()
        if found is None:
            return None
        A, S = found
        a, U = np.linalg.eigh(A)
        mean = float(np.trace(A)) / max(1, len(A) - goal.loss.shift_invariant)
        penalty = np.full(len(S), 2.0 * goal.l2)
        penalty[-1] *= goal.centre is None
        S.reshape(-1)[:: len(S) + 1] += penalty / mean + 1e-14 * S.diagonal()
        factor, failed = dpotrf(S, lower=1)
        inverse, failed = (S, failed) if failed else dpotri(factor, lower=1, overwrite_c=1)
        if failed or not np.isfinite(inverse).all():
            return None
        whole = np.tril(inverse)
        whole += np.tril(inverse, -1).T
        floor = max(2.0 * goal.l2 / max(float(np.mean(S.diagonal())), 1e-300), 1e-8 * mean)
        return cls((U / np.maximum(a, floor)) @ U.T, whole)

    def __call__(self, g: Floats) -> Floats:
        """`(K * D,)`."""
        G = g.reshape(len(self.classes), -1) @ self.features
        return (self.classes @ G if len(G) > 1 else G * self.classes[0, 0]).reshape(-1)


def build_iterations(n: int, D: int, K: int) -> float:
    """What `Kronecker.of` costs, in iterations over n samples: both in microseconds, measured on one core of Zen 4 with
    D up to 300 and K up to 100 (products of few columns run at a fraction of the rate of others).
    """
    if D > MOST_FACTORISED:
        return np.inf
    build = 80.0 + n * D**2 / 3.6e4 + D**3 / 1.5e4
    return build / (45.0 + 2.0 * n * D * K / (7.5e3 * K**0.23))
