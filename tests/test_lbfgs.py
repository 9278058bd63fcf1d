"""The full-batch solver: the optimum, a model in a batch as alone, folds, weights, stops."""

from __future__ import annotations

from functools import partial
from itertools import count, pairwise
from typing import Any

import full_batch
import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import WAYS, by_sklearn, config, objective, place, probabilities
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.events import Event, Iterated, ModelStopped
from gpureg.fitting.stages import Hooks, Stages
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import measure_final


@pytest.fixture(params=WAYS)
def solve(request: pytest.FixtureRequest) -> Any:
    """The solver, each of its ways in turn."""
    return partial(full_batch.solve, hessians=WAYS[request.param])


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
def test_it_reaches_the_optimum(solve: Any, any_backend: BackendFactory, task: str, free: bool) -> None:
    data = blobs(n=120, features=4, classes=3 if task == "softmax" else 2)
    X, y = data.X_train, data.y_train
    l2 = [1.0, 1e-2, 1e-4]
    outcome, history = solve(*place(X, y, l2, task, backend=any_backend("float64")), free=free)
    assert outcome.reasons == ("converged",) * 3
    assert outcome.warnings == ()
    assert outcome.certificates is not None
    for model, value in enumerate(l2):
        W, certificate = outcome.weights[model], outcome.certificates[model]
        found = objective(X, y, W, value, free=free)
        assert certificate["objective"] == pytest.approx(found, rel=1e-12)
        assert certificate["converged"] is True
        assert 0 <= certificate["gap_bound"] <= 1e-12  # type: ignore[operator]
        for seed in range(3):  # nothing near it is better
            near = W + 1e-3 * np.random.default_rng(seed).normal(size=W.shape)
            assert objective(X, y, near, value, free=free) > found
        if free:
            other = by_sklearn(X, 1 - y if task == "logistic" else y, value).predict_proba(X)
            other = other[:, ::-1] if task == "logistic" else other
            np.testing.assert_allclose(probabilities(X, W), other, atol=1e-6)
    chance = np.log(3) if task == "softmax" else np.log(2)
    first = 2  # λ that begin together, at 0
    np.testing.assert_allclose(history.objective[0, :first], chance, rtol=1e-6)
    assert (history.objective[0, first:] < chance).all()  # the others ahead


@pytest.mark.parametrize("free", [True, False])
def test_the_history_is_each_model_s_own_course(solve: Any, free: bool) -> None:
    data = blobs(n=120, features=4)
    outcome, history = solve(*place(data.X_train, data.y_train, [1.0, 1e-2, 1e-5, 0.0]), free=free)
    last, models = outcome.steps, range(4)
    assert len(set(last.tolist())) > 1
    assert history.step_loss.shape == (0, 4)
    assert history.eval_step.tolist() == list(range(last.max() + 1))
    assert history.full_batch
    for name in ("objective", "gap_bound", "val_loss", "val_accuracy", "train_accuracy"):
        assert getattr(history, name).shape == (last.max() + 1, 4), name
    for model in models:
        objective, rows = history.objective[:, model], int(last[model]) + 1
        assert np.isfinite(objective[:rows]).all()
        assert np.isnan(objective[rows:]).all()
        assert (np.diff(objective[:rows]) <= 1e-13).all()
        certificate = outcome.certificates[model]
        assert objective[rows - 1] == certificate["objective"]
        assert np.flatnonzero(np.isfinite(history.train_accuracy[:, model])).tolist() == [rows - 1]
        assert history.train_accuracy[rows - 1, model] == outcome.measured.train_accuracy[model]
        bound = history.gap_bound[:, model]
        if model == 3:  # without a penalty there is none
            assert np.isnan(bound).all()
        else:
            assert np.isfinite(bound[:rows]).all()
            assert bound[rows - 1] == certificate["gap_bound"]
            if not free:
                assert (bound[:rows] >= objective[:rows] - objective[rows - 1] - 1e-13).all()


def test_a_model_of_a_batch_is_the_model_alone(solve: Any) -> None:
    data = blobs(n=150, features=5)
    l2 = [1.0, 1e-1, 1e-3, 1e-5]
    ones = np.ones((150, 4))  # members of their own, each with one λ: they share passes and nothing else
    together, course = solve(*place(data.X_train, data.y_train, l2, weights=ones, column=[0, 1, 2, 3]))
    for model, value in enumerate(l2):
        alone, own = solve(*place(data.X_train, data.y_train, [value]))
        # products of another width round otherwise, which may decide on the last iteration
        assert abs(int(alone.steps[0]) - int(together.steps[model])) <= 1
        rows = min(int(alone.steps[0]), int(together.steps[model]))
        np.testing.assert_allclose(course.objective[: rows + 1, model], own.objective[: rows + 1, 0], rtol=1e-12)
        np.testing.assert_allclose(together.weights[model], alone.weights[0], atol=1e-7)


