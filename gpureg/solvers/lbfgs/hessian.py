"""Exact Hessians of single models, and the variables in which they are the identity.

Both are for models small enough that `D K` squared numbers are affordable; `directions` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.conditioning import Conditioning, centred
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.types import Array, Floats, Ints

DEAD = 1e-30  # of the largest curvature: a weight that no sample moves
RIDGES = (1e-12, 1e-9, 1e-6)  # of the diagonal: keep what no sample moves (a constant feature, equal biases) solvable
LEAST_BLOCK = 64  # rows of a triangle that LAPACK inverts as a whole


def scaled_hessian(objective: Objective, W: Array, centre: Floats | None) -> tuple[Array, Array]:
    """`R H R` `(A, P, P)` at `W (A, K, D)` and R's diagonal `(A, P)`, P = K D; H in the centred variables, with the
    penalty.

    R makes the diagonal 1; a weight that no sample and no penalty moves gets 0 in R and 1 on the diagonal.
    """
    kernels, rows = objective.kernels, objective.rows
    xp = kernels.backend.xp
    column = objective.table.column if objective.weighted else None
    H = rows.curvature(objective.columns(W), column, centre) / rows.n
    decay = objective.decay(H.shape[1])
    diagonal = xp.linalg.diagonal(H) + decay
    moved = diagonal > DEAD * xp.max(diagonal, axis=1, keepdims=True)
    zero, one = xp.zeros_like(diagonal), xp.ones_like(diagonal)
    root = xp.where(moved, 1.0 / xp.sqrt(xp.where(moved, diagonal, one)), zero)
    eye = kernels.backend.from_host(np.eye(H.shape[1]))
    H = (H + decay[:, :, None] * eye) * root[:, :, None] * root[:, None, :]
    return H + xp.where(moved, zero, one)[:, :, None] * eye, root


@dataclass(frozen=True)
class Whitened:
    """`W = origin + T z` for A models, T such that the Hessian at the origin is the identity in z: with `H = L L'` in
    the centred variables, `T = C L^-T`, C the centring.

    Offers what `Conditioning` does; `plain` is C as one. The gradient at z = 0 is minus Newton's step, and pairs that
    L-BFGS collects there mend what changes in H on the way: a few Hessians do the work of many. `inverses` has `L^-1
    (P, P)` of each model (kept separate, so that removing one copies none), `origin (A, K, D)`, float64 on the
    device.
    """

    plain: Conditioning
    inverses: tuple[Array, ...]
    origin: Array

    def variables(self, W: Array) -> Array:
        """Where a batch begins: z = 0, the origin, which is the only W that is ever asked for."""
        return self.plain.kernels.backend.xp.zeros_like(W)

    def weights(self, v: Array) -> Array:
        """`origin + T v`, `(A, K, D)`."""
        xp = self.plain.kernels.backend.xp
        return self.origin + self.plain.weights(self._each(v, lambda row, inverse: xp.matmul(row, inverse)))

    def slope(self, gradient: Array) -> tuple[Array, Array, Array]:
        """As `Conditioning.slope`: `T' ∇_W`, and the squared norms in the penalised weights and in a free bias."""
        xp = self.plain.kernels.backend.xp
        g, slope, bias = self.plain.slope(gradient)
        return self._each(g, lambda row, inverse: xp.matmul(inverse, row)), slope, bias

    def take(self, models: Ints) -> Whitened:
        """That of `models (B,)`."""
        backend = self.plain.kernels.backend
        origin = backend.xp.take(self.origin, backend.from_host(models), axis=0)
        return replace(self, inverses=tuple(self.inverses[model] for model in models.tolist()), origin=origin)

    def _each(self, vectors: Array, product: Callable[[Array, Array], Array]) -> Array:
        """`product(vector (P,), inverse (P, P))` of each model's vector, `vectors (A, K, D)`."""
        xp = self.plain.kernels.backend.xp
        flat = xp.reshape(vectors, (vectors.shape[0], vectors.shape[1] * vectors.shape[2]))
        parts: list[Array] = [None] * len(self.inverses)

        def task(model: int) -> None:
            parts[model] = product(flat[model, :], self.inverses[model])

        self.plain.kernels.share_out(len(parts), task)
        return xp.reshape(xp.stack(parts, axis=0), vectors.shape) if parts else vectors


def whitened(objective: Objective, W: Array) -> Whitened:
    """The variables in which the Hessian at `W (A, K, D)` is the identity."""
    kernels = objective.kernels
    xp, A = kernels.backend.xp, W.shape[0]
    plain, centre = centred(kernels, objective.rows, free=not objective.penalize_bias)
    parts: list[Array] = [None] * A

    def task(model: int) -> None:
        mine = objective.take(np.array([model]))
        H, root = scaled_hessian(mine, W[model : model + 1, :, :], centre)
        inverse = xp.reshape(_inverse_factor(kernels, H[0, :, :]) * root, (-1, W.shape[1], W.shape[2]))
        parts[model] = xp.reshape(mine.unmoved(inverse), H.shape[1:])

    kernels.share_out(A, task)
    return Whitened(plain, tuple(parts), W)


def _inverse_factor(kernels: Kernels, H: Array) -> Array:
    """`L^-1` with `L L' = H (P, P)` of unit diagonal, the ridge as small as it can be; the identity where there is
    none."""
    xp = kernels.backend.xp
    eye = kernels.backend.from_host(np.eye(H.shape[0]))
    for ridge in RIDGES:
        ridged = H + ridge * eye
        try:
            factor = xp.linalg.cholesky(ridged)
        except (np.linalg.LinAlgError, RuntimeError):  # RuntimeError: PyTorch's
            continue
        if _is_factor(kernels, factor, ridged):
            return triangular_inverse(kernels, factor)
    return eye


def _is_factor(kernels: Kernels, L: Array, H: Array) -> bool:
    """Whether `L L' = H`, tried on one vector: CuPy answers a failed factorisation with what it has got so far."""
    xp = kernels.backend.xp
    ones = xp.ones_like(H[:, :1])
    expected = xp.sum(H, axis=1, keepdims=True)
    left = xp.max(xp.abs(xp.matmul(L, xp.matmul(xp.matrix_transpose(L), ones)) - expected))
    host = kernels.to_host(xp.stack([left, xp.min(xp.linalg.diagonal(L))]))  # sync
    return bool(np.isfinite(host).all() and host[0] <= 1e-8 * H.shape[0] and host[1] > 0.0)


def triangular_inverse(kernels: Kernels, L: Array) -> Array:
    """`L^-1` of a lower triangle `(P, P)`, by halves: matrix products, where LAPACK's general inverse takes ten times
    as long."""
    backend = kernels.backend
    xp, size = backend.xp, L.shape[0]
    if size <= LEAST_BLOCK:
        return xp.linalg.inv(L)
    half = size // 2
    first, last = triangular_inverse(kernels, L[:half, :half]), triangular_inverse(kernels, L[half:, half:])
    corner = -xp.matmul(last, xp.matmul(L[half:, :half], first))
    right = backend.from_host(np.zeros((half, size - half)))
    return xp.concat([xp.concat([first, right], axis=1), xp.concat([corner, last], axis=1)], axis=0)
