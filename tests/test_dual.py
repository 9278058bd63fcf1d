"""A logistic model of few samples in a number per sample: its sums, where its steps end, and what is left to others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Sklearn
from threadpoolctl import threadpool_limits

import gpureg
from gpureg.kernels.cpu.dual_model import DualOneModel
from gpureg.kernels.cpu.one_model import NumpyOneModel, one_after_the_other
from gpureg.losses import Logistic, Softmax
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.dual import dual
from gpureg.solvers.lbfgs.newton import newton
from gpureg.solvers.lbfgs.proved import proved_bound
from gpureg.solvers.lbfgs.single import try_alone
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.types import Floats

SIZES = [(40, 300), (200, 900)]  # in float64, and in float32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a fit (`Kernels.steady`)."""
    import scipy.linalg  # noqa: F401

    with threadpool_limits(1, user_api="blas"):
        yield


def samples(n: int, F: int, *, spread: float = 0.3, seed: int = 0) -> tuple[Floats, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.concatenate([[0, 1], random.integers(0, 2, n - 2)])
    return random.normal(size=(n, F)) + spread * random.normal(size=(2, F))[y] + 0.5, y


def made(
    n: int, F: int, *, free: bool = True, weighted: bool = False, offset: float = 0.0, spread: float = 0.3
) -> NumpyOneModel:
    X, y = samples(n, F, spread=spread)
    X += offset - (0.5 if not free else 0.0)
    weight = np.random.default_rng(3).integers(1, 4, n).astype(float) if weighted else None
    if weight is not None:
        weight *= n / weight.sum()
    return NumpyOneModel(Logistic(), 1, X, y, weight, X.mean(axis=0) if free else None, 1, one_after_the_other)


def begun(model: NumpyOneModel) -> DualOneModel:
    found = model.dual()
    assert found is not None
    return found


def goal(model: NumpyOneModel, n: int, l2: float = 1 / 300, tolerance: float = 1e-12) -> Goal:
    return Goal(model, Logistic(), n, 1, l2, model.centre, tolerance, 2.2e-16)


def centred(model: NumpyOneModel) -> Floats:
    X = np.asarray(model.tiles[0].X)
    return X if model.centre is None else X - model.centre


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("size", SIZES)
class TestSums:
    def test_products(self, size: tuple[int, int], free: bool, weighted: bool, offset: float) -> None:
        """Of numbers that sum to 0, if the bias is free."""
        model = made(*size, free=free, weighted=weighted, offset=offset)
        near, X = begun(model), centred(model)
        assert near.dtype == (np.float32 if size == SIZES[1] else np.float64)
        a = np.random.default_rng(1).normal(size=size[0])
        a -= a.mean() if free else 0.0
        found, right = np.empty(size[0], near.dtype), X @ (X.T @ a)
        near.product(a.astype(near.dtype), found)
        rounded = 1e-5 if near.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(found, right, atol=rounded * np.abs(right).max())
        np.testing.assert_allclose(near.weights(a), X.T @ a, atol=rounded * np.abs(X.T @ a).max())
        np.testing.assert_allclose(near.squares, (X * X).sum(axis=1), rtol=1e-4 if offset and free else 1e-5)
        s = np.ones(size[0]) if model.tiles[0].weight is None else model.tiles[0].weight
        assert float(s @ (X * X).sum(axis=1)) <= model.length**2 <= 1.001 * float(s @ (X * X).sum(axis=1))

    @pytest.mark.parametrize("polished", [False, True])
    def test_a_point_that_is_settled(
        self, size: tuple[int, int], free: bool, weighted: bool, offset: float, polished: bool
    ) -> None:
        """If it is asked for, the bias is where the residuals sum to 0; all else is as it was."""
        model = made(*size, free=free, weighted=weighted, offset=offset)
        near, W = begun(model), 0.02 * np.random.default_rng(2).normal(size=(1, size[1] + free))
        W[0, -1] = 0.3 if free else W[0, -1]
        cost, gradient, bias = near.settle(W, bias=polished)
        if free:
            assert polished or bias == 0.3
            W[0, -1] = bias
        right, slope = model.value(W)
        assert cost == pytest.approx(right, rel=1e-12)
        np.testing.assert_allclose(gradient, slope, atol=1e-9 * np.abs(slope).max())
        assert not polished or not free or abs(near.r.sum()) <= 1e-9 * near.h.sum()

    def test_along_a_step_trials_are_values(
        self, size: tuple[int, int], free: bool, weighted: bool, offset: float
    ) -> None:
        model = made(*size, free=free, weighted=weighted, offset=offset)
        near, X, random = begun(model), centred(model), np.random.default_rng(4)
        a = random.normal(size=size[0]) / size[1]
        near.start(0.2 if free else 0.0)
        a /= max(1.0, 0.3 * float(np.abs(X @ (X.T @ a)).max()))
        near.step[:] = X @ (X.T @ a) + (0.1 if free else 0.0)
        for t in (0.5, 1.5):
            W = np.zeros((1, size[1] + free))
            W[0, : size[1]] = t * (X.T @ a)
            W[0, size[1] :] = 0.2 + 0.1 * t
            right, slope = model.value(W)
            d = np.append(X.T @ a, [0.1] * free)
            cost, first = near.trial(t)
            assert cost == pytest.approx(right, rel=1e-10)
            assert first == pytest.approx(float(slope[0] @ d), rel=1e-8)
            assert near.along() == pytest.approx((near.trial(t + 1e-4)[1] - near.trial(t - 1e-4)[1]) / 2e-4, rel=1e-5)
        near.trial(1.5)
        near.move(1.5)
        s = 1.0 if model.tiles[0].weight is None else model.tiles[0].weight
        z = X @ W[0, : size[1]] + (W[0, -1] if free else 0.0)
        p = 1.0 / (1.0 + np.exp(z * np.where(model.tiles[0].label == 0, -1.0, 1.0)))  # not of the own class
        np.testing.assert_allclose(np.abs(near.r), s * (1 - p), rtol=1e-9)
        np.testing.assert_allclose(near.h, s * p * (1 - p), rtol=1e-9)


def test_only_few_samples_of_two_classes_have_one() -> None:
    X, y = samples(40, 300)
    assert NumpyOneModel(Softmax(), 2, X, y, None, None, 1, one_after_the_other).dual() is None
    several = NumpyOneModel(Logistic(), 1, *samples(1000, 5000), None, None, 2, one_after_the_other)
    assert len(several.tiles) == 2
    assert several.dual() is None


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_what_float32_does_not_hold_is_left_alone(scale: float) -> None:
    X, y = samples(200, 900)
    with np.errstate(all="ignore"):
        assert NumpyOneModel(Logistic(), 1, scale * X, y, None, None, 1, one_after_the_other).dual() is None


def test_features_far_from_0() -> None:
    X, y = samples(500, 20)
    far = X.copy()
    far[:, 7] += 1e3
    models = [NumpyOneModel(Logistic(), 1, Z, y, None, Z.mean(axis=0), 1, one_after_the_other) for Z in (X, far)]
    assert [model.is_far(100.0) for model in models] == [False, True]
    assert not NumpyOneModel(Logistic(), 1, far, y, None, None, 1, one_after_the_other).is_far(1.0)
    rare = np.zeros((500, 1))
    rare[3] = 1.0  # not among those that are seen: its distance from 0 is that of the others
    assert not NumpyOneModel(Logistic(), 1, rare, y, None, rare.mean(axis=0), 1, one_after_the_other).is_far(4.0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("C", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("size", SIZES)
def test_it_ends_where_newtons_method_ends(
    size: tuple[int, int], C: float, spread: float, free: bool, weighted: bool
) -> None:
    n, F = size
    model, l2 = made(n, F, spread=spread, free=free, weighted=weighted), 1 / (2 * C * n)
    trials = Trials(goal(model, n, l2), 0, None)
    with np.errstate(all="ignore"):
        dual(trials, np.zeros((1, F + free)), 200)
    assert trials.met
    best = trials.best
    assert best is not None
    at = trials.goal.at(best.W)
    assert best.objective == pytest.approx(at.objective, rel=1e-12)
    np.testing.assert_allclose(best.gradient, at.gradient, atol=1e-12)
    assert proved_bound(trials.goal, model, best) <= max(1e-12, 1e-13 * best.objective)
    right = Trials(goal(model, n, l2, 1e-14), 0, None)
    newton(right, best.W.copy(), 50)
    assert right.best is not None
    assert abs(best.objective - right.best.objective) <= 1.1e-12
    assert len(trials.course) <= 15


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_a_bias_is_proved_at_a_large_tolerance(tolerance: float) -> None:
    model = made(200, 900)
    trials = Trials(goal(model, 200, tolerance=tolerance), 0, None)
    dual(trials, np.zeros((1, 901)), 200)
    assert trials.met
    assert trials.best is not None
    trials.goal.at(trials.best.W)
    assert proved_bound(trials.goal, model, trials.best) <= tolerance


@pytest.mark.parametrize("seed", range(5))
def test_a_proof_without_a_product_is_one(seed: int) -> None:
    """It is at least the one with a product, and both are at least the gap."""
    random, own = np.random.default_rng(seed), made(200, 900)
    trials = Trials(goal(own, 200, tolerance=1e-14), 0, None)
    newton(trials, np.zeros((1, 901)), 50)
    assert trials.best is not None
    W = trials.best.W + 1e-6 * random.normal(size=(1, 901)) / 30
    W[0, -1] = begun(own).settle(W, bias=True)[2] + 1e-10 * random.normal()
    found, lengths = [], (np.inf, own.length)
    assert own.length < np.inf
    for own.length in lengths:
        loose = goal(own, 200, tolerance=1.0)
        found.append(proved_bound(loose, own, at := loose.at(W)))
        assert found[-1] >= at.objective - trials.best.objective - 1e-16
    assert found[0] < found[1] <= 10.0 * found[0]


@pytest.mark.parametrize("kind", ["scales", "correlated"])
def test_features_that_differ_or_depend_on_each_other_are_left_to_others(kind: str) -> None:
    X, y = samples(200, 900, spread=0.05)
    X = X * np.random.default_rng(1).lognormal(sigma=2, size=900) if kind == "scales" else np.cumsum(X, axis=1)
    model = NumpyOneModel(Logistic(), 1, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    trials = Trials(goal(model, 200, 1 / 400), 0, None)
    dual(trials, np.zeros((1, 901)), 200)
    assert not trials.met
    assert trials.best is None
    assert not trials.course
    try_alone(trials, np.zeros((1, 901)), 200, Hessians())
    assert trials.met


@pytest.mark.parametrize("room", [0, 1, 3])
def test_iterations_end_at_a_point_that_is_known(room: int) -> None:
    model = made(200, 900)
    trials = Trials(goal(model, 200), 0, None)
    dual(trials, np.zeros((1, 901)), room)
    assert not trials.met
    assert len(trials.course) == room
    if room:
        assert trials.best is not None
        at = trials.goal.at(trials.best.W)
        assert trials.best.objective == pytest.approx(at.objective, rel=1e-12)
        assert trials.course[-1][0] == pytest.approx(at.objective, rel=1e-5)


def test_weights_are_shown_at_every_iteration() -> None:
    seen: list[tuple[int, Trial, bool]] = []
    model = made(200, 900)
    trials = Trials(goal(model, 200), 5, lambda *at: seen.append(at))
    dual(trials, np.zeros((1, 901)), 200)
    assert trials.met
    assert [number for number, _, _ in seen] == list(range(6, 6 + len(trials.course)))
    for number, at, _ in seen:
        assert trials.goal.at(at.W).objective == pytest.approx(trials.course[number - 6][0], rel=1e-6)
    unseen = Trials(goal(model, 200), 0, None)
    dual(unseen, np.zeros((1, 901)), 200)
    assert unseen.best is not None
    assert trials.best is not None
    assert (unseen.best.W == trials.best.W).all()


@pytest.mark.parametrize("l2", [0.0, 1 / 300])
def test_a_start_of_its_own_or_no_penalty_takes_the_other_way(l2: float) -> None:
    model = made(200, 900)
    trials = Trials(goal(model, 200, l2), 0, None)
    dual(trials, np.full((1, 901), 0.01 if l2 else 0.0), 200)
    assert trials.best is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["plain", "weights", "zeros", "twice", "constant", "far", "rare class", "text"])
@pytest.mark.parametrize(("n", "F"), [(30, 90), (150, 600)])
def test_the_estimator_ends_at_scikit_learns_optimum(n: int, F: int, kind: str, intercept: bool) -> None:
    X, y = samples(n, F)
    weight = np.random.default_rng(1).integers(0, 3, n).astype(float) if kind == "weights" else None
    if kind == "zeros":
        X[::3] = 0.0
    elif kind == "twice":
        X[n // 2 :], y[n // 2 :] = X[: n - n // 2], y[: n - n // 2]
    elif kind == "constant":
        X[:, :5] = 1.0
    elif kind == "far":
        X[:, :5] += 1e4
    elif kind == "rare class":
        y = (np.arange(n) == 3).astype(int)
    elif kind == "text":  # a few words a row
        X = np.random.default_rng(2).poisson(0.02, size=(n, F)).astype(float)
    for C in (1e-2, 1.0, 1e3):
        ours = gpureg.LogisticRegression(C=C, fit_intercept=intercept).fit(X, y, weight)
        Z = X - X.mean(axis=0) if intercept else X  # which moves the bias alone
        right = Sklearn(C=C, fit_intercept=intercept, solver="newton-cholesky", tol=1e-11).fit(Z, y, weight)
        some = slice(None) if weight is None else weight > 0.0
        np.testing.assert_allclose(ours.predict_proba(X)[some], right.predict_proba(Z)[some], atol=1e-5)
