"""scikit-learn's parameters and attributes on our estimators: taken, refused, and in both forms."""

from __future__ import annotations

import inspect
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.linear_model import LogisticRegressionCV as TheirCV
from sklearn.preprocessing import StandardScaler

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.errors import GpuregWarning, UsageError

PAIRS = [(LogisticRegression, TheirRegression), (LogisticRegressionCV, TheirCV)]
SOLVERS = ["lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"]
# l1_ratios and use_legacy_attributes: "warn" stands for a default that is about to change
OTHER_DEFAULTS = {"tol": 1e-6, "max_iter": 1000, "scoring": "neg_log_loss", "l1_ratios": None} | {
    "use_legacy_attributes": False
}


@pytest.fixture(scope="module")
def wine() -> tuple[Any, Any]:
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def cancer() -> tuple[Any, Any]:
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X)[:, :8], y


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_every_parameter_is_taken_with_its_default(mine: Any, theirs: Any) -> None:
    own, other = (inspect.signature(kind).parameters for kind in (mine, theirs))
    assert list(own)[: len(other)] == list(other)
    assert list(own)[len(other) :] == ["device", "dtype"]
    for name, parameter in other.items():
        assert own[name].kind == parameter.kind, name
        assert own[name].default == OTHER_DEFAULTS.get(name, parameter.default), name
    for method in ("fit", "predict", "predict_proba", "predict_log_proba", "decision_function", "score"):
        given = inspect.signature(getattr(theirs, method)).parameters
        assert list(inspect.signature(getattr(mine, method)).parameters) == list(given), method
    model = mine(**clone(theirs()).get_params())  # what scikit-learn's own defaults stand for, too
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize(
    "parameters",
    [
        *({"solver": solver} for solver in SOLVERS if solver != "liblinear"),
        {"penalty": "l2"},
        {"penalty": "elasticnet", "l1_ratio": 0},
        {"l1_ratio": None},
        {"n_jobs": 2, "verbose": 3, "random_state": 7},
        {"random_state": np.random.RandomState(0), "verbose": True},
    ],
)
def test_what_changes_nothing_is_taken_in_silence(parameters: dict[str, Any], wine: tuple[Any, Any]) -> None:
    """Warnings are errors here."""
    np.testing.assert_array_equal(
        LogisticRegression(**parameters).fit(*wine).coef_, LogisticRegression().fit(*wine).coef_
    )
    if "l1_ratio" in parameters:
        parameters = parameters | {"l1_ratios": parameters["l1_ratio"] if parameters["l1_ratio"] is None else (0,)}
        del parameters["l1_ratio"]
    some = {"Cs": [0.1, 1.0], "cv": 3}
    mine, plain = (LogisticRegressionCV(**some, **given).fit(*wine) for given in (parameters, {}))
    np.testing.assert_array_equal(mine.coefs_paths_, plain.coefs_paths_)


def test_no_penalty(cancer: tuple[Any, Any]) -> None:
    free = LogisticRegression(C=np.inf).fit(*cancer)
    np.testing.assert_array_equal(LogisticRegression(penalty=None).fit(*cancer).coef_, free.coef_)
    with pytest.warns(GpuregWarning, match="penalty=None will ignore the C that is given, 4"):
        also = LogisticRegression(penalty=None, C=4).fit(*cancer)
    np.testing.assert_array_equal(also.coef_, free.coef_)
    assert np.inf == also.to_sklearn().C


