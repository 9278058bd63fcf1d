"""Percentile intervals of the metrics over resampled rows. A resample is a number of times that each row counts, so
that a metric of B resamples is a product with a `(B, N)` matrix of weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gpureg.model.rows import BINS, Rows, bins

Doubles = npt.NDArray[np.float64]
LEVEL = 95.0
AT_ONCE = 1 << 22  # numbers in a matrix of weights


def intervals(rows: Rows, K: int, top: int, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The 95% interval of each metric: the 2.5th and 97.5th percentile over resamples of the rows with replacement.

    A resample in which a metric is not defined (a class without a row) is left out of that metric's; a metric that is
    defined in none is not there. Rows are drawn by `RandomState(seed)`, whose stream NumPy has frozen.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    statistics = _Statistics(rows, K, top)
    values = [statistics.of(weights) for weights in _weights(rows, resamples, seed)]
    found = {}
    for name in values[0]:
        defined = np.concatenate([part[name] for part in values])
        defined = defined[np.isfinite(defined)]
        if defined.size:
            low, high = np.percentile(defined, [50 - LEVEL / 2, 50 + LEVEL / 2])
            found[name] = (float(low), float(high))
    return found


def _weights(rows: Rows, resamples: int, seed: int, at_once: int = AT_ONCE) -> Iterator[Doubles]:
    """Matrices of weights `(B, N)` of `at_once` numbers, `resamples` rows in all; the cuts change nothing."""
    n = len(rows.y)
    random = np.random.RandomState(seed)  # the frozen stream (NEP 19), on purpose
    step = max(1, at_once // n)
    for begin in range(0, resamples, step):
        count = min(step, resamples - begin)
        drawn = random.randint(0, n, (count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=count * n).reshape(count, n).astype(np.float64)
        yield times if rows.weights is None else times * rows.weights


class _Statistics:
    """The metrics of B weightings of the same rows, each `(B,)`; NaN where one is not defined."""

    def __init__(self, rows: Rows, K: int, top: int) -> None:
        self.K, self.y = K, rows.y
        self.p = rows.probabilities
        hits = rows.hits.astype(np.float64)
        own = self.p[np.arange(len(rows.y)), rows.y]
        eps = np.finfo(np.float64).eps
        self.means = {
            "loss": rows.losses,
            "log_loss": -np.log(np.clip(own, eps, 1 - eps)),
            "accuracy": hits,
        }
        if top < K:
            # as scikit-learn counts them: of equal probabilities the later class comes first
            order = np.argsort(self.p, axis=1, kind="stable")[:, -top:]
            self.means["top5_accuracy"] = (order == rows.y[:, None]).any(axis=1).astype(np.float64)
        self.hits, self.gap, self.bin = hits, hits - rows.top, bins(rows.top)
        self.orders = [_ordered(self.p[:, k]) for k in range(1 if K == 2 else K)]

    def of(self, weights: Doubles) -> dict[str, Doubles]:
        """The metrics by name, for weights `(B, N)`."""
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {name: weights @ values / total for name, values in self.means.items()}
            found["balanced_accuracy"] = self._balanced(weights)
            found["roc_auc"] = self._roc_auc(weights)
            gaps = np.stack([weights[:, self.bin == b] @ self.gap[self.bin == b] for b in range(BINS)])
            found["ece"] = np.abs(gaps).sum(axis=0) / total
        return found

    def _balanced(self, weights: Doubles) -> Doubles:
        """The mean recall of the classes that have rows."""
        recalls = []
        for k in range(self.K):
            mine = self.y == k
            recalls.append(weights[:, mine] @ self.hits[mine] / weights[:, mine].sum(axis=1))
        stacked = np.stack(recalls)
        there = np.isfinite(stacked)
        return np.asarray(np.where(there, stacked, 0).sum(axis=0) / there.sum(axis=0))

    def _roc_auc(self, weights: Doubles) -> Doubles:
        """One against the rest, the mean over classes: the share of pairs of rows that are ordered right, ties half."""
        areas = []
        for k, (order, begins) in enumerate(self.orders):
            positive = weights * (self.y == k)
            groups = np.add.reduceat(positive[:, order], begins, axis=1)
            others = np.add.reduceat((weights - positive)[:, order], begins, axis=1)
            below = np.cumsum(others, axis=1) - others
            pairs = groups.sum(axis=1) * others.sum(axis=1)
            areas.append((groups * (below + others / 2)).sum(axis=1) / pairs)
        return np.asarray(np.mean(areas, axis=0))


def _ordered(scores: Doubles) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows in rising order of their score, and where each group of equal scores begins."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
