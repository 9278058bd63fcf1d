"""Readers: what each format gives, and one clear error for what can't be used."""

from __future__ import annotations

import contextlib
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_data_helpers import N, X, Y, idx_bytes, npz, read, tiny_files, write_gz

from gpureg.data import load_dataset
from gpureg.data.idx import read_idx
from gpureg.data.limits import machine_limit
from gpureg.errors import DataError, UsageError

# --- npz and npy


def test_npz(tmp_path):
    raw = read(npz(tmp_path, X=X, y=Y, w=np.arange(N) + 1), weights="w")
    np.testing.assert_array_equal(raw.features.X, X)
    np.testing.assert_array_equal(raw.codes, Y)
    np.testing.assert_array_equal(raw.weights, np.arange(N) + 1)
    assert raw.source == {"origin": str(tmp_path / "a.npz")}
    assert read(npz(tmp_path, X=X, species=np.array(["b", "a"] * (N // 2))), target="species").labels == ("a", "b")
    assert read(npz(tmp_path, X=X, y=(Y == 1).reshape(N, 1))).labels == (0, 1)


def test_npz_with_a_validation_part(tmp_path):
    path = npz(tmp_path, X=X, y=Y, X_val=X[:4] + 0.5, y_val=Y[:4])
    data = load_dataset(path)
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(data.X_val, X[:4] + 0.5)
    small = load_dataset(path, train_size=10, val_size=2)
    assert (len(small.X_train), len(small.X_val)) == (10, 2)
    with pytest.raises(UsageError, match="val_size=5: 'a' has only 4 validation rows"):
        load_dataset(path, val_size=5)


def test_npz_images(tmp_path):
    images = np.arange(N * 4, dtype=np.uint8).reshape(N, 2, 2)
    data = load_dataset(npz(tmp_path, X=images, y=Y))
    assert (data.image_shape, data.pixel_max, data.X_train.dtype) == ((2, 2), 255.0, np.uint8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"X": X}, "'y': .* has no such array; it has X"),
        ({"y": Y}, "'X': .* has no such array"),
        ({"X": X, "y": Y[:5]}, "20 rows but 5 labels"),
        ({"X": X[:0], "y": Y[:0]}, "nothing to fit"),
        ({"X": X[:, :0], "y": Y}, "nothing to fit"),
        ({"X": X[:, 0], "y": Y}, "expected \\(rows, features\\)"),
        ({"X": X + 1j, "y": Y}, "complex128"),
        ({"X": X.astype(str), "y": Y}, "features are real numbers"),
        ({"X": np.where(X == 7, np.nan, X), "y": Y}, "row 2 .* feature 1 is nan"),
        ({"X": X, "y": np.where(Y, np.nan, 1.0)}, "row 1 .* has the label nan"),
        ({"X": X, "y": np.eye(N)}, "not one-hot columns"),
        ({"X": X, "y": np.full(N, "")}, "has no label"),
        ({"X": X, "y": Y, "X_val": X}, "one of X_val and y_val"),
        ({"X": X, "y": Y, "X_val": X[:, :2], "y_val": Y}, "3 features, X_val 2"),
        ({"X": X, "y": Y, "X_val": X, "y_val": Y[:3]}, "20 rows but 3 labels"),
        (
            {"X": X, "y": Y, "X_val": X, "y_val": np.array(["a", "b"])[Y]},
            "y in .* holds numbers, y_val in .* holds words",
        ),
        ({"X": X, "y": Y, "X_val": X, "y_val": Y + 1}, "classes that no training row has: 2"),
        ({"X": X, "y": np.array(["a", 1] * (N // 2), dtype=object)}, "pickled Python objects"),
    ],
)
def test_npz_that_cant_be_used(tmp_path, arrays, says):
    with pytest.raises(UsageError, match=says):
        load_dataset(npz(tmp_path, **arrays))


def test_npy(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.column_stack([X, Y]))
    raw = read(path)
    np.testing.assert_array_equal(raw.features.X, X)
    assert raw.labels == (0, 1)
    raw = read(path, target="0", weights="3")
    np.testing.assert_array_equal(raw.features.X, X[Y == 1, 1:])
    assert raw.labels == tuple(X[Y == 1, 0])
    with pytest.raises(UsageError, match="target='7'"):
        read(path, target="7")
    np.save(path, X[:, 0])
    with pytest.raises(DataError, match=r"has shape \(20,\)"):
        read(path)
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickled Python objects"):
        read(path)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.parquet", "a.csv", "images-idx3-ubyte", "a.unknown"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_no_bytes_end_in_a_traceback(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        load_dataset(path)


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "idx"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_never_ends_in_a_traceback(tmp_path, kind, data):
    path = tmp_path / f"f.{kind}"
    if kind == "npz":
        np.savez_compressed(path, X=X, y=Y)
    elif kind == "npy":
        np.save(path, X)
    elif kind == "parquet":
        pq.write_table(pa.table({"x": X[:, 0], "y": Y}), path)
    else:
        path = tmp_path / "train-images-idx3-ubyte"
        path.write_bytes(tiny_files()["train-images-idx3-ubyte"])
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), at]))])
    with contextlib.suppress(UsageError):
        load_dataset(path)


