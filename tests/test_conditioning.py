"""The change of variables: exact, invertible, and indifferent to the scale of a feature."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import place
from small_problems import blobs

from gpureg.solvers.lbfgs import conditioning as module
from gpureg.solvers.lbfgs.conditioning import centred, conditioned, kronecker, spectrum


def spread_out() -> tuple[np.ndarray, np.ndarray]:
    data = blobs(n=90, features=5)
    return data.X_train * np.logspace(-3, 3, 5) + np.array([5.0, 0, 100, 1, -7]), data.y_train


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("most", [2048, 2])
def test_variables_invert_weights(
    any_backend: BackendFactory, free: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROTATED", most)
    X, y = spread_out()
    problem, kernels = place(X, y, [1e-3, 1.0], backend=any_backend("float64"))
    made = conditioned(kernels, problem.train, problem.table.l2, free=free)
    v = np.random.default_rng(0).normal(size=(2, 3, 6))
    W = made.weights(kernels.backend.from_host(v))
    np.testing.assert_allclose(kernels.to_host(made.variables(W)), v, atol=1e-7)


@pytest.mark.parametrize("free", [True, False])
def test_slope_is_the_transposed_map(any_backend: BackendFactory, free: bool) -> None:
    """`<∇_W, T v> = <T' ∇_W, v>`."""
    X, y = spread_out()
    problem, kernels = place(X, y, [1e-3, 1.0], backend=any_backend("float64"))
    random = np.random.default_rng(1)
    v, g = (kernels.backend.from_host(random.normal(size=(2, 3, 6))) for _ in range(2))
    plain, _ = centred(kernels, problem.train, free=free)
    for made in (conditioned(kernels, problem.train, problem.table.l2, free=free), plain):
        down, _, _ = made.slope(g)
        one = (kernels.to_host(g) * kernels.to_host(made.weights(v))).sum()
        assert one == pytest.approx((kernels.to_host(down) * kernels.to_host(v)).sum(), rel=1e-9)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_the_hessian_at_zero_becomes_the_identity(free: bool, task: str) -> None:
    X, y = spread_out()
    y = y if task == "softmax" else np.minimum(y, 1)
    l2 = np.array([1e-3, 1.0])
    problem, kernels = place(X, y, l2.tolist(), task)
    K = kernels.n_columns
    made = conditioned(kernels, problem.train, l2, free=free)
    H = problem.train.curvature(np.zeros((6, 2 * K)), None, None) / problem.n
    mask = np.ones(6)
    mask[-1] = 0.0 if free else 1.0
    H = H + np.stack([np.diag(np.tile(2 * value * mask, K)) for value in l2])
    for model in range(2):
        columns = [np.asarray(made.take(np.array([model])).weights(row.reshape(1, 1, 6)))[0, 0] for row in np.eye(6)]
        T1 = np.stack(columns, axis=1)
        whole = np.kron(np.eye(K), T1)
        found = whole.T @ H[model] @ whole
        # a softmax's Hessian is 1/K times the projection away from equal shifts; only the penalty moves those
        apart = np.eye(K) - 1.0 / K if K > 1 else np.eye(1)
        apart = np.kron(apart, np.eye(6))
        np.testing.assert_allclose(apart @ found @ apart, apart, atol=1e-4)


def test_moments_are_weighted() -> None:
    """A weight of 3 is the sample three times."""
    X, y = spread_out()
    counts = np.arange(len(y)) % 4
    weighted, _ = place(X, y, [0.0], weights=counts.astype(float))
    again, _ = place(np.repeat(X, counts, axis=0), np.repeat(y, counts), [0.0])
    mean = weighted.train.mean()
    np.testing.assert_allclose(mean, again.train.mean(), rtol=1e-12)
    np.testing.assert_allclose(mean[:-1], np.average(X, axis=0, weights=counts), rtol=1e-12)
    one = weighted.train.scatter(mean)
    np.testing.assert_allclose(one, again.train.scatter(mean), rtol=1e-9, atol=1e-9)
    diagonal = weighted.train.scatter(mean, diagonal=True)
    np.testing.assert_allclose(np.diag(one), diagonal, rtol=1e-12)


def test_moments_in_float32_are_accumulated_in_float64() -> None:
    from gpureg.backend import numpy_backend

    X, y = spread_out()
    problem, _ = place(X, y, [0.0], backend=numpy_backend("float32"))
    stored = np.asarray(problem.train.block.X, float)
    centre = problem.train.mean()
    np.testing.assert_allclose(centre, stored.mean(axis=0), rtol=1e-12)
    expected = (stored - centre).T @ (stored - centre) / len(stored)
    np.testing.assert_allclose(problem.train.scatter(centre), expected, rtol=1e-9, atol=1e-12)


def weights_of(problem: object, kernels: object, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, kernels.n_columns))  # type: ignore[attr-defined]


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("most", [2048, 2])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_the_kronecker_product_s_variables(
    any_backend: BackendFactory, free: bool, most: int, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They invert weights, and the slope is the transposed map, for every λ at once."""
    monkeypatch.setattr(module, "MOST_ROTATED", most)
    X, y = spread_out()
    y = y if task == "softmax" else np.minimum(y, 1)
    l2 = np.array([1e-3, 1.0])
    problem, kernels = place(X, y, l2.tolist(), task, weights=1.0 + np.arange(90.0) % 3, backend=any_backend("float64"))
    from_host, K = kernels.backend.from_host, kernels.n_columns
    W = 0.1 * weights_of(problem, kernels) / X.std(axis=0).max()
    found = kronecker(kernels, problem.train, from_host(W), np.array([0]), free=free)
    assert found is not None
    made = found.at(l2)
    random = np.random.default_rng(1)
    v, g = random.normal(size=(2, K, 6)), random.normal(size=(2, K, 6))
    there = made.weights(from_host(v))
    np.testing.assert_allclose(kernels.to_host(made.variables(there)), v, atol=1e-6)
    down, _, _ = made.slope(from_host(g))
    assert (g * kernels.to_host(there)).sum() == pytest.approx((kernels.to_host(down) * v).sum(), rel=1e-9)


