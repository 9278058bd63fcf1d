"""`make_dataset`: arrays in memory."""

from __future__ import annotations

import numpy as np
import pytest

import gpureg
from gpureg.errors import DataError, UsageError


def test_arrays_are_split_and_named() -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(100, 4)), np.array(["cat", "dog"])[np.arange(100) % 2]
    data = gpureg.make_dataset(X, y)
    assert data.classes == ("cat", "dog")
    assert (len(data.y_train), len(data.y_val)) == (80, 20)
    assert sorted(np.concatenate([data.X_train, data.X_val])[:, 0]) == sorted(X[:, 0])


def test_a_validation_part_of_its_own_and_weights() -> None:
    X, y = np.arange(12.0).reshape(6, 2), [0, 1, 2, 0, 1, 2]
    data = gpureg.make_dataset(X, y, X + 1, y, task="logistic", classes=[2, 0], sample_weight=[1, 2, 3, 4, 5, 6])
    assert data.classes == (2, 0)
    np.testing.assert_array_equal(data.y_train, [1, 0, 1, 0])
    np.testing.assert_array_equal(data.sample_weight, [1, 3, 4, 6])
    np.testing.assert_array_equal(data.X_val, X[[0, 2, 3, 5]] + 1)


def test_images_are_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5)).astype(np.uint8)
    data = gpureg.make_dataset(images, np.arange(30) % 3)
    assert (data.image_shape, data.pixel_max, data.X_train.dtype) == ((4, 5), 255, np.uint8)


def test_arrays_that_do_not_fit() -> None:
    X = np.zeros((4, 2))
    with pytest.raises(DataError, match="X and y"):
        gpureg.make_dataset(X, [0, 1])
    with pytest.raises(UsageError, match="both or neither"):
        gpureg.make_dataset(X, [0, 1, 0, 1], X)
    with pytest.raises(DataError, match="2 features, X_val 3"):
        gpureg.make_dataset(X, [0, 1, 0, 1], np.zeros((4, 3)), [0, 1, 0, 1])
