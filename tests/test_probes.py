"""The linear probe: one command equals the loop that is written by hand, and the recipe of the document runs."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, strict_json
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import gpureg

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "probes.md"


Part = tuple[np.ndarray, np.ndarray]


def embeddings(rows: tuple[int, ...], features: int, classes: int, spread: float) -> list[Part]:
    """Parts of one population: features of unequal deviations, classes that overlap."""
    random = np.random.default_rng(0)
    centres, deviations = random.normal(size=(classes, features)), spread * np.exp(random.normal(size=features) / 4)
    parts = []
    for count in rows:
        y = random.integers(0, classes, count)
        X = centres[y] + deviations * random.normal(size=(count, features))
        parts.append((X.astype(np.float32), y))
    return parts


def by_hand(parts: list[Part], Cs: np.ndarray, resamples: int) -> dict[str, Any]:
    """scikit-learn, one C after the other: standardised, chosen by validation accuracy, of equal ones the smallest C;
    fitted again to both parts; the accuracy of the test rows with the percentiles of its bootstrap.
    """
    (X, y), (X_val, y_val), (X_test, y_test) = ((X.astype(np.float64), y) for X, y in parts)
    scaler, best = StandardScaler().fit(X), (-1.0, 0.0)
    model = LogisticRegression(tol=1e-7, max_iter=20_000, warm_start=True)
    accuracies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for C in np.sort(Cs):
            accuracy = model.set_params(C=C).fit(scaler.transform(X), y).score(scaler.transform(X_val), y_val)
            accuracies.append(accuracy)
            best = max(best, (accuracy, -C))
        both, labels = np.concatenate([X, X_val]), np.concatenate([y, y_val])
        scaler = StandardScaler().fit(both)
        model.set_params(C=-best[1]).fit(scaler.transform(both), labels)
    hits = (model.predict(scaler.transform(X_test)) == y_test).astype(float)
    random = np.random.RandomState(0)
    drawn = [hits[random.randint(0, len(hits), len(hits))].mean() for _ in range(resamples)]
    return {
        "C": -best[1],
        "accuracies": accuracies,
        "accuracy": hits.mean(),
        "interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
    }


SIZES = {
    "small": ((600, 300, 400), 16, 5, 2.0, "1e-4:1e2:13"),
    "embeddings": ((20_000, 4_000, 4_000), 512, 50, 6.0, "1e-5:1e-1:9"),
}


@pytest.mark.filterwarnings("ignore:.*model.*stopped before the tolerance")
@pytest.mark.parametrize("size", ["small", pytest.param("embeddings", marks=pytest.mark.long)])
def test_one_command_is_the_loop_by_hand(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows, features, classes, spread, Cs = SIZES[size]
    parts = embeddings(rows, features, classes, spread)
    for name, (X, y) in zip(("train", "val", "test"), parts, strict=True):
        np.savez(f"{name}.npz", X=X, y=y)
    files = ("--dataset", "train.npz", "--val", "val.npz", "--test", "test.npz")
    choice = ("--Cs", Cs, "--score", "accuracy", "--refit", "all", "--bootstrap", "1000")
    done = invoke("sweep-lambda", *files, *choice, "--dtype", "float64", "--tol", "1e-11", "--json", "--out", "run")
    assert done.exit_code == 0, done.stderr
    found, run = strict_json(done.stdout), gpureg.load_run("run")
    grid = np.array([1 / (2 * model["l2"] * rows[0]) for model in found["models"][:-1]])
    expected = by_hand(parts, grid, 1000)
    assert run.model.refit_of is not None
    assert 1 / (2 * run.model.refit_of * rows[0]) == pytest.approx(expected["C"])
    assert 1 / (2 * run.model.l2[0] * (rows[0] + rows[1])) == pytest.approx(expected["C"])
    order = np.argsort(grid)
    assert [found["models"][index]["val_accuracy"] for index in order] == pytest.approx(expected["accuracies"])
    assert 0 < order.tolist().index(int(np.argmin(abs(grid - expected["C"])))) < len(grid) - 1  # within the grid
    assert found["test"]["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert found["test"]["intervals"]["accuracy"] == pytest.approx(expected["interval"], abs=1e-12)


def blocks(kind: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8").replace("\\\n", "")  # a command may go on in the next line
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that the document's Python takes for granted; its first block writes the files."""
    monkeypatch.chdir(tmp_path)
    parts = dict(zip(("train", "val", "test"), embeddings((400, 150, 150), 6, 3, 2.0), strict=True))
    joined = {f"{letter}_{name}": part[i] for name, part in parts.items() for i, letter in enumerate("Xy")}
    np.savez("probe.npz", **joined)
    values = {"np": np, "gpureg": gpureg, "embeddings": {}, "labels": {}}
    for name, (X, y) in parts.items():
        values["embeddings"][name], values["labels"][name] = X, y
    exec(compile(blocks("python")[0], str(DOCUMENT), "exec"), values)
    yield values
    for name in {"train", "val", "test"} & set(values):  # the archives that the document's Python has opened
        values[name].close()


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_the_commands_of_the_document_run(here: dict[str, Any]) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) == 6
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "gpureg"
        done = invoke(*arguments)
        assert done.exit_code == 0, (line, done.stderr)
    runs = [gpureg.load_run(f"runs/{name}") for name in ("probe", "clip", "folds")]
    for run in runs:
        assert len({model["l2"] for model in run.result["models"]} - {run.model.l2[0]}) >= 95
        assert set(run.result["test"]["intervals"]) >= {"accuracy", "loss"}
    assert [run.model.refit_of is None for run in runs] == [False, False, True]
    assert runs[1].model.offset.tolist() == [0.0] * 6
    assert Path("labels.csv").read_text().count("\n") == 151
    assert "by the validation rows: the best accuracy" in Path("probe.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_the_python_of_the_document_runs(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("python")[1:]:
        exec(compile(block, str(DOCUMENT), "exec"), here)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    invoke("sweep-lambda", *shlex.split(blocks("sh")[0])[2:])
    run, probe = gpureg.load_run("runs/probe"), here["probe"]
    assert probe.chosen_l2 == pytest.approx(run.model.refit_of)
    np.testing.assert_allclose(probe.model.coef, run.model.coef, rtol=1e-4, atol=1e-4)
    assert probe.test.accuracy == run.result["test"]["accuracy"]


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_a_probe_of_a_curve_is_the_probe_of_its_rows(here: dict[str, Any]) -> None:
    """The recipe's accuracies are those of fits to the subsets alone."""
    code = blocks("python")[2].replace(
        "gpureg.make_dataset(X, y),", 'gpureg.make_dataset(X, y), dtype="float64", scale="none",'
    )
    exec(compile(blocks("python")[1].split("data =")[0] + code, str(DOCUMENT), "exec"), here)
    curve, y = here["curve"], here["y"]
    for number, subset in enumerate(here["subsets"]):
        part = gpureg.make_dataset(here["X"][subset], y[subset], here["X"][~subset], y[~subset])
        alone = gpureg.fit(part, solver="lbfgs", l2=gpureg.lambda_grid("1e-5:1:24"), dtype="float64", scale="none")
        mine = [model.val_accuracy for model in curve.models if model.fold == 0 and model.seed == number]
        assert mine == pytest.approx([model.val_accuracy for model in alone.models], abs=2.5 / np.sum(~subset))
