"""The sweep: a model is the same alone, in any batch and in any chunk; folds leave out what they hold out;
selection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import fit_scaling
from gpureg.errors import UsageError
from gpureg.fitting.folds import row_weight_table, stratified_folds
from gpureg.fitting.grid import cv_rows, lambda_grid, model_table, select_row
from gpureg.fitting.memory import chunks
from gpureg.fitting.prepare import prepare
from gpureg.fitting.results import CvRow
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.sgd.descent import SgdDescent
from gpureg.solvers.sgd.solver import Sgd
from gpureg.solvers.sgd.state import SgdState

LAMBDAS = (0.0, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.2)
OPTIONS: dict[str, Any] = {"lr": 0.4, "epochs": 10, "batch_size": 16, "dtype": "float64", "patience": 3}
SAME = {"rtol": 1e-12, "atol": 1e-14}


def same_history(one: gpureg.History, other: gpureg.History, columns: slice | int = slice(None)) -> None:
    """Two histories to 1e-12, the same stops; `columns` picks models of `other`."""
    for name in ("step_loss", "val_loss", "val_accuracy", "train_accuracy"):
        mine, whole = getattr(one, name), getattr(other, name)[:, columns]
        whole = whole.reshape(len(whole), -1)
        rows = max(len(mine), len(whole))
        mine, whole = (np.pad(v, ((0, rows - len(v)), (0, 0)), constant_values=np.nan) for v in (mine, whole))
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(whole))
        np.testing.assert_allclose(mine, whole, equal_nan=True, **SAME)


def same_fit(one: gpureg.FitResult, other: gpureg.FitResult) -> None:
    """Histories to 1e-12 and final weights to 1e-10."""
    same_history(one.history, other.history)
    np.testing.assert_allclose(one.model.coef, other.model.coef, rtol=1e-10, atol=1e-13)


@pytest.fixture(scope="module")
def whole() -> gpureg.FitResult:
    return gpureg.fit(blobs(300, 100, spread=2.0), l2=LAMBDAS, **OPTIONS)


def test_the_grid_stops_at_different_times(whole: gpureg.FitResult) -> None:
    """Otherwise the laws below would not see the freeze and the compaction."""
    steps = {model.steps for model in whole.models if model.stop_reason == "patience"}
    assert len(steps) >= 4
    assert max(steps) > 1.5 * min(steps)


@pytest.mark.parametrize("index", range(len(LAMBDAS)))
def test_each_model_equals_the_model_alone(whole: gpureg.FitResult, index: int) -> None:
    alone = gpureg.fit(blobs(300, 100, spread=2.0), l2=LAMBDAS[index], **OPTIONS)
    one, other = alone.models[0], whole.models[index]
    assert (one.steps, one.stop_reason, one.stopped_epoch) == (other.steps, other.stop_reason, other.stopped_epoch)
    same_history(alone.history, whole.history, index)
    np.testing.assert_allclose(alone.model.coef[0], whole.model.coef[index], rtol=1e-10, atol=1e-13)
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_any_chunking_equals_any_other(whole: gpureg.FitResult, seed: int) -> None:
    random = np.random.default_rng(seed)
    cuts = np.sort(random.choice(np.arange(1, len(LAMBDAS)), random.integers(0, 6), replace=False))
    blocks = np.split(np.arange(len(LAMBDAS)), cuts)
    data, config = blobs(300, 100, spread=2.0), FitConfig(**({"l2": LAMBDAS} | OPTIONS))
    kernels = choose_kernels(numpy_backend("float64"), config.loss, 3)
    problem = prepare(data, config, kernels, model_table(config), fit_scaling("standard", data))
    cut = Stages(kernels, Sgd(config), Hooks()).train_all(problem, blocks)
    same_history(cut.history, whole.history)
    assert cut.outcome.steps.tolist() == [m.steps for m in whole.models]


@pytest.mark.parametrize("broken", ["freeze", "compaction"])
def test_the_laws_would_notice(whole: gpureg.FitResult, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped model that keeps training, or a compaction that mixes columns up, is seen."""
    if broken == "freeze":

        def later(
            self: SgdDescent, state: SgdState, stacked: Any, best: dict[int, int], finals: dict[int, int]
        ) -> None:
            last = stacked.shape[1] // self.kernels.n_columns - 1
            keep(self, state, stacked, best, dict.fromkeys(finals, last))

        keep = SgdDescent._keep
        monkeypatch.setattr(SgdDescent, "_keep", later)
    else:

        def mixed(self: SgdState, kernels: Kernels, running: np.ndarray) -> None:
            original(self, kernels, running)
            for stream in self.streams:
                stream.models = stream.models[::-1].copy()

        original = SgdState.compact
        monkeypatch.setattr(SgdState, "compact", mixed)
    result = gpureg.fit(blobs(300, 100, spread=2.0), l2=LAMBDAS, **OPTIONS)
    with pytest.raises(AssertionError):
        same_fit(result, whole)


