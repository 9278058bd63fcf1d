"""Few samples of many features at the edge of what floats hold: weights that differ, tiny numbers, rows that depend on
each other, and fits that are cut short."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gpureg
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
