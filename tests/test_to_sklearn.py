"""Weights handed to scikit-learn keep their probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from gpureg import LinearModel, LogisticRegression, LogisticRegressionCV
from gpureg.errors import UsageError


def linear(task: str, classes: tuple[Any, ...], dtype: str = "float64") -> LinearModel:
    random = np.random.RandomState(0)
    K = 1 if task == "logistic" else len(classes)
    return LinearModel(
        task=task,
        classes=classes,
        coef=random.randn(2, K, 5).astype(dtype),
        intercept=random.randn(2, K).astype(dtype),
        offset=random.randn(5) * 10,
        scale=np.array([1e-3, 1.0, 20.0, 3.0, 255.0]),
        l2=np.array([1.0, 0.1]),
        selected=1,
    )


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("softmax", ("b", "c", "a")),
        ("softmax", (3, 1, 2, 0)),
        ("softmax", (7, 2)),
        ("softmax", (2.5, 7.5)),
        ("logistic", (2, 3)),
        ("logistic", (3, 2)),
        ("logistic", ("cat", "dog")),
    ],
)
def test_a_linear_model(task: str, classes: tuple[Any, ...]) -> None:
    model = linear(task, classes)
    X = model.offset + model.scale * np.random.RandomState(1).randn(50, 5)
    for number in (None, 0):
        theirs = model.to_sklearn(number)
        assert theirs.classes_.tolist() == sorted(classes)
        assert theirs.coef_.shape == (1 if len(classes) == 2 else len(classes), 5)
        order = [sorted(classes).index(label) for label in classes]
        np.testing.assert_allclose(
            theirs.predict_proba(X)[:, order], model.predict_proba(X, number), rtol=1e-9, atol=1e-13
        )
        assert (theirs.predict(X) == model.predict(X, number)).all()


def test_float32_weights_are_folded_in_float64() -> None:
    model = linear("softmax", (0, 1, 2), "float32")
    model = replace(model, offset=model.scale)  # no further from 0 than the spread: the rows are float32 as well
    X = model.offset + model.scale * np.random.RandomState(1).randn(50, 5)
    theirs = model.to_sklearn()
    assert theirs.coef_.dtype == np.float64
    np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_a_model_that_diverged_is_refused() -> None:
    model = linear("softmax", (0, 1, 2))
    model.coef[0] = np.nan
    with pytest.raises(UsageError, match="diverged"):
        model.to_sklearn(0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
def test_an_estimator(kind: Any, classes: int) -> None:
    torch = pytest.importorskip("torch")
    X, y = load_iris(return_X_y=True)
    X, y = X[y < classes], np.array(["x", "a", "m"])[y[y < classes]]
    for intercept in (True, False):
        model = kind(class_weight="balanced", fit_intercept=intercept).fit(X, y)
        theirs = model.to_sklearn()
        np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), rtol=1e-9, atol=1e-14)
        assert (theirs.predict(X) == model.predict(X)).all()
        assert getattr(model, "C_", model.C if hasattr(model, "C") else None) == theirs.C
        # fitted again it is the same model: C, class weights and intercept came along
        again = clone(theirs).set_params(tol=1e-9, max_iter=10_000).fit(X, y)
        np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-4)
    tensor = kind().fit(torch.from_numpy(X), y)
    assert isinstance(tensor.to_sklearn().coef_, np.ndarray)
    with pytest.raises(NotFittedError):
        kind().to_sklearn()
