"""A single model's Hessian as a product, trials along a step without one, and where Newton's method by conjugate
gradients ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Sklearn
from threadpoolctl import threadpool_limits

import gpureg
from gpureg.kernels.cpu.one_model import CurvedOneModel, NumpyOneModel, one_after_the_other
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.metric import Kronecker
from gpureg.solvers.lbfgs.newton import newton
from gpureg.solvers.lbfgs.proved import proved_bound
from gpureg.solvers.lbfgs.single import near_bytes, try_alone
from gpureg.solvers.lbfgs.trials import Goal, Trials
from gpureg.solvers.lbfgs.truncated import truncated
from gpureg.types import Floats

SIZES = [(50, 7), (900, 160), (300, 700)]  # in float64, and in float32
LOSSES = [Logistic(), Softmax()]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a fit (`Kernels.steady`); SciPy has a BLAS of its own, which is loaded with it."""
    import scipy.linalg  # noqa: F401

    with threadpool_limits(1, user_api="blas"):
        yield


def samples(n: int, F: int, *, spread: float = 0.3, classes: int = 2, seed: int = 0) -> tuple[Floats, np.ndarray]:
    """Classes around random centres, away from 0."""
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    return random.normal(size=(n, F)) + spread * random.normal(size=(classes, F))[y] + 0.5, y


def made(
    loss: Loss,
    n: int,
    F: int,
    *,
    free: bool = True,
    weighted: bool = False,
    lanes: int = 1,
    scale: Any = 1.0,
    spread: float = 0.3,
) -> NumpyOneModel:
    """Of two classes, or of four."""
    X, y = samples(n, F, spread=spread, classes=2 if loss.binary else 4)
    X = X * scale
    weight = np.random.default_rng(3).integers(0, 3, n).astype(float) if weighted else None
    if weight is not None:
        weight *= n / weight.sum()
    centre = X.mean(axis=0) if free else None
    return NumpyOneModel(loss, loss.columns(4), X, y, weight, centre, lanes, one_after_the_other)


def goal(model: NumpyOneModel, loss: Loss, n: int, l2: float = 1 / 300, tolerance: float = 1e-12) -> Goal:
    return Goal(model, loss, n, loss.columns(4), l2, model.centre, tolerance, 2.2e-16)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", LOSSES)
class TestSums:
    def test_the_product_is_that_of_the_hessian(
        self, loss: Loss, size: tuple[int, int], free: bool, weighted: bool, lanes: int
    ) -> None:
        model = made(loss, *size, free=free, weighted=weighted, lanes=lanes)
        near, random = model.curved(), np.random.default_rng(1)
        W, p = 0.1 * random.normal(size=(2, loss.columns(4), size[1] + free))
        near.settle(W)
        _, after = model.value(W + 1e-5 * p)
        _, less = model.value(W - 1e-5 * p)
        right = (after - less) / 2e-5
        found = near.product(p.astype(near.dtype))
        np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())
        model.value(W)
        np.testing.assert_allclose(near.bend, model.biases().diagonal(), rtol=1e-6)

    def test_along_a_step_trials_are_values(
        self, loss: Loss, size: tuple[int, int], free: bool, weighted: bool, lanes: int
    ) -> None:
        """A step of many parts: more than are held before they are summed."""
        model = made(loss, *size, free=free, weighted=weighted, lanes=lanes)
        near, random = model.curved(), np.random.default_rng(2)
        W = 0.1 * random.normal(size=(loss.columns(4), size[1] + free))
        near.settle(W)
        d = np.zeros_like(W)
        for _ in range(19):
            p, a = (0.02 * random.normal(size=W.shape)).astype(near.dtype), float(random.normal())
            near.product(p)
            near.extend(a)
            d += a * p
        for t in (0.0, 0.5, 1.5):
            right, slope = model.value(W + t * d)
            turn = float(np.vdot(d, model.value(W + (t + 1e-4) * d)[1] - model.value(W + (t - 1e-4) * d)[1])) / 2e-4
            cost, first = near.trial(t)
            assert cost == pytest.approx(right, rel=1e-6)
            assert first == pytest.approx(float(np.vdot(slope, d)), rel=1e-4, abs=1e-4 * turn)
            assert near.along() == pytest.approx(turn, rel=1e-4)
        gradient = near.move(1.5)
        assert gradient.shape == slope.shape
        assert gradient.dtype == np.float64
        np.testing.assert_allclose(gradient, slope, atol=2e-5 * np.abs(slope).max())
        model.value(W + 1.5 * d)
        np.testing.assert_allclose(near.bend, model.biases().diagonal(), rtol=1e-5)
        assert near.trial(3.0)[0] == pytest.approx(model.value(W + 1.5 * d)[0], rel=1e-6)  # there is no step yet

    def test_the_start_is_the_value_at_weights_of_0(
        self, loss: Loss, size: tuple[int, int], free: bool, weighted: bool, lanes: int
    ) -> None:
        model = made(loss, *size, free=free, weighted=weighted, lanes=lanes)
        W = np.zeros((loss.columns(4), size[1] + free))
        if free:
            W[:, -1] = np.arange(len(W)) + 0.7
        cost, gradient = model.curved().start(W)
        right, slope = model.value(W)
        assert cost == pytest.approx(right, rel=1e-14)
        np.testing.assert_allclose(gradient, slope, atol=1e-5 * np.abs(slope).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_several_tiles_give_what_one_gives(loss: Loss) -> None:
    """As many as there are threads, if the samples are worth them."""
    n, F = (9000, 120) if loss.columns(4) > 1 else (9000, 480)
    one, three = (made(loss, n, F, weighted=True, lanes=lanes) for lanes in (1, 3))
    assert len(three.tiles) >= 3
    random, found = np.random.default_rng(4), []
    W, p = 0.1 * random.normal(size=(2, loss.columns(4), F + 1))
    for model in (one, three):
        near = model.curved()
        near.settle(W)
        product = near.product(p.astype(near.dtype))
        near.extend(0.5)
        found.append([product, *near.trial(0.7), near.along(), near.move(0.7), near.bend, near.start(0.0 * W)[1]])
    for mine, right in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_types(loss: Loss) -> None:
    assert made(loss, 50, 7).curved().dtype == np.float64  # so few that a copy in float32 saves nothing
    assert made(loss, 900, 160).curved().dtype == np.float32
    assert made(loss, 900, 160, scale=1e-30).curved().dtype == np.float64  # squares would vanish in float32
    assert made(loss, 900, 160, scale=1e30).curved().dtype == np.float64
    assert near_bytes(900, 161, 1) > 8 * 900 * 161


def test_a_feature_far_from_0_keeps_its_digits() -> None:
    """At 1e5 standard deviations float32 has two digits of a sample, and seven of its difference from the centre."""
    X, y = samples(900, 160)
    models = [NumpyOneModel(Logistic(), 1, Z, y, None, Z.mean(axis=0), 1, one_after_the_other) for Z in (X, X + 1e5)]
    found = [model.curved().start(np.zeros((1, 161)))[1] for model in models]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 * np.abs(found[0]).max())
    np.testing.assert_allclose(models[1].squares(), models[0].squares(), rtol=1e-5)


