"""The full-batch solver where it is hard: a sound answer or a clear warning, never NaN."""

from __future__ import annotations

from functools import partial
from typing import Any

import full_batch
import numpy as np
import pytest
from full_batch import WAYS, by_sklearn, objective, place, probabilities
from sklearn import datasets
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.losses import LOSSES
from gpureg.solvers.lbfgs.pairs import PairHistory
from gpureg.solvers.lbfgs.search import LineSearch

CS = (1e-4, 1e-2, 1.0, 1e2, 1e4)


@pytest.fixture(params=["as usual", "alone"])
def solve(request: pytest.FixtureRequest) -> Any:
    """With Hessians for the models that are small enough, and without."""
    return partial(full_batch.solve, hessians=WAYS.get(request.param))


def loaded(name: str, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":  # a share of it: scikit-learn's Newton takes seconds for the whole
        X, y = X[:500, 1::2], y[:500]
    deviation = X.std(axis=0)
    return ((X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0) if scaled else X), y


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_scikit_learn_s(name: str, scaled: bool, weighted: bool) -> None:
    X, y = loaded(name, scaled)
    weights = np.random.default_rng(0).uniform(0, 3, len(y)) if weighted else None
    task = "logistic" if y.max() == 1 else "softmax"
    total = len(y) if weights is None else weights.sum()
    l2 = [1 / (2 * C * total) for C in CS]
    outcome, _ = full_batch.solve(*place(X, 1 - y if task == "logistic" else y, l2, task, weights=weights), tol=1e-11)
    assert set(outcome.reasons) == {"converged"}
    for model, value in enumerate(l2):
        other = by_sklearn(X, y, value, weights).predict_proba(X)
        other = other[:, ::-1] if task == "logistic" else other
        np.testing.assert_allclose(probabilities(X, outcome.weights[model]), other, atol=1e-5)


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_separable_data_without_a_penalty_end_in_a_warning(solve: Any, task: str) -> None:
    classes = 3 if task == "softmax" else 2
    data = blobs(n=60, features=4, classes=classes, spread=0.05)
    outcome, _ = solve(*place(data.X_train, data.y_train, [0.0, 1e-6], task), tol=1e-8, max_iter=200)
    assert np.isfinite(outcome.weights).all()
    assert "separate" in " ".join(outcome.warnings)
    assert outcome.measured.train_accuracy[0] == 1.0
    assert outcome.certificates is not None
    assert outcome.certificates[0]["gap_bound"] is None
    assert outcome.reasons[1] == "converged"


def test_no_penalty_and_overlapping_classes_converge(solve: Any) -> None:
    data = blobs(n=300, features=3, classes=2, spread=3.0)
    outcome, _ = solve(*place(data.X_train, data.y_train, [0.0], "logistic"), tol=1e-12)
    assert outcome.reasons == ("converged",)
    assert outcome.warnings == ()
    other = by_sklearn(data.X_train, 1 - data.y_train, 1e-13).predict_proba(data.X_train)[:, ::-1]
    np.testing.assert_allclose(probabilities(data.X_train, outcome.weights[0]), other, atol=1e-5)


def test_one_sample_per_class(solve: Any) -> None:
    X = np.random.default_rng(0).normal(size=(5, 3))
    outcome, _ = solve(*place(X, np.arange(5), [1e-1, 1e-4]))
    assert outcome.reasons == ("converged", "converged")
    assert outcome.measured.train_accuracy[1] == 1.0


def test_constant_features(solve: Any) -> None:
    data = blobs(n=80, features=3)
    X = np.concatenate([data.X_train, np.full((80, 1), 7.0), np.zeros((80, 1))], axis=1)
    for l2 in (1e-2, 0.0):
        outcome, _ = solve(*place(X, data.y_train, [l2]), tol=1e-10)
        assert np.isfinite(outcome.weights).all()
        np.testing.assert_allclose(outcome.weights[0, 3:5], 0.0, atol=1e-5)
        if l2:
            np.testing.assert_allclose(
                probabilities(X, outcome.weights[0]), by_sklearn(X, data.y_train, l2).predict_proba(X), atol=1e-6
            )


def test_all_features_constant(solve: Any) -> None:
    y = np.repeat([0, 1, 2], [10, 20, 30])
    outcome, _ = solve(*place(np.ones((60, 2)), y, [1e-2]))
    np.testing.assert_allclose(probabilities(np.ones((1, 2)), outcome.weights[0])[0], [1 / 6, 1 / 3, 1 / 2], atol=1e-6)


@pytest.mark.parametrize("free", [True, False])
def test_features_scaled_a_million_apart(solve: Any, free: bool) -> None:
    data = blobs(n=200, features=3, classes=2)
    scale = np.array([1e-3, 1.0, 1e3])
    # the penalty tells the units apart: compare with the same problem, solved from its own optimum
    outcome, _ = solve(*place(data.X_train * scale, data.y_train, [1e-6, 1e-3], "logistic"), free=free, tol=1e-11)
    assert set(outcome.reasons) == {"converged"}
    for model, l2 in enumerate((1e-6, 1e-3)):
        W = outcome.weights[model]
        found = objective(data.X_train * scale, data.y_train, W, l2, free=free)
        for row in range(4):
            for sign in (-1, 1):
                near = W.copy()
                near[row] += sign * 1e-2 * np.abs(W[row]).max()
                assert objective(data.X_train * scale, data.y_train, near, l2, free=free) >= found


def test_a_thousand_classes() -> None:
    random = np.random.default_rng(0)
    y = np.concatenate([np.arange(1000), random.integers(0, 1000, 500)])
    X = random.normal(size=(1500, 8)) + random.normal(size=(1000, 8))[y] * 2
    outcome, _ = full_batch.solve(*place(X, y, [1e-3]), tol=1e-8, max_iter=200)
    assert np.isfinite(outcome.weights).all()
    assert outcome.reasons == ("converged",)
    assert outcome.measured.train_loss[0] < np.log(1000)


def test_a_class_without_a_sample() -> None:
    data = blobs(n=60, features=3)
    outcome, _ = full_batch.solve(*place(data.X_train, data.y_train, [1e-2], classes=5), tol=1e-8)
    assert np.isfinite(outcome.weights).all()
    assert probabilities(data.X_train, outcome.weights[0])[:, 3:].max() < 1e-3


@pytest.mark.parametrize("n", [60, 9000])  # 9000: in threads
def test_what_overflows_is_reported_as_diverged(n: int) -> None:
    """And NumPy's own warnings, which would be errors here, do not reach the user."""
    data = blobs(n=n, features=3, classes=2)
    outcome, _ = full_batch.solve(*place(data.X_train * 1e200, data.y_train, [1e-2], "logistic"))
    assert outcome.reasons[0] in ("diverged", "precision", "max_iter")
    assert outcome.certificates is not None
    assert outcome.certificates[0]["converged"] is False


def test_a_line_search_brackets_each_model_s_own_minimum() -> None:
    """φ_l(α) = (α - m_l)²: minima far apart, found side by side."""
    minima = np.array([1.0, 1e-6, 1e5, 3.0])
    search = LineSearch(4, 1e-15)
    start, slope = minima**2, -2 * minima
    done = np.zeros(4, bool)
    at = np.zeros(4)
    for _ in range(25):
        taken, lost = search.judge(start, slope, (search.alpha - minima) ** 2, 2 * (search.alpha - minima))
        assert not (lost & ~done).any()
        at = np.where(taken & ~done, search.alpha, at)
        done |= taken
        if done.all():
            break
    assert done.all()
    assert ((at > 0) & (at < 2 * minima)).all()


def test_the_compact_form_is_the_two_loop_recursion() -> None:
    """Also where models have pairs of different age, and one has none."""
    from gpureg.backend import numpy_backend
    from gpureg.kernels.choice import choose_kernels

    random = np.random.default_rng(0)
    P, M = 7, 4
    A = random.normal(size=(P, P))
    H = A @ A.T + np.eye(P)
    pairs = PairHistory(choose_kernels(numpy_backend("float64"), LOSSES["softmax"], 3, "reference"), 3, M, P)
    kept: list[list[tuple[np.ndarray, np.ndarray]]] = [[], [], []]
    for turn in range(9):
        s = random.normal(size=(3, P))
        y = s @ H
        accepted = np.array([True, turn % 3 != 1, False])
        stored = pairs.by_kind(pairs.products(np.stack([s, y], axis=2)))
        own = np.stack([(s * s).sum(1), (s * y).sum(1), (y * y).sum(1)], axis=1)
        slot = turn % M
        pairs.add(accepted, s, y, stored, own)
        for model in range(2):
            if accepted[model]:
                kept[model] = [(turn, s[model], y[model]), *[pair for pair in kept[model] if pair[0] % M != slot]]  # type: ignore[list-item,has-type]
    g = random.normal(size=(3, P))
    with_g = pairs.by_kind(pairs.products(g[:, :, None]))[..., 0]
    gamma, c = pairs.coefficients(*with_g)
    found = gamma[:, None] * g + np.einsum("lj,ljp->lp", c, pairs.filled())
    for model in range(3):
        np.testing.assert_allclose(found[model], _two_loop(g[model], [pair[1:] for pair in kept[model]]), rtol=1e-9)


def _two_loop(g: np.ndarray, pairs: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    """Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.4; newest pair first."""
    q, alphas = g.copy(), []
    for s, y in pairs:
        alphas.append((s @ q) / (y @ s))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[0]
        q = q * ((s @ y) / (y @ y))
    for (s, y), alpha in zip(reversed(pairs), reversed(alphas), strict=True):
        q = q + s * (alpha - (y @ q) / (y @ s))
    return q


def overlapping(task: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(200, 3))
    noisy = X[:, 0] + random.normal(size=200)
    return X, np.digitize(noisy, [0.0] if task == "logistic" else [-0.5, 0.5])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("seed", range(3))
def test_a_part_that_separates_is_told(task: str, dtype: str, seed: int) -> None:
    """A dummy that is 1 in some rows of one class only; the others overlap, and the weight has no end."""
    X, y = overlapping(task, seed)
    dummy = ((y == 1) & (np.random.default_rng(seed).random(200) < 0.2)).astype(float)
    wider = np.c_[X, dummy]
    others = [wider * [100.0, 1.0, 0.1, 0.05] + 10.0] if dtype == "float64" else []  # it costs float32 its digits
    for samples in (wider, *others):
        for weights in (None, np.random.default_rng(1).uniform(0.1, 3.0, 200)):
            placed = place(samples, y, [0.0, 1e-3], task, weights=weights, column=[0, 0], backend=numpy_backend(dtype))
            outcome, _ = full_batch.solve(*placed, tol=1e-8)
            assert "1 model(s) without a penalty" in " ".join(outcome.warnings)
            assert "no optimum" in " ".join(outcome.warnings)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("seed", range(4))
def test_what_has_an_optimum_is_not_said_to_have_none(task: str, free: bool, seed: int) -> None:
    """Rows that are certain by one feature and disagree in another have one, however little curvature is left there."""
    X, y = overlapping(task, seed)
    certain = np.c_[np.full(6, 20.0), np.zeros((6, 2)), [1.0, -1, 1, -1, 1, -1]]
    wide = np.r_[np.c_[X, np.zeros(200)], certain]
    labels = np.r_[y, np.full(6, y.max())]
    constant = np.c_[X, X[:, :1], np.full(200, 7.0), np.zeros(200)]  # directions that change nothing are no separation
    for samples, own in ((X, y), (wide, labels), (constant, y)):
        outcome, _ = full_batch.solve(*place(samples, own, [0.0], task), tol=1e-9, free=free)
        assert "no optimum" not in " ".join(outcome.warnings)
