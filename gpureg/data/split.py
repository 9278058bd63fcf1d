"""The stratified split of data that have no validation part of their own; folds and a split that keep groups whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpureg.errors import UsageError, named

Codes = npt.NDArray[np.int64]

VAL_FRACTION = 0.2
FAR = 1.5  # times more or fewer validation rows than were asked for: whole groups can be large


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


def group_split(codes: Codes, groups: Codes, n_val: int, seed: int) -> tuple[Codes, Codes]:
    """About `n_val` validation rows, whole groups; returns (training rows, validation rows), sorted.

    They are one of `N / n_val` folds of `group_folds` that leave every class a training row: the first, unless its size
    is far from what was asked for, then that of the nearest size. If more than half of the rows are for validation,
    they are all folds but one. Raises UsageError if there is none.
    """
    rows, count = len(codes), len(np.unique(groups))
    if count < 2:
        raise UsageError(
            f"All {rows} rows are in one group ({named('groups')}), so none can be split off for validation. Name "
            f"another column, or give {named('val_size', 0)}."
        )
    smaller = min(n_val, rows - n_val)
    folds = min(count, max(2, round(rows / max(1, smaller))))
    fold = group_folds(codes, groups, folds, seed)
    classes = len(np.unique(codes))
    fits = [
        held
        for held in (fold == number if n_val <= rows - n_val else fold != number for number in range(folds))
        if held.any() and len(np.unique(codes[~held])) == classes
    ]
    if not fits:
        raise UsageError(
            f"Validation rows can't be split off: whichever groups ({named('groups')}) are taken, some class would "
            f"have no training row. Give {named('cv', folds)}, validation rows of your own, or {named('val_size', 0)}."
        )
    near = n_val / FAR <= fits[0].sum() <= n_val * FAR
    held = fits[0] if near else min(fits, key=lambda held: abs(int(held.sum()) - n_val))
    return np.flatnonzero(~held), np.flatnonzero(held)


def group_folds(y: Codes, groups: Codes, folds: int, seed: int) -> Codes:
    """The fold `(N,)` in which each row is held out, 0 ... folds - 1, equal for rows of a group `groups (N,)`, with the
    classes `y (N,)` spread as evenly as whole groups allow: scikit-learn's StratifiedGroupKFold, shuffled by
    `RandomState(seed)`.

    Groups are dealt out in falling order of the spread of their classes, each into the fold in which the shares of the
    classes then differ least between the folds. Raises UsageError if there are fewer groups than folds.
    """
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if folds > len(sizes):
        raise UsageError(
            f"{folds} folds need at least {folds} groups ({named('groups')}), but there are {len(sizes)}. Use fewer "
            f"folds ({named('cv')})."
        )
    _, classes, totals = np.unique(y, return_inverse=True, return_counts=True)
    K = len(totals)
    counts = np.bincount(members * K + classes, minlength=len(sizes) * K).reshape(-1, K).astype(np.float64)
    order = np.arange(len(sizes))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-np.std(counts[order], axis=1), kind="stable")]
    filled, fold_of = np.zeros((folds, K)), np.empty(len(sizes), np.int64)
    diagonal = np.arange(folds)
    for group in order.tolist():
        tried = np.repeat(filled[None], folds, axis=0)  # (which fold takes it, folds, classes)
        tried[diagonal, diagonal] += counts[group]
        spread = np.std(tried / totals, axis=1).mean(axis=1)
        fold_of[group] = best = _least(spread.tolist(), filled.sum(axis=1).tolist())
        filled[best] += counts[group]
    return fold_of[members]


def _least(spread: Sequence[float], rows: Sequence[float]) -> int:
    """The first fold of the least spread; of nearly equal ones that of the fewest rows."""
    best, least, fewest = 0, np.inf, np.inf
    for fold, (value, size) in enumerate(zip(spread, rows, strict=True)):
        near = abs(value - least) <= 1e-8 + 1e-5 * abs(least) if least < np.inf else False
        if value < least or (near and size < fewest):
            best, least, fewest = fold, value, size
    return best
