"""Moments of sparse samples in float64, from their stored values alone; see `rows.moments` for what they are.

A centre is subtracted from the stored values before they are squared, and those that are not stored are counted:
`Σ v (x - c)² = Σ_stored v (x - c)² + c² (Σ v - Σ_stored v)`, which keeps the digits that E[x²] - m² loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gpureg.rows.kronecker import KroneckerSums, curved
from gpureg.rows.samples import CsrSamples
from gpureg.types import Array, Floats, Ints

if TYPE_CHECKING:
    from gpureg.rows.csr import CsrRows

STORED_AT_ONCE = 1 << 16  # values, or four times the features if that is more: sums over them cost as much


def mean(samples: CsrSamples, weight: Floats) -> Floats:
    """`Σ v_i x_i / Σ v_i` `(D,)` under `weight (N,)`; the bias column's is 1."""
    F = samples.X.shape[1]
    total = np.zeros(F)
    for column, value, of_row in _stored(samples, weight):
        total += np.bincount(column, of_row * value, F)
    found = total / weight.sum()
    if samples.shift is not None:
        found -= samples.shift
    return np.append(found, 1.0) if samples.bias else found


def scatter(samples: CsrSamples, weight: Floats, centre: Floats) -> Floats:
    """`Σ v_i (x_i - c)² / Σ v_i` `(D,)` under `weight (N,)`, the diagonal of the second moments about `centre (D,)`."""
    F = samples.X.shape[1]
    shift = _shift(samples, centre)
    total, there = np.zeros(F), np.zeros(F)
    for column, value, of_row in _stored(samples, weight):
        total += np.bincount(column, of_row * np.square(value - shift[column]), F)
        there += np.bincount(column, of_row, F)
    mass = weight.sum()
    found = (total + np.square(shift) * np.maximum(mass - there, 0.0)) / mass
    return np.append(found, (1.0 - centre[-1]) ** 2) if samples.bias else found


def kronecker(rows: CsrRows, W: Array, weight: Array | None, *, free: bool) -> KroneckerSums | None:
    """`kronecker.kronecker` with the diagonal of S, of one model `W (D, K)` with row weights `weight (N,)` or None."""
    kernels, K = rows.kernels, rows.kernels.n_columns
    s = np.ones(rows.n) if weight is None else weight.astype(np.float64)
    u, sums = np.zeros(rows.n), np.zeros((kernels.lanes, K, K))

    def task(lane: int, start: int, stop: int, z: Array) -> None:
        own, u[start:stop] = curved(kernels, z.astype(np.float64), rows.y[start:stop], s[start:stop])
        sums[lane] += own

    rows.over(np.ascontiguousarray(W), task)
    mass = float(u.sum())
    if not mass > rows.n * float(np.finfo(kernels.backend.dtype).eps):
        return None
    centre = mean(rows.samples, u) if free else np.zeros(rows.features)
    return KroneckerSums(np.asarray(sums.sum(axis=0) / s.sum()), centre, scatter(rows.samples, u, centre))


def _shift(samples: CsrSamples, centre: Floats) -> Floats:
    """What is subtracted from a value of X `(F,)`: the centre, and the shift of the samples."""
    own = centre[: samples.X.shape[1]]
    return own if samples.shift is None else own + samples.shift


def _stored(samples: CsrSamples, weight: Floats) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Stored values, some rows at a time: their columns, they themselves, and their rows' weights."""
    X = samples.X
    most = max(STORED_AT_ONCE, 4 * X.shape[1])
    start = 0
    while start < samples.n:
        stop = max(start + 1, int(np.searchsorted(X.indptr, X.indptr[start] + most, side="right")) - 1)
        stop = min(stop, samples.n)
        some = slice(X.indptr[start], X.indptr[stop])
        of_row = np.repeat(weight[start:stop], np.diff(X.indptr[start : stop + 1]))
        yield X.indices[some], X.data[some].astype(np.float64), of_row
        start = stop
