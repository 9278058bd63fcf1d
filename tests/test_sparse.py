"""Sparse rows of any format: the models are scikit-learn's, and those of the same rows made dense."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data.sparse import read_sparse
from gpureg.errors import DataError, DeviceError, GpuregWarning, UsageError
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES, loss_of
from gpureg.rows.csr import LOGITS_BYTES, CsrRows
from gpureg.rows.dense import DenseRows
from gpureg.rows.samples import CsrSamples
from gpureg.solvers.choice import choose_solver
from gpureg.types import StepPlan

N, F, K = 600, 90, 8


def samples(seed: int = 0, n: int = N, features: int = F, density: float = 0.08) -> sparse.csr_array:
    """Counts, a tenth of them below 0, with an empty row and an empty column."""
    random = np.random.default_rng(seed)
    dense = random.poisson(1.0, (n, features)) * (random.random((n, features)) < density) + 0.0
    dense *= np.where(random.random((n, features)) < 0.1, -1.0, 0.7)
    dense[3], dense[:, 5] = 0.0, 0.0
    return sparse.csr_array(dense)


def labels(X: Any, classes: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    W = random.normal(size=(X.shape[1], classes))
    return np.asarray(np.argmax(X @ W + random.gumbel(size=(X.shape[0], classes)), axis=1))


def with_long_indices(X: sparse.csr_array) -> sparse.csr_array:
    found = sparse.csr_array(X)
    found.indices, found.indptr = found.indices.astype(np.int64), found.indptr.astype(np.int64)
    return found


def unsorted(X: sparse.csr_array) -> sparse.csr_array:
    """Every row's values in the order of falling columns."""
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)])
    return sparse.csr_array((X.data[order], X.indices[order], X.indptr.copy()), shape=X.shape)


def with_duplicates(X: sparse.csr_array) -> sparse.csr_array:
    """Every value as two, its thirds."""
    parts = np.repeat(X.data, 2) * np.tile([1.0 / 3.0, 2.0 / 3.0], X.nnz)
    return sparse.csr_array((parts.astype(X.dtype), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)


def with_diagonals(X: sparse.csr_array) -> sparse.dia_array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sparse.SparseEfficiencyWarning)
        return sparse.dia_array(X)


FORMS: dict[str, Callable[[sparse.csr_array], Any]] = {
    "csr_array": lambda X: X,
    "csr_matrix": sparse.csr_matrix,
    "csc_array": sparse.csc_array,
    "coo_array": sparse.coo_array,
    "lil_matrix": sparse.lil_matrix,
    "dok_array": sparse.dok_array,
    "bsr_array": sparse.bsr_array,
    "dia_array": with_diagonals,
    "int64 indices": with_long_indices,
    "unsorted": unsorted,
    "duplicates": with_duplicates,
}


