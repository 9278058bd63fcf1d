"""The estimators reach scikit-learn's optimum: its newton-cholesky, driven to 1e-12, is the reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.linear_model import LogisticRegressionCV as TheirCV
from sklearn.preprocessing import StandardScaler

from gpureg import LogisticRegression, LogisticRegressionCV

LOADERS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}


def samples(name: str, *, raw: bool) -> tuple[Any, Any]:
    X, y = LOADERS[name](return_X_y=True)
    if name == "digits":  # its newton-cholesky takes a second and more a fit: fewer classes and rows say the same
        X, y = X[y < 3][:200], y[y < 3][:200]
    return (X if raw else StandardScaler().fit_transform(X)), y


def theirs(X: Any, y: Any, weight: Any = None, **parameters: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it "stumbled" and went on with lbfgs, or ran out of line search
        model = TheirRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **parameters)
        return model.fit(X, y, sample_weight=weight)


def objective(model: Any, X: Any, y: Any, C: float) -> float:
    """scikit-learn's, divided by C N: mean loss and penalty."""
    chosen = model.predict_log_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(-chosen.mean() + (model.coef_**2).sum() / (2 * C * len(y)))


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "standardised"])
@pytest.mark.parametrize("name", LOADERS)
def test_probabilities_are_those_of_the_optimum(name: str, raw: bool) -> None:
    X, y = samples(name, raw=raw)
    grid = (1e-4, 1.0, 1e4) if name == "digits" else (1e-4, 1e-2, 1.0, 1e2, 1e4)
    for intercept in (True, False):
        for C in grid:
            for weight in (None, np.random.RandomState(0).rand(len(y)) * 3):
                if name == "digits" and (weight is None) != intercept:
                    continue
                ours = LogisticRegression(C=C, fit_intercept=intercept).fit(X, y, sample_weight=weight)
                reference = theirs(X, y, weight, C=C, fit_intercept=intercept)
                apart = np.abs(ours.predict_proba(X) - reference.predict_proba(X)).max()
                assert apart < 1e-5, (C, intercept, weight is not None)
                assert ours.n_iter_.shape == (1,)
                assert (ours.intercept_ == 0).all() or intercept


