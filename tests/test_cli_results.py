"""What the commands give: the JSON result, tables, run directories, exit codes 0, 3 and 4."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import SCRIPT, environment, invoke, left_in, script, strict_json, write_flowers, write_npz
from gpureg_cli import progress
from json_result import HEAD, MODEL

import gpureg

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7])(?:;[0-9;]*)?m")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_prints_one_json_object_and_nothing_else(here: Path) -> None:
    done = script("train", "--dataset", "digits", "--json", "--out", "run", cwd=here)
    assert done.returncode == 0, done.stderr
    result = strict_json(done.stdout)
    assert done.stdout.count("\n") == 1
    assert set(result) == HEAD
    assert set(result["models"][0]) == MODEL
    assert (result["schema"], result["task"], result["dataset"], result["run_dir"]) == (2, "softmax", "digits", "run")
    assert result["models"][0]["val_accuracy"] > 0.9
    assert result == strict_json((here / "run" / "result.json").read_text())
    assert "run directory: run" in done.stderr
    assert "\x1b" not in done.stderr


def test_sweep_with_folds_as_json(here: Path) -> None:
    done = invoke("sweep-lambda", "--dataset", "digits", "--lambdas", "0.5,0.01", "--cv", 3, "--epochs", 2, "--json")
    assert done.exit_code == 0, done.stderr
    result = strict_json(done.stdout)
    assert [row["l2"] for row in result["cv"]] == [0.5, 0.01]
    folds = [model for model in result["models"] if model["fold"] is not None]
    assert len(folds) == 6
    assert {model["train_accuracy"] for model in folds} == {None}
    refit = result["models"][result["selected"]]
    assert (refit["fold"], refit["seed"], refit["l2"]) == (None, None, 0.01)
    assert gpureg.load_run(here / result["run_dir"]).model.coef.shape[0] == 1


def test_a_people_s_table_is_on_stdout_and_quiet_says_nothing_else(here: Path) -> None:
    data = write_npz(here / "data.npz")
    done = script(
        "sweep-lambda",
        *("--dataset", data, "--epochs", 5, "--batch-size", 32, "--lr", 0.1, "--lambdas", "3,0.1,0.01,0"),
        *("--quiet", "--out", "run"),
        cwd=here,
    )
    assert done.returncode == 0
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()), done.stderr  # and no progress
    assert "★ chosen by validation loss: λ = " in done.stdout
    assert "run directory: run" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_the_default_run_directory_is_named_after_task_data_and_time(here: Path) -> None:
    for _ in range(2):  # also twice in the same second
        assert invoke("train", "--dataset", write_npz(here / "my.npz"), "--task", "logistic").exit_code == 0
    runs = sorted((here / "runs").iterdir())
    assert len(runs) == 2
    assert all(re.fullmatch(r"logistic-my-\d{8}-\d{6}(-2)?", run.name) for run in runs)


def test_plain_lines_without_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    done = invoke("sweep-lambda", "--dataset", "digits", "--epochs", 3)
    lines = [line for line in done.stderr.splitlines() if line.startswith("4 models  epoch")]
    assert len(lines) == 3
    assert re.search(
        r"4 models  epoch 3/3  best λ = 0\.002: train loss \d\.\d+  val loss .* 4 running, 0 stopped", lines[2]
    )
    assert "\x1b" not in done.stderr
    assert "epoch 3/3" not in invoke("sweep-lambda", "--dataset", "digits", "--epochs", 3, "--quiet").stderr


def in_a_terminal(here: Path, *arguments: str, **env: str) -> str:
    """What the script writes when stdout and stderr are a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(here)
        os.execve(SCRIPT, [str(SCRIPT), *arguments], environment(TERM="xterm-256color", **env))
    written = b""
    try:
        while piece := os.read(terminal, 65536):
            written += piece
    except OSError:  # how Linux says that the other end has closed
        pass
    assert os.waitpid(pid, 0)[1] == 0, written.decode()
    return written.decode()


def test_bars_in_a_terminal_and_no_colour_where_none_is_wanted(here: Path) -> None:
    data = write_npz(here / "data.npz", rows=3000)
    arguments = ("sweep-lambda", "--dataset", str(data), "--epochs", "60", "--patience", "0")
    colourful = in_a_terminal(here, *arguments)
    assert "━" in colourful
    assert COLOUR.search(colourful)
    assert not COLOUR.search(in_a_terminal(here, *arguments, NO_COLOR="1"))


