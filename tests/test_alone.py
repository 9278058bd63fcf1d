"""A small fit alone: its loop, its metric, the span of few rows, and what is proved at its end."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gpureg
from gpureg.backend import numpy_backend
from gpureg.estimators.alone import Span, worth_it
from gpureg.kernels.cpu.one_model import NumpyOneModel, one_after_the_other
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.solvers.lbfgs.alone import Pairs, Plan, Stretch, descend
from gpureg.solvers.lbfgs.metric import Diagonal, Kronecker
from gpureg.solvers.lbfgs.proved import proved_bound
from gpureg.solvers.lbfgs.trials import Goal, Trials
from gpureg.types import Floats

LOSSES: dict[str, tuple[Loss, int]] = {"softmax": (Softmax(), 3), "logistic": (Logistic(), 2)}


def goal(name: str, *, n: int = 80, F: int = 6, l2: float = 1e-3, free: bool = True, tol: float = 1e-12) -> Goal:
    """One model's objective on samples around random centres, of uneven scales."""
    loss, classes = LOSSES[name]
    random = np.random.RandomState(n + F)
    y = np.concatenate([np.arange(classes), random.randint(0, classes, n - classes)])
    X = (random.randn(n, F) + 0.7 * random.randn(classes, F)[y] + 1.0) * np.logspace(-1, 1, F)
    K, centre = loss.columns(classes), X.mean(axis=0) if free else None
    model = NumpyOneModel(loss, K, X, y, None, centre, 1, one_after_the_other)
    return Goal(model, loss, n, K, l2, centre, tol, 2.2e-16)


def reached(own: Goal, start: Floats | None = None) -> Trials:
    """The loop's end."""
    D = own.model.squares().size
    trials = Trials(own, 0, None)
    descend(trials, np.zeros((own.K, D)) if start is None else start, Stretch(300, 0.0, 300))
    return trials


@pytest.mark.parametrize("count", [1, 4, 10, 37])
def test_a_direction_is_that_of_the_two_loops(count: int) -> None:
    random = np.random.RandomState(count)
    P, metric = 12, Diagonal(np.exp(random.randn(12)))
    B = random.randn(P, P)
    H = B @ B.T + np.eye(P)
    pairs, kept = Pairs(P, metric), []
    for number in range(count):
        s = random.randn(P)
        y = H @ s
        pairs.add(s, y, metric(y))
        kept = [*kept, (s, y)][-10:]
        if number == count // 2:
            metric = Diagonal(np.exp(random.randn(P)))
            pairs.change(metric)
    pairs.add(random.randn(P), np.zeros(P), np.zeros(P))  # the slope has not risen: it is left out
    g = random.randn(P)
    q, steps = g.copy(), []
    for s, y in reversed(kept):
        steps.append((s @ q) / (s @ y))
        q = q - steps[-1] * y
    s, y = kept[-1]
    d = metric(q) * (s @ y) / (y @ metric(y))
    for (s, y), a in zip(kept, reversed(steps), strict=True):
        d = d + (a - (y @ d) / (s @ y)) * s
    np.testing.assert_allclose(pairs.direction(g, metric(g)), -d, rtol=1e-8, atol=1e-8 * np.abs(d).max())


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_proved_is_never_less_than_the_gap(name: str, free: bool) -> None:
    own = goal(name, free=free)
    least = reached(own).last.objective
    trials = reached(goal(name, free=free, tol=1e-3))
    random = np.random.RandomState(0)
    for size in (0.0, 1e-9, 1e-6, 1e-4, 1e-2):
        at = own.at(trials.last.W + size * random.randn(*trials.last.W.shape))
        bound = proved_bound(own, own.model, at)  # type: ignore[arg-type]
        assert at.objective - least <= bound + 1e-15
    exact = reached(own).last
    own.at(exact.W)
    assert proved_bound(own, own.model, exact) <= 1e-12  # type: ignore[arg-type]


