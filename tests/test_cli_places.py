"""Folders that are closed, disks that are full, names that are odd: exit code 2, one message, and the old run whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, left_in, same_run, script, strict_json, write_flowers, write_npz
from places import closed, limited_to, script_where, small_disk, without_privileges

import gpureg


def cases(some: tuple[int, ...], more: tuple[int, ...]) -> list[object]:
    """Some of them in `make test`, the others in `make test-all`."""
    return [*some, *(pytest.param(value, marks=pytest.mark.long) for value in more)]


SIZES = cases((0, 4000, 12_000), (200, 700, 1500, 8000, 16_000, 20_000, 40_000))  # bytes of the largest file
FREE = cases((12_288, 40_960), (0, 4096, 20_480, 61_440, 90_112))  # bytes that the disk has left
RUN = ("--solver", "sgd", "--epochs", 2, "--threads", 1)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a finished run."""
    folder = tmp_path_factory.mktemp("here")
    write_npz(folder / "data.npz", rows=2000, features=60, classes=5)
    done = script("train", "--dataset", "data.npz", *RUN, "--out", "old", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def whole(run: Path) -> dict[str, bytes]:
    """The files of a run, which can be read."""
    gpureg.load_run(run)
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--dataset", "data.npz", *RUN, "--out", "closed/run"),
        ("train", "--dataset", "data.npz", *RUN, "--out", "closed/a/b/run", "--force"),
        ("train", "--dataset", "closed/data.npz", *RUN, "--out", "run"),
        ("train", "--dataset", "closed", *RUN, "--out", "run"),
        ("train", "--config", "closed/config.toml"),
        ("train", "--resume", "closed/run"),
        ("plot", "closed/run"),
        ("plot", "closed"),
        ("plot", "old", "--out", "closed/figures"),
        ("reproduce", "--out", "closed/reproduction"),
    ],
)
def test_a_folder_that_is_closed(command: tuple[object, ...], here: Path) -> None:
    (here / "closed").mkdir(exist_ok=True)
    before = left_in(here)
    with closed(here / "closed"):
        done = script_where(without_privileges, *command, cwd=here)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "ermission denied" in done.stderr or "is not readable" in done.stderr  # as typer says it
    assert "closed" in done.stderr
    assert done.stderr.startswith(("error: ", "Usage: "))
    assert left_in(here) == before


