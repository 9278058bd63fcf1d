"""How far an objective is from its optimum where the bias is free: a bound for a bias that is only nearly optimal.

With `F(w) = min_b J(w, b)`, as convex in w as the penalty,

    J(w, b) - J* <= δ + (||∇_w J|| + sqrt(2 R δ))² / (4 λ),    δ >= J(w, b) - F(w)

The second term is `gap_bound` of F at w: its gradient is that of J where the bias is optimal, and that differs from the
one at b by at most `sqrt(2 R δ)`, since the loss is R-smooth in weights about a centre c: `R = h Σ_i s_i ||x_i - c||² /
n`, h the largest second derivative of the loss in its logits. (Source: Nesterov, Lectures on Convex Optimization, 2018,
theorem 2.1.5.)

δ comes from the losses being self-concordant: along a change d of the biases their third derivative is at most ρ times
the second, `ρ = max d - min d` (`|d|` for one column). With `η² = g' H^-1 g`, g and H gradient and Hessian in the
biases, and `κ² = max ρ(d)² / d' H d`,

    δ = (r + (1 - r) log(1 - r)) / κ²,  r = κ η < 1

and none for r >= 1. (Source: Bach, Self-concordant analysis for logistic regression, 2010, proposition 1; for the
softmax since `E[(v - Ev)² (u - Eu)] <= range(u) Var v`.) After a step d the Hessian is at least `exp(-ρ)` of what it
was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpureg.types import Floats


@dataclass(frozen=True)
class BiasCurvature:
    """The Hessians in the free biases of A models from below: `inverse (A, K, K)` of them, on what changes anything.

    `widest (A,)`: κ². NaN where there is no inverse.
    """

    inverse: Floats
    widest: Floats

    @classmethod
    def of(cls, H: Floats, *, shift_invariant: bool) -> BiasCurvature:
        """Of Hessians `H (A, K, K)`; `shift_invariant`: an equal change of all biases changes nothing."""
        K = H.shape[1]
        scale = np.einsum("lii->l", H)[:, None, None] / K
        along = np.full((K, K), 1.0 / K) if shift_invariant else np.zeros((K, K))
        with np.errstate(all="ignore"):
            lifted = H + scale * along
            solvable = np.isfinite(lifted).all(axis=(1, 2)) & (np.linalg.eigvalsh(_finite(lifted))[:, 0] > 0.0)
            inverse = np.linalg.inv(np.where(solvable[:, None, None], lifted, np.eye(K))) - along / scale
            own = np.einsum("lii->li", inverse)
            widest = own[:, 0] if K == 1 else (own[:, :, None] + own[:, None, :] - 2.0 * inverse).max(axis=(1, 2))
        nothing = ~(solvable & (widest > 0.0))
        return cls(np.where(nothing[:, None, None], np.nan, inverse), np.where(nothing, np.nan, widest))

    def take(self, models: np.ndarray) -> BiasCurvature:
        """Those of `models (B,)`."""
        return BiasCurvature(self.inverse[models], self.widest[models])

    def after(self, step: Floats) -> BiasCurvature:
        """From below after a change of the biases `step (A, K)`."""
        K = step.shape[1]
        wide = np.abs(step[:, 0]) if K == 1 else step.max(axis=1) - step.min(axis=1)
        more = np.exp(np.minimum(wide, 700.0))
        return replace(self, inverse=self.inverse * more[:, None, None], widest=self.widest * more)

    def ratio(self, gradient: Floats) -> Floats:
        """r `(A,)` of gradients in the biases `(A, K)`; infinite where it is not known."""
        with np.errstate(invalid="ignore"):
            square = np.einsum("li,lij,lj->l", gradient, self.inverse, gradient) * self.widest
        return np.where(np.isfinite(square), np.sqrt(np.maximum(square, 0.0)), np.inf)

    def step(self, gradient: Floats) -> Floats:
        """Newton's step `(A, K)`, damped so that it goes down however large r is; 0 where there is none."""
        r = self.ratio(gradient)
        with np.errstate(invalid="ignore", divide="ignore"):
            damping = np.where(r > 0.0, np.log1p(r) / r, 1.0)
            step = -damping[:, None] * np.einsum("lij,lj->li", self.inverse, gradient)
        return np.where(np.isfinite(r)[:, None] & np.isfinite(step), step, 0.0)

    def remainder(self, gradient: Floats) -> Floats:
        """δ `(A,)`: what J may still lose by the biases alone; infinite where there is no bound."""
        r = self.ratio(gradient)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            series = 0.5 * r**2 + r**3 / 6.0 + r**4  # above r + (1 - r) log(1 - r) for small r, where that loses digits
            exact = r + (1.0 - r) * np.log1p(-r)
            found = np.where(r < 1e-2, series, exact) / self.widest
        return np.where(r == 0.0, 0.0, np.where(r < 1.0, found, np.inf))


def free_gap_bound(slope_sq: Floats, rest: Floats, reach: Floats, l2: Floats) -> Floats:
    """`δ + (||∇_w J|| + sqrt(2 R δ))² / (4 λ)` `(A,)`; NaN without a penalty.

    `slope_sq (A,)`: the squared norm of the gradient in the weights about a centre; `rest`: δ; `reach`: R about it.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bound = rest + (np.sqrt(slope_sq) + np.sqrt(2.0 * reach * rest)) ** 2 / (4.0 * l2)
        return np.where(l2 > 0, np.where(np.isnan(bound), np.inf, bound), np.nan)


def _finite(H: Floats) -> Floats:
    return np.where(np.isfinite(H).all(axis=(1, 2), keepdims=True), H, 0.0)
