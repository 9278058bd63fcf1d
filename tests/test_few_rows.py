"""Few samples of many features at the edge of what floats hold: weights that differ, tiny numbers, rows that depend on
each other, and fits that are cut short."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gpureg
from gpureg.estimators import alone, optimum
from gpureg.kernels.cpu.one_model import NumpyOneModel, one_after_the_other
from gpureg.losses import Logistic
from gpureg.solvers.lbfgs.trials import Goal
from gpureg.types import Floats


def samples(n: int, F: int, share: float = 0.5) -> tuple[Floats, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n, F)), (random.random(n) < share).astype(int)


def made(X: Floats, y: np.ndarray, weight: Floats | None) -> NumpyOneModel:
    if weight is not None:
        weight = weight * (len(y) / weight.sum())
    centre = np.average(X, axis=0, weights=weight)
    return NumpyOneModel(Logistic(), 1, X, y, weight, centre, 1, one_after_the_other)


@pytest.mark.parametrize(("heavy", "far"), [(1e8, True), (0.0, False)])
def test_rows_of_little_weight_do_not_hide_that_the_others_are_far_from_0(heavy: float, far: bool) -> None:
    X, y = samples(200, 330)
    weight = np.where(np.arange(200) % 2, 1.0, 1e-8)
    X[weight == 1.0] += heavy
    assert made(X, y, weight).is_far(100.0) is far


@pytest.mark.filterwarnings("error")
def test_rows_of_little_weight_do_not_cost_the_others_digits() -> None:
    X, y = samples(200, 330)
    weight = np.where(np.arange(200) % 2, 1.0, 1e-8)
    X[weight == 1.0] += 1e8
    model = gpureg.LogisticRegression().fit(X, y, weight)
    assert int(model.n_iter_[0]) < 50


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20])
def test_the_length_is_never_too_short(scale: float, weighted: bool) -> None:
    X, y = samples(100, 400)
    X *= scale
    weight = np.random.default_rng(1).random(100) if weighted else None
    model = made(X, y, weight)
    with np.errstate(all="ignore"):
        model.dual()
    own = np.ones(100) if weight is None else weight * (100 / weight.sum())
    assert model.length >= (1.0 - 1e-9) * float(np.sqrt(own @ ((X - model.centre) ** 2).sum(axis=1)))


@pytest.mark.filterwarnings("error")
def test_rows_that_their_span_does_not_know_are_finished_from_the_nearer_point() -> None:
    X, y = samples(150, 700)
    model = gpureg.LogisticRegression(C=0.01, fit_intercept=False).fit(X + 3e4, y)
    assert int(model.n_iter_[0]) < 100


@pytest.mark.parametrize("C", [1e-3, 1e-1, 1.0, 100.0])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
@pytest.mark.parametrize(("n", "F"), [(40, 100), (97, 622)])
def test_what_is_proved_is_no_reason_to_warn(n: int, F: int, sigma: float, C: float) -> None:
    X, y = samples(n, F, share=0.2)
    X *= np.random.default_rng(2).lognormal(sigma=sigma, size=F)
    for cut in range(1, 8):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            gpureg.LogisticRegression(C=C, tol=0.1, max_iter=cut).fit(X, y)
        for one in told:
            within = re.search(r"within (\S+) nats\. ", str(one.message))
            assert within is not None
            assert float(within[1]) >= 0.0099


def test_a_large_bias_does_not_hide_a_small_penalty() -> None:
    X, y = samples(20, 30)
    model, W = made(X, y, None), np.full((1, 31), 1e-9)
    W[0, -1] = 3.0
    at = Goal(model, Logistic(), 20, 1, 0.5, model.centre, 1e-12, 2.2e-16).at(W)
    assert at.objective == at.loss + 0.5 * float((W[0, :-1] ** 2).sum())
    far = Goal(model, Logistic(), 20, 1, 1e18, model.centre, 1e-12, 2.2e-16).at(W)
    assert far.objective - far.loss == pytest.approx(30.0, rel=1e-12)


def hard(n: int = 60, F: int = 900) -> tuple[Floats, np.ndarray]:
    """Features that are sums of others, of two classes that are hardly apart: hundreds of products."""
    X, y = samples(n, F)
    return np.cumsum(X, axis=1), y


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("C", [1.0, 1e4])
def test_what_takes_too_many_products_is_finished_in_the_span(
    C: float, intercept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = hard()
    spans: list[bool] = []
    own = alone.Span.of
    monkeypatch.setattr(alone.Span, "of", classmethod(lambda cls, *of: spans.append(True) or own(*of)))
    model = gpureg.LogisticRegression(C=C, fit_intercept=intercept).fit(X, y)
    assert spans == [True]
    monkeypatch.setattr(alone, "may_need_a_span", lambda task: False)
    right = gpureg.LogisticRegression(C=C, fit_intercept=intercept, tol=1e-8, max_iter=5000).fit(X, y)
    assert spans == [True]
    np.testing.assert_allclose(model.predict_proba(X), right.predict_proba(X), atol=1e-5)


def test_rows_without_a_factor_are_finished_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = hard()
    right = gpureg.LogisticRegression().fit(X, y)
    monkeypatch.setattr(alone.Span, "of", classmethod(lambda cls, *of: None))
    batches: list[bool] = []
    monkeypatch.setattr(optimum, "in_a_batch", lambda *of: batches.append(True))
    model = gpureg.LogisticRegression(max_iter=5000).fit(X, y)
    assert not batches
    np.testing.assert_allclose(model.predict_proba(X), right.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_iterations_before_and_in_the_span_are_counted(intercept: bool) -> None:
    """A fit that is cut short anywhere stops there, with weights of its own."""
    X, y = hard()
    seen: dict[int, Floats] = {}
    shape = {"C": 1.0, "fit_intercept": intercept}
    whole = gpureg.LogisticRegression(**shape)
    n = int(whole.fit(X, y).n_iter_[0])
    assert n > 4
    for cut in range(1, n + 1):
        model = gpureg.LogisticRegression(**shape, max_iter=cut).fit(X, y)
        assert int(model.n_iter_[0]) == cut
        seen[cut] = model.coef_
    np.testing.assert_array_equal(seen[n], whole.coef_)
    assert len({coef.tobytes() for coef in seen.values()}) >= n - 2
