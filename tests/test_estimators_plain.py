"""Samples that need no change are checked in one pass; what is wrong with others is said as scikit-learn says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression as Sklearn

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.estimators.inputs import mean_of

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 5)) + 1.0
Y = np.arange(60) % 2


def spoiled(value: float, row: int, column: int) -> np.ndarray:
    wrong = X.copy()
    wrong[row, column] = value
    return wrong


@pytest.mark.parametrize(
    "given",
    [
        (spoiled(np.nan, 0, 0), Y),
        (spoiled(np.nan, 59, 4), Y),
        (spoiled(np.inf, 30, 2), Y),
        (spoiled(-np.inf, 30, 2), Y),
        (spoiled(np.nan, 7, 1).astype(np.float32), Y),
        (X[:, 0], Y),
        (X[None], Y),
        (X[:50], Y),
        (X[:0], Y[:0]),
        (X[:, :0], Y),
        (X, Y[:, None][:, [0, 0]]),
        (X + 1j, Y),
    ],
)
@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
def test_what_is_wrong_is_said_as_scikit_learn_says_it(given: tuple[Any, Any], kind: type) -> None:
    messages = []
    for estimator in (kind(), Sklearn()):
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            estimator.fit(*given)
        messages.append(str(raised.value).replace(kind.__name__, "LogisticRegression"))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X.tolist(),
        lambda X: X.astype(">f8"),
        lambda X: X.view(np.matrix).A,
        pd.DataFrame,
    ],
)
def test_whatever_they_lie_in_they_give_the_same_model(change: Callable[[np.ndarray], Any]) -> None:
    right = LogisticRegression().fit(X, Y)
    np.testing.assert_allclose(LogisticRegression().fit(change(X), Y).coef_, right.coef_, rtol=1e-9)


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint64, np.int64, float, str])
def test_labels_of_any_type(kind: type) -> None:
    y = Y.astype(kind)
    model = LogisticRegression().fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, Y).coef_)


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        (np.int8, (-128, 127)),
        (np.int64, (np.iinfo(np.int64).min, np.iinfo(np.int64).max)),
        (np.int64, (-3, 5)),
        (np.int64, (10**12, 10**12 + 2)),
        (np.uint64, (2**63 + 1, 2**63 + 2)),
        (np.uint64, (2**64 - 2, 2**64 - 1)),
        (np.uint16, (0, 40000)),
    ],
)
def test_whole_numbers_far_apart_or_large_as_labels(kind: type, pair: tuple[int, int]) -> None:
    labels = np.array(pair, kind)
    model = LogisticRegression().fit(X, labels[Y])
    assert model.classes_.tolist() == list(pair)
    assert model.classes_.dtype == kind
    np.testing.assert_array_equal(model.coef_, LogisticRegression().fit(X, Y).coef_)
    assert set(model.predict(X).tolist()) <= set(pair)


def test_the_mean_of_samples_of_any_shape() -> None:
    random = np.random.default_rng(3)
    for n, F in [(1, 1), (3, 1), (257, 3), (5, 300), (900, 401), (70001, 7), (2, 200_000)]:
        for dtype in (np.float64, np.float32):
            given = random.normal(size=(n, F)).astype(dtype)
            np.testing.assert_allclose(mean_of(given), given.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-13)


def test_an_array_after_a_frame_has_no_names() -> None:
    model = LogisticRegression().fit(pd.DataFrame(X, columns=list("abcde")), Y)
    assert list(model.feature_names_in_) == list("abcde")
    model.fit(X[:, :4].copy(), Y)
    assert model.n_features_in_ == 4
    assert not hasattr(model, "feature_names_in_")
    model.predict(X[:, :4])


def test_finite_samples_whose_sum_is_not() -> None:
    large = X.copy()
    large[:, 0] = 1e308 * (1 + 0.7 * Y)
    with pytest.raises(ValueError, match="mean of a feature of X overflows: X has numbers that are too large"):
        LogisticRegression().fit(large, Y)
    large[:, 0] = 1e304 * (1 + Y)
    with pytest.raises(ValueError, match="models overflowed: X has numbers that are too large to square"):
        LogisticRegression().fit(large, Y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_type_that_is_asked_for(dtype: str) -> None:
    for given in (X, X.astype(np.float32)):
        assert LogisticRegression(dtype=dtype).fit(given, Y).coef_.dtype == dtype