@pytest.mark.parametrize("weighting", ["balanced", {0: 3.0, 2: 0.5}])
def test_class_weights_are_theirs(weighting: Any) -> None:
    X, y = samples("wine", raw=False)
    X, y = X[20:], y[20:]  # classes of unlike sizes
    weight = np.random.RandomState(1).rand(len(y))
    ours = LogisticRegression(class_weight=weighting).fit(X, y, sample_weight=weight)
    reference = theirs(X, y, weight, class_weight=weighting)
    assert np.abs(ours.predict_proba(X) - reference.predict_proba(X)).max() < 1e-5
    assert np.abs(ours.coef_ - reference.coef_).max() < 1e-4


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_cross_validation_is_theirs(name: str) -> None:
    X, y = samples(name, raw=False)
    weight = np.random.RandomState(2).rand(len(y)) + 0.5
    for given in (None, weight):
        ours = LogisticRegressionCV(Cs=6, cv=4, tol=1e-6).fit(X, y, sample_weight=given)
        reference = TheirCV(
            Cs=6,
            cv=4,
            scoring="neg_log_loss",
            solver="newton-cholesky",
            tol=1e-10,
            max_iter=1000,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        ).fit(X, y, sample_weight=given)
        assert pytest.approx(reference.C_) == ours.C_
        np.testing.assert_allclose(ours.Cs_, reference.Cs_)
        np.testing.assert_allclose(ours.scores_, reference.scores_, rtol=1e-4, atol=1e-6)
        assert ours.n_iter_.shape == reference.n_iter_.shape
        assert ours.coefs_paths_.shape == reference.coefs_paths_.shape
        np.testing.assert_allclose(ours.coefs_paths_, reference.coefs_paths_, rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(ours.predict_proba(X), reference.predict_proba(X), atol=1e-5)
        assert ours.score(X, y) == pytest.approx(reference.score(X, y), abs=1e-5)


@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro", "roc_auc_ovr", None, "callable"])
def test_any_scorer_will_do(scoring: Any) -> None:
    X, y = samples("wine", raw=False)
    if scoring == "callable":
        scoring = lambda model, X, y: -float(np.abs(model.predict_proba(X)).max(axis=1).mean())  # noqa: E731
    Cs = [0.01, 1.0, 30.0]
    ours = LogisticRegressionCV(Cs=Cs, cv=3, scoring=scoring).fit(X, y)
    reference = TheirCV(
        Cs=Cs,
        cv=3,
        scoring=scoring,
        solver="newton-cholesky",
        tol=1e-9,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(X, y)
    np.testing.assert_allclose(ours.scores_, reference.scores_, atol=1e-5)
    assert ours.C_ == reference.C_


def test_without_a_refit_the_folds_best_models_are_averaged() -> None:
    X, y = samples("iris", raw=False)
    ours = LogisticRegressionCV(Cs=[0.1, 1.0, 10.0], cv=3, refit=False).fit(X, y)
    best = ours.scores_[:, 0].argmax(axis=1)
    assert pytest.approx(ours.Cs_[best].mean()) == ours.C_
    mean = ours.coefs_paths_[np.arange(3), 0, best].mean(axis=0)
    np.testing.assert_allclose(ours.coef_, mean[:, :-1])
    np.testing.assert_allclose(ours.intercept_, mean[:, -1])


def test_splits_may_repeat_rows_and_leave_rows_out() -> None:
    X, y = samples("breast_cancer", raw=False)
    random = np.random.RandomState(3)
    splits = [(random.randint(0, 400, 400), np.arange(400, 500)) for _ in range(2)]
    ours = LogisticRegressionCV(Cs=[0.5], cv=splits, tol=1e-7).fit(X, y)
    for number, (train, _) in enumerate(splits):
        alone = LogisticRegression(C=0.5, tol=1e-7).fit(X[train], y[train])
        np.testing.assert_allclose(ours.coefs_paths_[number, 0, 0, :, :-1], alone.coef_, atol=1e-5)


@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
def test_a_weight_is_a_repetition(kind: Any) -> None:
    X, y = samples("iris", raw=True)
    weight = np.random.RandomState(4).randint(0, 4, len(y))
    parameters: dict[str, Any] = {"tol": 1e-7}
    many = parameters
    if kind is LogisticRegressionCV:
        half = np.arange(len(y)) % 2
        twice = np.repeat(half, weight)
        parameters = parameters | {"Cs": [0.1, 1.0], "cv": _halves(half)}
        many = parameters | {"cv": _halves(twice)}
    one = kind(**parameters).fit(X, y, sample_weight=weight)
    two = kind(**many).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(one.coef_, two.coef_, atol=1e-6)
    np.testing.assert_allclose(one.intercept_, two.intercept_, atol=1e-6)
    if kind is LogisticRegressionCV:
        np.testing.assert_allclose(one.scores_, two.scores_, atol=1e-7)


def _halves(which: Any) -> list[tuple[Any, Any]]:
    return [(np.flatnonzero(which == a), np.flatnonzero(which != a)) for a in (0, 1)]


def test_a_warm_start_saves_iterations_and_changes_nothing() -> None:
    X, y = samples("breast_cancer", raw=False)
    warm = LogisticRegression(C=1.0, warm_start=True).fit(X, y)
    cold = LogisticRegression(C=1.1).fit(X, y)
    warm.set_params(C=1.1).fit(X, y)
    assert warm.n_iter_[0] < cold.n_iter_[0]
    assert np.abs(warm.predict_proba(X) - cold.predict_proba(X)).max() < 1e-5
    with pytest.raises(ValueError, match="warm_start"):
        warm.fit(X[:, :3], y)


def test_a_softmax_of_two_classes_is_the_logistic_model_of_twice_its_c() -> None:
    import gpureg

    X, y = samples("breast_cancer", raw=False)
    l2 = 1 / (2 * 0.5 * len(y))  # of C = 0.5
    data = gpureg.make_dataset(X, y, X[:5], y[:5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        softmax = gpureg.fit(
            data,
            task="softmax",
            solver="lbfgs",
            l2=l2,
            penalize_bias=False,
            scale="none",
            dtype="float64",
            device="cpu",
            tol=1e-13,
        )
    apart = {C: LogisticRegression(C=C).fit(X, y).predict_proba(X) - softmax.model.predict_proba(X) for C in (0.5, 1.0)}
    assert np.abs(apart[1.0]).max() < 1e-5 < 1e-3 < np.abs(apart[0.5]).max()


def test_where_theirs_stumbles_the_objective_is_lower() -> None:
    """Features 1e6 apart and far from 0: newton-cholesky gives up on the Hessian there, and lbfgs stops short."""
    random = np.random.RandomState(5)
    X = random.randn(300, 4) * [1e-6, 1, 1e6, 1e3]
    y = (X @ [1e6, 1, 1e-6, 1e-3] + random.randn(300) > 0).astype(int)
    X += np.array([1.0, 1e3, 1e7, -1e5])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours = LogisticRegression().fit(X, y)
    assert objective(ours, X, y, 1.0) <= objective(theirs(X, y, C=1.0), X, y, 1.0) + 1e-9


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("seed", [0, 42])
def test_without_a_penalty_the_classes_sum_to_0(seed: int, intercept: bool) -> None:
    """A shift of all classes changes nothing: of all optima this is the one that any penalty, however small, selects.
    Classes of uneven curvature: Newton's steps have to keep the sum, not one that is weighted by these.
    """
    random = np.random.default_rng(seed)
    X = random.normal(size=(150, 4))
    z = X @ random.uniform(0.3, 1.0, size=(4, 3)) + [2.0, 0.0, -1.0]
    y = (np.cumsum(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), axis=1) < random.random((150, 1))).sum(axis=1)
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-7).fit(X, y)
    assert np.abs(model.coef_).max() > 0.1
    np.testing.assert_allclose(model.coef_.sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(model.intercept_.sum(), 0.0, atol=1e-9)
