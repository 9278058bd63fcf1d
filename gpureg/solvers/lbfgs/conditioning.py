"""The change of variables that a full-batch solver works in: J is the same, its level sets are rounder.

A model's weights are `W = T v`, and `∇_v = T' ∇_W`. T is built from the samples once and shared by the batch; only a
diagonal depends on λ:

- Bias free: the features are centred at their weighted mean m, exactly, by `bias = c - m·w` (`c` takes the bias's
place in v).
- `X'X / n = Q diag(s) Q'` (centred where the bias is free, else with the bias column): `w = Q u`, which leaves `λ
||w||²` as it is, and
  `u = v / sqrt(h s + 2 λ)`. That makes the Hessian the identity where every probability is 1/K (h = 1/K; 1/4 for the
  logistic task): features of unlike scales are cured, and so are correlated ones.
- Above `MOST_ROTATED` features Q costs more than it saves: the diagonal of X'X / n takes its place.

Means and X'X are weighted (`rows.moments`), so that a sample of weight 2 remains the same as a sample given
twice. Measured (MNIST, 20,000 samples; passes over the data to a gap of 1e-5, bias penalised, λ = 1e-2, 1e-3, 1e-4):
103, 264, 696 without and 34, 86, 206 with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.protocol import Rows
from gpureg.types import Array, Floats, Ints

MOST_ROTATED = (
    2048  # features: an eigendecomposition of 2048 takes about as long as some ten passes over 50,000 samples
)
DEAD = 4 * np.finfo(float).eps  # times D, of the largest eigenvalue: what is below is rounding, and is left as it is


@dataclass(frozen=True)
class Conditioning:
    """`W = T v` for A models: `v (A, K, D)` float64 on the device, the bias last.

    `basis (D, D)` is T without its diagonal, None for the identity; `shift (D,)` the centre that such a T still
    subtracts, None where there is none; `scale (A, 1, D)` the diagonal, None for ones. `free`: the last variable is
    not penalised.
    """

    kernels: Kernels
    basis: Array | None
    shift: Array | None
    scale: Array | None
    free: bool

    def weights(self, v: Array) -> Array:
        """`T v` `(A, K, D)`."""
        xp = self.kernels.backend.xp
        u = v if self.scale is None else v * self.scale
        if self.basis is not None:
            flat = xp.reshape(u, (-1, u.shape[2]))
            return xp.reshape(xp.matmul(flat, xp.matrix_transpose(self.basis)), u.shape)
        if self.shift is None:
            return u
        return xp.concat([u[:, :, :-1], u[:, :, -1:] - xp.sum(u * self.shift, axis=2, keepdims=True)], axis=2)

    def variables(self, W: Array) -> Array:
        """The v of given weights `(A, K, D)`: the inverse of `weights`."""
        xp = self.kernels.backend.xp
        if self.basis is not None:
            flat = xp.matrix_transpose(xp.reshape(W, (-1, W.shape[2])))
            u = xp.reshape(xp.matrix_transpose(xp.linalg.solve(self.basis, flat)), W.shape)
        elif self.shift is not None:
            u = xp.concat([W[:, :, :-1], W[:, :, -1:] + xp.sum(W * self.shift, axis=2, keepdims=True)], axis=2)
        else:
            u = W
        return u if self.scale is None else u / self.scale

    def slope(self, gradient: Array) -> tuple[Array, Array, Array]:
        """`T' ∇_W` `(A, K, D)`, and the squared norms `(A,)` of the gradient in the penalised weights (centred, not
        scaled: what the bound on the gap wants) and in a free bias (0 where it is penalised).
        """
        xp = self.kernels.backend.xp
        g = gradient
        if self.basis is not None:
            g = xp.reshape(xp.matmul(xp.reshape(g, (-1, g.shape[2])), self.basis), g.shape)
        elif self.shift is not None:
            g = g - g[:, :, -1:] * self.shift
        square = g * g
        tail = xp.sum(square[:, :, -1], axis=1)
        total = xp.sum(square, axis=(1, 2))
        bias = tail if self.free else 0.0 * tail
        return (g if self.scale is None else g * self.scale), (total - bias), bias

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
    if not free:
        return Conditioning(kernels, None, None, None, False), None
    centre = rows.mean()
    centre[-1] = 0.0
    return Conditioning(kernels, None, kernels.backend.from_host(centre), None, True), centre


def conditioned(kernels: Kernels, rows: Rows, l2: Floats, *, free: bool) -> Conditioning:
    """The conditioning of models with penalties `l2 (A,)`; `free` where the bias is not penalised."""
    D = rows.features
    plain, centre = centred(kernels, rows, free=free)
    origin = np.zeros(D) if centre is None else centre
    h = kernels.loss.curvature(kernels.n_columns)
    if D > MOST_ROTATED:
        spread, basis = kernels.to_host(rows.scatter(origin, diagonal=True)), None  # sync
    else:
        spread, basis = _eigenbasis(kernels, rows.scatter(origin), centre)
    spread = np.maximum(spread, 0.0)
    diagonal = h * spread[None, :] + 2.0 * np.asarray(l2)[:, None]
    most = h * max(float(spread.max()), np.finfo(float).tiny)
    diagonal = np.where(diagonal > DEAD * D * most, diagonal, most)
    if free:
        diagonal[:, -1] = h
    scale = kernels.backend.from_host(1.0 / np.sqrt(diagonal)[:, None, :])
    return replace(plain, basis=basis, shift=None if basis is not None else plain.shift, scale=scale)


def _eigenbasis(kernels: Kernels, second: Array, centre: Floats | None) -> tuple[Floats, Array]:
    """Eigenvalues `(D,)` on the host, and `T` without its diagonal `(D, D)` on the device.

    With a centre the bias keeps its own variable: T = [[Q, 0], [-m'Q, 1]].
    """
    backend = kernels.backend
    xp = backend.xp
    if centre is None:
        values, vectors = xp.linalg.eigh(second)
        return kernels.to_host(values), vectors  # sync
    values, Q = xp.linalg.eigh(second[:-1, :-1])
    last = xp.matmul(backend.from_host(-centre[None, :-1]), Q)
    corner = backend.from_host(np.concatenate([np.zeros((len(centre) - 1, 1)), np.ones((1, 1))]))
    basis = xp.concat([xp.concat([Q, last], axis=0), corner], axis=1)
    return np.append(kernels.to_host(values), 1.0), basis  # sync
