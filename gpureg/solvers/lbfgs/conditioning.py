"""The change of variables in which a full-batch solver works: J is the same, but its level sets are rounder.

A model's weights are `W = T v`, and `∇_v = T' ∇_W`. T is built from the samples once and shared by all models; only a
diagonal depends on λ:

- Bias free: the features are centred at their weighted mean m, exactly, by `bias = c - m·w` (`c` takes the bias's
place in v).
- `X'X / n = Q diag(s) Q'` (centred where the bias is free, else with the bias column): `w = Q u`, which leaves `λ
||w||²` as it is, and
  `u = v / sqrt(h s + 2 λ)`. That makes the Hessian the identity where every probability is 1/K (h = 1/K; 1/4 for the
  logistic task): it cures features of different scales, and correlated ones.
- Above `MOST_ROTATED` features, and for sparse rows of more than a few, Q costs more than it saves: the diagonal of
  X'X / n takes its place.

At an optimum the Hessian is better described by a Kronecker product, A ⊗ S with A the mean of diag(p) - p p' (K x K),
of eigenvalues a and eigenvectors U, and S = Σ u x x' / Σ u, u = 1 - Σ p² (D x D): `kronecker` makes the variables `W =
U (v / sqrt(a_i s_j + 2 λ)) Q'` from the weights of one model, for all. At W = 0 they are those above, for K = 1 A ⊗ S
is the Hessian itself, and its trace over the classes always is. Measured (5,000 MNIST images, 10 C from 1e-5 to 10, 5
folds and the refit side by side, to a gap of 1e-8): 501 products where the variables above take 1,315.

Means and X'X are weighted (`rows.moments`), so that a sample of weight 2 remains the same as a sample given
twice. Measured (MNIST, 20,000 samples; passes over the data to a gap of 1e-5, bias penalised, λ = 1e-2, 1e-3, 1e-4):
103, 264, 696 without and 34, 86, 206 with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.protocol import Rows
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.types import Array, Floats, Ints

MOST_ROTATED = (
    2048  # features: an eigendecomposition of 2048 takes about as long as some ten passes over 50,000 samples
)
DEAD = 4 * np.finfo(float).eps  # times D, of the largest eigenvalue: what is below is rounding, and is left alone


WORTH_THREADS = 1 << 22  # multiply-adds of a product above which threads are worth starting
EIGH = 3.0  # an eigendecomposition of D features takes as long as EIGH D² / (n K) passes (measured, D up to 1,500)


def build_passes(rows: Rows, K: int) -> float:
    """What `kronecker` costs, in passes of one model over the n samples: the probabilities, products of n D² and n K²
    (where a pass makes two of n D K), and the eigendecompositions.
    """
    n, D = rows.n, rows.features
    if not rotates(rows):
        return 2.0 + K / D + EIGH * K**2 / (n * D)
    return 1.0 + D / (2 * K) + K / D + EIGH * (D**3 + K**3) / (n * D * K)


def rotates(rows: Rows) -> bool:
    """Whether the second moments of these rows are decomposed; if not, only their diagonal is used."""
    return rows.rotates and rows.features <= MOST_ROTATED


@dataclass(frozen=True)
class Conditioning:
    """`W = T v` for A models: `v (A, K, D)` float64 on the device, the bias last; `T v = U (v * scale) B'`.

    `basis B (D, D)`, None for the identity; `centre (D,)` of the features where the bias is free, its bias 0, else
    None; `scale (A, 1 or K, D)` the diagonal, None for ones; `turn U (K, K)` orthonormal, None for the identity.
    `free`: the last variable is not penalised; `worth (K,)` or (1,) is then one over the curvature in each bias.
    """

    kernels: Kernels
    basis: Array | None
    centre: Array | None
    scale: Array | None
    free: bool
    worth: Array
    turn: Array | None = None

    def weights(self, v: Array) -> Array:
        """`T v` `(A, K, D)`."""
        xp = self.kernels.backend.xp
        u = v if self.scale is None else v * self.scale
        if self.turn is not None:
            u = self._product(self.turn, u)
        if self.basis is not None:
            return self._times(u, xp.matrix_transpose(self.basis))
        if self.centre is None:
            return u
        return xp.concat([u[:, :, :-1], u[:, :, -1:] - xp.sum(u * self.centre, axis=2, keepdims=True)], axis=2)

    def variables(self, W: Array) -> Array:
        """The v of given weights `(A, K, D)`: the inverse of `weights`."""
        xp = self.kernels.backend.xp
        if self.basis is not None and not self.free:  # orthonormal
            u = self._times(W, self.basis)
        elif self.basis is not None:  # Q' w, and c = b + m'w, m'w = m'Q Q'w
            Q, last = self.basis[:-1, :-1], self.basis[-1, :-1]
            w = self._times(W[:, :, :-1], Q)
            u = xp.concat([w, W[:, :, -1:] - xp.sum(w * last, axis=2, keepdims=True)], axis=2)
        elif self.centre is not None:
            u = xp.concat([W[:, :, :-1], W[:, :, -1:] + xp.sum(W * self.centre, axis=2, keepdims=True)], axis=2)
        else:
            u = W
        if self.turn is not None:
            u = self._product(xp.matrix_transpose(self.turn), u)
        return u if self.scale is None else u / self.scale

    def slope(self, gradient: Array) -> tuple[Array, Array, Array]:
        """`T' ∇_W` `(A, K, D)`; the squared norm `(A,)` of the gradient in the penalised weights (centred, not scaled:
        what the bound on the gap needs); and that in a free bias, each entry over its curvature, about twice what the
        objective can still fall there (0 if the bias is penalised).
        """
        xp = self.kernels.backend.xp
        g = gradient
        if self.basis is not None:
            g = self._times(g, self.basis)
        elif self.centre is not None:
            g = g - g[:, :, -1:] * self.centre
        if self.turn is not None:
            g = self._product(xp.matrix_transpose(self.turn), g)
        return (g if self.scale is None else g * self.scale), *self._squares(g, g[:, :, -1])

    def norms(self, gradient: Array) -> tuple[Array, Array]:
        """The last two of `slope`, which no rotation changes, without one."""
        g = gradient if self.centre is None else gradient - gradient[:, :, -1:] * self.centre
        tail = g[:, :, -1]
        return self._squares(g, tail if self.turn is None else self.kernels.backend.xp.matmul(tail, self.turn))

    def _squares(self, g: Array, tail: Array) -> tuple[Array, Array]:
        """`slope`'s last two, from gradients `(A, K, D)` about the centre; `tail (A, K)` is that in the biases, turned
        as the classes are.
        """
        xp = self.kernels.backend.xp
        total = xp.sum(g * g, axis=(1, 2))
        if not self.free:
            return total, xp.zeros_like(total)
        square = tail * tail
        return total - xp.sum(square, axis=1), xp.sum(square * self.worth, axis=1)

    def _times(self, u: Array, matrix: Array) -> Array:
        """`u (A, K, D)` times a matrix `(D, D)`, the columns of all models shared among the kernels' threads."""
        flat = self.kernels.backend.xp.reshape(u, (-1, u.shape[2]))
        return self.kernels.backend.xp.reshape(self._product(flat, matrix), u.shape)

    def _product(self, left: Array, right: Array) -> Array:
        """`left (m, k)` times `right (..., k, n)`; the kernels' threads share the rows of left if that is worth it."""
        xp, m = self.kernels.backend.xp, left.shape[0]
        count = self.kernels.lanes if m * math.prod(right.shape) >= WORTH_THREADS else 1
        bounds = [m * number // count for number in range(count + 1)]
        parts: list[Array] = [left] * count

        def task(number: int) -> None:
            parts[number] = xp.matmul(left[bounds[number] : bounds[number + 1], :], right)

        self.kernels.share_out(count, task)
        return parts[0] if count == 1 else xp.concat(parts, axis=-2)

    def take(self, models: Ints) -> Conditioning:
        """That of `models (B,)`."""
        if self.scale is None:
            return self
        return replace(
            self, scale=self.kernels.backend.xp.take(self.scale, self.kernels.backend.from_host(models), axis=0)
        )


def centred(kernels: Kernels, rows: Rows, *, free: bool) -> tuple[Conditioning, Floats | None]:
    """Centring alone, for a method that needs no more (Newton's); with the centre `(D,)`, its bias 0. None: no
    centring."""
    worth = kernels.backend.from_host(np.array([1.0 / kernels.loss.curvature(kernels.n_columns)]))
    if not free:
        return Conditioning(kernels, None, None, None, False, worth), None
    centre = rows.mean()
    centre[-1] = 0.0
    return Conditioning(kernels, None, kernels.backend.from_host(centre), None, True, worth), centre


@dataclass(frozen=True)
class Spectrum:
    """The curvature of the samples, decomposed once: the variables of every λ are made from it.

    `spread (D,)` on the host, eigenvalues of the second moments (or their diagonal), at least 0; `basis (D, D)` on the
    device as `Conditioning` has it, None for a diagonal; `centre (D,)` on the host where the bias is free, its bias 0,
    else None; `classes (K,)` or (1,) on the host, the eigenvalues that belong to `turn (K, K)` on the device (None: the
    identity).
    """

    kernels: Kernels
    spread: Floats
    basis: Array | None
    centre: Floats | None
    classes: Floats
    turn: Array | None = None

    def at(self, l2: Floats) -> Conditioning:
        """The conditioning of models with penalties `l2 (A,)`."""
        from_host, D, free = self.kernels.backend.from_host, len(self.spread), self.centre is not None
        most = float(self.classes.max())
        largest = most * max(float(self.spread.max()), np.finfo(float).tiny)
        diagonal = self.classes[None, :, None] * self.spread[None, None, :] + 2.0 * np.asarray(l2)[:, None, None]
        diagonal = np.where(diagonal > DEAD * D * largest, diagonal, largest)
        biases = np.where(self.classes > DEAD * len(self.classes) * most, self.classes, most)
        if free:
            diagonal[:, :, -1] = biases
        centre = None if self.centre is None else from_host(self.centre)
        scale, worth = from_host(1.0 / np.sqrt(diagonal)), from_host(1.0 / biases)
        return Conditioning(self.kernels, self.basis, centre, scale, free, worth, self.turn)


def spectrum(kernels: Kernels, rows: Rows, *, free: bool) -> Spectrum:
    """The spectrum of the samples' second moments; `free` if the bias is not penalised."""
    _, centre = centred(kernels, rows, free=free)
    origin = np.zeros(rows.features) if centre is None else centre
    spread, basis = _decomposed(kernels, rows.scatter(origin, diagonal=not rotates(rows)), centre)
    return Spectrum(kernels, spread, basis, centre, np.array([kernels.loss.curvature(kernels.n_columns)]))


def kronecker(kernels: Kernels, rows: Rows, W: Array, column: Ints | None, *, free: bool) -> Spectrum | None:
    """That of the Kronecker product which describes the Hessian at the weights `W (D, K)` of a model, with its
    `column (1,)` of row weights; None where its samples have no curvature left that the float type can tell from 0.
    """
    sums = rows.kronecker(W, column, free=free, diagonal=not rotates(rows))
    if sums is None:
        return None
    centre = None
    if free:
        centre = sums.centre.copy()
        centre[-1] = 0.0
    spread, basis = _decomposed(kernels, sums.moments, centre)
    if kernels.n_columns == 1:
        return Spectrum(kernels, spread, basis, centre, sums.classes.reshape(1))
    classes, turn = np.linalg.eigh(sums.classes)
    return Spectrum(kernels, spread, basis, centre, np.maximum(classes, 0.0), kernels.backend.from_host(turn))


def at_an_optimum(objective: Objective, W: Floats) -> Spectrum | None:
    """`kronecker` at the weights `W (A, K, D)` of an objective's models: of the first that is not a fold's, else of the
    first.
    """
    one = np.array([int(np.argmin(objective.table.fold >= 0))])
    column = objective.table.column[one] if objective.weighted else None
    at = objective.columns(objective.kernels.backend.from_host(np.ascontiguousarray(W[one])))
    return kronecker(objective.kernels, objective.rows, at, column, free=not objective.penalize_bias)


def conditioned(kernels: Kernels, rows: Rows, l2: Floats, *, free: bool) -> Conditioning:
    """The conditioning of models with penalties `l2 (A,)`; `free` if the bias is not penalised."""
    return spectrum(kernels, rows, free=free).at(l2)


def _decomposed(kernels: Kernels, second: Array, centre: Floats | None) -> tuple[Floats, Array | None]:
    """Eigenvalues `(D,)` of moments `(D, D)`, at least 0, and B; of a diagonal `(D,)` itself, and None.

    With a centre the bias keeps its own variable: B = [[Q, 0], [-m'Q, 1]].
    """
    backend = kernels.backend
    xp = backend.xp
    if second.ndim == 1:
        return np.maximum(kernels.to_host(second), 0.0), None  # sync
    if centre is None:
        values, vectors = xp.linalg.eigh(second)
        return np.maximum(kernels.to_host(values), 0.0), vectors  # sync
    values, Q = xp.linalg.eigh(second[:-1, :-1])
    last = xp.matmul(backend.from_host(-centre[None, :-1]), Q)
    corner = backend.from_host(np.concatenate([np.zeros((len(centre) - 1, 1)), np.ones((1, 1))]))
    basis = xp.concat([xp.concat([Q, last], axis=0), corner], axis=1)
    return np.append(np.maximum(kernels.to_host(values), 0.0), 1.0), basis  # sync
