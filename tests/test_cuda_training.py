"""Whole training runs on the CUDA kernels, executed on the CPU, give NumPy's history."""

from __future__ import annotations

import numpy as np
import pytest
from full_batch import WAYS
from hostcuda import settings
from hostcuda.ops import HostOps, host_backend
from small_problems import blobs

from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.kernels.cuda import fused as trainer_kernels
from gpureg.solvers.lbfgs.solver import Lbfgs

SILENT = Hooks(lambda event: None, lambda: False)
FIELDS = ("step_loss", "val_loss", "val_accuracy", "train_accuracy")
CASES = {
    "softmax sweep": {"l2": (0.0, 0.02, 0.5), "lr": (0.4,)},
    "softmax, one model without a penalty": {"lr": (0.4,)},
    "logistic sweep": {"task": "logistic", "l2": (0.0, 0.3), "lr": (0.3,)},
    "learning rates": {"lr": (0.05, 0.5)},
    "class weights, free bias": {"l2": (0.1,), "lr": (0.3,), "class_weight": "balanced", "penalize_bias": False},
    "folds": {"l2": (0.0, 0.1), "lr": (0.3,), "cv": 3, "epochs": 3},
    "seeds": {"l2": (0.0, 0.1), "lr": (0.3,), "seeds": 2, "epochs": 3},
    "best weights": {"lr": (1.0,), "keep": "best"},
    # wide enough for evaluations that go on beside the steps
    "wide": {"l2": tuple(np.geomspace(1e-4, 0.4, 50)), "lr": (1.0,), "keep": "best", "evals_per_epoch": 3},
}


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch):
    """The product asks for CuPy's operations and is given NumPy's; the kernels are CuPy's own source."""
    monkeypatch.setattr(trainer_kernels, "CupyOps", lambda backend: HostOps())


def both(name: str, dtype: str, **more):
    options = {"epochs": 6, "batch_size": 24, "patience": 3, "dtype": dtype} | CASES[name] | more
    data = blobs(150, 60, classes=2 if options.get("task") == "logistic" else 3)
    config = FitConfig(**options)
    wanted = fit_on(numpy_backend(dtype), data, FitConfig(**{**options, "kernels": "reference"}), SILENT)
    return wanted, fit_on(host_backend(dtype), data, config, SILENT)


def assert_same_course(wanted, got, tolerance: float) -> None:
    assert [m.stop_reason for m in got.models] == [m.stop_reason for m in wanted.models]
    assert [m.steps for m in got.models] == [m.steps for m in wanted.models]
    np.testing.assert_array_equal(got.history.eval_step, wanted.history.eval_step)
    for field in FIELDS:
        np.testing.assert_allclose(
            getattr(got.history, field), getattr(wanted.history, field), rtol=tolerance, err_msg=field
        )
    np.testing.assert_allclose(got.model.coef, wanted.model.coef, rtol=10 * tolerance, atol=10 * tolerance)
    assert got.selected == wanted.selected


@pytest.mark.parametrize("kernels", ["auto", "pair"])
@pytest.mark.parametrize("name", CASES)
def test_history_is_numpys_in_float64(name, kernels):
    wanted, got = both(name, "float64", kernels=kernels)
    assert got.backend == "cupy"
    assert_same_course(wanted, got, 1e-9)


@pytest.mark.parametrize("kernels", ["fused", "pair"])
@pytest.mark.parametrize("name", ["softmax sweep", "logistic sweep"])
def test_history_is_numpys_in_float32(name, kernels):
    wanted, got = both(name, "float32", kernels=kernels, patience=0)
    assert_same_course(wanted, got, 1e-4)


def test_kernels_that_do_not_take_the_shape_say_so():
    data, options = blobs(150, 60, classes=33), {"epochs": 2, "batch_size": 24, "dtype": "float64"}
    with pytest.warns(GpuregWarning, match=r"kernels='pair' does not support batches of 24 .*kernels='fused' trained"):
        got = fit_on(host_backend("float64"), data, FitConfig(kernels="pair", **options), SILENT)
    fused = fit_on(host_backend("float64"), data, FitConfig(kernels="fused", **options), SILENT)
    np.testing.assert_array_equal(got.model.coef, fused.model.coef)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("task", "classes"), [("softmax", 3), ("logistic", 2)])
def test_the_full_batch_solver_reaches_numpys_optimum(task, classes, way):
    data = blobs(120, 40, classes=classes)
    config = FitConfig(task=task, l2=(0.01, 0.3), solver="lbfgs", dtype="float64")
    solver = Lbfgs(config, hessians=WAYS[way])
    wanted, got = (
        fit_on(backend("float64"), data, config, SILENT, solver=solver) for backend in (numpy_backend, host_backend)
    )
    for mine, theirs in zip(got.models, wanted.models, strict=True):
        assert mine.stop_reason == theirs.stop_reason
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-7)
    np.testing.assert_allclose(got.model.coef, wanted.model.coef, rtol=1e-4, atol=1e-5)


def test_launches_of_a_whole_run():
    """Three launches a step where no model has a penalty, and one gather a run of steps, not one a batch."""
    with settings() as launched:
        _, got = both("softmax, one model without a penalty", "float32", patience=0, kernels="fused")
    steps = got.models[0].steps
    assert steps == 36
    for name in ("softmax_grad_loss_k3", "matmul_transposed"):
        assert launched.count(name) == steps
    assert "penalized_step" not in launched


def test_a_diverging_model_stops_alone():
    with pytest.warns(GpuregWarning, match="1 of 2 models diverged"), np.errstate(all="ignore"):
        _, got = both("learning rates", "float64", lr=(0.1, 1e308))
    assert [m.stop_reason for m in got.models] == ["max_epochs", "diverged"]