def test_folds_and_lambdas_are_one_batch(solve: Any) -> None:
    """A column of row weights with zeros is a fit to the other rows: its own λ, its own stop."""
    data = blobs(n=120, features=4)
    X, y = data.X_train, data.y_train
    table = np.stack([np.where(np.arange(120) % 3 == fold, 0.0, 1.0) for fold in range(3)], axis=1)
    l2 = [0.1, 0.1, 0.1, 1e-3, 1e-3, 1e-3]
    outcome, _ = solve(*place(X, y, l2, weights=table, column=[0, 1, 2, 0, 1, 2]))
    for model, value in enumerate(l2):
        kept = table[:, model % 3] > 0
        np.testing.assert_allclose(
            probabilities(X, outcome.weights[model]), by_sklearn(X[kept], y[kept], value).predict_proba(X), atol=1e-6
        )


@pytest.mark.parametrize("free", [True, False])
def test_a_weight_of_3_is_the_sample_three_times(solve: Any, free: bool) -> None:
    data = blobs(n=60, features=4)
    times = np.arange(60) % 4
    X, y = data.X_train, data.y_train
    one, course = solve(*place(X, y, [1e-2, 1e-4], weights=times.astype(float)), free=free)
    two, again = solve(*place(np.repeat(X, times, axis=0), np.repeat(y, times), [1e-2, 1e-4]), free=free)
    assert one.steps.tolist() == two.steps.tolist()
    np.testing.assert_allclose(course.objective, again.objective, rtol=1e-8)
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-6)


def test_a_common_factor_of_the_weights_changes_nothing(solve: Any) -> None:
    data = blobs(n=60, features=4)
    weights = np.random.default_rng(0).uniform(0, 1, 60)
    one, _ = solve(*place(data.X_train, data.y_train, [1e-2], weights=weights))
    two, _ = solve(*place(data.X_train, data.y_train, [1e-2], weights=8 * weights))
    np.testing.assert_array_equal(one.weights, two.weights)


def test_permuting_classes_permutes_columns(solve: Any) -> None:
    data = blobs(n=90, features=4)
    order = np.array([2, 0, 1])
    one, _ = solve(*place(data.X_train, data.y_train, [1e-2]))
    two, _ = solve(*place(data.X_train, order[data.y_train], [1e-2]))
    np.testing.assert_allclose(two.weights[0][:, order], one.weights[0], atol=1e-5)


def test_class_sums_are_zero(solve: Any) -> None:
    """Equal shifts of all classes are what the data say nothing about; float32's noise must not drift along them."""
    data = blobs(n=200, features=6)
    for l2 in (0.0, 1e-3):
        outcome, _ = solve(
            *place(data.X_train, data.y_train, [l2], backend=numpy_backend("float32")), tol=1e-8, max_iter=100
        )
        assert np.abs(outcome.weights[0].sum(axis=1)).max() < 1e-3
        assert (outcome.weights**2).sum() < 1e3


def test_a_warm_start_begins_where_it_is_told_to(solve: Any) -> None:
    data = blobs(n=120, features=4)
    problem, kernels = place(data.X_train, data.y_train, [1e-2, 1e-4])
    first, _ = solve(problem, kernels)
    again, _ = solve(problem, kernels, start=first.weights, tol=1e-10)
    assert again.steps.max() <= 1
    np.testing.assert_allclose(again.weights, first.weights, atol=1e-5)
    shifted = first.weights + 5.0  # a sum over the classes that is not 0: the penalty has to bring it back
    back, _ = solve(problem, kernels, start=shifted)
    np.testing.assert_allclose(
        probabilities(data.X_train, back.weights[0]), probabilities(data.X_train, first.weights[0]), atol=1e-6
    )


