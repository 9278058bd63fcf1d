"""The penalised objective: its gradient, the bound on the gap, C and λ."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import objective, place
from scipy.optimize import minimize
from small_problems import blobs

from gpureg.solvers.lbfgs.objective import Objective, gap_bound, l2_of


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
def test_value_and_gradient_agree_with_finite_differences(any_backend: BackendFactory, task: str, free: bool) -> None:
    data = blobs(n=40, features=3, classes=3 if task == "softmax" else 2)
    X, y = data.X_train, data.y_train
    random = np.random.default_rng(1)
    weights = random.uniform(0.2, 2.0, (40, 2))
    weights /= weights.mean(axis=0)
    problem, kernels = place(
        X, y, [0.3, 0.01], task, weights=weights, column=[0, 1], backend=any_backend("float64"), which="auto"
    )
    made = Objective(kernels, problem.train, problem.table, 4, weighted=True, penalize_bias=not free)
    W = random.normal(size=(2, kernels.n_columns, 4))
    value = made.value(kernels.backend.from_host(W))
    there = kernels.to_host(value.loss) + kernels.to_host(value.penalty)
    gradient = kernels.to_host(value.gradient)
    for model in range(2):

        def at(flat: np.ndarray, model: int = model) -> float:
            shaped = flat.reshape(kernels.n_columns, 4).T
            return objective(X, y, shaped, [0.3, 0.01][model], free=free, weights=weights[:, model])

        flat = W[model].reshape(-1)
        assert there[model] == pytest.approx(at(flat), rel=1e-12)
        steps = 1e-6 * np.eye(flat.size)
        numeric = [(at(flat + step) - at(flat - step)) / 2e-6 for step in steps]
        np.testing.assert_allclose(gradient[model].reshape(-1), numeric, atol=2e-8)


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_curvature_is_the_gradient_s_derivative(any_backend: BackendFactory, task: str) -> None:
    data = blobs(n=50, features=3, classes=4 if task == "softmax" else 2)
    weights = np.random.default_rng(2).uniform(0, 2, (50, 2))
    problem, kernels = place(
        data.X_train, data.y_train, [0.0, 0.0], task, weights=weights, column=[1, 0], backend=any_backend("float64")
    )
    made = Objective(kernels, problem.train, problem.table, 4, weighted=True, penalize_bias=True)
    from_host = kernels.backend.from_host
    W = np.random.default_rng(3).normal(size=(2, kernels.n_columns, 4))
    columns = made.columns(from_host(W))
    H = kernels.to_host(problem.train.curvature(columns, problem.table.column, None)) / problem.n
    size = W[0].size
    for place_ in range(size):
        step = np.zeros(size)
        step[place_] = 1e-6
        step = step.reshape(W.shape[1:])
        up, down = (kernels.to_host(made.value(from_host(W + sign * step)).gradient) for sign in (1, -1))
        np.testing.assert_allclose(H[:, place_], ((up - down) / 2e-6).reshape(2, -1), atol=1e-7)


def test_centred_curvature_is_that_of_centred_samples() -> None:
    data = blobs(n=50, features=3)
    centre = np.append(data.X_train.mean(axis=0), 0.0)
    raw, _ = place(data.X_train, data.y_train, [0.0])
    moved, _ = place(data.X_train - centre[:-1], data.y_train, [0.0])
    zero = np.zeros((4, 3))
    one = raw.train.curvature(zero, None, centre)
    np.testing.assert_allclose(one, moved.train.curvature(zero, None, None), atol=1e-11)


@pytest.mark.parametrize("free", [True, False])
def test_the_bound_holds(free: bool) -> None:
    """`||∇||² / 4λ` is above the true gap, at random points with their bias at its optimum."""
    data = blobs(n=60, features=3, classes=2)
    X, y = data.X_train, data.y_train
    problem, kernels = place(X, y, [0.05], "logistic")
    made = Objective(kernels, problem.train, problem.table, 4, weighted=False, penalize_bias=not free)

    def both(W: np.ndarray) -> tuple[float, np.ndarray]:
        value = made.value(W.reshape(1, 1, 4))
        return float(value.loss[0] + value.penalty[0]), value.gradient[0, 0]

    least = minimize(both, np.zeros(4), jac=True, tol=1e-14).fun
    for seed in range(20):
        W = 2 * np.random.default_rng(seed).normal(size=4)
        if free:

            def of_bias(b: np.ndarray, W: np.ndarray = W) -> tuple[float, np.ndarray]:
                J, slope = both(np.append(W[:3], b))
                return J, slope[3:]

            W[3] = minimize(of_bias, np.zeros(1), jac=True, tol=1e-14).x[0]
        J, slope = both(W)
        bound = gap_bound(np.array([(slope**2).sum()]), np.array([0.05]))[0]
        assert J - least <= bound + 1e-12


def test_there_is_no_bound_without_a_penalty() -> None:
    assert np.isnan(gap_bound(np.ones(1), np.zeros(1))[0])


def test_lambda_of_c() -> None:
    assert float(l2_of(2.0, 100.0)) == 1 / 400
    assert float(l2_of(np.inf, 10.0)) == 0.0


def test_two_class_softmax_at_c_is_logistic_at_2_c() -> None:
    from full_batch import probabilities, solve

    data = blobs(n=80, features=3, classes=2)
    softmax, _ = solve(*place(data.X_train, data.y_train, [0.02]))
    logistic, _ = solve(*place(data.X_train, data.y_train, [0.01, 0.02], "logistic"))
    p = probabilities(data.X_train, softmax.weights[0])
    np.testing.assert_allclose(p, probabilities(data.X_train, logistic.weights[0]), atol=1e-8)
    assert np.abs(p - probabilities(data.X_train, logistic.weights[1])).max() > 1e-3
