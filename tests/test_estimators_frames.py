"""Data frames of pandas and polars in and out, and arrays of a device: no warning, names kept, nothing moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpureg import LogisticRegression, LogisticRegressionCV

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
KINDS = [LogisticRegression, LogisticRegressionCV]
NAMES = list("abcde")
FRAMES: dict[str, Any] = {
    "pandas": (lambda X: pandas.DataFrame(X, columns=NAMES), pandas.Series),
    "polars": (lambda X: polars.DataFrame(X, schema=NAMES), polars.Series),
}


@pytest.fixture(scope="module")
def wine() -> tuple[Any, Any]:
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X)[:, :5], y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("text", [False, True])
def test_frames_in_and_out(kind: Any, library: str, text: bool, wine: tuple[Any, Any]) -> None:
    """Warnings are errors here."""
    frame, series = FRAMES[library]
    X, y = wine[0], np.array(["a", "b", "c"])[wine[1]] if text else wine[1]
    rows, labels, weight = frame(X), series(y), np.arange(len(y)) % 3 + 1.0
    model = kind().fit(rows, labels, sample_weight=series(weight))
    plain = kind().fit(X, y, sample_weight=weight)
    assert model.feature_names_in_.tolist() == NAMES
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(model, method)(rows), getattr(plain, method)(X))
    assert model.score(rows, labels, sample_weight=series(weight)) == plain.score(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(rows[NAMES[::-1]])
    pipe = make_pipeline(StandardScaler().set_output(transform=library), kind()).fit(rows, labels)
    assert pipe[-1].feature_names_in_.tolist() == NAMES
    assert pipe[:-1].get_feature_names_out().tolist() == NAMES
    chosen = SelectFromModel(kind(), max_features=2).set_output(transform=library).fit(rows, labels)
    assert isinstance(chosen.transform(rows), type(rows))
    assert set(chosen.get_feature_names_out()) < set(NAMES)
    assert cross_val_predict(kind(), rows, labels, cv=3).shape == (len(y),)
    assert CalibratedClassifierCV(kind(), cv=3).fit(rows, labels).predict_proba(rows).shape == (len(y), 3)


TYPES: dict[str, Any] = {
    "categories": lambda X, y: (FRAMES["pandas"][0](X), pandas.Series(list("abc"))[y].astype("category")),
    "strings": lambda X, y: (FRAMES["pandas"][0](X), pandas.Series(list("abc"))[y].astype("string")),
    "numbers that may be missing": lambda X, y: (
        FRAMES["pandas"][0](X).astype("Float64"),
        pandas.Series(y, dtype="Int64"),
    ),
    "truth values": lambda X, y: (FRAMES["pandas"][0](X).assign(a=X[:, 0] > 0), pandas.Series(y > 0)),
    "pyarrow's": lambda X, y: (
        FRAMES["pandas"][0](X).convert_dtypes(dtype_backend="pyarrow"),
        pandas.Series(list("abc"))[y].convert_dtypes(dtype_backend="pyarrow"),
    ),
    "numbers for names": lambda X, y: (pandas.DataFrame(X), pandas.Series(y)),
    "polars categories": lambda X, y: (
        FRAMES["polars"][0](X),
        polars.Series(np.array(list("abc"))[y], dtype=polars.Categorical),
    ),
    "polars truth values": lambda X, y: (
        FRAMES["polars"][0](X).with_columns(polars.col("a") > 0),
        polars.Series(y > 0),
    ),
    "polars float32": lambda X, y: (FRAMES["polars"][0](X.astype(np.float32)), polars.Series(y)),
}


@pytest.mark.parametrize("types", TYPES)
def test_columns_and_labels_of_any_type_are_read_as_scikit_learn_reads_them(types: str, wine: tuple[Any, Any]) -> None:
    rows, labels = TYPES[types](*wine)
    mine = LogisticRegression().fit(rows, labels)
    theirs = TheirRegression(solver="newton-cholesky", tol=1e-10).fit(rows, labels)
    assert mine.classes_.dtype == theirs.classes_.dtype
    assert mine.classes_.tolist() == theirs.classes_.tolist()
    assert hasattr(mine, "feature_names_in_") == hasattr(theirs, "feature_names_in_")
    np.testing.assert_allclose(mine.predict_proba(rows), theirs.predict_proba(rows), atol=1e-5)
    np.testing.assert_array_equal(mine.predict(rows), theirs.predict(rows))
    several = LogisticRegressionCV(Cs=2, cv=3).fit(rows, labels)
    assert several.classes_.tolist() == theirs.classes_.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("legacy", [False, True])
def test_attributes_stay_on_the_device_of_the_rows(kind: Any, legacy: bool, wine: tuple[Any, Any]) -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    rows, labels = (strict.asarray(value, device=device) for value in wine)
    options = {} if kind is LogisticRegression else {"use_legacy_attributes": legacy, "Cs": 3}
    model = kind(**options).fit(rows, labels)
    arrays = [value for name, value in vars(model).items() if name.endswith("_") and hasattr(value, "shape")]
    arrays += [value for found in vars(model).values() if isinstance(found, dict) for value in found.values()]
    assert len(arrays) > 3
    assert all(value.device == device for value in arrays)
    for method in ("predict", "predict_proba", "decision_function"):
        assert getattr(model, method)(rows).device == device


def test_frames_and_groups_are_routed(wine: tuple[Any, Any]) -> None:
    """Weights and groups of polars, to a splitter that asks for them and a scorer that does not."""
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import GroupKFold

    X, y = wine
    groups, weight = np.arange(len(y)) % 7, np.arange(len(y)) % 3 + 1.0
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=False)
        cv = GroupKFold(4).set_split_request(groups=True)
        model = LogisticRegressionCV(Cs=2, cv=cv, scoring=scorer).set_fit_request(sample_weight=True)
        model.fit(
            polars.DataFrame(X, schema=NAMES), y, sample_weight=polars.Series(weight), groups=polars.Series(groups)
        )
    folds = list(GroupKFold(4).split(X, y, groups))
    plain = LogisticRegressionCV(Cs=2, cv=folds).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(model.coefs_paths_, plain.coefs_paths_)
    assert np.abs(model.scores_ - plain.scores_).max() > 1e-6  # those are weighted
