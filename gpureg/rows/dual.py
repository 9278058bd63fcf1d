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
from gpureg.rows.shifts import SOLVED, Curvature, OfLoss, OfProbabilities, Root, Shifted, close_to
from gpureg.types import Array, Floats, Ints

MOST_ELEMENTS = 1 << 22  # logits of S, of the models that are worked on at the same time: 32 MiB an array
ARRAYS = 8  # of that size, which are held at the same time
MOST_REFINED = 12  # times that a tilt is refined


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
        change, cost = found or self._shifted(OfLoss(self.kernels, z, s, self.part.y), imbalance)
        slope = self.part.combined(xp.reshape(change, (z.shape[0], A * K)))
        return Balanced(xp.reshape(slope, (A, K, W.shape[0])), cost)

    def _tilted(self, z: Array, s: Array, imbalance: Floats) -> tuple[Array, Floats] | None:
        """The change of `s r` `(m, A, K)` by a tilt, and its cost `(A,)`; of models that would need too wide a one by a
        shift, or None if that is one of the loss's.
        """
        kernels, aim = self.kernels, self.kernels.backend.from_host(imbalance)
        xp, K = kernels.backend.xp, imbalance.shape[1]
        rounding, close = close_to(imbalance)
        own, f = kernels.loss.second(xp, z, self.part.y)
        H, before = Curvature.of(kernels, own, f, s), np.full(len(imbalance), np.inf)
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
        narrow = (wide <= 1.0) & (norm <= 8 * close)
        if f is None and not narrow.all():
            return None
        cost = 0.5 * _divergence(wide) * np.maximum(cost, 0.0) + np.maximum(norm - rounding, 0.0) * (1.0 + wide)
        change = own * -c if f is None else own * (xp.sum(own * c, axis=2, keepdims=True) - c)
        if narrow.all():
            return s[:, :, None] * change, cost
        others = np.flatnonzero(~narrow)
        shifts, cost[others] = self._shifted(OfProbabilities.of(kernels, own, s, others), imbalance[others])
        places = np.arange(len(narrow))
        places[others] = len(places) + np.arange(len(others))
        both = xp.concat([s[:, :, None] * change, shifts], axis=1)
        return xp.take(both, kernels.backend.from_host(places), axis=1), cost

    def _shifted(self, shifted: Shifted, imbalance: Floats) -> tuple[Array, Floats]:
        """The same by a shift of the logits."""
        d, rest = Root.find(shifted, imbalance)
        change, cost = shifted.change(d)
        return change, np.maximum(self.kernels.to_host(cost), 0.0) + rest  # sync


def _divergence(width: Floats) -> Floats:
    """h of the widths `(A,)` of tilts, at most 1; where a logarithm would lose digits, what its series is below."""
    inside = np.clip(width, 1e-3, 1.0 - 1e-16)
    exact = 2.0 * ((1.0 - inside) * np.log1p(-inside) + inside) / inside**2
    return np.where(width < 1e-3, 1.0 + width, exact)
