"""Rows in blocks give what rows in one piece give: every sum, for every loss, with weights and without."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from conftest import BackendFactory

from gpureg.backend import numpy_backend
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.losses import loss_of
from gpureg.rows import blocked
from gpureg.rows.blocked import BlockedRows
from gpureg.rows.blocks import LocalBlocks, in_memory
from gpureg.rows.dense import DenseRows
from gpureg.types import StepPlan

N, F, K = 90, 5, 3
CUTS = ((90,), (40, 50), (1, 7, 30, 52))


def pair(kernels: Kernels, sizes: Sequence[int], *, weighted: bool) -> tuple[BlockedRows, DenseRows]:
    """The same samples in blocks and in one piece, each stored in the kernels' order."""
    random = np.random.default_rng(5)
    X = np.concatenate([random.normal(2.0, 1.0, size=(N, F)), np.ones((N, 1))], axis=1)
    X = X.astype(kernels.backend.dtype)
    y = random.integers(0, K if kernels.loss.name == "softmax" else 2, N)
    weights = random.random((N, 2)) * (random.random((N, 2)) > 0.2) if weighted else None
    mass = random.random(N) if weighted else None

    def placed(start: int, stop: int) -> tuple[tuple[object, ...], np.ndarray | None]:
        order = kernels.storage_order(y[start:stop], None)
        own = slice(None) if order is None else order
        parts = (None if part is None else part[start:stop][own] for part in (X, y, weights, mass))
        X_own, y_own, table, own_mass = parts
        return (X_own, y_own, table, order, own_mass), order

    ends = np.cumsum([0, *sizes]).tolist()
    made = [placed(start, stop) for start, stop in itertools.pairwise(ends)]
    blocks = [kernels.place(*parts) for parts, _ in made]  # type: ignore[arg-type]
    order = [order for _, order in made].__getitem__
    rows = BlockedRows(LocalBlocks(kernels, tuple(sizes), F + 1, weighted, mass, in_memory(blocks), order))
    return rows, DenseRows.place(kernels, *placed(0, N)[0])  # type: ignore[arg-type]


def close(kernels: Kernels, found: object, expected: object, rtol: float = 1e-9) -> None:
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_allclose(kernels.to_host(found), kernels.to_host(expected), rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("sizes", [*(pytest.param(cut, marks=pytest.mark.long) for cut in CUTS[:2]), CUTS[2]], ids=str)
def test_every_sum_is_that_of_the_rows_in_one_piece(
    any_backend: BackendFactory, sizes: tuple[int, ...], task: str, weighted: bool
) -> None:
    kernels = choose_kernels(any_backend("float64"), loss_of(task), K)
    mine, dense = pair(kernels, sizes, weighted=weighted)
    columns, models = kernels.n_columns, 4
    random = np.random.default_rng(6)
    W = kernels.weights(random.normal(size=(F + 1, models * columns)))
    column = random.integers(0, 2, models)
    assert (mine.n, mine.features, mine.weighted) == (dense.n, dense.features, dense.weighted)
    assert mine.mass == pytest.approx(dense.mass, rel=1e-14)
    for own in (column, None):
        for one, other in zip(mine.cost_and_gradient(W, own), dense.cost_and_gradient(W, own), strict=True):
            close(kernels, one, other)
    centre = dense.mean()
    close(kernels, kernels.backend.from_host(mine.mean()), kernels.backend.from_host(centre))
    for diagonal in (False, True):
        close(kernels, mine.scatter(centre, diagonal=diagonal), dense.scatter(centre, diagonal=diagonal))
    for about in (centre, None):
        close(kernels, mine.curvature(W, column, about), dense.curvature(W, column, about))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("diagonal", [True, False])
def test_the_kronecker_product_is_made_in_one_pass(task: str, weighted: bool, free: bool, diagonal: bool) -> None:
    kernels = choose_kernels(numpy_backend("float64"), loss_of(task), K)
    mine, dense = pair(kernels, CUTS[2], weighted=weighted)
    W, column = np.random.default_rng(7).normal(size=(F + 1, kernels.n_columns)), np.array([1])
    found, expected = (rows.kronecker(W, column, free=free, diagonal=diagonal) for rows in (mine, dense))
    assert found is not None
    assert expected is not None
    for name in ("classes", "centre", "moments"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-11)
    assert mine.kronecker(W * 1e4, column, free=free) is None
    assert dense.kronecker(W * 1e4, column, free=free) is None


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_what_is_evaluated_is_that_of_the_rows_in_one_piece(any_backend: BackendFactory, task: str) -> None:
    kernels = choose_kernels(any_backend("float64"), loss_of(task), K)
    mine, dense = pair(kernels, CUTS[2], weighted=True)
    random = np.random.default_rng(8)
    W = kernels.weights(random.normal(size=(F + 1, 2 * kernels.n_columns)))
    index = random.permutation(np.arange(8, N))[:40]  # of two of the blocks
    for rows, other in ((mine, dense), (mine.subset(index), dense.subset(index))):
        assert (rows.n, rows.weighted) == (other.n, other.weighted)
        assert rows.mass == pytest.approx(other.mass, rel=1e-14)
        for with_loss in (True, False):
            found, expected = (each.start_evaluation(W, with_loss=with_loss).result() for each in (rows, other))
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-11)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
        tables = []
        for each in (rows, other):
            logits, y, mass = each.outputs(W)
            assert mass is not None
            tables.append(np.concatenate([logits, y[:, None], mass[:, None]], axis=1))
        one, two = (table[np.lexsort(table.T)] for table in tables)
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("held_numbers", [1 << 23, 1])
def test_the_dual_point_of_all_rows_is_that_of_the_rows_in_one_piece(
    task: str, weighted: bool, held_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "HELD", held_numbers)
    kernels = choose_kernels(numpy_backend("float64"), loss_of(task), K)
    mine, dense = pair(kernels, CUTS[2], weighted=weighted)
    columns, models = kernels.n_columns, 6
    W = np.random.default_rng(9).normal(size=(F + 1, models * columns)) * 0.1
    column = np.random.default_rng(10).integers(0, 2, models)
    imbalance = np.full((models, columns), 1e-3)
    found, expected = (rows.balanced(W, column, imbalance, N) for rows in (mine, dense))
    np.testing.assert_allclose(found.slope, expected.slope, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-6, atol=1e-12)


