"""What λ is chosen by: loss, accuracy, balanced accuracy, ROC AUC, of folds and of a validation set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, strict_json, write_npz
from conftest import BackendFactory
from resuming import Memory, assert_same
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import GpuregWarning, UsageError
from gpureg.fitting.entry import Hooks, fit_on, run_fit
from gpureg.fitting.grid import select_row
from gpureg.fitting.results import CvRow
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.model.scores import scores
from gpureg.solvers.path.patience import points_kept

pytestmark = pytest.mark.filterwarnings("ignore:.* models predict worse than a constant:gpureg.errors.GpuregWarning")
NAMES = ("loss", "accuracy", "balanced-accuracy", "roc-auc")
GRID = (1.0, 0.1, 0.01, 1e-3)
LBFGS: dict[str, Any] = {"solver": "lbfgs", "l2": GRID, "dtype": "float64", "device": "cpu", "tol": 1e-12}
SGD: dict[str, Any] = {
    "solver": "sgd",
    "l2": GRID,
    "dtype": "float64",
    "device": "cpu",
    "epochs": 5,
    "batch_size": 16,
    "lr": 0.1,
}
SOLVERS = {"lbfgs": LBFGS, "sgd": SGD}


def sklearn_score(name: str, y: np.ndarray, p: np.ndarray, predicted: np.ndarray, w: np.ndarray | None) -> float:
    """As scikit-learn has it, for class indices."""
    if name == "loss":
        return float(log_loss(y, p, labels=np.arange(p.shape[1]), sample_weight=w))
    if name == "accuracy":
        return float(accuracy_score(y, predicted, sample_weight=w))
    if name == "balanced-accuracy":
        return float(balanced_accuracy_score(y, predicted, sample_weight=w))
    if p.shape[1] == 2:
        return float(roc_auc_score(y == 0, p[:, 0], sample_weight=w))
    return float(roc_auc_score(y, p, multi_class="ovr", sample_weight=w))


def weighted(data: Dataset) -> Dataset:
    random = np.random.default_rng(1)
    return replace(
        data,
        sample_weight=random.uniform(0.5, 2.0, len(data.y_train)),
        val_weight=random.uniform(0.5, 2.0, len(data.y_val)),
    )


def problem(task: str, *, weights: bool = False) -> Dataset:
    """Overlapping blobs; the later classes are rarer, so that accuracy and balanced accuracy differ."""
    data = blobs(240, 90, classes=2 if task == "logistic" else 4, spread=2.5)
    keep = np.random.default_rng(2).uniform(size=240) < 1 - 0.6 * (data.y_train > 0)
    data = replace(data, X_train=data.X_train[keep], y_train=data.y_train[keep])
    return weighted(data) if weights else data


@pytest.mark.parametrize("rounded", [False, True])  # rounded: many ties
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(("loss", "K"), [(Softmax(), 5), (Softmax(), 2), (Logistic(), 2)])
@pytest.mark.parametrize("name", NAMES[2:])
def test_scores_of_many_models_are_scikit_learns(name: str, loss: Loss, K: int, weights: bool, rounded: bool) -> None:
    random = np.random.default_rng(0)
    y, logits = random.integers(0, K, 150), random.normal(size=(150, 6, loss.columns(K)))
    logits = np.round(logits, 0 if rounded else 9)
    w = random.uniform(0.1, 3.0, 150) if weights else None
    p, predicted = loss.probabilities(np, logits), loss.predict(np, logits)
    expected = [sklearn_score(name, y, p[:, m], predicted[:, m], w) for m in range(6)]
    np.testing.assert_allclose(scores(name, loss, logits, y, w), expected, rtol=1e-13)


def test_a_class_without_a_row_leaves_balanced_accuracy_and_not_the_roc_auc() -> None:
    y, logits = np.array([0, 0, 2, 2]), np.random.default_rng(0).normal(size=(4, 3, 3))
    predicted = logits.argmax(axis=2)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = [balanced_accuracy_score(y, predicted[:, m]) for m in range(3)]
    assert scores("balanced-accuracy", Softmax(), logits, y, None).tolist() == pytest.approx(expected)
    assert np.isnan(scores("roc-auc", Softmax(), logits, y, None)).all()
    logits[0, 1, 0] = np.nan  # a model that diverged has no score
    assert np.isnan(scores("balanced-accuracy", Softmax(), logits, y, None)).tolist() == [False, True, False]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("name", NAMES)
def test_the_score_of_a_validation_set_chooses(name: str, task: str, weights: bool, solver: str) -> None:
    data = problem(task, weights=weights)
    result = gpureg.fit(data, task=task, score=name, **SOLVERS[solver])
    model, found = result.model, []
    for index in range(len(GRID)):
        p, labels = model.predict_proba(data.X_val, index), model.predict(data.X_val, index)
        predicted = np.array([data.classes.index(label) for label in labels.tolist()])
        found.append(sklearn_score(name, data.y_val, p, predicted, data.val_weight))
    np.testing.assert_allclose(result.history.score, found, rtol=1e-9)
    np.testing.assert_array_equal(model.scores, result.history.score)
    assert model.scored_by == name
    best = min(found) if name == "loss" else max(found)
    assert result.selected == next(i for i, one in enumerate(found) if abs(one - best) < 1e-12)  # λ falls


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("name", NAMES)
def test_the_score_of_a_fold_is_that_of_the_fit_to_the_other_rows(name: str, task: str, weights: bool) -> None:
    data = problem(task, weights=weights)
    fold = np.arange(len(data.y_train)) % 3
    options = LBFGS | {"scale": "none", "task": task, "score": name, "tol": 1e-13}
    result = gpureg.fit(data, folds=fold, **options)
    alone = []
    for number in range(3):
        held = fold == number
        part = replace(
            data,
            X_train=data.X_train[~held],
            y_train=data.y_train[~held],
            X_val=data.X_train[held],
            y_val=data.y_train[held],
            sample_weight=None if data.sample_weight is None else data.sample_weight[~held],
            val_weight=None if data.sample_weight is None else data.sample_weight[held],
        )
        alone.append(gpureg.fit(part, **options).history.score)
    assert result.cv is not None
    np.testing.assert_allclose([row.mean for row in result.cv], np.mean(alone, axis=0), rtol=1e-5)
    errors = np.std(alone, axis=0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose([row.se for row in result.cv], errors, rtol=1e-3, atol=1e-6)
    assert {(row.score, row.folds) for row in result.cv} == {(name, 3)}
    assert result.model.scores is not None
    assert result.model.scores.tolist() == [row.mean for row in result.cv]


def test_two_assignments_and_1se() -> None:
    result = gpureg.fit(problem("softmax"), cv=3, seeds=2, select="1se", score="balanced-accuracy", **LBFGS)
    assert result.cv is not None
    assert result.selected is not None
    assert {row.folds for row in result.cv} == {6}
    best = max(result.cv, key=lambda row: row.mean or 0.0)
    within = [row.l2 for row in result.cv if (row.mean or 0.0) >= (best.mean or 0.0) - (best.se or 0.0)]
    assert result.models[result.selected].l2 == max(within)


def rows(*means: float, se: float = 0.01, score: str = "accuracy") -> tuple[CvRow, ...]:
    return tuple(CvRow(10.0**-k, mean, se, 5, None, score) for k, mean in enumerate(means))


@pytest.mark.parametrize(
    ("given", "rule", "chosen"),
    [
        (rows(0.5, 0.9, 0.8), "min", 1),
        (rows(0.5, 0.9, 0.9), "min", 1),  # ties go to the larger λ
        (rows(0.5, 0.9, 0.9 + 1e-16), "min", 1),  # a tie of shares, but for the rounding of their sums
        (rows(0.5, 0.9, 0.9 + 1e-9), "min", 2),
        (rows(0.5, 0.3, 0.3, score="loss"), "min", 1),
        (rows(0.5, 0.3, 0.3 - 1e-15, score="loss"), "min", 2),  # losses are what they are
        (rows(0.895, 0.9, 0.9), "1se", 0),
        (rows(0.89, 0.9, 0.9), "1se", 0),  # on the limit
        (rows(0.8899, 0.9, 0.9), "1se", 1),
        (rows(0.31, 0.3, 0.29, se=0.02, score="loss"), "1se", 0),
    ],
)
def test_which_row_is_chosen(given: tuple[CvRow, ...], rule: str, chosen: int) -> None:
    assert select_row(given, rule) == chosen


def rare() -> tuple[Dataset, np.ndarray]:
    """Three classes of which the last has rows in two of four folds only."""
    data = blobs(80, 0)
    y, fold = data.y_train.copy(), np.arange(80) % 4
    y[(y == 2) & (fold > 1)] = 0
    return replace(data, y_train=y), fold


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fold_where_a_score_is_undefined_is_left_out_with_a_notice(solver: str) -> None:
    data, fold = rare()
    options = SOLVERS[solver] | {"folds": fold}
    words = r"The score roc-auc is not defined, and is left out of the means, if fold 2 holds out no row of the class 2"
    with pytest.warns(GpuregWarning, match=words + ", fold 3 holds out no row of the class 2"):
        result = gpureg.fit(data, score="roc-auc", **options)
    assert result.cv is not None
    score, table = result.history.score, result.history
    for row in result.cv:
        mine = (table.l2 == row.l2) & (table.fold >= 0)
        assert np.isnan(score[mine & (table.fold >= 2)]).all()
        found = score[mine & (table.fold < 2)]
        assert (row.mean, row.folds) == (pytest.approx(found.mean()), 2)
        assert row.se == pytest.approx(found.std(ddof=1) / np.sqrt(2))
    assert result.selected is not None
    assert {row.folds for row in gpureg.fit(data, score="balanced-accuracy", **options).cv or ()} == {4}


@pytest.mark.filterwarnings("ignore:Training rows of some classes are missing")
def test_a_single_fold_that_counts_has_no_standard_error() -> None:
    data, fold = rare()
    fold = np.where((data.y_train == 2) & (fold == 1), 0, fold)
    with pytest.warns(GpuregWarning, match="fold 1 .*fold 2 .*fold 3"):
        result = gpureg.fit(data, score="roc-auc", select="1se", **(LBFGS | {"folds": fold, "cv": 4}))
    assert {(row.folds, row.se) for row in result.cv or ()} == {(1, None)}
    assert result.selected is not None


def test_a_score_that_is_defined_nowhere_is_refused() -> None:
    data, fold = rare()
    y = data.y_train
    everywhere = replace(data, y_train=np.where(fold % 3 == 0, 0, 1 + (np.arange(80) % 2)))
    with pytest.raises(UsageError, match=r"score='roc-auc' needs rows of every class, but no fold holds out such"):
        gpureg.fit(everywhere, score="roc-auc", folds=fold, **LBFGS)
    some = replace(data, X_val=data.X_train[y < 2], y_val=y[y < 2])
    with pytest.raises(UsageError, match="score='roc-auc' needs rows of every class, but the validation rows lack 2"):
        gpureg.fit(some, score="roc-auc", **LBFGS)
    assert gpureg.fit(some, score="balanced-accuracy", **LBFGS).selected is not None


@pytest.mark.filterwarnings("ignore:Classes with fewer training rows")
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NAMES[1:3])
def test_a_class_that_a_fold_has_not_seen_costs_its_share_of_the_score(name: str, solver: str) -> None:
    data = blobs(90, 0)
    fold = np.arange(90) % 3
    y = np.where(data.y_train == 2, np.where(fold == 1, 2, 0), data.y_train)
    data = replace(data, y_train=y)
    options = SOLVERS[solver] | {"scale": "none"}
    with pytest.warns(GpuregWarning, match="fold 1 those of 2"):
        result = gpureg.fit(data, score=name, folds=fold, **options)
    held, seen = fold == 1, (y < 2) & (fold != 1)
    part = Dataset("part", data.X_train[seen], y[seen], data.X_train[held], np.minimum(y[held], 1), (0, 1))
    alone = gpureg.fit(part, **(options | {"patience": 0} if solver == "sgd" else options))
    table = result.history
    for index, l2 in enumerate(GRID):
        predicted = np.asarray(alone.model.predict(data.X_train[held], index), np.int64)
        of = accuracy_score if name == "accuracy" else balanced_accuracy_score
        mine = np.flatnonzero((table.fold == 1) & (table.l2 == l2))
        if solver == "lbfgs":
            assert table.score[mine].tolist() == pytest.approx([of(y[held], predicted)])
        assert 0 < table.score[mine][0] < 1


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_patience_looks_at_the_score(name: str, cv: int | None) -> None:
    data = blobs(60, 60, features=20, spread=2.5)
    options = LBFGS | {"l2": tuple(np.logspace(1, -6, 15).tolist()), "cv": cv, "score": name}
    whole, some = gpureg.fit(data, **options), gpureg.fit(data, path_patience=2, **options)
    means = [row.mean or 0.0 for row in whole.cv] if whole.cv else whole.history.score.tolist()
    costs = [mean if name == "loss" else -round(mean, 12) for mean in means]
    kept = points_kept(costs, 2) or len(costs)
    assert some.left_out == options["l2"][kept:]
    assert (name == "loss") <= (kept < len(costs))
    assert len(some.cv or ()) == (kept if cv else 0)


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NAMES[2:])
def test_interrupted_and_resumed_to_the_same_bits(name: str, solver: str) -> None:
    data = problem("softmax", weights=True)
    more: dict[str, Any] = {"path_patience": 1, "tol": 1e-8} if solver == "lbfgs" else {}
    config = FitConfig(cv=2, score=name, **(SOLVERS[solver] | {"dtype": "float32"} | more))
    asked: list[int] = []

    def count() -> bool:
        asked.append(0)
        return False

    expected = run_fit(data, config, Hooks(should_stop=count))
    total = len(asked)
    for boundary in range(0, total, max(1, total // 6)):
        keeper, left = Memory(), iter([False] * boundary)
        run_fit(data, config, Hooks(should_stop=lambda: next(left, True), keeper=keeper))  # noqa: B023
        assert_same(run_fit(data, config, Hooks(), saved=keeper.saved), expected)


CASES: dict[str, tuple[str, ...]] = {
    "validation": (),
    "folds": ("--cv", "3"),
    "two seeds": ("--cv", "2", "--seeds", "2", "--select", "1se"),
    "sgd": ("--solver", "sgd", "--epochs", "2", "--batch-size", "32", "--cv", "2"),
    "logistic": ("--task", "logistic", "--classes", "1,2"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_shows_the_score(
    name: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "data.npz", classes=3)
    options = ("--dataset", data, "--score", name, *CASES[case])
    done = invoke("sweep-lambda", *options, "--out", "run")
    assert done.exit_code == 0, done.stderr
    words = name.replace("roc-auc", "ROC AUC").replace("-", " ")
    folded = "--cv" in CASES[case]
    assert f"chosen by {'held-out' if folded else 'validation'} {words}: λ = " in done.stdout
    assert words in done.stdout.split("★ chosen by")[0]  # the title of its column
    run = gpureg.load_run("run")
    assert run.config["score"] == name
    assert run.model.scored_by == name
    as_json = strict_json(invoke("sweep-lambda", *options, "--json", "--quiet", "--out", "other").stdout)
    assert as_json["selected"] == run.result["selected"]
    assert {row["score"] for row in as_json["cv"]} == ({name} if folded else set())
    again = invoke("sweep-lambda", "--config", "run/config.toml", "--out", "again", "--quiet")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "run/model.safetensors").read_bytes()
    card = invoke("export", "run", "--card", "card.md")
    assert card.exit_code == 0
    assert name in Path("card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_path_label_the_score(name: str, cv: int | None, tmp_path: Path) -> None:
    from gpureg.figures.choice import default_figures, draw

    gpureg.fit(problem("softmax"), score=name, cv=cv, **LBFGS).save(tmp_path / "run")
    run = gpureg.load_run(tmp_path / "run")
    words = {"loss": "cross-entropy (nats)", "roc-auc": "ROC AUC"}.get(name, name.replace("-", " "))
    assert ("path-score" in default_figures([run])) == (name in NAMES[2:])
    (axes,) = draw("path-score", [run]).axes
    assert axes.get_ylabel() == words
    labels = [line.get_label() for line in axes.lines]
    chosen = run.result["models"][run.result["selected"]]["l2"]
    by = "" if name == "loss" else f" by {words}"
    assert f"chosen{by}: λ = {chosen:.3g}" in labels
    if cv:
        drawn = axes.containers[0][0].get_ydata()
        np.testing.assert_allclose(sorted(drawn), sorted(row["mean"] for row in run.result["cv"]))
    else:
        line = next(each for each in axes.lines if each.get_label() == "validation")
        np.testing.assert_allclose(sorted(line.get_ydata()), sorted(run.history.score))


def test_models_do_not_depend_on_the_score() -> None:
    """It changes the choice, and nothing of what is trained."""
    data, seen = problem("softmax"), set()
    for name in NAMES:
        result = gpureg.fit(data, cv=2, score=name, **SGD)
        seen.add(repr([model for model in result.models if model.fold is not None]))
    assert len(seen) == 1


@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("name", NAMES[2:])
def test_every_backend_gives_the_same_scores(name: str, task: str, any_backend: BackendFactory) -> None:
    """Of folds and of the validation rows that the refit stops by; a last refit to all rows."""
    data = problem(task, weights=True)
    options = SGD | {"task": task, "cv": 2, "score": name, "refit": "all", "epochs": 2}
    config = FitConfig(**options)
    results = [fit_on(backend, data, config, Hooks()) for backend in (any_backend("float64"), numpy_backend("float64"))]
    np.testing.assert_allclose(results[0].history.score, results[1].history.score, rtol=1e-9)
    assert results[0].selected == results[1].selected
    np.testing.assert_allclose(results[0].model.coef, results[1].model.coef, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("cv", [None, 3])
def test_sparse_rows_have_the_scores_of_dense_ones(cv: int | None, task: str, solver: str) -> None:
    """With groups, and refitted to training and validation rows."""
    from scipy import sparse

    dense = problem(task)
    X, y = np.where(abs(dense.X_train) > 0.7, dense.X_train, 0.0), dense.y_train
    options = SOLVERS[solver] | {"task": task, "score": "roc-auc", "refit": "all", "scale": "none", "cv": cv}
    found = []
    for rows in (X, sparse.csr_array(X)):
        data = gpureg.make_dataset(rows, y, groups=np.arange(len(y)) // 3)
        later = gpureg.fit(gpureg.make_dataset(rows, y), groups=np.arange(len(y)) // 3, **options)
        found.append(gpureg.fit(data, **options))
        np.testing.assert_allclose(later.model.coef, found[-1].model.coef, rtol=1e-9)
    np.testing.assert_allclose(found[0].history.score, found[1].history.score, rtol=1e-7)
    np.testing.assert_allclose(found[0].model.coef, found[1].model.coef, rtol=1e-4, atol=1e-6)
    assert found[0].selected == found[1].selected
