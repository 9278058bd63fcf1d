"""stdout and stderr that are closed, full, or not read any more: the display is lost, never the run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commands import SCRIPT, environment, strict_json, write_npz

import gpureg

TRAIN = "train --dataset data.npz --solver sgd --epochs 3 --force --out run"
SHOWS = ("--version", "--help", "train --help", "info", "info --json", "data list", "data where", "data where mnist")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    write_npz(folder / "data.npz")
    return folder


def shell(command: str, here: Path) -> subprocess.CompletedProcess[str]:
    """`gpureg` with a shell's redirections; bash, for PIPESTATUS."""
    return subprocess.run(
        ["bash", "-c", f"{SCRIPT} {command}"], cwd=here, env=environment(), capture_output=True, text=True, timeout=120
    )


FULL = "error: stdout can't be written (No space left on device). Redirect it to a place with room.\n"
LOST = {">&-": (0, ""), ">/dev/full": (2, FULL), "| true; exit ${PIPESTATUS[0]}": (0, "")}
ALSO_LOST = {
    ">&- 2>&- <&-": (0, ""), "2>&-": (0, ""), "2>/dev/full": (0, ""), ">/dev/full 2>&1": (2, ""),
    "| head -n 1; exit ${PIPESTATUS[0]}": (0, ""),
}  # fmt: skip


def later(*values: object) -> object:
    """A case for `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("command", "redirected"),
    # one of click's, one that prints a table and one that prints data have every way to lose stdout in `make test` too
    [(later if way == ">&-" and command not in ("--help", "info --json", "data list") else lambda *case: case)(
        command, way) for command in SHOWS for way in LOST]
    + [("data list", way) for way in ALSO_LOST],
)  # fmt: skip
def test_what_only_shows_something(command: str, redirected: str, here: Path) -> None:
    """A reader that went, or a stream that was closed, wanted no more; a full disk loses what was asked for."""
    done = shell(f"{command} {redirected}", here)
    assert (done.returncode, done.stderr) == (LOST | ALSO_LOST)[redirected]


@pytest.mark.parametrize(
    ("command", "code"),
    [("train --epoch 3", 2), ("train --dataset nowhere.csv", 2), ("trian", 2), ("plot nowhere", 2),
     ("train --dataset digits --device cuda:7 --strict-device", 3)],
)  # fmt: skip
@pytest.mark.parametrize("redirected", ["2>/dev/full", later(">&- 2>&-")])
def test_an_error_that_nobody_sees_has_its_exit_code(redirected: str, command: str, code: int, here: Path) -> None:
    assert shell(f"{command} {redirected}", here).returncode == code


@pytest.mark.parametrize("command", ["trian", "train --dataset nowhere.csv"])
def test_an_error_without_any_stream_has_its_exit_code(command: str, here: Path) -> None:
    assert shell(f"{command} >&- 2>&-", here).returncode == 2


@pytest.mark.parametrize(
    ("redirected", "code"),
    [(">&-", 0), (">/dev/full", 0), later("2>/dev/full", 0), ("2>&-", 0), (">&- 2>&- <&-", 0),
     later(">/dev/full 2>&1", 0), ("--json >&-", 0), ("--json 2>/dev/full", 0), later("--json 2>&-", 0),
     ("--json >/dev/full", 2), ("| true; exit ${PIPESTATUS[0]}", 0), ("--json | true; exit ${PIPESTATUS[0]}", 0),
     later("2> >(true)", 0)],
)  # fmt: skip
def test_a_run_is_whole_whatever_becomes_of_its_streams(redirected: str, code: int, here: Path) -> None:
    """The JSON that was asked for is data, and a disk that is full loses them; tables only show what the run holds."""
    done = shell(f"{TRAIN} --seed 7 {redirected}", here)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    run = gpureg.load_run(here / "run")
    assert run.result["seed"] == 7
    if "--json 2>" in redirected:
        assert strict_json(done.stdout) == run.result


def test_the_reader_of_stderr_goes_away_while_a_run_is_trained(here: Path) -> None:
    """As `2> >(head)` does; more is written than a pipe holds."""
    reading, writing = os.pipe()
    words = [str(SCRIPT), *TRAIN.split(), "--epochs", "3000", "--patience", "0", "--json"]
    process = subprocess.Popen(
        words, cwd=here, env=environment(FORCE_COLOR="1"), stdout=subprocess.PIPE, stderr=writing, text=True
    )
    os.close(writing)
    assert os.read(reading, 1)  # it has begun to say something
    os.close(reading)
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert strict_json(stdout)["models"][0]["stop_reason"] == "max_epochs"


def test_a_descriptor_that_was_closed_is_not_given_to_a_file(here: Path) -> None:
    """Else what is printed would go into the run."""
    shell(f"{TRAIN} --seed 5 >&- 2>&- <&-", here)
    for name in ("run/config.toml", "run/result.json", "run/history.npz"):
        assert b"val loss" not in (here / name).read_bytes()
    assert gpureg.load_run(here / "run").result["seed"] == 5


@pytest.mark.parametrize("language", [later("C.UTF-8"), "C"])
def test_words_that_an_encoding_lacks_and_names_that_are_none(language: str, here: Path) -> None:
    name = b"caf\xe9.npz"
    (here / os.fsdecode(name)).write_bytes((here / "data.npz").read_bytes())
    command = [str(SCRIPT), *TRAIN.split(), "--dataset", os.fsdecode(name), "--out", os.fsdecode(b"out\xff\x1b[31m")]
    env = environment(LC_ALL=language, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"run directory: out\xff" in done.stdout
    asked = subprocess.run([*command, "--json"], cwd=here, env=env, capture_output=True, timeout=120)
    assert asked.returncode == 0, asked.stderr
    assert strict_json(asked.stdout.decode())["run_dir"] == os.fsdecode(b"out\xff\x1b[31m")
    refused = subprocess.run([w for w in command if w != "--force"], cwd=here, env=env, capture_output=True)
    assert refused.returncode == 2
    assert b"out\xff\\x1b[31m already holds a run" in refused.stderr  # and the terminal does not turn red
