"""The path: every λ from the optima before it, members side by side; what comes out is what single fits find."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import full_batch
import numpy as np
import pytest
from conftest import BackendFactory
from full_batch import WAYS, by_sklearn, config, objective, place, probabilities
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.events import Event, Iterated, ModelStopped, PathPoint
from gpureg.fitting.resume import Saved, unpack
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.certificate import aims
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.path.members import Members, block_of, secant
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import ModelTable

GRID = [1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-4]
SHUFFLED = [1e-2, 1.0, 1e-4, 0.1, 0.0, 1e-3, 0.3, 0.1, 1.0]


@pytest.fixture(params=WAYS)
def solve(request: pytest.FixtureRequest) -> Any:
    """The solver, each of its ways in turn."""
    return partial(full_batch.solve, hessians=WAYS[request.param])


def assert_same_optima(one: Outcome, other: Outcome, model: int, twin: int) -> None:
    """The objectives differ by no more than both certificates allow."""
    assert one.certificates is not None
    assert other.certificates is not None
    a, b = one.certificates[model], other.certificates[twin]
    assert abs(float(a["objective"]) - float(b["objective"])) <= float(a["gap_bound"]) + float(b["gap_bound"]) + 1e-15  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
def test_it_agrees_with_single_fits(any_backend: BackendFactory, task: str, free: bool) -> None:
    data = blobs(n=150, features=5, classes=3 if task == "softmax" else 2)
    X, y = data.X_train, data.y_train
    for way in ("alone", "whitened"):
        fit = partial(full_batch.solve, free=free, hessians=WAYS[way])
        path, _ = fit(*place(X, y, GRID, task, backend=any_backend("float64")))
        assert path.reasons == ("converged",) * len(GRID)
        for model, l2 in enumerate(GRID):
            single, _ = fit(*place(X, y, [l2], task, backend=numpy_backend("float64")))
            assert_same_optima(path, single, model, 0)
            if free:
                other = by_sklearn(X, 1 - y if task == "logistic" else y, l2).predict_proba(X)
                other = other[:, ::-1] if task == "logistic" else other
                np.testing.assert_allclose(probabilities(X, path.weights[model]), other, atol=1e-5)


def test_shuffled_grids_duplicates_and_no_penalty(solve: Any) -> None:
    """Models keep the order of the grid; equal λ are one model; λ = 0 comes last and has an optimum here."""
    data = blobs(n=300, features=3, spread=3.0)
    problem, kernels = place(data.X_train, data.y_train, SHUFFLED)
    events: list[Event] = []
    mixed, history = solve(problem, kernels, hooks=Hooks(events.append))
    falling, _ = solve(*place(data.X_train, data.y_train, sorted(set(SHUFFLED), reverse=True)))
    assert history.l2.tolist() == SHUFFLED
    for model, l2 in enumerate(SHUFFLED):
        twin = sorted(set(SHUFFLED), reverse=True).index(l2)
        np.testing.assert_allclose(mixed.weights[model], falling.weights[twin], atol=1e-12)
        assert mixed.steps[model] == falling.steps[twin]
    stops = [event.model for event in events if isinstance(event, ModelStopped)]
    assert sorted(stops) == list(range(len(SHUFFLED)))  # each told once, equal ones at the same time
    assert SHUFFLED[stops[-1]] == 0.0
    points = [event for event in events if isinstance(event, PathPoint)]
    assert [(event.done, event.points) for event in points] == [(k, 7) for k in (2, 4, 6, 7)]  # two at a time


def folds_of(n: int, folds: int) -> np.ndarray:
    """Row weights of so many folds, and of the refit behind them."""
    masks = [np.where(np.arange(n) % folds == fold, 0.0, 1.0) for fold in range(folds)]
    return np.stack([*masks, np.ones(n)], axis=1)


def with_folds(weights: np.ndarray, l2: np.ndarray) -> tuple[list[float], list[int]]:
    """Every λ for every column; a fold's are its own."""
    own = np.concatenate([l2 * (1 + 0.1 * column) for column in range(weights.shape[1])])
    return own.tolist(), np.repeat(np.arange(weights.shape[1]), len(l2)).tolist()


def test_members_side_by_side_are_separate_fits(solve: Any) -> None:
    data = blobs(n=150, features=4)
    weights = folds_of(150, 3)
    l2, column = with_folds(weights, np.array(GRID))
    together, _ = solve(*place(data.X_train, data.y_train, l2, weights=weights, column=column))
    for member in range(4):
        mine = np.flatnonzero(np.array(column) == member)
        alone, _ = solve(*place(data.X_train, data.y_train, [l2[m] for m in mine], weights=weights[:, member]))
        for place_, model in enumerate(mine.tolist()):
            assert_same_optima(together, alone, model, place_)