def test_evaluations_share_a_pass() -> None:
    kernels = choose_kernels(numpy_backend("float64"), loss_of("softmax"), K)
    mine, _ = pair(kernels, CUTS[1], weighted=False)
    passes = []

    def read(numbers: Sequence[int]) -> object:
        passes.append(list(numbers))
        return mine.blocks.read(numbers)  # type: ignore[attr-defined]

    rows = BlockedRows(replace(mine.blocks, read=read))  # type: ignore[type-var]
    W = np.zeros((F + 1, K))
    asked = [part.start_evaluation(W, with_loss=True) for part in (rows, rows.subset(np.arange(3)), rows)]
    assert passes == []
    sums = [evaluation.result() for evaluation in asked]
    assert passes == [[0, 1]]
    assert [float(loss[0]) for loss, _ in sums] == pytest.approx([N * np.log(K), 3 * np.log(K), N * np.log(K)])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.long), 8, 64])
def test_minibatches_cross_blocks(any_backend: BackendFactory, task: str, weighted: bool, batch: int) -> None:
    """In any order: one that follows the blocks, and one that doesn't."""
    kernels = choose_kernels(any_backend("float64"), loss_of(task), K)
    mine, dense = pair(kernels, CUTS[2], weighted=weighted)
    random = np.random.default_rng(11)
    along = np.concatenate([random.permutation(block) for block in np.split(np.arange(N), [1, 8, 38])[::-1]])
    rate, l2, column = np.array([0.1, 0.2]), np.array([0.0, 0.01]), np.array([0, 1])
    for order in (along, random.permutation(N)):
        steps = N // batch
        plan = StepPlan(order[: steps * batch].reshape(steps, batch), rate, l2, column, tuple(sorted({0, steps - 1})))
        starts = [kernels.weights(np.zeros((F + 1, 2 * kernels.n_columns))) for _ in range(2)]
        found, expected = (rows.steps(W, plan) for rows, W in zip((mine, dense), starts, strict=True))
        for one, other in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
            close(kernels, one, other)


@pytest.mark.parametrize("free", [True, False])
def test_few_rows_have_a_span(free: bool) -> None:
    kernels = choose_kernels(numpy_backend("float64"), loss_of("softmax"), K)
    mine, dense = pair(kernels, CUTS[2], weighted=True)
    (inner, basis), (_, other) = (rows.span(free=free) for rows in (mine, dense))
    inside = np.random.default_rng(12).normal(size=(1, inner.features, K))
    outside = basis.outside(inside)
    column = np.array([1])
    costs = [
        rows.cost_and_gradient(np.ascontiguousarray(weights[0]), column)[0][0]
        for rows, weights in ((inner, inside), (mine, outside), (dense, outside))
    ]
    assert costs == pytest.approx([costs[0]] * 3, rel=1e-10)
    assert len(basis.pivots) == len(other.pivots)
