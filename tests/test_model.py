"""`LinearModel`: predictions in the data's own units, features by name, models by their λ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_wine
from small_problems import blobs

import gpureg
from gpureg import LinearModel
from gpureg.errors import DataError, UsageError


@pytest.fixture(scope="module")
def wine() -> pd.DataFrame:
    """Thirteen features with names, and three classes in words."""
    frame = load_wine(as_frame=True).frame
    return frame.assign(target=np.array(["barolo", "grignolino", "barbera"])[frame["target"]])


@pytest.fixture(scope="module")
def model(wine: pd.DataFrame) -> LinearModel:
    features = wine.drop(columns="target")
    data = gpureg.make_dataset(features, wine["target"])
    return gpureg.fit(data, solver="lbfgs", l2=[0.1, 0.01], dtype="float64").model


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_predictions_are_those_that_were_measured(task: str) -> None:
    data = blobs(5000, 4500, classes=2 if task == "logistic" else 3)  # more rows than are scaled at once
    result = gpureg.fit(data, task=task, l2=[0.0, 0.1], lr=0.1, epochs=2, dtype="float64")
    for number, measured in enumerate(result.models):
        p = result.model.predict_proba(data.X_val, model=number)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert -np.log(p[np.arange(4500), data.y_val]).mean() == pytest.approx(measured.val_loss, rel=1e-12)
        np.testing.assert_allclose(result.model.predict_log_proba(data.X_val, model=number), np.log(p), atol=1e-12)
        labels = result.model.predict(data.X_val, model=number)
        assert (labels == np.asarray(data.classes)[data.y_val]).mean() == measured.val_accuracy
        found = result.model.evaluate(data.X_val, np.asarray(data.classes)[data.y_val], model=number)
        assert (found.loss, found.accuracy) == (pytest.approx(measured.val_loss, rel=1e-12), measured.val_accuracy)
        assert result.model.score(data.X_val, data.y_val, model=number) == measured.val_accuracy


def test_features_far_from_zero_keep_their_digits_in_float32() -> None:
    data = blobs(300, 100)
    far = gpureg.make_dataset(data.X_train + 1e7, data.y_train, data.X_val + 1e7, data.y_val)
    near, moved = (gpureg.fit(d, lr=0.1, epochs=3, scale="standard") for d in (data, far))
    p, q = near.model.predict_proba(data.X_val), moved.model.predict_proba(far.X_val)
    np.testing.assert_allclose(q, p, atol=1e-5)


@pytest.mark.parametrize("kind", [lambda f: f, pl.from_pandas, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_frames_are_matched_by_name(kind: Any, model: LinearModel, wine: pd.DataFrame) -> None:
    features = wine.drop(columns="target")
    p = model.predict_proba(features.to_numpy())
    mixed = wine[list(wine.columns[::-1])].assign(vineyard="x", when=pd.Timestamp("2020-01-01"))
    np.testing.assert_allclose(model.predict_proba(kind(mixed)), p, rtol=1e-12)
    assert model.score(kind(mixed), wine["target"]) == (model.predict(features.to_numpy()) == wine["target"]).mean()
    lacking = mixed.drop(columns=["ash", "hue"])
    with pytest.raises(UsageError, match="X lacks columns that this model was trained on: ash, hue; it has "):
        model.predict(kind(lacking))
    holes = mixed.copy()
    holes.loc[[7, 9], "ash"] = np.nan
    words = r"X: 2 rows hold NaN or infinite values; the first is row 7 \(counted from 0\), feature 'ash', which is nan"
    with pytest.raises(DataError, match=words):
        model.predict(kind(holes))
    with pytest.raises(DataError, match=r"column 'ash' has type .*; this model was trained on numbers in it"):
        model.predict(kind(mixed.assign(ash="much")))


@pytest.mark.parametrize("dtype", ["int32", "float32", "Int64", "Float64", "boolean", "bool"])
def test_columns_of_any_number_type(dtype: str) -> None:
    frame = pd.DataFrame({"a": np.arange(20) % 2, "b": np.sqrt(np.arange(20.0))})
    fitted = gpureg.fit(gpureg.make_dataset(frame, np.arange(20) % 2), solver="lbfgs", l2=0.1, dtype="float64").model
    np.testing.assert_array_equal(
        fitted.predict_proba(frame.astype({"a": dtype})), fitted.predict_proba(frame.to_numpy())
    )
    if dtype[0] in "IF" or dtype == "boolean":
        holes = frame.astype({"a": dtype})
        holes.loc[3, "a"] = pd.NA
        with pytest.raises(DataError, match="1 row holds NaN or infinite values; the first is row 3"):
            fitted.predict(holes)


def test_a_column_of_lists_is_its_features() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    frame = pd.DataFrame({"e": list(X[:, :2]), "a": X[:, 2]})
    fitted = gpureg.fit(gpureg.make_dataset(frame, np.arange(40) % 2), solver="lbfgs", l2=0.1, dtype="float64").model
    assert fitted.feature_names == ("e[0]", "e[1]", "a")
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(fitted.predict_proba(frame[["a", "e"]]), p, rtol=1e-12)
    spread = pd.DataFrame(X, columns=["e[0]", "e[1]", "a"])
    np.testing.assert_allclose(fitted.predict_proba(spread), p, rtol=1e-12)
    with pytest.raises(DataError, match="columns of lists are shorter"):
        fitted.predict(frame.assign(e=[[0.0]] * 40))
    with pytest.raises(DataError, match="lists of different lengths"):
        fitted.predict(frame.assign(e=[[0.0, 1.0]] * 39 + [[0.0]]))


def test_without_names_frames_are_matched_by_number() -> None:
    data = blobs(200, 50)
    fitted = gpureg.fit(data, epochs=1).model
    frame = pd.DataFrame(data.X_val)
    np.testing.assert_array_equal(fitted.predict_proba(frame), fitted.predict_proba(data.X_val))
    with pytest.raises(UsageError, match=r"X has 7 columns; expected 6, .* knows their number, not their names"):
        fitted.predict(frame.assign(more=1.0))


def test_what_can_t_be_predicted_for_is_refused() -> None:
    fitted = gpureg.fit(blobs(200, 50), epochs=1).model
    with pytest.raises(UsageError, match=r"shape \(5, 4\); expected \(rows, 6\)"):
        fitted.predict(np.zeros((5, 4)))
    rows = np.zeros((40_000, 6))
    rows[[12_345, 30_000], [4, 1]] = np.inf, np.nan
    with pytest.raises(DataError, match=r"2 rows hold .* row 12345 \(counted from 0\), feature 4, which is inf"):
        fitted.predict(rows)
    with pytest.raises(UsageError, match="single value"):
        fitted.predict(3.0)
    with pytest.raises(DataError, match="real numbers"):
        fitted.predict(np.full((2, 6), "a"))


def test_images_in_their_shape() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 4)).astype(np.uint8)
    result = gpureg.fit(gpureg.make_dataset(images, np.arange(60) % 3), epochs=1, batch_size=16)
    assert result.model.image_shape == (6, 4)
    np.testing.assert_array_equal(result.model.predict(images), result.model.predict(images.reshape(60, 24)))


def test_labels_that_the_model_does_not_know_are_refused_with_their_number(
    model: LinearModel, wine: pd.DataFrame
) -> None:
    other = wine["target"].replace("barbera", "barolo chinato")
    with pytest.raises(DataError, match=r"y: 48 of 178 rows have classes .*: 'barolo chinato' \(48\)"):
        model.evaluate(wine, other)


def of_models(**changes: Any) -> LinearModel:
    """Four models of two λ."""
    random = np.random.RandomState(0)
    plain = LinearModel(
        "softmax", (0, 1), random.randn(4, 2, 3), random.randn(4, 2), np.zeros(3), np.ones(3),
        np.array([1.0, 0.1, 1.0, 0.1]),
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("scores", "scored_by", "l2", "expected"),
    [
        (None, "loss", 1.0, 0),
        (None, "loss", 0.1, 1),
        ([0.5, 0.4, 0.3, 0.2], "loss", 1.0, 2),
        ([0.5, 0.4, 0.3, 0.2], "accuracy", 1.0, 0),
        ([0.5, 0.4, 0.5, 0.4], "loss", 0.1, 1),
        ([np.nan, 0.4, 0.5, np.nan], "loss", 1.0, 2),
        ([0.5, 0.4, 0.3, 0.2], "loss", 1.0009, 2),
        ([0.5, 0.4, 0.3, 0.2], "loss", 0.09995, 3),
    ],
)
def test_the_model_of_a_lambda(scores: Any, scored_by: str, l2: float, expected: int) -> None:
    fitted = of_models(scores=None if scores is None else np.array(scores), scored_by=scored_by)
    assert fitted.index_of(l2) == expected


def test_a_lambda_that_is_not_there_is_refused_with_those_that_are() -> None:
    for l2 in (1.002, 0.5, 0.0):
        with pytest.raises(UsageError, match=r"no model within 0\.1% of that λ; it has 1, 0\.1"):
            of_models().index_of(l2)
    assert of_models(l2=np.zeros(4)).index_of(0.0) == 0


def test_a_model_that_diverged_comes_last() -> None:
    fitted = of_models(scores=np.array([0.5, 0.4, 0.3, 0.2]))
    fitted.coef[2] = np.nan
    assert fitted.index_of(1.0) == 0
    with pytest.raises(UsageError, match="diverged"):
        fitted.predict(np.zeros((1, 3)), model=2)


def test_without_a_chosen_model_one_must_be_named() -> None:
    fitted = of_models(selected=None)
    with pytest.raises(
        UsageError, match=r"None of the 4 models was chosen: .*Name one, model=0 to model=3 \(λ = 1, 0\.1\)"
    ):
        fitted.predict(np.zeros((1, 3)))
    assert fitted.predict_proba(np.zeros((1, 3)), model=-1).shape == (1, 2)
    for number in (4, -5, True):
        with pytest.raises(UsageError, match="from 0 to 3"):
            fitted.predict(np.zeros((1, 3)), model=number)


def test_its_repr_is_a_table_of_a_few_lines(model: LinearModel) -> None:
    text = repr(model)
    assert text.splitlines()[0].startswith("LinearModel: softmax, 3 classes (barbera, barolo, grignolino), 13 features")
    assert len(text.splitlines()) == 5
    assert "*" in text
    assert len(text) < 1000
    many = repr(of_models(l2=np.arange(4.0), selected=None))
    assert "*" not in many
    wide = LinearModel(
        "softmax", tuple(range(500)), np.zeros((200, 500, 9)), np.zeros((200, 500)), np.zeros(9), np.ones(9),
        np.arange(200.0), selected=150, feature_names=tuple("abcdefghi"),
    )  # fmt: skip
    assert len(repr(wide)) < 1000
    assert "150" in repr(wide)
    assert "190 more" in repr(wide)


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_a_model_survives_its_run(task: str, tmp_path: Path, wine: pd.DataFrame) -> None:
    frame = wine[wine["target"] != "barbera"] if task == "logistic" else wine
    data = gpureg.make_dataset(frame.drop(columns="target"), frame["target"], task=task)
    result = gpureg.fit(data, task=task, l2=[0.1, 0.01], lr=[0.01, 0.1], epochs=3, batch_size=32)
    result.save(tmp_path / "run")
    again = gpureg.load_run(tmp_path / "run").model
    for name in LinearModel.__dataclass_fields__:
        one, other = getattr(result.model, name), getattr(again, name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, name
    assert again.feature_names == tuple(wine.columns[:-1])
    assert again.total_weight == len(data.y_train)
    np.testing.assert_array_equal(again.predict_proba(wine), result.model.predict_proba(wine))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_to_sklearn_knows_its_c(classes: int, weighted: bool) -> None:
    """scikit-learn fits the same model again, from the C alone."""
    data = blobs(300, 50, classes=classes)
    weights = np.random.default_rng(0).integers(1, 4, 300).astype(float) if weighted else None
    data = replace(data, sample_weight=weights)
    fitted = gpureg.fit(
        data, solver="lbfgs", l2=0.01, dtype="float64", penalize_bias=False, scale="none", tol=1e-14
    ).model
    theirs = fitted.to_sklearn().set_params(tol=1e-10, max_iter=10_000)
    again = theirs.fit(data.X_train, data.y_train, weights)
    np.testing.assert_allclose(again.predict_proba(data.X_val), fitted.predict_proba(data.X_val), atol=1e-6)
