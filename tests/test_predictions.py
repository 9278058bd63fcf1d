"""Predicted rows as a table that is written block by block."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpureg.errors import UsageError
from gpureg.storage.predictions import Layout, csv_stream, open_predictions

N = 300
KEPT = pa.table(
    {
        "id": pa.array([None if i == 7 else i for i in range(N)], pa.int64()),
        "word": [f'w{i}, "x"\n' if i % 50 == 0 else f"w{i}" for i in range(N)],
        "flag": [i % 2 == 0 for i in range(N)],
        "when": pa.array([1_000_000 * i for i in range(N)], pa.timestamp("ms")),
        "kind": pa.array(["a", "b"]).take(pa.array(np.arange(N) % 2)).dictionary_encode(),
    }
)


def probabilities(K: int) -> np.ndarray:
    p = np.random.default_rng(0).random((N, K)) ** 9
    return p / p.sum(axis=1, keepdims=True)


def written(path: Path, classes: tuple[Any, ...], kept: pa.Table, step: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """A file in several blocks; returns what was written."""
    p = probabilities(len(classes))
    codes = p.argmax(axis=1)
    with open_predictions(path, Layout(classes, kept.schema)) as write:
        for start in range(0, N, step):
            part = slice(start, start + step)
            write(codes[part], p[part], kept.slice(start, step) if kept.num_columns else None)
    return codes, p


CLASSES = [("no", "yes"), (0, 1, 2), (0.5, 1.5), (False, True), (1, 2.5), ("a,b", 'c"d', "e")]


@pytest.mark.parametrize("classes", CLASSES, ids=str)
def test_parquet(classes: tuple[Any, ...], tmp_path: Path) -> None:
    codes, p = written(tmp_path / "p.parquet", classes, KEPT)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["label", *(f"p_{name}" for name in classes), *KEPT.column_names]
    assert table["label"].to_pylist() == [classes[code] for code in codes]
    np.testing.assert_array_equal(np.stack([table[f"p_{name}"].to_numpy() for name in classes], axis=1), p)
    assert table.select(KEPT.column_names).to_pylist() == KEPT.to_pylist()


@pytest.mark.parametrize("classes", CLASSES, ids=str)
def test_csv_gives_every_digit_back(classes: tuple[Any, ...], tmp_path: Path) -> None:
    kept = KEPT.select(["id", "word", "kind"])
    codes, p = written(tmp_path / "p.csv", classes, kept)
    with (tmp_path / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["label", *(f"p_{name}" for name in classes), *kept.column_names]
    exact = [str(classes[code]) if isinstance(classes[-1], (str, bool)) else classes[code] for code in codes]
    assert [row["label"] if isinstance(exact[0], str) else float(row["label"]) for row in rows] == exact
    np.testing.assert_array_equal([[float(row[f"p_{name}"]) for name in classes] for row in rows], p)
    assert [row["word"] for row in rows] == KEPT["word"].to_pylist()
    assert [row["id"] for row in rows] == ["" if value is None else str(value) for value in KEPT["id"].to_pylist()]


def test_plain_words_stand_without_quotes() -> None:
    stream = io.BytesIO()
    with csv_stream(stream, Layout(("no", "yes"), pa.schema([]))) as write:
        write(np.array([0, 1]), np.array([[0.75, 0.25], [0.1, 0.9]]), None)
    assert stream.getvalue() == b"label,p_no,p_yes\nno,0.75,0.25\nyes,0.1,0.9\n"


def test_npz(tmp_path: Path) -> None:
    codes, p = written(tmp_path / "p.npz", ("no", "a longer one"), KEPT)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert list(arrays) == ["label", "p_no", "p_a longer one", *KEPT.column_names]
        assert arrays["label"].tolist() == [("no", "a longer one")[code] for code in codes]
        np.testing.assert_array_equal(np.stack([arrays["p_no"], arrays["p_a longer one"]], axis=1), p)
        assert arrays["word"].tolist() == KEPT["word"].to_pylist()
        np.testing.assert_array_equal(arrays["id"], [np.nan if i == 7 else i for i in range(N)])
        assert arrays["flag"].dtype == bool
        assert arrays["when"].dtype.kind == "M"
    one = (tmp_path / "p.npz").read_bytes()
    written(tmp_path / "again.npz", ("no", "a longer one"), KEPT)
    assert (tmp_path / "again.npz").read_bytes() == one


def test_npy_holds_the_probabilities(tmp_path: Path) -> None:
    _, p = written(tmp_path / "p.npy", (0, 1, 2), pa.table({}))
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), p)
    with pytest.raises(UsageError, match="keep: an npy holds only the probabilities"):
        written(tmp_path / "q.npy", (0, 1), KEPT)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npy"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy"])
def test_no_rows_give_a_file_without_rows(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    with open_predictions(path, Layout((0, 1), pa.schema([]))):
        pass
    if suffix == ".csv":
        assert path.read_text() == "label,p_0,p_1\n"
    elif suffix == ".parquet":
        assert pq.read_table(path).column_names == ["label", "p_0", "p_1"]
    elif suffix == ".npy":
        assert np.load(path).shape == (0, 2)
    else:
        assert {name: len(array) for name, array in np.load(path).items()} == {"label": 0, "p_0": 0, "p_1": 0}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy"])
@pytest.mark.parametrize("failure", [UsageError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_what_was_there(suffix: str, failure: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_bytes(b"before")

    def fail() -> None:
        with open_predictions(path, Layout((0, 1), pa.schema([]))) as write:
            write(np.array([0]), np.array([[0.5, 0.5]]), None)
            raise failure("no")

    with pytest.raises((failure, UsageError)):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_t_be_written_is_refused(tmp_path: Path) -> None:
    layout = Layout((0, 1), pa.schema([("label", pa.int64())]))
    with (
        pytest.raises(UsageError, match="keep='label': the output already has a column of that name"),
        open_predictions(tmp_path / "p.csv", layout),
    ):
        pass
    plain = Layout((0, 1), pa.schema([]))
    with (
        pytest.raises(UsageError, match=r"expected a name that ends in \.csv, \.parquet, \.npz, \.npy"),
        open_predictions(tmp_path / "p.txt", plain),
    ):
        pass
    with pytest.raises(UsageError, match="can't be written"), open_predictions(tmp_path / "no" / "p.csv", plain):
        pass
    lists = pa.table({"e": [[1, 2]] * N})
    for name in ("p.csv", "p.npz"):
        with pytest.raises(UsageError, match=r"Write to a \.parquet file"):
            written(tmp_path / name, (0, 1), lists)
    written(tmp_path / "p.parquet", (0, 1), lists)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
