"""CSV and parquet: what they give, and one clear error for what can't be used."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_helpers import N, X, Y, csv, joined, read

from gpureg.data import load_dataset
from gpureg.data.files import read_path
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError


def test_csv_words_ints_and_floats(tmp_path):
    for labels, classes in (
        (["cat", "dog"], ("cat", "dog")),
        (["3", "-1"], (-1, 3)),
        (["3.0", "3"], (3,)),
        (["1.5", "2"], (1.5, 2.0)),
        (["1", "b"], ("1", "b")),
        (["99999999999999999999", "1"], ("1", "99999999999999999999")),
    ):
        path = csv(tmp_path, "a,b,label\n" + "".join(f"{i},{i / 7},{labels[i % 2]}\n" for i in range(N)))
        raw = read(path)
        assert raw.labels == classes
        assert all(type(label) is type(wanted) for label, wanted in zip(raw.labels, classes, strict=True))
        assert raw.features.names == ("a", "b")
        np.testing.assert_array_equal(raw.features.X, [[i, i / 7] for i in range(N)])


def test_the_target_and_the_weights_can_be_any_column(tmp_path):
    path = csv(tmp_path, "y,w,x1,x2\n" + "".join(f"{'pn'[i % 2]},{i + 1},{i + 1},{-i}\n" for i in range(N)))
    data = load_dataset(path, target="y", weights="w")
    assert data.feature_names == ("x1", "x2")
    assert data.classes == ("n", "p")
    np.testing.assert_array_equal(data.sample_weight, data.X_train[:, 0])
    rows, labels = joined(data)
    np.testing.assert_array_equal(rows[:, 1], -np.arange(N))
    assert labels == ["p", "n"] * (N // 2)


def test_csv_dialects(tmp_path):
    rows = [("x", "y"), *((i, "ab"[i % 2]) for i in range(N))]
    for delimiter in (",", ";", "\t"):
        text = "\ufeff" + "\r\n".join(delimiter.join(map(str, row)) for row in rows)
        path = csv(tmp_path, text)
        np.testing.assert_array_equal(read(path).features.X[:, 0], np.arange(N))
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
        np.testing.assert_array_equal(read(tmp_path / "t.csv.gz").features.X[:, 0], np.arange(N))


def test_a_fraction_far_down_a_column_of_ints(tmp_path):
    n = 300_000  # beyond Arrow's first block of 1 MiB, by which it would guess the type
    path = csv(tmp_path, "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(n)) + "0.5,1\n")
    raw = read(path)
    assert len(raw.features.X) == n + 1
    assert raw.features.X[-1, 0] == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no header"),
        ("\n1,2\n", "no header"),
        ("1.5,2,3\n4,5,6\n", "seems to have no header"),
        ("5.1,3.5,setosa\n4,5,versicolor\n", "seems to have no header"),
        ("a,b\n", "no rows"),
        ("a,b", "no rows"),
        ("a\n1\n2\n", "nothing is left as a feature"),
        ("a,a,b\n1,2,3\n4,5,6\n", "columns with the same name: a"),
        (",a,b\n0,1,2\n1,4,5\n", "column 0 .* has no name"),
        ("a,b,c\n1,2,x\n3,y\n", "Expected 3 columns, got 2"),
        ("a,b,c\n1,red,x\n3,4,y\n", r"do not hold numbers: b \('red'\)"),
        ("a,b,c\n1,2,x\n3,,y\n", "column 'b' has 1 missing values, the first in row 1"),
        ("a,b,c\n1,2,x\n3,NaN,y\n", "column 'b' has 1 missing values"),
        ("a,b,c\n1,2,x\n3,-inf,y\n", "row 1 .* feature 'b' is -inf"),
        ("a,b,c\n1,2,x\n3,4,\n", "row 1 .* has no label"),
        ("a,b,c\n1,2,5\n3,4,NA\n", "row 1 .* has no label"),
    ],
)
def test_csv_that_cant_be_used(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        load_dataset(csv(tmp_path, text))


def test_a_measurement_is_no_label(tmp_path):
    path = csv(tmp_path, "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(N)))
    with pytest.raises(DataError, match="a measurement, not a class"):
        load_dataset(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "b.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="UTF-8"):
        load_dataset(path)
    path.write_bytes(b"a,b\n1,\xff\n2,\xfe\n")
    with pytest.raises(DataError, match="b"):
        load_dataset(path)


def test_columns_that_are_not_there_are_listed(tmp_path):
    path = csv(tmp_path, "a,b,c\n1,2,x\n3,4,y\n")
    with pytest.raises(UsageError, match="target='d': there is no such column; the columns are a, b, c"):
        load_dataset(path, target="d")
    with pytest.raises(UsageError, match="weights='d': there is no such column"):
        load_dataset(path, weights="d")
    with pytest.raises(UsageError, match="is the label column"):
        load_dataset(path, weights="c")


@pytest.mark.parametrize(
    ("weight", "says"), [("-1", "is -1.0"), ("inf", "is inf"), ("", "missing"), ("w", "not hold numbers")]
)
def test_weights_that_cant_be_used(tmp_path, weight, says):
    path = csv(tmp_path, f"a,w,c\n1,2,x\n3,{weight},y\n")
    with pytest.raises(DataError, match=says):
        load_dataset(path, weights="w")


def test_weights_that_are_all_zero(tmp_path):
    with pytest.raises(DataError, match="every weight is 0"):
        load_dataset(csv(tmp_path, "a,w,c\n1,0,x\n3,0,y\n"), weights="w")


def parquet(tmp_path: Path, **columns: object) -> Path:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_keeps_the_narrow_types(tmp_path):
    words = pa.array(["b", "a"] * (N // 2)).dictionary_encode()
    path = parquet(tmp_path, u=pa.array(range(N), pa.uint8()), v=pa.array([True, False] * (N // 2)), y=words)
    raw = read(path)
    assert raw.features.X.dtype == np.uint8
    assert raw.labels == ("a", "b")
    np.testing.assert_array_equal(raw.features.X, np.stack([np.arange(N), 1 - Y], axis=1))
    floats = parquet(tmp_path, u=pa.array(X[:, 0], pa.float32()), y=pa.array(Y.astype(float)))
    assert read(floats).features.X.dtype == np.float32
    assert read(floats).labels == (0, 1)


def test_parquet_that_cant_be_used(tmp_path):
    with pytest.raises(DataError, match="not hold numbers: w"):
        read(parquet(tmp_path, w=["a", "b"], y=[0, 1]))
    with pytest.raises(DataError, match="missing values, the first in row 1"):
        read(parquet(tmp_path, x=[1.0, None], y=[0, 1]))
    with pytest.raises(DataError, match=r"row 0 .* has no label"):
        read(parquet(tmp_path, x=[1.0, 2.0], y=[None, "a"]))
    with pytest.raises(DataError, match="no rows"):
        read(parquet(tmp_path, x=pa.array([], pa.float64()), y=pa.array([], pa.int64())))
    path = parquet(tmp_path, x=[1.0, 2.0], y=[0, 1])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"can't read .* as Parquet"):
        read(path)


def test_a_csv_wider_than_arrows_block(tmp_path):
    n = 10_000
    names = ",".join(f"{'feature' * 20}{i}" for i in range(n))
    path = csv(tmp_path, f"{names},y\n" + "".join(",".join(["0.25" + "0" * 120] * n) + f",{i % 2}\n" for i in range(4)))
    assert read(path).features.X.shape == (4, n)


def test_every_row_of_a_long_table_is_copied_behind_a_missing_value(tmp_path):
    x = np.arange(200_000.0)
    x[0] = np.nan
    table = pa.table({"x": x, "z": -x, "y": np.arange(len(x)) % 2})
    pq.write_table(table, tmp_path / "t.parquet")
    raw = read_path(tmp_path / "t.parquet", Uses(missing="mean"))
    np.testing.assert_array_equal(raw.features.X, np.stack([x, -x], axis=1))
    x[0], x[150_000] = 0, -np.inf
    pq.write_table(pa.table({"x": np.arange(200_000.0), "z": -x, "y": table["y"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 150000 .* feature 'z' is inf"):
        read(tmp_path / "t.parquet")