def test_it_says_what_it_does(solve: Any) -> None:
    data = blobs(n=100, features=4)
    problem, kernels = place(data.X_train, data.y_train, [1.0, 1e-3])
    events: list[Event] = []
    outcome, _ = solve(problem, kernels, hooks=Hooks(events.append))
    passes = [event for event in events if isinstance(event, Iterated)]
    assert [event.iteration for event in passes] == sorted(event.iteration for event in passes)
    for model in range(2):
        seen = [event.objective[event.models == model][0] for event in passes if model in event.models]
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(seen))
    stops = {event.model: event for event in events if isinstance(event, ModelStopped)}
    assert {model: stop.steps for model, stop in stops.items()} == dict(enumerate(outcome.steps.tolist()))
    assert {stop.reason for stop in stops.values()} == {"converged"}
    last = max(event.iteration for event in passes if 0 in event.models)
    assert last < passes[-1].iteration  # a converged model leaves the product


def test_an_interruption_keeps_what_there_is(solve: Any) -> None:
    data = blobs(n=200, features=6, spread=0.5)
    problem, kernels = place(data.X_train, data.y_train, [10.0, 1e-8])
    asked = count()
    outcome, history = solve(problem, kernels, hooks=Hooks(should_stop=lambda: next(asked) >= 7))
    assert outcome.reasons == ("converged", "interrupted")
    assert np.isfinite(outcome.weights).all()
    assert history.objective.shape[0] - 1 == outcome.steps.max() <= 7
    assert outcome.certificates is not None
    assert outcome.certificates[1]["converged"] is False
    assert objective(data.X_train, data.y_train, outcome.weights[1], 1e-8, free=True) < np.log(3)


def test_a_limit_is_a_limit_and_is_told(solve: Any) -> None:
    data = blobs(n=200, features=6)
    outcome, _ = solve(*place(data.X_train, data.y_train, [1e-5]), max_iter=2)
    assert outcome.reasons == ("max_iter",)
    assert outcome.steps.tolist() == [2]
    assert "tolerance" in outcome.warnings[0]
    assert "max_iter" in outcome.warnings[0]


def test_a_target_ends_a_model() -> None:
    data = blobs(n=200, features=6)
    problem, kernels = place(data.X_train, data.y_train, [1e-4, 1e-4], weights=np.ones((200, 2)), column=[0, 1])
    solver = Lbfgs(config(problem, kernels), target=np.array([0.9, -1.0]))
    steps = Stages(kernels, solver, Hooks()).train(problem, np.arange(2)).outcome.steps
    assert steps[0] < steps[1]


def test_float32_goes_as_far_as_it_can(solve: Any) -> None:
    """It stops by itself, and its objective is the optimum to float32's digits."""
    data = blobs(n=400, features=8)
    l2 = [1e-1, 1e-4, 1e-7]
    best, _ = solve(*place(data.X_train, data.y_train, l2))
    outcome, _ = solve(*place(data.X_train, data.y_train, l2, backend=numpy_backend("float32")), tol=1e-8)
    assert outcome.steps.max() < 400
    for model, value in enumerate(l2):
        one, two = (
            objective(data.X_train, data.y_train, found.weights[model], value, free=True) for found in (best, outcome)
        )
        assert two - one < 1e-6
        assert outcome.certificates is not None
        assert outcome.certificates[model]["gap_bound"] >= 0  # type: ignore[operator]


def test_a_certificate_is_never_below_the_gap(solve: Any) -> None:
    """Also where the iterations were cut off far from the optimum."""
    data = blobs(n=150, features=5)
    l2 = [1e-1, 1e-3]
    best, _ = solve(*place(data.X_train, data.y_train, l2))
    for limit in (1, 2, 4, 8):
        outcome, _ = solve(*place(data.X_train, data.y_train, l2), max_iter=limit)
        assert outcome.certificates is not None
        for model, value in enumerate(l2):
            gap = objective(data.X_train, data.y_train, outcome.weights[model], value, free=True) - objective(
                data.X_train, data.y_train, best.weights[model], value, free=True
            )
            assert gap <= outcome.certificates[model]["gap_bound"] + 1e-13  # type: ignore[operator]


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_losses_and_accuracies_of_the_last_pass_are_those_of_the_final_weights(task: str) -> None:
    data = blobs(n=200, features=4, classes=2 if task == "logistic" else 3)
    problem, kernels = place(data.X_train, data.y_train, [1e-2, 1.0, 1e-3], task)
    outcome, _ = full_batch.solve(problem, kernels, tol=1e-6)
    again = measure_final(kernels, problem, outcome.weights)
    np.testing.assert_allclose(outcome.measured.train_loss, again.train_loss, rtol=1e-13)
    np.testing.assert_array_equal(outcome.measured.train_accuracy, again.train_accuracy)
