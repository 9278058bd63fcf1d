"""One model alone: its own loop ends at the batched solver's optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from full_batch import config, place, probabilities, solve
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.fitting.memory import Sizes, needed
from gpureg.solvers.lbfgs.single import SingleDescent, near_bytes
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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("l2", [1e-3, 1e-8])
def test_samples_in_float32_have_the_loop_of_those_in_float64(l2: float, task: str, free: bool, weighted: bool) -> None:
    """So they reach what gradients in float32 are too coarse for, in the same iterations, and need no finishing."""
    data = blobs(n=200, features=5, classes=3 if task == "softmax" else 2)
    X = (data.X_train * np.logspace(-3, 3, 5)).astype(np.float32)
    weight = np.tile([0.5, 1.5], len(X) // 2)[:, None] if weighted else None
    found = []
    for dtype in ("float32", "float64"):
        backend = numpy_backend(dtype)
        problem, kernels = place(X, data.y_train, [l2], task, backend=backend, weights=weight)
        found.append(solve(problem, kernels, alone=True, tol=1e-8, free=free))
    (mine, history), (exact, course) = found
    assert mine.reasons == exact.reasons == ("converged",)
    assert mine.steps[0] <= exact.steps[0]  # to the resolution of float32, if that is more than the tolerance
    steps = int(mine.steps[0])
    np.testing.assert_array_equal(history.objective[1:steps], course.objective[1:steps])
    own, least = mine.certificates[0], exact.certificates[0]
    rounded = max(1e-8, 1.2e-7 * float(least["objective"]))  # type: ignore[arg-type]
    assert own["gap_bound"] <= rounded  # type: ignore[operator]
    assert abs(own["objective"] - least["objective"]) <= rounded  # type: ignore[operator]
    np.testing.assert_allclose(probabilities(X, mine.weights[0]), probabilities(X, exact.weights[0]), atol=2e-3)


def test_many_samples_in_float32_and_those_without_such_a_loop_go_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = blobs(n=200, features=5)
    passes = {}
    for kind in ("alone", "reference", "many"):
        if kind == "many":
            monkeypatch.setattr("gpureg.solvers.lbfgs.single.MOST_WIDENED", 599)
        kernels = "reference" if kind == "reference" else "auto"
        passes[kind] = gpureg.fit(data, solver="lbfgs", l2=1e-3, kernels=kernels).history.passes[0]
    assert passes["alone"] != passes["many"] == passes["reference"]


def test_a_batch_and_a_large_model_go_another_way() -> None:
    data = blobs(n=100)
    problem, kernels = place(data.X_train, data.y_train, [0.1])
    two, _ = place(data.X_train, data.y_train, [0.1, 0.2])
    solver = Lbfgs(config(problem, kernels))
    assert type(solver.on(problem, kernels)) is SingleDescent
    assert type(solver.on(two, kernels)) is PathDescent


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_only_samples_that_are_held_as_a_matrix_are_copied_for_the_loop(dtype: str) -> None:
    """What sparse samples and the blocks of streamed ones take has no such part."""
    data = blobs(n=200, features=5)
    problem, kernels = place(data.X_train, data.y_train, [1e-3], backend=numpy_backend(dtype))
    solver, held = Lbfgs(replace(config(problem, kernels), dtype=dtype)), Sizes(1, 200, 0, 6, measured=1)
    copied = near_bytes(200, 6, kernels.n_columns, dtype)
    work = [needed(solver, kernels, sizes, 1, 1 << 30)[1] for sizes in (held, replace(held, row_bytes=24))]
    assert work[0] - work[1] == copied
    assert needed(solver, kernels, replace(held, streamed=1 << 14), 1, 1 << 30)[1] < copied
