"""Rows of weight 0 are left out when the data are read: before sizes, split, folds and scaling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_helpers import read

import gpureg
from gpureg.data import load_dataset
from gpureg.errors import DataError, UsageError

N, EXTRA = 300, 30


def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 rows of three classes, and 30 of weight 0 with wrong labels, far out, in between."""
    random = np.random.default_rng(0)
    y = np.arange(N) % 3
    X = np.eye(3)[y] + 0.4 * random.normal(size=(N, 3))
    at = np.sort(random.permutation(N)[:EXTRA])
    X = np.insert(X, at, 1e3 + np.arange(3.0 * EXTRA).reshape(EXTRA, 3), axis=0)
    y = np.insert(y, at, 2 - y[at])
    weights = np.insert(random.uniform(0.5, 2, N), at, 0.0)
    return X, y, weights


def files(folder: Path, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, tuple[Path, dict[str, Any]]]:
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "w": weights, "y": y})
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_parquet(folder / "t.parquet", index=False)
    np.savez(folder / "t.npz", X=X, y=y, w=weights)
    np.save(folder / "t.npy", np.column_stack([X, weights, y]))
    return {
        "csv": (folder / "t.csv", {"weights": "w"}),
        "parquet": (folder / "t.parquet", {"weights": "w"}),
        "npz": (folder / "t.npz", {"weights": "w"}),
        "npy": (folder / "t.npy", {"weights": "3"}),
    }


