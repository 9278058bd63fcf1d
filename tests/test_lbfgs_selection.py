"""`--solver lbfgs` through the front door: selection as scikit-learn's, results, a resumed or chunked fit's
equality.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import LogisticRegressionCV
from threadpoolctl import threadpool_limits

import gpureg
from gpureg.data import Dataset
from gpureg.fitting.folds import stratified_folds


def whole(name: str) -> Dataset:
    """All samples of a data set as training rows; for two classes the positive one first, as the logistic task has
    it.
    """
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    keep = len(y) - len(y) % 5  # equal folds, so that one C is one λ for all of them
    X, y = X[:keep], y[:keep].astype(np.int64)
    classes = (1, 0) if y.max() == 1 else tuple(range(int(y.max()) + 1))
    y = 1 - y if len(classes) == 2 else y
    return Dataset(name, X, y, X[:0], y[:0], classes)


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_cross_validation_selects_what_scikit_learn_does(name: str) -> None:
    data = whole(name)
    n = len(data.y_train)
    task = "logistic" if len(data.classes) == 2 else "softmax"
    Cs = np.logspace(-4, 4, 9)
    l2 = 1 / (2 * Cs * 0.8 * n)
    fold = stratified_folds(data.y_train, 5, 0)
    result = gpureg.fit(
        data,
        task=task,
        l2=l2.tolist(),
        solver="lbfgs",
        cv=5,
        folds=fold,
        penalize_bias=False,
        scale="none",
        dtype="float64",
        tol=1e-12,
        device="cpu",
    )
    pairs = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(5)]
    labels = np.asarray(data.classes)[data.y_train]
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        other = LogisticRegressionCV(
            Cs=Cs, cv=pairs, scoring="neg_log_loss", solver="newton-cholesky", tol=1e-12, max_iter=500
        ).fit(data.X_train, labels)
    assert result.cv is not None
    assert result.selected is not None
    chosen = result.models[result.selected].l2
    assert chosen == pytest.approx(1 / (2 * float(np.ravel(other.C_)[0]) * 0.8 * n))
    scores = other.scores_
    theirs = (
        -np.asarray(next(iter(scores.values())) if isinstance(scores, dict) else scores).reshape(5, -1).mean(axis=0)
    )
    ours = np.array([row.mean for row in result.cv])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_certificates_are_in_the_result(tmp_path: Path) -> None:
    data = whole("iris")
    with pytest.warns(gpureg.GpuregWarning, match="No λ was chosen"):
        result = gpureg.fit(data, l2=[0.1, 1e-3], solver="lbfgs", penalize_bias=False, device="cpu", dtype="float64")
    result.save(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    for model in stored["models"]:
        assert model["stop_reason"] == "converged"
        assert 0 <= model["certificate"]["gap_bound"] <= 1e-8
        assert model["certificate"]["converged"] is True
        assert model["certificate"]["gradient_norm"] >= 0


@pytest.mark.parametrize("penalize_bias", [True, False])
def test_any_chunking_is_the_same(penalize_bias: bool) -> None:
    data = whole("iris")
    found = [
        gpureg.fit(
            data,
            l2=[0.1, 1e-2, 1e-4],
            solver="lbfgs",
            penalize_bias=penalize_bias,
            cv=3,
            dtype="float64",
            device="cpu",
            memory=memory,
        )
        for memory in (2**30, 2**17)
    ]
    for one, other in zip(found[0].models, found[1].models, strict=True):
        assert one.steps == other.steps
        assert (one.val_loss is None) == (other.val_loss is None)
        assert one.val_loss is None or one.val_loss == pytest.approx(other.val_loss, rel=1e-9)
    np.testing.assert_allclose(found[0].history.objective, found[1].history.objective, rtol=1e-12)


def test_a_fit_that_stops_short_warns() -> None:
    data = whole("iris")
    with pytest.warns(gpureg.GpuregWarning, match="tolerance"):
        result = gpureg.fit(data, l2=1e-5, solver="lbfgs", max_iter=1, device="cpu")
    assert result.models[0].stop_reason == "max_iter"
    assert result.models[0].certificate is not None
    assert result.models[0].certificate["converged"] is False


def test_an_overflow_is_told_with_what_helps() -> None:
    X = np.random.default_rng(0).normal(size=(100, 3)) * 1e200
    data = gpureg.make_dataset(X, (X[:, 0] > 0).astype(int))
    with pytest.warns(gpureg.GpuregWarning, match=r"use scale=.standard.\."):
        result = gpureg.fit(data, solver="lbfgs", scale="none", dtype="float64", l2=0.01)
    assert result.models[0].stop_reason == "diverged"
