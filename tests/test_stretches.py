"""Samples in their own order, of which the kernels' threads ask for a stretch at a time: held, or read from a file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import fit_scaling
from gpureg.errors import DataError
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.prepare import rows_of
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.cpu.fused import NumpyKernels
from gpureg.kernels.cpu.rows import TILE
from gpureg.kernels.cpu.workers import Workers
from gpureg.losses import loss_of
from gpureg.rows.ahead import HostRows
from gpureg.rows.blocked import BlockedRows
from gpureg.rows.stretches import Lane

N, F, K, BLOCK = 5000, 6, 3, 2200


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_bare_samples_give_the_sums_of_those_that_are_sorted(task: str, weighted: bool, ties: bool) -> None:
    random = np.random.default_rng(0)
    kernels = NumpyKernels(numpy_backend("float64"), loss_of(task), K)
    X, y = random.normal(size=(N, F + 1)), random.integers(0, K if task == "softmax" else 2, N)
    X[:, -1] = 1
    W = random.normal(size=(F + 1, 4 * kernels.n_columns))
    if ties:
        X, W = np.round(X), np.repeat(np.round(W[:, :1]), W.shape[1], axis=1)
    W[2, 0] = np.nan  # a model that has diverged, and the others do not notice
    table, mass = (random.random((N, 2)), random.random(N)) if weighted else (None, None)
    order, column = kernels.storage_order(y, None), np.array([0, 1, 1, 0])
    stored = (None if part is None else part[order] for part in (X, y, table))
    rows = kernels.place(*stored, order, None if mass is None else mass[order])
    bare = kernels.place_bare(X[:, :-1].copy(), y, table, mass)
    part = random.permutation(N)[: N // 3]
    for one, other in ((bare, rows), (kernels.subset(bare, part), kernels.subset(rows, part))):
        for with_loss in (True, False):
            found, expected = (kernels.evaluate(W, each, with_loss=with_loss) for each in (one, other))
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    for found, expected in zip(*(kernels.cost_and_gradient(W, each, column) for each in (bare, rows)), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


def npy(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return {"name_or_path": folder / "X.npy", "labels": folder / "y.npy"}


def last_column(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.save(folder / "X.npy", np.column_stack([X, y]).astype(X.dtype))
    return {"name_or_path": folder / "X.npy"}


def some_columns(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return last_column(folder, X, y) | {"drop": ["1", "4"]}


def some_rows(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return npy(folder, X, y) | {"classes": [0, 2]}


def files(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    (folder / "rows").mkdir()
    for number, part in enumerate(np.split(X, [700, 3000, 3001])):
        np.save(folder / "rows" / f"{number}.npy", part)
    np.save(folder / "y.npy", y)
    return {"name_or_path": folder / "rows", "labels": folder / "y.npy"}


def whole_numbers(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return npy(folder, np.clip(100 + 30 * X, 0, 255).astype(np.uint8), y)


def npz(folder: Path, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "d.npz", X=X, y=y)
    return {"name_or_path": folder / "d.npz"}


WRITERS = (npy, last_column, some_columns, some_rows, files, whole_numbers, npz)


def samples(features: int = F) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    y = random.integers(0, K, N)
    return (random.normal(size=(K, features))[y] + random.normal(size=(N, features))).astype(np.float32), y


def placed(given: dict[str, Any], threads: int, *, stream: bool) -> BlockedRows:
    data = gpureg.load_dataset(**given, stream=stream, val_size=0)
    config = FitConfig(solver="lbfgs", block_rows=BLOCK)
    kernels = choose_kernels(numpy_backend("float32"), config.loss, len(data.classes))
    assert isinstance(kernels, NumpyKernels)
    kernels.workers = Workers(threads)
    blocking = Blocking.of(data, config, lambda event: None, minibatches=False, one_model=0)
    rows = HostRows(data.X_train, data.y_train)
    found = rows_of(kernels, rows, fit_scaling("standard", data), "float32", blocking)
    assert isinstance(found, BlockedRows)
    return found


def weights(rows: BlockedRows, models: int) -> np.ndarray:
    random = np.random.default_rng(2)
    return random.normal(size=(rows.features, models * rows.kernels.n_columns)).astype(np.float32)


@pytest.mark.parametrize("writer", WRITERS, ids=[writer.__name__ for writer in WRITERS])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_threads_read_has_the_bits_of_what_is_held(
    tmp_path: Path, writer: Callable[..., dict[str, Any]], threads: int
) -> None:
    """In the first pass, which reads whole blocks, and in the next."""
    given = writer(tmp_path, *samples())
    streamed, held = (placed(given, threads, stream=stream) for stream in (True, False))
    assert BLOCK > 4 * TILE  # several for each thread
    for models in (1, 3):
        W = weights(held, models)
        expected = held.cost_and_gradient(W, None)
        for _ in range(2):
            for one, other in zip(streamed.cost_and_gradient(W, None), expected, strict=True):
                np.testing.assert_array_equal(one, other)
    part = np.arange(7, held.n, 3)
    for one, other in ((streamed, held), (streamed.subset(part), held.subset(part))):
        found, wanted = (rows.start_evaluation(W, with_loss=True).result() for rows in (one, other))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("F", [1, 5, 17, 64, 129])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_bits_do_not_depend_on_where_a_sample_is_in_memory(tmp_path: Path, F: int, task: str) -> None:
    given = npy(tmp_path, *samples(F))
    given |= {"classes": [0, 1], "task": task} if task == "logistic" else {}
    streamed, held = (placed(given, 2, stream=stream) for stream in (True, False))
    W = weights(held, 1)
    streamed.mean()  # now threads read
    for one, other in zip(streamed.cost_and_gradient(W, None), held.cost_and_gradient(W, None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pass_holds_tiles_and_not_blocks(tmp_path: Path) -> None:
    features = 400
    rows = placed(npy(tmp_path, *samples(features)), 2, stream=True)
    W = weights(rows, 1)
    rows.cost_and_gradient(W, None)
    tracemalloc.start()
    try:
        rows.cost_and_gradient(W, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * TILE * features * 4 < BLOCK * features * 4


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_that_ends_in_a_pass_is_named(tmp_path: Path, threads: int) -> None:
    given = npy(tmp_path, *samples())
    rows = placed(given, threads, stream=True)
    W = weights(rows, 1)
    rows.cost_and_gradient(W, None)
    source = rows.blocks.as_stored.once.__self__  # type: ignore[attr-defined]
    file = tmp_path / "X.npy"
    cut = []

    def tell(read: int, size: int) -> None:
        if not cut:
            cut.append(file.read_bytes())
            file.write_bytes(cut[0][: len(cut[0]) // 2])

    source.meter.tell = tell
    with pytest.raises(DataError, match=r"X\.npy has changed while it was read"):
        rows.cost_and_gradient(W, None)
    with pytest.raises(DataError, match=r"X\.npy has changed while it was read"):
        rows.cost_and_gradient(W, None)


def test_rows_that_come_in_pieces_are_joined() -> None:
    class Pieces:
        """Of three rows, as numbers of another type."""

        def picked(self, start: int, stop: int) -> Any:
            for first in range(start, stop, 3):
                rows = np.arange(2 * first, 2 * min(first + 3, stop), dtype=np.uint8).reshape(-1, 2)
                yield (rows, None) if first % 2 else (np.repeat(rows, 2, axis=0), 2 * np.arange(len(rows)))

    class Designed:
        width, dtype = 3, "float32"

    lane = Lane(Pieces(), Designed())  # type: ignore[arg-type]
    for start, stop in ((0, 2), (1, 11), (4, 7), (0, 0)):
        found = lane.read(start, stop)
        np.testing.assert_array_equal(found, np.arange(2 * start, 2 * stop).reshape(-1, 2))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
