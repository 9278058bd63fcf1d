"""A single model in float32 near points at which it is known in float64: its sums, and where a fit by them ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpureg.kernels.cpu.one_model import NumpyOneModel, one_after_the_other
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.solvers.lbfgs.alone import Stretch, descend
from gpureg.solvers.lbfgs.proved import proved_bound
from gpureg.solvers.lbfgs.sight import Sight
from gpureg.solvers.lbfgs.trials import Goal, Trials
from gpureg.types import Floats


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a fit (`Kernels.steady`); SciPy has a BLAS of its own, which is loaded with it."""
    import scipy.linalg  # noqa: F401

    with threadpool_limits(1, user_api="blas"):
        yield


def made(
    loss: Loss,
    shape: tuple[int, int, int] = (900, 160, 4),
    *,
    free: bool = True,
    weighted: bool = False,
    spread: float = 0.1,
    scale: Floats | float = 1.0,
    lanes: int = 1,
) -> NumpyOneModel:
    """A model on samples around random centres, about their mean if the bias is free."""
    n, F, classes = shape
    classes = 2 if loss.binary else classes
    random = np.random.default_rng(n)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    X = (random.normal(size=(n, F)) + spread * random.normal(size=(classes, F))[y] + 0.5) * scale
    weight = random.integers(0, 3, n).astype(float) if weighted else None
    centre = X.mean(axis=0) if free else None
    return NumpyOneModel(loss, loss.columns(classes), X, y, weight, centre, lanes, one_after_the_other)


def goal(model: NumpyOneModel, loss: Loss, n: int = 900, l2: float = 1 / 300) -> Goal:
    K = loss.columns(4)
    return Goal(model, loss, n, K, l2, model.centre, 1e-12, 2.2e-16)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_only_the_change_from_the_point_is_rounded(loss: Loss, free: bool, weighted: bool, lanes: int) -> None:
    model = made(loss, (9000, 120 if loss.columns(4) > 1 else 480, 4), free=free, weighted=weighted, lanes=lanes)
    near, random = model.nearby(), np.random.default_rng(1)
    assert near is not None
    V = 0.2 * random.normal(size=(loss.columns(4), model.squares().size))
    cost, gradient = model.value(V)
    for found in (near.settle(V), near.value(V)):
        assert found[0] == pytest.approx(cost, rel=1e-14)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-13, atol=1e-10)
    for size in (1.0, 1e-3, 1e-6):
        d = size * random.normal(size=V.shape)
        right, slope = model.value(V + d)
        mine, own = near.value(V + d)
        assert np.abs(own - slope).max() <= 1e-5 * np.abs(slope - gradient).max()
        assert abs(mine - right) <= 1e-6 * np.abs(gradient).max() * np.abs(d).sum() + 1e-13 * right


def test_its_last_pass_is_the_last_of_both() -> None:
    """What is asked of the model at "the last value", as its curvature, is then of the point near which it is seen."""
    model = made(Softmax())
    near, random = model.nearby(), np.random.default_rng(2)
    assert near is not None
    V, W = 0.1 * random.normal(size=(2, 4, 161))
    near.settle(V)
    near.value(W)
    A, S = model.kronecker()  # type: ignore[misc]
    model.value(W)
    B, T = model.kronecker()  # type: ignore[misc]
    np.testing.assert_allclose(A, B, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(S, T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "scale", "is_near"),
    [
        ((900, 160, 4), 1.0, True),
        ((900, 160, 4), 1e-12, True),
        ((900, 160, 4), 1e12, True),
        ((100, 160, 4), 1.0, False),  # too few to be worth a copy
        ((9000, 20, 4), 1.0, False),
        ((900, 160, 4), 1e-40, False),  # float32 would lose them
        ((900, 160, 4), 1e40, False),
    ],
)
def test_when_it_is_worth_it(shape: tuple[int, int, int], scale: float, is_near: bool) -> None:
    assert (made(Softmax(), shape, scale=scale).nearby() is not None) is is_near


