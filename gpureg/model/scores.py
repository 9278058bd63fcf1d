"""The scores that compare models, for many models on the same rows at once: scikit-learn's, in arrays.

A loss is best at its lowest, every other score at its highest. `loss` and `accuracy` are sums that the kernels make
anyway; the others need the outputs of every row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.losses import Loss

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
AT_ONCE = 1 << 20  # probabilities that are sorted at once
DIGITS = 12  # that the mean of shares has: equal ones differ by the rounding of their sums


def cost(score: str, mean: float) -> float:
    """The mean of a score as a number whose lowest is the best; equal means of shares are equal numbers."""
    return mean if score == "loss" else -round(mean, DIGITS)


def of_outputs(score: str) -> bool:
    """Whether a score needs the outputs of every row, and not sums over the rows alone."""
    return score in ("balanced-accuracy", "roc-auc")


def missing_classes(score: str, y: Ints, K: int) -> Ints:
    """The classes, of K, that rows of the classes `y (N,)` lack to define the score; none if they define it."""
    return np.flatnonzero(np.bincount(y, minlength=K) == 0) if score == "roc-auc" else np.zeros(0, np.int64)


def scores(score: str, loss: Loss, logits: Doubles, y: Ints, weights: Doubles | None) -> Doubles:
    """`balanced-accuracy` or `roc-auc` of M models `(M,)` from their logits `(N, M, K)`, for rows of the classes
    `y (N,)` and `weights (N,)` (None: 1 each); NaN for logits that are not numbers, and where it is not defined.

    Balanced accuracy: the mean over the classes that have rows of the share of their weight that is predicted right.
    ROC AUC: the share of the weight of pairs of rows, one of a class and one of another, whose probabilities of that
    class are ordered right, ties half; the mean over classes, of two classes that of one.
    """
    w = np.ones(len(y)) if weights is None else weights
    classes = 2 if loss.binary else logits.shape[2]
    with np.errstate(all="ignore"):
        if score == "balanced-accuracy":
            found = _balanced(np.asarray(loss.predict(np, logits)) == y[:, None], y, w, classes)
        else:
            p = np.asarray(loss.probabilities(np, logits))
            found = np.array([_roc_auc(p[:, model], y, w) for model in range(p.shape[1])])
    return np.where(np.isnan(logits).any(axis=(0, 2)), np.nan, found)


def _balanced(hits: npt.NDArray[np.bool_], y: Ints, w: Doubles, K: int) -> Doubles:
    """Of M models with `hits (N, M)`."""
    of_class = w * (y == np.arange(K)[:, None])  # (K, N)
    there = of_class.any(axis=1)
    return np.asarray((of_class[there] @ hits / of_class[there].sum(axis=1, keepdims=True)).mean(axis=0))


def _roc_auc(p: Doubles, y: Ints, w: Doubles) -> float:
    """Of probabilities `(N, classes)` of one model."""
    classes = np.arange(1 if p.shape[1] == 2 else p.shape[1])
    step = max(1, AT_ONCE // max(1, len(y)))
    areas = [_areas(p[:, some], y, w, some) for some in np.array_split(classes, -(-len(classes) // step))]
    return float(np.concatenate(areas).mean())


def _areas(p: Doubles, y: Ints, w: Doubles, classes: Ints) -> Doubles:
    """The area under the curve of each of some classes against the rest `(C,)`, for their probabilities `(N, C)`."""
    order = np.argsort(p, axis=0, kind="stable")
    ranked = np.take_along_axis(p, order, axis=0)
    mass = w[order]
    positive = np.where(y[order] == classes, mass, 0.0)
    below = np.concatenate([np.zeros((1, len(classes))), np.cumsum(mass - positive, axis=0)])  # of the other classes
    rows, changes = np.arange(len(y))[:, None], ranked[1:] != ranked[:-1]
    begin = np.maximum.accumulate(np.where(np.vstack([np.ones((1, len(classes)), bool), changes]), rows, 0), axis=0)
    last = np.where(np.vstack([changes, np.ones((1, len(classes)), bool)]), rows, len(y))
    end = np.minimum.accumulate(last[::-1], axis=0)[::-1] + 1  # of a group of equal probabilities
    pairs = np.take_along_axis(below, begin, axis=0) + np.take_along_axis(below, end, axis=0)
    return np.asarray((positive * pairs).sum(axis=0) / (2.0 * positive.sum(axis=0) * below[-1]))
