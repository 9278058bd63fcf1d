"""`LogisticRegressionCV`: every C and every fold in one batch."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)

from gpureg.errors import GpuregWarning, UsageError
from gpureg.estimators.arrays import to_host
from gpureg.estimators.inputs import Samples, check_parameters, read_samples, strength
from gpureg.estimators.linear import FittedClassifier
from gpureg.estimators.scoring import fold_scores, named_scorer, scorer_of
from gpureg.estimators.solve import Batch, Mask, Solution, solve
from gpureg.estimators.splits import Splits, read_splits
from gpureg.types import Floats


class LogisticRegressionCV(FittedClassifier):
    """`LogisticRegression` whose C is chosen by cross-validation, with all models trained at once.

    The folds are row weights of one batch, so that X is read once a pass for every C and every fold. A fold's model has
    `λ = 1 / (2 C Σ s_i)`, the sum over its own training rows, as scikit-learn's has. Attributes follow scikit-learn's
    `use_legacy_attributes=False`.

    Parameters
    ----------
    Cs : how many values, evenly spaced in their logarithm from 1e-4 to 1e4, or the values.
    cv : None (5 folds), a number of stratified folds, a splitter, or an iterable of (train, test), each of which names
        rows as NumPy indexes them: numbers (from the end where below 0), a mask of booleans, or a slice.
    scoring : a scorer's name or a callable `scorer(estimator, X, y)`; None: accuracy.
    refit : True: the model of the best C (highest mean score; of equal ones the first) on all rows, which are fitted
        alongside the folds. False: mean weights over the folds, each at its own best C.
    fit_intercept, tol, max_iter, class_weight, random_state, device, dtype : as in `LogisticRegression`; "balanced" is
        taken over all rows, as in scikit-learn.

    Attributes
    ----------
    C_ : the chosen C. Cs_ (C,) : all. scores_ (folds, 1, C) : held-out scores, with the default the negative mean loss
    in nats. coefs_paths_ (folds, 1, C, K, F + 1) : the folds' weights, the intercept last (F without one). n_iter_
    (folds, 1, C). coef_, intercept_, classes_, n_features_in_, feature_names_in_ : as in `LogisticRegression`.

    The axis of length 1 is scikit-learn's of l1 ratios.

    >>> import gpureg
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = gpureg.LogisticRegressionCV(Cs=10, cv=5).fit(X, y)  # 50 models in one batch
    >>> model.scores_.shape
    (5, 1, 10)
    >>> bool(model.score(X, y) > -0.05)  # in nats, as scoring="neg_log_loss" has it
    True
    """

    def __init__(
        self,
        *,
        Cs: Any = 10,
        cv: Any = None,
        scoring: Any = "neg_log_loss",
        refit: bool = True,
        tol: float = 1e-6,
        max_iter: int = 1000,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        device: str = "auto",
        dtype: str | None = None,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Choose C on rows `X (N, F)` with labels `y (N,)`, and fit; `sample_weight (N,)` weighs the scores too.

        With scikit-learn's metadata routing `params` go to the splitter and scorer that ask for them, and the sample
        weight to the scorer. Raises ValueError (UsageError) and TypeError for what can't be used; warns with
        ConvergenceWarning, and with GpuregWarning if the training rows of a fold lack a class: its model is one of the
        classes that are there, and gives the missing one the probability 0.
        """
        check_parameters(self)
        _raise_for_params(params, self, "fit")
        Cs = self._grid()
        samples = read_samples(self, X, y, sample_weight, self.dtype)
        routed = self._routed("fit", samples.given, params)
        splitter = check_cv(self.cv, samples.y, classifier=True)
        folds = read_splits(splitter.split(samples.X, samples.y, **routed.splitter.split), len(samples.y))
        weights = samples.weights(self.class_weight)
        found = solve(self, samples, _batch(Cs, folds, weights, len(samples.y), refit=bool(self.refit)))
        _tell_of_missing(samples, found.present[: len(folds)])
        paths, refits = found.parted(len(folds) * len(Cs))
        self.classes_ = samples.classes  # while scoring: on the host
        scores = fold_scores(self, samples, folds, paths, routed.scorer.score)
        W = np.concatenate([paths.coef, paths.intercept[:, :, None]], axis=2)
        W = W.reshape(len(folds), len(Cs), *W.shape[1:])
        self._choose(samples, Cs, scores, W, refits)
        home, kept = samples.home, None if self.fit_intercept else -1
        self.classes_ = samples.label_home.bring(samples.classes)
        self.Cs_ = home.bring(Cs)
        self.scores_ = home.bring(scores[:, None, :])
        self.coefs_paths_ = home.bring(W[:, None, :, :, :kept].astype(samples.X.dtype))
        self.n_iter_ = home.bring(paths.n_iter.reshape(len(folds), 1, len(Cs)).astype(np.int32))
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None, **score_params: Any) -> float:
        """The `scoring` of the predictions for rows `X (N, F)`, weighted by `sample_weight (N,)` where it is given.

        With scikit-learn's metadata routing the scorer gets what it asks for of these and of `score_params`.
        """
        _raise_for_params(score_params, self, "score")
        routed = self._routed("score", to_host(sample_weight), score_params)
        scorer = scorer_of(self.scoring, to_host(self.classes_))
        return float(scorer(self._on_host(), to_host(X), to_host(y), **routed.scorer.score))

    def get_metadata_routing(self) -> MetadataRouter:
        """What scikit-learn's metadata routing asks: `fit` hands on to the splitter and the scorer, `score` to the
        scorer."""
        to_scorer = MethodMapping().add(caller="fit", callee="score").add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router.add(scorer=named_scorer(self.scoring), method_mapping=to_scorer)

    def _routed(self, method: str, sample_weight: Any, params: dict[str, Any]) -> Any:
        """What the splitter and the scorer are given: what they ask for, or without routing the sample weight for the
        scorer."""
        given = params if sample_weight is None else params | {"sample_weight": sample_weight}
        if _routing_enabled():
            return process_routing(self, method, **{name: to_host(value) for name, value in given.items()})
        return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=given))

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the same weights, and the chosen C as its C.

        Raises NotFittedError before fit.
        """
        return self._twin(getattr(self, "C_", 1.0))

    def _grid(self) -> Floats:
        """The values of C `(C,)`. Raises UsageError."""
        if isinstance(self.Cs, numbers.Integral):
            if self.Cs < 1:
                raise UsageError(f"Cs is {self.Cs!r}; expected at least 1 value.")
            return np.logspace(-4, 4, int(self.Cs))
        Cs = [strength("Cs", float(value)) for value in np.asarray(self.Cs).reshape(-1).tolist()]
        if not Cs:
            raise UsageError("Cs is empty; expected at least one value.")
        return np.asarray(Cs)

    def _choose(self, samples: Samples, Cs: Floats, scores: Floats, W: Floats, refits: Solution) -> None:
        """Set `C_` and the weights from the scores `(folds, C)`, the folds' weights `(folds, C, K, F + 1)`, and the
        refits of every C.
        """
        ranked = np.where(np.isnan(scores), -np.inf, scores)
        if not self.refit:
            best = ranked.argmax(axis=1)
            mean = _mean(W[np.arange(len(best)), best])
            self.C_ = float(Cs[best].mean())
            self._set_weights(mean[:, :-1], mean[:, -1], samples.home, samples.X.dtype)
            return
        index = int(ranked.sum(axis=0).argmax())
        self.C_ = float(Cs[index])
        self._set_weights(refits.coef[index], refits.intercept[index], samples.home, samples.X.dtype)


def _mean(W: Floats) -> Floats:
    """The mean over folds of weights `(folds, K, F + 1)`, for each class over the folds that have rows of it."""
    there = np.isfinite(W[:, :, -1:])
    count = there.sum(axis=0)
    mean = np.where(there, W, 0.0).sum(axis=0) / np.maximum(count, 1)
    mean[:, -1] = np.where(count[:, 0] > 0, mean[:, -1], W[0, :, -1])
    return np.asarray(mean)


def _tell_of_missing(samples: Samples, present: Mask) -> None:
    """One warning for all folds whose training rows lack a class."""
    missing = [
        f"fold {fold} those of {', '.join(repr(label) for label in samples.classes[~mask].tolist())}"
        for fold, mask in enumerate(present)
        if not mask.all()
    ]
    if missing:
        warnings.warn(
            f"Training rows of some classes are missing: {'; '.join(missing)}. A fold's model gives a class that it "
            "has not seen the probability 0.",
            GpuregWarning,
            stacklevel=3,
        )


def _batch(Cs: Floats, folds: Splits, weights: Floats | None, n: int, *, refit: bool) -> Batch:
    """Folds outermost, then C, and all rows behind them for the refits. A row's weight in a fold counts how often the
    fold's training rows name it.
    """
    parts = [np.bincount(train, minlength=n).astype(np.float64) for train, _ in folds]
    parts += [np.ones(n)] if refit else []
    counts = np.stack(parts, axis=1)
    if weights is not None:
        counts = counts * weights[:, None]
    column = np.repeat(np.arange(len(parts)), len(Cs))
    return Batch(np.tile(Cs, len(parts)), counts, column, np.where(column < len(folds), column, -1))
