"""Mean and deviation of features whose rows lie on workers: each piece has its own, and a tree joins them.

Two sets of rows of masses a and b, means m and m', and sums of squares about them S and S' have together the mean
`(a m + b m') / (a + b)` and the sum `S + S' + (m - m')² a b / (a + b)`: no digit is lost where a mean is large.
(Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpureg.data.pieces import Piece
from gpureg.data.scaling import Scaling, standard_of, weighted_blocks
from gpureg.distributed.ahead import ahead
from gpureg.distributed.cluster import LOST, Cluster, Lost
from gpureg.distributed.work import rows_of
from gpureg.types import Floats, Ints

if TYPE_CHECKING:
    from gpureg.distributed.spread import Spread

AT_ONCE_BYTES = 1 << 22  # of float64 in a block of rows


@dataclass(frozen=True)
class Moments:
    """Of rows with weights v: `mass` Σ v, `mean (F,)`, `square (F,)` Σ v (x - mean)², `low` and `high (F,)`; of rows
    without weight nothing counts.
    """

    mass: float
    mean: Floats
    square: Floats
    low: Floats
    high: Floats


def moments_of(X: Any, weights: Floats | None) -> Moments:
    """Those of rows `X (n, F)` with `weights (n,)`, None for 1; a block at a time."""
    found: Moments | None = None
    v = np.ones(len(X)) if weights is None else weights
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, share in weighted_blocks(X, v, max(1, AT_ONCE_BYTES // (8 * max(1, X.shape[1])))):
            own = _of_block(rows, share)
            found = own if found is None else joined(found, own)
    if found is None:
        zero = np.zeros(X.shape[1])
        return Moments(0.0, zero, zero, zero + np.inf, zero - np.inf)
    return found


def _of_block(rows: Floats, v: Floats) -> Moments:
    mass = float(v.sum())
    mean = v @ rows / mass
    left = rows - mean
    rest = v @ left / mass  # the mean was rounded
    square = np.maximum(v @ np.square(left) - mass * np.square(rest), 0.0)
    return Moments(mass, mean + rest, square, rows.min(axis=0), rows.max(axis=0))


def joined(one: Moments, other: Moments) -> Moments:
    """Those of both sets of rows together."""
    if not one.mass or not other.mass:
        return one if one.mass else other
    with np.errstate(over="ignore", invalid="ignore"):
        mass = one.mass + other.mass
        apart = other.mean - one.mean
        mean = one.mean + apart * (other.mass / mass)
        square = one.square + other.square + np.square(apart) * (one.mass * other.mass / mass)
    return Moments(mass, mean, square, np.minimum(one.low, other.low), np.maximum(one.high, other.high))


def standard(X: Spread, weights: Floats | None) -> Scaling:
    """The `standard` scaling of rows on workers; see `data.scaling.fit_scaling`. Raises DataError."""
    share = None if weights is None else np.asarray(weights, np.float64) / np.max(weights)
    found = moments(X, share)
    mean = np.where(found.low == found.high, found.low, found.mean)  # exact, where a computed mean is nearly so
    with np.errstate(over="ignore", invalid="ignore"):
        square = found.square / found.mass
    return standard_of(mean, square, np.ones(len(X)) if weights is None else np.asarray(weights, np.float64))


def moments(X: Spread, weights: Floats | None) -> Moments:
    """Those of all rows, with `weights (N,)` or None; one pass over the pieces, each of which is read once."""
    blocks = X.blocks(X.width)
    work = list(zip(blocks.pieces, blocks.picked, blocks.dealt(weights), strict=True))
    total: Moments = X.cluster.until_found(lambda: _attempt(X.cluster, work))
    return total


def _attempt(cluster: Cluster, work: list[tuple[Piece, Ints | None, Floats | None]]) -> Moments | Lost:
    """Each worker goes through pieces of its own, one after the other; LOST if a worker is."""
    workers = list(cluster.some_workers())
    total: Moments | None = None
    for start in range(0, len(work), len(workers)):
        level = []
        for (piece, picked, weights), worker in zip(work[start : start + len(workers)], workers, strict=False):
            piece, held = ahead(cluster, piece, worker)
            sent = cluster.send((piece, picked, weights), worker)
            if sent is LOST:
                return LOST
            level.append((worker, cluster.submit(_of_piece, sent, held, at=worker)))
        needs = [worker for worker, _ in level]
        found = cluster.fetch_all([future for _, future in level], needs)
        if isinstance(found, Lost):
            return LOST
        for own in found:
            total = own if total is None else joined(total, own)
    assert total is not None
    return total


def _of_piece(sent: tuple[Any, Ints | None, Floats | None], held: Any) -> Moments:
    piece, picked, weights = sent
    return moments_of(rows_of(piece, picked, held), weights)
