"""Scorers for models of a batch: scikit-learn's, given all labels and the metadata that they ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, make_scorer
from sklearn.utils.validation import _check_method_params

from gpureg.distributed.spread import Spread
from gpureg.errors import UsageError
from gpureg.estimators.arrays import HostArray
from gpureg.estimators.inputs import Samples
from gpureg.estimators.parameters import scoring_of
from gpureg.estimators.pieces import HeldOut, Logits, nameless
from gpureg.estimators.solve import Solution
from gpureg.estimators.splits import Splits
from gpureg.types import Floats, Ints

Scorer = Callable[..., float]
NO_PROBABILITY = (
    "A fold's model gives a held-out row no probabilities: X has numbers there that are too large to multiply with its "
    "weights. Scale the features first (sklearn.preprocessing.StandardScaler), or leave the row out."
)


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
    scoring = scoring_of(estimator)
    scorer = scorer_of(scoring, samples.classes)
    each = len(paths.coef) // len(folds)
    scores = np.empty((len(folds), each))
    model = nameless(estimator)
    model.classes_ = samples.classes
    away = HeldOut.of(samples.X) if isinstance(samples.X, Spread) else None
    known = isinstance(scoring, str | None) and away is None and not set(parameters) - {"sample_weight"}
    measure = MEASURES.get(scoring) if known else None
    for number, (_, test) in enumerate(folds):
        rows = _weighing(test, parameters.get("sample_weight"))
        own = _check_method_params(samples.X, params=parameters, indices=rows)
        some = slice(number * each, (number + 1) * each)
        weights = list(zip(paths.coef[some], paths.intercept[some], strict=True))
        weight = own.get("sample_weight")
        if measure is not None and (weight is None or np.sum(weight) > 0):
            X = samples.X[rows].astype(np.float64, copy=False)
            with np.errstate(over="ignore", invalid="ignore"):  # an infinite logit is a probability of 0 or 1
                scores[number] = [measure(model, _logits(X, *one), samples.label[rows], weight) for one in weights]
            continue
        y = samples.y[rows]
        X = [samples.X[rows]] * each if away is None else away.logits(rows, paths.coef[some], paths.intercept[some])
        for place, (coef, intercept) in enumerate(weights):
            model.coef_, model.intercept_ = coef, intercept
            scores[number, place] = scorer(model, X[place], y, **own)
    return scores


def _logits(X: Any, coef: Floats, intercept: Floats) -> Logits:
    """Those that a model, `coef (K, F)` and `intercept (K,)`, gives rows `X (n, F)`."""
    return Logits(X @ np.ascontiguousarray(coef.T) + intercept, X.shape[1])


def _negative_log_loss(model: Any, logits: Logits, label: Ints, weight: Any) -> float:
    """`sklearn.metrics.log_loss`, with the other sign: probabilities are clipped at the rounding of their type. That
    of the first of two classes is what the second leaves of 1.
    """
    probabilities = model.predict_proba(logits)
    if probabilities.shape[1] == 2:
        probabilities[:, 0] = 1.0 - probabilities[:, 1]
    p = probabilities[np.arange(len(label)), label]
    if np.isnan(p).any():
        raise UsageError(NO_PROBABILITY)
    least = np.finfo(p.dtype).eps
    return float(np.average(np.log(np.clip(p, least, 1.0 - least)), weights=weight))


def _accuracy(model: Any, logits: Logits, label: Ints, weight: Any) -> float:
    """`sklearn.metrics.accuracy_score`."""
    return float(np.average(model.predict(logits) == model.classes_[label], weights=weight))


# What the scorers of these names do, without their checks, which take as long as a small fit (a millisecond)
MEASURES: Mapping[str | None, Callable[..., float]] = MappingProxyType(
    {"neg_log_loss": _negative_log_loss, "accuracy": _accuracy, None: _accuracy}
)


def _weighing(rows: Any, weight: Any) -> Any:
    """The rows with weight; all of them if none has any."""
    if weight is None:
        return rows
    kept = rows[np.asarray(weight)[rows] != 0]
    return kept if len(kept) else rows
