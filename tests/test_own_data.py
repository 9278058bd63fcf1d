"""The defaults for a file or arrays: scikit-learn's C = 1 to the optimum, fits without validation rows, and what a
sweep then chooses by."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, write_flowers, write_npz
from resuming import Memory, assert_same
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import gpureg
from gpureg.config import FitConfig
from gpureg.errors import DataError, GpuregWarning, UsageError
from gpureg.events import EpochEnded, Event
from gpureg.fitting.defaults import settled, total_weight
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.folds import stratified_folds

EXACT: dict[str, Any] = {"dtype": "float64", "tol": 1e-13, "device": "cpu"}
SGD: dict[str, Any] = {"solver": "sgd", "epochs": 4, "batch_size": 20, "lr": 0.2, "dtype": "float64"}


def problem(n: int = 150, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    y[0] = 0
    return random.normal(size=(n, 5)) + 0.8 * random.normal(size=(classes, 5))[y], y


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_without_options_it_is_scikit_learn_s_model(classes: int, weighted: bool, balanced: bool) -> None:
    """λ = 1 / (2 S) is C = 1, and the bias is free; S sums sample x class weights."""
    X, y = problem(classes=classes)
    weight = np.random.default_rng(1).uniform(0.2, 3.0, len(y)) if weighted else None
    task = "logistic" if classes == 2 else "softmax"
    data = gpureg.make_dataset(X, y, task=task, val_size=0, sample_weight=weight)
    result = gpureg.fit(data, task=task, class_weight="balanced" if balanced else None, **EXACT)
    S = result.total_weight
    assert pytest.approx(len(y) if weight is None else weight.sum(), rel=1e-12) == S  # balanced weights keep the sum
    assert result.models[0].l2 == 1 / (2 * S)
    assert result.C(result.models[0].l2) == pytest.approx(1.0, rel=1e-15)
    # the scaling of a weighted fit is the weighted one
    scaler = StandardScaler().fit(X, sample_weight=weight)
    theirs = LogisticRegression(C=1.0, class_weight="balanced" if balanced else None, tol=1e-10, max_iter=5000).fit(
        scaler.transform(X), y, sample_weight=weight
    )
    ours = result.model.predict_proba(X)
    columns = [list(result.model.classes).index(label) for label in range(classes)]
    np.testing.assert_allclose(ours[:, columns], theirs.predict_proba(scaler.transform(X)), atol=2e-6)


def test_a_grid_of_c_is_a_grid_of_lambda() -> None:
    X, y = problem()
    data = gpureg.make_dataset(X, y, task="logistic", val_size=0)
    with pytest.warns(GpuregWarning, match="No λ was chosen"):
        result = gpureg.fit(data, task="logistic", Cs=[0.1, 1, 10], **EXACT)
    assert [model.l2 for model in result.models] == [1 / (2 * C * len(y)) for C in (0.1, 1, 10)]
    assert result.config["l2"] == [model.l2 for model in result.models]
    assert result.config["Cs"] is None
    weighted = gpureg.make_dataset(X, y, task="logistic", val_size=0, sample_weight=np.full(len(y), 2.0))
    assert gpureg.fit(weighted, Cs=3, task="logistic").models[0].l2 == 1 / (2 * 3 * 2 * len(y))


def test_two_classes_of_a_softmax_are_the_binary_model_at_2_c() -> None:
    X, y = problem()
    softmax = gpureg.make_dataset(X, y, val_size=0)
    with pytest.warns(GpuregWarning, match=r"at C equals scikit-learn's binary model at 2 C; task='logistic' fits"):
        ours = gpureg.fit(softmax, Cs=0.5, **EXACT)
    assert sum("binary model" in text for text in ours.warnings) == 1
    logistic = gpureg.fit(gpureg.make_dataset(X, y, task="logistic", val_size=0), task="logistic", Cs=1.0, **EXACT)
    np.testing.assert_allclose(ours.model.predict_proba(X)[:, ::-1], logistic.model.predict_proba(X), atol=1e-6)
    assert not any("binary model" in text for text in gpureg.fit(softmax, l2=0.1).warnings)


def test_the_bias_is_free_to_the_optimum_and_penalised_by_sgd() -> None:
    X, y = problem()
    data = gpureg.make_dataset(X, (y[:, None] | (X > 0.2))[:, 0], val_size=0)
    free = gpureg.fit(data, l2=1.0, **EXACT)
    assert (
        np.abs(gpureg.fit(data, l2=1.0, penalize_bias=True, **EXACT).model.intercept).max()
        < np.abs(free.model.intercept).max()
    )
    share = np.bincount(data.y_train) / len(data.y_train)
    np.testing.assert_allclose(free.model.predict_proba(X).mean(axis=0), share, atol=1e-6)  # what a free bias gives
    assert gpureg.fit(data, **(SGD | {"patience": 0})).config["penalize_bias"] is True


def test_settling_is_done_once() -> None:
    X, y = problem()
    data = gpureg.make_dataset(X, y)
    config = settled(FitConfig(), data)
    assert settled(config, data) is config
    assert (config.solver, config.lambdas) == ("lbfgs", (1 / (2 * total_weight(data, config)),))


# --- validation rows


def test_a_split_is_made_for_a_fit_without_folds_only(tmp_path: Path) -> None:
    X, y = problem(150)
    np.savez(tmp_path / "d.npz", X=X, y=y)
    for data in (gpureg.make_dataset(X, y), gpureg.load_dataset(tmp_path / "d.npz")):
        assert (len(data.y_train), len(data.y_val)) == (120, 30)
        plain, folded = gpureg.fit(data), gpureg.fit(data, l2=[0.1, 0.01], cv=3)
        assert (plain.n_train, plain.n_val) == (120, 30)
        assert (folded.n_train, folded.n_val) == (150, 0)
        given = gpureg.fit(data, l2=[0.1, 0.01], folds=stratified_folds(y.astype(np.int64), 3, 0))
        assert [model.val_loss for model in given.models] == [model.val_loss for model in folded.models]


def test_validation_rows_of_their_own_stay_with_folds(tmp_path: Path) -> None:
    X, y = problem(150)
    np.savez(tmp_path / "d.npz", X=X[:100], y=y[:100], X_val=X[100:], y_val=y[100:])
    sets = (
        gpureg.make_dataset(X[:100], y[:100], X[100:], y[100:]),
        gpureg.load_dataset(tmp_path / "d.npz"),
        gpureg.make_dataset(X, y, val_size=50),
    )
    for data in sets:
        result = gpureg.fit(data, l2=[0.1, 0.01], cv=3)
        assert (result.n_train, result.n_val) == (100, 50)
        assert result.models[-1].val_loss is not None
    digits = gpureg.fit(gpureg.load_dataset("digits"), l2=[0.1, 0.01], cv=2, epochs=1)
    assert (digits.n_train, digits.n_val) == (1438, 359)  # a named set has its part


def test_the_first_rows_with_folds_are_the_first_of_the_file(tmp_path: Path) -> None:
    X, y = problem(150)
    np.savez(tmp_path / "d.npz", X=X, y=y)
    data = gpureg.load_dataset(tmp_path / "d.npz", train_size=90).for_folds()
    np.testing.assert_array_equal(data.X_train, X[:90])


def test_rows_that_were_changed_are_not_read_again(tmp_path: Path) -> None:
    X, y = problem(150)
    data = gpureg.make_dataset(X, y)
    changed = replace(data, X_train=data.X_train + 1)
    assert changed.for_folds() is changed
    assert gpureg.fit(changed, l2=[0.1], cv=3).n_train == 120
    digits = gpureg.load_dataset("digits")
    assert gpureg.fit(replace(digits, X_train=digits.X_train), l2=1.0).solver == "lbfgs"  # arrays now
    path = write_npz(tmp_path / "d.npz")
    loaded = gpureg.load_dataset(path)
    write_npz(path, rows=90)
    with pytest.raises(DataError, match=r"d\.npz has changed since it was loaded\. Load it again"):
        gpureg.fit(loaded, cv=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SGD, r"no validation rows, but early stopping \(patience=10\) needs them. Give patience=0"),
        (SGD | {"patience": 0, "keep": "best"}, "keep='best' takes the weights of the lowest validation loss"),
        (
            SGD | {"keep": "best", "cv": 3},
            "keep='best' .* the refit on arrays has no validation rows. Give keep='last'",
        ),
    ],
)
def test_what_needs_a_validation_set_says_so(options: dict[str, Any], words: str) -> None:
    X, y = problem()
    with pytest.raises(UsageError, match=words):
        gpureg.fit(gpureg.make_dataset(X, y, val_size=0), **options)


@pytest.mark.parametrize("options", [{"solver": "lbfgs"}, SGD | {"patience": 0}])
def test_a_single_fit_without_validation_rows(options: dict[str, Any]) -> None:
    X, y = problem()
    result = gpureg.fit(gpureg.make_dataset(X, y, val_size=0), **options)
    (model,) = result.models
    assert (model.val_loss, model.val_accuracy, result.n_val, result.selected) == (None, None, 0, 0)
    assert model.train_loss is not None
    assert not [text for text in result.warnings if "last epoch" not in text]
    assert np.isnan(result.history.val_loss).all()


# --- the choice


@pytest.mark.parametrize(
    "options", [{"solver": "lbfgs"}, SGD | {"patience": 0}, SGD | {"patience": 0, "lr": [0.1, 0.2]}]
)
def test_without_validation_rows_and_folds_nothing_is_chosen(options: dict[str, Any], tmp_path: Path) -> None:
    X, y = problem()
    data = gpureg.make_dataset(X, y, val_size=0)
    with pytest.warns(GpuregWarning, match=r"No λ was chosen: there are neither .* Give cv=5 or a larger val_size"):
        result = gpureg.fit(data, l2=[0.1, 0.01], **options)
    assert result.selected is None
    run = gpureg.load_run(result.save(tmp_path / "run"))
    assert run.result["selected"] is None
    for model in (result.model, run.model):
        with pytest.raises(UsageError, match=r"None of the \d models was chosen.*Name one, model=0 to model="):
            model.predict(X)
        assert model.predict(X, model=1).shape == (len(X),)


def test_a_refit_without_validation_rows_makes_the_median_number_of_steps() -> None:
    """Of its λ's fold models; it equals the fit of as many steps on all rows."""
    X, y = problem(160, classes=3)
    data = gpureg.make_dataset(X, y, val_size=0)
    options = SGD | {"epochs": 30, "patience": 2, "lr": [0.3, 0.5]}
    result = gpureg.fit(data, l2=[0.05, 0.001], cv=5, **options)
    assert result.selected is not None
    refit = result.models[result.selected]
    mine = [m.steps for m in result.models if (m.l2, m.lr) == (refit.l2, refit.lr) and m.fold is not None]
    assert len(set(mine)) > 2
    assert (refit.steps, refit.stop_reason, refit.fold) == (int(np.median(mine)), "cv_steps", None)
    assert refit.steps % 8 != 0  # in the middle of an epoch, which has 8 steps
    assert (refit.val_loss, refit.val_accuracy, refit.stopped_epoch) == (None, None, None)
    assert refit.train_loss is not None
    alone = gpureg.fit(data, l2=refit.l2, **(options | {"lr": refit.lr, "patience": 0}))
    column = result.selected
    np.testing.assert_allclose(
        result.history.step_loss[: refit.steps, column], alone.history.step_loss[: refit.steps, 0], rtol=1e-12
    )
    assert np.isnan(result.history.step_loss[refit.steps :, column]).all()
    assert (result.config["keep"], result.model.coef.shape[0]) == ("last", 1)


