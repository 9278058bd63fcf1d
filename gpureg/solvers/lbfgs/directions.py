"""Where the next step goes: a quasi-Newton direction, or Newton's own if the Hessian is nearly free.

A Hessian costs as much as some D K / 8 passes over the data (D K / 4 in arithmetic, but its product is a fast one).
L-BFGS takes some fifty to two hundred passes, and thousands if the penalty is weak and the data are nearly separable;
Newton's method takes ten to seventeen Hessians, whatever the problem's condition. So tiny models start with Newton's
method. Medium ones that L-BFGS has not finished in `handover` iterations continue in variables that a Hessian has
whitened (`hessian.Whitened`), and after as many again in those of a new one: one to three Hessians are enough. Large
ones stay with L-BFGS. The choice depends on the shape of a model and its own course, never on the number of models in
its batch: a model of a batch is trained as it would be alone.

Measured (digits, 10 values of C from 1e-4 to 1e4, tolerance 1e-10 nats): L-BFGS alone needs 1,139 iterations at C =
2.8 and more than 5,000 for C = 1,292 and above, 6.7 s for the ten; with a handover after 81 iterations, all ten take 10
Hessians, at most 178 iterations each, and 0.7 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpureg.solvers.lbfgs.hessian import HESSIAN_BYTES, RIDGES, scaled_hessian
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.lbfgs.pairs import Heritage, PairHistory
from gpureg.types import Array, Floats, Ints

SHORT_MEMORY, MEMORY, LONG_MEMORY = 5, 10, 20  # pairs
LONG_ROWS, LONG_WEIGHTS = 4096, 1 << 16  # of samples at least, and of a model at most, for the longer memory
SHORT_WEIGHTS = 1 << 18  # of a model at least, for the shorter one
SHARED_BYTES = 1 << 17  # above this size, a Hessian is worth a task


@dataclass(frozen=True)
class Hessians:
    """When a model's Hessian is worth its cost: bounds of its weights, D K, and of the multiplications, n (D K)².

    A tiny model starts with Newton's method (a Hessian takes about a millisecond); a medium one continues in whitened
    variables after `fewest` iterations or more.
    """

    tiny_weights: int = 128
    tiny_product: float = 3e7
    middling_weights: int = 2048
    middling_product: float = 4e10
    fewest: int = 60
    weights_per_iteration: int = 8  # a Hessian costs about as many passes as its model has weights / 8

    def newton_first(self, n: int, weights: int) -> bool:
        """Whether a model on n samples starts with Newton's method."""
        return weights <= self.tiny_weights and n * weights**2 <= self.tiny_product

    def handover(self, n: int, weights: int) -> int | None:
        """The iterations after which a model continues in whitened variables, or None if its Hessian costs too much."""
        if weights > self.middling_weights or n * weights**2 > self.middling_product:
            return None
        return max(self.fewest, weights // self.weights_per_iteration)


class Directions(Protocol):
    """A source of descent directions for A models; vectors are `(A, P)`, P = K D."""

    def first(
        self, W: Array, g: Array, pair: tuple[Array, Array] | None, pairs: Sequence[Heritage | None], conditioning: Any
    ) -> Array:
        """The first directions `(A, K, D)` of a batch, at weights `W (A, K, D)` with gradients `g (A, K, D)`; given the
        pair `(A, P)` between two known points, and the pairs that other models left.
        """
        ...

    def products(self, trial: Array) -> Array | None:
        """What the next `direction` needs on the host from the last trial, `(A, q)`, or None; `trial (A, P, 3)`: its s,
        y and g.
        """
        ...

    def direction(
        self, accepted: np.ndarray, step: tuple[Array, Array], g: Array, W: Array, host: Floats, own: Floats
    ) -> Array:
        """The directions at new points with gradients g; only those of `accepted (A,)` are used.

        `step` is s and y, `W (A, K, D)` the weights there, `host (A, q)` the products, `own (A, 3, 3)` those of s,
        y, g.
        """
        ...

    def forget(self, models: Ints) -> bool:
        """Forget those models' history; False if there is nothing to forget."""
        ...

    def take(self, keep: Ints, places: Array, objective: Objective) -> None:
        """Keep the models `keep (B,)` (`places` on the device)."""
        ...


def memory_of(n: int, weights: int) -> int:
    """The number of pairs that a model of D K `weights` keeps: the more, the cheaper they are compared with a pass over
    the n samples. Measured (MNIST, 20,000 samples, 96 C along a path): 481 passes with 10, 426 with 20, 411 with 40. A
    very large model gains nothing from more than 5, and its vectors take as long as its passes: with 512 features and
    1,000 classes 16 C take 34 passes with 5 and with 10, and 8% less time. (With 100 classes 48 C to 1e-6 take 64
    passes with 5, and 55 with 10.)
    """
    if weights >= SHORT_WEIGHTS:
        return SHORT_MEMORY
    return LONG_MEMORY if n >= LONG_ROWS and weights <= LONG_WEIGHTS else MEMORY


def inner_products(xp: Any, trial: Array) -> Array:
    """All products of s, y and g with one another, `(A, 9)` on the device, of `trial (A, P, 3)`: one product."""
    return xp.reshape(xp.matmul(xp.matrix_transpose(trial), trial), (-1, 9))


class QuasiNewton:
    """L-BFGS: see `PairHistory`."""

    def __init__(self, objective: Objective, models: int, size: int) -> None:
        self.kernels, self.objective = objective.kernels, objective
        self.pairs = PairHistory(objective.kernels, models, memory_of(objective.rows.n, size), size)

    def first(
        self, W: Array, g: Array, pair: tuple[Array, Array] | None, pairs: Sequence[Heritage | None], conditioning: Any
    ) -> Array:
        """See the protocol."""
        if pair is None and not any(pairs):
            return -g
        xp, A = self.kernels.backend.xp, g.shape[0]
        if any(pairs):
            self.pairs.inherit(pairs, *self._diagonals(conditioning, np.arange(A)))
        flat = xp.reshape(g, (A, -1))
        s, y = (xp.zeros_like(flat), xp.zeros_like(flat)) if pair is None else pair
        trial = xp.stack([s, y, flat], axis=2)
        host = self.kernels.to_host(xp.concat([inner_products(xp, trial), self.products(trial)], axis=1))  # sync
        accepted = np.full(A, pair is not None)
        d = self.direction(accepted, (s, y), flat, W, host[:, 9:], host[:, :9].reshape(-1, 3, 3))
        return xp.reshape(d, g.shape)

    def bequeathed(self, places: Ints, conditioning: Any) -> list[Heritage]:
        """The pairs of the models at `places (B,)`."""
        return self.pairs.bequeathed(places, *self._diagonals(conditioning.take(places), places))

    def _diagonals(self, conditioning: Any, places: Ints) -> tuple[Array, Array]:
        """The variables' scale and the penalty's part of the diagonal, `(B, 1, P)`, of the models at `places (B,)`."""
        xp, (K, D) = self.kernels.backend.xp, (self.kernels.n_columns, self.objective.D)
        scale = conditioning.scale + self.kernels.backend.from_host(np.zeros((1, K, D)))  # of every class its own
        decay = self.objective.take(places).decay(K * D)
        return xp.reshape(scale, (len(places), 1, K * D)), xp.reshape(decay, (len(places), 1, K * D))

    def products(self, trial: Array) -> Array:
        """See the protocol."""
        stored = self.pairs.products(trial)
        return self.kernels.backend.xp.reshape(stored, (stored.shape[0], -1))

    def direction(
        self, accepted: np.ndarray, step: tuple[Array, Array], g: Array, W: Array, host: Floats, own: Floats
    ) -> Array:
        """See the protocol."""
        xp, slot = self.kernels.backend.xp, self.pairs.count % self.pairs.memory
        stored = self.pairs.by_kind(host.reshape(len(host), -1, 3))
        self.pairs.add(accepted, *step, stored[..., :2], own[:, [0, 0, 1], [0, 1, 1]])
        with_g = stored[..., 2]
        new = self.pairs.age[:, slot] == self.pairs.count
        with_g[:, new, slot] = own[new, :2, 2].T
        gamma, c = self.pairs.coefficients(*with_g)
        both = self.kernels.backend.from_host(-np.concatenate([gamma[:, None], c], axis=1))
        return both[:, :1] * g + xp.matmul(both[:, None, 1:], self.pairs.filled())[:, 0, :]

    def forget(self, models: Ints) -> bool:
        """See the protocol."""
        had = bool(self.pairs.age[models].any())
        self.pairs.forget(models)
        return had

    def take(self, keep: Ints, places: Array, objective: Objective) -> None:
        """See the protocol."""
        self.objective = objective
        self.pairs.take(keep, places)


class Newton:
    """`-H^-1 g` with the exact Hessian in the centred variables, scaled to a unit diagonal before it is solved."""

    def __init__(self, objective: Objective, centre: Floats | None) -> None:
        self.objective, self.centre = objective, centre

    def first(
        self, W: Array, g: Array, pair: tuple[Array, Array] | None, pairs: Sequence[Heritage | None], conditioning: Any
    ) -> Array:
        """See the protocol."""
        flat = self.objective.kernels.backend.xp.reshape(g, (g.shape[0], -1))
        nothing = np.zeros((g.shape[0], 0))
        return self.direction(np.ones(g.shape[0], bool), (flat, flat), flat, W, nothing, nothing)

    def products(self, trial: Array) -> Array | None:
        """See the protocol."""
        return None

    def direction(
        self, accepted: np.ndarray, step: tuple[Array, Array], g: Array, W: Array, host: Floats, own: Floats
    ) -> Array:
        """See the protocol."""
        objective, A = self.objective, len(accepted)
        kernels, P = objective.kernels, g.shape[1]
        at_once = max(1, HESSIAN_BYTES // (8 * P * P))
        if kernels.lanes > 1 and 8 * P * P > SHARED_BYTES:
            at_once = 1  # each is a separate task for a thread
        starts = range(0, A, at_once)
        parts: list[Array] = [None] * len(starts)

        def task(number: int) -> None:
            models = slice(starts[number], min(starts[number] + at_once, A))
            mine = objective.take(np.arange(A)[models])
            parts[number] = self.solve(mine, W[models, :, :], g[models, :])

        kernels.share_out(len(starts), task)
        return parts[0] if len(parts) == 1 else kernels.backend.xp.concat(parts, axis=0)

    def solve(self, objective: Objective, W: Array, g: Array) -> Array:
        """`-H^-1 g` of some models `(B, P)`, `objective` being theirs, at `W (B, K, D)`."""
        backend, xp = objective.kernels.backend, objective.kernels.backend.xp
        H, root = scaled_hessian(objective, W, self.centre)
        eye = backend.from_host(np.eye(g.shape[1]))
        finite = xp.all(xp.isfinite(H), axis=(1, 2), keepdims=True)
        H = xp.where(finite, H, eye) + RIDGES[0] * eye  # one that overflowed may be singular to LAPACK
        d = -root * xp.linalg.solve(H, (root * g)[:, :, None])[:, :, 0]
        d = xp.where(finite[:, :, 0], d, xp.full_like(d, np.nan))  # its model diverges
        return xp.reshape(objective.unmoved(xp.reshape(d, W.shape)), d.shape)

    def forget(self, models: Ints) -> bool:
        """See the protocol."""
        return False

    def take(self, keep: Ints, places: Array, objective: Objective) -> None:
        """See the protocol."""
        self.objective = objective
