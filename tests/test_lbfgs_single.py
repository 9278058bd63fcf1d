"""One model alone: its own loop ends at the batched solver's optimum."""

from __future__ import annotations

import numpy as np
import pytest
from full_batch import config, place, probabilities, solve
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.solvers.lbfgs.single import SingleDescent
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.path.descent import PathDescent
from gpureg.types import Floats


def both(l2: float, task: str = "softmax", **options: object) -> tuple[list[object], Floats]:
    """The outcomes of its own loop and of the batched solver, and the rows."""
    data = blobs(n=200, features=5, classes=3 if task == "softmax" else 2)
    found = []
    for alone in (True, False):
        problem, kernels = place(data.X_train * np.logspace(-3, 3, 5), data.y_train, [l2], task)
        found.append(solve(problem, kernels, alone=alone, **options))  # type: ignore[arg-type]
    return found, data.X_train * np.logspace(-3, 3, 5)


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("l2", [10.0, 1e-2, 1e-6])
def test_it_is_the_batched_solvers_optimum(task: str, free: bool, l2: float) -> None:
    ((single, history), (batched, _)), X = both(l2, task, free=free)  # type: ignore[misc]
    assert single.reasons == ("converged",)
    mine, theirs = single.certificates[0], batched.certificates[0]
    assert mine["converged"] is True
    assert abs(mine["objective"] - theirs["objective"]) <= mine["gap_bound"] + theirs["gap_bound"] + 1e-15
    np.testing.assert_allclose(probabilities(X, single.weights[0]), probabilities(X, batched.weights[0]), atol=1e-5)
    steps = int(single.steps[0])
    assert history.objective.shape == (steps + 1, 1)
    assert np.isfinite(history.objective[1:]).all()
    assert (np.diff(history.objective[1:, 0]) <= 1e-15).all()


def test_separable_rows_without_a_penalty_go_on_to_the_batched_solver() -> None:
    X, y = np.linspace(-1, 1, 20)[:, None], np.repeat([0, 1], 10)
    problem, kernels = place(X, y, [0.0], "logistic")
    outcome, _ = solve(problem, kernels, alone=True, max_iter=200)
    assert any("separate" in text for text in outcome.warnings)


def test_rows_that_overflow_diverge() -> None:
    X = np.full((20, 2), 1e300)
    X[::2] *= -1
    problem, kernels = place(X, np.arange(20) % 2, [1.0])
    outcome, _ = solve(problem, kernels, alone=True)
    assert outcome.reasons == ("diverged",)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("shape", [(49, 7), (29, 41), (51, 51), (54, 32)])
@pytest.mark.parametrize("size", [1e160, 1e250])
def test_features_too_large_to_square_are_refused_without_a_warning(
    shape: tuple[int, int], free: bool, size: float
) -> None:
    """Whichever way is taken: Newton's method, the span of few rows, second moments; alone and along a path."""
    X = np.random.default_rng(0).normal(size=shape)
    X[1] *= size
    y = np.arange(len(X)) % 2
    for estimator in (
        gpureg.LogisticRegression(C=1e3, fit_intercept=free),
        gpureg.LogisticRegressionCV(Cs=[0.1, 10.0, 1e4], cv=3, fit_intercept=free),
    ):
        with pytest.raises(gpureg.UsageError, match="too large to square"):
            estimator.fit(X, y)


def test_iterations_are_bounded() -> None:
    ((single, history), _), _ = both(1e-6, max_iter=3)  # type: ignore[misc]
    assert single.steps[0] == 3
    assert single.reasons == ("max_iter",)
    assert len(history.objective) == 4


def test_single_precision_goes_on_where_its_loop_gives_up() -> None:
    data = blobs(n=200, features=5)
    problem, kernels = place(data.X_train, data.y_train, [1e-4], backend=numpy_backend("float32"))
    outcome, _ = solve(problem, kernels, alone=True, tol=1e-8)
    assert outcome.reasons == ("converged",)


def test_a_batch_and_a_large_model_go_another_way() -> None:
    data = blobs(n=100)
    problem, kernels = place(data.X_train, data.y_train, [0.1])
    two, _ = place(data.X_train, data.y_train, [0.1, 0.2])
    solver = Lbfgs(config(problem, kernels))
    assert type(solver.on(problem, kernels)) is SingleDescent
    assert type(solver.on(two, kernels)) is PathDescent
