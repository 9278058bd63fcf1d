"""Scorers for models of a batch: scikit-learn's, told all labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, make_scorer

from gpureg.estimators.arrays import HostArray
from gpureg.estimators.inputs import Samples
from gpureg.estimators.solve import Solution
from gpureg.types import Floats, Ints

Scorer = Callable[..., float]


def scorer_of(scoring: Any, classes: HostArray) -> Scorer:
    """The scorer of a name, a callable or None (accuracy), given the labels `classes (K,)` where its metric takes them.

    A fold's held-out rows need not have every class, and a metric of probabilities can't tell which column is whose.
    For two classes a metric that has a positive one is told `classes[1]`.
    """
    scorer: Any = get_scorer("accuracy" if scoring is None else scoring)
    metric = getattr(scorer, "_score_func", None)
    if metric is None:
        return scorer
    wanted = inspect.signature(metric).parameters
    if "labels" not in wanted:
        return scorer
    told: dict[str, Any] = {"labels": classes}
    if len(classes) == 2 and "pos_label" in wanted:
        told["pos_label"] = classes[1]
    told |= scorer._kwargs  # the caller's own come first
    return make_scorer(metric, greater_is_better=scorer._sign == 1, response_method=scorer._response_method, **told)


def fold_scores(estimator: Any, samples: Samples, folds: list[tuple[Ints, Ints]], paths: Solution) -> Floats:
    """Held-out scores `(folds, C)` of the batch's models, folds outermost; sample weights weigh the rows."""
    scorer = scorer_of(estimator.scoring, samples.classes)
    each = len(paths.coef) // len(folds)
    scores = np.empty((len(folds), each))
    model = copy(estimator)
    for number, (_, test) in enumerate(folds):
        X, y = samples.X[test], samples.y[test]
        for place in range(each):
            index = number * each + place
            model.coef_, model.intercept_ = paths.coef[index], paths.intercept[index]
            if samples.given is None:
                scores[number, place] = scorer(model, X, y)
            else:
                scores[number, place] = scorer(model, X, y, sample_weight=samples.given[test])
    return scores