def test_data_without_any_option(here: Path) -> None:
    flowers = write_flowers(here / "flowers.csv")
    done = invoke("train", "--dataset", flowers, "--weights", "weight", "--json")
    result = strict_json(done.stdout)
    assert result["classes"] == ["setosa", "versicolor", "virginica"]
    assert result["n_train"] + result["n_val"] == 120
    assert result["n_features"] == 4
    plain = strict_json(invoke("train", "--dataset", flowers, "--json").stdout)
    assert plain["n_features"] == 5
    assert plain["models"][0]["val_accuracy"] > 0.7
    two = strict_json(
        invoke("train", "--dataset", flowers, "--task", "logistic", "--classes", "virginica,setosa", "--json").stdout
    )
    assert two["classes"] == ["virginica", "setosa"]


def test_a_batch_that_is_cut_is_said_once(here: Path) -> None:
    done = invoke("train", "--dataset", write_flowers(here / "flowers.csv"), "--epochs", 3)
    assert " ".join(done.stderr.split()).count("was reduced to 96, the number of training rows") == 1


def test_threads_are_honoured_and_recorded(here: Path) -> None:
    for threads in (1, 2):
        invoke("train", "--dataset", "digits", "--epochs", 2, "--threads", threads, "--out", f"run{threads}")
        found = json.loads((here / f"run{threads}" / "environment.json").read_text())
        assert {library["num_threads"] for library in found["blas"]} == {threads}
        assert gpureg.load_run(f"run{threads}").config["threads"] == threads


def test_a_device_that_is_not_there_is_warned_about_once_and_recorded(here: Path) -> None:
    done = invoke("train", "--dataset", "digits", "--epochs", 1, "--device", "cuda:99", "--json")
    assert done.exit_code == 0
    assert done.stderr.count("warning:") == 1
    assert "--device cuda:99 is not available" in done.stderr
    result = strict_json(done.stdout)
    assert (result["device"], result["device_requested"]) == ("cpu", "cuda:99")
    assert gpureg.load_run(result["run_dir"]).environment["device_why"]


def test_a_device_that_was_demanded_ends_with_3(here: Path) -> None:
    done = invoke("train", "--dataset", "digits", "--device", "cuda:99", "--strict-device", "--out", "a/b")
    assert done.exit_code == 3
    assert "--strict-device" in done.stderr
    assert done.stdout == ""
    assert left_in(here) == []


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_all_diverged_ends_with_4_and_leaves_the_run(here: Path) -> None:
    done = invoke("train", "--dataset", "digits", "--lr", 1e38, "--json", "--out", "run")
    assert done.exit_code == 4, done.stderr
    model = strict_json(done.stdout)["models"][0]
    assert model["stop_reason"] == "diverged"
    assert model["val_loss"] is None
    assert "diverged" in done.stderr
    assert "smaller than 1e+38" in done.stderr
    assert np.isnan(gpureg.load_run("run").model.coef).all()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_some_diverged_ends_with_0(here: Path) -> None:
    done = invoke("sweep-lambda", "--dataset", "digits", "--lambdas", 0, "--lrs", "0.01,1e38", "--epochs", 4)
    assert done.exit_code == 0, done.stderr
    assert "1 of 2 models diverged" in done.stderr
    assert "diverged" in done.stdout


def test_worse_than_a_constant_is_warned_about(here: Path) -> None:
    done = invoke("train", "--dataset", "digits", "--lr", 300, "--epochs", 1, "--json")
    assert "worse than a constant" in done.stderr
    assert strict_json(done.stdout)["warnings"]


def test_output_in_ascii_spells_out_what_it_lacks(here: Path) -> None:
    data = write_npz(here / "data.npz")
    done = script("sweep-lambda", "--dataset", data, "--epochs", 2, cwd=here, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "* chosen by validation loss: lambda = " in done.stdout
    flowers = write_flowers(here / "flowers.csv")
    flowers.write_text(flowers.read_text().replace("setosa", "gänsekraut"), encoding="utf-8")
    done = script("train", "--dataset", flowers, "--json", cwd=here, PYTHONIOENCODING="ascii")
    assert strict_json(done.stdout)["classes"] == ["gänsekraut", "versicolor", "virginica"]


def test_a_reader_that_goes_away_is_no_error(here: Path) -> None:
    train = f"train --dataset {write_npz(here / 'data.npz')} --epochs 1 --batch-size 32 --quiet"
    for command, first in (("data list", "NAME"), (train, "s"), (f"{train} --json 2>/dev/null", "{")):
        line = f"set -o pipefail; {SCRIPT} {command} | head -c 1 && echo fine"
        done = subprocess.run(["bash", "-c", line], cwd=here, env=environment(), capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout == first[0] + "fine\n"
    plot = f"plot runs/{os.listdir(here / 'runs')[0]} --figure loss --out figures"
    for command in (train, plot):
        line = f"set -o pipefail; {SCRIPT} {command} | true && echo fine"  # gone before the first line is written
        done = subprocess.run(["bash", "-c", line], cwd=here, env=environment(), capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("fine\n", "")
