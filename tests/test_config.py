"""The configurations: checked once, the same after a round trip, and each option written in one place."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, get_args, get_type_hints

import numpy as np
import pytest
import tomli_w
from commands import invoke, write_npz
from gpureg_cli.option_table import SWEEP, TRAIN, fields_of
from gpureg_cli.options import Option
from gpureg_cli.values import parse_bytes

import gpureg
from gpureg.config import (
    About,
    DataConfig,
    DataOptions,
    FitConfig,
    FitOptions,
    joined,
    options_of,
    parted,
)
from gpureg.errors import UsageError, named, naming_flags

MEMORY = 2 * 2**30


def test_numbers_and_sequences_become_tuples() -> None:
    assert FitConfig(l2=0.5).l2 == (0.5,)  # type: ignore[arg-type]
    assert FitConfig(l2=[1, 2], lr=[0.1]).lr == (0.1,)  # type: ignore[arg-type]
    assert FitConfig(l2=np.array([1, 2]), epochs=np.int64(3)).to_dict()["l2"] == [1.0, 2.0]  # type: ignore[arg-type]
    assert DataConfig(classes=np.array([2, 3])).classes == (2, 3)  # type: ignore[arg-type]
    assert DataConfig(classes="a, b,").classes == ("a", "b")  # type: ignore[arg-type]


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


def test_both_configurations_as_one_table() -> None:
    data = DataConfig("flowers.csv", classes=("a,b", "c"), val_size=30, target="kind")
    fit = FitConfig(l2=(0.1, 0.2), threads=2)
    written = tomli_w.dumps({name: value for name, value in joined(data, fit).items() if value is not None})
    assert parted(tomllib.loads(written)) == (data, fit)
    assert not set(options_of(DataConfig)) & set(options_of(FitConfig))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"names 'epoch', which is not an option; did you mean epochs"):
        FitConfig.from_dict({"epoch": 3})
    with pytest.raises(UsageError, match=r"names 'xyz', which is not an option; expected one of .*classes, .*val_size"):
        DataConfig.from_dict({"xyz": 3})
    with pytest.raises(UsageError, match=r"names 'train_sise', which is not an option; did you mean train_size"):
        parted({"epochs": 3, "train_sise": 3})


@pytest.mark.parametrize(("config", "options"), [(FitConfig, FitOptions), (DataConfig, DataOptions)])
def test_the_options_of_a_call_are_the_fields(config: type, options: type) -> None:
    """Names and types; a tuple may be given as any sequence, and a tuple of numbers as one number."""
    hints, mine = get_type_hints(config), get_type_hints(options)
    assert set(mine) == set(hints) - {"dataset"}
    for name, field in options_of(config).items():
        if name in mine and field.type is object:
            assert mine[name] == Sequence[object] | None
        elif name in mine and field.many and field.type is str:
            assert mine[name] == Sequence[str | int] | None
        elif name in mine and field.many:
            expected = {float, Sequence[float]} | ({type(None)} if field.optional else set())
            assert set(get_args(mine[name])) == expected
        elif name in mine:
            assert mine[name] == hints[name]


@dataclass(frozen=True)
class Wider(DataConfig):
    """The data's options, and three more of the kinds that there are."""

    groups: Annotated[str | None, About("Equal values stay together.", "Data", metavar="COLUMN")] = None
    drop: Annotated[tuple[str, ...] | None, About("Leave out these columns.", "Data")] = None
    stream: Annotated[bool, About("Read the rows in blocks.", "Data")] = False
    missing: Annotated[str, About("What is missing.", "Data", choices=("refuse", "mean"))] = "refuse"


def test_a_new_field_is_an_option_of_the_command_and_of_config_toml() -> None:
    table = {option.name: option for option in fields_of("Data", Wider)}
    assert list(table) == [field.name for field in fields(Wider)]
    assert table["groups"] == Option("groups", str, "Equal values stay together.", metavar="COLUMN", panel="Data")
    assert (table["drop"].type, table["drop"].many) == (str, True)
    assert (table["stream"].default, table["stream"].switch) == (None, False)
    assert (table["missing"].default, table["missing"].choices) == ("refuse", ("refuse", "mean"))
    config = Wider("a.csv", groups="site", drop="a,b", stream=True, missing="mean")  # type: ignore[arg-type]
    assert config.drop == ("a", "b")
    assert Wider.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="missing is 'median'; expected one of refuse, mean"):
        Wider(missing="median")
    with pytest.raises(UsageError, match="stream is 1; expected True or False"):
        Wider(stream=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["train", "sweep-lambda"])
def test_every_field_is_an_option_of_the_command(command: str) -> None:
    table = {option.name: option for option in {"train": TRAIN, "sweep-lambda": SWEEP}[command]}
    mine = [field for config in (DataConfig, FitConfig) for field in options_of(config).values()]
    expected = {f.name for f in mine} - (
        {"l2"} if command == "sweep-lambda" else {"Cs", "cv", "score", "select", "seeds", "path_patience", "refit"}
    )
    assert {f.name for f in mine} & set(table) == expected
    for field in mine:
        if field.name in expected - {"Cs"}:  # a grid there
            owner = f"{field.about.solver}: " if field.about.solver else ""
            assert table[field.name].help == owner + field.about.help


