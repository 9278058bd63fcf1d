"""The penalised objective of L models, its gradient, and the bound on how far a point is from the optimum.

    J_l(W) = (1/n) Σ_i s_il loss_il(W) + λ_l Σ w²        loss in nats; row weights s of mean 1; bias in the sum iff
    penalised

Cost and gradient are sums over row blocks, made by the kernels. Here models are rows, `(L, K, D)` in float64
whatever the samples' type: the arithmetic between passes adds nothing to the noise of a float32 pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.lines import Line
from gpureg.kernels.protocol import Kernels
from gpureg.rows.logits import LogitPasses
from gpureg.rows.protocol import Rows
from gpureg.types import Array, Floats, ModelTable


@dataclass(frozen=True)
class Value:
    """An objective at one point, on the device: `loss (L,)` the data's part, `penalty (L,)`, `gradient (L, K, D)` of
    their sum, and the `hits (L,)` among the samples, NaN where they were not counted; each model's logits, if the pass
    has kept them.
    """

    loss: Array
    penalty: Array
    gradient: Array
    hits: Array
    lines: tuple[Line, ...] | None = None


class Objective:
    """`J` of the models of a table on placed samples; `take` gives that of some of them."""

    def __init__(
        self, kernels: Kernels, rows: Rows, table: ModelTable, D: int, *, weighted: bool, penalize_bias: bool
    ) -> None:
        self.kernels, self.rows, self.table, self.D = kernels, rows, table, D
        self.weighted, self.penalize_bias = weighted, penalize_bias
        factor = np.repeat(np.asarray(table.l2, np.float64)[:, None, None], D, axis=2)
        if not penalize_bias:
            factor[:, :, -1] = 0.0
        self._factor = kernels.backend.from_host(factor)

    def take(self, models: np.ndarray) -> Objective:
        """The objective of `models (A,)` of the table."""
        return Objective(
            self.kernels,
            self.rows,
            self.table.take(models),
            self.D,
            weighted=self.weighted,
            penalize_bias=self.penalize_bias,
        )

    def decay(self, size: int) -> Array:
        """The penalty's part of the Hessian's diagonal, `2 λ_l` or 0, `(L, size = K*D)`."""
        xp = self.kernels.backend.xp
        K = size // self.D
        return 2.0 * xp.reshape(xp.concat([self._factor] * K, axis=1), (self._factor.shape[0], size))

    def unmoved(self, d: Array) -> Array:
        """Directions `(L, ..., K, D)` without the shift of all classes in unpenalised weights, which changes no
        probability.
        """
        xp = self.kernels.backend.xp
        if not self.kernels.loss.shift_invariant:
            return d
        shift = xp.mean(d, axis=-2, keepdims=True)
        factor = xp.reshape(self._factor, (d.shape[0], *[1] * (d.ndim - 2), self.D))
        return d - xp.where(factor == 0.0, shift, xp.zeros_like(shift))

    def columns(self, W: Array) -> Array:
        """Weights `(L, K, D)` in the layout of the kernels, `(D, L*K)` in the samples' type (a transposed view)."""
        xp = self.kernels.backend.xp
        flat = xp.reshape(W, (W.shape[0] * W.shape[1], self.D))
        return xp.matrix_transpose(xp.astype(flat, self.kernels.backend.float_type))

    def value(self, W: Array, passes: LogitPasses | None = None, lines: tuple[Line, ...] | None = None) -> Value:
        """Cost and gradient at `W (L, K, D)`, one pass over the samples: of those `passes`, if they are given, which
        keep its logits, or, given the `lines` that have them, take half of one.
        """
        xp = self.kernels.backend.xp
        column = self.table.column if self.weighted else None
        if passes is None:
            cost, slope, hits = self.rows.cost_and_gradient(self.columns(W), column)
        elif lines is None:
            cost, slope, hits, lines = passes.keeping(self.columns(W), column)
        else:
            cost, slope, hits = passes.along(lines, column)
        loss = xp.astype(cost, xp.float64) / self.rows.n
        slope = xp.reshape(xp.astype(xp.matrix_transpose(slope), xp.float64), W.shape)
        if self.kernels.loss.shift_invariant:
            slope = slope - xp.mean(slope, axis=1, keepdims=True)  # 0 but for rounding
        hits = xp.full_like(loss, xp.nan) if hits is None else xp.astype(hits, xp.float64)
        return replace(self._with_penalty(W, loss, slope / self.rows.n, hits), lines=lines)

    def known(self, W: Array, loss: Floats, gradient: Floats, hits: Floats) -> Value:
        """Cost and gradient at `W (L, K, D)`, where the loss `(L,)`, its gradient `(L, K, D)` and the hits `(L,)` are
        known.
        """
        from_host = self.kernels.backend.from_host
        return self._with_penalty(W, from_host(loss), from_host(gradient), from_host(hits))

    def stated(self, W: Floats, loss: Floats) -> Floats:
        """The objective `(L,)` at `W (L, K, D)`, where the loss `(L,)` is known, on the host."""
        return np.asarray(loss + np.sum(self.kernels.to_host(self._factor) * W * W, axis=(1, 2)))  # sync

    def penalty(self, W: Array) -> Array:
        """`(L,)` at `W (L, K, D)`."""
        return self.kernels.backend.xp.sum(self._factor * W * W, axis=(1, 2))

    def without_penalty(self, W: Floats, gradient: Floats) -> Floats:
        """The gradient of the loss alone, given that of the objective `(L, K, D)` at `W (L, K, D)`, on the host."""
        return gradient - 2.0 * self.kernels.to_host(self._factor) * W  # sync

    def _with_penalty(self, W: Array, loss: Array, slope: Array, hits: Array) -> Value:
        decay = self._factor * W
        return Value(loss, self.kernels.backend.xp.sum(decay * W, axis=(1, 2)), slope + 2.0 * decay, hits)


def gap_bound(slope_sq: Floats, l2: Floats) -> Floats:
    """`||∇||² / (4 λ)` `(L,)`, an upper bound on `J - min J` in nats; NaN where λ is 0 and there is none.

    J is strongly convex with modulus 2λ in the penalised weights, so `J* >= J + min_d (∇·d + λ ||d||²)`. It holds
    for the gradient `slope_sq (L,)` (squared norm) of every weight where the bias is penalised too, and else for
    that of the weights alone at a point whose bias is optimal for them: then it bounds `min_b J(w, b)`, which is as
    convex. Source: Boyd and Vandenberghe, Convex Optimization, 2004, (9.9).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(l2 > 0, slope_sq / (4.0 * l2), np.nan)


def l2_of(C: Floats | float, total_weight: Floats | float) -> Floats:
    """λ of scikit-learn's C: `λ = 1 / (2 C Σ s_i)`, s the product of sample and class weights (Σ s_i = n if there are
    none).

    scikit-learn's objective is `C Σ s_i loss_i + ½ Σ w²`, a sum; gpureg's is its mean form. C = inf is λ = 0. A
    softmax of two classes differs from binary logistic regression at the same C: its columns are u/2 and -u/2 where
    the logistic model has u, so its penalty is half as large, and at C it equals the logistic model at 2 C.
    """
    return np.asarray(1.0 / (2.0 * np.asarray(C, np.float64) * total_weight))
