"""Exact Hessians, and the variables in which they are the identity.

Both are for models small enough that `D K` squared numbers are affordable; `directions` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.moments import curvature_bytes
from gpureg.solvers.lbfgs.conditioning import Conditioning, centred
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.types import Array, Floats, Ints

DEAD = 1e-30  # of the largest curvature: a weight that no sample moves
RIDGES = (1e-12, 1e-9, 1e-6)  # of the diagonal: keep what no sample moves (a constant feature, equal biases) solvable
LEAST_BLOCK = 64  # rows of a triangle that LAPACK inverts as a whole
HESSIAN_BYTES = 1 << 26  # Hessians that are held at once
COPIES = 6  # of them while they are made, scaled and factorised


def hessian_bytes(n: int, D: int, K: int, models: int) -> int:
    """Bytes of work arrays that the Hessians of that many models take on n samples."""
    each = 8 * (K * D) ** 2
    at_once = max(1, min(models, HESSIAN_BYTES // each))
    return curvature_bytes(n, D, K, at_once) + COPIES * at_once * each


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
class Group:
    """Models whose Hessians were made together: `models (B,)` as the fit numbers them, at `origins (B, K, D)`. Those at
    the places `kept (b,)` are still here, with `L^-1`, `inverses (b, P, P)`. Float64, on the device.

    A resumed fit makes them again in the same groups: a product of another width rounds differently.
    """

    models: Ints
    origins: Array
    kept: Ints
    inverses: Array


@dataclass(frozen=True)
class Whitened:
    """`W = origin + T z` for A models, T such that the Hessian at the origin is the identity in z: with `H = L L'` in
    the centred variables, `T = C L^-T`, C the centring.

    Has the interface of `Conditioning`; `plain` is C as one. The gradient at z = 0 is minus Newton's step, and the
    pairs that L-BFGS collects there correct for the changes of H on the way: a few Hessians do the work of many.
    `origin (A, K, D)` is on the device; `groups` have the inverses.
    """

    plain: Conditioning
    groups: tuple[Group, ...]
    origin: Array

    def variables(self, W: Array) -> Array:
        """The start of a batch: z = 0, the origin, which is the only W ever passed."""
        return self.plain.kernels.backend.xp.zeros_like(W)

    def weights(self, v: Array) -> Array:
        """`origin + T v`, `(A, K, D)`."""
        xp = self.plain.kernels.backend.xp
        moved = self._each(v, lambda rows, inverses: xp.matmul(rows[:, None, :], inverses)[:, 0, :])
        return self.origin + self.plain.weights(moved)

    def slope(self, gradient: Array) -> tuple[Array, Array, Array]:
        """As `Conditioning.slope`: `T' ∇_W`, and the squared norms in the penalised weights and in a free bias."""
        xp = self.plain.kernels.backend.xp
        g, slope, bias = self.plain.slope(gradient)
        return self._each(g, lambda rows, inverses: xp.matmul(inverses, rows[:, :, None])[:, :, 0]), slope, bias

    def take(self, models: Ints) -> Whitened:
        """That of `models (B,)`, in rising order. What is left of a group is copied, if it has lost any."""
        backend, groups, first = self.plain.kernels.backend, [], 0
        for group in self.groups:
            last = first + len(group.kept)
            own = models[(models >= first) & (models < last)] - first
            if 0 < len(own) < len(group.kept):
                inverses = backend.xp.take(group.inverses, backend.from_host(own), axis=0)
                group = replace(group, kept=group.kept[own], inverses=inverses)
            groups += [group] if len(own) else []
            first = last
        origin = backend.xp.take(self.origin, backend.from_host(models), axis=0)
        return replace(self, groups=tuple(groups), origin=origin)

    def _each(self, vectors: Array, product: Callable[[Array, Array], Array]) -> Array:
        """`product(vectors (b, P), inverses (b, P, P))` of each group, `vectors (A, K, D)`."""
        xp = self.plain.kernels.backend.xp
        flat = xp.reshape(vectors, (vectors.shape[0], vectors.shape[1] * vectors.shape[2]))
        ends = np.cumsum([0, *(len(group.kept) for group in self.groups)]).tolist()
        parts: list[Array] = [None] * len(self.groups)

        def task(number: int) -> None:
            parts[number] = product(flat[ends[number] : ends[number + 1], :], self.groups[number].inverses)

        self.plain.kernels.share_out(len(parts), task)
        found = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0) if parts else vectors
        return xp.reshape(found, vectors.shape)


def whitened(objective: Objective, W: Array, models: Ints, sizes: Sequence[int] | None = None) -> Whitened:
    """The variables in which the Hessians at `W (A, K, D)` are the identity; `models (A,)` as the fit numbers them.

    `sizes`: of the groups that are made together; by default one model for a thread, and for a device as many as
    `HESSIAN_BYTES` hold.
    """
    kernels = objective.kernels
    xp, A, (K, D) = kernels.backend.xp, W.shape[0], W.shape[1:]
    if sizes is None:
        at_once = 1 if kernels.lanes > 1 else max(1, HESSIAN_BYTES // (8 * (K * D) ** 2))
        sizes = [min(at_once, A - start) for start in range(0, A, at_once)]
    ends = np.cumsum([0, *sizes]).tolist()
    plain, centre = centred(kernels, objective.rows, free=not objective.penalize_bias)
    groups: list[Group] = [None] * len(sizes)  # type: ignore[list-item]

    def task(number: int) -> None:
        places = np.arange(ends[number], ends[number + 1])
        mine, at = objective.take(places), W[ends[number] : ends[number + 1], :, :]
        H, root = scaled_hessian(mine, at, centre)
        rows = xp.reshape(inverse_factors(kernels, H) * root[:, None, :], (len(places), K * D, K, D))
        inverses = xp.reshape(mine.unmoved(rows), H.shape)
        groups[number] = Group(models[places], at, np.arange(len(places)), inverses)

    kernels.share_out(len(sizes), task)
    return Whitened(plain, tuple(groups), W)


def inverse_factors(kernels: Kernels, H: Array) -> Array:
    """`L^-1 (A, P, P)` with `L L' = H (A, P, P)` of unit diagonals, each ridge as small as possible; the identity if
    there is none."""
    backend, count = kernels.backend, H.shape[0]
    xp, eye = backend.xp, backend.from_host(np.eye(H.shape[1])[None, :, :])
    left, order = np.arange(count), []
    found: list[Array] = []
    for ridge in RIDGES:
        ridged = H + ridge * eye
        factors, good = _factors(kernels, ridged)
        if good.all() and not found:
            return triangular_inverses(kernels, factors)
        if good.any():
            found.append(
                triangular_inverses(kernels, xp.take(factors, backend.from_host(np.flatnonzero(good)), axis=0))
            )
            order.append(left[good])
        left = left[~good]
        if not len(left):
            break
        H = xp.take(H, backend.from_host(np.flatnonzero(~good)), axis=0)
    found += [eye] * len(left)
    order.append(left)
    places = np.argsort(np.concatenate(order))
    return xp.take(xp.concat(found, axis=0), backend.from_host(places), axis=0)


def _factors(kernels: Kernels, H: Array) -> tuple[Array, np.ndarray]:
    """Cholesky factors `(A, P, P)`, and the mask `(A,)` of those that are valid."""
    xp = kernels.backend.xp
    try:  # for one matrix LAPACK's own routine, not the one for many small matrices
        factors = xp.linalg.cholesky(H[0, :, :])[None, :, :] if H.shape[0] == 1 else xp.linalg.cholesky(H)
    except (np.linalg.LinAlgError, RuntimeError):  # RuntimeError: PyTorch's
        if H.shape[0] == 1:
            return H, np.zeros(1, bool)
        single = [_factors(kernels, H[number : number + 1, :, :]) for number in range(H.shape[0])]
        return xp.concat([factor for factor, _ in single], axis=0), np.concatenate([good for _, good in single])
    return factors, are_factors(kernels, factors, H)


def are_factors(kernels: Kernels, L: Array, H: Array) -> np.ndarray:
    """Mask `(A,)` of the models with `L L' = H (A, P, P)`, tried on one vector: after a failed factorisation CuPy
    returns what it has computed so far."""
    xp = kernels.backend.xp
    ones = xp.ones_like(H[:, :, :1])
    wrong = xp.abs(xp.matmul(L, xp.matmul(xp.matrix_transpose(L), ones)) - xp.sum(H, axis=2, keepdims=True))
    least = xp.min(xp.linalg.diagonal(L), axis=1)
    most, pivot = kernels.to_host(xp.stack([xp.max(wrong, axis=(1, 2)), least], axis=0))  # sync
    mask: np.ndarray = np.isfinite(most) & np.isfinite(pivot) & (most <= 1e-8 * H.shape[1]) & (pivot > 0.0)
    return mask


def triangular_inverses(kernels: Kernels, L: Array) -> Array:
    """`L^-1` of lower triangles `(A, P, P)`, by halves: matrix products, where LAPACK's general inverse takes ten times
    as long."""
    xp, size = kernels.backend.xp, L.shape[1]
    if size <= LEAST_BLOCK:
        return xp.linalg.inv(L)
    half = size // 2
    first, last = (triangular_inverses(kernels, L[:, part, part]) for part in (slice(half), slice(half, size)))
    corner = -xp.matmul(last, xp.matmul(L[:, half:, :half], first))
    above = L[:, :half, half:]  # zeros
    return xp.concat([xp.concat([first, above], axis=2), xp.concat([corner, last], axis=2)], axis=1)