@pytest.mark.parametrize(
    "parameters", [{"solver": "liblinear"}, {"intercept_scaling": 5}, {"solver": "liblinear", "dual": True}]
)
def test_a_penalised_intercept_is_warned_of_once_at_the_caller_s_line(
    parameters: dict[str, Any], cancer: tuple[Any, Any]
) -> None:
    for kind in (LogisticRegression, LogisticRegressionCV):
        with pytest.warns(GpuregWarning, match="the intercept|not penalised") as told:
            model = kind(**parameters).fit(*cancer)
        assert [warning.filename for warning in told] == [__file__]
        np.testing.assert_array_equal(model.coef_, kind().fit(*cancer).coef_)
        kind(**parameters, fit_intercept=False).fit(*cancer)  # there is none: a warning would be an error


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"l1_ratio": 0.5}, "l1_ratio is 0.5; expected 0"),
        ({"l1_ratio": 1, "solver": "saga"}, "l1_ratio is 1; expected 0"),
        ({"l1_ratio": 2}, "l1_ratio has 2; expected 0"),
        ({"l1_ratio": "0"}, "l1_ratio has '0'; expected 0"),
        ({"penalty": "l1"}, "penalty is 'l1'; expected 'l2'"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "penalty is 'elasticnet' without l1_ratio"),
        ({"penalty": "elasticnet", "l1_ratio": 0.5}, "l1_ratio is 0.5"),
        ({"penalty": "none"}, "penalty is 'none'; expected 'l2', or None"),
        ({"dual": True}, "dual is True with solver='lbfgs'; expected False"),
        ({"dual": 1}, "dual is 1; expected True or False"),
        ({"solver": "newton"}, "solver is 'newton'; expected one of lbfgs, liblinear"),
        ({"intercept_scaling": 0}, "intercept_scaling is 0"),
        ({"warm_start": "yes"}, "warm_start is 'yes'"),
        ({"n_jobs": 1.5}, "n_jobs is 1.5"),
        ({"verbose": -1}, "verbose is -1"),
        ({"random_state": "seed"}, "'seed' cannot be used to seed"),
        ({"dtype": "double trouble"}, "dtype is 'double trouble'; expected None"),
    ],
)
def test_what_would_change_the_result_is_refused(parameters: dict[str, Any], told: str, wine: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=told):
        LogisticRegression(**parameters).fit(*wine)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"l1_ratios": (0.5,)}, "l1_ratios is 0.5; expected 0"),
        ({"l1_ratios": (0, 1)}, r"l1_ratios is \(0, 1\); expected \(0,\)"),
        ({"l1_ratios": 0}, "l1_ratios is 0; expected"),
        ({"l1_ratios": ()}, r"l1_ratios is \(\); expected"),
        ({"penalty": None}, "penalty is None; expected 'l2'"),
        ({"penalty": "l1"}, "penalty is 'l1'"),
        ({"refit": None}, "refit is None"),
        ({"use_legacy_attributes": "no"}, "use_legacy_attributes is 'no'"),
        ({"Cs": ["1"]}, "Cs is '1'"),
        ({"Cs": None}, "Cs is None"),
        ({"Cs": True}, "Cs is True"),
        ({"Cs": 10**30}, "Cs is 1000000000000000000000000000000; expected a number from 1 to 100,000"),
    ],
)
def test_a_cross_validation_refuses_it_too(parameters: dict[str, Any], told: str, wine: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match=told):
        LogisticRegressionCV(**parameters).fit(*wine)


