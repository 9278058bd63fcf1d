"""`load_dataset`: sizes, the stratified split, the choice of classes, and that importing the room is cheap."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

import gpureg
from gpureg.data import class_weights, load_dataset
from gpureg.data.parts import parted
from gpureg.data.split import stratified_split
from gpureg.errors import DataError, UsageError


@pytest.fixture
def iris(tmp_path):
    features, y = load_iris(return_X_y=True)
    path = tmp_path / "iris.npz"
    np.savez(path, X=features, y=np.array(["setosa", "versicolor", "virginica"])[y])
    return path


def test_importing_loads_numpy_only():
    heavy = "('sklearn', 'pyarrow', 'requests', 'platformdirs', 'matplotlib', 'typer', 'rich')"
    code = f"import sys, gpureg.data; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits():
    data = load_dataset("digits")
    assert data.X_train.dtype == np.uint8
    assert data.X_train.flags.c_contiguous
    assert (data.image_shape, data.pixel_max, data.X_train.max()) == ((8, 8), 16.0, 16)
    assert (len(data.X_train), len(data.X_val)) == (1438, 359)
    assert data.classes == tuple(range(10))
    assert data.y_train.dtype == np.int64
    share = np.bincount(data.y_val) / np.bincount(np.concatenate([data.y_train, data.y_val]))
    assert np.all(np.abs(share - 0.2) < 0.01)
    again, other = load_dataset("digits"), load_dataset("digits", seed=1)
    np.testing.assert_array_equal(again.X_val, data.X_val)
    assert not np.array_equal(other.X_val, data.X_val)


def test_sizes_of_data_that_are_split():
    for train, val, n_train, n_val in ((500, 200, 500, 200), (500, None, 500, 359), (1500, None, 1500, 297)):
        data = load_dataset("digits", train_size=train, val_size=val)
        assert (len(data.X_train), len(data.X_val)) == (n_train, n_val)
    assert len(load_dataset("digits", val_size=100).X_train) == 1697
    # sizes count samples of all classes; the classes are chosen from them
    chosen = load_dataset("digits", train_size=500, val_size=200, classes=(2, 3))
    whole = load_dataset("digits", train_size=500, val_size=200)
    assert len(chosen.X_train) == np.isin(whole.y_train, (2, 3)).sum()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"train_size": 1797}, "^train_size=1797: 'digits' has 1797 rows in all"),
        ({"val_size": 1797}, "^val_size=1797: 'digits' has 1797 rows in all"),
        ({"train_size": 1500, "val_size": 298}, "^train_size=1500, val_size=298: "),
        ({"train_size": 0}, "train_size is 0; expected a whole number of at least 1"),
        ({"val_size": -1}, "val_size is -1; expected"),
        ({"val_size": 1790}, "every class keeps a training row"),
        ({"train_size": 10}, "classes that no training row has"),
        ({"seed": -1}, "seed is -1; expected"),
        ({"task": "ridge"}, "task is 'ridge'; expected one of softmax, logistic"),
        ({"target": "y"}, "has no columns to name"),
        ({"train_sise": 9}, "given 'train_sise', which is not an option; did you mean train_size"),
    ],
)
def test_sizes_and_options_that_dont_fit(sizes, says):
    with pytest.raises(UsageError, match=says):
        load_dataset("digits", **sizes)


def test_logistic_classes(iris):
    with pytest.raises(
        UsageError, match=r"exactly two classes, but 'iris' has 3: setosa, versicolor, virginica.*classes"
    ):
        load_dataset(iris, task="logistic")
    first = load_dataset(iris, task="logistic", classes=["setosa", "virginica"])
    assert first.classes == ("setosa", "virginica")
    assert np.all(first.X_train[first.y_train == 0][:, 2] < 2)  # setosa has the short petals
    digits = load_dataset("digits", task="logistic", classes="3,8")
    assert digits.classes == (3, 8)


def test_without_classes_the_larger_label_is_positive(tmp_path):
    np.savez(tmp_path / "two.npz", X=np.arange(20.0).reshape(10, 2), y=np.arange(10) % 2 * 2 - 1)
    data = load_dataset(tmp_path / "two.npz", task="logistic")
    assert data.classes == (1, -1)
    np.testing.assert_array_equal(data.y_train == 0, data.X_train[:, 0] % 4 == 2)


@pytest.mark.parametrize(
    ("task", "classes", "says"),
    [
        ("softmax", ["setosa"], "at least two classes, but classes names setosa"),
        ("softmax", ["setosa", "rose"], "no training row has the class 'rose'; the classes are setosa, versi"),
        ("softmax", ["setosa", " setosa"], "twice"),
        ("logistic", ["setosa"], "exactly two"),
        ("logistic", ["setosa", "virginica", "versicolor"], "exactly two"),
        ("softmax", [], "classes is empty"),
    ],
)
def test_classes_that_dont_fit(iris, task, classes, says):
    with pytest.raises(UsageError, match=says):
        load_dataset(iris, task=task, classes=classes)


def test_softmax_classes_are_sorted_and_match_as_strings_or_numbers():
    for classes in (["7", "2", "5"], [5, 7, 2], ["5.0", 2.0, np.int64(7)], " 7, 5,2"):
        assert load_dataset("digits", classes=classes).classes == (2, 5, 7)


def test_weights_follow_their_rows(tmp_path):
    x = np.arange(30.0)
    np.savez(tmp_path / "w.npz", X=x[:, None], y=np.arange(30) % 3, w=x)
    data = load_dataset(tmp_path / "w.npz", weights="w", classes=[0, 2])
    np.testing.assert_array_equal(data.sample_weight, data.X_train[:, 0])
    np.savez(tmp_path / "w.npz", X=x[:, None], y=np.arange(30) % 3, w=np.arange(30) % 3 == 1)
    with pytest.raises(UsageError, match="no training row has the class 0; the classes are 1"):
        load_dataset(tmp_path / "w.npz", weights="w", classes=[0, 2])


@pytest.mark.parametrize("path", [5, None, b"x.csv", ["x.csv"]])
def test_a_path_that_is_not_one(path):
    with pytest.raises(UsageError, match=r"dataset is .*; expected text"):
        load_dataset(path)


def test_data_too_small_to_split(tmp_path):
    np.savez(tmp_path / "s.npz", X=np.ones((1, 2)), y=[0])
    with pytest.raises(DataError, match="has 1 row"):
        load_dataset(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", X=np.ones((3, 2)), y=[0, 1, 2])
    with pytest.raises(UsageError, match="every class keeps a training row"):
        load_dataset(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", X=np.ones((4, 2)), y=[0, 0, 1, 2])
    data = load_dataset(tmp_path / "s.npz")
    assert (data.y_train.tolist(), data.y_val.tolist()) == ([0, 1, 2], [0])


@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=8), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_split_is_stratified_and_leaves_every_class_a_row(counts, data):
    codes = np.repeat(np.arange(len(counts)), counts)
    room = sum(max(n - 1, 0) for n in counts)
    if room == 0:
        with pytest.raises(UsageError):
            stratified_split(codes, 1, 0)
        return
    n_val = data.draw(st.integers(1, room))
    codes = np.random.default_rng(0).permutation(codes)
    train, val = stratified_split(codes, n_val, 3)
    assert len(val) == n_val
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(len(codes)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(val) > 0)
    drawn = np.bincount(codes[val], minlength=len(counts))
    for n, m in zip(counts, drawn, strict=True):
        assert m <= max(n - 1, 0)
        if n_val * max(counts) <= (max(counts) - 1) * len(codes) and min(c for c in counts if c) > 5 and n:
            assert abs(m - n_val * n / len(codes)) < 1 or n_val > room // 2


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.7])
def test_rows_are_parted_in_place(share, at_once):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    held = rng.random(500) < share
    train, val = np.flatnonzero(~held)[: 490 - int(held.sum())], np.flatnonzero(held)
    expected = X[train].copy(), X[val].copy()
    found = parted(X, train, val, at_once)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert np.shares_memory(found[0], X) == (2 * len(train) >= len(X))
    assert not np.shares_memory(found[1], X)


def test_the_split_is_frozen():
    train, val = stratified_split(np.arange(20) % 2, 4, 0)
    assert val.tolist() == [4, 7, 11, 16]
    assert len(train) == 16


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, -np.inf])
def test_class_weights_that_are_not_weights(weight):
    X, y = np.arange(20.0).reshape(10, 2), np.array(["cat", "dog"])[np.arange(10) % 2]
    for estimator in (gpureg.LogisticRegression, gpureg.LogisticRegressionCV):
        with pytest.raises(
            UsageError, match=r"class_weight gives the class cat the weight .*; expected finite numbers"
        ):
            estimator(class_weight={"cat": weight, "dog": 1}).fit(X, y)
        with pytest.raises(UsageError, match="class_weight gives every class the weight 0"):
            estimator(class_weight={"cat": 0, "dog": 0}).fit(X, y)
    with pytest.raises(UsageError, match=r"class_weight is .*; expected one of none, balanced"):
        gpureg.fit(gpureg.make_dataset(X, y), class_weight=weight)


def test_balanced_class_weights():
    y = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(class_weights("balanced", y, 2), [4 / 6, 2.0])
    np.testing.assert_allclose(class_weights("balanced", y, 3), [4 / 9, 4 / 3, 0])
    np.testing.assert_allclose(class_weights("balanced", y, 2, np.array([1.0, 1, 0, 2])), [1.0, 1.0])
    np.testing.assert_array_equal(class_weights(None, y, 2), [1, 1])
    with pytest.raises(UsageError, match="'odd' is not known"):
        class_weights("odd", y, 2)
