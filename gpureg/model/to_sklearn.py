"""Trained weights as a fitted scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def to_sklearn(
    classes: Sequence[Any] | npt.NDArray[Any],
    coef: Floats,
    intercept: Floats,
    *,
    offset: Floats | None = None,
    scale: Floats | None = None,
    C: float = 1.0,
    fit_intercept: bool = True,
) -> Any:
    """A fitted `sklearn.linear_model.LogisticRegression` whose probabilities are those of the given weights.

    `coef (K, F)`, `intercept (K,)` on `(x - offset) / scale`, `offset, scale (F,)`. K = 1: `classes` is (positive,
    negative); else column k is `classes[k]`. scikit-learn sorts its classes and has one column for two of them, that of
    the second: so columns are reordered, a logistic model's sign is flipped if its positive class sorts first, and a
    softmax of two classes becomes the difference of its columns. Scaling is folded in, in float64: `w / scale`, and
    `b - Σ (w / scale) offset`. `C` is only stored, for a caller that fits the estimator again.
    """
    from sklearn.linear_model import LogisticRegression

    names = np.asarray(classes)
    w, b = np.asarray(coef, np.float64), np.asarray(intercept, np.float64)
    if scale is not None:
        w = w / np.asarray(scale, np.float64)
    if offset is not None:
        b = b - w @ np.asarray(offset, np.float64)
    order = np.argsort(names, kind="stable")
    if len(w) == 1 and order[0] == 0:  # the positive class sorts first
        w, b = -w, -b
    elif len(w) == 2:
        w, b = w[order[1:]] - w[order[:1]], b[order[1:]] - b[order[:1]]
    elif len(w) > 2:
        w, b = w[order], b[order]
    estimator = LogisticRegression(C=C, fit_intercept=fit_intercept)
    estimator.classes_ = names[order]
    estimator.coef_, estimator.intercept_ = w, b
    estimator.n_features_in_ = w.shape[1]
    estimator.n_iter_ = np.ones(1, np.int32)
    return estimator
