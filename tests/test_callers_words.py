"""A message calls an option what its caller calls it: `--val-size 10` on the command line, `val_size=10` in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import invoke, write_flowers

import gpureg
from gpureg.errors import DeviceError, GpuregError, GpuregWarning

Call = Callable[[], object]
BOTH: dict[str, tuple[Call, tuple[str, ...], str]] = {
    "a column": (
        lambda: gpureg.load_dataset("flowers.csv", target="colour"),
        ("--dataset", "flowers.csv", "--target", "colour"),
        "target",
    ),
    "too many rows": (
        lambda: gpureg.load_dataset("digits", train_size=99999),
        ("--dataset", "digits", "--train-size", "99999"),
        "train_size",
    ),
    "an option's value": (
        lambda: gpureg.fit(gpureg.load_dataset("digits"), epochs=0),
        ("--dataset", "digits", "--epochs", "0"),
        "epochs",
    ),
    "kernels that do not run here": (
        lambda: gpureg.fit(gpureg.load_dataset("digits"), kernels="pair", device="cpu"),
        ("--dataset", "digits", "--kernels", "pair", "--device", "cpu"),
        "kernels",
    ),
    "a device that is required": (
        lambda: gpureg.fit(gpureg.load_dataset("digits"), device="cuda:99", strict_device=True),
        ("--dataset", "digits", "--device", "cuda:99", "--strict-device"),
        "strict_device",
    ),
    "classes": (
        lambda: gpureg.load_dataset("digits", task="logistic"),
        ("--dataset", "digits", "--task", "logistic"),
        "classes",
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_flowers(tmp_path / "flowers.csv")


@pytest.mark.parametrize("case", BOTH)
def test_a_message_speaks_the_language_of_its_caller(case: str) -> None:
    call, arguments, option = BOTH[case]
    with pytest.raises(GpuregError) as raised:
        call()
    assert re.search(rf"\b{option}\b", str(raised.value))
    assert not re.search(r"(?<![\w-])--[a-z]", str(raised.value))
    said = " ".join(invoke("train", *arguments, "--out", "run").stderr.split())
    assert f"--{option.replace('_', '-')}" in said
    assert not re.search(rf"\b{option}=", said)


def test_a_warning_does_too() -> None:
    with pytest.warns(GpuregWarning, match="^device='cuda:99' is not available"):
        gpureg.fit(gpureg.load_dataset("digits"), device="cuda:99", epochs=1)
    done = invoke("train", "--dataset", "digits", "--device", "cuda:99", "--epochs", 1, "--out", "run")
    assert "warning: --device cuda:99 is not available" in " ".join(done.stderr.split())


def test_a_device_that_is_required_says_what_to_do() -> None:
    with pytest.raises(
        DeviceError, match=r"is required by strict_device=True, .* or leave out strict_device=True to run"
    ):
        gpureg.fit(gpureg.load_dataset("digits"), device="cuda:99", strict_device=True)


@pytest.mark.parametrize(
    ("command", "option", "text", "words"),
    [
        ("train", "--l2", "0.1,0.2", "is several numbers; expected one. Use gpureg sweep-lambda --lambdas 0.1,0.2"),
        ("train", "--lr", "1,2", "Use gpureg sweep-lambda --lrs 1,2"),
        ("sweep-lambda", "--lr", "1,2", "Use gpureg sweep-lambda --lrs 1,2"),
        ("train", "--l2", "0.1,x", "'0.1,x' is not a number"),
        ("train", "--l2", "much", "'much' is not a number"),
    ],
)
def test_several_numbers_name_the_command_that_takes_them(command: str, option: str, text: str, words: str) -> None:
    done = invoke(command, "--dataset", "digits", option, text)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
