"""Laws of the kernels on every backend, and the parity of the NumPy twin with the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import BackendFactory
from hypothesis import given, settings
from hypothesis import strategies as st

from gpureg.backend import numpy_backend
from gpureg.kernels.cpu import steps as steps_module
from gpureg.kernels.cpu.fused import NumpyKernels
from gpureg.kernels.cpu.labels import MixedLabels, SortedLabels
from gpureg.kernels.cpu.rows import runs_of, tile_runs
from gpureg.kernels.protocol import Kernels
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

TASKS = [("softmax", 2), ("softmax", 5), ("softmax", 33), ("logistic", 2)]


def softmax_loss(xp, z, y):
    loss, hit, _ = LOSSES["softmax"].value(xp, z, y)
    return loss, hit, LOSSES["softmax"].probabilities(xp, z)


def logistic_loss(xp, z, y):
    loss, hit, _ = LOSSES["logistic"].value(xp, z, y)
    return loss, hit, LOSSES["logistic"].probabilities(xp, z)


def residual(xp, task, z, y, scale):
    loss, hit, slope = LOSSES[task].value(xp, z, y)
    return scale[:, :, None] * slope, loss, hit


def problem(task: str, classes: int, n: int = 700, D: int = 7, L: int = 3, seed: int = 0, ties: bool = False) -> tuple:
    random = np.random.default_rng(seed)
    K = 1 if task == "logistic" else classes
    X = random.normal(size=(n, D))
    X[:, -1] = 1
    y = random.integers(0, classes, n)
    W = random.normal(size=(D, L * K))
    if ties:  # whole numbers are exact in every order of summation: all logits of a row are equal
        X, W = np.round(X), np.repeat(np.round(W[:, :1]), L * K, axis=1)
    return X, y, W, K


def placed(kernels: Kernels, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> object:
    order = kernels.storage_order(y, None)
    pick = slice(None) if order is None else order
    X = X.astype(kernels.backend.dtype)  # type: ignore[attr-defined]
    return kernels.place(X[pick], y[pick], None if weights is None else weights[pick], order)


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ties", [False, True])
def test_twins_evaluate_alike(task: str, classes: int, dtype: str, ties: bool) -> None:
    X, y, W, _ = problem(task, classes, n=1200, ties=ties)
    found = []
    for make in (ReferenceKernels, NumpyKernels):
        kernels = make(numpy_backend(dtype), LOSSES[task], classes)
        found.append(kernels.evaluate(kernels.weights(W), placed(kernels, X, y), with_loss=True))
    (loss, hits), (loss2, hits2) = found
    np.testing.assert_allclose(loss2, loss, rtol=1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_array_equal(hits2, hits)


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("make", [ReferenceKernels, NumpyKernels])
def test_a_sample_of_weight_k_counts_as_k_samples(task: str, classes: int, make: Any) -> None:
    X, y, W, _ = problem(task, classes, n=1200, ties=False)
    counts = np.arange(1200) % 4
    kernels = make(numpy_backend("float64"), LOSSES[task], classes)
    found = []
    for rows, labels, weight in ((X, y, counts), (np.repeat(X, counts, axis=0), np.repeat(y, counts), None)):
        order = kernels.storage_order(labels, None)
        pick = slice(None) if order is None else order
        weight = None if weight is None else weight[pick].astype(float)
        block = kernels.place(rows[pick], labels[pick], None, order, weight)
        blocks = (block, kernels.subset(block, np.arange(len(labels))))
        found += [kernels.evaluate(kernels.weights(W), some, with_loss=True) for some in blocks]
    for loss, hits in found[:-1]:
        np.testing.assert_allclose(loss, found[-1][0], rtol=1e-12)
        np.testing.assert_array_equal(hits, found[-1][1])


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalize_bias", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_twins_step_alike(
    task: str, classes: int, weighted: bool, penalize_bias: bool, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide:  # both ways of making class-major logits, and the split among threads
        monkeypatch.setattr(steps_module, "WIDE", 1)
        monkeypatch.setattr("gpureg.kernels.cpu.fused.SPLIT_COLUMNS", 1)
    X, y, W, _ = problem(task, classes, n=300)
    random = np.random.default_rng(1)
    table = random.uniform(0, 2, (300, 2)) * (random.random((300, 2)) > 0.3) if weighted else None
    column = np.array([0, 1, 1]) if weighted else None
    order = random.permutation(300)[:160].reshape(10, 16)
    plan = StepPlan(order, np.array([0.1, 0.2, 0.05]), np.array([0.0, 0.3, 1e-6]), column, (0, 4, 9), penalize_bias)
    found = []
    for make in (ReferenceKernels, NumpyKernels):
        kernels = make(numpy_backend("float64"), LOSSES[task], classes)
        got, losses, copies = kernels.steps(kernels.weights(W), placed(kernels, X, y, table), plan)
        found.append([got, losses, *copies])
    assert len(found[0]) == 5
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(found[1][4], found[1][0])  # the last snapshot is the result


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_twins_cost_and_gradient_alike(task: str, classes: int, weighted: bool) -> None:
    X, y, W, _ = problem(task, classes, n=1300)
    random = np.random.default_rng(1)
    table = random.uniform(0, 2, (1300, 2)) if weighted else None
    column = np.array([0, 1, 1]) if weighted else None
    W[:, :3] = 0.0  # logits that tie: the first class is predicted
    twins = [make(numpy_backend("float64"), LOSSES[task], classes) for make in (ReferenceKernels, NumpyKernels)]
    placed_ = [placed(kernels, X, y, table) for kernels in twins]
    found = [
        kernels.cost_and_gradient(kernels.weights(W), rows, column)
        for kernels, rows in zip(twins, placed_, strict=True)
    ]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-12)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-10, atol=1e-10)
    for kernels, rows, (_, _, hits) in zip(twins, placed_, found, strict=True):
        if weighted:
            assert hits is None
        else:
            np.testing.assert_array_equal(hits, kernels.evaluate(kernels.weights(W), rows, with_loss=True)[1])


@pytest.mark.parametrize(("task", "classes"), TASKS)
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_gradient_agrees_with_central_differences(
    any_backend: BackendFactory, task: str, classes: int, l2: float
) -> None:
    """One step with learning rate 1 moves the weights by minus the gradient of `mean loss + λ Σ w²`."""
    X, y, W, K = problem(task, classes, n=40, D=4, L=2)
    kernels = ReferenceKernels(any_backend("float64"), LOSSES[task], classes)
    rows = placed(kernels, X, y)
    plan = StepPlan(np.arange(40)[None, :], np.ones(2), np.array([l2, 0.0]), None, ())
    moved, losses, _ = kernels.steps(kernels.weights(W), rows, plan)
    gradient = (W - kernels.to_host(moved)).reshape(4, 2, K)

    def objective(weights: np.ndarray) -> np.ndarray:
        loss, _ = kernels.evaluate(kernels.weights(weights), rows, with_loss=True)
        return loss / 40 + np.array([l2, 0.0]) * (weights.reshape(4, 2, K) ** 2).sum(axis=(0, 2))

    np.testing.assert_allclose(
        kernels.to_host(losses)[0], objective(W) - np.array([l2, 0.0]) * (W.reshape(4, 2, K) ** 2).sum(axis=(0, 2))
    )
    step = 1e-3
    for d in range(4):
        for k in range(min(K, 3)):
            shift = np.zeros((4, 2, K))
            shift[d, :, k] = step
            shift = shift.reshape(4, 2 * K)
            difference = (objective(W + shift) - objective(W - shift)) / (2 * step)
            np.testing.assert_allclose(gradient[d, :, k], difference, atol=step**2)


@pytest.mark.parametrize(("task", "classes"), TASKS)
def test_reference_agrees_across_backends(any_backend: BackendFactory, task: str, classes: int) -> None:
    X, y, W, _ = problem(task, classes)
    plan = StepPlan(np.arange(640).reshape(10, 64), np.full(3, 0.1), np.array([0.0, 0.1, 1.0]), None, (3, 9))
    results = []
    for backend in (numpy_backend("float64"), any_backend("float64")):
        kernels = ReferenceKernels(backend, LOSSES[task], classes)
        rows = placed(kernels, X, y)
        moved, losses, copies = kernels.steps(kernels.weights(W), rows, plan)
        subset = kernels.subset(rows, np.arange(50, 90))
        cost, slope, hits = kernels.cost_and_gradient(moved, rows, None)
        evaluated = kernels.evaluate(kernels.select(kernels.concat(copies), np.array([1, 4])), subset, with_loss=True)
        results.append([*map(kernels.to_host, (moved, losses, *copies, cost, slope, hits)), *evaluated])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(2, 12),
    st.sampled_from([1.0, 30.0, 1e4, 1e30]),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_softmax_laws(B: int, K: int, size: float, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(B, 2, K)) * size
    if ties:
        logits = np.round(logits / size) * size
    y = random.integers(0, K, B)
    scale = random.uniform(0, 2, (B, 2))
    gradient, loss, hit = residual(np, "softmax", logits, y, scale)
    assert np.isfinite(loss).all()
    assert (loss >= 0).all()
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-12)  # a residual's rows sum to 0
    np.testing.assert_array_equal(hit, logits.argmax(axis=-1) == y[:, None])
    order = random.permutation(K)  # permuting the classes permutes the columns
    permuted, loss2, _ = residual(np, "softmax", logits[..., order], np.argsort(order)[y], scale)
    np.testing.assert_allclose(permuted, gradient[..., order], atol=1e-12)
    np.testing.assert_allclose(loss2, loss, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "classes"), [(40, 30), (400, 30), (600, 3), (2, 2)])
@pytest.mark.parametrize("ordered", [True, False])
def test_hits_of_runs_of_any_length(rows: int, classes: int, weighted: bool, ordered: bool) -> None:
    """The first of equal logits is predicted, and NaN predicts nothing, whichever way a tile takes."""
    random = np.random.default_rng(rows)
    y = random.integers(0, classes, rows)
    y = np.sort(y) if ordered else y
    z = random.integers(-2, 3, (2, classes, rows)).astype(np.float32)
    z[1] += random.uniform(0, 0.4, (classes, rows)).astype(np.float32)  # no ties here
    z[0, random.integers(classes), random.integers(rows)] = np.nan
    mass = random.uniform(0.5, 2.0, rows) if weighted else None
    peak, own = np.empty((2, 2, rows), np.float32)
    hits = np.zeros(2)
    with np.errstate(invalid="ignore"):
        runs = [(int(c), *np.flatnonzero(y == c)[[0, -1]] + (0, 1)) for c in np.unique(y)]
        labels = SortedLabels(runs) if ordered else MixedLabels(y)
        labels.peaks_and_hits(z, peak, own, mass, hits)
    want = (z.argmax(axis=1) == y) & ~np.isnan(z).any(axis=1)
    np.testing.assert_allclose(hits, want @ (np.ones(rows) if mass is None else mass))
    np.testing.assert_array_equal(peak, z.max(axis=1))
    np.testing.assert_array_equal(own, z[:, y, np.arange(rows)])


def test_logistic_is_softmax_of_two() -> None:
    """σ(z) is the softmax of (z, 0): the same losses, and the first column's residual."""
    random = np.random.default_rng(0)
    z = random.normal(size=(50, 3, 1)) * 20
    y = random.integers(0, 2, 50)
    both = np.concatenate([z, np.zeros_like(z)], axis=2)
    one, loss, _ = residual(np, "logistic", z, y, np.ones((1, 3)))
    two, loss2, _ = residual(np, "softmax", both, y, np.ones((1, 3)))
    np.testing.assert_allclose(loss, loss2, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one[..., 0], two[..., 0], atol=1e-14)