@pytest.mark.parametrize("command", [("train", *RUN, "--dataset", "../data.npz"), ("reproduce",)])
def test_a_folder_that_may_only_be_read(command: tuple[object, ...], here: Path) -> None:
    folder = here / "only read"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    done = script_where(without_privileges, *command, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "can't be written (Permission denied)" in done.stderr
    assert left_in(folder) == []


def test_a_run_that_may_only_be_read_is_read(here: Path) -> None:
    shutil.copytree(here / "old", here / "kept", dirs_exist_ok=True)
    (here / "kept").chmod(0o555)
    done = script_where(without_privileges, "plot", "kept", "--out", "figures", cwd=here)
    assert done.returncode == 0, done.stderr
    refused = script_where(
        without_privileges, "train", "--dataset", "data.npz", *RUN, "--out", "kept", "--force", cwd=here
    )
    (here / "kept").chmod(0o755)
    assert refused.returncode == 2
    assert "kept can't be written (Permission denied)" in refused.stderr
    same_run(here / "old", here / "kept")


HOMELESS = """
import pwd, sys
def unknown(user):
    raise KeyError(user)
pwd.getpwuid = pwd.getpwnam = unknown  # a user of whom the system knows nothing, as in a container
from gpureg_cli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("train", "--dataset", "~nouser/x.csv"), 2, "~nouser/x.csv"),
        (("train", "--dataset", "~/x.csv"), 2, "~/x.csv"),
        (("train", "--dataset", "mnist"), 2, "Set GPUREG_DATA_DIR to a folder"),
        (("data", "where"), 2, "Set GPUREG_DATA_DIR to a folder"),
        (("train", "--dataset", "digits", *RUN, "--out", "homeless", "--force"), 0, ""),
        (("info",), 0, ""),
    ],
)
def test_a_user_without_a_home(command: tuple[object, ...], code: int, words: str, here: Path) -> None:
    unset = ("HOME", "XDG_CACHE_HOME", "GPUREG_DATA_DIR")
    env = {name: value for name, value in environment().items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, *map(str, command)], cwd=here, env=env, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert code == 0 or done.stderr.count("\n") == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_limit_on_files_at_every_stage(size: int, here: Path, tmp_path: Path) -> None:
    """`ulimit -f`: a lock, config.toml, a checkpoint, or a file of the run is refused, or nothing is."""
    for name in ("run", "fresh"):
        if name == "run":
            shutil.copytree(here / "old", tmp_path / name)
        before = whole(tmp_path / name) if name == "run" else None
        command = ("train", "--dataset", here / "data.npz", *RUN, "--seed", 1, "--checkpoint-seconds", 0)
        done = script_where(limited_to(size), *command, "--out", name, "--force", cwd=tmp_path)
        assert done.returncode in (0, 2), done.stderr
        if done.returncode == 0:
            assert gpureg.load_run(tmp_path / name).result["seed"] == 1
            continue
        assert f"{name} can't be written (File too large)" in done.stderr
        if before is not None:
            assert whole(tmp_path / name) == before
        if (tmp_path / name / "checkpoint").exists():
            again = script("train", "--resume", name, cwd=tmp_path)
            assert again.returncode == 0, again.stderr
            assert gpureg.load_run(tmp_path / name).result["seed"] == 1
        else:
            assert before is not None or not (tmp_path / name).exists()


@pytest.mark.parametrize("free", FREE)
def test_a_full_disk_at_every_stage(free: int, here: Path, tmp_path: Path) -> None:
    """A disk of its own where that can be had; elsewhere the limits on files stand for it, and this tries nothing."""
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 256 * 1024) as mounted:
        if not mounted:
            return
        run = tmp_path / "disk" / "run"
        shutil.copytree(here / "old", run)
        before, filler = whole(run), tmp_path / "disk" / "filler"
        room = os.statvfs(tmp_path / "disk")
        filler.write_bytes(b"x" * max(0, room.f_bavail * room.f_frsize - free))
        command = ("train", "--dataset", here / "data.npz", *RUN, "--seed", 1, "--checkpoint-seconds", 0)
        done = script(*command, "--out", run, "--force", cwd=tmp_path)
        assert done.returncode in (0, 2), done.stderr
        if done.returncode == 2:
            assert "can't be written (No space left on device)" in done.stderr
            assert whole(run) == before
            filler.unlink()
            again = script(*command, "--out", run, "--force", cwd=tmp_path)
            assert again.returncode == 0, again.stderr
        assert gpureg.load_run(run).result["seed"] == 1


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """From the data set's name to that of the run, in every file and message, and back."""
    data, out = os.fsdecode(b"caf\xe9.csv"), os.fsdecode(b"out\xff")
    write_flowers(tmp_path / data)
    command = ("train", "--dataset", data, "--target", "species", *RUN)
    done = script(*command, "--out", out, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = strict_json(done.stdout)
    assert result["run_dir"] == out
    run = gpureg.load_run(tmp_path / out)
    assert run.result == result
    assert run.config["dataset"] == str(tmp_path / data)
    assert f'"{tmp_path}/'.encode() + b'caf\xe9.csv"' in (tmp_path / out / "config.toml").read_bytes()
    plotted = script("plot", out, "--figure", "confusion", "--figure", "loss", cwd=tmp_path)
    assert plotted.returncode == 0, plotted.stderr
    refused = script(*command, "--out", out, cwd=tmp_path)
    assert refused.returncode == 2
    again = script("train", "--config", f"{out}/config.toml", "--out", f"{out}2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    same_run(tmp_path / out, tmp_path / f"{out}2")


@pytest.mark.long
def test_a_default_name_and_two_runs_in_a_figure_where_names_are_not_utf_8(tmp_path: Path) -> None:
    data = os.fsdecode(b"caf\xe9.csv")
    write_flowers(tmp_path / data)
    command = ("train", "--dataset", data, "--target", "species", *RUN)
    unnamed = script(*command, cwd=tmp_path)
    assert unnamed.returncode == 0, unnamed.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("softmax-")
    plotted = script("plot", run, run, cwd=tmp_path)
    assert plotted.returncode == 0, plotted.stderr
