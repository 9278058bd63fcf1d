"""What stands on the screen: tables that are shown whole, and the states of the models while they run."""

from __future__ import annotations

import numpy as np
import pytest
from gpureg_cli.progress import observer
from gpureg_cli.states import ModelStates
from gpureg_cli.tables import Column, distinct, table
from rich.console import Console

from gpureg.events import EpochEnded, Evaluated, ModelStopped, Started
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