def test_extreme_logits_lose_no_digits() -> None:
    """The stable forms: far on the right side a loss of exp(-|z|), far on the wrong side |z|."""
    z = np.array([800.0, -800.0, 40.0])[:, None, None]
    loss, _, p = logistic_loss(np, z, np.zeros(3, int))
    np.testing.assert_allclose(loss[:, 0], [0.0, 800.0, np.exp(-40.0)], rtol=1e-12)
    np.testing.assert_allclose(p[:, 0, 0], [1.0, 0.0, 1.0], rtol=1e-12)
    loss, _, _ = softmax_loss(np, np.array([[[1e30, -1e30, 0.0]]]), np.array([1]))
    np.testing.assert_allclose(loss, 2e30)


@pytest.mark.parametrize("make", [ReferenceKernels, NumpyKernels])
@pytest.mark.parametrize(("task", "classes"), [("softmax", 4), ("logistic", 2)])
def test_a_nan_is_a_nan_and_no_hit(make: type, task: str, classes: int) -> None:
    X, y, W, K = problem(task, classes, n=64)
    W[0, :K] = np.nan
    kernels = make(numpy_backend("float64"), LOSSES[task], classes)
    loss, hits = kernels.evaluate(kernels.weights(W), placed(kernels, X, y), with_loss=True)
    assert np.isnan(loss[0])
    assert np.isfinite(loss[1:]).all()  # the other models don't notice
    assert hits[0] == 0 if task == "softmax" else hits[0] <= 64


def test_tiles_cover_every_row_once() -> None:
    y = np.sort(np.random.default_rng(0).integers(0, 7, 1000))
    kernels = NumpyKernels(numpy_backend("float64"), LOSSES["softmax"], 7)
    rows = kernels.place(np.zeros((1000, 2)), y, None, None)
    seen = []
    for start, stop, runs in tile_runs(rows.runs, rows.n, 130):
        assert [a for _, a, _ in runs] == [0, *[b for _, _, b in runs[:-1]]]
        assert runs[-1][2] == stop - start
        for label, a, b in runs:
            assert (y[start + a : start + b] == label).all()
            seen += range(start + a, start + b)
    assert seen == list(range(1000))
    assert runs_of(np.zeros(0, np.int64)) == ()
