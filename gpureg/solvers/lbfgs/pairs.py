"""The limited-memory BFGS direction of A models at once, each with its own pairs.

Vectors stay on the device; a step's inner products come to the host (6 M + 6 numbers a model), where the recursion
is a few `(A, M, M)` products. It is the compact representation, which needs no loop over the pairs:

    H g = γ g + S [R^-T ((diag(s'y) + γ Y'Y) R^-1 S'g - γ Y'g)] - γ Y R^-1 S'g,   R_ij = s_i'y_j for i no younger than j

Source: Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices, 1994, (3.1)-(3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.types import Array, Floats, Ints

CURVATURE = 1e-10  # s'y below this times |s||y| is noise, not curvature: the pair is not kept


@dataclass(frozen=True)
class Heritage:
    """A model's pairs, for a model that goes on from its optimum at another λ: `vectors (2M, P)` on the device, s and
    then y without the penalty's part, in variables that no diagonal scales; `age (M,)`, and `count` as in
    `PairHistory`.
    """

    vectors: Array
    age: Ints
    count: int


class PairHistory:
    """The last M pairs s (change of the variables) and y (change of the gradient) of A models, `(A, 2M, P)` on the
    device.

    All models write to the same slot of a ring; a model without a new pair keeps its old one, and `age` gives each
    model's own order.
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

    def filled(self) -> Array:
        """The vectors of the slots that were ever written to, `(A, 2m, P)` with m of the M slots."""
        xp, m = self.kernels.backend.xp, min(self.count, self.memory)
        return xp.concat([self.vectors[:, :m, :], self.vectors[:, self.memory : self.memory + m, :]], axis=1)

    def fill(self, vectors: Floats, count: int) -> None:
        """Take in the host's `vectors (A, 2m, P)` as `filled` gave them when there had been `count` pairs."""
        m, M = min(count, self.memory), self.memory
        host = np.zeros((vectors.shape[0], 2 * M, vectors.shape[2]))
        host[:, :m], host[:, M : M + m] = vectors[:, :m], vectors[:, m:]
        self.vectors, self.count = self.kernels.backend.from_host(host), count

    @np.errstate(all="ignore")  # models that diverged leave them, too
    def bequeathed(self, places: Ints, scale: Array, decay: Array) -> list[Heritage]:
        """The pairs that the models at `places (B,)` leave, given the variables' `scale (B, 1, P)` and the penalty's
        part of the Hessian's diagonal, `decay (B, 1, P)`.
        """
        xp, M, m = self.kernels.backend.xp, self.memory, min(self.count, self.memory)
        index = self.kernels.backend.from_host(np.asarray(places, np.int64))
        s = xp.take(self.vectors[:, :m, :], index, axis=0) * scale
        y = xp.take(self.vectors[:, M : M + m, :], index, axis=0) / scale - decay * s
        none = xp.zeros_like(xp.take(self.vectors[:, : M - m, :], index, axis=0))  # slots that were never written to
        mine = xp.concat([s, none, y, none], axis=1)
        return [Heritage(mine[i, :, :], self.age[place].copy(), self.count) for i, place in enumerate(places.tolist())]

    def inherit(self, pairs: Sequence[Heritage | None], scale: Array, decay: Array) -> None:
        """Take over the pairs that others left, for each model or None; the inverse of `bequeathed` in other
        variables."""
        found = [one for one in pairs if one is not None]
        if not found:
            return
        self.count = max(one.count for one in found)
        xp, M, m = self.kernels.backend.xp, self.memory, min(self.count, self.memory)
        none = xp.zeros_like(found[0].vectors)
        vectors = [none if one is None else one.vectors for one in pairs]
        s, y = (xp.stack([one[part, :] for one in vectors], axis=0) for part in (slice(m), slice(M, M + m)))
        new = xp.concat([s / scale, y * scale + decay * scale * s], axis=1)
        rest = xp.stack([none[: M - m, :]] * len(pairs), axis=0)  # slots that were never written to
        self.vectors = xp.concat([new[:, :m, :], rest, new[:, m:, :], rest], axis=1)
        slots, products = np.r_[:m, M : M + m], np.zeros((len(pairs), 2 * M, 2 * M))
        products[:, slots[:, None], slots] = self.kernels.to_host(xp.matmul(new, xp.matrix_transpose(new)))  # sync
        self.ss_yy = np.stack([products[:, :M, M:], products[:, M:, M:]])
        own = [np.diagonal(block, axis1=1, axis2=2) for block in (products[:, :M, :M], *self.ss_yy)]
        curved = own[1] > CURVATURE * np.sqrt(own[0] * own[2])
        self.age = np.where(curved, np.stack([np.zeros(M, np.int64) if h is None else h.age for h in pairs]), 0)

    def forget(self, models: Ints) -> None:
        """Empty those models' histories."""
        self.age[models] = 0

    def products(self, columns: Array) -> Array:
        """Inner products of the stored vectors with `columns (A, P, q)`: `(A, 2M, q)` on the device."""
        return self.kernels.backend.xp.matmul(self.vectors, columns)

    def add(self, accepted: np.ndarray, s: Array, y: Array, stored: Floats, own: Floats) -> None:
        """Take in the pairs of the models `accepted (A,)`.

        `stored (A, 2M, 2)`: products of the stored vectors with s and y, from before; `own (A, 3)`: s's, s'y, y'y.
        """
        M, slot = self.memory, self.count % self.memory
        self.count += 1
        kept = accepted & (own[:, 1] > CURVATURE * np.sqrt(own[:, 0] * own[:, 2]))
        if not kept.any():
            return
        for place, new in ((slot, s), (M + slot, y)):
            self.vectors = self.kernels.store(self.vectors, place, new, kept)
        sy, yy = self.ss_yy
        sy[kept, :, slot], sy[kept, slot, :] = stored[kept, :M, 1], stored[kept, M:, 0]
        yy[kept, :, slot] = yy[kept, slot, :] = stored[kept, M:, 1]
        sy[kept, slot, slot], yy[kept, slot, slot] = own[kept, 1], own[kept, 2]
        self.age[kept, slot] = self.count

    def coefficients(self, with_s: Floats, with_y: Floats) -> tuple[Floats, Floats]:
        """γ `(A,)` and the coefficients `(A, 2M)` of `H g = γ g + Σ c_j vector_j`, given S'g and Y'g `(A, M)`."""
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
        found[rows, order] = a[:, :, 0]
        found[rows, M + order] = -gamma[:, None] * u[:, :, 0]
        return gamma, found
