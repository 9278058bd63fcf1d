"""Cross-validation as row weights: stratified folds, and the table `(N, F)` of what each fold's model trains with."""

from __future__ import annotations

import numpy as np

from gpureg.errors import UsageError, named
from gpureg.types import Floats, Ints


def stratified_folds(y: Ints, folds: int, seed: int) -> Ints:
    """The fold `(N,)` in which each sample is held out, 0 ... folds - 1.

    Each class's samples are shuffled (`RandomState(seed)`, a frozen stream) and dealt out in turn; the next class
    starts where the last one ended, so folds differ by at most one sample in all and by at most one in each class.
    Raises UsageError if there are fewer samples than folds.
    """
    if folds > len(y):
        raise UsageError(
            f"{named('cv', folds)} needs at least {folds} training rows, but there are {len(y)}. Use fewer folds."
        )
    random = np.random.RandomState(seed)
    fold = np.empty(len(y), np.int64)
    dealt = 0
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        random.shuffle(members)
        fold[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return fold


def row_weight_table(base: Floats | None, assignments: list[Ints], folds: int) -> Floats:
    """Row weights `(N, F)`, `F = len(assignments) * folds`, column `a * folds + f` for fold f of assignment a.

    `base (N,)` are sample x class weights, or None for ones. A column is base with the held-out rows at 0, normalised
    to mean 1 over all N rows, so that a minibatch's mean is unbiased and an empty one is a pure penalty step.
    """
    n = len(assignments[0])
    columns = []
    for assignment in assignments:
        for fold in range(folds):
            column = np.where(assignment == fold, 0.0, np.ones(n) if base is None else base)
            columns.append(normalised(column, f"the training rows of fold {fold}"))
    return np.stack(columns, axis=1)


def normalised(weights: Floats, whose: str) -> Floats:
    """`weights / mean(weights)`. Raises UsageError if all are 0."""
    mean = weights.mean()
    if not mean > 0:
        raise UsageError(f"The sample weights of {whose} are all 0; expected at least one above 0.")
    return np.asarray(weights / mean)


def class_shares(y: Ints, weights: Floats | None, classes: int) -> Floats:
    """The shares `(T, classes)` of the class indices `y (N,)` under each column of row weights `(N, T)`; None: 1."""
    columns = [None] if weights is None else list(weights.T)
    counts = np.stack([np.bincount(y, column, classes) for column in columns])
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))
