"""Fewer rows than features: the problem in the span of its rows is the same problem."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import WAYS, config, place, probabilities, solve

from gpureg.backend import numpy_backend
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.lbfgs.wide import in_span
from gpureg.solvers.problem import Problem


def wide(n: int = 30, features: int = 80, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows far from 0, two of them equal, so that the span has fewer dimensions than there are rows."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = random.normal(size=(classes, features))[y] + 2 * random.normal(size=(n, features)) + 5.0
    X[1] = X[0]
    return X, y


def gap(X: np.ndarray, y: np.ndarray, W: np.ndarray, l2: float, free: bool, weights: np.ndarray | None) -> float:
    """`||∇||² / (4 λ)` in the penalised weights with the bias's own gradient left out, without gpureg."""
    p = probabilities(X, W)
    s = np.ones(len(y)) if weights is None else weights / weights.mean()
    A = np.c_[X - X.mean(axis=0), np.ones(len(X))] if free else np.c_[X, np.ones(len(X))]
    residual = (p - np.eye(p.shape[1])[y]) * s[:, None]
    if W.shape[1] == 1:
        residual = residual[:, :1]
    slope = A.T @ residual / len(y) + 2 * l2 * (np.r_[W[:-1], np.zeros_like(W[-1:])] if free else W)
    return float((slope**2).sum() / (4 * l2))


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_optimum_is_that_of_all_features(
    any_backend: BackendFactory, task: str, free: bool, weighted: bool
) -> None:
    X, y = wide(classes=3 if task == "softmax" else 2)
    weights = np.arange(len(y)) % 3 + 0.5 if weighted else None
    l2 = [1.0, 1e-2, 1e-4]
    problem, kernels = place(X, y, l2, task, weights=weights, backend=any_backend("float64"))
    assert len(y) + 1 >= in_span(problem, free=free)[0].D
    outcome, _ = solve(problem, kernels, free=free)
    assert outcome.reasons == ("converged",) * 3
    assert outcome.weights.shape == (3, X.shape[1] + 1, kernels.n_columns)
    for W, value in zip(outcome.weights, l2, strict=True):
        assert gap(X, y, W, value, free, weights) <= 1e-11


def test_basis_is_orthonormal_and_inverts(any_backend: BackendFactory) -> None:
    X, y = wide()
    problem, kernels = place(X, y, [0.1], backend=any_backend("float64"))
    rows, basis = problem.train.span(free=True)
    V = np.stack([basis.outside(row[None, :, None])[0, :-1, 0] for row in np.eye(rows.features)[:-1]])
    np.testing.assert_allclose(V @ V.T, np.eye(len(V)), atol=1e-10)
    assert len(V) == len(y) - 2  # two rows are equal, and the mean is taken out
    inner = np.random.default_rng(0).normal(size=(2, rows.features, 3))
    np.testing.assert_allclose(basis.inside(basis.outside(inner)), inner, atol=1e-9)
    outer = basis.outside(inner)
    order = np.argsort(y, kind="stable") if kernels.storage_order(y, None) is not None else np.arange(len(y))
    columns = np.moveaxis(inner, 0, 1).reshape(rows.features, -1)
    cost, *_ = rows.cost_and_gradient(kernels.weights(columns), None)
    whole = np.moveaxis(outer, 0, 1).reshape(X.shape[1] + 1, -1)
    expected, *_ = problem.train.cost_and_gradient(kernels.weights(whole), None)
    np.testing.assert_allclose(kernels.to_host(cost), kernels.to_host(expected), rtol=1e-10)
    assert len(order) == len(y)


def test_without_a_penalty_the_features_stay() -> None:
    X, y = wide()
    problem, _ = place(X, y, [0.1, 0.0])
    same, basis = in_span(problem, free=True)
    assert basis is None
    assert same is problem


def test_a_start_in_all_features_is_a_start_in_the_span() -> None:
    X, y = wide()
    problem, kernels = place(X, y, [0.01])
    first, _ = solve(problem, kernels)
    again, _ = solve(problem, kernels, start=first.weights)
    assert again.steps[0] == 0
    np.testing.assert_allclose(again.weights, first.weights, atol=1e-6)


@pytest.mark.parametrize("way", ["newton", "alone", "whitened"])
def test_it_goes_on_to_the_same_bits(way: str) -> None:
    X, y = wide()
    problem, kernels = place(X, y, [0.1, 0.001])

    def run(problem: Problem, kernels: Kernels, hessians: Hessians, stop_after: int) -> np.ndarray:
        solver = Lbfgs(config(problem, kernels), hessians=hessians)
        descent = solver.on(problem, kernels)
        state = descent.start()
        for _ in range(stop_after):
            if not descent.done(state):
                list(descent.advance(state))
        arrays, meta = descent.pack(state)
        descent = solver.on(problem, kernels)
        state = descent.unpack(arrays, meta)
        while not descent.done(state):
            list(descent.advance(state))
        return descent.finish(state)[0].weights

    found = [run(problem, kernels, WAYS[way], count) for count in (0, 3, 8)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_single_precision_meets_its_own_resolution() -> None:
    X, y = wide(60, 300)
    problem, kernels = place(X, y, [1.0, 0.01], backend=numpy_backend("float32"))
    outcome, _ = solve(problem, kernels, tol=1e-8)
    assert outcome.reasons == ("converged",) * 2
