"""Killed at random moments and resumed, a run ends with the bits of one that was never stopped."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from commands import same_run, script, started, write_npz

import gpureg
from gpureg.storage.directory import is_under_way

SGD = (
    "--solver",
    "sgd",
    "--lr",
    0.02,
    "--patience",
    40,
    "--batch-size",
    16,
    "--threads",
    1,
    "--checkpoint-seconds",
    0.1,
)
LBFGS = ("--solver", "lbfgs", "--dtype", "float64", "--tol", 1e-10, "--threads", 1, "--checkpoint-seconds", 0.1)
# each takes a second or two, start-up apart
JOBS: dict[str, tuple[object, ...]] = {
    "train": ("train", "--l2", 1e-4, "--epochs", 200, *SGD),
    "sweep": ("sweep-lambda", "--lambda-grid", "1e-6:0.3:6", "--epochs", 120, *SGD),
    "cv": ("sweep-lambda", "--lambda-grid", "1e-6:0.3:6", "--cv", 3, "--epochs", 70, *SGD),
    "lbfgs": ("sweep-lambda", "--lambda-grid", "1e-7:0.3:40", "--cv", 3, *LBFGS),
    "streamed": ("sweep-lambda", "--lambda-grid", "1e-6:0.3:15", "--cv", 3, "--stream", "--block-rows", 200, *LBFGS),
    "streamed sgd": ("train", "--l2", 1e-4, "--epochs", 40, "--stream", "--block-rows", 200, *SGD),
    "force": ("sweep-lambda", "--lambda-grid", "1e-6:0.3:6", "--epochs", 120, "--force", *SGD),
    "before the first checkpoint": ("train", "--l2", 1e-4, "--epochs", 200, *SGD[:-1], 3600),
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, float]]:
    """Each job never stopped, with the seconds that it took; made when it is first asked for."""
    return {}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz", rows=1500, features=40, classes=5)


def run_whole(job: str, data: Path, wholes: dict[str, tuple[Path, float]]) -> tuple[Path, float]:
    if job not in wholes:
        out, begun = data.parent / job, time.monotonic()
        done = script(*JOBS[job], "--dataset", data, "--out", out, cwd=data.parent)
        assert done.returncode == 0, done.stderr
        wholes[job] = out, time.monotonic() - begun
    return wholes[job]


BEFORE = 1  # epochs of the finished run that --force replaces
KILLS = [(job, number) for number in range(10) for job in JOBS if number < 4 or "streamed" not in job]
AT_ONCE = (("cv", 0), ("lbfgs", 0), ("force", 0))


@pytest.mark.parametrize(
    ("job", "number"), [pytest.param(*kill, marks=() if kill in AT_ONCE else pytest.mark.long) for kill in KILLS]
)
def test_killed_at_random(
    job: str, number: int, data: Path, wholes: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    whole, seconds = run_whole(job, data, wholes)
    draw = random.Random(f"{job} {number}")
    run = tmp_path / "run"
    if job == "force":
        assert script("train", "--dataset", data, "--epochs", BEFORE, *SGD, "--out", run, cwd=tmp_path).returncode == 0
    begin = (*JOBS[job], "--dataset", data, "--out", run)
    process = started(*begin, cwd=tmp_path)
    for _ in range(draw.randint(1, 3)):
        time.sleep(draw.uniform(0.3, 0.9 * seconds))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL and is_under_way(run):
            process = started("train", "--resume", run, "--checkpoint-seconds", 0.1, cwd=tmp_path)
        elif not (run / "result.json").exists() or gpureg.load_run(run).config.get("epochs") == BEFORE:
            process = started(*begin, cwd=tmp_path)  # it was killed before it began
    _, stderr = process.communicate(timeout=120)
    # or it had ended, when it was killed
    assert process.returncode in (0, -signal.SIGKILL) or "this run is finished" in stderr, stderr
    same_run(whole, run)
    assert gpureg.load_run(run).config == gpureg.load_run(whole).config
