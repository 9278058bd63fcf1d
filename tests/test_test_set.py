"""`--test` and `test=`: the chosen model is evaluated once, at the end, on rows that were checked before the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import invoke, left_in, strict_json, write_flowers
from resuming import Memory

import gpureg
from gpureg.config import FitConfig
from gpureg.errors import DataError, GpuregWarning, UsageError
from gpureg.fitting.entry import Hooks, run_fit


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Rows to train on in train.csv, and in test.csv others in another order of columns, with a further one."""
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(write_flowers(tmp_path / "all.csv", rows=300))
    frame[:200].to_csv("train.csv", index=False)
    frame[200:][list(frame.columns[::-1])].assign(more="x").to_csv("test.csv", index=False)
    return frame[200:]


OPTIONS = ("--dataset", "train.csv", "--target", "species", "--weights", "weight", "--test", "test.csv")
FIT: dict[str, Any] = {"solver": "lbfgs", "l2": [0.1, 0.001]}


@pytest.mark.parametrize(
    "command",
    [("train",), ("sweep-lambda", "--lambdas", "0.1,0.001"), ("sweep-lambda", "--lambdas", "0.1,0.001", "--cv", "3")],
)
def test_the_result_has_the_metrics_of_the_chosen_model(command: tuple[str, ...], flowers: pd.DataFrame) -> None:
    done = invoke(*command, *OPTIONS, "--solver", "lbfgs", "--bootstrap", "30", "--seed", "5", "--out", "run", "--json")
    assert done.exit_code == 0, done.stderr
    found = strict_json(done.stdout)["test"]
    run = gpureg.load_run("run")
    assert run.result["test"] == found
    again = run.model.evaluate(flowers, flowers["species"], flowers["weight"], bootstrap=30, seed=5)
    assert found == again.to_dict()
    assert found == strict_json(invoke("evaluate", "run", "test.csv", "--bootstrap", "30", "--json").stdout)
    assert "the chosen model on 100 test rows" in done.stderr
    assert "test = " in Path("run/config.toml").read_text()


def test_classes_select_rows_of_the_test_set_too(flowers: pd.DataFrame) -> None:
    done = invoke("train", *OPTIONS, "--classes", "setosa,virginica", "--out", "run", "--json")
    assert done.exit_code == 0, done.stderr
    assert strict_json(done.stdout)["test"]["n"] == (flowers["species"] != "versicolor").sum()


def test_in_python_it_is_a_file_or_arrays(flowers: pd.DataFrame) -> None:
    data = gpureg.load_dataset("train.csv", target="species", weights="weight")
    X, y, w = flowers.drop(columns=["species", "weight"]), flowers["species"], flowers["weight"]
    results = [
        gpureg.fit(data, test=test, bootstrap=10, **FIT) for test in ((X, y), (X, y, w), "test.csv", Path("test.csv"))
    ]
    plain, weighted, file, path = (result.test for result in results)
    assert plain == results[0].model.evaluate(X, y, bootstrap=10)
    assert weighted == results[0].model.evaluate(X, y, w, bootstrap=10)
    assert file == path == plain  # weights are those of a column that is named
    with_weights = gpureg.load_dataset("train.csv", target="species", weights="weight", test="test.csv")
    assert gpureg.fit(with_weights, bootstrap=10, **FIT).test == weighted
    assert gpureg.fit(data, **FIT).test is None


