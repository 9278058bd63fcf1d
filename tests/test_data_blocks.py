"""Rows for a trained model, in blocks: the same from every format, by name, front to back."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from gpureg.data import Block, Blocks, Request, load_dataset, open_blocks
from gpureg.data.blocks import dataset_blocks
from gpureg.data.csv_blocks import stream_blocks
from gpureg.data.matching import Expected
from gpureg.errors import DataError, UsageError

N, NAMES = 500, ("a", "b", "c")
EXPECTED = Expected(3, NAMES)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """The features in another order, a label in words, weights, and a column of awkward words."""
    random = np.random.default_rng(0)
    X = random.normal(size=(N, 3))
    return pa.table(
        {
            "label": np.array(["no", "yes, sir"])[random.integers(0, 2, N)],
            "c": X[:, 2],
            "a": X[:, 0],
            "id": [f'{i}"\n,x' for i in range(N)],
            "b": X[:, 1],
            "w": random.integers(0, 3, N).astype(float),
        }
    )


def matrix(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in NAMES], axis=1)


def labels(table: pa.Table) -> list[str]:
    return table["label"].to_pylist()


def parquet(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "t.parquet", row_group_size=70)
    return folder / "t.parquet"


def csv(table: pa.Table, folder: Path) -> Path:
    arrow_csv.write_csv(table, folder / "t.csv")
    return folder / "t.csv"


def csv_gz(table: pa.Table, folder: Path) -> Path:
    (folder / "t.csv.gz").write_bytes(gzip.compress(csv(table, folder).read_bytes()))
    return folder / "t.csv.gz"


def tabbed(table: pa.Table, folder: Path) -> Path:
    arrow_csv.write_csv(table, folder / "t.tsv", arrow_csv.WriteOptions(delimiter="\t"))
    return folder / "t.tsv"


def stream(table: pa.Table, folder: Path) -> io.BytesIO:
    return io.BytesIO(b"\xef\xbb\xbf" + csv(table, folder).read_bytes())


def npz(table: pa.Table, folder: Path) -> Path:
    arrays = {name: np.array(table[name].to_pylist()) for name in ("label", "id", "w")}
    np.savez(folder / "t.npz", X=matrix(table), **arrays)
    return folder / "t.npz"


def npz_packed_by_column(table: pa.Table, folder: Path) -> Path:
    arrays = {name: np.array(table[name].to_pylist()) for name in ("label", "id", "w")}
    np.savez_compressed(folder / "t.npz", X=np.asfortranarray(matrix(table)), **arrays)
    return folder / "t.npz"


FORMATS = (parquet, csv, csv_gz, tabbed, stream, npz, npz_packed_by_column)


def small(request: Request, rows: int = 64) -> Request:
    """The same with small blocks."""

    class Small(Request):
        @property
        def block_rows(self) -> int:
            return rows

    return Small(**{name: getattr(request, name) for name in Request.__dataclass_fields__})


def read(data: Any, **options: Any) -> tuple[Blocks, list[Block]]:
    blocks = open_blocks(data, small(Request(options.pop("expected", EXPECTED), **options)))
    return blocks, list(blocks.rows)


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_rows(write: Callable[..., Any], table: pa.Table, tmp_path: Path) -> None:
    options: dict[str, Any] = {"labelled": True, "target": "label", "weights": "w", "keep": ("id",)}
    blocks, rows = read(write(table, tmp_path), **options)
    assert len(rows) >= N // 64
    assert [block.first for block in rows] == np.cumsum([0, *(len(block.X) for block in rows[:-1])]).tolist()
    assert max(len(block.X) for block in rows) <= 64
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), matrix(table))
    found = [block.labels.values[code] for block in rows if block.labels for code in block.labels.codes]
    assert found == labels(table)
    np.testing.assert_array_equal(np.concatenate([block.weights for block in rows]), table["w"].to_numpy())
    assert pa.concat_tables([block.kept for block in rows])["id"].to_pylist() == table["id"].to_pylist()
    assert blocks.schema.names == ["id"]


@pytest.mark.parametrize("write", [parquet, csv, stream])
def test_a_feature_can_be_kept_too(write: Callable[..., Any], table: pa.Table, tmp_path: Path) -> None:
    _, rows = read(write(table, tmp_path), keep=("a", "label"))
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), matrix(table))
    kept = pa.concat_tables([block.kept for block in rows])
    assert [float(value) for value in kept["a"].to_pylist()] == table["a"].to_pylist()
    assert kept["label"].to_pylist() == labels(table)
    assert all(block.labels is None and block.weights is None for block in rows)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2", "|u1", "|b1"])
def test_arrays_of_any_type_and_order(order: Any, dtype: str, tmp_path: Path) -> None:
    X = (np.random.default_rng(0).normal(size=(200, 3)) * 3).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(X, order=order))
    np.savez(tmp_path / "x.npz", X=np.asarray(X, order=order))
    for name in ("x.npy", "x.npz"):
        _, rows = read(tmp_path / name)
        np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), X)


def test_a_matrix_with_its_label(tmp_path: Path) -> None:
    X, y, w = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2, np.arange(100.0)
    np.save(tmp_path / "m.npy", np.c_[X, w, y])
    _, rows = read(tmp_path / "m.npy", labelled=True, weights="3")
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), X)
    assert [block.labels.values[c] for block in rows if block.labels for c in block.labels.codes] == y.tolist()
    np.testing.assert_array_equal(np.concatenate([block.weights for block in rows]), w)
    np.save(tmp_path / "m.npy", np.c_[X, y])
    blocks, rows = read(tmp_path / "m.npy", keep=("3",))
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), X)
    assert blocks.notices == (f"{tmp_path / 'm.npy'}: its last column, '3', is taken for the label and left out.",)
    with pytest.raises(UsageError, match=r"has no such column; it has 0, 1, 2, 3"):
        read(tmp_path / "m.npy", keep=("7",))


def test_of_an_archive_in_parts_the_last_is_read(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(30, 3))
    parts = {"X": X, "y": np.zeros(30), "X_val": X[:20], "y_val": np.ones(20), "w_val": np.full(20, 2.0)}
    np.savez(tmp_path / "t.npz", **parts)
    blocks, rows = read(tmp_path / "t.npz", labelled=True, own_target="y", own_weights="w")
    assert sum(len(block.X) for block in rows) == 20
    assert blocks.notices == (f"{tmp_path / 't.npz'} has several parts; X_val is read (20 rows).",)
    assert rows[0].labels is not None
    assert rows[0].labels.values == (1.0,)
    assert rows[0].weights is not None
    assert rows[0].weights.tolist() == [2.0] * 20
    np.savez(tmp_path / "t.npz", **parts, X_test=X[:10], y_test=np.zeros(10))
    assert sum(len(block.X) for block in read(tmp_path / "t.npz")[1]) == 10
    np.savez(tmp_path / "t.npz", x_train=X, y_train=np.zeros(30))
    _, rows = read(tmp_path / "t.npz", labelled=True)
    assert rows[0].labels is not None


def idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def test_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 1, 3))
    idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    assert sum(len(block.X) for block in read(tmp_path)[1]) == 100  # without labels
    with pytest.raises(DataError, match="its labels are missing"):
        read(tmp_path, labelled=True)
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(100) % 3)
    _, rows = read(tmp_path / "train-images-idx3-ubyte.gz", labelled=True)
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), images.reshape(100, 3))
    assert [block.labels.values[c] for block in rows if block.labels for c in block.labels.codes] == [
        i % 3 for i in range(100)
    ]
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", images[:40])
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(40) % 3)
    assert sum(len(block.X) for block in read(tmp_path, labelled=True)[1]) == 40  # of a folder, those for validation
    with pytest.raises(UsageError, match="no columns to name"):
        read(tmp_path, keep=("a",))


def test_the_validation_part_of_a_named_set() -> None:
    data = load_dataset("digits", classes=[3, 8])
    blocks = dataset_blocks(data, small(Request(Expected(64), labelled=True)))
    rows = list(blocks.rows)
    np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), data.X_val)
    with pytest.raises(UsageError, match="digits has 64 features; this model was trained on 3"):
        dataset_blocks(data, Request(EXPECTED))


LABELS = {
    "named by the caller": ({"target": "label"}, "label"),
    "that of the training data": ({"own_target": "label"}, "label"),
    "the only one that is left": ({"weights": "w", "keep": ("id",)}, "label"),
    "the last column": ({}, "w"),
}


@pytest.mark.parametrize("case", LABELS)
def test_which_column_is_the_label(case: str, table: pa.Table, tmp_path: Path) -> None:
    options, column = LABELS[case]
    _, rows = read(parquet(table, tmp_path), labelled=True, **options)
    found = [block.labels.values[code] for block in rows if block.labels for code in block.labels.codes]
    assert found == table[column].to_pylist()


def test_a_label_that_can_t_be_told_is_asked_for(table: pa.Table, tmp_path: Path) -> None:
    path = parquet(table.select(["label", "w", "id", "a", "b", "c"]), tmp_path)
    with pytest.raises(UsageError, match="which column is the label"):
        read(path, labelled=True)
    with pytest.raises(UsageError, match="has no column 'species', the label of the training data"):
        read(path, labelled=True, own_target="species")
    with pytest.raises(UsageError, match="is the label column"):
        read(path, labelled=True, target="w", weights="w")


def test_without_names_columns_are_matched_by_number(table: pa.Table, tmp_path: Path) -> None:
    path = csv(table.select(["a", "b", "c", "label"]), tmp_path)
    for options, more in ({"own_target": "label"}, 0), ({}, 1):
        blocks, rows = read(path, expected=Expected(3), **options)
        np.testing.assert_array_equal(np.concatenate([block.X for block in rows]), matrix(table))
        assert blocks.notices[0].startswith("The run has no feature names: the columns of")
        assert len(blocks.notices) == 1 + more
    with pytest.raises(UsageError, match="has 4 columns; expected 2"):
        read(path, expected=Expected(2), labelled=False, own_target="none")


def test_missing_columns_are_named(table: pa.Table, tmp_path: Path) -> None:
    path = csv(table.drop_columns(["a", "c"]), tmp_path)
    with pytest.raises(UsageError, match="lacks columns that this model was trained on: a, c; it has label, id, b, w"):
        read(path)
    with pytest.raises(UsageError, match=r"keep='z': .* has no such column"):
        read(csv(table, tmp_path), keep=("z",))


def test_pandas_index_is_read_only_if_it_is_named(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2], "b": [3.0, 4], "c": [5.0, 6]}, index=pandas.Index([7, 8], name="site"))
    frame.to_parquet(tmp_path / "t.parquet")
    _, rows = read(tmp_path / "t.parquet", expected=Expected(3))
    np.testing.assert_array_equal(rows[0].X, frame.to_numpy())
    _, rows = read(tmp_path / "t.parquet", keep=("site",))
    assert rows[0].kept["site"].to_pylist() == [7, 8]


def test_true_and_false_are_numbers_wherever_they_begin() -> None:
    text = b"a,b,c\n" + b"True,1,2\n" * 3 + b"False,,3\n"
    _, rows = read(io.BytesIO(text))
    np.testing.assert_array_equal(rows[0].X, [[1, 1, 2]] * 3 + [[0, np.nan, 3]])
    late = b"a,b,c\n" + b",1,2\n" * 100 + b"true,1,2\n"
    X = np.concatenate([block.X for block in read(io.BytesIO(late))[1]])
    assert X[-1].tolist() == [1, 1, 2]


BAD = {
    "a word": (b"a,b,c\n1,2,3\n1,x,3\n", "column 'b' holds 'x' in row 1"),
    "a short row": (b"a,b,c\n1,2,3\n1,2\n", "row 1: Expected 3 columns, got 2"),
    "nothing": (b"", "is empty"),
    "no header": (b"5.1,3.5,1.4\n4.9,3.0,1.4\n", "seems to have no header"),
    "not text": (b"a,b,c\n\xff,2,3\n", "not UTF-8"),
    "twice": (b"a,b,c,a\n1,2,3,4\n", "columns with the same name: a"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_text_is_refused_with_its_row(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises((DataError, UsageError), match=words):
        read(io.BytesIO(text))


def test_rows_are_numbered_over_all_blocks() -> None:
    text = b"a,b,c\n" + b"1,2,3\n" * 5000 + b"1,x,3\n"
    blocks = stream_blocks(Dripping(text), Request(EXPECTED))
    with pytest.raises(DataError, match=r"standard input: column 'b' holds 'x' in row 5000 \(counted from 0\)"):
        list(blocks.rows)


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 999) if size and size > 0 else size)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("final", [True, False])
def test_line_ends(ending: str, final: bool) -> None:
    text = ending.join(["a,b,c", "1,2,3", "4,5,6"]) + (ending if final else "")
    _, rows = read(Dripping(text.encode()))
    np.testing.assert_array_equal(rows[0].X, [[1, 2, 3], [4, 5, 6]])


def test_header_alone_gives_no_rows() -> None:
    assert read(io.BytesIO(b"a,b,c\n"))[1] == []


def test_damaged_files_are_data_errors(table: pa.Table, tmp_path: Path) -> None:
    for write in (parquet, csv_gz, npz_packed_by_column):
        path = write(table, tmp_path)
        content = bytearray(path.read_bytes())
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError):
            read(path)
    np.save(tmp_path / "x.npy", np.zeros((100, 3)))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match="cut off"):
        read(tmp_path / "x.npy")
    np.save(tmp_path / "o.npy", np.array([[{}, 1, 2]], object))
    with pytest.raises(DataError, match="pickled"):
        read(tmp_path / "o.npy")
    np.save(tmp_path / "s.npy", np.array(3.0))
    with pytest.raises(DataError, match="single value"):
        read(tmp_path / "s.npy")


@pytest.mark.parametrize("name", ["x.parquet", "x.npy", "x.npz", "x.csv"])
def test_no_more_than_a_few_blocks_are_held(name: str, tmp_path: Path) -> None:
    """40 MB of numbers in blocks of 1.5 MB: neither NumPy nor Arrow holds a third of them."""
    import tracemalloc

    n = 200_000
    X = np.arange(n * 24, dtype=np.float64).reshape(n, 24)
    names = tuple(f"x{i}" for i in range(24))
    if name == "x.parquet":
        pq.write_table(
            pa.table(list(X.T), names=list(names)), tmp_path / name, use_dictionary=False, data_page_size=1 << 16
        )
    elif name == "x.npy":
        np.save(tmp_path / name, X)
    elif name == "x.npz":
        np.savez(tmp_path / name, X=X)
    else:
        arrow_csv.write_csv(pa.table(list(X.T), names=list(names)), tmp_path / name)
    expected = Expected(24, names)
    del X
    before, total, arrow = pa.total_allocated_bytes(), 0.0, 0
    tracemalloc.start()
    try:
        for block in open_blocks(tmp_path / name, small(Request(expected), 8192)).rows:
            total += float(block.X[:, 0].sum())
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        held = tracemalloc.get_traced_memory()[1] + arrow
    finally:
        tracemalloc.stop()
    assert total == 24 * n * (n - 1) / 2
    limit = 15e6 if name != "x.csv" else 35e6  # text is read 4 MB at once, whatever the blocks
    assert held < limit, held


@pytest.mark.parametrize("name", ["x.npy", "m.npy", "x.npz"])
def test_warnings_between_two_blocks_are_the_caller_s(name: str, tmp_path: Path) -> None:
    X = np.arange(600.0).reshape(200, 3)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "m.npy", np.c_[X, np.arange(200) % 2])
    np.savez(tmp_path / "x.npz", X=X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in open_blocks(tmp_path / name, small(Request(EXPECTED))).rows:
            with pytest.raises(UserWarning, match="mine"):
                warnings.warn("mine", UserWarning, stacklevel=1)
