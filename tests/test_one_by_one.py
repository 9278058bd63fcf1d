"""Cross-validation on few samples, one model after the other, and its scores without scikit-learn's checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Sklearn
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.backend import numpy_backend
from gpureg.estimators import one_by_one, optimum
from gpureg.estimators.alone import Alone, Reached
from gpureg.estimators.one_by_one import Path, fit_path, is_worth_it
from gpureg.losses import Logistic, Softmax

LEAST = one_by_one.LEAST_WORK
BATCH = "gpureg.estimators.one_by_one.MOST_WORK"  # 0: everything goes in a batch


@pytest.fixture(autouse=True)
def however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least samples, for which a batch is as fast, go one by one, too."""
    monkeypatch.setattr(one_by_one, "LEAST_WORK", 0)


def samples(n: int, F: int, classes: int, *, spread: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    return random.normal(size=(n, F)) + spread * random.normal(size=(classes, F))[y] + 0.3, y


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighting", ["none", "weights", "balanced"])
@pytest.mark.parametrize(("n", "F", "classes"), [(90, 4, 2), (90, 4, 3), (60, 300, 2), (60, 300, 3), (200, 40, 5)])
def test_the_models_are_those_of_a_batch(
    n: int, F: int, classes: int, weighting: str, intercept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within its tolerance: for the refits 1e-12 nats, and 1e-10 for those of the folds."""
    X, y = samples(n, F, classes)
    weight = np.random.default_rng(1).integers(0, 3, n).astype(float) if weighting == "weights" else None
    options: dict[str, Any] = {"Cs": 5, "cv": 3, "fit_intercept": intercept}
    options |= {"class_weight": "balanced"} if weighting == "balanced" else {}
    one = LogisticRegressionCV(**options).fit(X, y, weight)
    monkeypatch.setattr(BATCH, 0)
    batch = LogisticRegressionCV(**options).fit(X, y, weight)
    assert one.C_ == batch.C_
    np.testing.assert_allclose(one.scores_, batch.scores_, rtol=1e-3, atol=1e-4)
    assert np.abs(one.predict_proba(X) - batch.predict_proba(X)).max() < 1e-5
    assert one.n_iter_.shape == batch.n_iter_.shape
    assert (one.n_iter_ >= 1).all()


def test_each_model_is_at_its_optimum() -> None:
    X, y = samples(150, 20, 3)
    folds = list(StratifiedKFold(4).split(X, y))
    model = LogisticRegressionCV(Cs=[1e-3, 0.1, 10.0], cv=folds).fit(X, y)
    for fold, (train, _) in enumerate(folds):
        for place, C in enumerate(model.Cs_):
            right = Sklearn(C=C, tol=1e-10, max_iter=10000).fit(X[train], y[train])
            W = model.coefs_paths_[fold, 0, place]
            np.testing.assert_allclose(W[:, :-1], right.coef_, atol=2e-4 * max(1.0, np.abs(right.coef_).max()))


@pytest.mark.parametrize("Cs", [[10.0, 0.01, 1.0], [1.0, 1.0, 1.0], [1e-4, 1.0, 1.0001, 1e4], [1.0], [1e-300, 1.0]])
def test_values_in_any_order(Cs: list[float]) -> None:
    """Equal ones, neighbours and far ones: a line through two neighbours leads nowhere near a far one."""
    X, y = samples(120, 10, 2)
    model = LogisticRegressionCV(Cs=Cs, cv=3).fit(X, y)
    assert model.Cs_.tolist() == Cs
    for place, C in enumerate(Cs):
        alone = LogisticRegressionCV(Cs=[C], cv=3).fit(X, y)
        np.testing.assert_allclose(model.scores_[:, 0, place], alone.scores_[:, 0, 0], rtol=1e-4, atol=1e-6)


def test_a_fold_without_a_class_and_rows_without_weight() -> None:
    X, y = samples(60, 5, 3)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    weight = np.ones(60)
    weight[::7] = 0.0
    with pytest.warns(match="Training rows of some classes are missing"):
        model = LogisticRegressionCV(Cs=3, cv=KFold(3)).fit(X, y, weight)
    assert np.isfinite(model.scores_).all()


@pytest.mark.parametrize("loss", [Logistic(), Softmax()])
def test_models_of_a_path_are_near_and_few_iterations_apart(loss: Any) -> None:
    """From the last two it takes fewer than from 0."""
    X, y = samples(300, 60, 2 if loss.binary else 4)
    task = Alone(X, y, 2 if loss.binary else 4, loss, None, 1.0, X.mean(axis=0), None, 1e-12, 1000)
    Cs = np.logspace(-4, 4, 17)
    together = fit_path(numpy_backend("float64"), Path(task, Cs))
    single = [fit_path(numpy_backend("float64"), Path(task, Cs[place : place + 1]))[0] for place in range(17)]
    assert all(found.near and found.bound <= 1e-12 for found in together)
    assert sum(found.steps for found in together) < 0.8 * sum(found.steps for found in single)


def test_what_ends_short_goes_on_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = samples(120, 10, 3)
    right = LogisticRegressionCV(Cs=4, cv=3).fit(X, y)
    own = one_by_one.fit_path

    def short(*given: Any) -> list[Reached]:
        found = own(*given)
        found[1] = Reached(0.0 * found[1].weights, 3, np.inf, near=False)
        return found[:3]  # and the last has no finite numbers

    monkeypatch.setattr(one_by_one, "fit_path", short)
    model = LogisticRegressionCV(Cs=4, cv=3).fit(X, y)
    np.testing.assert_allclose(model.scores_, right.scores_, rtol=1e-4)
    assert model.C_ == right.C_


def test_threads_change_no_bit_and_end_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = samples(300, 500, 3)
    right = LogisticRegressionCV(Cs=3, cv=5).fit(X, y)
    monkeypatch.setattr(one_by_one, "WORTH_THREADS", 1)
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            model = LogisticRegressionCV(Cs=3, cv=5).fit(X, y)
        np.testing.assert_array_equal(model.coefs_paths_, right.coefs_paths_)
        np.testing.assert_array_equal(model.coef_, right.coef_)
    begun: list[bool] = []

    def failing(*given: Any) -> Any:
        begun.append(True)
        raise MemoryError("no memory")

    monkeypatch.setattr(one_by_one.Way, "of", failing)
    with pytest.raises(MemoryError):
        LogisticRegressionCV(Cs=3, cv=50).fit(X, y)
    assert 1 <= len(begun) <= 2  # of 51


def test_iterations_that_do_not_suffice_are_said() -> None:
    X, y = samples(300, 40, 4)
    with pytest.warns(ConvergenceWarning, match=r"of 16 model\(s\)|of \d+ model\(s\)"):
        model = LogisticRegressionCV(Cs=4, cv=3, max_iter=2).fit(X, y)
    assert model.n_iter_.max() == 2


def test_no_penalty_and_many_samples_or_few_go_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_by_one, "LEAST_WORK", LEAST)
    backend = numpy_backend("float64")
    few, wide = (100, 4), (1000, 100)
    assert not is_worth_it(backend, 1e-12, np.array([1.0]), few, 1, 6)
    assert is_worth_it(backend, 1e-12, np.array([1e-4, 1e4]), wide, 1, 6)
    assert not is_worth_it(
        backend, 1e-12, np.array([1e-4, 1e4]), wide, 1, 100
    )  # folds, of which a batch makes one product
    assert not is_worth_it(backend, 1e-12, np.array([1e-4, np.inf]), wide, 1, 6)
    assert not is_worth_it(backend, 1e-12, np.array([1e-4, 1e20]), wide, 1, 6)
    assert not is_worth_it(backend, 1e-12, np.array([1.0]), (100_000, 100), 1, 6)
    assert not is_worth_it(backend, 1e-12, np.array([1.0]), (50_000, 4), 3, 6)
    assert not is_worth_it(numpy_backend("float32"), 1e-12, np.array([1.0]), (100, 100), 1, 6)


def test_the_same_bits_again() -> None:
    X, y = samples(200, 30, 3)
    first, again = (LogisticRegressionCV(Cs=5, cv=4).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.coefs_paths_, again.coefs_paths_)
    np.testing.assert_array_equal(first.scores_, again.scores_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy", None])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_scores_are_those_of_scikit_learns_scorer(
    spread: float, classes: int, weighted: bool, scoring: str | None, dtype: Any
) -> None:
    """Also of probabilities of 0, and with text as labels."""
    X, number = samples(90, 6, classes, spread=spread)
    X = X.astype(dtype)
    X[5] *= -40.0  # on the wrong side, by far
    y = np.array(["b", "a", "c"])[number]
    weight = np.random.default_rng(1).integers(0, 3, 90) + 0.5 if weighted else None
    model = LogisticRegressionCV(Cs=3, cv=3, scoring=scoring).fit(X, y, weight)
    scorer = get_scorer(scoring or "accuracy")
    told = {"labels": model.classes_} if scoring == "neg_log_loss" else {}
    theirs: Callable[..., float] = make_scorer(
        scorer._score_func, greater_is_better=scorer._sign == 1, response_method=scorer._response_method, **told
    )
    for fold, (train, test) in enumerate(StratifiedKFold(3).split(X, y)):
        own = None if weight is None else weight[train]
        for place, C in enumerate(model.Cs_):
            fitted = LogisticRegression(C=C).fit(X[train], y[train], own)
            W = model.coefs_paths_[fold, 0, place]
            fitted.coef_, fitted.intercept_ = W[:, :-1].astype(np.float64), W[:, -1].astype(np.float64)
            given = {} if weight is None else {"sample_weight": weight[test]}
            right = theirs(fitted, X[test].astype(np.float64), y[test], **given)
            found = model.scores_[fold, 0, place]
            assert found == pytest.approx(right, rel=1e-12 if dtype is np.float64 else 1e-3, abs=1e-12)


def test_a_held_out_row_without_a_probability_is_said() -> None:
    """Its largest logit is infinite; no training row is that large."""
    y = np.arange(60) % 3
    X = 1e-3 * (y + np.random.default_rng(0).normal(size=60))[:, None]
    X[-1] = 1e308
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 59), np.arange(30))]
    with pytest.raises(ValueError, match="gives a held-out row no probabilities"):
        LogisticRegressionCV(Cs=[1e8], cv=folds, refit=False).fit(X, y)


def test_few_samples_in_float32_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[bool] = []
    own = optimum.one_by_one.fit_path
    monkeypatch.setattr(optimum.one_by_one, "fit_path", lambda *given: gone.append(True) or own(*given))
    X, y = samples(400, 100, 2)
    model = LogisticRegressionCV(Cs=10, cv=5).fit(X.astype(np.float32), y)
    assert len(gone) == 6
    assert model.coef_.dtype == np.float32
