"""The report's printed numbers, on the real MNIST files, to 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

import gpureg

pytestmark = pytest.mark.mnist

BINARY = {  # shuffle: epoch, training loss, validation loss, training accuracy, validation accuracy
    False: (33, 0.07088705555893647, 0.06577187753329566, 0.9757802746566792, 0.9794319294809011),
    True: (16, 0.07924553698509085, 0.07166134981545134, 0.9735330836454432, 0.9764936336924583),
}
SOFTMAX = {  # λ: steps, training loss, validation loss, training accuracy, validation accuracy, Σ w²
    0.0: (7800, 0.280033587535, 0.299024023937, 0.9225, 0.9157, 23.9518493745),
    2.0: (621, 1.628146113596, 1.621315167281, 0.64125, 0.6449, 0.149361050711),
    0.2: (1210, 0.753976256245, 0.737490565763, 0.86555, 0.8704, 1.664015504732),
    0.02: (3783, 0.396484117133, 0.391996998277, 0.9019, 0.9009, 7.286195363417),
    0.002: (7800, 0.292529725892, 0.306845927305, 0.92055, 0.9142, 19.236808408056),
}


@pytest.mark.parametrize("shuffle", [False, True])
def test_binary_runs(shuffle: bool) -> None:
    data = gpureg.load_dataset("mnist", task="logistic")
    model = gpureg.fit(data, task="logistic", dtype="float64", shuffle=shuffle).models[0]
    epoch, *values = BINARY[shuffle]
    assert (model.stopped_epoch, model.stop_reason) == (epoch, "patience")
    found = (model.train_loss, model.val_loss, model.train_accuracy, model.val_accuracy)
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-10)


def check(models: tuple[gpureg.ModelResult, ...], tolerance: float, *, exactly: bool = True) -> None:
    for model in models:
        steps, *values, norm = SOFTMAX[model.l2]
        found = (model.train_loss, model.val_loss, model.train_accuracy, model.val_accuracy)
        np.testing.assert_allclose(found[:2], values[:2], rtol=0, atol=tolerance)
        if exactly:
            assert model.steps == steps
            assert found[2:] == tuple(values[2:])
            assert model.weight_norm_sq == pytest.approx(norm, abs=1e-10)  # the table is printed to 12 figures


def test_softmax_sweep_in_one_batch() -> None:
    """The report's four λ and 0 are columns of one product, and each gives its row."""
    result = gpureg.fit(gpureg.load_dataset("mnist"), l2=list(SOFTMAX), dtype="float64")
    check(result.models, 1e-10)
    assert result.selected == 0


@pytest.mark.parametrize("l2", [2.0, 0.2])
def test_softmax_alone(l2: float) -> None:
    check(gpureg.fit(gpureg.load_dataset("mnist"), l2=l2, dtype="float64").models, 1e-10)


def test_softmax_in_float32() -> None:
    result = gpureg.fit(gpureg.load_dataset("mnist"), l2=[0.0, 0.2, 0.02], dtype="float32")
    check(result.models, 1e-5, exactly=False)


def test_a_small_lambda_survives_float32() -> None:
    """λ = 1e-6 changes the weights about as much in float32 as in float64: `1 - 2 lr λ` would round to 1."""
    data = gpureg.load_dataset("mnist", train_size=2000, val_size=500)
    shift = {}
    for dtype in ("float32", "float64"):
        result = gpureg.fit(data, l2=[0.0, 1e-6], dtype=dtype, patience=0)
        norms = [model.weight_norm_sq for model in result.models]
        assert norms[0] is not None
        assert norms[1] is not None
        shift[dtype] = norms[0] - norms[1]
    assert shift["float64"] > 0
    assert shift["float32"] == pytest.approx(shift["float64"], rel=0.15)