def reached(seen: list[Event], boundary: int) -> bool:
    """Whether as many epochs are over."""
    return sum(isinstance(event, EpochEnded) for event in seen) >= boundary


@pytest.mark.filterwarnings("ignore::gpureg.GpuregWarning")
def test_an_interrupted_refit_without_validation_rows_goes_on_to_the_same_bits() -> None:
    """At every boundary, in the folds and in the refit."""
    X, y = problem(160, classes=3)
    data = gpureg.make_dataset(X, y, val_size=0)
    config = FitConfig(**(SGD | {"epochs": 12, "patience": 2, "lr": (0.5,)}), l2=(0.05, 0.001), cv=5)
    seen: list[Event] = []
    whole = run_fit(data, config, Hooks(seen.append))
    assert whole.models[-1].stop_reason == "cv_steps"
    boundaries = sum(isinstance(event, EpochEnded) for event in seen)
    for boundary in range(1, boundaries):
        keeper, begun = Memory(), []
        hooks = Hooks(begun.append, partial(reached, begun, boundary), keeper)
        run_fit(data, config, hooks)
        assert_same(run_fit(data, config, Hooks(), saved=keeper.saved), whole)


def test_a_refit_with_validation_rows_stops_by_them() -> None:
    X, y = problem(160)
    result = gpureg.fit(gpureg.make_dataset(X, y, val_size=40), l2=[0.05, 0.001], cv=3, **(SGD | {"epochs": 30}))
    assert result.models[-1].stop_reason in ("patience", "max_epochs")
    assert result.models[-1].val_loss is not None


