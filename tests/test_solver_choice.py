"""Which solver a fit uses: one decision, by what is given and the kind of the data, for the commands and for Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, write_npz
from small_problems import blobs

import gpureg
from gpureg.config import OWNERS, FitConfig, decide_solver, layered
from gpureg.errors import GpuregWarning, UsageError, naming_flags

SGD = ("epochs", "batch_size", "lr", "shuffle", "shuffle_by", "evals_per_epoch", "patience", "min_delta", "keep")
LBFGS = ("tol", "max_iter", "path_patience", "engine", "scheduler", "workers")


def test_each_solver_has_its_own_options() -> None:
    assert {name for name, owner in OWNERS.items() if owner == "sgd"} == set(SGD)
    assert {name for name, owner in OWNERS.items() if owner == "lbfgs"} == set(LBFGS)


@pytest.mark.parametrize(
    ("given", "named_set", "solver", "reason"),
    [
        ({}, True, "sgd", "the report's"),
        ({}, False, "lbfgs", "to the optimum"),
        ({}, None, "auto", ""),
        ({"solver": "auto"}, False, "lbfgs", "to the optimum"),
        ({"solver": "sgd"}, False, "sgd", "--solver sgd was given"),
        ({"solver": "lbfgs"}, True, "lbfgs", "--solver lbfgs was given"),
        ({"l2": 1, "penalize_bias": True, "seed": 3, "dtype": "float64"}, True, "sgd", "the report's"),
        ({"l2": 1, "penalize_bias": True, "seed": 3, "dtype": "float64"}, False, "lbfgs", "to the optimum"),
        *(({name: 1}, False, "sgd", f"--{name.replace('_', '-')} is an option of it alone") for name in SGD),
        *(({name: 1}, True, "lbfgs", f"--{name.replace('_', '-')} is an option of it alone") for name in LBFGS),
        ({"epochs": 50, "lr": 1}, False, "sgd", "--epochs, --lr are options of it alone"),
        ({"epochs": None}, False, "lbfgs", "to the optimum"),
        ({"epochs": 9, "solver": "sgd"}, False, "sgd", "was given"),
        ({"tol": 1, "solver": "auto"}, True, "lbfgs", "--tol"),
        ({"seeds": 3}, False, "sgd", "--seeds"),
        ({"seeds": 3, "cv": None}, False, "sgd", "--seeds"),
        ({"seeds": 3, "cv": 5}, False, "lbfgs", "to the optimum"),
        ({"seeds": 3, "cv": 5}, True, "sgd", "the report's"),
        ({"seeds": 3, "cv": 5, "tol": 1}, True, "lbfgs", "--tol"),
    ],
)
def test_the_decision(given: dict[str, Any], named_set: bool | None, solver: str, reason: str) -> None:
    with naming_flags():
        choice = decide_solver(given, OWNERS, named_set)
    assert choice.solver == solver
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 1, "tol": 1}, "epochs is an option of sgd, and tol is an option of lbfgs; expected options of one"),
        ({"seeds": 2, "max_iter": 1}, "seeds is an option of sgd, and max_iter is an option of lbfgs"),
        ({"solver": "lbfgs", "epochs": 1, "lr": 1}, "epochs, lr are options of sgd, but solver='lbfgs' was given"),
        ({"solver": "sgd", "tol": 1}, "tol is an option of lbfgs, but solver='sgd' was given. Give solver='lbfgs', or"),
        ({"solver": "lbfgs", "seeds": 2}, "seeds is an option of sgd"),
        ({"solver": "newton"}, "solver is 'newton'; expected one of auto, sgd, lbfgs"),
    ],
)
@pytest.mark.parametrize("named_set", [True, False, None])
def test_contradictions(given: dict[str, Any], words: str, named_set: bool | None) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        decide_solver(given, OWNERS, named_set)


@pytest.mark.parametrize(
    ("base", "over", "result", "left_out"),
    [
        ({"epochs": 3, "l2": 1}, {"l2": 2}, {"epochs": 3, "l2": 2}, []),
        ({"solver": "sgd", "epochs": 3, "tol": 1}, {}, {"solver": "sgd", "epochs": 3}, ["tol"]),
        ({"solver": "sgd", "epochs": 3}, {"solver": "lbfgs", "tol": 1}, {"solver": "lbfgs", "tol": 1}, ["epochs"]),
        ({"epochs": 3}, {"solver": "lbfgs"}, {"solver": "lbfgs"}, ["epochs"]),
        ({"epochs": 3, "tol": 1}, {}, {"epochs": 3, "tol": 1}, []),  # a contradiction, which the decision finds
        ({"solver": "sgd"}, {"tol": 1}, {"solver": "sgd", "tol": 1}, []),  # so is this
        ({"solver": "lbfgs", "seeds": 2}, {}, {"solver": "lbfgs"}, ["seeds"]),
        ({"solver": "lbfgs", "seeds": 2, "cv": 3}, {}, {"solver": "lbfgs", "seeds": 2, "cv": 3}, []),
        ({"solver": "lbfgs", "tol": 1}, {"solver": "auto"}, {"solver": "auto", "tol": 1}, []),
    ],
)
def test_a_file_under_the_command_line(
    base: dict[str, Any], over: dict[str, Any], result: dict[str, Any], left_out: list[str]
) -> None:
    assert layered(base, over, OWNERS) == (result, left_out)


def test_a_configuration_decides_as_far_as_it_can() -> None:
    assert FitConfig().solver == "auto"
    assert (FitConfig(epochs=3).solver, FitConfig(epochs=3).penalize_bias, FitConfig(epochs=3).l2) == (
        "sgd",
        True,
        (0.0,),
    )
    assert (FitConfig(tol=0.1).solver, FitConfig(tol=0.1).penalize_bias, FitConfig(tol=0.1).l2) == (
        "lbfgs",
        False,
        None,
    )
    assert FitConfig(solver="sgd", penalize_bias=False).penalize_bias is False
    with pytest.raises(UsageError, match="l2 and Cs were both given"):
        FitConfig(l2=(1.0,), Cs=(1.0,))


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_what_is_written_are_the_solver_s_options_alone(solver: str) -> None:
    mine, others = (SGD, LBFGS) if solver == "sgd" else (LBFGS, SGD)
    written = FitConfig(solver=solver).to_dict()
    assert set(mine) <= set(written)
    assert not {*others, *(["seeds"] if solver == "lbfgs" else [])} & set(written)
    assert FitConfig.from_dict(written) == FitConfig(solver=solver)
    assert "seeds" in FitConfig(solver="lbfgs", cv=2, seeds=2).to_dict()


def test_python_follows_the_same_rules(tmp_path: Path) -> None:
    arrays, named = blobs(60, 20), gpureg.load_dataset("digits", train_size=200, val_size=50)
    assert gpureg.fit(arrays).solver == "lbfgs"
    assert gpureg.fit(gpureg.load_dataset(write_npz(tmp_path / "d.npz"))).solver == "lbfgs"
    assert gpureg.fit(named).solver == "sgd"
    assert gpureg.fit(arrays, lr=0.1, batch_size=20).solver == "sgd"
    assert gpureg.fit(arrays, evals_per_epoch=5, batch_size=20).solver == "sgd"  # also where it is the default
    assert gpureg.fit(named, tol=1e-3, l2=0.1).solver == "lbfgs"
    with pytest.raises(UsageError, match="epochs is an option of sgd, and tol is an option of lbfgs"):
        gpureg.fit(arrays, epochs=50, tol=1e-3)
    with pytest.raises(UsageError, match=r"lr is an option of sgd, but solver='lbfgs' was given"):
        gpureg.fit(named, solver="lbfgs", lr=0.1)


def test_a_solver_that_is_named_wins_over_a_configuration() -> None:
    with pytest.warns(
        GpuregWarning, match="config: the solver is lbfgs; epochs belongs to the other solver and is left"
    ):
        result = gpureg.fit(blobs(60, 20), FitConfig(epochs=3, l2=(0.1,)), solver="lbfgs")
    assert (result.solver, result.config["penalize_bias"], result.models[0].l2) == ("lbfgs", False, 0.1)
    with pytest.raises(UsageError, match="tol is an option of lbfgs, but solver='sgd' was given"):
        gpureg.fit(blobs(60, 20), FitConfig(epochs=3), tol=1e-3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "d.npz")
    return tmp_path


FILE, DIGITS = ("--dataset", "d.npz"), ("--dataset", "digits", "--train-size", 200, "--val-size", 50)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("train", *FILE), "solver: lbfgs (to the optimum, for data of your own; --solver sgd takes minibatches)"),
        (("train", *DIGITS), "solver: sgd (the report's, for a named data set; --solver lbfgs goes to the optimum)"),
        (("train", *FILE, "--epochs", 2, "--batch-size", 30), "solver: sgd (--epochs, --batch-size are options of it"),
        (("train", *DIGITS, "--tol", 1e-3), "solver: lbfgs (--tol is an option of it alone)"),
        (("sweep-lambda", *FILE, "--seeds", 2, "--batch-size", 30), "solver: sgd (--seeds, --batch-size are options"),
        (
            ("sweep-lambda", *FILE, "--lrs", "0.1", "--batch-size", 30),
            "solver: sgd (--lrs, --batch-size are options of",
        ),
        (("sweep-lambda", *FILE, "--seeds", 2, "--cv", 2), "solver: lbfgs (to the optimum"),
        (("train", *FILE, "--solver", "lbfgs"), "solver: lbfgs (--solver lbfgs was given)"),
    ],
)
def test_the_first_line_says_which_and_why(here: Path, command: tuple[object, ...], line: str) -> None:
    done = invoke(*command, "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith(line)
    assert gpureg.load_run("run").result["solver"] == line.split()[1]
    assert gpureg.load_run("run").config["solver"] == line.split()[1]
    quiet = invoke(*command, "--out", "quiet", "--quiet")
    assert quiet.stdout.startswith(line)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", 2, "--tol", 0.1), "--epochs is an option of sgd, and --tol is an option of lbfgs"),
        (("--solver", "sgd", "--max-iter", 5), "--max-iter is an option of lbfgs, but --solver sgd was given"),
        (("--solver", "lbfgs", "--no-shuffle"), "--no-shuffle is an option of sgd, but --solver lbfgs was given"),
    ],
)
def test_bad_usage(here: Path, options: tuple[object, ...], words: str) -> None:
    done = invoke("train", *FILE, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert not (here / "runs").exists()


def test_options_of_a_file_count_as_given(here: Path) -> None:
    (here / "c.toml").write_text('dataset = "d.npz"\nepochs = 2\nbatch_size = 30\n')
    assert "solver: sgd (--epochs, --batch-size" in invoke("train", "--config", "c.toml", "--out", "a").stderr
    both = invoke("train", "--config", "c.toml", "--tol", 0.1)
    assert both.exit_code == 2
    assert "--epochs, --batch-size are options of sgd, and --tol is an option of lbfgs" in both.stderr
    won = invoke("train", "--config", "c.toml", "--solver", "lbfgs", "--out", "b")
    assert won.exit_code == 0, won.stderr
    assert "--config c.toml: the solver is lbfgs; epochs, batch_size belong to the other solver" in won.stderr
    assert "epochs" not in gpureg.load_run("b").config


def test_a_file_that_names_the_solver(here: Path) -> None:
    (here / "c.toml").write_text('dataset = "d.npz"\nsolver = "lbfgs"\nepochs = 2\ntol = 1e-4\n')
    done = invoke("train", "--config", "c.toml", "--out", "a")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[0] == "solver: lbfgs (--solver lbfgs was given in --config c.toml)"
    assert done.stderr.count("warning: --config c.toml: the solver is lbfgs; epochs belongs to the other solver") == 1
    assert gpureg.load_run("a").config["tol"] == 1e-4
    refused = invoke("train", "--config", "c.toml", "--lr", 0.1)
    assert refused.exit_code == 2
    assert "--lr is an option of sgd, but --solver lbfgs was given in --config c.toml" in refused.stderr
    other = invoke("train", "--config", "c.toml", "--solver", "sgd", "--lr", 0.1, "--batch-size", 30, "--out", "b")
    assert other.exit_code == 0, other.stderr
    assert "--config c.toml: the solver is sgd; tol belongs to the other solver" in other.stderr
    assert (gpureg.load_run("b").config["epochs"], gpureg.load_run("b").config["lr"]) == (2, [0.1])


@pytest.mark.parametrize("solver", [None, "sgd", "lbfgs"])
def test_a_file_of_schema_1_means_sgd_unless_it_says_lbfgs(here: Path, solver: str | None) -> None:
    """It holds the options of both solvers, and the first did not name one."""
    old: dict[str, Any] = {
        "dataset": "d.npz", "task": "softmax", "l2": [0.01], "epochs": 2, "batch_size": 30, "shuffle": True, "seed": 0,
        "seeds": 1, "evals_per_epoch": 5, "patience": 10, "min_delta": 0.0, "keep": "last", "select": "min",
        "device": "auto", "strict_device": False, "dtype": "float64", "penalize_bias": True, "memory": 2**31,
        "kernels": "epoch",
    }  # fmt: skip
    if solver:
        old |= {"solver": solver, "tol": 1e-8, "max_iter": 1000}
    (here / "c.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in old.items()))
    done = invoke("train", "--config", "c.toml", "--out", "run")
    assert done.exit_code == 0, done.stderr
    config = gpureg.load_run("run").config
    assert (config["solver"], config["l2"], config["kernels"]) == (solver or "sgd", [0.01], "auto")
    assert config["penalize_bias"] is True
    assert ("epochs" in config) == (solver != "lbfgs")
    assert done.stderr.count("warning: --config") == (solver is not None)


def test_numbers_of_python_are_given_too() -> None:
    result = gpureg.fit(blobs(60, 20), batch_size=np.int64(20), epochs=1)
    assert (result.solver, result.config["batch_size"]) == ("sgd", 20)
