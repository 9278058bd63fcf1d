"""Data frames: names, types, pandas' index, and the same data from memory as from a file."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_helpers import new_rows, read

import gpureg
from gpureg.data import load_dataset
from gpureg.errors import DataError, UsageError

N = 40
Y = np.arange(N) % 2


def frame(**more: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({"a": random.normal(size=N), "b": random.normal(size=N), **more})


# --- pandas' index in Parquet


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([f"s{i}" for i in range(N)], name="site"),
        pd.Index(range(5, 5 + N), name="site"),
        pd.Index(np.arange(N) + 0.5),
        pd.MultiIndex.from_product([range(N // 2), ["u", "v"]], names=["site", None]),
        pd.RangeIndex(3, 3 + N, name="site"),
    ],
)
@pytest.mark.parametrize("label_first", [False, True])
def test_pandas_index_is_not_a_column(tmp_path, index, label_first):
    table = frame(y=Y)
    table = table[["y", "a", "b"] if label_first else ["a", "b", "y"]].set_index(index)
    table.to_parquet(tmp_path / "t.parquet")
    raw = read(tmp_path / "t.parquet", target="y" if label_first else None)
    assert (raw.features.names, raw.target, raw.labels) == (("a", "b"), "y", (0, 1))
    rows = new_rows(tmp_path / "t.parquet", 2, ("b", "a"))
    np.testing.assert_array_equal(rows, raw.features.X[:, ::-1])


def test_an_index_is_read_where_an_option_names_it(tmp_path):
    table = frame(y=Y).set_index(pd.Index(np.arange(N) % 3, name="site"))
    table.to_parquet(tmp_path / "t.parquet")
    raw = read(tmp_path / "t.parquet", target="site", weights="y")
    assert (raw.features.names, raw.labels, len(raw.features.X)) == (("a", "b"), (0, 1, 2), N // 2)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b'{"index_columns": 3}', b"[" * 100_000, b"\xff"])
def test_notes_that_are_not_pandas(tmp_path, note):
    table = pa.table({"a": np.arange(4.0), "y": [0, 1, 0, 1]}).replace_schema_metadata({b"pandas": note})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").features.names == ("a",)


# --- frames in memory


def test_names_are_kept_and_types_are_mixed():
    table = frame(
        whole=np.arange(N, dtype=np.int32) % 7,
        truth=Y == 1,
        nullable=pd.array(range(N), dtype="Int64"),
        money=[Decimal(i) / 4 for i in range(N)],
        arrow=pd.array(np.arange(N) / 8, dtype="float[pyarrow]"),
    )
    data = gpureg.make_dataset(table, Y, table, Y)
    assert data.feature_names == ("a", "b", "whole", "truth", "nullable", "money", "arrow")
    np.testing.assert_array_equal(data.X_train, np.column_stack([table[name].astype(float) for name in table]))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint8])
def test_a_frame_of_one_type_keeps_it(kind):
    table = pd.DataFrame(np.arange(2 * N).reshape(N, 2).astype(kind), columns=["a", "b"])
    data = gpureg.make_dataset(table, Y, table, Y)
    assert data.X_train.dtype == kind
    assert data.X_train.flags.c_contiguous
    np.testing.assert_array_equal(data.X_train, table)


def test_validation_columns_are_put_in_the_order_of_training():
    table = frame()
    for other in (table[["b", "a"]], table.assign(id=range(N))[["id", "b", "a"]]):
        data = gpureg.make_dataset(table, Y, other, Y)
        np.testing.assert_array_equal(data.X_val, data.X_train)
    with pytest.raises(UsageError, match="X_val lacks columns that the model was trained on: b; it has a, c"):
        gpureg.make_dataset(table, Y, table.rename(columns={"b": "c"}), Y)
    by_number = gpureg.make_dataset(table, Y, table.to_numpy(), Y)
    np.testing.assert_array_equal(by_number.X_val, by_number.X_train)


def test_the_index_of_a_frame_is_not_a_feature():
    table = frame(t=Y == 0).set_index(pd.Index(range(N), name="site"))
    assert gpureg.make_dataset(table, Y).feature_names == ("a", "b", "t")
    assert gpureg.make_dataset(table.reset_index(drop=True), Y).feature_names == ("a", "b", "t")


def test_arrow_tables_and_frames_of_lists():
    lists = pa.table({"e": pa.FixedSizeListArray.from_arrays(np.arange(2.0 * N), 2), "a": np.arange(N) + 0.5})
    for table in (lists, lists.to_pandas()):
        data = gpureg.make_dataset(table, pa.table({"y": Y}), table, Y)
        assert data.feature_names == ("e[0]", "e[1]", "a")
        np.testing.assert_array_equal(data.X_train[:, :2].reshape(-1), np.arange(2.0 * N))


def test_lists_of_equal_length_in_parquet(tmp_path):
    values = np.arange(3.0 * N).reshape(N, 3) + 0.5
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)):
        table = pa.table({"e": pa.array(values.tolist(), kind), "a": np.arange(N) / 4, "y": Y})
        pq.write_table(table, tmp_path / "t.parquet")
        raw = read(tmp_path / "t.parquet")
        assert raw.features.names == ("e[0]", "e[1]", "e[2]", "a")
        np.testing.assert_array_equal(raw.features.X, np.column_stack([values, np.arange(N) / 4]))
        rows = new_rows(tmp_path / "t.parquet", 3, ("a", "e[2]", "e[0]"))
        np.testing.assert_array_equal(rows, raw.features.X[:, [3, 2, 0]])
    ragged = pa.table({"e": [[1.0], [1.0, 2.0]], "y": [0, 1]})
    pq.write_table(ragged, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'e' holds lists of different lengths: 1 in row 0, 2 in row 1"):
        read(tmp_path / "t.parquet")
    pq.write_table(pa.table({"e": [[1.0, 2.0], [1.0, None]], "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'e' has a missing value in row 1"):
        read(tmp_path / "t.parquet")
    pq.write_table(pa.table({"e": pa.array([[], []], pa.list_(pa.float64())), "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="nothing to fit"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (frame(w=["a", "b"] * (N // 2)), r"do not hold numbers: w \((large_)?string\)"),
        (frame(w=pd.Categorical(["a", "b"] * (N // 2))), "do not hold numbers: w"),
        (frame(w=pd.to_datetime([f"2020-01-{1 + i % 28}" for i in range(N)])), "do not hold numbers: w"),
        (frame(w=[1, "x"] * (N // 2)), "leave columns out with drop"),
        (frame(w=[1.0, np.nan] * (N // 2)), r"row 1 \(counted from 0\), feature 'w' is nan"),
        (frame(w=[1.0, np.inf] * (N // 2)), "row 1 .* feature 'w' is inf"),
        (
            frame(w=pd.array([1, None] * (N // 2), dtype="Int64")),
            "column 'w' has 20 missing values, the first in row 1",
        ),
        (frame(w=pd.array([True, None] * (N // 2), dtype="boolean")), "column 'w' has 20 missing values"),
        (pd.DataFrame(np.ones((N, 2)), columns=["a", "a"]), "columns with the same name: a"),
        (pd.DataFrame({"a": np.ones(N), 0: Y == 1, "0": Y == 1}), "same name: 0"),
        (pd.DataFrame(index=range(N)), "nothing to fit"),
        (frame()["a"], r"expected \(rows, features\)"),
        (np.ma.masked_equal(np.arange(2 * N).reshape(N, 2), 3), "masked"),
        (np.array([[1, "a"]] * N, dtype=object), "row 0 .* holds str"),
        (np.array([[1, None]] * N, dtype=object), "row 0 .* holds nothing"),
        (np.array([[10**400, 1]] * N, dtype=object), "beyond the range"),
        ([[1.0], [1.0, 2.0]] * (N // 2), "can't be turned into an array"),
        (np.ones((N, 2, 2, 2)), "expected \\(rows, features\\)"),
        (np.ones((N, 0)), "nothing to fit"),
        (np.ones((0, 2)), "0 rows but 40 labels"),
        (np.ones((N, 2), "M8[D]"), "type datetime64"),
        (np.ones((N, 2), complex), "type complex128"),
        (np.ones((N, 2)).astype(str), "features are real numbers"),
        (5.0, "X is a single value"),
        ({"a": 1}, "X is a single value"),
        (None, "X is a single value"),
        (iter([1, 2]), "X is a single value"),
    ],
)
def test_features_that_cant_be_used(X, says):
    with pytest.raises(UsageError, match=says):
        gpureg.make_dataset(X, Y)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.ones(3), r"shape \(3,\); expected 40 numbers"),
        (np.ones((N, 2)), "expected 40 numbers"),
        (["a"] * N, "expected 40 numbers"),
        ([None] * N, "row 0 .* holds nothing; weights are real numbers"),
        (pd.array([1, None] * (N // 2), dtype="Int64"), "row 1 .* (is nan|holds NAType)"),
        (1.0, "is a single value"),
        (-np.ones(N), "row 0 .* is -1.0; weights are finite and not negative"),
        (np.where(np.arange(N) == 3, np.nan, 1), "row 3 .* is nan"),
        (np.where(np.arange(N) == 3, np.inf, 1), "row 3 .* is inf"),
        (np.zeros(N), "every weight is 0"),
        (np.full(N, 1e308), "the sum of the weights overflows"),
    ],
)
def test_sample_weights_that_cant_be_used(weights, says):
    with pytest.raises(UsageError, match=says):
        gpureg.make_dataset(frame(), Y, sample_weight=weights)


def test_objects_that_are_numbers():
    X = np.array([[1, 2.5], [True, np.float32(3)]] * (N // 2), dtype=object)
    data = gpureg.make_dataset(X, Y, X, Y)
    np.testing.assert_array_equal(data.X_train[:2], [[1, 2.5], [1, 3]])
    masked = np.ma.masked_equal(np.ones((N, 2)), 7)  # nothing of it is masked
    assert gpureg.make_dataset(masked, Y).X_train.shape == (32, 2)
    weights = pd.Series(np.arange(N) % 3 == 0, index=range(N, 2 * N))
    assert len(gpureg.make_dataset(frame(), np.zeros(N) + np.arange(N) // 20, sample_weight=weights).y_train) == 11


def test_weights_of_every_type():
    whole = np.arange(N) % 3 + 1
    for weights in (
        whole,
        whole.tolist(),
        pd.Series(whole, dtype="Int64"),
        pd.DataFrame({"w": whole}),
        whole.astype("O"),
    ):
        data = gpureg.make_dataset(frame(), Y, frame(), Y, sample_weight=weights)
        np.testing.assert_array_equal(data.sample_weight, whole)


def test_floats_of_more_bits_than_64():
    X = np.ones((N, 2), np.longdouble) / 3
    data = gpureg.make_dataset(X, Y)
    assert data.X_train.dtype == np.float64
    with pytest.raises(DataError, match="feature 0 is inf"):
        gpureg.make_dataset(X * np.longdouble(10) ** 4000, Y)


def test_names_and_shapes_reach_the_data_set(tmp_path):
    np.savez(tmp_path / "i.npz", X=np.zeros((N, 6, 4), np.uint8) + np.arange(N, dtype=np.uint8)[:, None, None], y=Y)
    images = load_dataset(tmp_path / "i.npz")
    assert (images.image_shape, images.feature_names, images.X_train.shape[1]) == ((6, 4), None, 24)
    assert gpureg.make_dataset(np.zeros((N, 6, 4)), Y).image_shape == (6, 4)
    frame(y=Y).to_csv(tmp_path / "t.csv", index=False)
    assert load_dataset(tmp_path / "t.csv").feature_names == ("a", "b")


def test_torch_arrays_on_the_host():
    import torch

    X = torch.arange(2.0 * N).reshape(N, 2)
    np.testing.assert_array_equal(gpureg.make_dataset(X, torch.tensor(Y), X, torch.tensor(Y)).X_train, X.numpy())
    with pytest.raises(UsageError, match="can't be turned into an array"):
        gpureg.make_dataset(X.requires_grad_(), Y)
