"""`FitConfig`: validated once, and the same after a round trip through plain values."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w
from gpureg_cli.values import parse_bytes

from gpureg.config import MEMORY, FitConfig
from gpureg.errors import UsageError


def test_numbers_and_sequences_become_tuples() -> None:
    assert FitConfig(l2=0.5).l2 == (0.5,)  # type: ignore[arg-type]
    assert FitConfig(l2=[1, 2], lr=[0.1]).lr == (0.1,)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_the_learning_rate_of_a_task(task: str) -> None:
    assert FitConfig(task=task).rates == ({"softmax": 0.01, "logistic": 0.05}[task],)
    assert FitConfig(task=task, lr=(0.3, 0.4)).rates == (0.3, 0.4)


@pytest.mark.parametrize(
    "config",
    [FitConfig(), FitConfig(task="logistic", l2=(0.1, 1 / 3), lr=(0.1,), cv=5, select="1se", scale="none", threads=2)],
)
def test_round_trip(config: FitConfig) -> None:
    values = config.to_dict()
    assert FitConfig.from_dict(values) == config
    written = tomli_w.dumps({name: value for name, value in values.items() if value is not None})
    assert FitConfig.from_dict(tomllib.loads(written)) == config


def test_kernels_that_are_gone_are_refused_naming_auto_and_read_as_auto_from_a_run() -> None:
    with pytest.raises(UsageError, match=r"kernels is 'epoch'; .* auto, fused"):
        FitConfig(kernels="epoch")
    assert FitConfig.from_dict(FitConfig().to_dict() | {"kernels": "epoch"}) == FitConfig()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"names 'epoch', which is no option; wanted one of .*epochs"):
        FitConfig.from_dict({"epoch": 3})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "svm"}, "task is 'svm'; wanted one of softmax, logistic"),
        ({"solver": "adam"}, "wanted one of sgd, lbfgs"),
        ({"dtype": "float16"}, "wanted one of float32, float64"),
        ({"keep": "first"}, "wanted one of last, best"),
        ({"scale": "minmax"}, "wanted one of none, standard, pixels"),
        ({"class_weight": "none"}, "wanted one of none, balanced"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": 2.0}, "epochs is 2.0; wanted a whole number"),
        ({"epochs": True}, "epochs is True; wanted a whole number"),
        ({"patience": -1}, "at least 0"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**32 - 1, "seeds": 2}, "below"),
        ({"threads": 0}, "at least 1"),
        ({"cv": 1}, "at least 2"),
        ({"select": "1se"}, "--cv 5"),
        ({"l2": ()}, "l2 is empty"),
        ({"l2": "a"}, "wanted a number or a sequence of numbers"),
        ({"l2": (-0.1,)}, "at least 0"),
        ({"l2": (float("inf"),)}, "finite"),
        ({"lr": (0.0,)}, "above 0"),
        ({"min_delta": -1.0}, "min_delta is -1"),
        ({"tol": 0.0}, "tol is 0"),
        ({"memory": 0}, "at least 1"),
    ],
)
def test_what_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FitConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", MEMORY), ("512 MiB", 2**29), ("1.5GB", 1_500_000_000), ("100kb", 100_000), ("4096", 4096), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "nan", "inf", "2 gallons", "GiB", "1e30GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="wanted a size such as 512MiB"):
        parse_bytes(text)
