"""Variables in which a model's Hessian is the identity, and what L-BFGS gains by them."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import WAYS, by_sklearn, config, place, probabilities, solve
from sklearn.datasets import load_digits
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import LOSSES
from gpureg.solvers.lbfgs.conditioning import centred
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.hessian import are_factors, inverse_factors, triangular_inverses, whitened
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.lbfgs.solver import Lbfgs


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("sizes", [[2], [1, 1]], ids=["together", "apart"])
def test_the_hessian_is_the_identity(any_backend: BackendFactory, task: str, free: bool, sizes: list[int]) -> None:
    data = blobs(n=60, features=3, classes=3 if task == "softmax" else 2)
    problem, kernels = place(data.X_train + 5.0, data.y_train, [1e-2, 1e-4], task, backend=any_backend("float64"))
    objective = Objective(kernels, problem.train, problem.table, problem.D, weighted=False, penalize_bias=not free)
    backend, K, D = kernels.backend, kernels.n_columns, problem.D
    W = 0.3 * np.random.default_rng(0).normal(size=(2, K, D))
    plain, _ = centred(kernels, problem.train, free=free)
    own = whitened(objective, backend.from_host(W), np.arange(2), sizes)

    def at(z: np.ndarray) -> np.ndarray:
        value = objective.value(own.weights(backend.from_host(z)))
        return np.asarray(kernels.to_host(own.slope(value.gradient)[0])).reshape(2, -1)

    zero = np.zeros((2, K, D))
    np.testing.assert_allclose(kernels.to_host(own.weights(backend.from_host(zero))), W, atol=1e-13)
    step, H = 1e-5, np.zeros((2, K * D, K * D))
    for place_ in range(K * D):
        z = zero.copy().reshape(2, -1)
        z[:, place_] = step
        H[:, :, place_] = (at(z.reshape(zero.shape)) - at(-z.reshape(zero.shape))) / (2 * step)
    # a shift of all classes in a free bias changes nothing: one eigenvalue is 0 there, all others are 1
    none = 1 if free and K > 1 else 0
    expected = np.concatenate([np.zeros(none), np.ones(K * D - none)])
    for model in range(2):
        np.testing.assert_allclose(np.linalg.eigvalsh(H[model]), expected, atol=1e-5)

    gradient = objective.value(backend.from_host(W)).gradient
    for mine, theirs in zip(own.slope(gradient)[1:], plain.slope(gradient)[1:], strict=True):
        np.testing.assert_allclose(kernels.to_host(mine), kernels.to_host(theirs), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 130, 257])
def test_a_triangle_s_inverse(any_backend: BackendFactory, size: int) -> None:
    kernels = choose_kernels(any_backend("float64"), LOSSES["softmax"], 3, "reference")
    L = np.tril(np.random.default_rng(size).normal(size=(size, size))) / np.sqrt(size) + 2 * np.eye(size)
    both = np.stack([L, 2.0 * L])
    found = kernels.to_host(triangular_inverses(kernels, kernels.backend.from_host(both)))
    np.testing.assert_allclose(found @ both, np.stack([np.eye(size)] * 2), atol=1e-10)
    assert not np.triu(found, 1).any()


def test_a_singular_hessian_gets_a_ridge_and_none_the_identity(any_backend: BackendFactory) -> None:
    kernels = choose_kernels(any_backend("float64"), LOSSES["softmax"], 3, "reference")
    regular, singular = np.eye(3) + 0.5 * np.ones((3, 3)), np.ones((3, 3))
    all_of_them = (-np.eye(3), singular, regular, np.full((3, 3), np.nan), 2.0 * regular, singular)
    for some in (all_of_them, all_of_them[::-1], *([one] for one in all_of_them)):
        found = kernels.to_host(inverse_factors(kernels, kernels.backend.from_host(np.stack(some))))
        for H, inverse in zip(some, found, strict=True):
            if H is singular:
                np.testing.assert_allclose(inverse @ H @ inverse.T, np.diag([1.0, 0.0, 0.0]), atol=1e-3)
            elif H.min() > 0:
                np.testing.assert_allclose(inverse @ H @ inverse.T, np.eye(3), atol=1e-10)
            else:
                np.testing.assert_array_equal(inverse, np.eye(3))


def test_a_factor_is_tried() -> None:
    """What is no factor is not taken for one: unfinished columns, a negative pivot, NaN."""
    kernels = choose_kernels(numpy_backend("float64"), LOSSES["softmax"], 3, "reference")
    H = np.eye(40) + 0.5 * np.ones((40, 40))
    L = np.linalg.cholesky(H)
    unfinished, negative, unknown = L.copy(), L.copy(), L.copy()
    unfinished[:, 20:] = np.tril(H)[:, 20:]
    negative[:, 39] *= -1.0
    unknown[3, 3] = np.nan
    tried = np.stack([unfinished, L, negative, unknown])
    assert are_factors(kernels, tried, np.stack([H] * 4)).tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("l2", [0.1, 1e-6])
def test_a_tolerance_that_can_not_be_met_ends_soon(dtype: str, l2: float) -> None:
    """Whitened anew only while that gains something."""
    data = blobs(n=150, features=4, spread=1.5)
    problem, kernels = place(data.X_train, data.y_train, [l2], backend=numpy_backend(dtype))
    made = config(problem, kernels, tol=1e-300, max_iter=10_000)
    solver = Lbfgs(made, resolution=0.0, hessians=WAYS["whitened"])
    outcome = Stages(kernels, solver, Hooks()).train(problem, np.arange(1)).outcome
    assert outcome.reasons == ("precision",)
    assert outcome.steps[0] < 200
    np.testing.assert_allclose(
        probabilities(data.X_train, outcome.weights[0]),
        by_sklearn(data.X_train, data.y_train, l2).predict_proba(data.X_train),
        atol=1e-6 if dtype == "float64" else 1e-2,
    )


def test_whitening_saves_most_iterations_where_hardly_a_penalty_is_left() -> None:
    """Separable, and with so little penalty that some samples alone decide: L-BFGS crawls, and a few Hessians do."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:300, 1::4], y[:300]
    steps = {}
    for name, hessians in (("alone", WAYS["alone"]), ("whitened", Hessians(tiny_weights=0, fewest=30))):
        outcome, _ = solve(*place(X, y, [1e-6]), tol=1e-10, max_iter=5000, hessians=hessians)
        assert outcome.reasons == ("converged",)
        steps[name] = int(outcome.steps[0])
    assert steps["whitened"] < steps["alone"] / 3
