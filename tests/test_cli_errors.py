"""Bad input: exit code 2, one message that says what was given and what to do, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import invoke, left_in, script, write_flowers, write_npz
from gpureg_cli import training

DIGITS = ("--dataset", "digits")
BAD = {
    "unknown data set": (("train", "--dataset", "mnits"), "Did you mean 'mnist'"),
    "no such path": (("train", "--dataset", "no/such.csv"), "no/such.csv"),
    "unknown class": (("train", *DIGITS, "--classes", "2,x"), "'x'"),
    "one class": (("train", *DIGITS, "--classes", "2"), "at least two classes"),
    "ten classes": (("train", *DIGITS, "--task", "logistic"), "with --classes; or use --task softmax"),
    "a column of none": (("train", *DIGITS, "--target", "y"), "--target y: "),
    "too many rows": (("train", *DIGITS, "--train-size", "99999"), "--train-size 99999"),
    "λ below 0": (("train", *DIGITS, "--l2", "-1"), "at least 0"),
    "λ not a number": (("train", *DIGITS, "--l2", "nan"), "finite"),
    "no learning rate": (("train", *DIGITS, "--lr", "0"), "above 0"),
    "unstable": (("train", *DIGITS, "--l2", "9", "--lr", "0.5"), "stable only below 1"),
    "no epochs": (("train", *DIGITS, "--epochs", "0"), "--epochs is 0"),
    "no batch": (("train", *DIGITS, "--batch-size", "-3"), "--batch-size is -3"),
    "seed": (
        ("train", *DIGITS, "--seed", "4294967296"),
        "--seed is 4294967296; expected a whole number from 0 to 4294967295",
    ),
    "memory in words": (("train", *DIGITS, "--memory", "lots"), "--memory is 'lots'"),
    "too little memory": (("train", *DIGITS, "--memory", "1KiB"), "larger --memory"),
    "device": (("train", *DIGITS, "--device", "gpu"), "expected auto, cpu, cuda or cuda:N"),
    "kernels": (("train", *DIGITS, "--device", "cpu", "--kernels", "pair"), "--kernels pair"),
    "kernels that are gone": (("train", *DIGITS, "--kernels", "epoch"), "'epoch' is not one of 'auto'"),
    "threads": (("train", *DIGITS, "--threads", "0"), "--threads is 0"),
    "checkpoints": (("train", *DIGITS, "--checkpoint-seconds", "-1"), "--checkpoint-seconds is -1"),
    "lambdas": (("sweep-lambda", *DIGITS, "--lambdas", "1,two"), "--lambdas is '1,two'"),
    "grid": (("sweep-lambda", *DIGITS, "--lambda-grid", "1:2"), "LOW:HIGH:COUNT"),
    "rates": (("sweep-lambda", *DIGITS, "--lrs", ","), "--lrs is ','"),
    "lr and lrs": (("sweep-lambda", *DIGITS, "--lrs", "1", "--lr", "1"), "--lr and --lrs were both given"),
    "one fold": (("sweep-lambda", *DIGITS, "--cv", "1"), "--cv is 1"),
    "more folds than rows": (("sweep-lambda", *DIGITS, "--cv", "5000"), "--cv 5000"),
    "1se without folds": (("sweep-lambda", *DIGITS, "--select", "1se"), "--cv 5"),
    "no choice": (("train", *DIGITS, "--task", "svm"), "'softmax', 'logistic'"),
    "no number": (("train", *DIGITS, "--epochs", "ten"), "'--epochs'"),
    "no option": (("train", *DIGITS, "--epoch", "10"), "--epochs"),
    "no command": (("trian",), "No such command 'trian'"),
    "an argument": (("train", "digits"), "unexpected extra argument"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words: str, *arguments: object) -> str:
    """The message of a command that ends with 2 and says `words`."""
    done = invoke(*arguments)
    message = " ".join(done.stderr.replace("│", " ").split())
    assert done.exit_code == 2, message
    assert done.stdout == ""
    assert "Traceback" not in message
    assert words in message
    return message


@pytest.mark.parametrize("case", BAD)
def test_bad_usage(case: str, here: Path) -> None:
    arguments, words = BAD[case]
    refused(words, *arguments)
    assert left_in(here) == []


def test_bad_data_files(here: Path) -> None:
    flowers = write_flowers(here / "flowers.csv")
    (here / "word.csv").write_text("a,b,y\n1,2,x\n3,oops,z\n")
    (here / "ragged.csv").write_text("a,b,y\n1,2,x\n3,z\n")
    (here / "empty.csv").write_text("")
    (here / "nan.csv").write_text("a,b,y\n1,nan,x\n3,4,z\n")
    (here / "broken.npz").write_bytes(b"PK\x03\x04 no more")
    np.savez(here / "pickled.npz", X=np.array([{}, {}], dtype=object), y=np.arange(2))
    before = left_in(here)
    refused("species", "train", "--dataset", flowers, "--target", "colour")  # the columns that there are
    for name, words in (
        ("word.csv", "oops"),
        ("ragged.csv", "ragged.csv"),
        ("empty.csv", "empty.csv"),
        ("nan.csv", "nan.csv"),
        ("broken.npz", "damaged or cut off"),
        ("pickled.npz", "pickled Python objects"),
    ):
        refused(words, "train", "--dataset", here / name)
    refused("--classes", "train", "--dataset", flowers, "--classes", "setosa,rose")
    assert left_in(here) == before


def test_a_run_is_never_overwritten_by_accident(here: Path) -> None:
    data = write_npz(here / "data.npz")
    command = ("train", "--dataset", data, "--epochs", 2, "--out", "run")
    assert invoke(*command).exit_code == 0
    before = (here / "run" / "result.json").read_bytes()
    refused("run already holds a run; give another --out, or replace it with --force", *command)
    refused("run already holds a run", "train", "--dataset", "nowhere.csv", "--out", "run")  # before anything is loaded
    assert (here / "run" / "result.json").read_bytes() == before
    assert invoke(*command, "--force", "--seed", 1).exit_code == 0
    assert (here / "run" / "result.json").read_bytes() != before


def test_a_failing_force_leaves_the_old_run_alone(here: Path) -> None:
    data = write_npz(here / "data.npz")
    assert invoke("train", "--dataset", data, "--epochs", 2, "--out", "run").exit_code == 0
    before = {path: path.read_bytes() for path in (here / "run").iterdir()}
    refused("stable", "train", "--dataset", data, "--l2", 9, "--lr", 1, "--out", "run", "--force")
    assert {path: path.read_bytes() for path in (here / "run").iterdir()} == before


def test_places_that_can_not_be_a_run_directory(here: Path) -> None:
    (here / "file").write_text("mine")
    (here / "folder").mkdir()
    (here / "folder" / "notes.txt").write_text("mine")
    data = write_npz(here / "data.npz")
    refused("file is a file", "train", "--dataset", data, "--out", "file")
    refused("file/run", "train", "--dataset", data, "--out", "file/run")
    refused("folder holds other files", "train", "--dataset", data, "--out", "folder", "--force")
    assert left_in(here) == ["data.npz", "file", "folder", "folder/notes.txt"]
    (here / "empty").mkdir()
    assert invoke("train", "--dataset", data, "--out", "empty").exit_code == 0


def test_an_unexpected_error_ends_with_1_and_asks_for_a_report(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(training, "load", broken)
    done = invoke("train", "--dataset", "digits")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.stderr
    assert "error: unexpected: a bug. This is a bug in gpureg; please report it" in done.stderr
    assert left_in(here) == []


def test_out_of_memory_is_a_message(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(training, "load", full)
    refused("out of memory (Unable to allocate 9 TiB). Use --dtype float32", "train", "--dataset", "digits")


def test_through_the_script(here: Path) -> None:
    """The same from outside: the exit code of the process, and stdout empty."""
    done = script("train", "--dataset", "no/such.csv", "--json", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert left_in(here) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--resume", "nowhere"), "nowhere does not exist, expected the directory of an interrupted run"),
        (("--resume", "file"), "file is a file"),
        (
            ("--resume", "empty"),
            "empty holds no interrupted run. Start one with `gpureg train --out empty`",
        ),
        (("--resume", "empty", "--epochs", "3"), "--epochs can't be given with it"),
        (("--resume", "empty", "--out", "x", "--force"), "--out, --force can't be given with it"),
        (("--resume", "run"), "this run is finished; there is nothing to resume"),
    ],
)
def test_resuming_what_can_not_be_resumed(here: Path, arguments: tuple[str, ...], words: str) -> None:
    (here / "file").write_text("mine")
    (here / "empty").mkdir()
    invoke("train", "--dataset", write_npz(here / "data.npz"), "--epochs", 1, "--out", "run")
    before = left_in(here)
    refused(words, "train", *arguments)
    refused(words, "sweep-lambda", *arguments)
    assert left_in(here) == before
