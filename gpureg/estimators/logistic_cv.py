"""`LogisticRegressionCV`: every C and every fold in one batch, or one after the other where that is faster."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from gpureg.errors import GpuregWarning
from gpureg.estimators.arrays import to_host
from gpureg.estimators.callbacks import Path, Tasks, with_callbacks
from gpureg.estimators.inputs import Samples
from gpureg.estimators.linear import FittedClassifier
from gpureg.estimators.parameters import UNSET, check_parameters, grid, has_ratios, is_legacy, scoring_of
from gpureg.estimators.pieces import on_workers, read_any
from gpureg.estimators.results import Results
from gpureg.estimators.scoring import fold_scores, named_scorer, scorer_of
from gpureg.estimators.solve import Audience, Batch, Mask, Solution, solve
from gpureg.estimators.splits import Splits, read_splits
from gpureg.estimators.telling import warn
from gpureg.types import Floats


class LogisticRegressionCV(FittedClassifier):
    """`LogisticRegression` whose C is chosen by cross-validation, with all models trained at once.

    The folds are row weights of one batch, so each pass reads X once for every C and every fold. On few samples on the
    CPU models are fitted one after the other, each from where the last two lead. A fold's model has
    `λ = 1 / (2 C Σ s_i)`, summed over its own training rows, as in scikit-learn. Attributes follow scikit-learn's
    `use_legacy_attributes=False`.

    Parameters
    ----------
    Those of scikit-learn 1.9 with the defaults that it announces for 1.11, and two more.

    Cs : how many values, evenly spaced in their logarithm from 1e-4 to 1e4, or the values.
    cv : None (5 folds), a number of stratified folds, a splitter, or an iterable of (train, test), each of which names
        rows as NumPy indexes them: numbers (from the end where below 0), a mask of booleans, or a slice.
    scoring : default "neg_log_loss"; a scorer's name or a callable `scorer(estimator, X, y)`; None: accuracy.
    refit : True: the model of the best C (highest mean score; of equal ones the first) on all rows, which are fitted
        alongside the folds. False: mean weights over the folds, each at its own best C.
    l1_ratios : None or (0.0,): there is no L1 or elastic-net penalty.
    use_legacy_attributes : default False; True: the attributes in scikit-learn's old form.
    fit_intercept, tol, max_iter, class_weight, penalty, solver, device, dtype, and dual, intercept_scaling,
    random_state, verbose, n_jobs : as in `LogisticRegression`; "balanced" is taken over all rows, as in scikit-learn;
        a fold's model ends within 100 tol² nats.

    Attributes
    ----------
    C_ : the chosen C. Cs_ (C,) : all. scores_ (folds, 1, C) : held-out scores, with the default the negative mean loss
    in nats. coefs_paths_ (folds, 1, C, K, F + 1) : the folds' weights, the intercept last (F without one). n_iter_
    (folds, 1, C). l1_ratio_ : 0.0. l1_ratios_ (1,). coef_, intercept_, classes_, n_features_in_, feature_names_in_ : as
    in `LogisticRegression`. The axis of length 1 is scikit-learn's of l1 ratios.

    In the old form: C_ (K,), l1_ratio_ (K,), n_iter_ (1, folds, C, 1), and dictionaries by class (by the second one of
    two), scores_ of (folds, C, 1) and coefs_paths_ of (folds, C, 1, F + 1); without the axis of length 1 if l1_ratios
    is None.

    scikit-learn's callbacks (`set_callbacks`) see every C that all folds have reached.

    >>> import gpureg
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = gpureg.LogisticRegressionCV(Cs=10, cv=5).fit(X, y)  # 50 models, and the refits
    >>> model.scores_.shape
    (5, 1, 10)
    >>> bool(model.score(X, y) > -0.05)  # in nats, as scoring="neg_log_loss" has it
    True
    """

    # as in scikit-learn: `score` hands its weights on to the scorer, which asks for them or not
    __metadata_request__score: ClassVar = {"sample_weight": UNUSED}

    def __init__(
        self,
        *,
        Cs: Any = 10,
        l1_ratios: Any = None,
        fit_intercept: bool = True,
        cv: Any = None,
        dual: bool = False,
        penalty: Any = UNSET,
        scoring: Any = "neg_log_loss",
        solver: str = "lbfgs",
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        refit: bool = True,
        intercept_scaling: float = 1.0,
        random_state: Any = None,
        use_legacy_attributes: Any = False,
        device: str = "auto",
        dtype: str | None = None,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes
        self.device = device
        self.dtype = dtype

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Choose C on rows `X (N, F)` with labels `y (N,)`, and fit; `sample_weight (N,)` weighs the scores too.

        With scikit-learn's metadata routing `params` go to the splitter and scorer that ask for them, and the sample
        weight to the scorer. Raises ValueError (UsageError) and TypeError for what can't be used; warns with
        ConvergenceWarning, and with GpuregWarning if the training rows of a fold lack a class: its model has only the
        classes that are there, and gives the missing one the probability 0.
        """
        check_parameters(self)
        _raise_for_params(params, self, "fit")
        Cs = grid(self)
        samples = read_any(self, X, y, sample_weight, self.dtype)
        routed = self._routed("fit", samples.given, params)
        splitter = check_cv(self.cv, samples.y, classifier=True)
        folds = read_splits(splitter.split(samples.X, samples.y, **routed.splitter.split), len(samples.y))
        batch = _batch(Cs, folds, samples.weights(self.class_weight), len(samples.y), refit=bool(self.refit))
        given = params if sample_weight is None else params | {"sample_weight": sample_weight}
        tasks = Tasks(self, {"X": X, "y": y, "metadata": given or None}, "C", len(Cs))
        with on_workers(self, samples) as there:
            found = self._solved(there, batch, tasks, len(Cs))
            _tell_of_missing(samples, found.present[: len(folds)])
            paths, refits = found.parted(len(folds) * len(Cs))
            scores = fold_scores(self, there, folds, paths, routed.scorer.score)
        results = Results(Cs, scores, paths, refits, bool(self.refit), bool(self.fit_intercept))
        kept = results.attributes(samples, legacy=is_legacy(self), ratios=has_ratios(self))
        for name, value in kept.items():
            setattr(self, name, value)
        tasks.finish()
        return self

    def _solved(self, samples: Samples, batch: Batch, tasks: Tasks, count: int) -> Solution:
        """The batch's models; the callbacks see each C."""
        if not tasks.watched:
            return solve(self, samples, batch)
        path = Path(tasks, count)
        found = solve(self, samples, batch, Audience(path.observe))
        path.close()
        return found

    def score(self, X: Any, y: Any, sample_weight: Any = None, **score_params: Any) -> float:
        """The `scoring` of the predictions for rows `X (N, F)`, weighted by `sample_weight (N,)` if it is given.

        With scikit-learn's metadata routing the scorer gets what it asks for of these and of `score_params`.
        """
        _raise_for_params(score_params, self, "score")
        routed = self._routed("score", to_host(sample_weight), score_params)
        scorer = scorer_of(scoring_of(self), to_host(self.classes_))
        return float(scorer(self._on_host(), to_host(X), to_host(y), **routed.scorer.score))

    def get_metadata_routing(self) -> MetadataRouter:
        """What scikit-learn's metadata routing asks: `fit` hands on to the splitter and the scorer, `score` to the
        scorer."""
        to_scorer = MethodMapping().add(caller="fit", callee="score").add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router.add(scorer=named_scorer(scoring_of(self)), method_mapping=to_scorer)

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
        check_is_fitted(self)
        return self._twin(float(np.ravel(to_host(self.C_))[0]))


def _tell_of_missing(samples: Samples, present: Mask) -> None:
    """One warning for all folds whose training rows lack a class."""
    missing = [
        f"fold {fold} those of {', '.join(repr(label) for label in samples.classes[~mask].tolist())}"
        for fold, mask in enumerate(present)
        if not mask.all()
    ]
    if missing:
        warn(
            f"Training rows of some classes are missing: {'; '.join(missing)}. A fold's model gives a class that it "
            "has not seen the probability 0.",
            GpuregWarning,
        )


def _batch(Cs: Floats, folds: Splits, weights: Floats | None, n: int, *, refit: bool) -> Batch:
    """Folds outermost, then C, and after them all rows for the refits. A row's weight in a fold counts how often the
    fold's training rows name it.
    """
    parts = [np.bincount(train, minlength=n).astype(np.float64) for train, _ in folds]
    parts += [np.ones(n)] if refit else []
    counts = np.stack(parts, axis=1)
    if weights is not None:
        counts = counts * weights[:, None]
    column = np.repeat(np.arange(len(parts)), len(Cs))
    return Batch(np.tile(Cs, len(parts)), counts, column, np.where(column < len(folds), column, -1))
