"""`--refit all`: the chosen model fitted again to training and validation rows, at the same C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, same_run, strict_json, write_npz
from resuming import Memory, assert_same
from small_problems import blobs

import gpureg
from gpureg.config import FitConfig
from gpureg.data import Dataset, class_weights
from gpureg.errors import UsageError
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.refit import all_rows
from gpureg.fitting.results import FitResult

pytestmark = pytest.mark.filterwarnings("ignore:.* models predict worse than a constant:gpureg.errors.GpuregWarning")
GRID = (0.3, 0.03, 3e-3, 3e-4)
LBFGS: dict[str, Any] = {"solver": "lbfgs", "l2": GRID, "dtype": "float64", "device": "cpu", "tol": 1e-10}
SGD: dict[str, Any] = {"solver": "sgd", "l2": GRID, "device": "cpu", "epochs": 6, "batch_size": 16, "lr": 0.1}
SOLVERS = {"lbfgs": LBFGS, "sgd": SGD}


def problem(task: str = "softmax", *, weights: str = "none") -> Dataset:
    """Validation rows of another scale and another mixture of classes than the training rows."""
    data = blobs(150, 70, classes=2 if task == "logistic" else 3, spread=2.0)
    data = replace(data, X_val=1.5 * data.X_val + 0.5, y_val=np.where(np.arange(70) < 30, 0, data.y_val))
    random = np.random.default_rng(0)
    if weights in ("both", "train"):
        data = replace(data, sample_weight=random.uniform(0.2, 3.0, 150))
    if weights in ("both", "val"):
        data = replace(data, val_weight=random.uniform(0.2, 3.0, 70))
    return data


def sum_of_weights(data: Dataset, class_weight: str | None) -> float:
    w = np.ones(len(data.y_train)) if data.sample_weight is None else data.sample_weight
    return float((w * class_weights(class_weight, data.y_train, len(data.classes), w)[data.y_train]).sum())


@pytest.mark.parametrize("scale", ["none", "standard"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("weights", ["none", "both", "train", "val"])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_it_is_the_fit_of_all_rows_at_the_same_c(task: str, weights: str, class_weight: str | None, scale: str) -> None:
    data = problem(task, weights=weights)
    options = LBFGS | {"task": task, "class_weight": class_weight, "scale": scale}
    plain, result = gpureg.fit(data, **options), gpureg.fit(data, refit="all", **options)
    whole = all_rows(data)
    assert (len(whole.y_train), len(whole.y_val)) == (220, 0)
    assert plain.selected is not None
    chosen = plain.models[plain.selected].l2
    S, S_all = sum_of_weights(data, class_weight), sum_of_weights(whole, class_weight)
    alone = gpureg.fit(whole, **(options | {"l2": chosen * S / S_all}))
    np.testing.assert_allclose(result.model.coef, alone.model.coef, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result.model.intercept, alone.model.intercept, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(result.model.offset, alone.model.offset)
    np.testing.assert_array_equal(result.model.scale, alone.model.scale)
    last = result.models[-1]
    assert last.l2 == pytest.approx(alone.models[0].l2, rel=1e-14)
    assert last.train_loss == pytest.approx(alone.models[0].train_loss, rel=1e-9)
    assert (result.model.total_weight, result.model.refit_of) == (pytest.approx(S_all), chosen)
    assert 1 / (2 * last.l2 * S_all) == pytest.approx(result.C(chosen) or 0.0)  # the same C
    assert result.chosen_l2 == plain.chosen_l2 == chosen


def check_entry(result: FitResult, without: FitResult) -> None:
    """A further entry, the chosen one, which the model file holds alone."""
    assert repr(result.models[:-1]) == repr(without.models)
    last = result.models[-1]
    assert (last.fold, last.seed, last.val_loss, last.val_accuracy) == (None, None, None, None)
    assert last.train_loss is not None
    assert last.train_accuracy is not None
    assert result.selected == len(result.models) - 1
    assert result.model.coef.shape[0] == 1
    assert result.model.l2.tolist() == [last.l2]
    assert (result.model.selected, result.cv) == (0, without.cv)
    assert result.history.l2.tolist() == [model.l2 for model in result.models]


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("solver", SOLVERS)
def test_it_is_a_further_entry_and_the_chosen_one(solver: str, validated: bool, cv: int | None) -> None:
    data = problem()
    if not validated:
        if cv is None:
            return
        data = replace(data, X_val=data.X_val[:0], y_val=data.y_val[:0])
    options = SOLVERS[solver] | {"cv": cv}
    without, result = gpureg.fit(data, **options), gpureg.fit(data, refit="all", **options)
    check_entry(result, without)
    assert without.selected is not None
    last, chosen = result.models[-1], without.models[without.selected]
    ratio = (220 if validated else 150) / 150
    assert last.l2 == pytest.approx(chosen.l2 / ratio)
    if solver == "sgd":
        assert (last.stop_reason, last.steps) == ("refit_steps", round(chosen.steps * ratio))
        assert np.isfinite(result.history.step_loss[:, -1]).sum() == last.steps
    else:
        assert last.stop_reason == "converged"
        assert last.certificate is not None
        assert (last.certificate["gap_bound"] or 0.0) <= 1e-10


def test_with_minibatches_it_is_as_many_passes_over_all_rows() -> None:
    """The fit of all rows, stopped at those steps: with whole epochs it is that of the same number of epochs."""
    data = blobs(160, 80, spread=2.0)
    options = SGD | {"l2": 0.01, "patience": 0, "scale": "none", "dtype": "float64"}
    result = gpureg.fit(data, refit="all", **options)
    assert result.models[0].steps == 60
    assert result.models[1].steps == 90
    alone = gpureg.fit(all_rows(data), **(options | {"l2": result.models[1].l2}))
    assert alone.models[0].steps == 90
    np.testing.assert_allclose(result.model.coef, alone.model.coef, rtol=1e-12)


@pytest.mark.parametrize("score", ["loss", "roc-auc"])
@pytest.mark.parametrize("cv", [None, 2])
def test_its_score_is_that_by_which_it_was_chosen(score: str, cv: int | None) -> None:
    result = gpureg.fit(problem(), cv=cv, score=score, refit="all", **LBFGS)
    rows = {row.l2: row.mean for row in result.cv or ()}
    expected = (
        rows.get(result.chosen_l2 or 0.0)
        or result.history.score[:-1][[m.l2 for m in result.models[:-1]].index(result.chosen_l2 or 0.0)]
    )
    assert result.model.scores is not None
    assert (result.model.scores.tolist(), result.model.scored_by) == ([expected], score)


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("solver", SOLVERS)
def test_interrupted_anywhere_and_resumed_to_the_same_bits(solver: str, cv: int | None) -> None:
    data = problem(weights="both")
    config = FitConfig(cv=cv, refit="all", class_weight="balanced", **SOLVERS[solver])
    asked: list[int] = []
    expected = run_fit(data, config, Hooks(should_stop=lambda: bool(asked.append(0))))
    last = expected.models[-1]
    assert last.stop_reason in ("converged", "refit_steps")
    stages = set()
    for boundary in range(len(asked)):
        keeper, left = Memory(), iter([False] * boundary)
        part = run_fit(data, config, Hooks(should_stop=lambda: next(left, True), keeper=keeper))  # noqa: B023
        assert "interrupted" in {model.stop_reason for model in part.models}
        stages.add(len(keeper.saved.stages))
        assert_same(run_fit(data, config, Hooks(), saved=keeper.saved), expected)
    assert max(stages) == (2 if cv and solver == "sgd" else 1)  # the last refit was among what was interrupted


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_the_file_is_used_by_every_command(solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "data.npz", rows=200, classes=3)
    more = ("--epochs", "3", "--batch-size", "16") if solver == "sgd" else ()
    options = ("--dataset", data, "--solver", solver, *more, "--lambdas", "0.3,0.03,0.003", "--score", "accuracy")
    done = invoke("sweep-lambda", *options, "--refit", "all", "--test", data, "--bootstrap", "20", "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert "fitted again to all 200 training and validation rows at that C" in done.stdout
    run = gpureg.load_run("run")
    chosen = run.model.refit_of
    assert f"chosen by validation accuracy: λ = {chosen:.6g}" in done.stdout
    X, y = (np.load(data)[name] for name in ("X", "y"))
    assert run.result["test"]["accuracy"] == run.model.score(X, y)
    evaluated = strict_json(invoke("evaluate", "run", data, "--json").stdout)
    assert evaluated["accuracy"] == run.result["test"]["accuracy"]
    assert invoke("predict", "run", data, "--out", "labels.csv").exit_code == 0
    assert invoke("export", "run", "--csv", "tables", "--card", "card.md").exit_code == 0
    card = Path("card.md").read_text(encoding="utf-8")
    assert "It was chosen among 3 λ by the validation rows: the best accuracy." in card
    assert f"The chosen λ was {chosen:.6g}; the model was then fitted again" in card
    assert invoke("plot", "run").exit_code == 0
    again = invoke("sweep-lambda", "--config", "run/config.toml", "--out", "again", "--quiet")
    assert again.exit_code == 0, again.stderr
    same_run(Path("run"), Path("again"))


@pytest.mark.parametrize("cv", [None, 2])
def test_the_figures_of_the_path_show_the_grid_alone(cv: int | None, tmp_path: Path) -> None:
    from gpureg.figures.choice import default_figures, draw

    gpureg.fit(problem(), refit="all", cv=cv, score="balanced-accuracy", **LBFGS).save(tmp_path / "run")
    run = gpureg.load_run(tmp_path / "run")
    for name in default_figures([run]):
        draw(name, [run])
    for name in ("path", "path-accuracy", "path-score", "norm"):
        (axes,) = draw(name, [run]).axes
        drawn = axes.containers[0][0] if axes.containers else axes.lines[0]
        assert sorted(drawn.get_xdata()) == sorted(GRID)
        if name != "norm":
            assert f"λ = {run.model.refit_of:.3g}" in " ".join(str(line.get_label()) for line in axes.lines)


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing chooses": (("--refit", "all", "--val-size", "0"), "--refit all fits the chosen model again, but nothing"),
    "no word for it": (("--refit", "some"), "is not one of 'train', 'all'"),
    "keep best": (("--refit", "all", "--keep", "best"), "Give --keep last or --refit train"),
    "a score": (("--score", "f1"), "is not one of 'loss', 'accuracy', 'balanced-accuracy', 'roc-auc'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_end_with_2_and_one_message(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, words = BAD[case]
    done = invoke("sweep-lambda", "--dataset", write_npz(tmp_path / "data.npz"), *options, "--out", "run")
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"refit": "all", "l2": GRID}, "refit='all' fits the chosen model again"),
        ({"refit": "both"}, "refit is 'both'; expected one of train, all"),
        ({"refit": "all", "solver": "sgd", "keep": "best", "cv": 2}, "Give keep='last' or refit='train'"),
        ({"score": "f1"}, "score is 'f1'; expected one of loss, accuracy, balanced-accuracy, roc-auc"),
    ],
)
def test_bad_options_in_python(options: dict[str, Any], words: str) -> None:
    data = problem()
    with pytest.raises(UsageError, match=words):
        gpureg.fit(replace(data, X_val=data.X_val[:0], y_val=data.y_val[:0]), **options)