GIVEN = {
    "an archive": {
        "dataset": "d.npz",
        "classes": ("0", "2"),
        "train_size": 60,
        "val_size": 20,
        "target": "label",
        "weights": "w",
        "features": ("0", "1"),
        "categorical": "one-hot",
        "missing": "mean",
        "test": "d.npz",
    },
    "rows that are marked": {"dataset": "d.npz", "groups": "g", "folds": "f", "val_size": 0},
    "rows that stay in the file": {"dataset": "d.npz", "stream": True},
    "a matrix": {"dataset": "X.npy", "labels": "y.npy", "val": "d.npz", "drop": ("1",), "missing": "drop"},
}


def test_every_field_is_given_below() -> None:
    assert {name for options in GIVEN.values() for name in options} == set(options_of(DataConfig))


@pytest.mark.parametrize("kind", GIVEN)
def test_what_a_run_says_of_its_data_comes_from_the_fields(tmp_path, monkeypatch, kind: str) -> None:
    """Command line -> DataConfig -> load -> config.toml -> DataConfig."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(90, 3)), np.arange(90) % 3
    np.savez(tmp_path / "d.npz", X=X, label=y, y=y, w=np.ones(90), g=np.arange(90) % 20, f=np.arange(90) % 4)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    options = {n: str(tmp_path / v) if options_of(DataConfig)[n].about.path else v for n, v in GIVEN[kind].items()}
    given = DataConfig(**options)  # type: ignore[arg-type]
    flags: list[object] = []
    for name, value in options.items():
        flags.append("--" + name.replace("_", "-"))
        flags += [] if value is True else [",".join(value) if isinstance(value, tuple) else value]
    monkeypatch.chdir(tmp_path)
    done = invoke("train", *flags, "--epochs", 1, "--out", "run")
    assert done.exit_code == 0, done.stderr
    run = gpureg.load_run("run")
    assert parted(run.config)[0] == given
    rows = run.result["n_train"] + run.result["n_val"]
    expected = {"an archive": ([0, 2], 55), "a matrix": ([0, 1, 2], 180)}
    assert (run.result["classes"], rows) == expected.get(kind, ([0, 1, 2], 90))
    data = gpureg.load_dataset(given.dataset, **{n: v for n, v in options.items() if n != "dataset"})
    assert DataConfig.from_dict({n: v for n, v in data.options.items() if n in options_of(DataConfig)}) == given


def test_a_run_from_python_says_how_its_data_were_loaded(tmp_path) -> None:
    data = gpureg.load_dataset(write_npz(tmp_path / "d.npz"), val_size=20, seed=3)
    config = gpureg.fit(data, epochs=1, seed=3).config
    assert parted(config)[0] == DataConfig(str(tmp_path / "d.npz"), val_size=20)
    other = gpureg.fit(data, epochs=1, seed=4).config  # with this seed the split would be another one
    assert not set(other) & set(options_of(DataConfig))


def test_options_are_named_as_their_caller_names_them() -> None:
    assert named("out") == "directory"  # as `FitResult.save` calls it
    assert (named("val_size"), named("val_size", 3), named("shuffle", False)) == (
        "val_size",
        "val_size=3",
        "shuffle=False",
    )
    with naming_flags():
        assert (named("val_size"), named("val_size", 3)) == ("--val-size", "--val-size 3")
        assert (named("shuffle", True), named("shuffle", False)) == ("--shuffle", "--no-shuffle")
        with pytest.raises(UsageError, match=r"^--batch-size is 0; expected a whole number of at least 1"):
            FitConfig(batch_size=0)
    with pytest.raises(UsageError, match=r"^batch_size is 0; expected"):
        FitConfig(batch_size=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "svm"}, "task is 'svm'; expected one of softmax, logistic"),
        ({"solver": "adam"}, "expected one of auto, sgd, lbfgs"),
        ({"dtype": "float16"}, "expected one of float32, float64"),
        ({"keep": "first"}, "expected one of last, best"),
        ({"scale": "minmax"}, "expected one of none, standard, pixels"),
        ({"class_weight": "odd"}, "expected one of none, balanced"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": 2.0}, "epochs is 2.0; expected a whole number"),
        ({"epochs": True}, "epochs is True; expected a whole number"),
        ({"epochs": 10**30}, "epochs is 10+; expected a whole number from 1 to 2147483647"),
        ({"memory": 10**5000}, "memory is a number with very many digits; expected a whole number from 1"),
        ({"tol": 10**400}, "expected a finite number above 0"),
        ({"shuffle": "yes"}, "shuffle is 'yes'; expected True or False"),
        ({"device": 3}, "device is 3; expected text"),
        ({"patience": -1}, "at least 0"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**32 - 1, "seeds": 2}, "below"),
        ({"threads": 0}, "at least 1"),
        ({"cv": 1}, "at least 2"),
        ({"select": "1se"}, "add cv=5"),
        ({"l2": ()}, "l2 is empty"),
        ({"l2": "a"}, "expected a number or a sequence of numbers"),
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
    with pytest.raises(UsageError, match="expected a size such as 512MiB"):
        parse_bytes(text)
