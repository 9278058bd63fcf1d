"""Data that have no optimum, or hardly: a sound answer or a clear warning, never NaN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from gpureg import LogisticRegression, LogisticRegressionCV


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


def test_a_class_without_weight_and_folds_without_a_class() -> None:
    X, y = gaussian(60, 4), np.repeat([0, 1, 2], 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bias that only falls has no optimum
        model = LogisticRegression().fit(X, y, sample_weight=(y == 1).astype(float))
        sound(model, X)
        assert (model.predict(X) == 1).all()
        splits = [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(20))]
        cv = LogisticRegressionCV(Cs=3, cv=splits).fit(X, y)
    sound(cv, X)
    assert np.isfinite(cv.scores_).all()


@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
def test_sparse_input_is_refused_with_a_way_out(kind: Any) -> None:
    X, y = gaussian(20, 3), np.arange(20) % 2
    for matrix in (sparse.csr_matrix(X), sparse.coo_array(X)):
        with pytest.raises(TypeError, match=r"sparse.*toarray\(\)"):
            kind().fit(matrix, y)
    model = LogisticRegression().fit(X, y)
    with pytest.raises(TypeError, match=r"toarray\(\)"):
        model.predict(sparse.csr_matrix(X))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"C": 0.0}, "C is 0.0"),
        ({"C": -1}, "C is -1"),
        ({"C": "1"}, "C is '1'"),
        ({"C": float("nan")}, "C is nan"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"max_iter": 0}, "max_iter is 0"),
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
    """More than the few that are fitted in float64 whatever their type."""
    X, noise = gaussian(18000, 60), gaussian(18000, classes, seed=1)
    y = (X[:, :classes] + X[:, -classes:] + noise).argmax(axis=1)
    return (X * scale + offset).astype(np.float32), y


def apart(X: Any, model: Any, other: Any) -> float:
    """The largest difference of probabilities, of both weights in float64."""
    probabilities = []
    for twin in (model.to_sklearn(), other.to_sklearn()):
        twin.coef_, twin.intercept_ = twin.coef_.astype(np.float64), twin.intercept_.astype(np.float64)
        probabilities.append(twin.predict_proba(X.astype(np.float64)))
    return float(np.abs(probabilities[0] - probabilities[1]).max())


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
    monkeypatch.setattr("gpureg.estimators.solve.MOST_DOUBLE_BYTES", 0)
    with pytest.warns(ConvergenceWarning, match="float64"):
        LogisticRegression(C=C).fit(X, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_offset_of_the_features_costs_float32_no_digits(classes: int) -> None:
    X, y = many_in_float32(classes, offset=1000.0)
    model = LogisticRegression().fit(X, y)
    near = LogisticRegression().fit(X - np.float32(1000.0), y)
    assert model.n_iter_[0] <= near.n_iter_[0] + 2
    assert apart(X, model, LogisticRegression().fit(X.astype(np.float64), y)) < 2e-3


def test_warm_start_is_where_the_offset_leaves_it() -> None:
    X, y = many_in_float32(3, offset=50.0)
    X = X.astype(np.float64)
    model = LogisticRegression(warm_start=True).fit(X, y)
    first = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] <= 1
    np.testing.assert_allclose(model.coef_, first, atol=1e-6)
