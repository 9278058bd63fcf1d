"""Rows that stay in their file: they are those that a reader holds, and a fit gives the same bits."""

from __future__ import annotations

import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, same_run, script, started
from gpureg_cli.reading import Reading
from resuming import Memory

import gpureg
from gpureg.config import DataConfig, FitConfig
from gpureg.data import Dataset, load
from gpureg.data.array_rows import npy_rows
from gpureg.data.limits import Limit
from gpureg.data.streamed import Part, Streamed, is_streamed, row_pieces
from gpureg.errors import DataError, RunError, UsageError
from gpureg.events import Event, RowsRead, StreamBegun
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.storage.checkpoint import read_checkpoint
from gpureg.storage.directory import is_under_way

N, F, K = 600, 7, 3
LONG = pytest.mark.long
Writer = Callable[[Path, np.ndarray, np.ndarray], dict[str, Any]]


def samples(kind: str = "float32", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.integers(0, K, N)
    X = random.normal(size=(K, F))[y] + 1.5 * random.normal(size=(N, F))
    return (20 * X).astype(kind) if np.dtype(kind).kind in "iu" else X.astype(kind), y


def npz(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "d.npz", X=X, y=y, w=(np.arange(N) % 5).astype(float), g=np.arange(N) // 4, f=np.arange(N) % 3)
    return {"name_or_path": folder / "d.npz"}


def npz_in_parts(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "d.npz", X_train=X[:400], y_train=y[:400], X_val=X[400:], y_val=y[400:])
    return {"name_or_path": folder / "d.npz"}


def npy(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.save(folder / "d.npy", np.concatenate([X, y[:, None]], axis=1))
    return {"name_or_path": folder / "d.npy"}


def npy_and_labels(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.save(folder / "X.npy", X)
    np.savetxt(folder / "y.txt", y, "%d")
    return {"name_or_path": folder / "X.npy", "labels": folder / "y.txt"}


def images(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    pixels = np.abs(20 * X).astype(np.uint8)[:, :6].reshape(N, 2, 3)
    for name, array in (("images-idx3", pixels), ("labels-idx1", y.astype(np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    return {"name_or_path": folder / "train-images-idx3-ubyte"}


def parquet(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"x{k}": X[:, k] for k in range(F)} | {"w": (np.arange(N) % 5).astype(float), "g": np.arange(N) // 4}
    pq.write_table(pa.table(columns | {"label": [f"c{k}" for k in y]}), folder / "d.parquet", row_group_size=97)
    return {"name_or_path": folder / "d.parquet", "target": "label", "drop": "w,g"}


def parquet_folder(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, part in enumerate(np.array_split(np.arange(N), 3)):
        (folder / f"d/year={2020 + number}").mkdir(parents=True)
        table = pa.table({"e": pa.array(list(X[part])), "label": y[part]})
        pq.write_table(table, folder / f"d/year={2020 + number}/rows.parquet", row_group_size=50)
    return {"name_or_path": folder / "d", "target": "label"}


WRITERS = (npz, npz_in_parts, npy, npy_and_labels, images, parquet, parquet_folder)
NAMES = [writer.__name__ for writer in WRITERS]


def rows_of(X: Any, size: int = 64) -> np.ndarray:
    return np.concatenate([piece.copy() for piece in row_pieces(X, size)])


def assert_same_data(streamed: Dataset, held: Dataset) -> None:
    assert is_streamed(streamed.X_train)
    assert is_streamed(streamed.X_val)
    for part in ("X_train", "X_val"):
        mine, its = getattr(streamed, part), getattr(held, part)
        assert (mine.shape, mine.dtype) == (its.shape, its.dtype)
        if len(its):
            np.testing.assert_array_equal(rows_of(mine), its)
    for name in ("y_train", "y_val", "sample_weight", "val_weight", "groups", "folds"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(held, name), err_msg=name)
    same = ("classes", "feature_names", "image_shape", "pixel_max", "target", "notices", "encoding")
    assert [getattr(streamed, name) for name in same] == [getattr(held, name) for name in same]


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"train_size": 200, "val_size": 90}, marks=LONG), pytest.param({"val_size": 0}, marks=LONG)],
    ids=str,
)
def test_what_is_streamed_is_what_is_held(tmp_path: Path, writer: Writer, options: dict[str, Any]) -> None:
    given = writer(tmp_path, *samples()) | options
    assert_same_data(gpureg.load_dataset(**given, stream=True), gpureg.load_dataset(**given))


@pytest.mark.parametrize("kind", [">f8", "float16", "longdouble", "int8", ">i4", "bool"])
def test_every_type_of_number_is_streamed(tmp_path: Path, kind: str) -> None:
    given = npy_and_labels(tmp_path, *samples(kind))
    assert_same_data(gpureg.load_dataset(**given, stream=True), gpureg.load_dataset(**given))


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "w"},
        {"groups": "g"},
        {"folds": "f", "val_size": 0},
        {"features": "1,4", "weights": "w"},
        {"drop": "0"},
        {"classes": [2, 0]},
    ],
    ids=str,
)
def test_columns_and_rows_are_chosen_alike(tmp_path: Path, options: dict[str, Any]) -> None:
    given = npz(tmp_path, *samples()) | options
    assert_same_data(gpureg.load_dataset(**given, stream=True), gpureg.load_dataset(**given))


@pytest.mark.parametrize("options", [{"weights": "w", "drop": "g"}, {"groups": "g"}, {"features": "x3,x1"}], ids=str)
def test_columns_of_parquet_are_chosen_alike(tmp_path: Path, options: dict[str, Any]) -> None:
    given = parquet(tmp_path, *samples()) | options
    assert_same_data(gpureg.load_dataset(**given, stream=True), gpureg.load_dataset(**given))


@pytest.mark.parametrize("widths", [(2, 3), (3, 2)])
def test_lists_are_as_long_in_every_file(tmp_path: Path, widths: tuple[int, int]) -> None:
    """Also where those of two columns are as long together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, width in enumerate(widths):
        lists = {name: [[1.0] * k] * 4 for name, k in (("e", width), ("f", 5 - width))}
        pq.write_table(pa.table(lists | {"y": [0, 1, 0, 1]}), tmp_path / f"{number}.parquet")
    with pytest.raises(DataError, match=r"1\.parquet: column 'e' holds lists of \d numbers; those of the first row of"):
        gpureg.load_dataset(tmp_path, target="y", stream=True)


def test_an_id_is_noticed(tmp_path: Path) -> None:
    X, y = samples("float64")
    X[:, 2] = np.random.default_rng(3).permutation(N)
    given = npy_and_labels(tmp_path, X, y)
    streamed, held = (gpureg.load_dataset(**given, stream=stream) for stream in (True, False))
    assert streamed.notices == held.notices
    assert "feature 2" in streamed.notices[0]


def test_any_rows_are_read_in_any_order(tmp_path: Path) -> None:
    X, _ = samples()
    np.save(tmp_path / "X.npy", X)
    random = np.random.default_rng(4)
    whole = Streamed((Part(npy_rows(tmp_path / "X.npy")),))
    some = np.sort(random.permutation(N)[:200])
    for rows, expected in (
        (whole, X),
        (whole[some], X[some]),
        (whole[100:300][::3], X[100:300:3]),
        (whole[X[:, 0] > 0], X[X[:, 0] > 0]),
    ):
        with rows.opened() as opened:
            for _ in range(10):
                start, stop = sorted(random.integers(0, len(rows) + 1, 2).tolist())
                found = [piece.copy() for piece in opened.pieces(start, stop)]
                assert np.array_equal(np.concatenate([X[:0], *found]), expected[start:stop])


LBFGS: tuple[dict[str, Any], ...] = (
    {"l2": 1e-3},
    {"l2": [0.1, 1e-2, 1e-3], "cv": 3},
    {"l2": [0.1, 1e-3], "refit": "all", "dtype": "float64"},
    {"l2": [0.1, 1e-3], "cv": 3, "score": "roc-auc", "class_weight": "balanced", "seeds": 2},
    {"l2": 1e-2, "scale": "none", "penalize_bias": True},
)
SGD: tuple[dict[str, Any], ...] = (
    {"epochs": 3},
    {"epochs": 3, "cv": 3, "l2": [0.0, 1e-2], "patience": 0},
    {"epochs": 4, "keep": "best", "seeds": 2, "batch_size": 7},
    {"epochs": 2, "shuffle": False, "refit": "all", "l2": [0.0, 0.1]},
)


def same_fit(one: gpureg.FitResult, other: gpureg.FitResult) -> None:
    assert np.array_equal(one.model.coef, other.model.coef)
    assert np.array_equal(one.model.intercept, other.model.intercept)
    assert (one.models, one.cv, one.selected, one.warnings) == (other.models, other.cv, other.selected, other.warnings)
    for name in ("step_loss", "val_loss", "train_accuracy", "objective", "gap_bound"):
        np.testing.assert_array_equal(getattr(one.history, name), getattr(other.history, name))


@pytest.mark.parametrize("options", LBFGS + SGD, ids=str)
@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_a_fit_of_streamed_rows_has_the_bits_of_held_ones(tmp_path: Path, options: dict[str, Any]) -> None:
    given = npy_and_labels(tmp_path, *samples())
    by_blocks = {"shuffle_by": "blocks"} if "epochs" in options else {}
    held = gpureg.fit(gpureg.load_dataset(**given), block_rows=110, **by_blocks, **options)
    streamed = gpureg.fit(gpureg.load_dataset(**given, stream=True), block_rows=110, **options)
    same_fit(streamed, held)
    assert held.warnings == streamed.warnings


@pytest.mark.parametrize("writer", [parquet_folder, pytest.param(images, marks=LONG)])
@pytest.mark.parametrize("solver", [pytest.param("lbfgs", marks=LONG), "sgd"])
@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_every_format_gives_the_bits_of_held_rows(tmp_path: Path, writer: Writer, solver: str) -> None:
    given = writer(tmp_path, *samples())
    options: dict[str, Any] = {"solver": solver, "block_rows": 64}
    options |= {"epochs": 2, "shuffle_by": "blocks"} if solver == "sgd" else {}
    same_fit(*(gpureg.fit(gpureg.load_dataset(**given, stream=stream), **options) for stream in (True, False)))


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("options", [{"l2": [0.1, 1e-2, 1e-3]}, pytest.param({"l2": 1e-2, "cv": 4}, marks=LONG)])
def test_blocks_change_a_fit_within_its_certificates(tmp_path: Path, task: str, options: dict[str, Any]) -> None:
    given = npy_and_labels(tmp_path, *samples("float64")) | {"classes": [0, 2], "task": task}
    options = options | {"task": task, "dtype": "float64"}
    whole = gpureg.fit(gpureg.load_dataset(**given), **options)
    streamed = gpureg.fit(gpureg.load_dataset(**given, stream=True), block_rows=100, **options)
    for one, other in zip(whole.models, streamed.models, strict=True):
        mine, its = one.certificate, other.certificate
        assert mine is not None
        assert its is not None
        assert its["converged"]
        assert abs(mine["objective"] - its["objective"]) <= max(mine["gap_bound"], its["gap_bound"]) + 1e-15


@pytest.mark.parametrize("suffix", ["csv", pytest.param("npz", marks=LONG), pytest.param("parquet", marks=LONG)])
def test_a_validation_file_is_streamed_too(tmp_path: Path, suffix: str) -> None:
    X, y = samples()
    given = parquet(tmp_path, X[:], y) if suffix != "npz" else npz(tmp_path, X, y)
    data = gpureg.load_dataset(**given)
    val = tmp_path / f"val.{suffix}"
    if suffix == "npz":
        np.savez(val, X=X[50:200] + 1, y=y[50:200])
    else:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        table = pa.table({f"x{k}": X[50:200, k] for k in reversed(range(F))} | {"label": [f"c{k}" for k in y[50:200]]})
        pq.write_table(table, val) if suffix == "parquet" else pyarrow.csv.write_csv(table, val)
    streamed, held = (gpureg.load_dataset(**given, val=val, stream=stream) for stream in (True, False))
    assert len(data.y_val) != len(held.y_val)
    assert_same_data(streamed, held)
    options: dict[str, Any] = {"l2": [0.1, 0.01], "refit": "all", "block_rows": 60}
    same_fit(gpureg.fit(streamed, **options), gpureg.fit(held, **options))


def test_a_streamed_validation_file_is_not_held_while_it_is_checked(tmp_path: Path) -> None:
    width, of_block = 1024, 4096
    random = np.random.default_rng(0)

    def peak(blocks: int) -> int:
        X = random.integers(0, 2, (blocks * of_block, width + 1), np.uint8)
        np.save(tmp_path / "val.npy", X)
        np.save(tmp_path / "train.npy", X[:100])
        del X
        tracemalloc.start()
        try:
            data = gpureg.load_dataset(tmp_path / "train.npy", val=tmp_path / "val.npy", stream=True)
            assert data.X_val.shape == (blocks * of_block, width)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(8) - peak(2) < 6 * of_block * width / 4


def test_rows_of_a_fold_that_lacks_a_class_are_streamed(tmp_path: Path) -> None:
    X, y = samples()
    np.savez(tmp_path / "d.npz", X=X, y=y, f=np.where(y == 2, 0, np.arange(N) % 3))
    given = {"name_or_path": tmp_path / "d.npz", "folds": "f", "val_size": 0}
    with pytest.warns(gpureg.GpuregWarning, match="Training rows of some classes are missing"):
        streamed, held = (
            gpureg.fit(gpureg.load_dataset(**given, stream=stream), l2=[0.1, 0.01], block_rows=100)
            for stream in (True, False)
        )
    same_fit(streamed, held)


def test_what_streaming_takes_is_said_before_and_shown_meanwhile(tmp_path: Path) -> None:
    seen: list[Event] = []
    data = gpureg.load_dataset(**npy_and_labels(tmp_path, *samples()), stream=True, val_size=0)
    gpureg.fit(data, l2=0.1, block_rows=100, observe=seen.append)
    (begun,) = (event for event in seen if isinstance(event, StreamBegun))
    assert (begun.rows, begun.block_rows, begun.block_bytes) == (N, 100, 2 * 100 * (F + 1) * 4)
    assert begun.peak > begun.block_bytes
    read = [event for event in seen if isinstance(event, RowsRead)]
    assert seen.index(begun) < seen.index(read[-1])
    assert [event.rows for event in read] == [100 * (number + 1) for number in range(len(read))]
    assert read[-1].size == read[-1].rows * F * 4


def test_what_a_fit_takes_grows_with_the_labels_alone(tmp_path: Path) -> None:
    X, y = samples()
    peaks = []
    for times in (1, 5):
        seen: list[Event] = []
        given = npy_and_labels(tmp_path, np.concatenate([X] * times), np.concatenate([y] * times))
        data = gpureg.load_dataset(**given, stream=True, val_size=0)
        gpureg.fit(data, l2=[0.1, 0.01], cv=4, block_rows=100, observe=seen.append)
        peaks += [event.peak for event in seen if isinstance(event, StreamBegun)]
    assert peaks[1] - peaks[0] <= 4 * N * (32 + 4 * 5)  # a row's label and numbers, and its weights


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewritten(path: Path) -> None:
    np.save(path, np.load(path) + 1)


@pytest.mark.parametrize(
    ("change", "said"), [(truncated, "has changed"), (rewritten, "has changed"), (Path.unlink, "is gone")]
)
@pytest.mark.parametrize("options", [{"l2": 1e-3}, {"epochs": 5}], ids=str)
def test_a_file_that_changes_is_an_error_that_names_it(
    tmp_path: Path, change: Callable[[Path], None], said: str, options: dict[str, Any]
) -> None:
    given = npy_and_labels(tmp_path, *samples())
    file, blocks = tmp_path / "X.npy", 0

    def see(event: Event) -> None:
        nonlocal blocks
        blocks += isinstance(event, RowsRead)
        if blocks == 23 and isinstance(event, RowsRead):
            change(file)

    data = gpureg.load_dataset(**given, stream=True)
    with pytest.raises(DataError, match=f"X.npy {said}"):
        gpureg.fit(data, block_rows=100, observe=see, **options)
    assert blocks >= 23


@pytest.mark.parametrize(
    "options", [{"solver": "lbfgs", "l2": (0.1, 0.01, 1e-3), "cv": 3}, {"solver": "sgd", "epochs": 5, "cv": 3}], ids=str
)
@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_a_fit_that_was_interrupted_goes_on_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    given = npy_and_labels(tmp_path, *samples())
    config = FitConfig(**options, block_rows=130)

    def load() -> Dataset:
        return gpureg.load_dataset(**given, stream=True, val_size=0)

    whole, keeper = run_fit(load(), config, Hooks()), Memory()
    for boundaries in (1, 3):
        left = [boundaries]

        def stops(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        begun = run_fit(load(), config, Hooks(should_stop=stops, keeper=keeper))
        assert "interrupted" in {model.stop_reason for model in begun.models}
        same_fit(run_fit(load(), config, Hooks(), saved=keeper.saved), whole)
    file = tmp_path / "X.npy"
    os.utime(file, ns=(1, 1))
    with pytest.raises(RunError, match=r"are not the data that the run began with \(path, size and time of change"):
        run_fit(load(), config, Hooks(), saved=keeper.saved)


def trains(run: Path) -> bool:
    """Whether there is a checkpoint of something that was trained."""
    with suppress(FileNotFoundError, RunError):
        return read_checkpoint(run)[1]["data_sha256"] is not None
    return False


@pytest.mark.long
@pytest.mark.parametrize("change", [truncated, Path.unlink])
def test_the_last_checkpoint_stays_if_the_file_does_not(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Exit code 2 with the file's name; with the file back, the run goes on to the bits of one never stopped."""
    given = npy_and_labels(tmp_path, *samples())
    file = tmp_path / "X.npy"
    command = ("--dataset", file, "--labels", given["labels"], "--stream", "--block-rows", 50, "--val-size", 0)
    command += ("--lambda-grid", "1e-6:1:60", "--cv", 5, "--dtype", "float64", "--threads", 1)
    assert script("sweep-lambda", *command, "--out", "whole", cwd=tmp_path).returncode == 0
    content, stat = file.read_bytes(), file.stat()
    process = started("sweep-lambda", *command, "--out", "run", "--checkpoint-seconds", 0.05, cwd=tmp_path)
    while process.poll() is None and not trains(tmp_path / "run"):
        time.sleep(0.01)
    change(file)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "X.npy" in stderr
    assert "Traceback" not in stderr
    assert is_under_way(tmp_path / "run")
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = script("train", "--resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_run(tmp_path / "whole", tmp_path / "run")


def packed(folder: Path) -> dict[str, Any]:
    X, y = samples()
    np.savez_compressed(folder / "d.npz", X=X, y=y)
    return {"name_or_path": folder / "d.npz"}


def by_column(folder: Path) -> dict[str, Any]:
    X, y = samples()
    return npy_and_labels(folder, np.asfortranarray(X), y)


def gzipped(folder: Path) -> dict[str, Any]:
    import gzip

    given = images(folder, *samples())
    file = Path(given["name_or_path"])
    file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
    return {"name_or_path": file.with_name(file.name + ".gz")}


def text(folder: Path) -> dict[str, Any]:
    (folder / "d.csv").write_text("a,b,label\n" + "1,2,x\n3,4,y\n" * 9)
    return {"name_or_path": folder / "d.csv"}


def sparse(folder: Path) -> dict[str, Any]:
    (folder / "d.svm").write_text("1 1:2\n2 2:1\n" * 9)
    return {"name_or_path": folder / "d.svm"}


def cut_off(folder: Path) -> dict[str, Any]:
    given = npy_and_labels(folder, *samples())
    truncated(Path(given["name_or_path"]))
    return given


def not_finite(folder: Path) -> dict[str, Any]:
    X, y = samples()
    X[333, 4] = np.nan
    return npy_and_labels(folder, X, y)


REFUSED = (
    (packed, "compressed.*np.savez, which does not compress"),
    (by_column, r"column by column.*np.ascontiguousarray\(X\)"),
    (gzipped, "compressed.*gunzip"),
    (text, "holds CSV.*Convert it to Parquet"),
    (sparse, "sparse rows.*leave out stream"),
    (cut_off, "cut off: its header promises 600 rows of 7 numbers"),
    (not_finite, r"row 333 \(counted from 0\), feature '?4'? is nan"),
)


@pytest.mark.parametrize(("made", "said"), REFUSED, ids=[made.__name__ for made, _ in REFUSED])
def test_what_can_t_be_streamed_is_refused_with_the_conversion(
    tmp_path: Path, made: Callable[[Path], dict[str, Any]], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        gpureg.load_dataset(**made(tmp_path), stream=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"categorical": "one-hot"}, "categorical='one-hot' makes features of rows that are held"),
        ({"missing": "mean"}, "missing='mean' makes features of rows that are held"),
    ],
)
def test_what_is_made_of_held_rows_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        gpureg.load_dataset(**npz(tmp_path, *samples()), stream=True, **options)


def test_rows_that_fit_in_no_memory_are_streamed_by_themselves(tmp_path: Path) -> None:
    given = npy_and_labels(tmp_path, *samples())
    config = DataConfig(str(given["name_or_path"]), labels=str(given["labels"]))
    data = load(config, limit=Limit(10_000))
    assert "more than half of this machine's memory: they are read in blocks" in data.notices[-1]
    same_data = gpureg.load_dataset(**given, stream=True)
    assert np.array_equal(rows_of(data.X_train), rows_of(same_data.X_train))
    with pytest.warns(gpureg.GpuregWarning, match="they are read in blocks"):
        same_fit(
            replace(gpureg.fit(data, l2=0.1, block_rows=100), warnings=()),
            gpureg.fit(same_data, l2=0.1, block_rows=100),
        )
    with pytest.raises(UsageError, match=r"streamed only when told: give stream=True"):
        gpureg.fit(data, epochs=2)


@pytest.mark.parametrize("options", [{}, {"missing": "mean"}], ids=str)
def test_rows_that_fit_in_no_memory_and_can_t_be_streamed_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    made = text(tmp_path) if not options else npz(tmp_path, *samples())
    said = "Convert it to Parquet" if not options else "makes features of rows that are held"
    with pytest.raises(DataError, match=rf"half of this machine's memory.*Nor can they be read in blocks\..*{said}"):
        load(DataConfig(str(made["name_or_path"]), **options), limit=Limit(30))


def test_a_named_set_is_not_streamed() -> None:
    with pytest.raises(UsageError, match="'digits' is held"):
        gpureg.load_dataset("digits", stream=True)


@pytest.mark.parametrize(
    ("options", "memory"), [({"l2": 0.1}, 60_000), ({"epochs": 1, "batch_size": 8}, 32_000)], ids=str
)
@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_the_budget_names_the_block_that_fits(tmp_path: Path, options: dict[str, Any], memory: int) -> None:
    data = gpureg.load_dataset(**npy_and_labels(tmp_path, *samples()), stream=True)
    with pytest.raises(UsageError, match=r"two blocks of 480 rows take 30\.0 KiB.* or less") as raised:
        gpureg.fit(data, memory=memory, **options)
    fits = int(str(raised.value).split("block_rows=")[1].split()[0])
    gpureg.fit(data, memory=memory, block_rows=fits, **options)
    with pytest.raises(UsageError, match=f"Give block_rows={fits} or less"):
        gpureg.fit(data, memory=memory, block_rows=fits + 1, **options)
    with pytest.raises(UsageError, match=r"memory 2\.0 KiB is too small for the work arrays of one model.*two rows"):
        gpureg.fit(data, memory=2_000, **options)


@pytest.mark.parametrize(
    ("stream", "options", "said"),
    [
        (True, {"shuffle_by": "rows"}, "shuffle_by='rows' needs rows that are held.*Give shuffle_by='blocks'"),
        (False, {"block_rows": 50, "epochs": 1}, "with shuffle_by='rows' a minibatch has rows of every block"),
    ],
)
def test_orders_that_can_t_be_are_refused(tmp_path: Path, stream: bool, options: dict[str, Any], said: str) -> None:
    data = gpureg.load_dataset(**npy_and_labels(tmp_path, *samples()), stream=stream)
    with pytest.raises(UsageError, match=said):
        gpureg.fit(data, **options)


def test_sparse_rows_are_shuffled_by_blocks_too() -> None:
    from scipy import sparse

    X, y = samples("float64")
    X[np.abs(X) < 1] = 0
    options: dict[str, Any] = {
        "epochs": 2,
        "shuffle_by": "blocks",
        "block_rows": 90,
        "scale": "none",
        "dtype": "float64",
    }
    fits = [gpureg.fit(gpureg.make_dataset(rows, y), **options) for rows in (X, sparse.csr_array(X))]
    np.testing.assert_allclose(fits[0].model.coef, fits[1].model.coef, rtol=1e-9)
    with pytest.raises(UsageError, match="are sparse, and are not cut in blocks"):
        gpureg.fit(gpureg.make_dataset(sparse.csr_array(X), y), block_rows=90)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_the_commands_stream(tmp_path: Path, solver: str) -> None:
    given = npy_and_labels(tmp_path, *samples())
    data = ("--dataset", given["name_or_path"], "--labels", given["labels"])
    more = ("--epochs", 2, "--shuffle-by", "blocks") if solver == "sgd" else ("--l2", 0.01)
    runs = []
    for name, stream in (("streamed", ("--stream",)), ("held", ())):
        done = invoke("train", *data, *stream, "--block-rows", 128, *more, "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        assert ("streaming 480 rows in blocks of 128: two blocks take 8.0 KiB" in done.stderr) == bool(stream)
        runs.append(gpureg.load_run(tmp_path / name))
    assert runs[0].config["stream"] is True
    assert np.array_equal(runs[0].model.coef, runs[1].model.coef)
    small = ("train", *data, "--stream", "--memory", "32KB" if solver == "sgd" else "60KB", *more)
    done = invoke(*small, "--out", tmp_path / "refused")
    assert done.exit_code == 2
    assert not (tmp_path / "refused").exists()
    fits = done.stderr.split("Give --block-rows ")[1].split()[0]
    assert invoke(*small, "--block-rows", fits, "--out", tmp_path / "fits").exit_code == 0


@pytest.mark.long
@pytest.mark.parametrize("more", [("--l2", 0.01), ("--epochs", 2, "--shuffle-by", "blocks")], ids=str)
def test_a_device_streams_too(tmp_path: Path, soft: dict[str, str], more: tuple[object, ...]) -> None:
    given = npy_and_labels(tmp_path, *samples())
    command = ("train", "--dataset", given["name_or_path"], "--labels", given["labels"], "--block-rows", 128, *more)
    coefs = {}
    for device in ("cuda", "cpu"):
        for name, stream in (("streamed", ("--stream",)), ("held", ())):
            out = tmp_path / f"{device}-{name}"
            done = script(*command, *stream, "--device", device, "--strict-device", "--out", out, cwd=tmp_path, **soft)
            assert done.returncode == 0, done.stderr
            coefs[device, name] = gpureg.load_run(out).model.coef
        assert np.array_equal(coefs[device, "streamed"], coefs[device, "held"])
    np.testing.assert_allclose(coefs["cuda", "held"], coefs["cpu", "held"], atol=1e-3)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    times = iter([0.0, 1.0, 2.0, 10.0, 13.0])
    reading = Reading(lambda: next(times))
    assert reading.phrases() == []
    for rows in (100, 200, 300):
        reading.see(RowsRead(rows, rows * 10**6))
    assert reading.phrases() == ["300 rows read, 100 MB/s"]
    for rows in (400, 700):
        reading.see(RowsRead(rows, rows * 10**6))
    assert reading.phrases() == ["700 rows read, 100 MB/s"]


@pytest.mark.long
def test_figures_read_the_validation_rows_in_pieces(tmp_path: Path) -> None:
    given = npy_and_labels(tmp_path, *samples())
    data = ("--dataset", given["name_or_path"], "--labels", given["labels"], "--stream")
    assert invoke("train", *data, "--out", tmp_path / "run").exit_code == 0
    done = invoke("plot", tmp_path / "run", "--figure", "confusion", "--out", tmp_path / "figures")
    assert done.exit_code == 0, done.stderr


def test_a_member_of_an_archive_is_read_where_it_lies(tmp_path: Path) -> None:
    """Other members, and fields of any length in its header, come before it."""
    X, y = samples()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.write(tmp_path / "y.npy", "y.npy", zipfile.ZIP_DEFLATED)
        info = zipfile.ZipInfo("X.npy")
        info.extra = b"\x99\x99\x04\x00abcd"
        archive.writestr(info, (tmp_path / "X.npy").read_bytes())
    given = {"name_or_path": tmp_path / "d.npz"}
    assert_same_data(gpureg.load_dataset(**given, stream=True), gpureg.load_dataset(**given))