# --- the commands


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_on_a_table_of_your_own(here: Path) -> None:
    write_flowers(here / "flowers.csv")
    done = invoke("train", "--dataset", "flowers.csv", "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"λ = 0\.005\d*, C = 1\n", done.stdout)
    run = gpureg.load_run("run")
    assert (run.result["n_train"], run.result["n_val"], run.result["solver"]) == (96, 24, "lbfgs")
    assert run.result["models"][0]["l2"] == 1 / (2 * 96)
    again = invoke("train", "--config", "run/config.toml", "--out", "again")
    assert again.exit_code == 0, again.stderr
    assert gpureg.load_run("again").config == run.config
    weighted = invoke("train", "--dataset", "flowers.csv", "--weights", "weight", "--val-size", 0, "--out", "weighted")
    assert weighted.exit_code == 0, weighted.stderr
    assert gpureg.load_run("weighted").result["models"][0]["l2"] == 1 / (2 * 180)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [10 * 10 ** (-7 * i / 31) for i in range(32)]),
        (("--batch-size", 30, "--epochs", 1), [2, 0.2, 0.02, 0.002]),
        (("--Cs", "0.01:100:3"), [1 / (2 * C * 96) for C in (0.01, 1, 100)]),
    ],
)
def test_the_grid_of_a_sweep(options: tuple[object, ...], expected: list[float], here: Path) -> None:
    write_flowers(here / "flowers.csv")
    done = invoke("sweep-lambda", "--dataset", "flowers.csv", *options, "--out", "run")
    assert done.exit_code == 0, done.stderr
    run = gpureg.load_run("run")
    assert [model["l2"] for model in run.result["models"]] == pytest.approx(expected, rel=1e-12)
    chosen = run.result["models"][run.result["selected"]]
    assert f"C = {1 / (2 * chosen['l2'] * 96):.6g}" in done.stdout
    again = invoke("sweep-lambda", "--config", "run/config.toml", "--out", "again")
    assert again.exit_code == 0, again.stderr
    assert gpureg.load_run("again").result["models"] == run.result["models"]


