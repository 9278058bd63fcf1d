"""The shift d of the logits at which residuals have a given sum; see `rows.dual`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.types import Array, Floats, Ints

MOST_TRIALS = 40  # of d; some six are taken
ROUNDING = 1e-16  # of a mean of numbers of the order of 1; a third of that for each further column
MOST_TURNS = 200  # of conjugate gradients, which end when the squared residual has fallen to this part of its start:
ENOUGH = 1e-5
LEAST = 1e-300  # of a sum of probabilities, each times a factor of at most 1
SOLVED = 512  # columns up to which a Newton system is solved, and from which on conjugate gradients are quicker


def close_to(imbalance: Floats) -> tuple[float, Floats]:
    """The rounding error of sums over samples, and what of an `imbalance (A, K)` may be left, `(A,)`."""
    rounding = ROUNDING * (1.0 + imbalance.shape[1] / 3.0)
    return rounding, 1e-10 * np.abs(imbalance).sum(axis=1) + rounding


@dataclass(frozen=True)
class Curvature:
    """`H = diag(own) - f'f` of A models: `own (A, K)`, `f (A, m, K)` or None."""

    kernels: Kernels
    own: Array
    f: Array | None

    @classmethod
    def of(cls, kernels: Kernels, own: Array, f: Array | None, s: Array) -> Curvature:
        """`Σ s (diag(own) - f f')` of weights `s (m, A)`; `own` and `f`, `(m, A, K)`, as `Loss.second` gives them."""
        xp = kernels.backend.xp
        if f is not None:
            root = xp.sqrt(s)[:, :, None]  # each model's own block, as products want it
            f = xp.stack([f[:, model, :] * root[:, model, :] for model in range(f.shape[1])], axis=0)
        return cls(kernels, xp.sum(s[:, :, None] * own, axis=0), f)

    def times(self, c: Array) -> Array:
        """`H c` for `c (A, K)`."""
        xp = self.kernels.backend.xp
        if self.f is None:
            return self.own * c
        return self.own * c - xp.matmul(xp.matrix_transpose(self.f), xp.matmul(self.f, c[:, :, None]))[:, :, 0]

    @cached_property
    def _matrix(self) -> Array:
        """`H (A, K, K)`, with what gives it an inverse."""
        xp, K = self.kernels.backend.xp, self.own.shape[1]
        eye = self.kernels.backend.from_host(np.eye(K))
        H = self.own[:, :, None] * eye - xp.matmul(xp.matrix_transpose(self.f), self.f)
        size = xp.sum(self.own, axis=1)[:, None, None] / K
        lift = size / K if self.kernels.loss.shift_invariant else 0.0 * size
        return H + lift + 1e-15 * size * eye

    def solve(self, F: Array) -> Array:
        """`H^-1 F` for `F (A, K)`; orthogonal to a shift of all columns if that changes nothing."""
        xp, K = self.kernels.backend.xp, F.shape[1]
        if self.f is None:
            return F / self.own
        if K <= SOLVED:
            found = xp.linalg.solve(self._matrix, F[:, :, None])[:, :, 0]
        else:
            found = self._by_conjugate_gradients(F)
        return found - xp.mean(found, axis=1, keepdims=True) if self.kernels.loss.shift_invariant else found

    def _by_conjugate_gradients(self, F: Array) -> Array:
        """With the diagonal as the preconditioner."""
        xp = self.kernels.backend.xp
        diagonal = self.own if self.f is None else self.own - xp.sum(self.f * self.f, axis=1)
        diagonal = xp.where(diagonal > 1e-15 * self.own, diagonal, xp.ones_like(diagonal))
        found, left = xp.zeros_like(F), F
        p = left / diagonal
        rho = xp.sum(left * p, axis=1, keepdims=True)
        first = rho
        for _ in range(MOST_TURNS):
            Hp = self.times(p)
            along = xp.sum(p * Hp, axis=1, keepdims=True)
            step = xp.where(along > 0.0, rho / xp.where(along > 0.0, along, xp.ones_like(along)), xp.zeros_like(along))
            found, left = found + step * p, left - step * Hp
            scaled = left / diagonal
            new = xp.sum(left * scaled, axis=1, keepdims=True)
            p = scaled + xp.where(rho > 0.0, new / xp.where(rho > 0.0, rho, xp.ones_like(rho)), xp.zeros_like(rho)) * p
            rho = new
            if bool(xp.all(new <= ENOUGH * first)):  # sync
                break
        return found


class Shifted(Protocol):
    """The m samples S of A models with weights s, their logits shifted by `d (A, K)`."""

    @property
    def kernels(self) -> Kernels:
        """Those whose arrays they are."""
        ...

    def sums(self, d: Array) -> tuple[Array, Array]:
        """A function of the shift `(A,)` that differs from `Σ s loss` by one that is linear in d, and its derivative
        `(A, K)`.
        """
        ...

    def curvature(self, d: Array) -> Curvature:
        """The second derivative."""
        ...

    def change(self, d: Array) -> tuple[Array, Array]:
        """`s (r(d) - r)` `(m, A, K)`, and what the shift costs, `(A,)`, in nats: `Σ s (loss(z) - loss(z + d) +
        r(d)·d)`.
        """
        ...


@dataclass(frozen=True)
class OfLoss:
    """Of any loss, from the logits `z (m, A, K)`, the weights `s (m, A)` and the classes `y (m,)`."""

    kernels: Kernels
    z: Array
    s: Array
    y: Array

    def sums(self, d: Array) -> tuple[Array, Array]:
        """See the protocol."""
        xp = self.kernels.backend.xp
        value, _, residual = self.kernels.loss.value(xp, self.z + d, self.y)
        return xp.sum(self.s * value, axis=0), xp.sum(self.s[:, :, None] * residual, axis=0)

    def curvature(self, d: Array) -> Curvature:
        """See the protocol."""
        own, f = self.kernels.loss.second(self.kernels.backend.xp, self.z + d, self.y)
        return Curvature.of(self.kernels, own, f, self.s)

    def change(self, d: Array) -> tuple[Array, Array]:
        """See the protocol."""
        xp, loss = self.kernels.backend.xp, self.kernels.loss
        before, _, residual = loss.value(xp, self.z, self.y)
        after, _, there = loss.value(xp, self.z + d, self.y)
        cost = xp.sum(self.s * (before - after + xp.sum(there * d, axis=2)), axis=0)
        return self.s[:, :, None] * (there - residual), cost


@dataclass(frozen=True)
class OfProbabilities:
    """Of a loss with a probability for every column, from these at a shift of 0, `p (A, m, K)`, and the weights `s
    (A, m)`: without an exponential of a logit. With `S_i = Σ_k p_ik exp(d_k)` the probabilities are
    `p_ik exp(d_k) / S_i` and the losses are log S_i more, but for something linear.
    """

    kernels: Kernels
    p: Array
    s: Array

    @classmethod
    def of(cls, kernels: Kernels, p: Array, s: Array, models: Ints) -> OfProbabilities:
        """Those `models (B,)` of the A with probabilities `p (m, A, K)` and weights `s (m, A)`."""
        xp, chosen = kernels.backend.xp, models.tolist()
        own = (xp.stack([part[:, model, ...] for model in chosen], axis=0) for part in (p, s))
        return cls(kernels, *own)

    def sums(self, d: Array) -> tuple[Array, Array]:
        """See the protocol."""
        return self._sums(*self._totals(d))

    def _sums(self, factors: Array, total: Array, most: Array) -> tuple[Array, Array]:
        xp = self.kernels.backend.xp
        slope = xp.matmul(xp.matrix_transpose(self.p), (self.s / total)[:, :, None])[:, :, 0]
        return xp.sum(self.s * (xp.log(total) + most[:, None]), axis=1), factors * slope

    def curvature(self, d: Array) -> Curvature:
        """See the protocol."""
        xp, q = self.kernels.backend.xp, self._probabilities(*self._totals(d))
        own = xp.matmul(xp.matrix_transpose(q), self.s[:, :, None])[:, :, 0]
        return Curvature(self.kernels, own, q * xp.sqrt(self.s)[:, :, None])

    def change(self, d: Array) -> tuple[Array, Array]:
        """See the protocol."""
        xp, totals = self.kernels.backend.xp, self._totals(d)
        value, slope = self._sums(*totals)
        change = self.s[:, :, None] * (self._probabilities(*totals) - self.p)
        return xp.permute_dims(change, (1, 0, 2)), xp.sum(d * slope, axis=1) - value

    def _probabilities(self, factors: Array, total: Array, _: Array) -> Array:
        return self.p * factors[:, None, :] / total[:, :, None]

    def _totals(self, d: Array) -> tuple[Array, Array, Array]:
        """`exp(d - m)` `(A, K)` with m the largest of a model's d, `(A,)`; S of these `(A, m)`; and m."""
        xp, most = self.kernels.backend.xp, self.kernels.backend.xp.max(d, axis=1)
        factors = xp.exp(d - most[:, None])
        total = xp.matmul(self.p, factors[:, :, None])[:, :, 0]
        return factors, xp.where(total > LEAST, total, xp.full_like(total, LEAST)), most