def test_memory_budget_splits_without_a_change(whole: gpureg.FitResult) -> None:
    config = FitConfig(l2=LAMBDAS, lr=(0.4,), epochs=10, batch_size=16, dtype="float64", patience=3)
    size = Sgd(config).bytes_per_model(300, 7, 3)
    assert len(chunks(len(LAMBDAS), size, 3 * size)) == 4
    cut = gpureg.fit(blobs(300, 100, spread=2.0), l2=LAMBDAS, memory=3 * size, **OPTIONS)
    same_history(cut.history, whole.history)


def test_learning_rates_are_an_axis() -> None:
    data = blobs(200, 80)
    both = gpureg.fit(data, l2=[0.0, 0.1], lr=[0.05, 0.3], epochs=4, batch_size=16, dtype="float64")
    assert [(m.lr, m.l2) for m in both.models] == [(0.05, 0.0), (0.05, 0.1), (0.3, 0.0), (0.3, 0.1)]
    for index, lr in ((0, 0.05), (2, 0.3)):
        alone = gpureg.fit(data, l2=[0.0, 0.1], lr=lr, epochs=4, batch_size=16, dtype="float64")
        same_history(alone.history, both.history, slice(index, index + 2))


def test_seeds_are_shuffles_of_their_own() -> None:
    data = blobs(200, 80)
    options = {"l2": [0.0, 0.2], "epochs": 6, "batch_size": 16, "dtype": "float64", "patience": 2, "lr": 0.5}
    three = gpureg.fit(data, seed=4, seeds=3, **options)
    assert [m.seed for m in three.models] == [4, 5, 6, 4, 5, 6]
    for number in range(3):
        alone = gpureg.fit(data, seed=4 + number, **options)
        same_history(alone.history, three.history, slice(number, None, 3))


# --- cross-validation ---


