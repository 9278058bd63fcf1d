"""`predict` and `evaluate` on Dask's workers: the same output, file by file of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import script
from dask_problems import problem

import gpureg

pytest.importorskip("distributed")
pytestmark = pytest.mark.long
SPREAD = ("--engine", "dask", "--workers", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and `rows/` of five Parquet files with its columns in another order."""
    found = tmp_path_factory.mktemp("use")
    X, y = problem(500, features=4, classes=3)
    frame = pd.DataFrame(X, columns=list("abcd"))
    result = gpureg.fit(gpureg.make_dataset(frame, np.array(["x", "y", "z"])[y]), l2=1e-3)
    result.save(found / "run")
    frame = frame[list("dcba")].assign(id=np.arange(500), label=np.array(["x", "y", "z"])[y])
    (found / "rows").mkdir()
    for number, part in enumerate(np.array_split(np.arange(500), 5)):
        frame.iloc[part].to_parquet(found / "rows" / f"{number}.parquet", index=False)
    return found


@pytest.mark.parametrize("out", [None, "one.csv", "one.parquet", "one.npy"])
def test_predictions_come_in_order(folder: Path, out: str | None) -> None:
    keep = [] if out == "one.npy" else ["--keep", "id"]
    found = []
    for name, how in (("here", ()), ("there", SPREAD)):
        options = [] if out is None else ["--out", f"{name}-{out}"]
        end = script("predict", "run", "rows", *keep, *options, *how, cwd=folder)
        assert end.returncode == 0, end.stderr
        found.append(end.stdout.encode() if out is None else (folder / f"{name}-{out}").read_bytes())
    if out == "one.parquet":  # row groups follow the files
        tables = [pq.read_table(folder / f"{name}-{out}") for name in ("here", "there")]
        assert tables[0].equals(tables[1])
    else:
        assert found[0] == found[1]


def test_a_folder_has_a_file_for_each(folder: Path) -> None:
    end = script("predict", "run", "rows", "--keep", "id", "--out", "parts", *SPREAD, cwd=folder)
    assert end.returncode == 0, end.stderr
    files = sorted((folder / "parts").iterdir())
    assert [file.name for file in files] == [f"part-0000{number}.parquet" for number in range(5)]
    assert pq.read_table(folder / "parts").column("id").to_pylist() == list(range(500))
    again = script("predict", "run", "rows", "--out", "parts", *SPREAD, cwd=folder)
    assert again.returncode == 2
    assert "--out parts is there already" in again.stderr


def test_metrics_are_those_of_one_process(folder: Path) -> None:
    here, there = (
        script("evaluate", "run", "rows", "--target", "label", "--bootstrap", 50, "--json", *how, cwd=folder)
        for how in ((), SPREAD)
    )
    assert there.returncode == 0, there.stderr
    assert json.loads(here.stdout) == json.loads(there.stdout)


def test_what_a_worker_can_not_read_is_named_once(folder: Path) -> None:
    (folder / "bad").mkdir(exist_ok=True)
    for number in range(2):
        (folder / "bad" / f"{number}.parquet").write_bytes((folder / "rows" / f"{number}.parquet").read_bytes())
    frame = pd.read_parquet(folder / "bad" / "1.parquet")
    frame.loc[3, "a"] = np.inf
    frame.to_parquet(folder / "bad" / "1.parquet", index=False)
    end = script("predict", "run", "bad", "--out", "no", *SPREAD, cwd=folder)
    assert end.returncode == 2
    assert "1.parquet" in end.stderr
    assert "Traceback" not in end.stderr
    assert not [path for path in folder.iterdir() if "no" in path.name]


@pytest.mark.parametrize("data", ["-", "digits"])
def test_what_is_not_a_file_is_refused(folder: Path, data: str) -> None:
    end = script("predict", "run", data, *SPREAD, cwd=folder)
    assert end.returncode == 2
    assert end.stderr.startswith("error: ")
