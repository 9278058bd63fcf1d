"""Real launches: the fused kernels, the pair, cuBLAS and its fallback, against float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hostcuda.oracle import Case, compare, execute, hard_cases

from gpureg.backend import numpy_backend
from gpureg.kernels.cuda import CudaKernels
from gpureg.kernels.cuda.ops import CupyOps
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

from .conftest import device_backend

pytestmark = pytest.mark.gpu
DEVICE_TOLERANCE = {"float32": 4e-6, "float64": 1e-12}  # the device's exp and log round by themselves
SHAPES = [("softmax", K) for K in (2, 3, 10, 33, 100, 256, 257, 1000, 5000)] + [("logistic", 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("task", "K"), SHAPES)
def test_hard_cases(task, K, dtype):
    backend = device_backend(dtype)
    ops = CupyOps(backend)
    for case in hard_cases(K, dtype):
        got = execute(task, case, ops, backend.from_host, backend.to_host)
        compare(task, case, got, DEVICE_TOLERANCE[dtype])


@pytest.mark.parametrize(("B", "L", "K"), [(20_000, 7, 10), (4_096, 1, 1000), (128, 96, 10)])
def test_many_rows(B, L, K):
    rng = np.random.default_rng(B)
    z = (4.0 * rng.standard_normal((B, L, K))).astype(np.float32)
    case = Case(z, rng.integers(0, K, B), rng.uniform(0.0, 1.0, (B, L)).astype(np.float32))
    backend = device_backend("float32")
    got = execute("softmax", case, CupyOps(backend), backend.from_host, backend.to_host)
    compare("softmax", case, got, 1e-5)


def test_logits_of_more_than_2_gib():
    """64-bit indexing: the last rows of a large buffer are what the same rows are by themselves."""
    import cupy

    backend = device_backend("float32")
    K, rows = 1000, 600_000
    if backend.free_memory() < 3.5e9:
        pytest.skip("less than 3.5 GB of device memory are free")
    ops, kernels = CupyOps(backend), CudaKernels(backend, LOSSES["softmax"], K)
    rng = np.random.default_rng(0)
    tail = rng.standard_normal((5, K)).astype(np.float32)
    z = cupy.zeros((rows, K), np.float32)
    z[-5:] = backend.from_host(tail)
    y = backend.from_host(np.full(rows, 3, np.int32))
    loss, scale = ops.empty((rows, 1), np.float32), backend.from_host(np.ones((1, 1), np.float32))
    pointwise = kernels._pointwise
    pointwise.gradient(pointwise.labels(y, 1), pointwise.scales(scale), z, loss)
    case = Case(tail[:, None, :], np.full(5, 3), np.ones((1, 1), np.float32))
    alone = execute("softmax", case, ops, backend.from_host, backend.to_host)
    np.testing.assert_array_equal(backend.to_host(z[-5:]), alone["residual"][:, 0])
    np.testing.assert_array_equal(backend.to_host(loss[-5:]), alone["loss"])
    np.testing.assert_allclose(float(loss[0, 0]), np.log(K), rtol=1e-6)


def problem(task: str, classes: int):
    rng = np.random.default_rng(classes)
    X = np.concatenate([rng.standard_normal((500, 40)), np.ones((500, 1))], axis=1)
    weights = np.stack([rng.uniform(0.5, 2.0, 500), rng.random(500) > 0.3], axis=1)
    K = 1 if task == "logistic" else classes
    return X, rng.integers(0, classes, 500), weights, 0.1 * rng.standard_normal((41, 3 * K))


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("way", ["fused", "documented", "pair"])
@pytest.mark.parametrize(("task", "classes"), [("softmax", 10), ("logistic", 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_evaluation_and_gradient(task, classes, dtype, way, l2):
    X, y, weights, W = problem(task, classes)
    backend = device_backend(dtype)
    ops = CupyOps(backend, documented_only=way == "documented")
    cuda = CudaKernels(backend, LOSSES[task], classes, steps_by=way if way != "documented" else "fused", ops=ops)
    reference = ReferenceKernels(numpy_backend("float64"), LOSSES[task], classes)
    order = np.random.default_rng(1).integers(0, 500, (20, 32))
    column = np.array([0, 1, 1])
    plan = StepPlan(order, np.array([0.1, 0.2, 0.3]), np.full(3, l2), column, (0, 7, 19), False)
    tolerance = {"float32": 2e-5, "float64": 1e-11}[dtype]
    found = []
    for kernels in (cuda, reference):
        rows = kernels.place(X, y, weights, None)
        end, losses, snapshots = kernels.steps(kernels.weights(W.copy()), rows, plan)
        values = [kernels.to_host(a) for a in (end, losses, *snapshots)]
        start = kernels.weights(W)
        values += list(kernels.evaluate(start, rows, with_loss=True))
        values += [kernels.to_host(a) for a in kernels.cost_and_gradient(start, rows, column)[:2]]
        found.append(values)
    for mine, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("way", ["cublas", "documented"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(dtype, way):
    """Also of matrices that are no C-contiguous ones, which the way through addresses must leave to CuPy."""
    import cupy

    ops, rng = CupyOps(device_backend(dtype), documented_only=way == "documented"), np.random.default_rng(0)
    x, W, R = (rng.standard_normal(shape).astype(dtype) for shape in ((33, 7), (7, 5), (33, 5)))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    for order in "CF":
        on_device = [cupy.asarray(a, order=order) for a in (x, W, R)]
        out = cupy.full((33, 5), np.nan, dtype)
        ops.matmul(on_device[0], on_device[1], out)
        np.testing.assert_allclose(cupy.asnumpy(out), x @ W, **tolerance)
        for alpha, beta in ((1.0, 0.0), (1.0, 1.0), (-1.0, 1.0)):
            out = cupy.asarray(W)
            ops.matmul_transposed(on_device[0], on_device[2], out, alpha=alpha, beta=beta)
            np.testing.assert_allclose(cupy.asnumpy(out), alpha * x.T @ R + beta * W, **tolerance)


def test_the_undocumented_product_is_there():
    """Without it a step takes longer, and has a launch more; this says so when CuPy moves it."""
    assert CupyOps(device_backend("float32"))._product is not None
