"""The repr of a fit's result: a table of a few lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_problems import blobs
from synthetic_runs import synthetic_result

import gpureg

QUIET = pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")


def lines(result: gpureg.FitResult) -> list[str]:
    text = repr(result)
    assert len(text) < 3000
    return text.split("\n")


@QUIET
def test_it_names_the_data_and_shows_the_models_with_the_chosen_one_marked() -> None:
    data = blobs(150, 60)
    result = gpureg.fit(data, solver="lbfgs", l2=[0.1, 0.01, 0.001], device="cpu", dtype="float64")
    head, how, titles, *rows = lines(result)
    assert head == f"FitResult: softmax on {data.name}, 150 training and 60 validation rows, 6 features, 3 classes"
    assert how.startswith("lbfgs on cpu in float64, ")
    assert titles.split()[:2] == ["λ", "steps"]
    assert [row.startswith("*") for row in rows[:3]] == [index == result.selected for index in range(3)]
    for row, model in zip(rows, result.models, strict=False):
        cells = row.removeprefix("*").split()
        assert cells[0] == f"{model.l2:g}"
        assert cells[2:4] == [f"{model.train_loss:.6g}", f"{model.val_loss:.6g}"]
        assert cells[-1] == "converged"


@QUIET
def test_of_a_cross_validation_it_shows_each_penalty_once_and_counts_the_models_of_folds() -> None:
    result = gpureg.fit(blobs(150, 60), solver="lbfgs", l2=[0.1, 0.01, 0.001], cv=5, device="cpu")
    shown = lines(result)
    assert "held-out loss" in shown[2]
    assert sum(line.startswith("*") for line in shown) == 2  # its row and its refit
    assert "models of folds: 15" in shown
    assert len(shown) < 12


@QUIET
def test_many_models_are_cut_and_the_chosen_one_is_shown() -> None:
    grid = np.geomspace(100.0, 0.001, 96).tolist()
    result = gpureg.fit(blobs(150, 60), solver="sgd", epochs=2, lr=[0.001, 0.002], l2=grid, device="cpu")
    shown = lines(replace(result, selected=150))
    assert "... 182 more models" in shown
    (chosen,) = (line for line in shown if line.startswith("*"))
    assert chosen.split()[1] == f"{result.models[150].l2:.6g}"
    assert "lr" in shown[2].split()


def test_what_does_not_exist_is_a_dash() -> None:
    result = synthetic_result(l2=(0.1, 0.01))
    broken = replace(result.models[0], train_loss=None, val_loss=None, stop_reason="diverged")
    row = repr(replace(result, models=(broken, result.models[1]), selected=1)).split("\n")[3]
    assert row.split()[2:4] == ["-", "-"]
    assert row.endswith("diverged")