def test_the_kronecker_product_at_zero_is_the_second_moments() -> None:
    X, y = spread_out()
    problem, kernels = place(X, y, [1e-3])
    at_zero = kronecker(kernels, problem.train, np.zeros((6, 3)), None, free=True)
    plain = spectrum(kernels, problem.train, free=True)
    assert at_zero is not None
    np.testing.assert_allclose(at_zero.spread, plain.spread, rtol=1e-9, atol=1e-9 * plain.spread.max())
    np.testing.assert_allclose(at_zero.classes, [0.0, 1 / 3, 1 / 3], atol=1e-12)


@pytest.mark.parametrize("free", [True, False])
def test_for_two_classes_the_kronecker_product_is_the_hessian(free: bool) -> None:
    """With row weights: in its variables the Hessian is the identity."""
    X, y = spread_out()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), np.minimum(y, 1)
    weights = 0.5 + np.arange(90.0) % 4
    problem, kernels = place(X, y, [1e-2], "logistic", weights=weights)
    W = weights_of(problem, kernels)
    found = kronecker(kernels, problem.train, W, np.array([0]), free=free)
    assert found is not None
    made = found.at(np.array([1e-2]))
    T = np.stack([np.asarray(made.weights(row.reshape(1, 1, 6)))[0, 0] for row in np.eye(6)], axis=1)
    H = problem.train.curvature(W, np.array([0]), None)[0] / problem.n
    mask = np.ones(6)
    mask[-1] = 0.0 if free else 1.0
    np.testing.assert_allclose(T.T @ (H + 2e-2 * np.diag(mask)) @ T, np.eye(6), atol=1e-9)


def test_its_trace_over_the_classes_is_exact_and_weighted() -> None:
    """tr(A) S = Σ s u x x' / Σ s; a weight of 3 is the sample three times."""
    X, y = spread_out()
    counts = np.arange(len(y)) % 4
    weighted, kernels = place(X, y, [0.0], weights=counts.astype(float))
    again, _ = place(np.repeat(X, counts, axis=0), np.repeat(y, counts), [0.0])
    W = weights_of(weighted, kernels) / X.std(axis=0).max()
    one = weighted.train.kronecker(W, np.array([0]), free=False)
    two = again.train.kronecker(W, None, free=False)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one.classes, two.classes, atol=1e-12)
    np.testing.assert_allclose(one.moments, two.moments, rtol=1e-9)
    H = again.train.curvature(W, None, None)[0].reshape(3, 6, 3, 6)
    trace = np.einsum("kikj->ij", H) / len(again.train.block.y)
    np.testing.assert_allclose(np.trace(two.classes) * two.moments, trace, rtol=1e-9)


def test_saturated_probabilities_have_no_curvature_to_describe() -> None:
    X, y = spread_out()
    problem, kernels = place(X, y, [1e-3])
    W = 1e6 * weights_of(problem, kernels)
    assert kronecker(kernels, problem.train, W, None, free=True) is None
