"""Softmax and logistic rows in float64 NumPy, written apart from the product, and the cases that kernels get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.cuda.ops import DeviceOps
from gpureg.kernels.cuda.pointwise import POINTWISE
from gpureg.losses import LOSSES
from hostcuda.launch import host, settings
from hostcuda.ops import HostOps

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


@dataclass(frozen=True)
class Case:
    """`z (B, L, K)`, `y (B,)`, `scale (B or 1, L)`."""

    z: np.ndarray
    y: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """`residual (B, L, K)`, `loss (B, L)`, `hit (B, L)`."""

    residual: np.ndarray
    loss: np.ndarray
    hit: np.ndarray


def expected(task: str, case: Case) -> Outcome:
    """What a row of logits comes to, in float64; a row that is not finite has a loss that is not finite, and no hit."""
    z, y, scale = case.z.astype(float), case.y, case.scale.astype(float)
    with np.errstate(all="ignore"):
        if task == "logistic":
            sign = np.where(y == 0, -1.0, 1.0)[:, None]
            u = sign * z[..., 0]
            loss = np.logaddexp(0.0, u)
            hit = (u < 0) | ((u == 0) & (y != 0)[:, None])  # z = 0 is the negative class
            small = np.exp(-np.abs(u))
            residual = (scale * sign * np.where(u > 0, 1.0, small) / (1.0 + small))[..., None]
            return Outcome(residual, loss, hit)
        shifted = z - z.max(axis=-1, keepdims=True)
        total = np.exp(shifted).sum(axis=-1, keepdims=True)
        probability = np.exp(shifted) / total
        rows = np.arange(len(y))
        loss = np.log(total[..., 0]) - shifted[rows, :, y]
        hit = (z.argmax(axis=-1) == y[:, None]) & ~np.isnan(total[..., 0])
        probability[rows, :, y] -= 1.0
        return Outcome(scale[..., None] * probability, loss, hit)


def execute(task: str, case: Case, ops: DeviceOps | None = None, put=host, get=np.array) -> dict[str, np.ndarray]:
    """The product's three call sites on this case: gradient with loss, loss with hit, hit alone.

    On the CPU, or with a device's `ops` and the way there (`put`) and back (`get`).
    """
    B, L, K = case.z.shape
    ops = HostOps() if ops is None else ops
    kernels = POINTWISE[LOSSES[task]](K, ops)
    labels = kernels.labels(put(case.y.astype(np.int32)), L)
    logits, loss = put(case.z.reshape(B, L * K).copy()), ops.empty((B, L), case.z.dtype)
    kernels.gradient(labels, kernels.scales(put(case.scale)), logits, loss)
    out = {"residual": get(logits).reshape(B, L, K), "loss": get(loss)}
    logits, eval_loss = put(case.z.reshape(B, L * K).copy()), ops.empty((B, L), case.z.dtype)
    hit = ops.empty((B, L), np.bool_)
    kernels.evaluate(labels, logits, hit, eval_loss)
    hit_alone = ~hit
    kernels.evaluate(labels, logits, hit_alone, None)
    np.testing.assert_array_equal(get(logits), case.z.reshape(B, L * K), err_msg="an evaluation wrote to the logits")
    return out | {"eval_loss": get(eval_loss), "hit": get(hit), "hit_alone": get(hit_alone)}


def check(task: str, case: Case, *, index64: bool = False) -> None:
    """The kernels give what float64 gives, and the same bits in either lane order. Raises AssertionError."""
    with settings(index64=index64):
        got = execute(task, case)
    with settings(reverse=True, index64=index64):
        again = execute(task, case)
    for name, value in got.items():
        np.testing.assert_array_equal(value, again[name], err_msg=f"{name} depends on the order of the lanes")
    compare(task, case, got, TOLERANCE[case.z.dtype.name])


def compare(task: str, case: Case, got: dict[str, np.ndarray], tolerance: float) -> None:
    """What `execute` gave against float64: relative for losses, in units of the scale for residuals."""
    want = expected(task, case)
    size = np.broadcast_to(np.abs(case.scale).astype(float)[..., None], case.z.shape)
    finite = np.isfinite(want.residual)
    np.testing.assert_array_equal(np.isfinite(got["residual"]), finite, err_msg="residual: finite or not")
    error = np.abs(np.where(finite, got["residual"] - np.where(finite, want.residual, 0.0), 0.0))
    worst = (error / np.maximum(size, 1e-300)).max()
    assert (error <= tolerance * size).all(), f"residual is off by {worst:.2g} of its scale"
    for name in ("loss", "eval_loss"):
        value = got[name].astype(float)
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(want.loss), err_msg=f"{name}: finite or not")
        np.testing.assert_allclose(value, want.loss, rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(got["hit"], want.hit, err_msg="hit")
    np.testing.assert_array_equal(got["hit_alone"], want.hit, err_msg="hit without the loss")


def hard_cases(K: int, dtype: str) -> Iterator[Case]:
    """Ties, huge logits, rows that are not finite, one row, ragged tails, more than a block, and weights of 0."""
    rng = np.random.default_rng(K)

    def case(z, y=None, scale=None) -> Case:
        B, L, _ = z.shape
        labels = rng.integers(0, max(K, 2), B) if y is None else np.asarray(y)
        scales = rng.uniform(0.1, 2.0, (1, L)) if scale is None else scale
        return Case(z.astype(dtype), labels, scales.astype(dtype))

    yield case(3.0 * rng.standard_normal((5, 3, K)))
    yield case(rng.standard_normal((1, 1, K)), scale=np.full((1, 1), 0.5))
    yield case(rng.standard_normal((67, 2, K)), scale=rng.uniform(0.0, 1.0, (67, 2)) * (rng.random((67, 2)) > 0.4))
    classes = np.unique(np.linspace(0, max(K, 2) - 1, 9).astype(int))
    yield case(np.zeros((len(classes), 2, K)), classes)  # all equal: the first class wins
    yield case(rng.integers(0, 2, (24, 2, K)).astype(float))
    for size in (1e4, 1e30):
        yield case(size * rng.uniform(-1.0, 1.0, (6, 2, K)))
        yield case(size * rng.integers(-1, 2, (6, 2, K)).astype(float))
    broken = rng.standard_normal((8, 1, K))
    broken[:, 0, 0] = 5.0  # the row would be a hit of class 0
    for row, column, value in ((0, K - 1, np.nan), (2, 0, np.inf), (4, K - 1, -np.inf), (6, slice(None), np.nan)):
        broken[row, 0, column] = value
    yield case(broken)
    yield case(broken, np.zeros(8, int))