def exact(X: Any, y: Any, **options: Any) -> LogisticRegression:
    """scikit-learn's optimum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its line search gives up at the last digit
        model = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=5000, **options)
        weights = options.pop("sample_weight", None)
        return model.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_scikit_learn_s_model(form: str) -> None:
    X, y = samples(), labels(samples(), K)
    given = FORMS[form](X)
    expected = exact(X, y).predict_proba(X)
    model = gpureg.LogisticRegression(tol=1e-7).fit(given, y)
    assert abs(model.predict_proba(given) - expected).max() < 1e-5
    assert abs(model.predict_proba(X.toarray()) - expected).max() < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [2, K])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(N, F), (120, 700)], ids=["tall", "wide"])
def test_the_optimum_is_scikit_learn_s(
    dtype: str, classes: int, intercept: bool, weighted: bool, shape: tuple[int, int]
) -> None:
    X = samples(2, *shape).astype(dtype)
    y = labels(X, classes)
    weights = np.random.default_rng(3).integers(0, 4, len(y)).astype(float) if weighted else None
    options: dict[str, Any] = {"C": 2.0, "fit_intercept": intercept, "class_weight": "balanced" if weighted else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        twin = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=5000, **options)
        expected = twin.fit(X.astype(np.float64), y, sample_weight=weights).predict_proba(X)
    model = gpureg.LogisticRegression(tol=1e-7 if dtype == "float64" else 1e-6, **options)
    found = model.fit(X, y, sample_weight=weights)
    assert found.coef_.dtype == dtype
    assert abs(found.predict_proba(X) - expected).max() < 1e-5


@pytest.mark.parametrize("scale", ["none", "standard"])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_a_fit_is_that_of_the_dense_rows(scale: str, solver: str, task: str) -> None:
    X = samples(4)
    y, weights = labels(X, 2 if task == "logistic" else K), np.random.default_rng(5).integers(0, 3, N)
    options: dict[str, Any] = {"task": task, "solver": solver, "scale": scale, "dtype": "float64", "l2": [1e-2, 1e-4]}
    options |= {"tol": 1e-13} if solver == "lbfgs" else {"epochs": 12, "patience": 0, "batch_size": 8}
    runs = []
    for rows in (X, X.toarray()):
        data = gpureg.make_dataset(rows, y, sample_weight=weights, task=task, val_size=100)
        runs.append(gpureg.fit(data, class_weight="balanced", **options))
    ours, dense = runs
    assert abs(ours.model.offset - dense.model.offset).max() < 1e-13
    for model in range(2):
        mine, its = ours.model.predict_proba(X, model), dense.model.predict_proba(X.toarray(), model)
        assert abs(mine - its).max() < (1e-6 if solver == "lbfgs" else 1e-12)
        assert ours.models[model].val_loss == pytest.approx(dense.models[model].val_loss, abs=1e-7)
        assert ours.models[model].train_accuracy == pytest.approx(dense.models[model].train_accuracy, abs=2e-3)


def test_folds_are_those_of_the_dense_rows() -> None:
    X = samples(6)
    y = labels(X, K)
    sparse_run, dense_run = (
        gpureg.fit(gpureg.make_dataset(rows, y), cv=4, Cs=[0.1, 1.0, 10.0], scale="none", dtype="float64", tol=1e-12)
        for rows in (X, X.toarray())
    )
    assert sparse_run.selected == dense_run.selected
    for mine, its in zip(sparse_run.models, dense_run.models, strict=True):
        assert (mine.l2, mine.fold) == (its.l2, its.fold)
        assert mine.val_loss == its.val_loss or mine.val_loss == pytest.approx(its.val_loss, abs=1e-5)


def test_sparse_rows_are_not_scaled_unless_told() -> None:
    X = samples()
    run = gpureg.fit(gpureg.make_dataset(X, labels(X, 3)), tol=1e-3)
    assert not run.model.offset.any()
    assert (run.model.scale == 1).all()


def both(loss: str, dtype: str = "float64", *, shift: bool = True) -> tuple[CsrRows, DenseRows]:
    """The same rows, sparse and dense, with two columns of row weights."""
    X = samples(7)
    random = np.random.default_rng(8)
    kernels = choose_kernels(numpy_backend(dtype), loss_of(loss), K if loss == "softmax" else 2)
    y = labels(X, K if loss == "softmax" else 2)
    table, mass = random.random((N, 2)) * (random.random((N, 2)) < 0.8), random.random(N)
    offset = random.normal(size=F) if shift else np.zeros(F)
    dense = np.concatenate([X.toarray() - offset, np.ones((N, 1))], axis=1).astype(dtype)
    order = kernels.storage_order(y, None)
    own = CsrSamples(read_sparse(X, "X").astype(dtype), offset if shift else None)
    return (
        CsrRows.place(kernels, own, y, table, mass),
        DenseRows.place(kernels, dense[order], y[order], table[order], order, mass[order]),
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shift", [False, True])
def test_every_sum_is_that_of_the_dense_rows(loss: str, shift: bool) -> None:
    mine, dense = both(loss, shift=shift)
    columns, models = mine.kernels.n_columns, 60  # more than one product's width
    random = np.random.default_rng(9)
    W, column = random.normal(size=(F + 1, models * columns)), random.integers(0, 2, models)
    centre = np.append(mine.mean()[:-1], 0.0)
    assert np.allclose(mine.mean(), dense.mean(), atol=1e-13)
    assert np.allclose(mine.scatter(centre), dense.scatter(centre), atol=1e-12)
    assert np.allclose(mine.scatter(centre, diagonal=True), dense.scatter(centre, diagonal=True), atol=1e-12)
    for own in (column, None):
        for one, other in zip(mine.cost_and_gradient(W, own), dense.cost_and_gradient(W, own), strict=True):
            assert one is other is None or np.allclose(one, other, rtol=1e-11, atol=1e-10)
    points = [rows.balanced(W * 0.01, column, np.full((models, columns), 1e-3), N) for rows in (mine, dense)]
    for name in ("slope", "cost"):
        assert np.allclose(getattr(points[0], name), getattr(points[1], name), rtol=1e-7, atol=1e-9), name
    few, only = W[:, :columns], column[:1]
    assert np.allclose(mine.curvature(few, only, centre), dense.curvature(few, only, centre), atol=1e-10)
    for diagonal in (False, True):
        sums, expected = (rows.kronecker(few, only, free=True, diagonal=diagonal) for rows in (mine, dense))
        assert sums is not None
        assert expected is not None
        for name in ("classes", "centre", "moments"):
            assert np.allclose(getattr(sums, name), getattr(expected, name), atol=1e-11), name
    index = random.permutation(N)[:50]
    for rows, other in ((mine, dense), (mine.subset(index), dense.subset(index))):
        found, its = (each.start_evaluation(W, with_loss=True).result() for each in (rows, other))
        assert np.allclose(found[0], its[0], rtol=1e-11)
        assert np.allclose(found[1], its[1], rtol=1e-12)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("shift", [False, True])
def test_the_span_keeps_logits_and_norms(free: bool, shift: bool) -> None:
    X = samples(10, 40, 200, 0.2)
    kernels = choose_kernels(numpy_backend("float64"), loss_of("softmax"), 3)
    random = np.random.default_rng(11)
    own = CsrSamples(read_sparse(X, "X"), random.normal(size=200) if shift else None)
    rows = CsrRows.place(kernels, own, labels(X, 3), None)
    inner, basis = rows.span(free=free)
    inside = random.normal(size=(1, inner.features, 3))
    outside = basis.outside(inside)
    assert np.allclose(basis.inside(outside), inside, atol=1e-9)
    bias = slice(None, -1) if free else slice(None)
    assert np.sum(outside[0, bias] ** 2) == pytest.approx(np.sum(inside[0, bias] ** 2), rel=1e-9)
    for side, weights in ((rows, outside), (inner, inside)):
        cost, _, _ = side.cost_and_gradient(np.ascontiguousarray(weights[0]), None)
        assert cost[0] == pytest.approx(rows.cost_and_gradient(outside[0], None)[0][0], rel=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalize_bias", [True, False])
def test_minibatch_steps_are_those_of_the_dense_rows(loss: str, penalize_bias: bool) -> None:
    mine, dense = both(loss)
    columns = mine.kernels.n_columns
    order = np.random.default_rng(12).permutation(N)[:480].reshape(12, 40)
    plan = StepPlan(
        order, np.array([0.1, 0.05]), np.array([0.0, 0.3]), np.array([1, 0]), (3, 11), penalize_bias=penalize_bias
    )
    W = np.random.default_rng(13).normal(size=(F + 1, 2 * columns)) * 0.1
    (at, losses, copies), (its, its_losses, its_copies) = (rows.steps(W.copy(), plan) for rows in (mine, dense))
    assert np.allclose(losses, its_losses, rtol=1e-10)
    for one, other in zip([at, *copies], [its, *its_copies], strict=True):
        assert np.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_with_its_place(value: float) -> None:
    X = samples()
    y = labels(X, 3)
    run = gpureg.fit(gpureg.make_dataset(X, y), tol=1e-3)
    X = X.tolil()
    X[7, 11] = value
    with pytest.raises(DataError, match=r"row 7 .*feature 11 is (nan|inf)"):
        gpureg.make_dataset(X, y)
    with pytest.raises(DataError, match=r"first is row 7 .*feature 11"):
        run.model.predict(X)
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        gpureg.LogisticRegression().fit(X, y)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (sparse.csr_array(np.ones((4, 2), complex)), r"type complex128; features are real"),
        (sparse.csr_array((0, 3)), r"nothing to fit"),
        (sparse.csr_array((4, 0)), r"nothing to fit"),
        (sparse.coo_array(np.ones(4)), r"sparse with shape \(4,\); expected \(rows, features\)"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        gpureg.make_dataset(X, np.arange(X.shape[0]) % 2)


def test_indices_that_point_outside_are_refused() -> None:
    X = samples()
    X.indices[0] = F + 5
    with pytest.raises(DataError, match=r"not a valid sparse matrix"):
        gpureg.make_dataset(X, labels(samples(), 2))


def test_the_caller_s_matrix_is_neither_changed_nor_copied_without_need() -> None:
    X = samples()
    given = with_duplicates(unsorted(X))
    before = [array.copy() for array in (given.data, given.indices, given.indptr)]
    gpureg.LogisticRegression(max_iter=3, tol=1.0).fit(given, labels(X, 2))
    assert all((a == b).all() for a, b in zip(before, (given.data, given.indices, given.indptr), strict=True))
    data = gpureg.make_dataset(X, labels(X, 2), val_size=0)
    assert np.shares_memory(data.X_train.data, X.data)


def test_sparse_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="y is sparse"):
        gpureg.make_dataset(samples(), sparse.csr_array(np.ones((N, 1))))


def test_a_cuda_device_is_replaced_with_a_word() -> None:
    X = samples()
    data = gpureg.make_dataset(X, labels(X, 2))
    with pytest.warns(GpuregWarning, match="sparse rows are fitted on the CPU"):
        run = gpureg.fit(data, device="cuda", tol=1e-3)
    assert run.device == "cpu"
    with pytest.raises(DeviceError, match="sparse rows are fitted on the CPU"):
        gpureg.fit(data, device="cuda", strict_device=True)


def test_a_run_is_saved_and_predicts_sparse_rows(tmp_path: Path) -> None:
    X = samples()
    y = labels(X, K)
    run = gpureg.fit(gpureg.make_dataset(X, y), test=(X, y), l2=1e-3, scale="standard", dtype="float64")
    run.save(tmp_path / "run")
    model = gpureg.load_run(tmp_path / "run").model
    expected = model.predict_proba(X.toarray())
    assert abs(model.predict_proba(X.tocsc()) - expected).max() < 1e-12
    assert model.evaluate(X, y).loss == pytest.approx(model.evaluate(X.toarray(), y).loss, abs=1e-12)
    assert run.test.loss == pytest.approx(model.evaluate(X, y).loss, abs=1e-12)
    assert abs(model.to_sklearn().predict_proba(X) - expected).max() < 1e-9
    with pytest.raises(UsageError, match=rf"expected \(rows, {F}\)"):
        model.predict(X[:, :5])


PEAK = """
import sys
from pathlib import Path
import numpy as np
from scipy import sparse
import gpureg
import sklearn.linear_model
from gpureg.backend import choose_backend

