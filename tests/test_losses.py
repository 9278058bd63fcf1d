"""A loss is a value: one class, here a squared hinge, is trained, certified and used; no twin takes it for another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.errors import UsageError
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import LOSSES, one_hot


@dataclass(frozen=True)
class SquaredHinge:
    """`Σ_k max(0, 1 - t_k z_k)²`, t = 1 for the own class and -1 for the others (one against the rest)."""

    name: str = "squared-hinge"
    binary: bool = False
    shift_invariant: bool = False
    rate: float = 0.01

    def columns(self, classes: int) -> int:
        return classes

    def curvature(self, K: int) -> float:
        return 2.0

    def constant(self, shares: Any) -> float:
        return sum(4 * p * (1 - p) for p in shares)

    def _parts(self, xp: Any, logits: Any, y: Any) -> tuple[Any, Any]:
        sign = 2.0 * xp.astype(one_hot(xp, y, logits), logits.dtype) - 1.0
        return sign, xp.maximum(1.0 - sign * logits, xp.zeros_like(logits))

    def value(self, xp: Any, logits: Any, y: Any) -> tuple[Any, Any, Any]:
        sign, margin = self._parts(xp, logits, y)
        loss = xp.sum(margin**2, axis=-1)
        return loss, (xp.argmax(logits, axis=-1) == y[:, None]) & (loss == loss), -2.0 * sign * margin

    def second(self, xp: Any, logits: Any, y: Any) -> tuple[Any, None]:
        return 2.0 * xp.astype(self._parts(xp, logits, y)[1] > 0, logits.dtype), None

    def probabilities(self, xp: Any, logits: Any) -> Any:
        raise UsageError("A hinge has no probabilities.")

    def predict(self, xp: Any, logits: Any) -> Any:
        return xp.argmax(logits, axis=-1)


HINGE = SquaredHinge()


@pytest.mark.parametrize("loss", [*LOSSES.values(), HINGE], ids=lambda loss: str(loss.name))
def test_residual_and_curvature_are_derivatives(loss: Any) -> None:
    rng = np.random.default_rng(0)
    K, y = loss.columns(3), np.array([0, 1, 1, 0]) if loss.binary else np.array([0, 2, 1, 2])
    z, step = rng.normal(size=(4, 2, K)), 1e-6
    residual = loss.value(np, z, y)[2]
    d, f = loss.second(np, z, y)
    hessian = d[..., :, None] * np.eye(K) - (0.0 if f is None else f[..., :, None] * f[..., None, :])
    for k in range(K):
        ahead, behind = z.copy(), z.copy()
        ahead[..., k] += step
        behind[..., k] -= step
        slope = (loss.value(np, ahead, y)[0] - loss.value(np, behind, y)[0]) / (2 * step)
        bend = (loss.value(np, ahead, y)[2] - loss.value(np, behind, y)[2]) / (2 * step)
        np.testing.assert_allclose(residual[..., k], slope, atol=1e-8)
        np.testing.assert_allclose(hessian[..., k], bend, atol=1e-8)
    if loss.shift_invariant:
        np.testing.assert_allclose(residual.sum(axis=-1), 0.0, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: str(loss.name))
def test_hits_are_predictions_and_losses_are_log_probabilities(loss: Any) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 50)
    z = rng.normal(size=(50, 1, loss.columns(2))) * 3
    value, hit, _ = loss.value(np, z, y)
    p = loss.probabilities(np, z)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(value[:, 0], -np.log(p[np.arange(50), 0, y]), rtol=1e-12)
    np.testing.assert_array_equal(hit[:, 0], loss.predict(np, z)[:, 0] == y)


def test_extreme_logits_stay_finite() -> None:
    for loss in LOSSES.values():
        z = np.array([1e30, -1e30, 800.0])[:, None, None] * np.ones(loss.columns(2))
        z[..., 0] *= -1
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            p = loss.probabilities(np, z)
        assert np.isfinite(p).all()


def hinge_objective(X: np.ndarray, y: np.ndarray, W: np.ndarray, l2: float) -> float:
    """The mean squared hinge with `λ Σ w²`, bias included; `W (F + 1, K)`, written without gpureg."""
    z = np.c_[X, np.ones(len(X))] @ W
    sign = np.where(y[:, None] == np.arange(W.shape[1]), 1.0, -1.0)
    return float((np.maximum(0.0, 1.0 - sign * z) ** 2).sum(axis=1).mean() + l2 * (W**2).sum())


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_third_loss_is_trained_by_both_solvers(solver: Any) -> None:
    data = blobs(n=300, m=100, classes=4)
    options: dict[str, Any] = {"epochs": 30, "batch_size": 30} if solver == "sgd" else {}
    result = gpureg.fit(
        data, task=HINGE, solver=solver, l2=[0.01, 1.0], dtype="float64", scale="none", penalize_bias=True, **options
    )
    assert result.task == "squared-hinge"
    for row, model in enumerate(result.models):
        predicted = result.model.predict(data.X_val, row)
        assert (predicted == data.y_val).mean() == model.val_accuracy > 0.6
        W = np.c_[result.model.coef[row], result.model.intercept[row]].T
        objective = hinge_objective(data.X_train, data.y_train, W, model.l2)
        assert model.train_loss == pytest.approx(objective - model.l2 * (W**2).sum(), rel=1e-9)
        if solver == "lbfgs":
            assert model.stop_reason == "converged"
            rng = np.random.default_rng(row)
            assert all(hinge_objective(data.X_train, data.y_train, W + 1e-4 * rng.normal(size=W.shape), model.l2)
                       > objective for _ in range(5))  # fmt: skip


def test_a_loss_that_a_twin_does_not_implement_is_refused_by_name() -> None:
    backend = numpy_backend("float64")
    with pytest.raises(UsageError, match=r"fused.* implements softmax and logistic, not the loss 'squared-hinge'"):
        choose_kernels(backend, HINGE, 3, "fused")
    with pytest.raises(UsageError, match="squared-hinge"):
        gpureg.fit(blobs(), task=HINGE, kernels="fused")
    assert choose_kernels(backend, HINGE, 3).name == "reference"


def test_a_loss_of_the_same_name_is_not_the_same_loss() -> None:
    with pytest.raises(UsageError, match="not the loss 'softmax'"):
        choose_kernels(numpy_backend("float64"), SquaredHinge(name="softmax"), 3, "fused")
