"""A folder of npy files is one matrix: in training, in prediction, and where its rows stay in their files."""

from __future__ import annotations

from pathlib import Path

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
