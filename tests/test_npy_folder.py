"""A folder of npy files is one matrix: in training, in prediction, and where its rows stay in their files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke

import gpureg
from gpureg.config import DataConfig
from gpureg.data import load
from gpureg.data.streamed import is_streamed

X = np.random.RandomState(0).randn(60, 3)
Y = (X[:, 0] > 0).astype(int)
CUTS = [17, 40]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`rows/` of three files, and `y.npy`."""
    (tmp_path / "rows").mkdir()
    for number, part in enumerate(np.split(X, CUTS)):
        np.save(tmp_path / "rows" / f"part-{number}.npy", part)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path


def loaded(folder: Path, **options: object) -> gpureg.Dataset:
    return gpureg.load_dataset(folder / "rows", labels=str(folder / "y.npy"), val_size=0, **options)  # type: ignore[arg-type]


def test_it_is_one_matrix(folder: Path) -> None:
    data = loaded(folder)
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(data.y_train, Y)
    one = loaded(folder, drop=["1"])
    np.testing.assert_array_equal(one.X_train, X[:, [0, 2]])


def test_it_is_streamed_as_one(folder: Path) -> None:
    data = loaded(folder, stream=True)
    assert is_streamed(data.X_train)
    options = {"l2": 1e-3, "dtype": "float64", "block_rows": 25}
    one, other = gpureg.fit(loaded(folder), **options), gpureg.fit(data, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one.model.coef, other.model.coef)


def test_a_column_may_be_the_label(folder: Path) -> None:
    for number, part in enumerate(np.split(np.column_stack([X, Y]), CUTS)):
        np.save(folder / "rows" / f"part-{number}.npy", part)
    data = gpureg.load_dataset(folder / "rows", val_size=0)
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(data.y_train, Y)


def test_files_of_other_widths_are_named(folder: Path) -> None:
    np.save(folder / "rows" / "part-1.npy", X[:, :2])
    with pytest.raises(gpureg.DataError, match=r"part-1.npy has shape \(60, 2\), part-0.npy \(17, 3\)"):
        loaded(folder)


def test_its_rows_are_predicted_in_order(folder: Path) -> None:
    result = gpureg.fit(loaded(folder), l2=1e-3)
    result.save(folder / "run")
    np.save(folder / "all.npy", X)
    for data in ("rows", "all.npy"):
        end = invoke("predict", folder / "run", folder / data, "--out", folder / f"{data}.csv")
        assert end.exit_code == 0, end.output
    assert (folder / "rows.csv").read_bytes() == (folder / "all.npy.csv").read_bytes()


def test_for_workers_rows_stay_in_their_files_if_they_can(folder: Path) -> None:
    config = DataConfig(str(folder / "rows"), labels=str(folder / "y.npy"))
    assert is_streamed(load(config, spread=True).X_train)
    assert not is_streamed(load(DataConfig("digits"), spread=True).X_train)
    np.save(folder / "columns.npy", np.asfortranarray(X))
    by_column = DataConfig(str(folder / "columns.npy"), labels=str(folder / "y.npy"))
    assert isinstance(load(by_column, spread=True).X_train, np.ndarray)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        *itertools.product(("npy", "parquet", "parquet lists"), ("feature", "inf", "weight", "label")),
        ("npy and labels", "feature"),
        ("npy and labels", "inf"),
    ],
)
def test_a_message_names_the_file_that_holds_the_row_and_its_number_there(
    tmp_path: Path, kind: str, what: str, stream: bool
) -> None:
    """Row 25 of all is row 8 of the second file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    values, labels, weights = X.copy(), Y.astype(float), np.ones(len(X))
    weights[[3, 20]] = 0  # left out, and counted nevertheless
    {"feature": values[:, 1], "inf": values[:, 1], "weight": weights, "label": labels}[what][25] = {
        "inf": np.inf, "weight": -1.0}.get(what, np.nan)  # fmt: skip
    (tmp_path / "rows").mkdir()
    options: dict[str, Any] = {"val_size": 0, "stream": stream}
    for number, rows in enumerate(np.split(np.arange(len(X)), CUTS)):
        if kind.startswith("npy"):
            parts = (values, labels[:, None], weights[:, None]) if kind == "npy" else (values,)
            np.save(tmp_path / "rows" / f"part-{number}.npy", np.column_stack([part[rows] for part in parts]))
            continue
        columns = {"e": pa.array(list(values[rows]))} if kind.endswith("lists") else {"a": values[rows, 1]}
        table = pa.table(columns | {"w": weights[rows], "y": labels[rows]})
        pq.write_table(table, tmp_path / "rows" / f"part-{number}.parquet")
    np.save(tmp_path / "y.npy", Y)
    options |= {
        "npy": {"target": "3", "weights": "4"},
        "npy and labels": {"labels": tmp_path / "y.npy"},
    }.get(kind, {"target": "y", "weights": "w"})
    with pytest.raises(gpureg.DataError) as error:
        gpureg.load_dataset(tmp_path / "rows", **options)
    said, suffix = str(error.value), "npy" if kind.startswith("npy") else "parquet"
    file = tmp_path / "rows" / f"part-1.{suffix}"
    assert f"{file}: row 8 (counted from 0)" in said or f"row 8 of part-1.{suffix} (counted from 0)" in said
    assert "part-0" not in said


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_new_rows_that_are_not_finite_are_named_with_their_file(tmp_path: Path, kind: str) -> None:
    """By `--val`, `--test`, `evaluate` and `predict`, streamed or not: row 25 of all is row 8 of the second file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, value in (("rows", X[25, 1]), ("new", np.nan)):
        (tmp_path / name).mkdir()
        values = np.column_stack([X, Y])
        values[25, 1] = value
        for number, part in enumerate(np.split(values, CUTS)):
            file = tmp_path / name / f"part-{number}.{kind}"
            if kind == "npy":
                np.save(file, part)
            else:
                pq.write_table(pa.table({str(k): part[:, k] for k in range(4)}), file)
    given = (tmp_path / "rows", "--target", "3")
    assert invoke("train", "--dataset", *given, "--val-size", 0, "--out", tmp_path / "run").exit_code == 0
    train = ("train", "--dataset", *given, "--out", tmp_path / "other")
    said = (
        f"{tmp_path / 'new' / 'part-1'}.{kind}: 1 row holds NaN or infinite values; the first is row 8 (counted from 0)"
    )
    for command in (
        ("evaluate", tmp_path / "run", tmp_path / "new", "--target", "3"),
        ("predict", tmp_path / "run", tmp_path / "new"),
        (*train, "--val", tmp_path / "new"),
        (*train, "--val", tmp_path / "new", "--stream"),
        (*train, "--test", tmp_path / "new"),
    ):
        end = invoke(*command)
        assert end.exit_code == 2, command
        assert said.replace(" ", "") in "".join(end.output.split()), (command, end.output)


def test_rows_of_a_folder_are_evaluated_with_the_numbers_of_their_file(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    gpureg.fit(loaded(folder), l2=1e-3).save(folder / "run")
    (folder / "tables").mkdir()
    for number, rows in enumerate(np.split(np.arange(len(X)), CUTS)):
        y = pa.array([None if row == 25 else int(Y[row]) for row in rows])
        table = pa.table({str(k): X[rows, k] for k in range(3)} | {"y": y})
        pq.write_table(table, folder / "tables" / f"part-{number}.parquet")
    end = invoke("evaluate", folder / "run", folder / "tables", "--target", "y")
    assert end.exit_code == 2
    assert "part-1.parquet, column 'y' (the label): row 8 (counted from 0) has no label" in " ".join(end.output.split())