# --- IDX


@given(
    array=st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]).flatmap(
        lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    ),
    packed=st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_idx_round_trip(tmp_path, array, packed):
    path = tmp_path / "x-idx"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    result = read_idx(path, machine_limit())
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


def test_idx_files_and_folders(tmp_path):
    write_gz(tmp_path)
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte.gz"):
        data = load_dataset(path)
        assert (data.X_train.shape, data.X_val.shape) == ((12, 6), (6, 6))
        assert (data.image_shape, data.pixel_max, data.X_train.dtype) == ((3, 2), 255.0, np.uint8)
        assert data.y_train.tolist() == [0, 1, 2] * 4
    alone = load_dataset(tmp_path / "t10k-images-idx3-ubyte.gz")
    assert (len(alone.X_train), len(alone.X_val)) == (5, 1)


def test_idx_that_cant_be_used(tmp_path):
    write_gz(tmp_path)
    with pytest.raises(UsageError, match="expected the IDX file of the images"):
        load_dataset(tmp_path / "train-labels-idx1-ubyte.gz")
    with pytest.raises(UsageError, match="target='y': IDX files have no columns"):
        load_dataset(tmp_path, target="y")
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(3, np.uint8))))
    with pytest.raises(DataError, match="12 rows but 3 labels"):
        load_dataset(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="its labels are missing"):
        load_dataset(tmp_path)
    path = tmp_path / "x-images-idx3-ubyte"
    for content, says in (
        (b"", "formats that gpureg reads"),
        (tiny_files()["train-images-idx3-ubyte"][:-1], "damaged or cut off"),
        (tiny_files()["train-images-idx3-ubyte"] + b"0", "damaged or cut off"),
        (b"\0\0\x07\1\0\0\0\0", "is not an IDX file"),
        (b"\0\0\x08\3\0\0", "cut off"),
        (b"\0\0\x08\3" + b"\xff" * 12, "promises"),
    ):
        path.write_bytes(content)
        (tmp_path / "x-labels-idx1-ubyte").write_bytes(content)
        with pytest.raises(DataError, match=says):
            load_dataset(path)


# --- paths and features


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'mnist'"):
        load_dataset("mnits")
    with pytest.raises(UsageError, match="nor a file that exists"):
        load_dataset(tmp_path / "no.csv")
    with pytest.raises(UsageError, match="is empty"):
        load_dataset("")
    with pytest.raises(UsageError):
        load_dataset("x" * 5000)
    with pytest.raises(DataError, match="folder without"):
        load_dataset(tmp_path)
