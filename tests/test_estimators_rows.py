"""Which rows the estimators learn from and score: splits in every form, rows of weight 0, frames, metadata routing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegressionCV as TheirCV
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, PredefinedSplit, cross_val_score
from sklearn.preprocessing import StandardScaler

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.errors import UsageError
from gpureg.estimators.splits import read_splits, row_numbers

pandas = pytest.importorskip("pandas")
N = 120
NUMBERS = np.arange(N)


@pytest.fixture(scope="module")
def wine() -> tuple[Any, Any]:
    X, y = load_wine(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))[:N]
    return StandardScaler().fit_transform(X)[order], y[order]


def scores(X: Any, y: Any, cv: Any, **options: Any) -> Any:
    model = LogisticRegressionCV(Cs=[0.01, 1, 100], cv=cv, **options).fit(X, y)
    return model.scores_, model.C_, model.coef_


FORMS: dict[str, Any] = {
    "a mask": lambda rows: np.isin(NUMBERS, rows),
    "a list of booleans": lambda rows: np.isin(NUMBERS, rows).tolist(),
    "a series of booleans": lambda rows: pandas.Series(np.isin(NUMBERS, rows)),
    "from the end": lambda rows: rows - N,
    "some from the end": lambda rows: np.where(rows % 2, rows, rows - N),
    "a list": lambda rows: rows.tolist(),
    "a tuple": lambda rows: tuple(rows.tolist()),
    "a range": lambda rows: range(rows[0], rows[-1] + 1),
    "a slice": lambda rows: slice(int(rows[0]), int(rows[-1]) + 1),
    "an index": pandas.Index,
    "a series": lambda rows: pandas.Series(rows, index=rows + 7),
    "small numbers": lambda rows: rows.astype(np.uint8),
    "a tensor": torch.from_numpy,
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_may_be_named_in_any_way(form: str, wine: tuple[Any, Any]) -> None:
    whole = [(NUMBERS[:60], NUMBERS[60:]), (NUMBERS[60:], NUMBERS[:60])]
    expected = scores(*wine, whole)
    split = FORMS[form]
    for splits in ([(split(a), split(b)) for a, b in whole], ((split(a), split(b)) for a, b in whole)):
        for mine, theirs in zip(scores(*wine, splits), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (NUMBERS + 1, "name row 120; expected whole numbers from -120 to 119"),
        (np.array([0, -121]), "name row -121"),
        (np.array([2**63], np.uint64), "name row 9223372036854775808"),
        (np.ones(N + 1, bool), "a mask of 121 booleans; expected .* a mask of 120"),
        (np.zeros(N, bool), "empty; expected at least one"),
        ([], "empty; expected at least one"),
        (slice(0, 0), "empty"),
        (np.array([0.0, 1.0]), "expected whole numbers"),
        (["0", "1"], "expected whole numbers"),
        (NUMBERS[:, None], "expected whole numbers"),
        (NUMBERS.astype(object), "expected whole numbers"),
        ({0, 1}, "expected whole numbers"),
        (None, "are None; expected"),
        (5, "are 5; expected"),
        ("rows", "are 'rows'; expected"),
    ],
)
def test_what_does_not_name_rows_is_refused(rows: Any, told: str, wine: tuple[Any, Any]) -> None:
    for split in ((rows, NUMBERS), (NUMBERS, rows)):
        with pytest.raises(UsageError, match=f"cv: fold 0's .* rows .*{told}"):
            LogisticRegressionCV(cv=[split]).fit(*wine)


def test_splits_that_are_no_pairs_or_none() -> None:
    for splits in ([NUMBERS], [(NUMBERS, NUMBERS, NUMBERS)], [None]):
        with pytest.raises(UsageError, match="expected a pair"):
            read_splits(splits, N)
    with pytest.raises(UsageError, match="no folds"):
        read_splits([], N)
    np.testing.assert_array_equal(row_numbers([3, 3, -1], 5, "rows"), [3, 3, 4])  # a row may come twice


@pytest.mark.parametrize("text", [False, True])
def test_a_frame_s_names_make_no_noise(text: bool, wine: tuple[Any, Any]) -> None:
    """Warnings are errors here."""
    X, y = wine
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    labels = pandas.Series(np.array(["a", "b", "c"])[y]) if text else pandas.Series(y)
    model = LogisticRegressionCV(Cs=3, cv=3).fit(frame, labels)
    plain = LogisticRegressionCV(Cs=3, cv=3).fit(X, np.asarray(labels))
    np.testing.assert_array_equal(model.scores_, plain.scores_)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    assert model.score(frame, labels) == plain.score(X, np.asarray(labels))
    with pytest.raises(ValueError, match="feature names"):
        model.score(frame[frame.columns[::-1]], labels)


def test_a_row_of_weight_0_may_hold_anything() -> None:
    random = np.random.RandomState(0)
    X = random.randn(200, 4)
    y = (X[:, 0] + random.randn(200) > 0).astype(int)
    weight = random.randint(1, 4, 200).astype(float)
    for far in (1e18, -1e300):
        more = np.r_[X, np.full((3, 4), far)]
        labels, weights = np.r_[y, 0, 1, 1], np.r_[weight, 0.0, 0.0, 0.0]
        for given in (weight, np.ones(200)):
            own = np.r_[given, 0.0, 0.0, 0.0]
            one = LogisticRegression().fit(more, labels, sample_weight=own)
            two = LogisticRegression().fit(X, y, sample_weight=given)
            np.testing.assert_array_equal(one.coef_, two.coef_)
            np.testing.assert_array_equal(one.intercept_, two.intercept_)
        splits = [(np.flatnonzero(np.arange(200) % 4 != k), np.arange(k, 200, 4)) for k in range(4)]
        wider = [(np.r_[train, 200, 201], np.r_[test, 202]) for train, test in splits]
        one = LogisticRegressionCV(Cs=3, cv=wider).fit(more, labels, sample_weight=weights)
        two = LogisticRegressionCV(Cs=3, cv=splits).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(one.scores_, two.scores_)
        np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize(("rows", "features", "C"), [(120, 240, 100.0), (300, 10, 1.0), (60, 3, 1e4), (150, 40, 0.1)])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # 1e-18 nats are below rounding
@pytest.mark.parametrize("tol", [1e-6, 1e-9])
def test_weights_are_repeated_rows(rows: int, features: int, C: float, classes: int, tol: float) -> None:
    random = np.random.RandomState(1)
    y = random.randint(0, classes, rows)
    X = random.randn(rows, features) + 0.5 * random.randn(classes, features)[y] + 3.0
    weight = random.randint(0, 4, rows)
    many = LogisticRegression(C=C, tol=tol).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    one = LogisticRegression(C=C, tol=tol).fit(X, y, sample_weight=weight)
    apart = np.abs(one.predict_proba(X) - many.predict_proba(X)).max()
    assert apart < (1e-9 if tol == 1e-9 else 1e-5)


@pytest.fixture
def routing() -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_a_scorer_gets_the_weights_that_it_asks_for(routing: None) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    weight = np.random.RandomState(2).rand(len(y)) * 5
    found = {}
    for asked in (True, False):
        options = {"Cs": [0.001, 1.0], "cv": KFold(3), "scoring": get_scorer("accuracy")}
        options["scoring"] = options["scoring"].set_score_request(sample_weight=asked)
        mine = LogisticRegressionCV(**options).set_fit_request(sample_weight=True).fit(X, y, sample_weight=weight)
        theirs = TheirCV(solver="newton-cholesky", tol=1e-8, l1_ratios=(0.0,), use_legacy_attributes=False, **options)
        theirs = theirs.set_fit_request(sample_weight=True).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(mine.scores_, theirs.scores_, atol=1e-12)
        found[asked] = mine.scores_
        expected = theirs.score(X, y, sample_weight=weight) if asked else theirs.score(X, y)
        own = mine.score(X, y, sample_weight=weight) if asked else mine.score(X, y)
        assert own == pytest.approx(expected, abs=1e-12)
    assert np.abs(found[True] - found[False]).max() > 1e-3
    with pytest.raises(ValueError, match="sample_weight"):  # neither asked for nor declined
        LogisticRegressionCV(scoring=get_scorer("accuracy")).fit(X, y, sample_weight=weight)


def test_groups_go_to_the_splitter(routing: None, wine: tuple[Any, Any]) -> None:
    X, y = wine
    groups = np.arange(N) // 10
    cv = GroupKFold(4).set_split_request(groups=True)
    model = LogisticRegressionCV(Cs=[0.1, 1.0], cv=cv).fit(X, y, groups=groups)
    expected = LogisticRegressionCV(Cs=[0.1, 1.0], cv=list(GroupKFold(4).split(X, y, groups))).fit(X, y)
    np.testing.assert_array_equal(model.scores_, expected.scores_)
    nested = LogisticRegressionCV(Cs=[0.1, 1.0], cv=cv)
    outer = LeaveOneGroupOut().set_split_request(groups=True)
    got = cross_val_score(nested, X, y, cv=outer, params={"groups": groups})
    assert got.shape == (12,)


def test_without_routing_other_parameters_are_refused(wine: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="routing"):
        LogisticRegressionCV().fit(*wine, groups=NUMBERS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegressionCV(Cs=2, cv=PredefinedSplit(NUMBERS % 3)).fit(*wine)