def test_no_bound_is_proved_without_a_penalty() -> None:
    own = goal("logistic", l2=0.0)
    assert proved_bound(own, own.model, own.at(np.zeros((1, 7)))) == np.inf  # type: ignore[arg-type]


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_the_product_is_near_the_hessian(name: str, free: bool) -> None:
    """For one column it is the Hessian; for more, its inverse times the Hessian has moderate eigenvalues, apart from a
    shift of all classes: no gradient has a part in that.
    """
    own = goal(name, n=400, free=free)
    D = own.model.squares().size
    own.at(0.05 * np.random.RandomState(0).randn(own.K, D))
    metric = Kronecker.of(own)
    assert metric is not None
    penalty = np.full((own.K, D), 2.0 * own.l2)
    penalty[:, -1] *= own.centre is None
    H = own.model.curvature() / own.n + np.diag(penalty.reshape(-1))
    K = own.K
    apart = np.linalg.svd(np.ones((1, K)))[2][own.loss.shift_invariant :]  # (K - 1, K) or (1, 1)
    Q = np.kron(apart, np.eye(D))
    values = np.sort(np.linalg.eigvals(Q @ np.stack([metric(row) for row in H]) @ Q.T).real)
    if own.K == 1:
        np.testing.assert_allclose(values, 1.0, rtol=1e-6)
    assert values[0] > 0.1
    assert values[-1] < 10.0


def test_a_metric_is_made_again_when_it_pays() -> None:
    """Correlated features, of which a diagonal knows nothing: the iterations are a few times as many without it."""
    random = np.random.RandomState(0)
    X = random.randn(300, 3) @ random.randn(3, 40) + 0.03 * random.randn(300, 40)
    y = (X[:, 0] + 0.3 * random.randn(300) > 0).astype(int)
    model = NumpyOneModel(Logistic(), 1, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    own = Goal(model, Logistic(), 300, 1, 1e-5, X.mean(axis=0), 1e-12, 2.2e-16)
    trials = reached(own)
    assert trials.met
    assert len(trials.course) < 60
    diagonal = 0
    plan, bounds = Plan(own, 1, 41), [10.0]
    while not plan.due(diagonal := diagonal + 1, bounds, 1e-13):
        bounds.append(bounds[-1] * 0.9)
    assert diagonal == 8
    assert not any(plan.due(number, [1e-13 * 2.0**-k for k in range(number + 1)], 1e-12) for number in range(9, 200))


@pytest.mark.parametrize("free", [True, False])
def test_the_span_has_the_rows_logits_and_penalty(free: bool) -> None:
    random = np.random.RandomState(4)
    X = random.randn(9, 30) + 1.0
    X[5] = X[2]  # the same row twice: their Gram matrix has no inverse
    centre = X.mean(axis=0) if free else None
    span = Span.of(X, centre)
    assert span is not None
    u = random.randn(2, 9) @ span.rows  # of a part that the rows reach
    V = span.outside(np.concatenate([u, random.randn(2, 1)], axis=1) if free else u)
    own = X if centre is None else X - centre
    np.testing.assert_allclose(V[:, :30] @ own.T, u @ span.rows.T, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.sum(V[:, :30] ** 2), np.sum(u**2), rtol=1e-5)
    np.testing.assert_allclose(span.outside(span.inside(V)), V, rtol=1e-5, atol=1e-5)


CASES: dict[str, tuple[int, int, int]] = {
    "few": (60, 4, 3),
    "two classes": (90, 12, 2),
    "many weights": (120, 60, 5),
    "few rows": (30, 300, 3),
    "few rows, two classes": (40, 200, 2),
}


def data(case: str) -> tuple[Any, Any]:
    n, F, classes = CASES[case]
    random = np.random.RandomState(n)
    y = np.concatenate([np.arange(classes), random.randint(0, classes, n - classes)])
    return random.randn(n, F) + 0.4 * random.randn(classes, F)[y], y


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_optimum_of_the_whole_solver(case: str, intercept: bool, weighted: bool, offset: float) -> None:
    X, y = data(case)
    if not intercept and offset > 100.0:
        return  # no centre is taken out, and features of 1e6 have no digits left
    X = X + offset
    weight = np.random.RandomState(1).randint(0, 3, len(y)) + (np.arange(len(y)) < 10) if weighted else None
    mine = gpureg.LogisticRegression(fit_intercept=intercept, device="cpu").fit(X, y, weight)
    theirs = gpureg.LogisticRegressionCV(Cs=[1.0], cv=2, fit_intercept=intercept, device="cpu").fit(X, y, weight)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=3e-6)