def test_members_wait_for_one_another() -> None:
    """No member begins a λ, or two in a narrow path, before all have finished the last."""
    data = blobs(n=150, features=4)
    weights = folds_of(150, 3)
    l2, column = with_folds(weights, np.array(GRID))
    problem, kernels = place(data.X_train, data.y_train, l2, weights=weights, column=column)
    events: list[Event] = []
    full_batch.solve(problem, kernels, hessians=WAYS["alone"], hooks=Hooks(events.append))
    block = block_of(problem.table, kernels.n_columns)
    assert block == 2
    index = np.tile(np.arange(len(GRID)) // block, 4)
    seen = [set(index[event.models].tolist()) for event in events if isinstance(event, Iterated)]
    assert all(len(found) == 1 for found in seen)
    assert [min(found) for found in seen] == sorted(min(found) for found in seen)


def test_a_path_takes_fewer_passes() -> None:
    data = blobs(n=400, features=12, spread=2.0)
    l2 = np.logspace(0, -4, 16)
    problem, kernels = place(data.X_train, data.y_train, l2.tolist())
    passes = 0
    for one in l2:
        descent = descent_of(replace(problem, table=ModelTable.plain(np.array([one]), np.ones(1))), kernels)
        passes += descent[1].evaluated.sum()
    _, state = descent_of(problem, kernels)
    assert state.run.evaluated.sum() < 0.7 * passes


def descent_of(problem: Problem, kernels: Kernels) -> tuple[Any, Any]:
    """A descent that has been brought to its end, and its state."""
    solver = Lbfgs(config(problem, kernels, tol=1e-8), hessians=WAYS["alone"], alone=False)
    descent = solver.on(problem, kernels)
    state = descent.start()
    while not descent.done(state):
        list(descent.advance(state))
    return descent, state


def test_the_secant_is_a_line_in_log_lambda() -> None:
    slope, at_one = np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])

    def optimum(l2: float) -> tuple[float, np.ndarray]:
        return l2, at_one + np.log(l2) * slope

    np.testing.assert_allclose(secant(1e-3, optimum(1e-1), optimum(0.7)), optimum(1e-3)[1], rtol=1e-12)
    np.testing.assert_array_equal(secant(0.0, optimum(1e-1), optimum(0.7)), optimum(1e-1)[1])
    np.testing.assert_array_equal(secant(1e-3, optimum(1e-1)), optimum(1e-1)[1])
    np.testing.assert_array_equal(secant(1e-3, optimum(1e-1), optimum(np.nextafter(1e-1, 1))), optimum(1e-1)[1])


def test_two_lambda_of_equal_logarithm_are_followed_by_others(solve: Any) -> None:
    """The line through their optima has no length."""
    data = blobs(n=150, features=4)
    l2 = [float(np.nextafter(0.1, 1)), 0.1, float(np.nextafter(0.1, 0)), 0.05]
    outcome, _ = solve(*place(data.X_train, data.y_train, l2))
    assert outcome.reasons == ("converged",) * 4
    single, _ = solve(*place(data.X_train, data.y_train, l2[3:]))
    np.testing.assert_allclose(outcome.weights[3], single.weights[0], atol=1e-3)


def test_a_secant_that_leads_astray_costs_a_pass_and_nothing_else(solve: Any) -> None:
    """Two λ that differ in the last digits make a secant of noise; the last optimum is known without a pass."""
    data = blobs(n=150, features=4)
    l2 = [1.0, 0.1, 0.1 * (1 - 1e-15), 1e-9]
    outcome, history = solve(*place(data.X_train, data.y_train, l2))
    assert outcome.reasons == ("converged",) * 4
    single, _ = solve(*place(data.X_train, data.y_train, [1e-9]))
    assert_same_optima(outcome, single, 3, 0)
    assert history.objective[0, 3] <= objective(data.X_train, data.y_train, outcome.weights[2], 1e-9, free=True) + 1e-12


def test_members_are_columns_and_points_are_ranks() -> None:
    table = ModelTable.plain(np.array([0.1, 1.0, 0.0, 0.1, 2.0, 0.5]), np.ones(6))
    members = Members.of(replace(table, column=np.array([0, 0, 0, 0, 1, 1])))
    assert members.unique.tolist() == [0, 1, 2, 4, 5]
    assert members.place.tolist() == [0, 1, 2, 0, 3, 4]
    assert [point.tolist() for point in members.points] == [[1, 3], [0, 4], [2]]
    assert members.before.tolist() == [[1, -1], [-1, -1], [0, 1], [-1, -1], [3, -1]]
    assert members.copies(0).tolist() == [0, 3]
    assert members.reached.tolist() == [0, 1, 2, 3]


def test_neighbours_of_a_narrow_path_are_solved_together() -> None:
    """Both of a block begin where the two before the block point; no penalty is a block of its own."""
    table = ModelTable.plain(np.array([0.0, 1.0, 8.0, 4.0, 2.0, 16.0]), np.ones(6))
    members = Members.of(table, block=2)
    assert [point.tolist() for point in members.points] == [[2, 5], [3, 4], [1], [0]]
    assert members.before.tolist() == [[1, 4], [4, 3], [-1, -1], [2, 5], [2, 5], [-1, -1]]
    assert members.reached.tolist() == [0, 2, 4, 5, 6]
    assert [models.tolist() for models in members.by_rank(0)] == [[5], [2]]
    assert [block_of(table, K) for K in (1, 10, 15, 30, 100)] == [2, 2, 2, 1, 1]
    assert block_of(replace(table, column=np.arange(6) % 3), 10) == 1