BAD: dict[str, tuple[Any, str]] = {
    "a tuple of one": (lambda X, y: (X,), "test is a tuple of length 1; expected"),
    "lengths": (lambda X, y: (X, y[:-1]), "X and y: 100 rows but 99 labels"),
    "missing columns": (lambda X, y: (X.drop(columns="a"), y), "lacks columns that this model was trained on: a"),
    "NaN": (lambda X, y: (X.assign(a=np.nan), y), "100 rows hold NaN"),
    "classes": (lambda X, y: (X, ["rose"] * len(y)), "100 of 100 rows have classes that this model does not know"),
    "no file": (lambda X, y: "nope.csv", "test='nope.csv' is neither"),
    "a named set": (lambda X, y: "digits", "test='digits' is a named data set; expected a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_refused_before_anything_is_trained(case: str, flowers: pd.DataFrame) -> None:
    make, words = BAD[case]
    data = gpureg.load_dataset("train.csv", target="species", weights="weight")
    seen: list[object] = []
    with pytest.raises((UsageError, DataError), match=words):
        gpureg.fit(
            data, test=make(flowers.drop(columns=["species", "weight"]), flowers["species"]), observe=seen.append
        )
    assert not seen


COMMANDS = {
    "no file": (("--test", "nope.csv"), "--test nope.csv is neither a named data set"),
    "no label": (("--test", "unlabelled.csv"), "--target species: unlabelled.csv has no such column"),
    "NaN": (("--test", "holes.csv"), "holes.csv: 1 row holds NaN or infinite values; the first is row 3"),
    "resamples of nothing": (("--bootstrap", "10"), "--bootstrap 10 needs a test set; give --test"),
    "nothing that chooses": (("--test", "test.csv", "--val-size", "0"), "nothing chooses among 32"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_bad_options_end_with_2_and_leave_nothing(case: str, flowers: pd.DataFrame, tmp_path: Path) -> None:
    flowers.drop(columns="species").to_csv("unlabelled.csv", index=False)
    flowers.reset_index(drop=True).assign(b=lambda f: f["b"].where(f.index != 3)).to_csv("holes.csv", index=False)
    options, words = COMMANDS[case]
    before = left_in(tmp_path)
    done = invoke("sweep-lambda", *OPTIONS[:4], *options, "--solver", "lbfgs", "--out", "run")
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert left_in(tmp_path) == before


def test_a_test_set_that_changed_costs_its_metrics_alone(flowers: pd.DataFrame) -> None:
    data = gpureg.load_dataset("train.csv", target="species", weights="weight", test="test.csv")

    def spoil(event: object) -> None:
        flowers.assign(species="rose").to_csv("test.csv", index=False)

    with pytest.warns(GpuregWarning, match="The test set could not be evaluated: .*'rose'"):
        result = gpureg.fit(data, observe=spoil, **FIT)
    assert result.test is None
    assert result.selected is not None
    assert "The test set could not be evaluated" in result.warnings[-1]


def test_a_resumed_run_is_tested_as_well(flowers: pd.DataFrame) -> None:
    """An interrupted run has no metrics yet; resumed, it has those of the run that was never stopped."""
    data = gpureg.load_dataset("train.csv", target="species", weights="weight", test="test.csv")
    config = FitConfig(solver="sgd", epochs=6, batch_size=16)
    keeper, stops = Memory(), iter([False, False, True])
    part = run_fit(data, config, Hooks(lambda event: None, lambda: next(stops, True), keeper))
    assert (part.models[0].stop_reason, part.test) == ("interrupted", None)
    resumed = run_fit(data, config, Hooks(lambda event: None, lambda: False), saved=keeper.saved)
    whole = gpureg.fit(data, config)
    assert whole.test is not None
    assert resumed.test == whole.test


def test_what_the_test_rows_hold_is_among_the_warnings_of_the_result(flowers: pd.DataFrame) -> None:
    """Words that no training row has: in result.json too, once, whether the rows are a file or a frame."""
    for name, towns in (("train", ["a", "b"]), ("test", ["a", "b", "c", "c"])):
        table = pd.read_csv(f"{name}.csv").drop(columns=["weight"], errors="ignore")
        table["town"] = [towns[i % len(towns)] for i in range(len(table))]
        table.drop(columns="more", errors="ignore").to_csv(f"{name}.csv", index=False)
    options = ("--dataset", "train.csv", "--target", "species", "--categorical", "one-hot", "--test", "test.csv")
    done = invoke("train", *options, "--out", "run", "--json")
    assert done.exit_code == 0, done.stderr
    says = "test.csv: rows hold categories that no training row has, in 'town' (50)"
    assert [says in warning for warning in gpureg.load_run("run").result["warnings"]].count(True) == 1
    assert done.stderr.count("no training row has, in 'town' (50)") == 1
    test = pd.read_csv("test.csv")
    data = gpureg.load_dataset("train.csv", target="species", categorical="one-hot")
    with pytest.warns(GpuregWarning, match="no training row has") as told:
        result = gpureg.fit(data, test=(test.drop(columns="species"), test["species"]), **FIT)
    assert [str(one.message) for one in told if "no training row has" in str(one.message)] == [
        warning for warning in result.warnings if "no training row has" in warning
    ]
