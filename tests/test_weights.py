"""Weights: a row of weight k is the row given k times, in the fit, in every loss and in every score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.data import Dataset


def weighted_and_repeated() -> tuple[Dataset, Dataset]:
    """The same rows with weights 0 to 3, and given as often."""
    data = blobs(200, 90, spread=2.5)
    train, val = np.arange(200) % 4, np.arange(90) % 3
    weighted = replace(data, sample_weight=train.astype(float), val_weight=val.astype(float))
    repeated = replace(
        data,
        X_train=np.repeat(data.X_train, train, axis=0),
        y_train=np.repeat(data.y_train, train),
        X_val=np.repeat(data.X_val, val, axis=0),
        y_val=np.repeat(data.y_val, val),
    )
    return weighted, repeated


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_losses_and_scores_are_weighted_means(task: str, scale: str) -> None:
    found = []
    for data in weighted_and_repeated():
        if task == "logistic":
            keep, keep_val = data.y_train < 2, data.y_val < 2
            data = replace(
                data,
                X_train=data.X_train[keep],
                y_train=data.y_train[keep],
                X_val=data.X_val[keep_val],
                y_val=data.y_val[keep_val],
                classes=data.classes[:2],
                sample_weight=None if data.sample_weight is None else data.sample_weight[keep],
                val_weight=None if data.val_weight is None else data.val_weight[keep_val],
            )
        options: dict[str, Any] = {"task": task, "scale": scale, "l2": [0.1, 0.001], "solver": "lbfgs"}
        found.append(gpureg.fit(data, dtype="float64", tol=1e-14, **options).models)
    for mine, theirs in zip(*found, strict=True):
        for name in ("train_loss", "val_loss"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=1e-6)
        for name in ("train_accuracy", "val_accuracy"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=1e-12)


def test_the_validation_part_of_a_weighted_table_keeps_its_weights() -> None:
    data = blobs(300, 10)
    weight = 1.0 + np.arange(300) % 5
    split = gpureg.make_dataset(data.X_train, data.y_train, sample_weight=weight, val_size=60)
    assert split.val_weight is not None
    rows = {tuple(row): value for row, value in zip(data.X_train, weight, strict=True)}
    assert split.val_weight.tolist() == [rows[tuple(row)] for row in split.X_val]


def test_folds_of_weighted_rows_are_scored_by_weight() -> None:
    """A fold's held-out loss is the weighted mean over its held-out rows."""
    data = blobs(120, 0)
    weight = 1.0 + np.arange(120) % 4
    folds = np.arange(120) % 3
    options: dict[str, Any] = {
        "solver": "lbfgs",
        "dtype": "float64",
        "scale": "none",
        "penalize_bias": False,
        "tol": 1e-14,
    }
    result = gpureg.fit(replace(data, sample_weight=weight), l2=0.01, cv=3, folds=folds, **options)
    for model in result.models:
        if model.fold is None:
            continue
        held = folds == model.fold
        alone = replace(
            data,
            X_train=data.X_train[~held],
            y_train=data.y_train[~held],
            sample_weight=weight[~held],
            X_val=data.X_train[held],
            y_val=data.y_train[held],
            val_weight=weight[held],
        )
        single = gpureg.fit(alone, l2=0.01, **options).models[0]
        assert model.val_loss == pytest.approx(single.val_loss, abs=1e-5)
        assert model.val_accuracy == pytest.approx(single.val_accuracy)


def test_weights_whose_penalty_is_no_number_are_refused() -> None:
    data = gpureg.make_dataset(
        np.random.RandomState(0).randn(20, 2), np.arange(20) % 2, sample_weight=np.full(20, 1e-320)
    )
    with pytest.raises(gpureg.errors.UsageError, match="Scale the weights"):
        gpureg.fit(data)


def test_a_penalty_that_leaves_the_constant_is_not_worse_than_it() -> None:
    data = gpureg.make_dataset(np.random.RandomState(0).randn(20, 2), np.repeat([0, 1], [13, 7]))
    assert gpureg.fit(data, l2=(1e30,), dtype="float32").warnings == ()