def test_folds_are_stratified_and_frozen() -> None:
    y = np.random.default_rng(0).integers(0, 4, 103)
    fold = stratified_folds(y, 5, seed=1)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 1
    for label in range(4):
        counts = np.bincount(fold[y == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(stratified_folds(np.arange(10) % 2, 3, 7), [0, 1, 0, 0, 2, 2, 1, 0, 1, 2])


def test_row_weights_have_mean_one_and_leave_out() -> None:
    y = np.arange(20) % 2
    folds = [stratified_folds(y, 4, seed) for seed in (0, 1)]
    base = np.linspace(0.5, 2, 20)
    table = row_weight_table(base, folds, 4)
    assert table.shape == (20, 8)
    np.testing.assert_allclose(table.mean(axis=0), 1)
    for column in range(8):
        np.testing.assert_array_equal(table[:, column] == 0, folds[column // 4] == column % 4)


CV = {"l2": [0.0, 0.02, 0.3], "cv": 4, "epochs": 8, "batch_size": 16, "dtype": "float64", "lr": 0.4, "patience": 3}


def test_a_fold_does_not_see_its_held_out_labels() -> None:
    data = blobs(160, 60)
    folds = stratified_folds(data.y_train, 4, 0)
    one = gpureg.fit(data, folds=folds, **CV)
    flipped = np.where(folds == 1, (data.y_train + 1) % 3, data.y_train)
    other = gpureg.fit(replace(data, y_train=flipped), folds=folds, **(CV | {"patience": 0}))
    one = gpureg.fit(data, folds=folds, **(CV | {"patience": 0}))
    mine = [i for i, model in enumerate(one.models) if model.fold == 1]
    rest = [i for i, model in enumerate(one.models) if model.fold not in (1, None)]
    np.testing.assert_allclose(one.history.step_loss[:, mine], other.history.step_loss[:, mine], rtol=1e-12)
    for i in mine:
        assert one.models[i].weight_norm_sq == pytest.approx(other.models[i].weight_norm_sq, rel=1e-12)
        assert one.models[i].val_loss != pytest.approx(other.models[i].val_loss, rel=1e-3)  # but it is scored on them
    assert not np.allclose(one.history.step_loss[:, rest], other.history.step_loss[:, rest])


def test_a_fold_is_the_weighted_fit_alone() -> None:
    """A fold's column equals the model trained alone with the fold's mask as sample weights (as good as 0: rows of
    weight 0 itself are left out), scored on what it leaves out."""
    data = blobs(160, 60)
    folds = stratified_folds(data.y_train, 4, 0)
    result = gpureg.fit(data, folds=folds, **(CV | {"patience": 0, "scale": "none"}))
    held = folds == 2
    alone = replace(data, sample_weight=np.where(held, 1e-30, 1.0), X_val=data.X_train[held], y_val=data.y_train[held])
    options = {key: value for key, value in CV.items() if key != "cv"} | {"patience": 0, "scale": "none"}
    fitted = gpureg.fit(alone, **options)
    mine = [i for i, model in enumerate(result.models) if model.fold == 2]
    np.testing.assert_allclose(result.history.step_loss[:, mine], fitted.history.step_loss, rtol=1e-11)
    np.testing.assert_allclose(result.history.val_loss[:, mine], fitted.history.val_loss, rtol=1e-11)
    for i, single in zip(mine, fitted.models, strict=True):
        assert result.models[i].val_loss == pytest.approx(single.val_loss, rel=1e-11)
        assert result.models[i].train_accuracy is None


def test_the_result_of_a_cross_validation() -> None:
    data = blobs(160, 60)
    result = gpureg.fit(data, **CV)
    assert len(result.models) == 3 * 4 + 1
    assert result.cv is not None
    assert result.selected == 12
    chosen = result.models[12]
    assert (chosen.fold, chosen.seed) == (None, None)
    for number, row in enumerate(result.cv):
        scores = [model.val_loss for model in result.models[number * 4 : number * 4 + 4]]
        assert row.mean == pytest.approx(np.mean(scores), rel=1e-14)
        assert row.se == pytest.approx(np.std(scores, ddof=1) / 2, rel=1e-12)
    assert chosen.l2 == min(result.cv, key=lambda row: row.mean or 9).l2
    alone = gpureg.fit(data, **({k: v for k, v in CV.items() if k != "cv"} | {"l2": chosen.l2}))
    np.testing.assert_allclose(result.model.coef, alone.model.coef, rtol=1e-10)
    assert result.model.coef.shape[0] == 1
    assert np.isnan(result.history.train_accuracy[:, :12]).all()
    assert result.history.fold.tolist() == [0, 1, 2, 3] * 3 + [-1]


def test_fold_assignments_are_columns_under_one_shuffle() -> None:
    data = blobs(160, 60)
    both = gpureg.fit(data, seeds=2, **CV)
    assert [model.seed for model in both.models[:8]] == [0] * 4 + [1] * 4
    assert both.cv is not None
    assert both.cv[0].folds == 8
    first = gpureg.fit(data, **CV)
    ids = [i for i, model in enumerate(both.models) if model.seed == 0]
    same_history(
        replace(
            first.history,
            **{
                n: getattr(first.history, n)[:, :12]
                for n in ("step_loss", "val_loss", "val_accuracy", "train_accuracy")
            },
        ),
        replace(
            both.history,
            **{
                n: getattr(both.history, n)[:, ids] for n in ("step_loss", "val_loss", "val_accuracy", "train_accuracy")
            },
        ),
    )


def test_selection_rules() -> None:
    rows = tuple(
        CvRow(l2, mean, se, 5, 0.1)
        for l2, mean, se in ((0.0, 0.5, 0.1), (0.1, 0.45, 0.06), (1.0, 0.5, 0.1), (9.0, 0.9, 0.1))
    )
    assert select_row(rows, "min") == 1
    assert select_row(rows, "1se") == 2
    tied = (CvRow(0.1, 0.4, 0.0, 5, 0.1), CvRow(0.2, 0.4, 0.0, 5, 0.1), CvRow(0.3, None, None, 5, 0.1))
    assert select_row(tied, "min") == 1
    assert select_row((CvRow(0.1, None, None, 5, 0.1),), "min") is None
    table = model_table(FitConfig(l2=(0.1, 0.2), cv=2))
    assert cv_rows(table, np.array([0.1, 0.3, np.nan, 0.2]))[1].mean is None
    with pytest.raises(UsageError, match="cv"):
        FitConfig(select="1se")


def test_lambda_grids() -> None:
    grid = lambda_grid("1e-6:10:96")
    assert (len(grid), grid[0], grid[-1]) == (96, 10.0, 1e-6)
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(1e-7) / 95)
    assert lambda_grid("1:1:1") == (1.0,)
    for text in ("1:2", "0:1:3", "a:b:c", "1:2:0", "1:1:3", "-1:2:3", "1:inf:3"):
        with pytest.raises(UsageError, match="LOW:HIGH:COUNT"):
            lambda_grid(text)
