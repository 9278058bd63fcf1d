"""Ctrl-C, SIGTERM, a closed terminal, kill -9: what they leave, and that a resumed run ends with the same bits."""

from __future__ import annotations

import gzip
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import SCRIPT, environment, invoke, left_in, same_run, script, started, strict_json, write_npz

import gpureg
from gpureg.storage.checkpoint import read_checkpoint

Command = tuple[object, ...]


def later(value: object) -> object:
    """A case for `make test-all`."""
    return pytest.param(value, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A command that takes a few seconds, so that signals find it at work."""
    data = write_npz(tmp_path_factory.mktemp("data") / "data.npz", rows=1500, features=40, classes=5)
    return (
        "sweep-lambda", "--dataset", data, "--lambda-grid", "1e-6:0.3:6", "--lr", 0.02, "--cv", 3, "--patience", 40,
        "--epochs", 200, "--batch-size", 16, "--solver", "sgd", "--threads", 1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(sweep: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    done = script(*sweep, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def long_epoch(tmp_path: Path) -> Command:
    """A command whose first epoch is 400,000 steps."""
    data = write_npz(tmp_path / "data.npz", rows=500_000)
    return ("train", "--dataset", data, "--batch-size", 1, "--solver", "sgd", "--out", "a/run")


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_state(run: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Until there is a checkpoint of a fit that has done something."""
    deadline = time.monotonic() + 60
    while not (run / "checkpoint" / "state.npz").exists() or not read_checkpoint(run)[0]:
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def assert_resumes(run: Path, whole: Path) -> None:
    """It goes on, and ends as the one that was left alone."""
    done = script("train", "--resume", run.name, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert "bit for bit" not in done.stderr
    same_run(whole, run)
    assert left_in(run) == left_in(whole)
    assert gpureg.load_run(run).config == gpureg.load_run(whole).config


@pytest.mark.parametrize("number", [signal.SIGINT, later(signal.SIGTERM), signal.SIGHUP])
def test_a_signal_leaves_a_readable_run_that_is_resumed(
    number: signal.Signals, sweep: Command, whole: Path, tmp_path: Path
) -> None:
    process = started(*sweep, "--checkpoint-seconds", 0, "--json", "--out", "run", cwd=tmp_path)
    wait_for_state(tmp_path / "run", process)
    process.send_signal(number)
    code, stdout, stderr = ended(process)
    assert code == 130, stderr
    assert "interrupted" in {model["stop_reason"] for model in strict_json(stdout)["models"]}
    assert "stopping after this epoch" in stderr
    assert "interrupted; resume with: gpureg train --resume run" in stderr
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


@pytest.mark.parametrize("number", [signal.SIGINT, later(signal.SIGTERM), later(signal.SIGHUP), signal.SIGKILL])
def test_it_is_resumed_from_the_first_moment(
    number: signal.Signals, sweep: Command, whole: Path, tmp_path: Path
) -> None:
    """As soon as there is a folder: while modules load, while the data are read, or before the first checkpoint."""
    process = started(*sweep, "--out", "run", cwd=tmp_path)
    wait_for(tmp_path / "run", process)
    process.send_signal(number)
    code, _, stderr = ended(process)
    assert code == (-number if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or "interrupted; resume with: gpureg train --resume run" in stderr
    again = script(*sweep, "--out", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert (
        "run holds an interrupted run; resume it with `gpureg train --resume run`, or replace it with --force"
        in again.stderr
    )
    ended_so_far = (tmp_path / "run" / "result.json").exists()
    plotted = script("plot", "run", "--out", "figures", cwd=tmp_path)
    assert plotted.returncode == (0 if ended_so_far else 2)
    assert ended_so_far or "run holds an unfinished run: resume it with" in plotted.stderr
    assert_resumes(tmp_path / "run", whole)


def test_config_toml_alone_is_enough(sweep: Command, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_bytes((whole / "config.toml").read_bytes())
    (tmp_path / "run" / ".lock").touch()
    for path in (tmp_path / "run", whole):
        refused = script(*sweep, "--out", path, cwd=tmp_path)
        assert refused.returncode == 2
        assert "--force" in refused.stderr
    assert_resumes(tmp_path / "run", whole)


@pytest.mark.long
def test_a_killed_run_is_resumed(sweep: Command, whole: Path, tmp_path: Path) -> None:
    """Twice, at moments that nobody chose."""
    process = started(*sweep, "--checkpoint-seconds", 0, "--out", "run", cwd=tmp_path)
    checkpoint = tmp_path / "run" / "checkpoint" / "state.npz"
    wait_for_state(tmp_path / "run", process)
    for _ in range(2):
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


@pytest.mark.long
def test_a_killed_force_leaves_the_finished_run_and_one_to_resume(sweep: Command, whole: Path, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz")
    assert script("train", "--dataset", data, "--out", "run", "--solver", "sgd", cwd=tmp_path).returncode == 0
    finished = {name: (tmp_path / "run" / name).read_bytes() for name in left_in(tmp_path / "run")}
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):  # --force again, and again
        process = started(*sweep, "--checkpoint-seconds", 0, "--out", "run", "--force", cwd=tmp_path)
        (tmp_path / "run" / "checkpoint" / "state.npz").unlink(missing_ok=True)
        wait_for_state(tmp_path / "run", process)
        process.send_signal(number)
        ended(process)
        assert {name: (tmp_path / "run" / name).read_bytes() for name in finished} == finished
        assert script("plot", "run", "--out", tmp_path / "figures", cwd=tmp_path).returncode == 0
    assert_resumes(tmp_path / "run", whole)


def test_a_resumed_run_takes_the_runs_own_threads(tmp_path: Path) -> None:
    """Bits depend on the number of BLAS threads, here of a lone model that the BLAS itself multiplies."""
    data = write_npz(tmp_path / "data.npz", rows=4000, features=300, classes=9)
    command = (
        "train", "--dataset", data, "--solver", "sgd", "--epochs", 12, "--batch-size", 1000, "--patience", 0,
        "--kernels", "reference",
    )  # fmt: skip
    assert script(*command, "--out", "whole", cwd=tmp_path, OPENBLAS_NUM_THREADS="2").returncode == 0
    process = started(*command, "--out", "run", cwd=tmp_path, OPENBLAS_NUM_THREADS="2")
    wait_for(tmp_path / "run", process)
    process.kill()
    ended(process)
    assert read_checkpoint(tmp_path / "run")[1]["threads"] == 2
    assert_resumes(tmp_path / "run", tmp_path / "whole")  # under one thread, as the tests' commands are


def test_a_second_signal_ends_it_at_once(long_epoch: Command, tmp_path: Path) -> None:
    process = started(*long_epoch, cwd=tmp_path)
    wait_for(tmp_path / "a" / "run", process)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code, stdout, stderr = ended(process)
    assert code == 130
    assert stdout == ""
    assert stderr.endswith("error: interrupted; resume with: gpureg train --resume a/run\n")


@pytest.mark.long
def test_a_terminal_that_closes_may_say_so_twice(sweep: Command, whole: Path, tmp_path: Path) -> None:
    """The second is no impatience: the epoch is finished all the same."""
    process = started(*sweep, "--checkpoint-seconds", 3600, "--out", "run", cwd=tmp_path)
    wait_for(tmp_path / "run", process)
    time.sleep(0.3)  # the sweep may take no more than a second
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert ended(process)[0] == 130
    assert_resumes(tmp_path / "run", whole)


def test_the_terminal_of_a_run_is_closed(sweep: Command, whole: Path, tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        words = [str(SCRIPT), *map(str, sweep), "--checkpoint-seconds", "0", "--out", "run"]
        os.execve(SCRIPT, words, environment(TERM="xterm"))
    os.set_blocking(terminal, False)
    wait_for_state(tmp_path / "run")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert gpureg.load_run(tmp_path / "run").result["models"]
    assert_resumes(tmp_path / "run", whole)


def test_nohup(sweep: Command, whole: Path, tmp_path: Path) -> None:
    """A signal that was ignored at the start stays so."""
    words = " ".join(str(word) for word in (SCRIPT, *sweep, "--out", "run"))
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP INT; exec {words}"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "run", process)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert ended(process)[0] == 0
    same_run(whole, tmp_path / "run")


@pytest.mark.parametrize("attempt", [0, later(1), 2])
def test_of_two_commands_with_one_folder_one_ends_with_2(attempt: int, sweep: Command, tmp_path: Path) -> None:
    last = ["--force"] if attempt == 2 else ["--epochs", 2]
    processes = [started(*sweep, "--out", "run", *last, cwd=tmp_path) for _ in range(2)]
    results = sorted(ended(process) for process in processes)
    assert [code for code, _, _ in results] == [0, 2], results
    message = results[1][2]
    assert "Another process is writing into run" in message or "run already holds a run" in message
    assert gpureg.load_run(tmp_path / "run").result["models"]


def test_commands_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz")
    command = ("train", "--dataset", data, "--solver", "sgd", "--epochs", 1)
    processes = [started(*command, cwd=tmp_path) for _ in range(4)]
    assert [ended(process)[0] for process in processes] == [0] * 4
    runs = list((tmp_path / "runs").iterdir())
    assert len(runs) == 4
    for run in runs:
        gpureg.load_run(run)


@pytest.mark.parametrize("number", [signal.SIGINT, later(signal.SIGTERM), later(signal.SIGHUP)])
def test_a_signal_while_the_data_are_read_leaves_a_run_to_resume(number: signal.Signals, tmp_path: Path) -> None:
    """Millions of rows take their time."""
    rows = "".join(",".join(["0.5"] * 20 + ["ab"[row % 2]]) + "\n" for row in range(80_000))
    header = ",".join("abcdefghijklmnopqrstu") + "\n"
    (tmp_path / "slow.csv.gz").write_bytes(gzip.compress(header.encode()) + 40 * gzip.compress(rows.encode()))
    process = started("train", "--dataset", "slow.csv.gz", "--out", "a/run", cwd=tmp_path)
    wait_for(tmp_path / "a" / "run", process)
    time.sleep(0.5)
    process.send_signal(number)
    assert ended(process) == (130, "", "error: interrupted; resume with: gpureg train --resume a/run\n")
    begun = ["a/run/checkpoint", "a/run/checkpoint/state.npz", "a/run/config.toml"]
    assert left_in(tmp_path) == ["a", "a/run", *begun, "slow.csv.gz"]


def test_ctrl_c_is_quiet_while_modules_load(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz")
    for seconds in (0.05, 0.1, 0.15, 0.25):
        process = started("train", "--dataset", data, "--epochs", 10**6, "--patience", 0, cwd=tmp_path)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        code, _, stderr = ended(process)
        if "Fatal Python error: init_import_site" in stderr:  # the interpreter itself was still starting
            continue
        assert code in (130, -signal.SIGINT), stderr  # the latter: it had started, and nothing of gpureg
        assert code != 130 or "Traceback" not in stderr


def test_changed_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "data.npz")
    process = started(
        "train", "--dataset", "data.npz", "--epochs", 200000, "--patience", 0, "--out", "run", "--checkpoint-seconds",
        0, cwd=tmp_path,
    )  # fmt: skip
    wait_for_state(tmp_path / "run", process)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    write_npz(tmp_path / "data.npz", rows=151)
    refused = invoke("train", "--resume", "run")
    assert refused.exit_code == 2
    assert "not the data that the run began with" in refused.stderr
    again = invoke("train", "--dataset", "data.npz", "--epochs", 2, "--out", "run")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    write_npz(tmp_path / "data.npz")
    (tmp_path / "run" / "checkpoint" / "state.npz").write_bytes(b"not an archive")
    damaged = invoke("train", "--resume", "run")
    assert damaged.exit_code == 2
    assert "is damaged" in damaged.stderr
    assert invoke("train", "--dataset", "data.npz", "--epochs", 2, "--out", "run", "--force").exit_code == 0
