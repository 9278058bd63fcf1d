"""`gpureg plot`, and the terminal's sparkline."""

import math

import pytest
import typer
from gpureg_cli.plot import plot
from gpureg_cli.sparkline import ASCII, BLOCKS, blocks_for, sparkline
from synthetic_runs import save_run, synthetic_result
from typer.testing import CliRunner

import gpureg
from gpureg.errors import RunError, UsageError

app = typer.Typer()
app.command()(plot)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def sweep(tmp_path):
    return save_run(synthetic_result(l2=(0.0, 0.5)), tmp_path / "sweep")


def test_the_figures_that_suit_a_run_beside_it(sweep):
    result = run(sweep)
    paths = [sweep / "figures" / f"{name}.png" for name in ("loss", "accuracy", "path", "path-accuracy", "norm")]
    assert result.stdout.splitlines() == [str(path) for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert gpureg.load_run(sweep).result["models"]  # the folder of figures does not harm the run


def test_named_figures_in_named_formats(sweep, tmp_path):
    result = run(
        sweep, "--figure", "norm,path", "-f", "norm", "--format", "svg", "--format", "pdf", "--out", tmp_path / "o"
    )
    names = [line.rpartition("/")[2] for line in result.stdout.splitlines()]
    assert names == ["norm.svg", "norm.pdf", "path.svg", "path.pdf"]


def test_several_runs_are_overlaid_in_the_current_folder(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = save_run(synthetic_result(), tmp_path / "other")
    assert run(sweep, other).stdout.splitlines() == ["figures/loss.png", "figures/accuracy.png"]


def test_clear_refusals(sweep, tmp_path):
    with pytest.raises(RunError, match="none does not exist, expected a run directory"):
        run(tmp_path / "none")
    with pytest.raises(UsageError, match="--figure is 'scatter'; expected one of loss, accuracy"):
        run(sweep, "--figure", "scatter")
    with pytest.raises(UsageError, match="--format is 'gif'; expected one of png, svg, pdf"):
        run(sweep, "--format", "gif")
    with pytest.raises(UsageError, match="shows one run, but 2 were given"):
        run(sweep, sweep, "--figure", "confusion", "--out", tmp_path)
    with pytest.raises(RunError, match=r"result\.json can't be written"):
        run(sweep, "--out", sweep / "result.json")


def test_confusion_and_weights_of_the_digits(tmp_path):
    data = gpureg.load_dataset("digits")
    result = gpureg.fit(data, task="softmax", l2=[0.0, 0.1], epochs=3)
    path = result.save(tmp_path / "digits")
    shown = run(path, "--figure", "confusion", "--figure", "weights", "--format", "svg")
    assert [line.rpartition("/")[2] for line in shown.stdout.splitlines()] == ["confusion.svg", "weights.svg"]


def test_the_data_must_be_those_of_the_run(tmp_path):
    config = {"dataset": "digits", "classes": "2,3"}
    path = save_run(synthetic_result(dataset="digits", config=config), tmp_path / "run")
    with pytest.raises(UsageError, match=r"has the classes \[2, 3\].*was trained on \[0, 1, 2\]"):
        run(path, "--figure", "confusion")


def test_a_sparkline_falls_with_its_values():
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert sparkline([1, 2, 3, 4], blocks=ASCII) == "_-*@"
    assert len(sparkline(range(1000), width=30)) == 30


def test_a_sparkline_of_odd_values():
    assert sparkline([]) == sparkline([math.nan, math.inf]) == sparkline([1.0], width=0) == ""
    assert sparkline([2.0, 2.0, math.nan]) == "▁▁"
    assert sparkline([5.0]) == "▁"
    plunge = sparkline([1000.0, *(40 - i for i in range(39))])
    assert plunge[0] == BLOCKS[-1]
    assert len(set(plunge)) == len(BLOCKS)  # the start does not flatten the rest


@pytest.mark.parametrize(
    ("encoding", "blocks"), [("utf-8", BLOCKS), ("ascii", ASCII), (None, ASCII), ("nonsense", ASCII)]
)
def test_a_terminal_without_blocks_gets_ascii(encoding, blocks):
    assert blocks_for(encoding) == blocks
