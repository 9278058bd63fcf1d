"""The real files: the numbers of the report's data section, and a fetch into an empty cache."""

from __future__ import annotations

import numpy as np
import pytest

from gpureg.data import CATALOG, design_matrix, fetch, fit_scaling, is_cached, load_dataset
from gpureg.data.cache import is_valid

pytestmark = pytest.mark.mnist


def test_softmax_sizes_and_pixels():
    data = load_dataset("mnist")
    assert (data.X_train.shape, data.X_val.shape) == ((20_000, 784), (10_000, 784))
    assert data.X_train.dtype == np.uint8
    assert data.classes == tuple(range(10))
    assert (data.image_shape, data.pixel_max, data.sample_weight) == ((28, 28), 255.0, None)
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    X = design_matrix(data.X_val[:500], fit_scaling("pixels", data), "float64")
    expected = (data.X_val[:500].astype(np.float64) - 127.5) / 127.5
    np.testing.assert_array_equal(X, np.hstack([expected, np.ones((500, 1))]))


def test_the_binary_task_keeps_4005_and_2042_images():
    data = load_dataset("mnist", task="logistic")
    assert (len(data.y_train), len(data.y_val)) == (4005, 2042)
    assert data.classes == (2, 3)
    raw = load_dataset("mnist")
    np.testing.assert_array_equal(data.y_train == 0, raw.y_train[np.isin(raw.y_train, (2, 3))] == 2)
    flipped = load_dataset("mnist", task="logistic", classes=["3", "2"])
    assert flipped.classes == (3, 2)
    np.testing.assert_array_equal(flipped.y_train, 1 - data.y_train)


def test_sizes():
    data = load_dataset("mnist", train_size=60_000, val_size=10)
    assert (len(data.X_train), len(data.X_val)) == (60_000, 10)


def test_fetch_into_an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUREG_DATA_DIR", str(tmp_path))
    lines: list[str] = []
    assert not is_cached("mnist")
    folder = fetch("mnist", report=lines.append)
    assert all(is_valid(folder / file.name, file) for file in CATALOG["mnist"].files)
    assert is_cached("mnist")
    assert lines
    assert sorted(path.name for path in folder.iterdir()) == sorted(file.name for file in CATALOG["mnist"].files)
