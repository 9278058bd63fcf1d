"""The stratified split of data that have no validation part of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.errors import UsageError, named

Codes = npt.NDArray[np.int64]

VAL_FRACTION = 0.2


def stratified_split(codes: Codes, n_val: int, seed: int) -> tuple[Codes, Codes]:
    """Draw `n_val` validation rows, from each class in proportion; returns (training rows, validation rows), sorted.

    A class of n_k rows gives n_val n_k / N of them, rounded by the largest remainder and never all: every class keeps
    a training row, and a class with one row stays in training. Shapes: `codes (N,)` class indices. The rows are drawn
    by `RandomState(seed)`, whose stream NumPy promises to keep (NEP 19).

    Raises UsageError if the classes can't give that many rows, or for a seed out of range.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"{named('seed', seed)} is out of range; it is from 0 to {2**32 - 1}.")
    counts = np.bincount(codes)
    quotas = _quotas(counts, n_val)
    random = np.random.RandomState(seed)
    chosen = np.zeros(len(codes), dtype=bool)
    for label in np.flatnonzero(quotas):
        rows = np.flatnonzero(codes == label)
        chosen[random.permutation(rows)[: quotas[label]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _quotas(counts: Codes, n_val: int) -> Codes:
    """How many validation rows each class gives, (K,)."""
    room = np.maximum(counts - 1, 0)
    if not 0 < n_val <= room.sum():
        raise UsageError(
            f"{n_val} validation rows can't be drawn from {counts.sum()} rows of {np.count_nonzero(counts)} classes so "
            f"that every class keeps a training row; the most is {room.sum()}. "
            f"Change {named('val_size')}, or give more rows per class."
        )
    ideal = n_val * counts / counts.sum()
    quotas = np.minimum(np.floor(ideal).astype(np.int64), room)
    while (short := n_val - int(quotas.sum())) > 0:
        owed = np.where(quotas < room, ideal - quotas, -np.inf)
        order = np.argsort(-owed, kind="stable")[: min(short, np.count_nonzero(quotas < room))]
        quotas[order] += 1
    return quotas
