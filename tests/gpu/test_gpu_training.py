"""Whole runs on a device: NumPy's histories, the report's numbers, launches per step, memory, and which device."""

from __future__ import annotations

import numpy as np
import pytest
from full_batch import WAYS

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import DeviceError, GpuregWarning
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.kernels.cuda import CudaKernels
from gpureg.losses import LOSSES
from gpureg.solvers.lbfgs.hessian import inverse_factors
from gpureg.solvers.lbfgs.solver import Lbfgs

from .conftest import ON_SOFT_DEVICE, device_backend

pytestmark = pytest.mark.gpu
SILENT = Hooks(lambda event: None, lambda: False)
FIELDS = ("step_loss", "val_loss", "val_accuracy", "train_accuracy")

# λ: steps, training loss, validation loss, their accuracies, Σ w²; the report's protocol in float64
REPORT = {
    0.0: (7800, 0.280033587535, 0.299024023937, 0.9225, 0.9157, 23.9518493745),
    2.0: (621, 1.628146113596, 1.621315167281, 0.64125, 0.6449, 0.149361050711),
    0.2: (1210, 0.753976256245, 0.737490565763, 0.86555, 0.8704, 1.664015504732),
    0.02: (3783, 0.396484117133, 0.391996998277, 0.9019, 0.9009, 7.286195363417),
    0.002: (7800, 0.292529725892, 0.306845927305, 0.92055, 0.9142, 19.236808408056),
}
# shuffle: the epoch that stops, losses and correct predictions as printed
REPORT_BINARY = {
    False: (33, 0.07088705555893647, 0.06577187753329566, 3908 / 4005, 2000 / 2042),
    True: (16, 0.07924553698509086, 0.07166134981545134, 0.9735330836454432, 0.9764936336924583),
}


@pytest.mark.parametrize(
    "kernels",
    ["fused", *(pytest.param(name, marks=pytest.mark.long) for name in ("pair", "reference"))],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_twenty_epochs_are_numpys_in_float64(dtype, tolerance, kernels):
    data = gpureg.load_dataset("digits")
    options = {"l2": (0.0, 1e-3, 0.1), "lr": (0.05,), "epochs": 20, "patience": 0}
    wanted = fit_on(numpy_backend("float64"), data, FitConfig(dtype="float64", **options), SILENT)
    got = fit_on(device_backend(dtype), data, FitConfig(dtype=dtype, kernels=kernels, **options), SILENT)
    for name in FIELDS[:2]:
        np.testing.assert_allclose(
            getattr(got.history, name), getattr(wanted.history, name), rtol=tolerance, err_msg=name
        )
    if dtype == "float64":
        for name in FIELDS[2:]:
            np.testing.assert_array_equal(getattr(got.history, name), getattr(wanted.history, name), err_msg=name)


@pytest.mark.long
@pytest.mark.mnist
def test_the_reports_softmax_runs():
    # the soft device takes most of an hour for that many steps of the pair
    config = FitConfig(l2=tuple(REPORT), dtype="float64", kernels="fused" if ON_SOFT_DEVICE else "auto")
    result = fit_on(device_backend("float64"), gpureg.load_dataset("mnist"), config, SILENT)
    for model in result.models:
        steps, train, val, train_accuracy, val_accuracy, norm = REPORT[model.l2]
        assert (model.steps, model.train_accuracy, model.val_accuracy) == (steps, train_accuracy, val_accuracy)
        np.testing.assert_allclose(
            [model.train_loss, model.val_loss, model.weight_norm_sq], [train, val, norm], rtol=1e-9
        )


@pytest.mark.mnist
@pytest.mark.parametrize("kernels", ["fused", pytest.param("pair", marks=pytest.mark.long)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_reports_binary_runs(shuffle, kernels):
    data = gpureg.load_dataset("mnist", classes=[2, 3])
    config = FitConfig(task="logistic", dtype="float64", shuffle=shuffle, kernels=kernels)
    model = fit_on(device_backend("float64"), data, config, SILENT).models[0]
    epoch, train, val, train_accuracy, val_accuracy = REPORT_BINARY[shuffle]
    assert (model.stopped_epoch, model.train_accuracy, model.val_accuracy) == (epoch, train_accuracy, val_accuracy)
    np.testing.assert_allclose([model.train_loss, model.val_loss], [train, val], rtol=1e-9)


def test_the_same_run_gives_the_same_bits():
    data = gpureg.load_dataset("digits")
    config = FitConfig(l2=(0.0, 0.1), lr=(0.1,), epochs=5)
    one, other = (fit_on(device_backend("float32"), data, config, SILENT) for _ in range(2))
    np.testing.assert_array_equal(one.history.step_loss, other.history.step_loss)
    np.testing.assert_array_equal(one.model.coef, other.model.coef)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-7), ("float32", 1e-4)])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_the_full_batch_solver_reaches_numpys_optimum(task, dtype, tolerance, way):
    data = gpureg.load_dataset("digits", classes=[3, 8] if task == "logistic" else None)
    options = {"task": task, "l2": (1e-4, 0.01, 0.3), "solver": "lbfgs", "penalize_bias": True}
    wanted, got = (
        fit_on(backend, data, config, SILENT, solver=Lbfgs(config, hessians=WAYS[way]))
        for backend, config in (
            (numpy_backend("float64"), FitConfig(dtype="float64", **options)),
            (device_backend(dtype), FitConfig(dtype=dtype, **options)),
        )
    )
    for mine, theirs in zip(got.models, wanted.models, strict=True):
        assert mine.stop_reason == theirs.stop_reason == "converged"
        # what is minimised: the loss alone still moves in first order where the objective has stopped to
        objectives = [model.train_loss + model.l2 * model.weight_norm_sq for model in (mine, theirs)]
        assert objectives[0] == pytest.approx(objectives[1], rel=tolerance)


def test_a_failed_factorisation_is_noticed():
    """CuPy does not raise where a matrix has no Cholesky factor."""
    kernels = CudaKernels(device_backend("float64"), LOSSES["softmax"], 3)
    for bad in (-np.eye(300), np.full((3, 3), np.nan)):
        for count in (1, 3):  # cuSOLVER's routine for one, and that for many
            found = kernels.to_host(inverse_factors(kernels, kernels.backend.from_host(np.stack([bad] * count))))
            np.testing.assert_array_equal(found, np.stack([np.eye(len(bad))] * count))
    good = np.eye(70) + 0.1
    found = kernels.to_host(inverse_factors(kernels, kernels.backend.from_host(np.stack([good, -good, 2.0 * good]))))
    for H, inverse in zip((good, 2.0 * good), (found[0], found[2]), strict=True):
        np.testing.assert_allclose(inverse @ H @ inverse.T, np.eye(70), atol=1e-10)


def test_the_last_device_trains_too():
    import cupy

    last = cupy.cuda.runtime.getDeviceCount() - 1
    result = gpureg.fit(gpureg.load_dataset("digits"), epochs=2, device=f"cuda:{last}", strict_device=True)
    assert (result.backend, result.device) == ("cupy", f"cuda:{last}")


def test_a_device_that_is_not_there():
    import cupy

    absent = f"cuda:{cupy.cuda.runtime.getDeviceCount()}"
    data = gpureg.load_dataset("digits")
    with pytest.raises(DeviceError, match="there is no"):
        gpureg.fit(data, epochs=1, device=absent, strict_device=True)
    with pytest.warns(GpuregWarning, match="Running on the CPU"):
        result = gpureg.fit(data, epochs=1, device=absent)
    assert (result.backend, result.device_requested) == ("numpy", absent)