@pytest.mark.parametrize("format_", ["csv", "parquet", "npz", "npy"])
@pytest.mark.parametrize("sizes", [{}, {"train_size": 100}, {"train_size": 100, "val_size": 50}])
def test_they_are_as_if_they_were_not_in_the_file(tmp_path, format_, sizes):
    X, y, weights = problem()
    kept = weights > 0
    with_them, without = tmp_path / "with", tmp_path / "without"
    with_them.mkdir()
    without.mkdir()
    path, options = files(with_them, X, y, weights)[format_]
    one = load_dataset(path, **options, **sizes)
    path, options = files(without, X[kept], y[kept], weights[kept])[format_]
    other = load_dataset(path, **options, **sizes)
    assert one.classes == other.classes
    for name in ("X_train", "y_train", "X_val", "y_val", "sample_weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_arrays_too_and_the_fit_of_them():
    X, y, weights = problem()
    kept = weights > 0
    options = {"solver": "lbfgs", "l2": [1e-4, 1e-2, 1.0], "dtype": "float64", "device": "cpu"}
    with_them = gpureg.fit(gpureg.make_dataset(X, y, sample_weight=weights), **options)
    without = gpureg.fit(gpureg.make_dataset(X[kept], y[kept], sample_weight=weights[kept]), **options)
    assert with_them.n_train + with_them.n_val == N
    assert with_them.selected == without.selected
    assert [model.val_loss for model in with_them.models] == [model.val_loss for model in without.models]


def test_a_data_set_made_by_hand_has_none_of_them():
    X, y, weights = problem()
    data = gpureg.make_dataset(X, y)
    weights = np.where(np.arange(len(data.y_train)) % 3 == 0, 0.0, 2.0)
    fewer = replace(data, sample_weight=weights)
    np.testing.assert_array_equal(fewer.X_train, data.X_train[weights > 0])
    np.testing.assert_array_equal(fewer.y_train, data.y_train[weights > 0])
    assert fewer.sample_weight.tolist() == [2.0] * len(fewer.y_train)
    for wrong, says in (
        (np.zeros(len(weights)), "every weight is 0"),
        (weights[1:], "expected"),
        (-weights, "negative"),
    ):
        with pytest.raises(DataError, match=says):
            replace(data, sample_weight=wrong)


def test_what_they_hold_is_not_looked_at_and_rows_keep_their_numbers(tmp_path):
    """A label or a measurement may be missing there, a class may be nowhere else."""
    rows = ["1.5,1,a", ",0,b", "nan,0,", "2.5,2,b", "0.5,1,a", "7.5,0,z", "3.5,1,b"]
    path = tmp_path / "t.csv"
    path.write_text("x,w,y\n" + "\n".join(rows))
    raw = read(path, weights="w")
    assert raw.features.X[:, 0].tolist() == [1.5, 2.5, 0.5, 3.5]
    assert raw.labels == ("a", "b")
    x = [1.5, None, np.nan, 2.5, 0.5, 7.5, 3.5]
    y = ["a", "b", None, "b", "a", "z", "b"]
    w = [1, 0, 0, 2, 1, 0, 1]
    pq.write_table(pa.table({"x": pa.array(x, from_pandas=False), "w": w, "y": y}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", weights="w").labels == ("a", "b")
    frame = pd.DataFrame({"x": x})
    for X, labels in ((frame, y), (frame.to_numpy(), np.array(y, dtype=object)), (frame, pd.Series(y))):
        assert gpureg.make_dataset(X, labels, sample_weight=w).classes == ("a", "b")
    path.write_text("x,w,y\n" + "\n".join([*rows, "inf,1,a"]))
    with pytest.raises(DataError, match=r"row 7 \(counted from 0\), feature 'x' is inf"):
        read(path, weights="w")
    path.write_text("x,w,y\n" + "\n".join([*rows, "1,1,"]))
    with pytest.raises(DataError, match=r"row 7 \(counted from 0\) has no label"):
        read(path, weights="w")
    with pytest.raises(DataError, match=r"row 7 \(counted from 0\) has no label"):
        gpureg.make_dataset(np.array([*x, 1.0], float)[:, None], [*y, None], sample_weight=[*w, 1])


def test_a_class_that_has_only_such_rows_is_not_there(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.eye(9), y=np.arange(9) % 3, w=(np.arange(9) % 3 != 2).astype(float))
    assert load_dataset(tmp_path / "t.npz", weights="w").classes == (0, 1)
    with pytest.raises(UsageError, match="no training row has the class 2; the classes are 0, 1"):
        load_dataset(tmp_path / "t.npz", weights="w", classes=[0, 2])


def test_noise_beside_a_row_of_weight_0_is_not_a_feature():
    """A column of 0.1, and 5.0 in a row of weight 0: the same fit with that row and without it."""
    random = np.random.default_rng(0)
    y = random.permutation(np.arange(1000) % 2)
    X = np.column_stack([y + random.normal(size=1000), np.full(1000, 0.1)])
    options = {"solver": "lbfgs", "l2": 0.01, "device": "cpu"}
    without = gpureg.fit(gpureg.make_dataset(X, y), **options).models[0]
    more = np.vstack([X, [[0.0, 5.0]]])
    weights = np.append(np.ones(1000), 0.0)
    one = gpureg.fit(gpureg.make_dataset(more, np.append(y, 0), sample_weight=weights), **options).models[0]
    assert one.val_loss == pytest.approx(without.val_loss, rel=1e-6)
    assert one.val_accuracy == without.val_accuracy


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_rounding_noise_that_names_the_class_teaches_nothing(solver):
    random = np.random.default_rng(0)
    y = random.permutation(np.arange(600) % 2)
    X = (y + 1.5 * random.normal(size=600))[:, None]
    noise = np.where(y == 1, 0.1 + 0.2, 0.3)[:, None]
    l2 = [0.0, 0.01]
    plain = gpureg.fit(gpureg.make_dataset(X, y), solver=solver, l2=l2, device="cpu")
    noisy = gpureg.fit(gpureg.make_dataset(np.hstack([X, noise]), y), solver=solver, l2=l2, device="cpu")
    for one, other in zip(plain.models, noisy.models, strict=True):
        assert one.val_accuracy == other.val_accuracy
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("scale", ["standard", "none"])
def test_whole_weights_are_repeated_rows_for_given_training_rows(scale, class_weight):
    random = np.random.default_rng(1)
    y = random.permutation(np.arange(90) % 3)
    X, weights = np.eye(3)[y] + 0.8 * random.normal(size=(90, 3)), random.integers(0, 4, 90).astype(float)
    data = gpureg.Dataset("weighted", X, y, X[:40] + 0.1, y[:40], (0, 1, 2), sample_weight=weights)
    times = weights.astype(int)
    repeated = replace(data, X_train=np.repeat(X, times, axis=0), y_train=np.repeat(y, times), sample_weight=None)
    options = {"solver": "lbfgs", "l2": [1e-3, 1e-1], "dtype": "float64", "device": "cpu", "tol": 1e-12, "scale": scale}
    one = gpureg.fit(data, class_weight=class_weight, **options)
    other = gpureg.fit(repeated, class_weight=class_weight, **options)
    assert (one.n_train, other.n_train) == (np.count_nonzero(weights), times.sum())
    for first, second in zip(one.models, other.models, strict=True):
        assert first.train_loss == pytest.approx(second.train_loss, abs=1e-7)
        assert first.val_loss == pytest.approx(second.val_loss, abs=1e-6)
        assert first.train_accuracy == pytest.approx(second.train_accuracy, abs=1e-12)
