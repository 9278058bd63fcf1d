"""Logits that are kept: passes that keep them, and passes from the logits of a line, without the first product."""

from __future__ import annotations

import numpy as np
import pytest

from gpureg.backend import numpy_backend
from gpureg.kernels.cpu.fused import NumpyKernels
from gpureg.kernels.lines import MOST_REACH, Line, LogitKernels
from gpureg.losses import LOSSES
from gpureg.rows.dense import DenseRows
from gpureg.solvers.lbfgs.logits import logit_bytes, pack_logits, unpack_logits
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.packing import Unpacker
from gpureg.types import ModelTable

ROWS, FEATURES, MODELS = 1300, 7, 3


def placed(loss: str, dtype: str, *, weighted: bool) -> DenseRows:
    """Random samples in more than one tile; every class has some."""
    random = np.random.default_rng(3)
    kernels = NumpyKernels(numpy_backend(dtype), LOSSES[loss], 2 if loss == "logistic" else 4)
    y = np.sort(random.integers(0, 2 if loss == "logistic" else 4, ROWS))
    weights = random.random((ROWS, 2)) if weighted else None
    return DenseRows.place(kernels, random.normal(size=(ROWS, FEATURES)), y, weights, None)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_passes_from_kept_logits_are_passes(loss: str, dtype: str, weighted: bool) -> None:
    rows = placed(loss, dtype, weighted=weighted)
    passes, K = rows.by_logits(), rows.kernels.n_columns
    assert passes is not None
    assert isinstance(rows.kernels, LogitKernels)
    column = np.array([1, 0, 1]) if weighted else None
    random = np.random.default_rng(4)
    W, V = random.normal(size=(2, FEATURES, MODELS * K)).astype(dtype)
    t, close = np.array([0.0, 2.5, -1.25]), 1e-4 if dtype == "float32" else 1e-11

    *found, there = passes.keeping(W, column)
    for mine, own in zip(found, rows.cost_and_gradient(W, column), strict=True):
        np.testing.assert_array_equal(mine, own)  # keeping them changes no bit
    np.testing.assert_allclose(np.concatenate([line.whole() for line in there]), (rows.block.X @ W).T, rtol=close)

    *_, others = passes.keeping(V, column)
    lines = tuple(Line(a.base, b.base, float(place)) for a, b, place in zip(there, others, t, strict=True))
    at = W + np.repeat(t, K).astype(dtype) * (V - W)
    cost, slope, hits = passes.along(lines, column)
    expected, gradient, counted = rows.cost_and_gradient(at, column)
    np.testing.assert_allclose(cost, expected, rtol=close)
    np.testing.assert_allclose(slope, gradient, rtol=close, atol=close * ROWS)
    if weighted:
        assert hits is None
    else:
        np.testing.assert_allclose(hits, counted, atol=2)  # a logit that is nearly the largest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("K", [2, 3, 5, 6, 7, 8, 9, 11])
def test_passes_of_any_number_of_columns_are_products(K: int, dtype: str) -> None:
    """Some of which are made with further columns of 0."""
    random = np.random.default_rng(6)
    kernels = NumpyKernels(numpy_backend(dtype), LOSSES["softmax"], K)
    X, y = random.normal(size=(ROWS, FEATURES)).astype(dtype), np.sort(random.integers(0, K, ROWS))
    passes = DenseRows.place(kernels, X, y, None, None).by_logits()
    assert passes is not None
    W = random.normal(size=(FEATURES, K)).astype(dtype)
    p = np.exp(X.astype(np.float64) @ W)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(ROWS), y] -= 1.0
    _, slope, _, lines = passes.keeping(W, None)
    close = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(slope, X.T @ p, atol=close)
    np.testing.assert_allclose(passes.along(lines, None)[1], X.T @ p, atol=close)
    total, hits = kernels.evaluate(W, DenseRows.place(kernels, X, y, None, None).block, with_loss=True)
    own = np.log(p[np.arange(ROWS), y] + 1.0)
    assert total[0] == pytest.approx(-own.sum(), rel=1e-5)
    assert hits[0] == np.sum(np.argmax(X @ W, axis=1) == y)


def test_a_line_goes_on_as_the_weights_do() -> None:
    random = np.random.default_rng(5)
    a, b, c = random.normal(size=(3, 4, 50))
    A, B, C = Line.of(a), Line.of(b), Line.of(c)
    first = B.beyond(A, 1.0)
    assert first is not None
    np.testing.assert_allclose(first.whole(), 2 * b - a, atol=1e-14)
    second = first.beyond(B, 1.0)  # on the same line: of the same two products, whose rounding is all there is
    assert second is not None
    assert (second.base is a, second.tip is b, second.t) == (True, True, 3.0)
    backward = A.beyond(first, 0.5)
    assert backward is not None
    assert backward.t == -1.0
    turned = C.beyond(second, 0.5)  # a product of its own after that
    assert turned is not None
    np.testing.assert_allclose(turned.whole(), 1.5 * c - 0.5 * (3 * b - 2 * a), atol=1e-13)
    left = second.beyond(C, 0.5)
    assert left is not None
    np.testing.assert_allclose(left.whole(), 1.5 * (3 * b - 2 * a) - 0.5 * c, atol=1e-13)


def test_a_line_ends_where_rounding_would_show() -> None:
    line: Line | None = Line.of(np.ones((2, 3)))
    before, last, count = Line.of(np.zeros((2, 3))), Line.of(np.ones((2, 3))), 0
    while (line := last.beyond(before, 1.0)) is not None:
        before, last, count = last, line, count + 1
    assert 2 * (count + 1) - 1 <= MOST_REACH < 2 * (count + 2) - 1


def test_only_few_are_kept() -> None:
    assert logit_bytes(1000, 100, 10, 2) == 8 * 5 * 2 * 1000 * 10
    assert logit_bytes(1000, 99, 10, 2) == 0  # more than the samples


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([[0, 0, 0, float("nan")]], "logits at nan"),
        ([[0, 0, 0, 1]], "logits at 1, expected a number"),
        ([[0, 2, 0, 1.0]], "logits is 2"),
        ([[9, 0, 0, 1.0]], "logits is 9"),
        ([[0, 1, 1, 1.0]], "expected 4x1300 of float64"),
    ],
)
def test_damaged_logits_are_refused(meta: list[list[object]], message: str) -> None:
    rows = placed("softmax", "float64", weighted=False)
    table = ModelTable.plain(np.ones(2), np.ones(2))
    objective = Objective(rows.kernels, rows, table, FEATURES, weighted=False, penalize_bias=False)
    one, other = np.ones((4, ROWS)), np.zeros((4, ROWS))
    arrays, whole = pack_logits({0: Line(one, other, 2.0), 1: Line.of(one)})
    found = unpack_logits(objective, Unpacker(arrays), whole)
    assert [found[1].base is found[0].base, found[1].tip is found[0].base, found[0].t] == [True, True, 2.0]
    with pytest.raises(ValueError, match=message):
        unpack_logits(objective, Unpacker(arrays | {"logits.1": np.ones(3)}), meta)
