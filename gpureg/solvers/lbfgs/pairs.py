"""The limited-memory BFGS direction of A models at once, each with its own pairs.

Vectors stay on the device; a step's inner products come to the host (6 M + 6 numbers a model), where the recursion
is a few `(A, M, M)` products. It is the compact representation, which needs no loop over the pairs:

    H g = γ g + S [R^-T ((diag(s'y) + γ Y'Y) R^-1 S'g - γ Y'g)] - γ Y R^-1 S'g,   R_ij = s_i'y_j for i no younger than j

Source: Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices, 1994, (3.1)-(3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.types import Array, Floats, Ints

CURVATURE = 1e-10  # s'y below this times |s||y| is noise, not curvature: the pair is not kept


@dataclass(frozen=True)
class Heritage:
    """A model's pairs, for a model that goes on from its optimum at another λ: `vectors (2m, P)` on the device, each
    pair's s and its y without the penalty's part, in variables that no diagonal scales; `age (M,)`, and `count` as in
    `PairHistory`.
    """

    vectors: Array
    age: Ints
    count: int


class PairHistory:
    """The last M pairs s (change of the variables) and y (change of the gradient) of A models, one after the other in
    `vectors (A, 2M, P)` on the device.

    All models write to the same slot of a ring; a model without a new pair keeps its old one, and `age` gives each
    model's own order. Products are made of the slots that were ever written to, m of the M (at least one).
    """

    def __init__(self, kernels: Kernels, models: int, memory: int, size: int) -> None:
        self.kernels, self.memory = kernels, memory
        self.vectors = kernels.backend.from_host(np.zeros((models, 2 * memory, size)))
        self.ss_yy = np.zeros((2, models, memory, memory))  # [0]: s_i'y_j, [1]: y_i'y_j
        self.age = np.zeros((models, memory), np.int64)  # the count at which a pair came, 0 for none
        self.count = 0

    def take(self, keep: Ints, places: Array) -> None:
        """Keep the models `keep (B,)`; `places` is the same on the device."""
        self.vectors = self.kernels.backend.xp.take(self.vectors, places, axis=0)
        self.ss_yy, self.age = self.ss_yy[:, keep], self.age[keep]

    @property
    def slots(self) -> int:
        """m."""
        return max(1, min(self.count, self.memory))

    def filled(self) -> Array:
        """The vectors of those slots, `(A, 2m, P)`."""
        return self.vectors[:, : 2 * self.slots, :]

    def fill(self, vectors: Floats, count: int) -> None:
        """Take in the host's `vectors (A, 2m, P)` as `filled` gave them when there had been `count` pairs."""
        host = np.zeros((vectors.shape[0], 2 * self.memory, vectors.shape[2]))
        host[:, : vectors.shape[1]] = vectors
        self.vectors, self.count = self.kernels.backend.from_host(host), count

    @np.errstate(all="ignore")  # models that diverged leave them, too
    def bequeathed(self, places: Ints, scale: Array, decay: Array) -> list[Heritage]:
        """The pairs that the models at `places (B,)` leave, given the variables' `scale (B, 1, P)` and the penalty's
        part of the Hessian's diagonal, `decay (B, 1, P)`.
        """
        xp = self.kernels.backend.xp
        mine = xp.take(self.filled(), self.kernels.backend.from_host(np.asarray(places, np.int64)), axis=0)
        s, y = mine[:, ::2, :] * scale, mine[:, 1::2, :]
        mine = _alternating(xp, s, y / scale - decay * s)
        return [Heritage(mine[i, :, :], self.age[place].copy(), self.count) for i, place in enumerate(places.tolist())]

    def inherit(self, pairs: Sequence[Heritage | None], scale: Array, decay: Array) -> None:
        """Take over the pairs that others left, for each model or None; the inverse of `bequeathed` in other
        variables."""
        found = [one for one in pairs if one is not None]
        if not found:
            return
        self.count = max(one.count for one in found)
        xp, M, m = self.kernels.backend.xp, self.memory, self.slots
        none = xp.zeros_like(self.vectors[0, :, :])
        left = [none[:0, :] if one is None else one.vectors for one in pairs]
        old = xp.stack([xp.concat([own, none[: 2 * m - own.shape[0], :]], axis=0) for own in left], axis=0)
        s, y = old[:, ::2, :], old[:, 1::2, :]
        new = _alternating(xp, s / scale, y * scale + decay * scale * s)
        rest = xp.stack([none[: 2 * (M - m), :]] * len(pairs), axis=0)  # slots that were never written to
        self.vectors = xp.concat([new, rest], axis=1)
        host = self.kernels.to_host(xp.matmul(new, xp.matrix_transpose(new)))  # sync
        ss_sy_yy = np.zeros((3, len(pairs), M, M))
        ss_sy_yy[:, :, :m, :m] = host[:, ::2, ::2], host[:, ::2, 1::2], host[:, 1::2, 1::2]
        self.ss_yy = ss_sy_yy[1:].copy()
        own = np.diagonal(ss_sy_yy, axis1=2, axis2=3)
        curved = own[1] > CURVATURE * np.sqrt(own[0] * own[2])
        self.age = np.where(curved, np.stack([np.zeros(M, np.int64) if h is None else h.age for h in pairs]), 0)

    def forget(self, models: Ints) -> None:
        """Empty those models' histories."""
        self.age[models] = 0

    def products(self, columns: Array) -> Array:
        """Inner products of `filled` with `columns (A, P, q)`: `(A, 2m, q)` on the device."""
        return self.kernels.backend.xp.matmul(self.filled(), columns)

    def by_kind(self, stored: Floats) -> Floats:
        """Numbers `(A, 2m, q)` of `filled` as `(2, A, M, q)`, those of s and of y, 0 for slots without a pair."""
        found = np.zeros((2, len(stored), self.memory, stored.shape[2]))
        found[:, :, : stored.shape[1] // 2] = stored[:, ::2], stored[:, 1::2]
        return found

    def add(self, accepted: np.ndarray, s: Array, y: Array, stored: Floats, own: Floats) -> None:
        """Take in the pairs of the models `accepted (A,)`.

        `stored (2, A, M, 2)`: products of the stored s and y with the new ones, from before; `own (A, 3)`: s's, s'y,
        y'y.
        """
        slot = self.count % self.memory
        self.count += 1
        kept = accepted & (own[:, 1] > CURVATURE * np.sqrt(own[:, 0] * own[:, 2]))
        if not kept.any():
            return
        for place, new in ((2 * slot, s), (2 * slot + 1, y)):
            self.vectors = self.kernels.store(self.vectors, place, new, kept)
        sy, yy = self.ss_yy
        sy[kept, :, slot], sy[kept, slot, :] = stored[0, kept, :, 1], stored[1, kept, :, 0]
        yy[kept, :, slot] = yy[kept, slot, :] = stored[1, kept, :, 1]
        sy[kept, slot, slot], yy[kept, slot, slot] = own[kept, 1], own[kept, 2]
        self.age[kept, slot] = self.count

    def coefficients(self, with_s: Floats, with_y: Floats) -> tuple[Floats, Floats]:
        """γ `(A,)` and the coefficients `(A, 2m)` of `H g = γ g + Σ c_j vector_j`, given S'g and Y'g `(A, M)`."""
        M = self.memory
        order = np.argsort(self.age, axis=1)  # oldest first; none (age 0) before all
        rows = np.arange(len(order))[:, None]
        valid = self.age[rows, order] > 0
        both = valid[:, :, None] & valid[:, None, :]
        sy = np.where(both, self.ss_yy[0][rows[:, :, None], order[:, :, None], order[:, None, :]], 0.0)
        yy = np.where(both, self.ss_yy[1][rows[:, :, None], order[:, :, None], order[:, None, :]], 0.0)
        p, q = np.where(valid, with_s[rows, order], 0.0), np.where(valid, with_y[rows, order], 0.0)
        own = sy[:, np.arange(M), np.arange(M)]
        newest = valid[:, -1]
        gamma = np.where(newest, own[:, -1] / np.where(newest, yy[:, -1, -1], 1.0), 1.0)
        R = np.triu(sy) + np.where(valid, 0.0, 1.0)[:, :, None] * np.eye(M)
        u = np.linalg.solve(R, p[:, :, None])
        inner = own[:, :, None] * u + gamma[:, None, None] * (yy @ u - q[:, :, None])
        a = np.linalg.solve(np.swapaxes(R, 1, 2), inner)
        found = np.zeros((len(order), 2 * M))
        found[rows, 2 * order] = a[:, :, 0]
        found[rows, 2 * order + 1] = -gamma[:, None] * u[:, :, 0]
        return gamma, found[:, : 2 * self.slots]


def _alternating(xp: Any, s: Array, y: Array) -> Array:
    """`s` and `y`, `(A, m, P)` each, one after the other: `(A, 2m, P)`."""
    return xp.reshape(xp.stack([s, y], axis=2), (s.shape[0], 2 * s.shape[1], s.shape[2]))
