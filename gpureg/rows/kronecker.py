"""The Hessian at a model's weights, described as a Kronecker product of two small matrices; see `kronecker`.

Its sums are additive: those of several blocks of rows, about the same centre, add up, wherever each is made
(`kronecker_sums`, then `kronecker_of`).
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.protocol import Block, Kernels
from gpureg.rows.moments import blocks_of, stretches
from gpureg.types import Array, Floats, Ints

Curvatures = tuple[Array, Array, Array, Array]  # Σ s (diag(d) - f f'), Σ s, Σ s u, Σ s u x


@dataclass(frozen=True)
class KroneckerSums:
    """What describes the Hessian at a model's weights as A ⊗ S; see `kronecker`. `classes A (K, K)` and `centre (D,)`
    on the host, `moments` S `(D, D)` or its diagonal `(D,)` on the device.
    """

    classes: Floats
    centre: Floats
    moments: Array


def kronecker(
    kernels: Kernels, rows: Block, W: Array, column: Ints | None, *, free: bool, diagonal: bool = False
) -> KroneckerSums | None:
    """`A = Σ s_i (diag(d_i) - f_i f_i') / Σ s_i` and `S = Σ s_i u_i (x_i - c)(x_i - c)' / Σ s_i u_i` at the weights `W
    (D, K)` of one model, d and f from the loss (`Loss.second`), u the trace of a sample's own `diag(d) - f f'`.

    `column (1,)`: the model's row weights s, None for 1. `free`: c is the mean under s u, the exact Schur complement of
    a free bias; else 0. None where Σ s u is below n eps: probabilities are 0 and 1, and there is nothing to describe.
    """
    parts = _curved_parts(kernels, rows, W, column)
    own, mass, under, total = _total(parts)
    mass_under = float(kernels.to_host(under))  # sync
    if not mass_under > rows.n * float(np.finfo(kernels.backend.dtype).eps):
        return None
    centre = np.array(kernels.to_host(total)) / mass_under if free else np.zeros(W.shape[0])
    moments = _second(kernels, rows, parts, centre, diagonal=diagonal)
    return KroneckerSums(kernels.to_host(own / mass), centre, moments / mass_under)


def kronecker_sums(
    kernels: Kernels, rows: Block, W: Array, column: Ints | None, centre: Floats, *, diagonal: bool = False
) -> tuple[Array, ...]:
    """What a block adds to `kronecker`: its four curvatures, and `Σ s u (x - c)(x - c)'` about any `centre (D,)`, or
    the diagonal of that.
    """
    parts = _curved_parts(kernels, rows, W, column)
    return *_total(parts), _second(kernels, rows, parts, centre, diagonal=diagonal)


def kronecker_of(
    kernels: Kernels, sums: tuple[Array, ...], n: int, centre: Floats, *, free: bool
) -> KroneckerSums | None:
    """`kronecker` of n samples, from their `kronecker_sums` about `centre (D,)`.

    If the bias is free the moments are moved to the mean m under s u: `Σ s u (x - m)(x - m)' = Σ s u (x - c)(x - c)' -
    Σ s u (m - c)(m - c)'`. It keeps the digits as long as c is near the samples; else c has to be 0.
    """
    own, mass, under, total, second = sums
    mass_under = float(kernels.to_host(under))  # sync
    if not mass_under > n * float(np.finfo(kernels.backend.dtype).eps):
        return None
    moments = second / mass_under
    if free:
        mean = np.array(kernels.to_host(total)) / mass_under  # sync
        moved = mean - centre
        square = moved**2 if moments.ndim == 1 else moved[:, None] * moved
        moments, centre = moments - kernels.backend.from_host(square), mean
    return KroneckerSums(kernels.to_host(own / mass), centre, moments)


def curved(kernels: Kernels, logits: Array, y: Array, s: Array) -> tuple[Array, Array]:
    """`Σ s (diag(d) - f f')` `(K, K)` and `s u (b,)` of samples with float64 logits `(b, K)` and weights `s (b,)`; see
    `kronecker`.
    """
    xp = kernels.backend.xp
    d, f = kernels.loss.second(xp, logits[:, None, :], y)
    d, f = d[:, 0, :], None if f is None else f[:, 0, :]
    eye = kernels.backend.from_host(np.eye(kernels.n_columns))
    own, trace = xp.sum(d * s[:, None], axis=0)[:, None] * eye, xp.sum(d, axis=1)
    if f is not None:
        left, right = (xp.astype(factor, kernels.backend.float_type) for factor in (f * s[:, None], f))
        own = own - xp.astype(xp.matmul(xp.matrix_transpose(left), right), xp.float64)
        trace = trace - xp.sum(f * f, axis=1)
    return own, s * xp.where(trace > 0.0, trace, xp.zeros_like(trace))


class _Curved:
    """The curvatures of a stretch of samples; and `weights`, s u of each of its pieces."""

    def __init__(self, kernels: Kernels, W: Array, column: Array | None) -> None:
        self.kernels, self.W, self.column = kernels, W, column
        self.sums: list[Array] = [0.0, 0.0, 0.0, 0.0]
        self.weights: list[Array] = []

    def add(self, X: Array, y: Array, table: Array | None) -> None:
        """Add the samples of a piece `X (b, D)`."""
        xp = self.kernels.backend.xp
        logits = xp.astype(xp.matmul(X, self.W), xp.float64)
        alone = self.column is None or table is None
        s = xp.ones_like(logits[:, 0]) if alone else xp.take(table, self.column, axis=1)[:, 0]
        own, u = curved(self.kernels, logits, y, s)
        self.weights.append(u)
        parts = (own, xp.sum(s), xp.sum(u), xp.matmul(u[None, :], xp.astype(X, xp.float64))[0, :])
        self.sums = [total + part for total, part in zip(self.sums, parts, strict=True)]


def _curved_parts(kernels: Kernels, rows: Block, W: Array, column: Ints | None) -> list[_Curved]:
    """Those of each thread's stretch of the rows."""
    picked = None
    if column is not None and rows.weights is not None:
        picked = kernels.backend.from_host(np.asarray(column, np.int64))
    cuts = stretches(kernels, rows)
    found = [_Curved(kernels, W, picked) for _ in cuts]

    def weigh(number: int) -> None:
        for piece in blocks_of(kernels, rows, 4 * kernels.n_columns, table=True, as_stored=True, span=cuts[number]):
            found[number].add(*piece)

    kernels.share_out(len(cuts), weigh)
    return found


def _total(parts: list[_Curved]) -> Curvatures:
    own, mass, under, total = (sum(one.sums[place] for one in parts) for place in range(4))
    return own, mass, under, total


def _second(kernels: Kernels, rows: Block, parts: list[_Curved], centre: Floats, *, diagonal: bool) -> Array:
    """`Σ s u (x - c)(x - c)'`, with the weights that the parts have found."""
    xp, shift = kernels.backend.xp, kernels.backend.from_host(centre)
    cuts, moments = stretches(kernels, rows), [0.0 for _ in parts]

    def multiply(number: int) -> None:
        pieces = blocks_of(kernels, rows, 4 * kernels.n_columns, span=cuts[number])
        for (X, _, _), u in zip(pieces, parts[number].weights, strict=True):
            X = (X - shift) * xp.sqrt(u)[:, None]
            moments[number] = moments[number] + (
                xp.sum(X * X, axis=0) if diagonal else xp.matmul(xp.matrix_transpose(X), X)
            )

    kernels.share_out(len(cuts), multiply)
    return functools.reduce(operator.add, moments)