def test_the_samples_are_left_as_they_are() -> None:
    X, y = data("few")
    X += 1e5
    before = X.copy()
    gpureg.LogisticRegression(device="cpu").fit(X, y)
    np.testing.assert_array_equal(X, before)
    X.setflags(write=False)
    gpureg.LogisticRegression(device="cpu").fit(X, y)


def test_a_warm_start_at_the_optimum_takes_no_steps() -> None:
    for case in ("few", "many weights", "few rows"):
        X, y = data(case)
        model = gpureg.LogisticRegression(device="cpu", warm_start=True).fit(X + 1e5, y)
        first = int(model.n_iter_[0])
        assert int(model.fit(X + 1e5, y).n_iter_[0]) <= min(first, 2)


@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_is_cut_short_says_how_far_it_is(case: str) -> None:
    X, y = data(case)
    with pytest.warns(ConvergenceWarning, match=r"after 2 iterations.*max_iter") as told:
        model = gpureg.LogisticRegression(device="cpu", max_iter=2).fit(X, y)
    assert int(model.n_iter_[0]) == 2
    stated = float(str(told[0].message).split("it is within ")[1].split(" nats")[0])
    optimum = gpureg.LogisticRegression(device="cpu").fit(X, y)
    own, least = (
        -m.predict_log_proba(X)[np.arange(len(y)), y].mean() + (m.coef_**2).sum() / (2 * len(y))
        for m in (model, optimum)
    )
    assert 0.0 < own - least <= 1.01 * stated


@pytest.mark.parametrize("max_iter", [1, 2, 3, 4, 6])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_last_iteration_may_end_in_the_span(max_iter: int) -> None:
    """What follows there finds the optimum, and has no iteration left to count."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(20, 200)), np.arange(20) % 3
    for C in (1e-4, 1.0):
        model = gpureg.LogisticRegression(C=C, max_iter=max_iter, fit_intercept=False, device="cpu").fit(X, y)
        assert int(model.n_iter_[0]) <= max_iter
    path = gpureg.LogisticRegressionCV(Cs=[1e-4, 1e-2, 1.0, 1e4], cv=2, max_iter=max_iter, device="cpu").fit(X, y)
    assert int(path.n_iter_.max()) <= max_iter


@pytest.mark.parametrize("tol", [0.1, 1e-2, 1e-3, 1e-4])
def test_a_loose_tolerance_is_met_without_a_warning(tol: float) -> None:
    """The proof fails at the first point that seems near enough: the loop goes on, and takes no more than to the end.

    Warnings are errors.
    """
    random = np.random.default_rng(0)
    y = np.concatenate([np.arange(2), random.integers(0, 2, 298)])
    X = random.normal(size=(300, 1000)) + 0.3 * random.normal(size=(2, 1000))[y]
    models = [gpureg.LogisticRegression(device="cpu", tol=value).fit(X, y) for value in (tol, 1e-6)]
    own, least = (-m.predict_log_proba(X)[np.arange(300), y].mean() + (m.coef_**2).sum() / 600 for m in models)
    assert own - least <= tol**2
    assert int(models[0].n_iter_[0]) <= 1.5 * int(models[1].n_iter_[0])


def test_what_is_not_for_it() -> None:
    cpu, single = numpy_backend("float64", why=""), numpy_backend("float32", why="")
    assert worth_it(cpu, 1e-12, 1.0, (100, 4), 3)
    assert not worth_it(single, 1e-12, 1.0, (100, 4), 3)
    assert not worth_it(cpu, 1e-12, np.inf, (100, 4), 3)
    assert not worth_it(cpu, 1e-20, 1.0, (100, 4), 3)
    assert not worth_it(cpu, 1e-12, 1.0, (10_000_000, 400), 3)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_scales_do_not_matter(scale: float) -> None:
    X, y = data("many weights")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = gpureg.LogisticRegression(device="cpu", C=1.0).fit(X, y)
        other = gpureg.LogisticRegression(device="cpu", C=1.0 / scale**2).fit(X * scale, y)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X * scale), atol=1e-6)


@pytest.mark.parametrize("C", [1e150, 1e200, 1e300])
def test_gradients_whose_inverse_squares_overflow(C: float) -> None:
    """As they are where classes are apart and a penalty is next to none."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(60, 80)), np.arange(60) % 2
    model = gpureg.LogisticRegression(C=C, device="cpu").fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert model.score(X, y) == 1.0
