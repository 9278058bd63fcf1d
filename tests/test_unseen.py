"""Folds whose training rows lack a class, in a fit: the model of the classes that are there, probability 0 for the
missing one, clipped."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from resuming import Memory, assert_same
from small_problems import blobs

import gpureg
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning
from gpureg.fitting.entry import Hooks, run_fit

SGD = {"solver": "sgd", "epochs": 6, "batch_size": 16, "lr": 0.3, "patience": 0}
LBFGS = {"solver": "lbfgs", "tol": 1e-12}
BOTH = pytest.mark.parametrize("options", [SGD, LBFGS, LBFGS | {"penalize_bias": True}], ids=["sgd", "free", "held"])
COMMON: dict[str, Any] = {"l2": [0.1, 0.01, 0.001], "cv": 3, "scale": "none", "dtype": "float64", "device": "cpu"}
WORST = -np.log(np.finfo(np.float64).eps)


def lacking(rare: int = 1) -> tuple[gpureg.Dataset, np.ndarray]:
    """Class 2 has rows of fold `rare` only."""
    data = blobs(120, 60, spread=2.0)
    folds = np.arange(120) % 3
    y = data.y_train.copy()
    y[(y == 2) & (folds != rare)] = 0
    return replace(data, y_train=y), folds


def fit(data: gpureg.Dataset, folds: np.ndarray, **options: Any) -> tuple[gpureg.FitResult, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GpuregWarning)
        result = gpureg.fit(data, folds=folds, **(COMMON | options))
    return result, [str(warning.message) for warning in told if "missing" in str(warning.message)]


@BOTH
def test_the_model_is_that_of_the_classes_that_are_there(options: dict[str, Any]) -> None:
    data, folds = lacking()
    result, told = fit(data, folds, **options)
    (text,) = told
    assert "fold 1 those of 2" in text
    two = replace(data, y_train=np.minimum(data.y_train, 1), classes=(0, 1), y_val=np.minimum(data.y_val, 1))
    rest, _ = fit(two, folds, **options)
    seen = (folds == 1) & (data.y_train < 2)
    for mine, other in zip(result.models, rest.models, strict=True):
        if mine.fold != 1:
            continue
        assert mine.steps == other.steps
        assert mine.train_loss == pytest.approx(other.train_loss, rel=1e-9)
        assert mine.weight_norm_sq == pytest.approx(other.weight_norm_sq, rel=1e-7)
    alone = replace(two, X_val=data.X_train[seen], y_val=data.y_train[seen], sample_weight=(folds != 1) + 1e-300)
    options = COMMON | options | {"folds": None, "cv": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        single = gpureg.fit(alone, **options)
    unseen = int(((folds == 1) & (data.y_train == 2)).sum())
    mine = [model for model in result.models if model.fold == 1]
    for model, other in zip(mine, single.models, strict=True):
        expected = (other.val_loss * seen.sum() + unseen * WORST) / (seen.sum() + unseen)  # type: ignore[operator]
        assert model.val_loss == pytest.approx(expected, rel=1e-7)
        hits = other.val_accuracy * seen.sum() / (seen.sum() + unseen)  # type: ignore[operator]
        assert model.val_accuracy == pytest.approx(hits, rel=1e-12)


@BOTH
def test_the_score_does_not_depend_on_the_tolerance(options: dict[str, Any]) -> None:
    data, folds = lacking()
    tight, _ = fit(data, folds, **options)
    other = {"kernels": "reference"} if options is SGD else {"tol": 1e-6}
    loose, _ = fit(data, folds, **(options | other))
    assert tight.cv is not None
    assert loose.cv is not None
    for mine, its in zip(tight.cv, loose.cv, strict=True):
        assert mine.mean == pytest.approx(its.mean, abs=1e-3)


@BOTH
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_of_one_class_a_model_is_certain(options: dict[str, Any], task: str) -> None:
    data = blobs(90, 40, classes=2)
    folds = np.where(data.y_train == 0, 0, 1 + np.arange(90) % 2)
    result, told = fit(data, folds, task=task, **options)
    assert "fold 0 those of 0" in told[0]
    for model in result.models:
        if model.fold == 0:
            assert model.train_loss == pytest.approx(0.0, abs=1e-15)
            assert model.val_loss == pytest.approx(WORST, rel=1e-12)
            assert model.val_accuracy == 0.0
    assert result.selected is not None
    assert np.isfinite(result.model.coef).all()
    assert np.isfinite(result.model.intercept).all()


def test_several_folds_and_seeds_are_named_once() -> None:
    data, folds = lacking()
    y = data.y_train.copy()
    y[(y == 1) & (folds != 0)] = 0
    both = np.stack([folds, (folds + 1) % 3])
    result, told = fit(replace(data, y_train=y), both, seeds=2, **SGD)
    (text,) = told
    assert (
        "fold 0 of seed 0 those of 1; fold 1 of seed 0 those of 2; fold 1 of seed 1 those of 1; fold 2 of seed 1 "
        in text
    )
    assert len(result.models) == 3 * 3 * 2 + 1
    assert [model.l2 for model in result.models[:-1]] == [l2 for l2 in (0.1, 0.01, 0.001) for _ in range(6)]
    assert result.history.fold.tolist()[:6] == [0, 1, 2, 0, 1, 2]


@BOTH
def test_it_is_resumed_to_the_same_bits(options: dict[str, Any]) -> None:
    data, folds = lacking()
    config = FitConfig(**(COMMON | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        expected = run_fit(data, config, Hooks(), folds=folds)
        for stop in (2, 5, 9, 14):
            asked, keeper = iter(range(10_000)), Memory()
            run_fit(data, config, Hooks(should_stop=lambda: next(asked) >= stop, keeper=keeper), folds=folds)  # noqa: B023
            assert_same(run_fit(data, config, Hooks(), folds=folds, saved=keeper.saved), expected)


def test_classes_with_fewer_rows_than_folds_are_told() -> None:
    data = blobs(120, 60)
    y = data.y_train.copy()
    y[np.flatnonzero(y == 2)[3:]] = 0
    with pytest.warns(GpuregWarning, match=r"Classes with fewer training rows than the 5 folds: 2 \(3\)\."):
        gpureg.fit(replace(data, y_train=y), solver="lbfgs", l2=[0.1, 0.01], cv=5, device="cpu")


@pytest.mark.parametrize(
    ("l2", "end"),
    [([1e-4, 1e-6, 1e-8], "largest"), ([30.0, 10.0, 3.0], "smallest"), ([300.0, 0.1, 1e-9], None), ([9.0, 3.0], None),
     ([30.0, 10.0, 0.0], None)],
)  # fmt: skip
@pytest.mark.parametrize("cv", [None, 3])
def test_an_end_of_the_grid_is_told(l2: list[float], end: str | None, cv: int | None) -> None:
    data = blobs(150, 60, spread=4.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GpuregWarning)
        gpureg.fit(data, solver="lbfgs", l2=l2, cv=cv, device="cpu")
    texts = [str(warning.message) for warning in told if "of its grid" in str(warning.message)]
    assert bool(texts) == (end is not None)
    if end is not None:
        assert f"is the {end} of its grid" in texts[0]