@pytest.mark.parametrize("way", ["alone", "whitened", "newton"])
def test_interrupted_after_any_pass_and_resumed(any_backend: BackendFactory, way: str) -> None:
    """Bit for bit, also where the variables are made anew on the way."""
    data = blobs(n=90, features=4)
    weights = folds_of(90, 2)
    l2, column = with_folds(weights, np.array(GRID[1:]))
    problem, kernels = place(
        data.X_train, data.y_train, l2, weights=weights, column=column, backend=any_backend("float64")
    )
    resumes_bit_for_bit(problem, kernels, Lbfgs(config(problem, kernels, tol=1e-9), hessians=WAYS[way]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interrupted_and_resumed_with_logits_that_are_kept(dtype: str) -> None:
    data = blobs(n=300, features=40)
    problem, kernels = place(data.X_train, data.y_train, np.logspace(0, -3, 24), backend=numpy_backend(dtype))
    solver = Lbfgs(config(problem, kernels, tol=0.1), hessians=WAYS["alone"])
    descent = solver.on(problem, kernels)
    state = descent.start()
    looks = 0
    while not descent.done(state):
        list(descent.advance(state))
        looks += sum(line.base is not line.tip for line in state.run.logits.values())
    assert looks > 0  # models were done with at a look from logits
    resumes_bit_for_bit(problem, kernels, solver)


def resumes_bit_for_bit(problem: Problem, kernels: Kernels, solver: Lbfgs) -> None:
    """Whatever the pass after which it was interrupted."""
    l2 = problem.table.l2

    def run(passes: int | None, saved: Saved | None = None) -> tuple[Any, Memory]:
        keeper, seen = Memory(), []
        hooks = Hooks(
            lambda event: seen.append(event) if isinstance(event, Iterated) else None,
            lambda: passes is not None and len(seen) >= passes,
            keeper,
        )
        trained = Stages(kernels, solver, hooks, dict, saved).train(problem, np.arange(len(l2)))
        return trained, keeper

    expected, keeper = run(None)
    total = keeper.kept
    pieces = 12 if kernels.backend.name == "numpy" else 3
    for passes in range(0, total, max(1, total // pieces)):
        _, keeper = run(passes)
        found, _ = run(None, keeper.saved)
        assert found.outcome.weights.tobytes() == expected.outcome.weights.tobytes(), passes
        assert repr(found.outcome.certificates) == repr(expected.outcome.certificates)
        assert found.outcome.steps.tolist() == expected.outcome.steps.tolist()
        assert found.history.objective.tobytes() == expected.history.objective.tobytes()


class Memory:
    """A keeper that always asks for a checkpoint and keeps the last."""

    def __init__(self) -> None:
        self.kept = 0

    def due(self) -> bool:
        return True

    def write(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.kept += 1
        self.last = (
            {name: np.array(array) for name, array in arrays.items()},
            meta
            | {"format": 2, "gpureg": "", "config": {}, "data_sha256": "", "device": "", "threads": 1, "seconds": 0.0},
        )

    @property
    def saved(self) -> Saved:
        return unpack(*self.last)


def test_larger_lambda_go_further_than_the_tolerance() -> None:
    table = ModelTable.plain(np.array([1e-6, 1e-3, 1e-1, 1e4, 0.0, 1.0]), np.ones(6))
    table = replace(table, fold=np.array([-1, -1, -1, -1, -1, 0]))
    loose = np.full(6, 1e-2)
    np.testing.assert_allclose(aims(table, loose), [1e-2, 1e-4, 1e-5, 1e-5, 1e-2, 1e-2])
    np.testing.assert_allclose(aims(table, 1e-3 * loose), [1e-5, 1e-6, 1e-6, 1e-6, 1e-5, 1e-5])
    fine = np.full(6, 1e-8)
    np.testing.assert_array_equal(aims(table, fine), fine)
    without = ModelTable.plain(np.zeros(2), np.ones(2))
    np.testing.assert_array_equal(aims(without, loose[:2]), loose[:2])


def test_a_path_of_a_loose_tolerance_ends_as_near_as_it_aims() -> None:
    data = blobs(n=150, features=5, classes=3)
    path, _ = full_batch.solve(*place(data.X_train, data.y_train, GRID), tol=1e-2)
    single, _ = full_batch.solve(*place(data.X_train, data.y_train, GRID[:1]), tol=1e-2)
    assert path.certificates is not None
    assert single.certificates is not None
    assert [found["converged"] for found in path.certificates] == [True] * len(GRID)
    bounds = [float(found["gap_bound"] or 0.0) for found in path.certificates]
    assert all(bound <= 1e-2 * max(1e-3, (GRID[-1] / l2) ** (2 / 3)) for bound, l2 in zip(bounds, GRID, strict=True))
    assert bounds[0] < float(single.certificates[0]["gap_bound"] or 0.0)  # which stops at the tolerance itself