def test_a_sweep_without_anything_to_choose_by(here: Path) -> None:
    write_flowers(here / "flowers.csv")
    command = ("sweep-lambda", "--dataset", "flowers.csv", "--val-size", 0, "--lambdas", "1,0.1")
    done = invoke(*command, "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert (
        "warning: No λ was chosen: there are neither validation rows nor folds. Give --cv 5 or a larger" in done.stderr
    )
    assert "chosen by" not in done.stdout
    assert gpureg.load_run("run").result["selected"] is None
    folded = invoke(*command, "--cv", 4, "--out", "folded")
    assert "★ chosen by held-out loss" in folded.stdout
    refused = invoke(*command, "--solver", "sgd")
    assert refused.exit_code == 2
    assert "Give --patience 0 and --keep last, validation rows (--val-size), or --solver lbfgs." in refused.stderr


def test_folds_on_a_file_take_all_rows(here: Path) -> None:
    write_flowers(here / "flowers.csv")
    done = invoke("sweep-lambda", "--dataset", "flowers.csv", "--lambdas", "1,0.1", "--cv", 3, "--out", "run")
    assert done.exit_code == 0, done.stderr
    run = gpureg.load_run("run")
    assert (run.result["n_train"], run.result["n_val"], run.config.get("val_size")) == (120, 0, None)
    refused = invoke("plot", "run", "--figure", "confusion")
    assert refused.exit_code == 2
    assert "run was trained without any" in refused.stderr
    other = invoke(
        "sweep-lambda", "--dataset", "flowers.csv", "--cv", 3, "--val-size", 24, "--Cs", "1:2:2", "--out", "o"
    )
    assert other.exit_code == 0, other.stderr
    assert gpureg.load_run("o").result["n_val"] == 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--Cs", "1:2"), "--Cs is '1:2'; expected LOW:HIGH:COUNT"),
        (("--Cs", f"1:2:{10**30}"), "a count of at most 1,000,000"),
        (("--lambda-grid", "1:2:9999999"), "a count of at most 1,000,000"),
        (("--Cs", "1:2:3", "--lambdas", "1"), "--lambdas and --Cs were both given; give one of them"),
        (("--Cs", "-1:2:3"), "two different finite numbers above 0"),
        (("--val-size", -1), "--val-size is -1; expected a whole number of at least 0"),
    ],
)
def test_bad_usage(options: tuple[object, ...], words: str, here: Path) -> None:
    write_flowers(here / "flowers.csv")
    done = invoke("sweep-lambda", "--dataset", "flowers.csv", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
