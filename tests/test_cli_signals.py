"""Ctrl-C, SIGTERM and kill -9: what they leave, and that a resumed run ends with the bits of one left alone."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import invoke, left_in, same_run, script, started, strict_json, write_npz

import gpureg

Command = tuple[object, ...]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A command that takes a few seconds, so that signals find it at work."""
    data = write_npz(tmp_path_factory.mktemp("data") / "data.npz", rows=1500, features=40, classes=5)
    return (
        "sweep-lambda", "--dataset", data, "--lambda-grid", "1e-6:0.3:6", "--lr", 0.02, "--cv", 3, "--patience", 40,
        "--epochs", 200, "--batch-size", 16, "--threads", 1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(sweep: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    done = script(*sweep, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_readable_run_that_is_resumed(
    number: signal.Signals, sweep: Command, whole: Path, tmp_path: Path
) -> None:
    process = started(*sweep, "--checkpoint-seconds", 0, "--json", "--out", "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoint" / "state.npz", process)
    process.send_signal(number)
    code, stdout, stderr = ended(process)
    assert code == 130, stderr
    assert "interrupted" in {model["stop_reason"] for model in strict_json(stdout)["models"]}
    assert "stopping after this epoch" in stderr
    assert "go on with: gpureg train --resume run" in stderr
    assert "Traceback" not in stderr
    run = gpureg.load_run(tmp_path / "run")
    assert run.result == strict_json(stdout)
    assert run.history.step_loss.shape[1] == len(run.result["models"])

    done = script("sweep-lambda", "--resume", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_run(whole, tmp_path / "run")
    expected = json.loads((whole / "result.json").read_text())
    obtained = strict_json(done.stdout)
    for result in (expected, obtained):
        result.pop("seconds")
    assert obtained == expected
    assert left_in(tmp_path / "run") == left_in(whole)
    assert gpureg.load_run(tmp_path / "run").config == gpureg.load_run(whole).config


def test_a_killed_run_is_resumed(sweep: Command, whole: Path, tmp_path: Path) -> None:
    """Twice, at moments that nobody chose."""
    process = started(*sweep, "--checkpoint-seconds", 0, "--out", "run", cwd=tmp_path)
    checkpoint = tmp_path / "run" / "checkpoint" / "state.npz"
    for _ in range(2):
        wait_for(checkpoint, process)
        time.sleep(0.3)
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
        assert not (tmp_path / "run" / "result.json").exists()
        before = checkpoint.stat().st_mtime_ns
        process = started("train", "--resume", "run", "--checkpoint-seconds", 0, cwd=tmp_path)
        while process.poll() is None and checkpoint.exists() and checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.02)
    code, _, stderr = ended(process)
    assert code == 0, stderr
    same_run(whole, tmp_path / "run")
    assert left_in(tmp_path / "run") == left_in(whole)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz", rows=500_000)  # one epoch is 400,000 steps
    process = started("train", "--dataset", data, "--batch-size", 1, "--out", "a/run", cwd=tmp_path)
    wait_for(tmp_path / "a" / "run", process)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    code, stdout, stderr = ended(process)
    assert code == 130
    assert stdout == ""
    assert stderr.endswith("error: interrupted\n")


def test_a_signal_before_the_fit_leaves_nothing(tmp_path: Path) -> None:
    """While the data are read there is no run yet to leave: millions of rows take their time."""
    rows = "".join(",".join(["0.5"] * 20 + ["ab"[row % 2]]) + "\n" for row in range(80_000))
    header = ",".join("abcdefghijklmnopqrstu") + "\n"
    (tmp_path / "slow.csv.gz").write_bytes(gzip.compress(header.encode()) + 40 * gzip.compress(rows.encode()))
    for number in (signal.SIGINT, signal.SIGTERM):
        process = started("train", "--dataset", "slow.csv.gz", "--out", "a/run", cwd=tmp_path)
        wait_for(tmp_path / "a" / "run", process)
        time.sleep(0.5)
        process.send_signal(number)
        assert ended(process) == (130, "", "error: interrupted\n")
        assert left_in(tmp_path) == ["slow.csv.gz"]


def test_ctrl_c_is_quiet_while_modules_load(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz")
    for seconds in (0.05, 0.1, 0.15, 0.25):
        process = started("train", "--dataset", data, "--epochs", 10**6, "--patience", 0, cwd=tmp_path)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        code, _, stderr = ended(process)
        assert code in (130, -signal.SIGINT)  # the latter: the interpreter itself was still starting
        assert code != 130 or "Traceback" not in stderr


def test_changed_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "data.npz")
    process = started(
        "train", "--dataset", "data.npz", "--epochs", 200000, "--patience", 0, "--out", "run", cwd=tmp_path
    )
    wait_for(tmp_path / "run", process)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    write_npz(tmp_path / "data.npz", rows=151)
    refused = invoke("train", "--resume", "run")
    assert refused.exit_code == 2
    assert "not those that the run began with" in refused.stderr
    again = invoke("train", "--dataset", "data.npz", "--epochs", 2, "--out", "run")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    write_npz(tmp_path / "data.npz")
    (tmp_path / "run" / "checkpoint" / "state.npz").write_bytes(b"not an archive")
    damaged = invoke("train", "--resume", "run")
    assert damaged.exit_code == 2
    assert "is damaged" in damaged.stderr