def test_parameters_that_contradict_each_other(wine: tuple[Any, Any]) -> None:
    with pytest.warns(GpuregWarning, match="Inconsistent values: penalty=l2 with l1_ratio=1"):
        model = LogisticRegression(penalty="l2", l1_ratio=1).fit(*wine)
    np.testing.assert_array_equal(model.coef_, LogisticRegression().fit(*wine).coef_)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_without_iterations_the_weights_are_those_of_the_start(
    classes: int, intercept: bool, wine: tuple[Any, Any]
) -> None:
    X, y = wine[0][wine[1] < classes], wine[1][wine[1] < classes]
    with pytest.warns(ConvergenceWarning, match="max_iter=0") as told:
        model = LogisticRegression(max_iter=0, fit_intercept=intercept).fit(X, y)
    assert [warning.filename for warning in told] == [__file__]
    assert model.n_iter_.tolist() == [0]
    assert not model.coef_.any()
    np.testing.assert_allclose(model.predict_proba(X), 1 / classes)
    whole = LogisticRegression(warm_start=True, fit_intercept=intercept).fit(X, y)
    before = whole.coef_.copy(), whole.intercept_.copy()
    with pytest.warns(ConvergenceWarning, match="max_iter=0"):
        whole.set_params(max_iter=0).fit(X, y)
    np.testing.assert_allclose(whole.coef_, before[0], rtol=1e-12)
    np.testing.assert_allclose(whole.intercept_, before[1], atol=1e-12)
    with pytest.warns(ConvergenceWarning, match="max_iter=0"):
        several = LogisticRegressionCV(Cs=2, cv=3, max_iter=0, fit_intercept=intercept).fit(X, y)
    assert not several.n_iter_.any()
    np.testing.assert_allclose(several.scores_, -np.log(classes))


@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_sparse_weights_predict_the_same(kind: Any, arrays: str, wine: tuple[Any, Any]) -> None:
    import torch

    X, y = wine if arrays == "numpy" else (torch.from_numpy(wine[0]), torch.from_numpy(wine[1]))
    model = kind(C=1e-3) if kind is LogisticRegression else kind(Cs=2)
    expected = {name: np.asarray(getattr(model.fit(X, y), name)(X)) for name in ("predict", "predict_proba")}
    kept = model.coef_
    assert model.sparsify() is model
    assert sparse.issparse(model.coef_)
    for rows in (wine[0], torch.from_numpy(wine[0])):
        for name, value in expected.items():
            np.testing.assert_allclose(np.asarray(getattr(model, name)(rows)), value, rtol=1e-12)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(wine[0]), expected["predict_proba"])
    np.testing.assert_allclose(model.to_sklearn().predict_proba(wine[0]), expected["predict_proba"], rtol=1e-12)
    assert model.sparsify().densify() is model
    np.testing.assert_array_equal(model.coef_, np.asarray(kept))
    assert model.densify().score(*wine) == pytest.approx(model.fit(X, y).score(X, y))


@pytest.mark.parametrize("name", ["wine", "cancer"])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("ratios", [None, (0.0,)])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_attributes_have_scikit_learn_s_old_form_too(
    name: str, refit: bool, ratios: Any, intercept: bool, request: pytest.FixtureRequest
) -> None:
    X, y = request.getfixturevalue(name)
    y = np.array(["a", "b", "c"])[y]
    options: dict[str, Any] = {"Cs": [0.01, 1.0], "cv": 3, "refit": refit, "fit_intercept": intercept}
    options |= {"l1_ratios": ratios, "scoring": "neg_log_loss"}
    for legacy in (True, False):
        mine = LogisticRegressionCV(**options, use_legacy_attributes=legacy).fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that l1_ratios=None is about to go
            theirs = TheirCV(**options, use_legacy_attributes=legacy, solver="newton-cholesky", tol=1e-10).fit(X, y)
        for attribute in ("C_", "Cs_", "coef_", "intercept_", "scores_", "coefs_paths_"):
            own, other = getattr(mine, attribute), getattr(theirs, attribute)
            assert type(own) is type(other), attribute
            pairs = [(own[key], other[key]) for key in other] if isinstance(other, dict) else [(own, other)]
            for found, expected in pairs:
                assert np.shape(found) == np.shape(expected), attribute
                np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3, err_msg=attribute)
        assert np.shape(mine.n_iter_) == np.shape(theirs.n_iter_)
        assert np.shape(mine.l1_ratio_) == np.shape(theirs.l1_ratio_)
        assert not np.any(mine.l1_ratio_)
        assert mine.l1_ratios_.tolist() == [0.0]
        assert np.ravel(mine.C_)[0] == mine.to_sklearn().C
        if legacy:
            assert list(mine.scores_) == list(mine.classes_[-len(mine.coef_) :])