choose_backend("auto", "float64")  # a large fit asks for a GPU, and loads what it takes to know

def memory(name):  # not getrusage's, which begins with what the parent had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

def fit(X, y, way):
    if way == "estimator":
        return gpureg.LogisticRegression(max_iter=30, tol=1e-3).fit(X, y)
    options = {"solver": "sgd", "epochs": 1} if way == "sgd" else {"solver": "lbfgs", "tol": 1e-3}
    return gpureg.fit(gpureg.make_dataset(X, y), l2=1e-3, dtype="float64", **options)

folder, way = Path(sys.argv[1]), sys.argv[2]
fit(sparse.random_array((500, 90), density=0.5, rng=0, format="csr"), np.arange(500) % 3, way)  # what is loaded late
before = memory("VmRSS")
data, indices, indptr, y = (np.load(folder / f"{name}.npy") for name in ("data", "indices", "indptr", "y"))
fit(sparse.csr_array((data, indices, indptr), shape=(len(y), 3_000)), y, way)
print(memory("VmHWM") - before)
"""


@pytest.mark.parametrize("way", ["estimator", pytest.param("lbfgs", marks=pytest.mark.long), "sgd"])
def test_a_fit_takes_the_memory_of_the_rows_twice_and_its_own_account(way: str, tmp_path: Path) -> None:
    n, features, stored, classes = 60_000, 3_000, 200, 3
    random = np.random.default_rng(0)
    start = random.integers(0, features - stored, n)
    indices = (start[:, None] + np.arange(stored)).astype(np.int32).reshape(-1)
    arrays = {
        "data": random.random(n * stored),
        "indices": indices,
        "indptr": np.arange(0, n * stored + 1, stored, dtype=np.int32),
        "y": start * classes // features,
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, str(tmp_path), way], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    own = choose_solver(FitConfig(solver="sgd" if way == "sgd" else "lbfgs", l2=(1e-3,), dtype="float64"))
    account = own.bytes_per_model(n, features + 1, classes)
    rows = sum(array.nbytes for name, array in arrays.items() if name != "y")
    labels_ = 8 * arrays["y"].nbytes  # as given, coded, sorted, and their losses
    assert int(done.stdout) <= 2 * rows + account + LOGITS_BYTES + labels_


def test_a_cross_validation_is_that_of_the_dense_rows() -> None:
    X = samples(14)
    y = labels(X, 3)
    weights = np.random.default_rng(15).random(N) + 0.1
    models = [
        gpureg.LogisticRegressionCV(Cs=[0.1, 1.0], cv=3, tol=1e-7).fit(rows, y, sample_weight=weights)
        for rows in (X, X.toarray())
    ]
    assert abs(models[0].scores_ - models[1].scores_).max() < 1e-6
    assert abs(models[0].coef_ - models[1].coef_).max() < 1e-4


def test_the_plain_kernels_take_sparse_rows_and_other_backends_do_not() -> None:
    X = samples(16)
    data = gpureg.make_dataset(X, labels(X, 3))
    plain, fused = (gpureg.fit(data, kernels=kernels, dtype="float64", tol=1e-12) for kernels in ("reference", "fused"))
    assert abs(plain.model.predict_proba(X) - fused.model.predict_proba(X)).max() < 1e-6
    strict = replace(numpy_backend("float64"), name="other")
    kernels = ReferenceKernels(strict, loss_of("softmax"), 3)
    with pytest.raises(UsageError, match="fitted on the CPU by NumPy, but the backend is other"):
        CsrRows.place(kernels, CsrSamples(X), labels(X, 3), None)


@pytest.mark.parametrize("C", [1.0, float("inf")])
def test_millions_of_features_are_no_reason_to_refuse(C: float) -> None:
    """Dense, these rows would take 4.8 GB."""
    random = np.random.default_rng(17)
    places = random.integers(0, 2_000_000, (300, 20))
    rows = np.repeat(np.arange(300), 20)
    X = sparse.csr_array((random.random(6000) + 0.5, (rows, places.reshape(-1))), shape=(300, 2_000_000))
    y = np.arange(300) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # without a penalty there is no optimum
        model = gpureg.LogisticRegression(C=C, max_iter=30).fit(X, y)
    assert model.score(X, y) == 1.0


def test_a_fold_without_a_class_is_that_of_the_dense_rows() -> None:
    X = samples(18)
    y = labels(X, 3)
    folds = np.where(y == 2, 0, np.arange(N) % 3)
    runs = []
    for rows in (X, X.toarray()):
        data = gpureg.make_dataset(rows, y)
        with pytest.warns(GpuregWarning, match="fold 0 those of 2"):
            runs.append(gpureg.fit(data, folds=folds, l2=[1e-2, 1e-3], scale="none", dtype="float64", tol=1e-12))
    assert runs[0].cv is not None
    assert runs[1].cv is not None
    for mine, its in zip(runs[0].cv, runs[1].cv, strict=True):
        assert mine.mean == pytest.approx(its.mean, abs=1e-6)
