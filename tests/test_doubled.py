"""Two stretches of a fit, the second of some of its models, as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.config import FitConfig
from gpureg.history import History
from gpureg.solvers.lbfgs.certificate import shortfall
from gpureg.solvers.lbfgs.doubled import coarse, together
from gpureg.solvers.problem import Measured, Outcome
from gpureg.types import ModelTable, StopReason

CONFIG = FitConfig(solver="lbfgs", l2=(1.0, 0.5, 0.25), tol=1e-8)
OTHER = "Something else."


def table(L: int) -> ModelTable:
    return ModelTable.plain(np.array([1.0, 0.5, 0.25])[:L], np.zeros(L))


def ended(
    steps: list[int], reasons: list[StopReason], value: float, warnings: tuple[str, ...] = (), begun: int = 0
) -> tuple[Outcome, History]:
    """Models that all have these values everywhere, and rows from the iteration `begun` on."""
    L, rows = len(steps), max(steps) + 1
    certificates = tuple(
        {"objective": value, "gradient_norm": value, "gap_bound": 1e-3 * value, "converged": reason == "converged"}
        for reason in reasons
    )
    number = np.arange(rows)[:, None]
    course = np.where((number >= begun) & (number <= np.array(steps)), value, np.nan)
    last = np.where(number == np.array(steps), value, np.nan)
    measured = Measured(*(np.full(L, value) for _ in range(5)))
    own = table(L)
    history = History(np.zeros((0, L)), np.arange(rows), last, last, last, own.l2, own.lr, own.fold, own.seed)
    history = replace(history, objective=course, gap_bound=course, passes=np.array(steps) + 1)
    weights = np.full((L, 2, 1), np.nan if "diverged" in reasons else value)
    return Outcome(weights, np.array(steps), tuple(reasons), (None,) * L, measured, certificates, warnings), history


def test_only_models_that_are_short_and_have_iterations_left_go_on() -> None:
    outcome, _ = ended([5, 9, 4, 3], ["precision", "precision", "converged", "precision"], 1.0)
    weights = outcome.weights.copy()
    weights[3] = np.inf  # of a class that a fold lacks
    assert coarse(replace(outcome, weights=weights), max_iter=9).tolist() == [0]


def test_what_went_on_follows_what_was_before() -> None:
    first = ended([3, 2, 4], ["precision", "converged", "max_iter"], 1.0, ("told", OTHER))
    later = ended([6], ["converged"], 0.5, begun=3)
    outcome, history = together(CONFIG, table(3), first, [(np.array([0]), *later)])
    assert outcome.weights[:, 0, 0].tolist() == [0.5, 1.0, 1.0]
    assert outcome.reasons == ("converged", "converged", "max_iter")
    assert outcome.steps.tolist() == [6, 2, 4]
    assert outcome.measured.val_loss.tolist() == [0.5, 1.0, 1.0]
    assert [found["objective"] for found in outcome.certificates or ()] == [0.5, 1.0, 1.0]
    assert history.passes.tolist() == [11, 3, 5]
    assert history.eval_step.tolist() == list(range(7))
    np.testing.assert_array_equal(history.objective[:, 0], [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(history.val_loss[:, 0], [np.nan] * 6 + [0.5])
    np.testing.assert_array_equal(history.objective[:, 1], [1.0] * 3 + [np.nan] * 4)
    assert first[0].weights[0, 0, 0] == 1.0  # and is itself as it was


def test_the_warnings_are_about_all_models_and_said_once() -> None:
    first = ended([3, 2, 4], ["precision", "precision", "max_iter"], 1.0)
    told = shortfall(table(3), CONFIG, first[0].certificates or (), first[0].reasons)
    assert "3 of 3" in told[0]
    assert "float64" in told[0]
    first = replace(first[0], warnings=(*told, OTHER)), first[1]
    later = ended([6, 7], ["converged", "precision"], 0.5, (OTHER,), begun=2)
    outcome, _ = together(CONFIG, table(3), first, [(np.array([0, 1]), *later)])
    assert outcome.warnings[1:] == (OTHER,)
    assert "2 of 3" in outcome.warnings[0]
    assert "more iterations" in outcome.warnings[0]
    assert "float64" not in outcome.warnings[0]  # which was no help


def test_what_overflows_in_the_second_stretch_stays_as_it_was() -> None:
    first = ended([3, 2, 4], ["precision", "converged", "precision"], 1.0)
    lost, found = ended([5], ["diverged"], 2.0, begun=3), ended([6], ["converged"], 0.5, begun=4)
    outcome, history = together(CONFIG, table(3), first, [(np.array([0]), *lost), (np.array([2]), *found)])
    assert outcome.reasons == ("precision", "converged", "converged")
    assert outcome.weights[:, 0, 0].tolist() == [1.0, 1.0, 0.5]
    assert history.passes.tolist() == [4, 3, 12]
    assert "1 of 3" in outcome.warnings[0]
    assert "float64" in outcome.warnings[0]


def test_a_model_without_an_optimum_is_said_to_have_none_once() -> None:
    data = blobs(n=200, spread=0.2)
    data = replace(data, X_train=data.X_train * np.logspace(-3, 3, 6), X_val=data.X_val * np.logspace(-3, 3, 6))
    with pytest.warns(gpureg.GpuregWarning, match="there is no optimum"):
        result = gpureg.fit(data, solver="lbfgs", l2=[1e-8, 0.0], scale="none", device="cpu")
    assert result.models[0].stop_reason == "converged"
    assert sum("there is no optimum" in text for text in result.warnings) == 1