@pytest.mark.parametrize("spread", [0.03, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("C", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("n", "F"), [(60, 5), (300, 40), (120, 120), (2000, 30)])
@pytest.mark.parametrize("loss", LOSSES)
def test_it_ends_where_newtons_method_ends(loss: Loss, n: int, F: int, C: float, spread: float) -> None:
    model, l2 = made(loss, n, F, spread=spread), 1 / (2 * C * n)
    trials = Trials(goal(model, loss, n, l2), 0, None)
    truncated(trials, np.zeros((loss.columns(4), F + 1)), 200)
    if not trials.met and trials.best is not None and C > 1.0:  # a weak penalty: float32 may know too little of the end
        newton(trials, trials.best.W, 10)
    assert trials.met
    best = trials.best
    assert best is not None
    model.value(best.W)
    assert proved_bound(trials.goal, model, best) <= max(1e-12, 1e-13 * best.objective)
    right = Trials(goal(model, loss, n, l2, 1e-14), 0, None)
    newton(right, best.W.copy(), 50)
    assert right.best is not None
    assert abs(best.objective - right.best.objective) <= 1.1e-12
    assert len(trials.course) <= 40


def test_correlated_features_are_given_a_whole_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once conjugate gradients have cost as much as a factor."""
    made_here: list[bool] = []
    own = Kronecker.of
    monkeypatch.setattr(Kronecker, "of", classmethod(lambda cls, goal: made_here.append(True) or own(goal)))
    random = np.random.default_rng(0)
    X, y = samples(1500, 80)
    X = X @ (random.normal(size=(80, 80)) * np.logspace(0, -3, 80))
    model = NumpyOneModel(Logistic(), 1, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    trials = Trials(goal(model, Logistic(), 1500, 1e-6), 0, None)
    truncated(trials, np.zeros((1, 81)), 200)
    assert made_here
    assert trials.met


@pytest.mark.parametrize(("n", "F", "classes", "most"), [(800, 150, 10, 200), (800, 60, 10, 80), (5000, 60, 5, 30)])
def test_where_float32_says_no_more_the_model_is_settled(
    monkeypatch: pytest.MonkeyPatch, n: int, F: int, classes: int, most: int
) -> None:
    """Classes that are hardly apart: some ten products more than it takes in float64, and not some hundreds."""
    products: list[bool] = []
    own = CurvedOneModel.product
    monkeypatch.setattr(CurvedOneModel, "product", lambda model, p: products.append(True) or own(model, p))
    X, y = samples(n, F, spread=0.03, classes=classes)
    model = NumpyOneModel(Softmax(), classes, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    trials = Trials(Goal(model, Softmax(), n, classes, 0.5 / n, model.centre, 1e-12, 2.2e-16), 0, None)
    truncated(trials, np.zeros((classes, F + 1)), 200)
    assert trials.met
    assert len(products) <= most


def test_no_metric_is_made_for_the_last_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that ends a little short of the tolerance: another one does it."""
    made_here: list[bool] = []
    monkeypatch.setattr(Kronecker, "of", classmethod(lambda cls, goal: made_here.append(True)))
    X, y = samples(1000, 300, spread=0.1)
    model = NumpyOneModel(Logistic(), 1, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    trials = Trials(goal(model, Logistic(), 1000, 0.5 / 1000), 0, None)
    truncated(trials, np.zeros((1, 301)), 200)
    assert trials.met
    assert not made_here


def test_iterations_end_at_a_point_that_is_known() -> None:
    model = made(Logistic(), 300, 700)
    for room in (0, 1, 3):
        trials = Trials(goal(model, Logistic(), 300), 0, None)
        truncated(trials, np.zeros((1, 701)), room)
        assert not trials.met
        assert len(trials.course) == room
        assert trials.best is not None
        at = trials.goal.at(trials.best.W)
        assert trials.best.objective == pytest.approx(at.objective, rel=1e-14)
        np.testing.assert_allclose(trials.best.gradient, at.gradient, atol=1e-13)


@pytest.mark.parametrize("moved", [0.0, 1e-9, 1e-3])
def test_a_start_near_the_optimum(moved: float) -> None:
    model = made(Logistic(), 300, 700)
    trials = Trials(goal(model, Logistic(), 300), 0, None)
    truncated(trials, np.zeros((1, 701)), 200)
    assert trials.best is not None
    again = Trials(goal(model, Logistic(), 300, tolerance=2e-12), 0, None)
    truncated(again, trials.best.W + moved, 200)
    assert again.met
    assert len(again.course) <= (1 if not moved else 8)
    assert again.course  # the start counts as one


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_ends_it(spoiled: float) -> None:
    model = made(Logistic(), 300, 700)
    W = np.full((1, 701), spoiled)
    trials = Trials(goal(model, Logistic(), 300), 0, None)
    with np.errstate(all="ignore"):
        truncated(trials, W, 200)
    assert not trials.met
    assert not trials.course


def test_models_without_a_penalty_take_the_other_way() -> None:
    X, y = samples(200, 3, spread=0.5)
    model = NumpyOneModel(Logistic(), 1, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    free = Goal(model, Logistic(), 200, 1, 0.0, model.centre, 1e-12, 2.2e-16)
    trials = Trials(free, 0, None)
    truncated(trials, np.zeros((1, 4)), 200)
    assert trials.best is None
    try_alone(trials, np.zeros((1, 4)), 200, Hessians())
    assert trials.met


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("n", "F"), [(40, 3), (150, 600), (700, 90)])
def test_the_estimator_ends_at_scikit_learns_optimum(n: int, F: int, C: float, weighted: bool, intercept: bool) -> None:
    X, y = samples(n, F)
    weight = np.random.default_rng(1).integers(0, 3, n).astype(float) if weighted else None
    ours = gpureg.LogisticRegression(C=C, fit_intercept=intercept).fit(X, y, weight)
    right = Sklearn(C=C, fit_intercept=intercept, tol=1e-10, max_iter=10000).fit(X, y, weight)
    some = slice(None) if weight is None else weight > 0.0  # what has no weight says nothing of the gap
    np.testing.assert_allclose(ours.predict_proba(X)[some], right.predict_proba(X)[some], atol=1e-5)
    assert ours.n_iter_[0] <= 40


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", [163, 426, 498])
def test_a_proof_that_fails_is_tried_again_nearer(seed: int) -> None:
    """Three rows of one class: a bias that is near enough for the gap is too far for a tilt to prove it at once."""
    random = np.random.default_rng(seed)
    X, y = random.normal(size=(200, 3)) * [1, 10, 100], np.zeros(200, int)
    y[:3] = 1
    for tol in (1e-4, 1e-5, 1e-6, 1e-7):
        assert gpureg.LogisticRegression(tol=tol).fit(X, y).n_iter_[0] <= 60


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("C", [1e3, 1e5, 1e7])
@pytest.mark.parametrize("seed", range(4))
def test_columns_that_only_a_weak_penalty_parts(seed: int, C: float) -> None:
    """Products in float32 say nothing of their difference: it is left to steps in float64, soon."""
    random = np.random.default_rng(seed)
    X = np.tile(random.normal(size=(155, 83)), (2, 2))
    y = (X @ random.normal(size=166) / 12 + random.logistic(size=310) > 0).astype(int)
    model = gpureg.LogisticRegression(C=C).fit(X, y)
    assert model.n_iter_[0] <= 60
    np.testing.assert_allclose(model.coef_[0, :83], model.coef_[0, 83:], atol=1e-3 * np.abs(model.coef_).max())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 3])
def test_features_far_from_0_without_an_intercept(classes: int) -> None:
    """A copy in float32 has four digits of them, and there is no centre."""
    random = np.random.default_rng(5)
    X, y = samples(1200, 60, classes=classes)
    X = X + random.choice([0.0, 10.0, 1e3], 60)
    model = gpureg.LogisticRegression(C=1e-3, fit_intercept=False).fit(X, y)
    assert model.n_iter_[0] <= 100
    right = Sklearn(C=1e-3, fit_intercept=False, solver="newton-cholesky", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), right.predict_proba(X), atol=1e-5)
