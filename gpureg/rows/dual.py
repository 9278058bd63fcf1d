"""Residuals that sum to 0: the dual point that makes the bound on a gap valid if the bias is free.

`r_i`, the derivative of a sample's loss in its logits z_i, must sum to 0 under the row weights at an optimum in the
biases. Away from it, some samples have their logits shifted by one `d (K,)` so that it does:

    Σ_i s_i r_i + Σ_(i in S) s_i (r_i(d) - r_i) = 0,    r_i(d) the derivative at z_i + d

By weak duality the objective at (w, b) is above the optimum by at most

    ||∇_w J + Δ||² / (4 λ) + (1/n) Σ_(i in S) s_i (loss(z_i) - loss(z_i + d) + r_i(d)·d),
    Δ = (1/n) Σ_(i in S) s_i (r_i(d) - r_i) x_i'

for any set S of samples and any convex loss. A part of the samples costs a part of a pass and is enough where the
biases are nearly optimal. (Source: Rockafellar, Convex Analysis, 1970, theorem 31.3; the second term is the Bregman
divergence of the losses, for a softmax the mean Kullback-Leibler divergence of the shifted probabilities.)

For a loss with probabilities (`losses.Entropic`) a tilt does the same without a search for d: with H_i the Hessian of
the loss in the logits, `r_i(c) = r_i - H_i c` are residuals of probabilities `p (1 - (c - p·c))` if c is at most 1
wide, they sum to 0 where `Σ_(i in S) s_i H_i c = Σ_i s_i r_i`, a linear system, and their divergence is about
half of `c' H_i c`, the variance of c under p: `E (1 + u) log(1 + u)` with `u = p·c - c`. Since
`((1 + u) log(1 + u) - u) / u²` falls in u, it is at most `h(m) E u² / 2`, `h(m) = 2 ((1 - m) log(1 - m) + m) / m²`, for
c of the width m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.losses import Entropic
from gpureg.rows.sampled import Part, Sampled
from gpureg.types import Array, Floats, Ints

MOST_ELEMENTS = 1 << 22  # logits of S, of the models that are worked on at the same time: 32 MiB an array
ARRAYS = 8  # of that size, which are held at the same time
MOST_TRIALS = 40  # of d; some six are taken
ROUNDING = 1e-16  # of a mean of numbers of the order of 1; a third of that for each further column
MOST_REFINED = 12  # times that a tilt is refined
MOST_TURNS = 200  # of conjugate gradients, which end when the squared residual has fallen to this part of its start:
ENOUGH = 1e-5
SOLVED = 512  # columns up to which a Newton system is solved, and from which on conjugate gradients are quicker


@dataclass(frozen=True)
class Balanced:
    """`slope Δ (L, K, D)` float64 on the device, and `cost (L,)` on the host, the second term of the bound in nats;
    infinite where no d was found.
    """

    slope: Array
    cost: Floats


def balanced(
    kernels: Kernels, rows: Sampled, W: Array, column: Ints | None, imbalance: Floats, samples: int
) -> Balanced:
    """The dual point of models at weights `W (D, L*K)`, `column (L,)` their columns of the row-weight table.

    `imbalance (L, K)`: the gradient of the mean loss in the biases, `Σ s_i r_i / n`. `samples`: about how
    many S shall have, at most as many as their logits fit into `MOST_ELEMENTS`.
    """
    K, models = kernels.n_columns, imbalance.shape[0]
    most = max(1, MOST_ELEMENTS // K)
    stride = -(-rows.n // min(most, max(1, samples)))
    part = rows.every(stride)
    at_once = max(1, min(-(-models // kernels.lanes), most // part.y.shape[0]))
    groups = [np.arange(start, min(start + at_once, models)) for start in range(0, models, at_once)]
    found: list[Balanced | None] = [None] * len(groups)

    def task(number: int) -> None:
        mine = groups[number]
        weight = None
        if part.weights is not None and column is not None:
            picked = kernels.backend.from_host(np.asarray(column[mine], np.int64))
            weight = kernels.backend.xp.take(part.weights, picked, axis=1)
        own = W[:, int(mine[0]) * K : (int(mine[-1]) + 1) * K]
        found[number] = _Samples(kernels, part, weight, rows.n).balanced(own, imbalance[mine])

    kernels.share_out(len(groups), task)
    parts = [part for part in found if part is not None]
    xp = kernels.backend.xp
    return Balanced(xp.concat([part.slope for part in parts], axis=0), np.concatenate([part.cost for part in parts]))


def balanced_bytes(n: int, D: int, K: int, models: int) -> int:
    """Bytes of work arrays that `balanced` takes at most for that many models on n samples, if S is all that fit."""
    most = max(1, MOST_ELEMENTS // K)
    samples = max(1, min(n, most))
    at_once = max(1, min(models, most // samples))
    columns = min(K, SOLVED)
    return 8 * (at_once * (samples * (ARRAYS * K + 4) + 3 * columns**2) + samples * D)


@dataclass(frozen=True)
class _Samples:
    """S for A models: `part`, `weight (m, A)` or None for ones, out of n samples."""

    kernels: Kernels
    part: Part
    weight: Array | None
    n: int

    def balanced(self, W: Array, imbalance: Floats) -> Balanced:
        """See `balanced`; `W (D, A*K)`."""
        xp, (A, K) = self.kernels.backend.xp, imbalance.shape
        z = xp.reshape(xp.astype(self.part.logits(W), xp.float64), (-1, A, K))
        s = xp.full((z.shape[0], A), 1.0 / self.n, dtype=xp.float64, device=getattr(z, "device", None))
        if self.weight is not None:
            s = xp.astype(self.weight, xp.float64) / self.n
        found = self._tilted(z, s, imbalance) if isinstance(self.kernels.loss, Entropic) else None
        change, cost = found or self._shifted(z, s, imbalance)
        slope = self.part.combined(xp.reshape(change, (z.shape[0], A * K)))
        return Balanced(xp.reshape(slope, (A, K, W.shape[0])), cost)

    def _tilted(self, z: Array, s: Array, imbalance: Floats) -> tuple[Array, Floats] | None:
        """The change of `s r` `(m, A, K)` by a tilt, and its cost `(A,)`; None if a model would need too wide a one."""
        kernels, aim = self.kernels, self.kernels.backend.from_host(imbalance)
        xp, K = kernels.backend.xp, imbalance.shape[1]
        rounding, close = _close(imbalance)
        own, f = kernels.loss.second(xp, z, self.part.y)
        H, before = self._curvature_of(own, f, s), np.full(len(imbalance), np.inf)
        c = Hc = xp.zeros_like(aim)
        for _ in range(MOST_REFINED):
            left = aim - Hc
            norm = kernels.to_host(xp.sum(xp.abs(left), axis=1))  # sync
            if (norm <= close).all() or not (norm <= 0.1 * before).all():
                break
            c, before = c + H.solve(left), norm
            Hc = H.times(c)
        widest = xp.max(xp.abs(c), axis=1) if K == 1 else xp.max(c, axis=1) - xp.min(c, axis=1)
        wide, cost = kernels.to_host(xp.stack([widest, xp.sum(c * Hc, axis=1)], axis=0))  # sync
        if not ((wide <= 1.0) & (norm <= 8 * close)).all():
            return None
        t = own * c if f is None else own * c - f * xp.sum(f * c, axis=2, keepdims=True)
        cost = 0.5 * _divergence(wide) * np.maximum(cost, 0.0)
        return -s[:, :, None] * t, cost + np.maximum(norm - rounding, 0.0) * (1.0 + wide)

    def _shifted(self, z: Array, s: Array, imbalance: Floats) -> tuple[Array, Floats]:
        """The same by a shift of the logits."""
        xp, loss = self.kernels.backend.xp, self.kernels.loss
        before, _, residual = loss.value(xp, z, self.part.y)
        value, slope = xp.sum(s * before, axis=0), xp.sum(s[:, :, None] * residual, axis=0)
        root = _Root(self, z, s, slope - self.kernels.backend.from_host(imbalance))
        d, rest = root.find(value, slope, imbalance)
        after, _, there = loss.value(xp, z + d, self.part.y)
        cost = xp.sum(s * (before - after + xp.sum(there * d, axis=2)), axis=0)
        return s[:, :, None] * (there - residual), np.maximum(self.kernels.to_host(cost), 0.0) + rest  # sync

    def sums(self, z: Array, s: Array, d: Array) -> tuple[Array, Array]:
        """`Σ s loss (A,)` and `Σ s r (A, K)` at the shift `d (A, K)`."""
        xp = self.kernels.backend.xp
        value, _, residual = self.kernels.loss.value(xp, z + d, self.part.y)
        return xp.sum(s * value, axis=0), xp.sum(s[:, :, None] * residual, axis=0)

    def curvature(self, z: Array, s: Array, d: Array) -> _Curvature:
        """The derivative of the second sum."""
        xp = self.kernels.backend.xp
        return self._curvature_of(*self.kernels.loss.second(xp, z + d, self.part.y), s)

    def _curvature_of(self, own: Array, f: Array | None, s: Array) -> _Curvature:
        """`Σ s (diag(own) - f f')`, `own` and `f` as `Loss.second` gives them."""
        xp = self.kernels.backend.xp
        if f is not None:
            root = xp.sqrt(s)[:, :, None]  # each model's own block, as products want it
            f = xp.stack([f[:, model, :] * root[:, model, :] for model in range(f.shape[1])], axis=0)
        return _Curvature(self.kernels, xp.sum(s[:, :, None] * own, axis=0), f)


def _divergence(width: Floats) -> Floats:
    """h of the widths `(A,)` of tilts, at most 1; where a logarithm would lose digits, what its series is below."""
    inside = np.clip(width, 1e-3, 1.0 - 1e-16)
    exact = 2.0 * ((1.0 - inside) * np.log1p(-inside) + inside) / inside**2
    return np.where(width < 1e-3, 1.0 + width, exact)


def _close(imbalance: Floats) -> tuple[float, Floats]:
    """The rounding error of sums over samples, and what of an `imbalance (A, K)` may be left, `(A,)`."""
    rounding = ROUNDING * (1.0 + imbalance.shape[1] / 3.0)
    return rounding, 1e-10 * np.abs(imbalance).sum(axis=1) + rounding


@dataclass(frozen=True)
class _Curvature:
    """`H = diag(own) - f'f` of A models: `own (A, K)`, `f (A, m, K)` or None."""

    kernels: Kernels
    own: Array
    f: Array | None

    def times(self, c: Array) -> Array:
        """`H c` for `c (A, K)`."""
        xp = self.kernels.backend.xp
        if self.f is None:
            return self.own * c
        return self.own * c - xp.matmul(xp.matrix_transpose(self.f), xp.matmul(self.f, c[:, :, None]))[:, :, 0]

    def solve(self, F: Array) -> Array:
        """`H^-1 F` for `F (A, K)`; orthogonal to a shift of all columns if that changes nothing."""
        xp, K = self.kernels.backend.xp, F.shape[1]
        if self.f is None:
            return F / self.own
        found = self._solved(F) if K <= SOLVED else self._by_conjugate_gradients(F)
        return found - xp.mean(found, axis=1, keepdims=True) if self.kernels.loss.shift_invariant else found

    def _solved(self, F: Array) -> Array:
        xp, K = self.kernels.backend.xp, F.shape[1]
        eye = self.kernels.backend.from_host(np.eye(K))
        H = self.own[:, :, None] * eye - xp.matmul(xp.matrix_transpose(self.f), self.f)
        size = xp.sum(self.own, axis=1)[:, None, None] / K
        lift = size / K if self.kernels.loss.shift_invariant else 0.0 * size
        return xp.linalg.solve(H + lift + 1e-15 * size * eye, F[:, :, None])[:, :, 0]

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


@dataclass(frozen=True)
class _Root:
    """Newton's method on the convex `Σ s loss - aim d`, `aim (A, K)`: each model has its own step, cut until the
    objective falls, and the Hessian is computed again when a step gains little.
    """

    samples: _Samples
    z: Array
    s: Array
    aim: Array

    def find(self, value: Array, slope: Array, imbalance: Floats) -> tuple[Array, Floats]:
        """`d (A, K)` where `Σ s r = aim`, and what its last digits may cost `(A,)`, infinite where it was not found.

        `value (A,)` and `slope (A, K)`: the two sums at 0; `imbalance (A, K)`: how far from the aim they are there.
        """
        kernels = self.samples.kernels
        xp, from_host = kernels.backend.xp, kernels.backend.from_host
        rounding, close = _close(imbalance)
        d = xp.zeros_like(self.aim)
        value, norm, F = self._seen(value, slope, d)
        t, over, curvature = np.ones(len(close)), norm <= close, None
        for _ in range(MOST_TRIALS):
            if over.all():
                break
            if curvature is None:
                curvature = self.samples.curvature(self.z, self.s, d)
            step = curvature.solve(F)
            falls = kernels.to_host(xp.sum(F * step, axis=1))  # sync
            trial = d - from_host(t[:, None]) * step
            value_there, norm_there, G = self._seen(*self.samples.sums(self.z, self.s, trial), trial)
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
        kernels = self.samples.kernels
        xp = kernels.backend.xp
        F = slope - self.aim
        numbers = xp.stack([value - xp.sum(self.aim * d, axis=1), xp.sum(xp.abs(F), axis=1)], axis=0)
        found: Floats = kernels.to_host(numbers)  # sync
        return found[0], found[1], F