class Counted:
    """A model that counts its passes in float64, is or is not seen in float32, and refuses what is not finite."""

    def __init__(self, model: NumpyOneModel, *, nearby: bool) -> None:
        self._model, self._nearby, self.passes = model, nearby, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def value(self, W: Floats) -> tuple[float, Floats]:
        assert np.isfinite(W).all()
        self.passes += 1
        return self._model.value(W)

    def nearby(self) -> Any:
        near = self._model.nearby() if self._nearby else None
        if near is not None:
            settle = near.settle

            def counted(W: Floats) -> tuple[float, Floats]:
                self.passes += 1
                return settle(W)

            near.settle = counted  # type: ignore[method-assign]
        return near


UNEVEN = np.logspace(-0.5, 0.5, 160)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("spread", "scale"), [(0.1, UNEVEN), (1.0, 1.0)])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_a_fit_by_it_ends_where_float64_ends(
    loss: Loss, free: bool, spread: float, scale: Floats | float, weighted: bool
) -> None:
    """Within what is proved, in few passes in float64 and about as many of both kinds."""
    ends, evaluations = [], []
    for nearby in (True, False):
        model = made(loss, free=free, weighted=weighted, spread=spread, scale=scale)
        counted = Counted(model, nearby=nearby)
        own = goal(counted, loss)  # type: ignore[arg-type]
        trials = Trials(own, 0, None)
        descend(trials, np.zeros((own.K, 160 + free)), Stretch(400, 0.0, 400))
        assert trials.met
        assert trials.last is trials.best
        assert proved_bound(own, model, trials.last) <= 1e-12
        assert counted.passes <= 6 or not nearby
        ends.append(trials.last.objective)
        evaluations.append(trials.evaluations)
    assert abs(ends[0] - ends[1]) <= 1e-12
    assert evaluations[0] <= 1.3 * evaluations[1] + 6


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_loop_that_is_cut_short_ends_at_a_point_seen_as_it_is(most: int) -> None:
    model, loss = made(Softmax()), Softmax()
    own = goal(model, loss)
    trials = Trials(own, 0, None)
    descend(trials, np.zeros((4, 161)), Stretch(400, 0.0, most))
    assert not trials.met
    assert len(trials.course) == most
    best = trials.best
    assert best is not None
    assert best is trials.last
    again = own.at(best.W)
    assert again.objective == pytest.approx(best.objective, rel=1e-14)
    assert again.bound == pytest.approx(best.bound, rel=1e-9)


def test_without_a_penalty_it_is_not_used() -> None:
    """There is no bound that would say how near a point is."""
    loss = Logistic()
    model = made(loss)
    assert Sight(goal(model, loss, l2=0.0)).exact
    sight = Sight(goal(model, loss))
    sight.settled(np.zeros((1, 161)))
    assert not sight.exact
    sight.settled(np.zeros((1, 161)))  # which is no nearer
    assert sight.exact


@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_a_line_search_where_the_slope_hardly_changes_stays_finite(loss: Loss) -> None:
    """Classes far apart: after the first step all curvature is gone, and the cubic through both ends has no minimum."""
    model = made(loss, (100, 300, 4), spread=1.0)
    counted = Counted(model, nearby=False)
    own = goal(counted, loss, 100, 1 / 200)  # type: ignore[arg-type]
    trials = Trials(own, 0, None)
    descend(trials, np.zeros((own.K, 301)), Stretch(300, 0.0, 300))
    assert trials.met
    assert trials.evaluations <= 2 * len(trials.course)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e7])
def test_squares_about_a_centre_keep_their_digits(offset: float, weighted: bool) -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(400, 9)) + offset
    X[:, 4] = 7.0
    weight = random.integers(0, 3, 400).astype(float) if weighted else None
    centre = X.mean(axis=0)
    model = NumpyOneModel(Logistic(), 1, X, np.arange(400) % 2, weight, centre, 1, one_after_the_other)
    s = np.ones(400) if weight is None else weight
    right = s @ np.append((X - centre) ** 2, np.ones((400, 1)), axis=1)
    np.testing.assert_allclose(model.squares(), right, rtol=1e-9)
