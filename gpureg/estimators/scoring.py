"""Scorers for models of a batch: scikit-learn's, given all labels and the metadata that they ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, make_scorer
from sklearn.utils.validation import _check_method_params

from gpureg.distributed.spread import Spread
from gpureg.estimators.arrays import HostArray
from gpureg.estimators.inputs import Samples
from gpureg.estimators.parameters import scoring_of
from gpureg.estimators.pieces import HeldOut, nameless
from gpureg.estimators.solve import Solution
from gpureg.estimators.splits import Splits
from gpureg.types import Floats

Scorer = Callable[..., float]


def named_scorer(scoring: Any) -> Any:
    """The scorer of a name, a callable or None (accuracy), as scikit-learn has it."""
    return get_scorer("accuracy" if scoring is None else scoring)


def scorer_of(scoring: Any, classes: HostArray) -> Scorer:
    """The scorer that `scoring` names, given the labels `classes (K,)` if its metric takes them.

    A fold's held-out rows need not have every class, and a metric of probabilities can't tell which column is whose.
    For two classes, a metric that has a positive one is given `classes[1]`.
    """
    scorer: Scorer = named_scorer(scoring)
    metric = getattr(scorer, "_score_func", None)
    if metric is None:
        return scorer
    parameters = inspect.signature(metric).parameters
    if "labels" not in parameters:
        return scorer
    told: dict[str, Any] = {"labels": classes}
    if len(classes) == 2 and "pos_label" in parameters:
        told["pos_label"] = classes[1]
    own: Any = scorer
    told |= own._kwargs  # the caller's own come first
    return make_scorer(metric, greater_is_better=own._sign == 1, response_method=own._response_method, **told)


def fold_scores(
    estimator: Any, samples: Samples, folds: Splits, paths: Solution, parameters: Mapping[str, Any]
) -> Floats:
    """Held-out scores `(folds, C)` of the batch's models, folds outermost.

    `parameters` are the scorer's, those of each row `(N,)` among them: its `sample_weight`, if it is to be weighted.
    Then rows of weight 0 are left out, as they are in the fit.
    """
    scorer = scorer_of(scoring_of(estimator), samples.classes)
    each = len(paths.coef) // len(folds)
    scores = np.empty((len(folds), each))
    model = nameless(estimator)
    model.classes_ = samples.classes
    away = HeldOut.of(samples.X) if isinstance(samples.X, Spread) else None
    for number, (_, test) in enumerate(folds):
        rows = _weighing(test, parameters.get("sample_weight"))
        y = samples.y[rows]
        own = _check_method_params(samples.X, params=parameters, indices=rows)
        some = slice(number * each, (number + 1) * each)
        X = [samples.X[rows]] * each if away is None else away.logits(rows, paths.coef[some], paths.intercept[some])
        for place, (coef, intercept) in enumerate(zip(paths.coef[some], paths.intercept[some], strict=True)):
            model.coef_, model.intercept_ = coef, intercept
            scores[number, place] = scorer(model, X[place], y, **own)
    return scores


def _weighing(rows: Any, weight: Any) -> Any:
    """The rows with weight; all of them if none has any."""
    if weight is None:
        return rows
    kept = rows[np.asarray(weight)[rows] != 0]
    return kept if len(kept) else rows
