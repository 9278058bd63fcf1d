"""`--config` with what editors, other programs and a slip of the hand put into a file: read, or one clear message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import invoke, left_in, write_npz

import gpureg


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "data.npz")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("threads = 1" + "0" * 30, "threads is 1000"),
        ("cv = 1" + "0" * 399, "cv is 1000"),
        ("tol = 1" + "0" * 399, "expected a finite number above 0"),
        ("tol = -1" + "0" * 399, "expected a finite number above 0"),
        ("tol = nan", "tol is nan"),
        ("l2 = [1" + "0" * 399 + "]", "lambdas"),
        ("epochs = 9" + "9" * 4999, "--config c.toml is not TOML"),
        ("epochs = 0x" + "f" * 9999, "epochs is a number with very many digits"),
        ("lambdas = 0x" + "f" * 9999, "lambdas"),
        ("lambdas = [0x" + "f" * 9999 + "]", "lambdas"),
        ("classes = " + "[" * 5000 + "]" * 5000, "brackets are nested too deeply"),
        ("classes = " + "[" * 60 + "]" * 60, "classes"),
        ("a = " + "{a = " * 5000 + "1" + "}" * 5000, "--config c.toml is not TOML"),
        ('dataset = "a\\u0000b"', "expected text"),
        ('out = "a\\u0000b"', "expected a path in quotes"),
        ('out = ["a"]', "expected a path in quotes"),
        ("out = 3", "expected a path in quotes"),
        ('device = "cpu\\u0000"', "expected text"),
        ("epochs = 1979-05-27", "expected a whole number"),
        ("epochs = {a = 1}", "expected a whole number"),
        ("epochs = true", "expected a whole number"),
        ("# " + "x" * (1 << 20), "larger than 1 MiB"),
        ("\ufeffepochs = ", "--config c.toml is not TOML"),
    ],
)
def test_what_a_file_can_not_be(content: str, words: str, here: Path) -> None:
    (here / "c.toml").write_text(content, encoding="utf-8")
    before = left_in(here)
    done = invoke("sweep-lambda", "--dataset", "data.npz", "--config", "c.toml")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 400
    assert left_in(here) == before


@pytest.mark.parametrize("path", ["nowhere.toml", ".", "data.npz/c.toml", "x" * 300, "/dev/zero"])
def test_where_a_file_can_not_be(path: str) -> None:
    done = invoke("train", "--config", path)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: --config ")
    assert done.stderr.count("\n") == 1


def test_a_mark_at_its_beginning_and_names_that_are_not_utf_8(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.npz")
    (here / "data.npz").rename(here / name)
    (here / "c.toml").write_bytes(b'\xef\xbb\xbfdataset = "caf\xe9.npz"\r\nepochs = 2\r\nsolver = "sgd"\r\n')
    done = invoke("train", "--config", "c.toml", "--out", "run")
    assert done.exit_code == 0, done.output
    assert gpureg.load_run("run").config["dataset"] == str(here / name)
    again = invoke("train", "--config", "run/config.toml", "--out", "again")
    assert again.exit_code == 0, again.output
    assert (here / "again" / "config.toml").read_bytes() == (here / "run" / "config.toml").read_bytes()
