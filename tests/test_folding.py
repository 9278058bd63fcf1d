"""Blocks of rows as they are stored, with the scaling in the weights, give what blocks of scaled rows give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data.dataset import Dataset
from gpureg.data.design import FOLDED_FACTORS, FOLDED_NEAR, Designer
from gpureg.data.scaling import Scaling, fit_scaling
from gpureg.errors import DataError
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.prepare import rows_of
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.rows.ahead import HostRows
from gpureg.rows.blocked import BlockedRows
from gpureg.rows.partials import Cost, Evaluated, Mean, Of, Together

N, F, K = 400, 6, 3


def samples(kind: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = random.integers(0, K, N)
    X = (random.normal(size=(K, F))[y] + random.normal(size=(N, F))) * 10.0 ** np.arange(-2, F - 2)
    X += X.std(axis=0) * np.linspace(-3, 3, F)
    if kind == "uint8":
        X = np.clip(70 + 30 * (X - X.mean(axis=0)) / X.std(axis=0), 0, 255)
    X[:, 1] = 2.0  # constant
    return X.astype(kind), y


def blocks(kernels: Kernels, host: HostRows, scaling: Scaling, *, folds: bool) -> BlockedRows:
    data = Dataset("d", host.X, host.y, host.X[:0], host.y[:0], tuple(range(K)))
    config = FitConfig(solver="lbfgs", block_rows=150)
    blocking = Blocking.of(data, config, lambda event: None, minibatches=False, one_model=0)
    assert blocking is not None
    rows = rows_of(kernels, host, scaling, "float32", replace(blocking, folds=folds))
    assert isinstance(rows, BlockedRows)
    return rows


@pytest.mark.parametrize("which", ["fused", "reference"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_sums_of_rows_as_they_are_stored_are_those_of_scaled_rows(kind: str, weighted: bool, which: str) -> None:
    X, y = samples(kind)
    random = np.random.default_rng(1)
    table = random.random((N, 2)).astype(np.float32) if weighted else None
    host = HostRows(X, y, table, random.random(N) if weighted else None)
    data = Dataset("d", X, y, X[:0], y[:0], tuple(range(K)))
    kernels = choose_kernels(numpy_backend("float32"), FitConfig().loss, K, which)
    scaling = fit_scaling("standard", data)
    mine, scaled = (blocks(kernels, host, scaling, folds=folds) for folds in (True, False))
    assert mine.blocks.as_stored is not None  # type: ignore[attr-defined]
    assert scaled.blocks.as_stored is None  # type: ignore[attr-defined]
    W = kernels.weights(random.normal(size=(F + 1, 2 * K)))
    column = np.array([1, 0]) if weighted else None
    for one, other in zip(mine.cost_and_gradient(W, column), scaled.cost_and_gradient(W, column), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-3)
    part = np.arange(20, N - 30, 3)
    for rows in ((mine, scaled), (mine.subset(part), scaled.subset(part))):
        asked = [own.start_evaluation(W, with_loss=True) for own in rows]
        for one, other in zip(asked[0].result(), asked[1].result(), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5)
    np.testing.assert_array_equal(mine.mean(), scaled.mean())
    np.testing.assert_array_equal(mine.scatter(mine.mean()), scaled.scatter(mine.mean()))


def test_a_sum_that_takes_scaled_rows_takes_them_for_all_that_share_its_pass() -> None:
    X, y = samples()
    data = Dataset("d", X, y, X[:0], y[:0], tuple(range(K)))
    kernels = choose_kernels(numpy_backend("float32"), FitConfig().loss, K)
    fold = blocks(kernels, HostRows(X, y), fit_scaling("standard", data), folds=True).blocks.as_stored.fold  # type: ignore[attr-defined]
    W = np.ones((F + 1, K), np.float32)
    evaluated, picked = Evaluated(W, with_loss=True), Of(Evaluated(W, with_loss=True), (np.arange(3),))
    assert fold.onto(kernels, Together([evaluated, picked])) is not None
    assert fold.onto(kernels, Together([evaluated, Mean()])) is None
    assert fold.onto(kernels, Of(Mean(), (np.arange(3),))) is None
    own = np.ones((F + 1, K))
    assert fold.back(Of(Cost(W, None), ()), ()) == ()
    _, gradient, _ = fold.back(Together([Cost(W, None)]), ((1.0, own, None),))[0]
    np.testing.assert_allclose(gradient, np.r_[(fold.factor - fold.shift), 1.0][:, None] * own)


@pytest.mark.parametrize(
    ("offset", "scale", "dtype", "stored", "folds"),
    [
        (FOLDED_NEAR * 3, 3.0, "float32", "float32", True),
        (FOLDED_NEAR * 3.01, 3.0, "float32", "float32", False),
        (0.0, 1 / FOLDED_FACTORS[1], "float32", "float32", True),
        (0.0, 0.9 / FOLDED_FACTORS[1], "float32", "float32", False),
        (0.0, 1.1 / FOLDED_FACTORS[0], "float32", "float32", False),
        (127.5, 127.5, "float32", "uint8", True),
        (0.0, 1.0, "float32", "float64", False),
        (0.0, 1.0, "float64", "float32", False),
    ],
)
def test_the_scaling_goes_into_the_weights_where_no_digits_are_lost(
    offset: float, scale: float, dtype: str, stored: str, folds: bool
) -> None:
    scaling = Scaling(np.array([0.0, offset]), np.array([1.0, scale]))
    assert (Designer.of(scaling, dtype, np.dtype(stored)).folded is not None) == folds


@pytest.mark.parametrize("stream", [False, True])
def test_a_validation_value_beyond_the_type_is_refused(tmp_path: Path, stream: bool) -> None:
    X, y = samples()
    X = np.ascontiguousarray(X[:, [0, 2]]) * np.float32(1e-3)
    np.savez(tmp_path / "train.npz", X=X, y=y)
    X = X.copy()
    X[-1] = 3e38
    np.savez(tmp_path / "val.npz", X=X, y=y)
    data = gpureg.load_dataset(tmp_path / "train.npz", val=tmp_path / "val.npz", stream=stream)
    options: dict[str, Any] = {"l2": 0.1, "solver": "lbfgs", "block_rows": 100}
    with pytest.raises(DataError, match="beyond the range of float32 after scaling"):
        gpureg.fit(data, **options)
