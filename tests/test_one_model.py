"""One model's passes on few samples: the same sums as a batch's, and loops that end where the batched solver ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpureg.backend import numpy_backend
from gpureg.estimators import LogisticRegression
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.cpu.one_model import NumpyOneModel, one_after_the_other
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.rows.dense import DenseRows
from gpureg.rows.one_model import SummedModel
from gpureg.solvers.lbfgs.alone import Stretch

BACKEND = numpy_backend("float64", why="")
SHAPES = [(7, 3, 2), (40, 5, 4), (900, 160, 3), (20_000, 30, 3)]  # one tile; two tiles; tiles shared among threads


def samples(n: int, D: int, classes: int, *, weighted: bool) -> tuple[Any, Any, Any]:
    random = np.random.RandomState(n)
    y = np.concatenate([np.arange(classes), random.randint(0, classes, n - classes)])
    X = random.randn(n, D) + 0.5 * random.randn(classes, D)[y]
    X[:, -1] = 1.0
    table = random.randint(0, 3, (n, 2)).astype(float) if weighted else None
    return X, y, table


def placed(kernels: Any, X: Any, y: Any, table: Any) -> DenseRows:
    order = kernels.storage_order(y, None)
    if order is None:
        order = np.arange(len(y))
    return DenseRows.place(kernels, X[order], y[order], None if table is None else table[order], order)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_the_sums_are_those_of_the_specification(loss: Loss, shape: tuple[int, int, int], weighted: bool) -> None:
    n, D, classes = shape
    classes = 2 if loss.binary else classes
    X, y, table = samples(n, D, classes, weighted=weighted)
    column = 1 if weighted else None
    kernels = choose_kernels(BACKEND, loss, classes)
    reference = ReferenceKernels(BACKEND, loss, classes)
    mine = placed(kernels, X, y, table).one_model(column)
    theirs = placed(reference, X, y, table).one_model(column)
    assert isinstance(theirs, SummedModel)
    assert not isinstance(mine, SummedModel)
    for size in (0.0, 0.3, 30.0, 1e4):  # at the last, probabilities are 0 and 1
        W = size * np.random.RandomState(1).randn(kernels.n_columns, D)
        cost, gradient = mine.value(W)
        with threadpool_limits(1, user_api="blas"):
            (right, slope), curvature = theirs.value(W), theirs.curvature()
        assert cost == pytest.approx(right, rel=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-10 * n)
        np.testing.assert_allclose(mine.curvature(), curvature, rtol=1e-9, atol=1e-11 * n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_about_a_centre_the_sums_are_those_of_features_less_it(
    loss: Loss, shape: tuple[int, int, int], weighted: bool
) -> None:
    n, D, classes = shape
    classes = 2 if loss.binary else classes
    X, y, table = samples(n, D, classes, weighted=weighted)
    table = None if table is None else table / table.mean(axis=0)
    column = 1 if weighted else None
    centre = np.random.RandomState(2).randn(D - 1)
    moved = X.copy()
    moved[:, :-1] -= centre
    kernels = choose_kernels(BACKEND, loss, classes)
    reference = ReferenceKernels(BACKEND, loss, classes)
    W = 0.3 * np.random.RandomState(1).randn(kernels.n_columns, D)
    right = placed(reference, moved, y, table).one_model(column)
    cost, gradient = right.value(W)
    for twin in (kernels, reference):
        mine = placed(twin, X, y, table).one_model(column, centre)
        own, slope = mine.value(W)
        assert own == pytest.approx(cost, rel=1e-12)
        np.testing.assert_allclose(slope, gradient, rtol=1e-10, atol=1e-11 * n)
        np.testing.assert_allclose(mine.curvature(), right.curvature(), rtol=1e-9, atol=1e-11 * n)
        A, S = mine.kronecker()  # type: ignore[misc]
        H, spread = right.kronecker()  # type: ignore[misc]
        np.testing.assert_allclose(A, H, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(S, spread, rtol=1e-9, atol=1e-11)
    if table is None:  # otherwise rows are averaged under all columns of the table, and a model under its own
        found = placed(kernels, X, y, None).one_model(None, centre).squares()
        np.testing.assert_allclose(found, (moved**2).sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("loss", [Softmax(), Logistic()])
def test_the_hessian_is_the_derivative_of_the_gradient(loss: Loss) -> None:
    X, y, _ = samples(50, 4, 2 if loss.binary else 3, weighted=False)
    K, step = loss.columns(3), 1e-6
    model = NumpyOneModel(loss, K, X, y, None, X.mean(axis=0), 1, one_after_the_other)
    W = np.random.RandomState(1).randn(K, 5)
    model.value(W)
    H, own = model.curvature(), model.biases()
    np.testing.assert_allclose(own, H.reshape(K, 5, K, 5)[:, -1, :, -1], rtol=1e-10)
    c = np.random.RandomState(2).randn(K)
    along = H.reshape(K, 5, K, 5)[:, :-1, :, -1] @ c
    np.testing.assert_allclose(model.tilted(c), along, rtol=1e-9, atol=1e-10)
    for place in range(W.size):
        e = np.zeros(W.size)
        e[place] = step
        rise = model.value(W + e.reshape(W.shape))[1] - model.value(W - e.reshape(W.shape))[1]
        np.testing.assert_allclose(rise.reshape(-1) / (2 * step), H[place], rtol=1e-5, atol=1e-5)


def test_a_row_of_weight_0_costs_nothing_whatever_its_logits() -> None:
    X, y, _ = samples(12, 3, 3, weighted=False)
    table = np.ones((12, 1))
    table[4], X[4] = 0.0, 1e308
    kernels = choose_kernels(BACKEND, Softmax(), 3)
    W = np.random.RandomState(0).randn(3, 3)
    with np.errstate(all="ignore"):
        assert not np.isfinite(X[4] @ W.T).all()
        cost, gradient = placed(kernels, X, y, table).one_model(0).value(W)
    kept = np.delete(np.arange(12), 4)
    right, slope = placed(kernels, X[kept], y[kept], None).one_model(None).value(W)
    assert cost == pytest.approx(right, rel=1e-12)
    assert np.isfinite(gradient[:, -1]).all()
    np.testing.assert_allclose(gradient[:, -1], slope[:, -1], rtol=1e-10)


CASES = {
    "newton": (60, 4, 3, 1.0),
    "newton, far from separable": (3000, 5, 2, 100.0),
    "newton, without a penalty": (400, 3, 2, np.inf),
    "a factor at once": (500, 30, 8, 1.0),
    "the diagonal first": (1500, 240, 3, 0.1),
    "the diagonal, then a factor": (1500, 240, 3, 1e6),
}


@pytest.mark.parametrize("case", CASES)
def test_every_loop_ends_at_scikit_learn_s_optimum(case: str) -> None:
    from sklearn.linear_model import LogisticRegression as Theirs

    n, p, classes, C = CASES[case]
    random = np.random.RandomState(3)
    y = random.randint(0, classes, n)
    X = (random.randn(n, p) + 0.6 * random.randn(classes, p)[y] / np.sqrt(p)) * np.logspace(-1, 1, p)
    mine = LogisticRegression(C=C).fit(X, y)
    with threadpool_limits(1, user_api="blas"):
        theirs = Theirs(C=C, solver="newton-cg", tol=1e-10, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    ("bounds", "over"),
    [
        ([1.0, 0.1, 0.01], False),  # a decade an iteration, six are left: the price is eight
        ([1.0, 0.7, 0.5], True),  # hardly any progress
        ([1.0, 0.1], False),  # too early to say
        ([1.0, 1.0, 1.0], True),
        ([1.0, np.nan, np.nan], True),
    ],
)
def test_a_loop_goes_on_while_it_is_worth_it(bounds: list[float], over: bool) -> None:
    assert Stretch(3, 8.0, 100).over(bounds, 1e-8) is over
