"""`--config`: a run's config.toml runs it again with the same numbers, and the command line wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import invoke, same_run, write_flowers

import gpureg

FAST = ("--dataset", "digits", "--epochs", 3)
AGAIN = {
    "train": ("train", *FAST, "--l2", 0.015, "--lr", 0.07, "--no-shuffle", "--dtype", "float64", "--keep", "best"),
    "train, defaults": ("train", *FAST),
    "logistic": ("train", *FAST, "--task", "logistic", "--classes", "7,1", "--class-weight", "balanced", "--seed", 5),
    "sizes": ("train", *FAST, "--train-size", 700, "--val-size", 200, "--scale", "none", "--memory", "300MiB"),
    "sweep": ("sweep-lambda", *FAST, "--lambda-grid", "1e-6:0.3:5", "--threads", 1),
    "rates": ("sweep-lambda", *FAST, "--lambdas", "0.1,0.003", "--lrs", "0.01,0.033", "--no-penalize-bias"),
    "folds": ("sweep-lambda", *FAST, "--cv", 3, "--select", "1se", "--seeds", 2, "--batch-size", 64),
    "seeds": ("sweep-lambda", *FAST, "--lambdas", "0.1", "--seeds", 2, "--patience", 3, "--min-delta", 1e-4),
    "lbfgs": ("train", "--dataset", "digits", "--solver", "lbfgs", "--l2", 0.1, "--max-iter", 20, "--tol", 1e-3),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", AGAIN)
def test_a_run_s_configuration_runs_it_again(case: str, here: Path) -> None:
    command, *options = AGAIN[case]
    first = invoke(command, *options, "--out", "one")
    assert first.exit_code == 0, first.stderr
    again = invoke(command, "--config", "one/config.toml", "--out", "two")
    assert again.exit_code == 0, again.stderr
    same_run(here / "one", here / "two")
    assert gpureg.load_run("one").config == gpureg.load_run("two").config


def test_a_path_is_found_again_from_any_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flowers(here / "flowers.csv")
    assert invoke("train", "--dataset", "flowers.csv", "--weights", "weight", "--out", "one").exit_code == 0
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = invoke("train", "--config", "../one/config.toml", "--out", "two")
    assert again.exit_code == 0, again.stderr
    same_run(here / "one", elsewhere / "two")


def test_the_command_line_wins(here: Path) -> None:
    (here / "c.toml").write_text('dataset = "digits"\nepochs = 7\nlr = 0.5\nseed = 3\n')
    invoke("train", "--config", "c.toml", "--epochs", 2, "--lr", 0.25, "--out", "run")
    config = gpureg.load_run("run").config
    assert (config["epochs"], config["lr"], config["seed"]) == (2, [0.25], 3)
    invoke("train", "--config", "c.toml", "--epochs", 50, "--patience", 1, "--out", "default")
    assert gpureg.load_run("default").config["epochs"] == 50  # also where it is the default that is given


def test_one_of_a_pair_replaces_the_other(here: Path) -> None:
    (here / "c.toml").write_text('dataset = "digits"\nepochs = 1\nlambdas = [0.1, 0.2]\nlrs = [0.01, 0.02]\n')
    invoke("sweep-lambda", "--config", "c.toml", "--lambda-grid", "0.01:1:3", "--lr", 0.5, "--out", "run")
    config = gpureg.load_run("run").config
    assert config["l2"] == pytest.approx([1, 0.1, 0.01])
    assert config["lr"] == [0.5]
    both = invoke("sweep-lambda", "--lambdas", "1", "--lambda-grid", "0.01:1:3", "--dataset", "digits")
    assert both.exit_code == 2
    assert "--lambdas and --lambda-grid were both given" in both.stderr


def test_a_configuration_of_the_other_command(here: Path) -> None:
    invoke("train", *FAST, "--l2", 0.5, "--out", "one")
    assert invoke("sweep-lambda", "--config", "one/config.toml", "--out", "two").exit_code == 0
    assert gpureg.load_run("two").config["l2"] == [0.5]
    invoke("sweep-lambda", *FAST, "--lambdas", "0.5,0.1", "--out", "three")
    refused = invoke("train", "--config", "three/config.toml")
    assert refused.exit_code == 2
    assert "l2 has 2 values; train takes one. Use gpureg sweep-lambda." in refused.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "names 'epoch', which is not an option of this command. Did you mean 'epochs'?"),
        ("zzz = 3", "names 'zzz', which is not an option"),
        ("epochs = 'three'", "epochs is 'three'; expected a whole number"),
        ("epochs = 2.5", "epochs is 2.5; expected a whole number"),
        ("epochs = true", "epochs is True; expected a whole number"),
        ("shuffle = 1", "shuffle is 1; expected true or false"),
        ("lr = 'fast'", "lr is 'fast'; expected a number"),
        ("task = 'sotfmax'", "task is 'sotfmax'; expected one of softmax, logistic"),
        ("out = 3", "out is 3; expected a path"),
        ("resume = 'x'", "names 'resume', which is not an option"),
        ("epochs = ", "is not TOML"),
        ("cv = 5", "names 'cv', which is not an option"),
    ],
)
def test_what_is_wrong_in_a_file(here: Path, text: str, words: str) -> None:
    (here / "c.toml").write_text(text)
    done = invoke("train", "--config", "c.toml")
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_no_text(here: Path) -> None:
    done = invoke("train", "--config", "nowhere.toml")
    assert done.exit_code == 2
    assert "--config nowhere.toml can't be read (No such file or directory)" in done.stderr
    (here / "c.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in invoke("train", "--config", "c.toml").stderr
