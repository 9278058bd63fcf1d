"""What stands on the screen: tables that are shown whole, and the states of the models while they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke
from gpureg_cli.progress import observer
from gpureg_cli.sparkline import BLOCKS
from gpureg_cli.states import ModelStates
from gpureg_cli.summary import course, number, stopped
from gpureg_cli.tables import Column, distinct, table
from rich.console import Console
from synthetic_runs import synthetic_result

from gpureg.events import EpochEnded, Evaluated, Iterated, ModelStopped, PathPoint, Started
from gpureg.types import ModelTable


def started(l2: list[float], ids: list[int] | None = None, epoch: int = 0) -> Started:
    models = np.arange(len(l2)) if ids is None else np.array(ids)
    return Started(ModelTable.plain(np.array(l2), np.full(len(l2), 0.1)), models, 10, 50, epoch)


def evaluated(losses: list[float]) -> Evaluated:
    values = np.array(losses)
    return Evaluated(3, np.arange(len(losses)), values, 1 - values, values)


COLUMNS = [
    Column("λ", ["2", "1e-06"]),
    Column("val\nloss", ["0.1234", "12.5000"]),
    Column("train\naccuracy", ["0.9", "0.8"], drop=1),
    Column("Σ w²", ["1.0", "20.25"], drop=2),
]


def test_a_table_is_spaced_where_there_is_room() -> None:
    assert str(table(COLUMNS, 80)) == (
        "            val      train       \n".replace("       \n", "\n")
        + "    λ      loss   accuracy    Σ w²\n"
        + "─" * 34
        + "\n    2    0.1234        0.9     1.0\n1e-06   12.5000        0.8   20.25"
    )


@pytest.mark.parametrize("width", range(5, 60))
def test_a_table_never_cuts_a_cell(width: int) -> None:
    lines = str(table(COLUMNS, width)).splitlines()
    if width >= 13:  # what the two columns need that are never left out
        assert max(map(len, lines)) <= width
    for value in ("1e-06", "12.5000"):
        assert value in lines[-1]
    assert ("Σ w²" in lines[1]) == (width >= 28)
    assert ("accuracy" in lines[1]) == (width >= 22)


def test_numbers_have_the_digits_that_tell_them_apart() -> None:
    assert distinct([0.1, 0.02]) == ["0.1", "0.02"]
    assert distinct([0.100001, 0.1]) == ["0.100001", "0.1"]
    assert distinct([1 / 3, 1 / 3]) == ["0.3333", "0.3333"]


@pytest.mark.parametrize(
    ("score", "best"), [("loss", 1), ("accuracy", 0), ("balanced-accuracy", None), ("roc-auc", None)]
)
def test_the_best_is_that_of_the_score(score: str, best: int | None) -> None:
    states = ModelStates(3, 1, score)
    states.see(started([2.0, 0.2, 0.0]))
    values = np.array([0.9, 0.5, 0.6])
    states.see(Evaluated(3, np.arange(3), values, values, values))
    assert states.best() == best
    starred = ["★" in line for line in str(states.picture(80)).splitlines()]
    assert starred == [group == best for group in range(3)]


def test_states_of_few_models() -> None:
    states = ModelStates(3, 1)
    states.see(started([2.0, 0.2, 0.0]))
    states.see(evaluated([0.9, 0.5, 0.4]))
    states.see(ModelStopped(0, 31, 3, "patience"))
    states.see(ModelStopped(1, 31, 3, "diverged"))
    states.see(EpochEnded(3, np.array([2]), np.array([0.33])))
    assert states.best() == 2
    assert states.losses() == ["best λ = 0: train loss 0.3300", "val loss 0.4000", "accuracy 0.6000"]
    assert states.counts() == "1 running, 1 stopped, 1 diverged"
    first, second, third = str(states.picture(80)).splitlines()
    assert first.endswith("val loss 0.9000  accuracy 0.1000  stopped in epoch 3")
    assert second.endswith("diverged")
    assert third.strip().startswith("★ λ = 0 ")


def test_folds_share_the_line_of_their_λ() -> None:
    states = ModelStates(6, 3)
    states.see(started([0.5] * 3 + [0.1] * 3))
    states.see(evaluated([0.5, 0.6, 0.7, 0.4, 0.4, 0.4]))
    states.see(ModelStopped(1, 9, 0, "patience"))
    first, second = str(states.picture(80)).splitlines()
    assert "λ = 0.5  val loss 0.6000  accuracy 0.4000  2 of 3 running" in first
    assert "★ λ = 0.1  val loss 0.4000" in second
    states.see(started([0.1], [-1]))
    assert states.title() == "refit, λ = 0.1"
    states.see(evaluated([0.3]))
    assert states.losses() == ["val loss 0.3000", "accuracy 0.7000"]
    assert states.counts() == "5 running, 1 stopped"


def test_a_long_grid_is_a_strip_that_wraps() -> None:
    states = ModelStates(100, 1)
    states.see(started(np.geomspace(10, 1e-6, 40).tolist(), list(range(40))))
    assert states.title() == "models 1-40 of 100"
    states.see(ModelStopped(0, 9, 1, "max_epochs"))
    states.see(ModelStopped(1, 9, 1, "diverged"))
    states.see(evaluated([0.5 - 0.01 * model for model in range(40)]))
    lines = str(states.picture(44)).split("\n")
    assert len(lines) == 1 + 3
    assert lines[1] == "    ■✗" + "·" * 37 + "★"
    assert states.counts() == "38 running, 1 stopped, 1 diverged, 60 waiting"


@pytest.mark.parametrize("width", [40, 60, 100])
def test_bars_fit_the_terminal(width: int) -> None:
    console = Console(force_terminal=True, width=width, height=40, color_system=None, record=True)
    shown = observer(console, 4, members=1)
    with shown:
        shown.see(started([2.0, 0.2, 0.02, 0.002], epoch=7))
        shown.see(evaluated([0.4, 0.3, 0.2, 0.1]))
        shown.see(EpochEnded(7, np.arange(4), np.full(4, 0.25)))
        shown.say("a word")
        picture = console.render_lines(shown._picture(), pad=False)
    lines = ["".join(segment.text for segment in line) for line in picture]
    assert max(map(len, lines)) <= width
    assert "epoch 8/50" in lines[0]
    assert any("best λ = 0.002: train loss 0.2500" in line for line in lines)
    assert "a word" in console.export_text()


def test_a_resumed_bar_begins_where_the_run_stood() -> None:
    console = Console(force_terminal=True, width=80, color_system=None)
    shown = observer(console, 1)
    with shown:
        shown.see(started([0.1], epoch=25))
        assert shown.bar.tasks[0].completed == 25


def full_batch_started(l2: list[float]) -> Started:
    models = np.arange(len(l2))
    return Started(ModelTable.plain(np.array(l2), np.full(len(l2), 0.1)), models, 0, 1000)


def test_a_full_batch_fit_is_counted_in_models_and_never_to_its_limit() -> None:
    console = Console(force_terminal=True, width=80, height=40, color_system=None)
    shown = observer(console, 3)
    with shown:
        shown.see(full_batch_started([1.0, 0.1, 0.0]))
        shown.see(Iterated(4, np.arange(3), np.array([2.0, 1.0, 0.5])))
        assert shown.bar.tasks[0].total == 3
        shown.see(ModelStopped(0, 4, 0, "converged"))
        shown.see(ModelStopped(2, 5, 0, "max_epochs"))
        shown.see(Iterated(5, np.array([1]), np.array([0.9])))
        assert shown.bar.tasks[0].completed == 2
        lines = [
            "".join(segment.text for segment in line) for line in console.render_lines(shown._picture(), pad=False)
        ]
    assert "pass 5" in lines[0]
    assert not any("1000" in line or "1,000" in line for line in lines)
    assert "passes/s" in lines[1]
    assert [line.strip() for line in lines[2:]] == [
        "λ = 1    objective 2.0000  converged after 4 iterations",
        "λ = 0.1  objective 0.9000  running",
        "λ = 0    objective 0.5000  stopped after 5 iterations",
        "1 running, 2 stopped",
    ]


def test_a_path_is_counted_in_its_lambdas() -> None:
    console = Console(force_terminal=True, width=80, height=40, color_system=None)
    shown = observer(console, 3)
    with shown:
        shown.see(full_batch_started([1.0, 0.1, 0.0]))
        shown.see(Iterated(4, np.array([0]), np.array([2.0])))
        shown.see(PathPoint(2, 3))
        assert (shown.bar.tasks[0].completed, shown.bar.tasks[0].total) == (2, 3)
        assert shown.bar.tasks[0].fields["where"] == "pass 4, λ 2/3"


def test_models_that_go_on_in_float64_are_said_to() -> None:
    """In a bar of their own, which counts them and no others."""
    console = Console(force_terminal=True, width=80, height=40, color_system=None)
    shown = observer(console, 3)
    table = ModelTable.plain(np.array([0.1, 0.0]), np.full(2, 0.1))
    with shown:
        shown.see(full_batch_started([1.0, 0.1, 0.0]))
        for model, reason in enumerate(("converged", "precision", "precision")):
            shown.see(ModelStopped(model, 9, 0, reason))
        shown.see(Started(table, np.array([1, 2]), 0, 1000, 12, True))
        shown.see(Iterated(13, np.array([0, 1]), np.array([0.25, 0.75])))
        assert len(shown.bar.tasks) == 1
        assert shown.bar.tasks[0].description == "finishing 2 models in float64"
        assert (shown.bar.tasks[0].completed, shown.bar.tasks[0].total) == (0, 2)
        assert shown.bar.tasks[0].fields["where"] == "pass 13"
        shown.see(ModelStopped(0, 11, 0, "converged"))
        shown.see(Iterated(14, np.array([1]), np.array([0.5])))
        assert shown.bar.tasks[0].completed == 1
        lines = [
            "".join(segment.text for segment in line) for line in console.render_lines(shown._picture(), pad=False)
        ]
    assert [line.strip() for line in lines[2:]] == [
        "λ = 1    objective    -    converged after 9 iterations",
        "λ = 0.1  objective 0.2500  converged after 11 iterations",
        "λ = 0    objective 0.5000  running",
        "1 running, 2 stopped",
    ]


@pytest.mark.parametrize(
    ("total", "ids", "title"), [(1, [0], "finishing in float64"), (1, [-1], "refit in float64, λ = 0.1")]
)
def test_a_model_alone_goes_on_in_float64(total: int, ids: list[int], title: str) -> None:
    states = ModelStates(total, 1)
    states.see(Started(ModelTable.plain(np.array([0.1]), np.zeros(1)), np.array(ids), 0, 1000, 5, True))
    assert states.title() == title


def test_the_time_left_of_one_full_batch_model_is_not_foreseen() -> None:
    console = Console(force_terminal=True, width=80, height=40, color_system=None)
    shown = observer(console, 1)
    with shown:
        shown.see(full_batch_started([1.0]))
        shown.see(Iterated(4, np.arange(1), np.array([2.0])))
        assert shown.bar.tasks[0].total is None
        lines = [
            "".join(segment.text for segment in line) for line in console.render_lines(shown._picture(), pad=False)
        ]
    assert "left" not in lines[0]
    assert lines[1].startswith("  objective 2.0000")


CERTIFIED = {"objective": 0.1, "gradient_norm": 1e-9, "gap_bound": 1e-9, "converged": True}


@pytest.mark.parametrize(
    ("reason", "change", "words"),
    [
        ("patience", {"stopped_epoch": 7}, "epoch 7"),
        ("max_epochs", {}, "all epochs"),
        ("converged", {"certificate": CERTIFIED}, "converged"),
        ("converged", {"certificate": CERTIFIED | {"gap_bound": None}, "l2": 0.0}, "converged"),
        ("converged", {"certificate": CERTIFIED | {"gap_bound": None}, "l2": 0.0, "train_accuracy": 1.0}, "no optimum"),
        ("max_epochs", {"certificate": CERTIFIED, "steps": 1000}, "iteration limit"),
        ("max_epochs", {"certificate": CERTIFIED, "steps": 35}, "precision limit"),
        ("diverged", {"certificate": CERTIFIED}, "diverged"),
        ("interrupted", {}, "interrupted"),
    ],
)
def test_why_a_model_stopped_in_words(reason: str, change: dict[str, Any], words: str) -> None:
    model = replace(synthetic_result().models[0], stop_reason=reason, **change)
    assert stopped(model, 1000) == words


def test_the_course_ends_at_the_number_of_the_table() -> None:
    """The last evaluation need not follow the last step."""
    result = synthetic_result()
    end = 0.3005
    model = replace(result.models[0], val_loss=end)
    result.history.val_loss[-1] = 0.2990
    line = course(replace(result, models=(model,)), 80, BLOCKS)
    assert line.startswith(f"val loss {number(float(result.history.val_loss[0, 0]))} ")
    assert line.endswith(" 0.3005")


def test_the_course_of_a_full_batch_fit_is_its_objective() -> None:
    result = synthetic_result()
    objective = np.array([[2.0], [1.0], [0.5], [np.nan]])
    history = replace(result.history, objective=objective, gap_bound=objective)
    assert course(replace(result, history=history), 80, BLOCKS) == "objective 2.0000 █▃▁ 0.5000"


def test_without_evaluations_there_is_no_course() -> None:
    result = synthetic_result()
    result.history.val_loss[:] = np.nan
    assert course(replace(result, models=(replace(result.models[0], val_loss=None),)), 80, BLOCKS) == ""


def test_names_never_steer_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colour, a bell, a mark that turns the direction of the text: as escapes, in whatever is said of them."""
    monkeypatch.chdir(tmp_path)
    classes = ("\x1b[31mred", r"$\bad$", "ok\u202e")
    rows = [f"{row % 3 + 0.1 * (row % 7)},{row % 5},{classes[row % 3]}" for row in range(60)]
    Path("evil.csv").write_text("\n".join(["a\x1b[31m,b\x07,class", *rows]), encoding="utf-8")
    given = ((), ("--target", "x"), ("--task", "logistic"), ("--classes", "a,b"))
    said = [invoke("train", "--dataset", "./evil.csv", *more, "--out", f"run{i}") for i, more in enumerate(given)]
    assert [done.exit_code for done in said] == [0, 2, 2, 2]
    said.append(invoke("plot", "run0", "--figure", "confusion"))
    assert said[-1].exit_code == 0, said[-1].stderr
    for done in said:
        text = done.stdout + done.stderr
        assert not [character for character in text if not character.isprintable() and character != "\n"], text
    assert r"\x1b[31m" in said[1].stderr
    assert r"\x07" in said[1].stderr


def test_refits_that_are_trained_alongside_the_folds_are_further_models() -> None:
    six = ModelTable.plain(np.array([1.0, 1.0, 0.1, 0.1, 1.0, 0.1]), np.ones(6))
    states = ModelStates(4, 2)
    states.see(Started(six, np.arange(6), 0, 100))
    states.see(Iterated(1, np.array([0, 1, 4]), np.array([0.5, 0.6, 0.7])))
    states.see(ModelStopped(4, 3, 0, "converged"))
    assert states.title() == "4 models"
    assert states.counts() == "4 running, 0 stopped"
    assert states.progress() == (1, 6)
