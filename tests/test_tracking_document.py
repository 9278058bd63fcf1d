"""The snippets and commands of docs/trackers.md run as they stand."""

from __future__ import annotations

import csv
import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
from commands import invoke

import gpureg

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "trackers.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
COMMANDS = re.findall(r"^    gpureg (.*)$", DOCUMENT, re.M)


def run_snippet(source: str) -> gpureg.FitResult:
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gpureg.GpuregWarning)  # five epochs are few
        exec(compile(source, "docs/trackers.md", "exec"), names)
    result = names["result"]
    assert isinstance(result, gpureg.FitResult)
    return result


def test_the_observer_of_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = (one for one in SNIPPETS if "def observe" in one)
    history = run_snippet(source).history
    rows = list(csv.reader((tmp_path / "losses.csv").read_text().splitlines()))
    assert [int(step) for step, _, _ in rows] == history.eval_step.tolist()
    np.testing.assert_array_equal([float(loss) for _, _, loss in rows], history.val_loss[:, 0])


@pytest.mark.long
def test_the_tracker_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = (one for one in SNIPPETS if "TensorBoardTracker" in one)
    result = run_snippet(source)
    folder = tmp_path / "logs" / "first"
    assert list(folder.glob("events.out.tfevents.*"))
    np.testing.assert_array_equal(gpureg.load_run(folder / "run").model.coef, result.model.coef)
    with pytest.raises(gpureg.UsageError, match="holds the events of another fit"):
        run_snippet(source)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    done = invoke(*shlex.split(command, comments=True))
    assert done.exit_code == 0, done.stderr
    assert "failed" not in done.stderr


def test_there_are_snippets_and_commands() -> None:
    assert len(SNIPPETS) == 2
    assert len(COMMANDS) == 2
