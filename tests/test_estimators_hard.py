"""Data that have no optimum, or hardly: a sound answer or a clear warning, never NaN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.errors import GpuregWarning


def gaussian(rows: int, features: int, seed: int = 0) -> Any:
    return np.random.RandomState(seed).randn(rows, features)


def sound(model: Any, X: Any) -> None:
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    proba = model.predict_proba(X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-6)
    assert np.isfinite(model.predict_log_proba(X)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_data(classes: int) -> None:
    X = gaussian(100, 3)
    y = np.digitize(X[:, 0], [0.0] if classes == 2 else [-0.5, 0.5])
    X[:, 0] += 2.0 * y
    for C in (1.0, 1e4, 1e10):
        model = LogisticRegression(C=C).fit(X, y)
        sound(model, X)
        assert model.score(X, y) == 1.0 or C == 1.0
    with pytest.warns(ConvergenceWarning, match="separate the training data"):
        model = LogisticRegression(C=np.inf).fit(X, y)
    sound(model, X)
    assert model.score(X, y) == 1.0


@pytest.mark.parametrize("n", [2, 3, 20])
def test_one_sample_per_class(n: int) -> None:
    X, y = gaussian(n, 30, seed=n), np.arange(n)
    for C in (1.0, 1e8):
        model = LogisticRegression(C=C).fit(X, y)
        sound(model, X)
        assert model.score(X, y) == 1.0
    with pytest.warns(ConvergenceWarning, match="separate the training data"):
        sound(LogisticRegression(C=np.inf).fit(X, y), X)


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e8])
def test_constant_features_take_no_weight(constant: float) -> None:
    X = gaussian(100, 3)
    y = (X[:, 1] + gaussian(100, 1, seed=1)[:, 0] > 0).astype(int)
    plain = LogisticRegression().fit(X, y)
    model = LogisticRegression().fit(np.c_[X, np.full(100, constant)], y)
    sound(model, np.c_[X, np.full(100, constant)])
    assert abs(model.coef_[0, 3]) < 1e-6  # rounding: what is left of a column of 1e8 less its mean
    np.testing.assert_allclose(model.coef_[:, :3], plain.coef_, atol=1e-4)
    only = LogisticRegression().fit(np.full((100, 1), constant), y)
    np.testing.assert_allclose(only.predict_proba(np.full((1, 1), constant))[0, 1], y.mean(), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_scaled_a_million_apart(dtype: str) -> None:
    unit = gaussian(300, 4)
    y = (unit.sum(axis=1) + gaussian(300, 1, seed=1)[:, 0] > 0).astype(int)
    scale = np.array([1e-6, 1.0, 1e6, 1e3])
    for C in (1.0, 1e4):
        model = LogisticRegression(C=C, dtype=dtype).fit(unit * scale, y)
        sound(model, unit * scale)
    free = LogisticRegression(C=np.inf, dtype=dtype).fit(unit * scale, y)
    same = LogisticRegression(C=np.inf).fit(unit, y)  # without a penalty the scale changes nothing
    np.testing.assert_allclose(free.predict_proba(unit * scale), same.predict_proba(unit), atol=1e-4)


def test_a_thousand_classes() -> None:
    random = np.random.RandomState(0)
    y = np.r_[np.arange(1000), random.randint(0, 1000, 1000)]
    X = (random.randn(2000, 8) + 2 * random.randn(1000, 8)[y]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=20).fit(X, y)
    assert model.coef_.shape == (1000, 8)
    assert model.coef_.dtype == np.float32
    sound(model, X)
    assert model.score(X, y) > 0.3


def test_too_few_iterations_are_told() -> None:
    X = gaussian(200, 5)
    y = (X[:, 0] + gaussian(200, 1, seed=3)[:, 0] > 0).astype(int)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model = LogisticRegression(max_iter=1).fit(X, y)
    assert model.n_iter_[0] == 1


def test_numbers_too_large_to_square_are_refused() -> None:
    X, y = gaussian(50, 2) * 1e200, np.arange(50) % 2
    with pytest.raises(ValueError, match="Scale the features"):
        LogisticRegression().fit(X, y)


def test_classes_without_weight_have_the_probability_0() -> None:
    """As where their rows are left out; with one class left it is certain."""
    X, y = gaussian(60, 4), np.repeat(["a", "b", "c"], 20)
    weight = np.where(y == "b", 0.0, 1.0 + np.arange(60) % 3)
    with pytest.warns(GpuregWarning, match="No sample of the class 'b' has weight"):
        model = LogisticRegression(tol=1e-8).fit(X, y, sample_weight=weight)
    proba, kept = model.predict_proba(X), weight > 0
    assert (proba[:, 1] == 0.0).all()
    assert np.isneginf(model.predict_log_proba(X)[:, 1]).all()
    assert set(model.predict(X)) == {"a", "c"}
    rest = LogisticRegression(C=2.0, tol=1e-8).fit(X[kept], y[kept], sample_weight=weight[kept])
    np.testing.assert_allclose(proba[:, [0, 2]], rest.predict_proba(X), atol=1e-7)  # a softmax of two classes at C
    for names in (["a", "b", "c"], ["b", "c"]):
        some = np.isin(y, names)
        with pytest.warns(GpuregWarning, match="has weight"):
            sure = LogisticRegression().fit(X[some], y[some], sample_weight=(y[some] == "b").astype(float))
        expected = np.tile((np.array(names) == "b").astype(float), (60, 1))
        np.testing.assert_array_equal(sure.predict_proba(X), expected)
        assert (sure.predict(X) == "b").all()
        again = sure.set_params(warm_start=True, C=3.0)
        with pytest.warns(GpuregWarning, match="has weight"):
            again.fit(X[some], y[some], sample_weight=(y[some] == "b").astype(float))


@pytest.mark.parametrize("intercept", [True, False])
def test_a_class_that_a_fold_has_not_seen(intercept: bool) -> None:
    """Its probability is 0, clipped as scikit-learn's log_loss clips; the fold's model is that of the other classes,
    whatever the tolerance."""
    X, y = gaussian(90, 4), np.repeat([0, 1, 2], 30)
    X[:, 0] += y
    splits = [(np.arange(60), np.arange(20, 90)), (np.arange(20, 90), np.arange(40)), (np.arange(30), np.arange(90))]
    found = {}
    for tol in (1e-3, 1e-6, 1e-8):
        with pytest.warns(GpuregWarning, match="fold 0 those of 2; fold 2 those of 1, 2") as told:
            cv = LogisticRegressionCV(Cs=[0.1, 1.0], cv=splits, tol=tol, fit_intercept=intercept).fit(X, y)
        assert len(told) == 1
        sound(cv, X)
        found[tol] = cv.scores_
    np.testing.assert_allclose(found[1e-3], found[1e-8], atol=5e-3)
    np.testing.assert_allclose(found[1e-6], found[1e-8], atol=1e-5)
    worst = -np.log(np.finfo(float).eps)
    assert found[1e-8][2] == pytest.approx(np.full((1, 2), -2 / 3 * worst), rel=1e-12)
    rest = np.arange(60)
    for place, C in enumerate((0.1, 1.0)):
        two = LogisticRegression(C=2 * C, tol=1e-8, fit_intercept=intercept).fit(X[rest], y[rest])
        held = two.predict_log_proba(X[20:60])[np.arange(40), y[20:60]].sum()
        assert found[1e-8][0, 0, place] == pytest.approx((held - 30 * worst) / 70, abs=1e-7)
    mean = LogisticRegressionCV(Cs=[1.0], cv=splits[:2], refit=False, fit_intercept=intercept)
    with pytest.warns(GpuregWarning, match="fold 0 those of 2"):
        mean.fit(X, y)
    sound(mean, X)
    assert mean.predict_proba(X)[:, 2].max() > 0.5  # what one fold has not seen, the other has


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"C": 0.0}, "C is 0.0"),
        ({"C": -1}, "C is -1"),
        ({"C": "1"}, "C is '1'"),
        ({"C": float("nan")}, "C is nan"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"max_iter": -1}, "max_iter is -1"),
        ({"max_iter": 1.5}, "max_iter is 1.5"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"fit_intercept": "yes"}, "fit_intercept is 'yes'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"device": "gpu"}, "Device 'gpu' is unknown"),
    ],
)
def test_parameters_that_cannot_be(parameters: dict[str, Any], told: str) -> None:
    X, y = gaussian(20, 3), np.arange(20) % 2
    with pytest.raises(ValueError, match=told):
        LogisticRegression(**parameters).fit(X, y)


def test_weights_and_labels_that_cannot_be() -> None:
    X, y = gaussian(20, 3), np.arange(20) % 2
    with pytest.raises(ValueError, match="negative"):
        LogisticRegression().fit(X, y, sample_weight=np.linspace(-1, 1, 20))
    with pytest.raises(ValueError, match="at least one non-zero number"):
        LogisticRegression().fit(X, y, sample_weight=np.zeros(20))
    with pytest.raises(ValueError, match="one class"):
        LogisticRegression().fit(X, np.zeros(20))
    for Cs in (0, [], [1.0, -1.0]):
        with pytest.raises(ValueError, match="Cs"):
            LogisticRegressionCV(Cs=Cs).fit(X, y)


def many_in_float32(classes: int, scale: Any = 1.0, offset: float = 0.0) -> tuple[Any, Any]:
    """More than the few whose batch is in float64 whatever their type."""
    X, noise = gaussian(18000, 60), gaussian(18000, classes, seed=1)
    y = (X[:, :classes] + X[:, -classes:] + noise).argmax(axis=1)
    return (X * scale + offset).astype(np.float32), y


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in float32 do not take the short way, in float64, as they would not if they were many."""
    monkeypatch.setattr("gpureg.estimators.optimum.MOST_WIDENED", 0)
    monkeypatch.setattr("gpureg.solvers.lbfgs.single.MOST_WIDENED", 0)


