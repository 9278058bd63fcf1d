"""`gpureg data list | fetch | where`."""

from __future__ import annotations

import pytest
from gpureg_cli.main import app
from typer.testing import CliRunner

from gpureg.data import CATALOG


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUREG_DATA_DIR", str(tmp_path))
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, ["data", *arguments], catch_exceptions=False)


def test_list_names_every_data_set():
    result = run("list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(CATALOG) < set(lines)
    assert lines["mnist"].split() == ["mnist", "55", "MB", "no"]
    assert lines["digits"].split() == ["digits", "-", "built", "in"]
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_where(cache):
    assert run("where").stdout.strip() == str(cache)
    assert run("where", "mnist").stdout.strip() == str(cache / "mnist")
    digits = run("where", "digits")
    assert digits.stdout == ""
    assert "built in" in digits.stderr
    wrong = run("where", "mnits")
    assert wrong.exit_code == 2
    assert "Did you mean 'mnist'" in wrong.stderr


def test_fetch_of_what_is_built_in_and_of_what_is_not_known():
    assert "built in" in run("fetch", "digits").stderr
    wrong = run("fetch", "x")
    assert wrong.exit_code == 2
    assert "No data set is named 'x'" in wrong.stderr


@pytest.mark.mnist
def test_fetch_prints_the_folder_and_says_when_there_is_nothing_to_do(cache):
    first = run("fetch", "mnist")
    assert first.stdout.strip() == str(cache / "mnist")
    assert "mnist: trying " in first.stderr
    again = run("fetch", "mnist")
    assert again.stdout == first.stdout
    assert "already cached" in again.stderr
    mnist = next(line for line in run("list").stdout.splitlines() if line.startswith("mnist"))
    assert mnist.split()[-1] == "yes"