@dataclass(frozen=True)
class Root:
    """Newton's method on the convex `Σ s loss - aim d`, `aim (A, K)`: each model has its own step, first shortened and
    then cut until the objective falls, and the Hessian is computed again when a step gains little.
    """

    shifted: Shifted
    aim: Array

    @classmethod
    def find(cls, shifted: Shifted, imbalance: Floats) -> tuple[Array, Floats]:
        """`d (A, K)` where `Σ s r` is less by the `imbalance (A, K)` than at 0, and what its last digits may cost
        `(A,)`, infinite where it was not found.
        """
        aim = shifted.kernels.backend.from_host(imbalance)
        value, slope = shifted.sums(shifted.kernels.backend.xp.zeros_like(aim))
        return cls(shifted, slope - aim)._found(value, slope, imbalance)

    def _found(self, value: Array, slope: Array, imbalance: Floats) -> tuple[Array, Floats]:
        """`value (A,)` and `slope (A, K)`: the two sums at 0."""
        kernels = self.shifted.kernels
        xp, from_host = kernels.backend.xp, kernels.backend.from_host
        rounding, close = close_to(imbalance)
        d = xp.zeros_like(self.aim)
        value, norm, F = self._seen(value, slope, d)
        t, over, curvature = np.ones(len(close)), norm <= close, None
        for _ in range(MOST_TRIALS):
            if over.all():
                break
            if curvature is None:
                curvature = self.shifted.curvature(d)
            step = curvature.solve(F)
            step = xp.where(from_host((t == 1.0)[:, None]), _shortened(xp, step), step)
            falls = np.maximum(kernels.to_host(xp.sum(F * step, axis=1)), 0.0)  # sync
            trial = d - from_host(t[:, None]) * step
            value_there, norm_there, G = self._seen(*self.shifted.sums(trial), trial)
            lower = (value_there < value - 0.01 * t * falls) | (norm_there < 0.5 * norm)
            good = ~over & np.isfinite(norm_there) & lower
            over |= ~good & ((norm <= 8 * close) | (t < 1e-6))
            slow = good & (norm_there > 0.05 * norm)
            mask = from_host(good[:, None])
            d, F = xp.where(mask, trial, d), xp.where(mask, G, F)
            value, norm = np.where(good, value_there, value), np.where(good, norm_there, norm)
            over |= norm <= close
            t = np.where(good, 1.0, 0.25 * t)
            curvature = None if slow.any() else curvature
        widest = kernels.to_host(xp.max(xp.abs(d), axis=1))  # sync
        return d, np.where(norm <= 8 * close, np.maximum(norm - rounding, 0.0) * (1.0 + widest), np.inf)

    def _seen(self, value: Array, slope: Array, d: Array) -> tuple[Floats, Floats, Array]:
        """Of the two sums at `d`: `Σ s loss - aim d (A,)`, and what is left, `(A, K)`, with the sum of its absolute
        values `(A,)`.
        """
        kernels = self.shifted.kernels
        xp = kernels.backend.xp
        F = slope - self.aim
        numbers = xp.stack([value - xp.sum(self.aim * d, axis=1), xp.sum(xp.abs(F), axis=1)], axis=0)
        found: Floats = kernels.to_host(numbers)  # sync
        return found[0], found[1], F


def _shortened(xp: Array, step: Array) -> Array:
    """A step `(A, K)`, its parts above 1 as much shorter as probabilities grow faster than they do at its start: half
    as many trials where shifts are some units wide.
    """
    return xp.sign(step) * xp.log1p(xp.abs(step))
