"""Scaling and the design matrix."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from gpureg.data import Dataset, Scaling, default_scaling, design_matrix, fit_scaling, load_dataset
from gpureg.errors import DataError, UsageError


def dataset(X: np.ndarray, pixel_max: float | None = None) -> Dataset:
    y = np.zeros(len(X), dtype=np.int64)
    return Dataset("d", X, y, X, y, (0, 1), pixel_max=pixel_max)


def test_defaults():
    assert default_scaling(load_dataset("digits")) == "pixels"
    assert default_scaling(dataset(np.ones((3, 2)))) == "standard"


def test_pixels():
    images = dataset(np.arange(256, dtype=np.uint8).reshape(-1, 1), pixel_max=255.0)
    X = design_matrix(images.X_train, fit_scaling("pixels", images), "float64")
    np.testing.assert_array_equal(X[:, 0], (np.arange(256) - 127.5) / 127.5)
    assert (X[0, 0], X[-1, 0]) == (-1, 1)
    digits = load_dataset("digits")
    assert design_matrix(digits.X_train, fit_scaling("pixels", digits), "float32").max() == 1
    assert fit_scaling("pixels", replace(images, pixel_max=None)).scale[0] == 127.5  # uint8 says it as well
    with pytest.raises(UsageError, match="scale='pixels' needs images"):
        fit_scaling("pixels", dataset(np.ones((3, 2))))
    with pytest.raises(UsageError, match="'minmax' is not known"):
        fit_scaling("minmax", images)


def test_none_passes_the_values_on():
    X = np.array([[1.5, -2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(
        design_matrix(X, fit_scaling("none", dataset(X)), "float32"), [[1.5, -2, 1], [3, 4, 1]]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["none", "standard"])
@pytest.mark.parametrize("stored", ["float32", "float64", "int16", "uint8"])
def test_rows_in_an_order_are_those_of_the_matrix(stored: str, kind: str, dtype: str) -> None:
    random = np.random.default_rng(2)
    X = (40 + 9 * random.normal(size=(3000, 70))).astype(stored)  # more than one block
    X[:, 3] = 7
    scaling, order = fit_scaling(kind, dataset(X)), random.permutation(len(X))
    expected = ((X[order].astype(np.float64) - scaling.offset) / scaling.scale).astype(dtype)
    found = design_matrix(X, scaling, dtype, order)
    np.testing.assert_array_equal(found[:, :-1], expected)
    np.testing.assert_array_equal(found, design_matrix(X, scaling, dtype)[order])


def test_what_float32_cannot_hold_is_refused_unscaled() -> None:
    X = np.array([[1.0], [1e300]])
    with pytest.raises(DataError):
        design_matrix(X, fit_scaling("none", dataset(X)), "float32")


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 30), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32))
)
@settings(max_examples=100, deadline=None)
def test_standard_gives_mean_0_and_sd_1(X):
    scaled = design_matrix(X, fit_scaling("standard", dataset(X)), "float64")[:, :-1]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-7)
    constant = X.min(axis=0) == X.max(axis=0)
    np.testing.assert_array_equal(scaled[:, constant], 0)
    spread = X.std(axis=0) > 1e-9 * np.abs(X).max(axis=0)
    np.testing.assert_allclose(scaled.std(axis=0)[spread & ~constant], 1, rtol=1e-6)


def test_standard_keeps_its_digits_where_the_mean_is_large():
    X = 1e9 + np.arange(1000.0).reshape(-1, 1)
    scaling = fit_scaling("standard", dataset(X))
    np.testing.assert_allclose(scaling.scale, np.arange(1000).std(), rtol=1e-9)


def test_standard_over_many_blocks_of_rows():
    X = np.random.default_rng(0).normal(3, 2, (40_000, 11)).astype(np.float32)
    X[:, 4] = 0.1
    scaling = fit_scaling("standard", dataset(X))
    np.testing.assert_allclose(scaling.offset, X.astype(float).mean(axis=0))
    np.testing.assert_allclose(np.delete(scaling.scale, 4), np.delete(X.astype(float).std(axis=0), 4))
    assert scaling.scale[4] == 1
    assert scaling.offset[4] == np.float32(0.1)


def test_a_weight_counts_like_so_many_rows():
    random = np.random.default_rng(0)
    X, weights = random.normal(size=(50, 3)), random.integers(0, 4, 50)
    weighted, repeated = fit_scaling("standard", dataset(X), weights), np.repeat(X, weights, axis=0)
    np.testing.assert_allclose(weighted.offset, repeated.mean(axis=0))
    np.testing.assert_allclose(weighted.scale, repeated.std(axis=0))
    with pytest.raises(UsageError, match=r"the weights have shape \(3,\)"):
        fit_scaling("standard", dataset(X), np.ones(3))


@pytest.mark.parametrize("kind", ["u1", "i8", "f4", "f8"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whole_weights_are_repeated_rows(kind, data):
    n = data.draw(st.integers(1, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spread = 10.0 ** data.draw(st.sampled_from([-18, -14, -9, 0, 3]))  # from rounding noise to a true feature
    X = (np.array([1.0, 100.0, 0.1]) + spread * random.normal(size=(n, 3))).astype(kind)
    weights = random.integers(0, 5, n)
    weights[random.integers(n)] += 1
    X[weights == 0] = 255 if kind == "u1" else 1e15
    weighted = fit_scaling("standard", dataset(X), weights)
    repeated = fit_scaling("standard", dataset(np.repeat(X, weights, axis=0)))
    np.testing.assert_allclose(weighted.offset, repeated.offset, rtol=1e-14, atol=1e-14 * spread)
    np.testing.assert_array_equal(weighted.scale == 1, repeated.scale == 1)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-6)


@given(st.floats(1e-300, 1e300), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_weights_count_relative_to_one_another(factor, seed):
    random = np.random.default_rng(seed)
    X, weights = random.normal(size=(50, 3)), random.uniform(0.5, 2, 50)
    one, other = fit_scaling("standard", dataset(X), weights), fit_scaling("standard", dataset(X), factor * weights)
    np.testing.assert_allclose(one.offset, other.offset, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_standard_scaling_is_scikit_learns(weighted):
    random = np.random.default_rng(0)
    n = 500
    X = np.stack(
        [
            random.normal(size=n),
            np.where(random.random(n) < 0.5, 0.1 + 0.2, 0.3),  # rounding noise
            np.full(n, 0.1),
            1e6 + 1e-9 * random.normal(size=n),
            1e6 + 1e-3 * random.normal(size=n),
            1e-200 * random.normal(size=n),
            np.zeros(n),
            1.7e9 + 60.0 * np.arange(n),
        ],
        axis=1,
    )
    weights = random.integers(0, 4, n) if weighted else None
    ours = fit_scaling("standard", dataset(X), weights)
    theirs = StandardScaler().fit(X, sample_weight=weights)
    np.testing.assert_allclose(ours.scale, theirs.scale_, rtol=1e-9)
    np.testing.assert_allclose(ours.offset, theirs.mean_, rtol=1e-9, atol=1e-12)
    assert (ours.scale == 1).tolist() == [False, True, True, True, False, True, True, False]


def test_a_row_of_weight_0_counts_nowhere():
    random = np.random.default_rng(0)
    X, weights = random.normal(size=(200, 3)), random.uniform(0.5, 2, 200)
    X[:, 2] = 0.1
    scaling = fit_scaling("standard", dataset(X), weights)
    for strange in (5.0, 1e18, -1e308):
        more = np.concatenate([X, np.full((3, 3), strange)])
        again = fit_scaling("standard", dataset(more), np.concatenate([weights, np.zeros(3)]))
        np.testing.assert_array_equal(scaling.offset, again.offset)
        np.testing.assert_array_equal(scaling.scale, again.scale)
    assert (scaling.offset[2], scaling.scale[2]) == (0.1, 1)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_are_not_weights(weights):
    with pytest.raises(UsageError, match="finite numbers of at least 0"):
        fit_scaling("standard", dataset(np.ones((2, 1))), weights)


def test_values_beyond_a_float():
    X = np.array([[1e300, 1.0], [-1e300, 2.0]])
    with pytest.raises(DataError, match="feature 0 overflows"):
        fit_scaling("standard", dataset(X))
    with pytest.raises(DataError, match="beyond the range of float32"):
        design_matrix(X, fit_scaling("none", dataset(X)), "float32")
    with pytest.raises(UsageError, match="the features differ"):
        design_matrix(X, Scaling(np.zeros(3), np.ones(3)), "float32")


@pytest.mark.parametrize("kind", ["u1", "i8", "f4", "f8", "?", "f2", ">f4"])
def test_the_design_matrix_of_any_type_is_c_contiguous_and_ends_in_ones(kind):
    X = (np.arange(12).reshape(4, 3) % 2).astype(kind)
    for rows in (X, np.asfortranarray(X), X[:, ::-1], X[:0]):
        for dtype in ("float32", np.float64):
            result = design_matrix(rows, Scaling(np.full(3, 0.5), np.full(3, 2.0)), dtype)
            assert result.flags.c_contiguous
            assert result.dtype == dtype
            np.testing.assert_array_equal(result[:, :-1], (rows.astype(float) - 0.5) / 2)
            np.testing.assert_array_equal(result[:, -1], 1)


def test_memory_is_the_result_and_little_more():
    X = np.zeros((20_000, 784), dtype=np.uint8)
    scaling = Scaling(np.full(784, 127.5), np.full(784, 127.5))
    tracemalloc.start()
    result = design_matrix(X, scaling, "float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes + (2 << 20)
