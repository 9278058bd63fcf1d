"""Files whose rows Dask's workers read where they lie: Parquet folders, npy files and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import script
from dask_problems import assert_same_probabilities, problem

import gpureg

pytest.importorskip("distributed")
pytestmark = pytest.mark.long

X, Y = problem(900, features=6, classes=3)
SWEEP = ["--lambda-grid", "1e-5:1e-1:3", "--dtype", "float64", "--tol", "1e-18", "--quiet"]


def parquet(folder: Path) -> list[str]:
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(label=Y, weight=1.0 + (Y == 1), fold=np.arange(900) % 3)
    (folder / "rows").mkdir()
    for number, part in enumerate(np.array_split(np.arange(900), 4)):
        frame.iloc[part].to_parquet(folder / "rows" / f"{number}.parquet", index=False, row_group_size=100)
    return ["--dataset", "rows", "--target", "label", "--weights", "weight", "--folds", "fold", "--drop", "b"]


def npy(folder: Path) -> list[str]:
    np.save(folder / "rows.npy", np.column_stack([X, Y]))
    return ["--dataset", "rows.npy", "--cv", "3", "--classes", "0,2"]


def npy_folder(folder: Path) -> list[str]:
    (folder / "rows").mkdir()
    for number, part in enumerate(np.array_split(X, 3)):
        np.save(folder / "rows" / f"{number}.npy", part.astype(np.float32))
    np.save(folder / "y.npy", Y)
    return ["--dataset", "rows", "--labels", "y.npy", "--refit", "all"]


@pytest.mark.parametrize("write", [parquet, npy, npy_folder])
def test_a_fit_is_that_of_rows_that_are_held(write: Any, tmp_path: Path) -> None:
    data = write(tmp_path)
    runs = []
    for name, how in (("here", []), ("there", ["--engine", "dask", "--workers", "2"])):
        end = script("sweep-lambda", *data, *SWEEP, *how, "--out", name, cwd=tmp_path)
        assert end.returncode == 0, end.stderr
        runs.append(gpureg.load_run(tmp_path / name))
    assert_same_probabilities(*runs, X[:, [0, 2, 3, 4, 5]] if write is parquet else X)
    assert runs[0].result["selected"] == runs[1].result["selected"]
    assert [row["mean"] for row in runs[0].result["cv"]] == pytest.approx([row["mean"] for row in runs[1].result["cv"]])


def test_a_worker_names_what_it_can_not_use(tmp_path: Path) -> None:
    data = npy_folder(tmp_path)
    bad = X[300:600].copy()
    bad[17, 2] = np.nan
    np.save(tmp_path / "rows" / "1.npy", bad)
    end = script("train", *data[:4], "--engine", "dask", "--workers", "2", "--out", "run", cwd=tmp_path)
    assert end.returncode == 2
    said = " ".join(end.stderr.split())
    assert "rows/1.npy: row 17 (counted from 0), feature 2 is nan" in said
    assert "--missing mean" in said
    assert not (tmp_path / "run").exists()