def apart(X: Any, model: Any, other: Any) -> float:
    """The largest difference of probabilities, of both weights in float64."""
    probabilities = []
    for twin in (model.to_sklearn(), other.to_sklearn()):
        twin.coef_, twin.intercept_ = twin.coef_.astype(np.float64), twin.intercept_.astype(np.float64)
        probabilities.append(twin.predict_proba(X.astype(np.float64)))
    return float(np.abs(probabilities[0] - probabilities[1]).max())


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [1e-4, 1.0, 1e4])
def test_what_float32_can_not_certify_is_finished_in_float64(
    classes: int, C: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = many_in_float32(classes, np.where(np.arange(60) < 30, 1.0, 1e6))
    model = LogisticRegression(C=C).fit(X, y)  # a warning would be an error
    exact = LogisticRegression(C=C).fit(X.astype(np.float64), y)
    assert model.coef_.dtype == np.float32
    assert apart(X, model, exact) < 2e-3  # the objective's digits in float32, 1e-7, are worth so much
    monkeypatch.setattr("gpureg.estimators.batched.MOST_DOUBLE_BYTES", 0)
    with pytest.warns(ConvergenceWarning, match="float64"):
        LogisticRegression(C=C).fit(X, y)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("classes", [2, 3])
def test_an_offset_of_the_features_costs_float32_no_digits(classes: int) -> None:
    X, y = many_in_float32(classes, offset=1000.0)
    model = LogisticRegression().fit(X, y)
    near = LogisticRegression().fit(X - np.float32(1000.0), y)
    assert model.n_iter_[0] <= near.n_iter_[0] + 2
    assert apart(X, model, LogisticRegression().fit(X.astype(np.float64), y)) < 2e-3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(18000, 60, 2), (18000, 60, 3), (700, 900, 2), (3000, 400, 10)])
def test_samples_in_float32_take_the_short_way_of_those_in_float64(shape: tuple[int, int, int]) -> None:
    """And so its iterations, and the results in their own type."""
    n, F, classes = shape
    X, noise = gaussian(n, F).astype(np.float32), gaussian(n, classes, seed=1)
    y = (X[:, :classes] + noise).argmax(axis=1)
    model, exact = LogisticRegression().fit(X, y), LogisticRegression().fit(X.astype(np.float64), y)
    assert model.coef_.dtype == np.float32
    assert model.n_iter_[0] == exact.n_iter_[0] <= 20
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=1e-4, atol=1e-5)


def test_warm_start_is_where_the_offset_leaves_it() -> None:
    X, y = many_in_float32(3, offset=50.0)
    X = X.astype(np.float64)
    model = LogisticRegression(warm_start=True).fit(X, y)
    first = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] <= 1
    np.testing.assert_allclose(model.coef_, first, atol=1e-6)
