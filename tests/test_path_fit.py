"""The path through the front door: folds and refits side by side, equal λ, what patience leaves out, any chunking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import Memory
from small_problems import blobs

import gpureg
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.events import Event, Iterated, PathPoint
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.results import FitResult
from gpureg.solvers.path.patience import points_kept

OPTIONS: dict[str, Any] = {"solver": "lbfgs", "penalize_bias": False, "dtype": "float64", "device": "cpu", "tol": 1e-10}
GRID = tuple(np.logspace(0, -6, 13).tolist())


def noisy(n: int = 60, m: int = 60) -> Dataset:
    """Few samples of many features: the held-out loss falls and then rises along the path."""
    return blobs(n, m, features=20, spread=2.5)


def objective_of(result: FitResult, index: int) -> tuple[float, float]:
    certificate = result.models[index].certificate
    assert certificate is not None
    return float(certificate["objective"] or 0.0), float(certificate["gap_bound"] or 0.0)


def test_the_refit_of_every_lambda_comes_with_the_folds() -> None:
    data = noisy()
    found = gpureg.fit(data, l2=GRID[:5], cv=3, **OPTIONS)
    refits = [index for index, model in enumerate(found.models) if model.fold is None]
    assert [found.models[index].l2 for index in refits] == list(GRID[:5])
    assert found.selected in refits
    assert found.model.coef.shape[0] == 5
    assert found.model.l2.tolist() == list(GRID[:5])
    assert found.model.l2[found.model.selected] == found.models[found.selected or 0].l2
    assert found.cv is not None
    assert len(found.cv) == 5
    alone = gpureg.fit(data, l2=GRID[:5], **OPTIONS)
    for place, index in enumerate(refits):
        (one, gap), (other, rest) = objective_of(found, index), objective_of(alone, place)
        assert abs(one - other) <= gap + rest + 1e-15


def test_the_history_counts_the_passes_of_each_model(tmp_path: Path) -> None:
    """In the order of the models, folds and refits alike, and kept with the run; with minibatches there are none."""
    data = noisy()
    events: list[Event] = []
    found = run_fit(data, FitConfig(l2=GRID[:5], cv=3, **OPTIONS), Hooks(events.append))
    tried = sum(len(event.models) for event in events if isinstance(event, Iterated))
    assert found.history.passes.shape == found.history.l2.shape == (20,)
    assert (found.history.passes >= 1).all()
    assert found.history.passes.sum() <= tried
    found.save(tmp_path / "run")
    assert gpureg.load_run(tmp_path / "run").history.passes.tolist() == found.history.passes.tolist()
    assert gpureg.fit(data, solver="sgd", epochs=1, batch_size=30, device="cpu").history.passes.shape == (0,)


def test_folds_stop_at_a_hundred_times_the_tolerance_and_say_so() -> None:
    found = gpureg.fit(noisy(), l2=GRID[:5], cv=3, **(OPTIONS | {"tol": 1e-9}))
    bounds = {True: [], False: []}
    for model in found.models:
        assert model.certificate is not None
        assert model.certificate["converged"] is True
        bounds[model.fold is None].append(model.certificate["gap_bound"])
    assert max(bounds[True]) <= 1e-9 < max(bounds[False]) <= 1e-7


@pytest.mark.filterwarnings("ignore:No λ was chosen")
def test_a_fold_of_a_path_is_the_fit_to_the_other_rows() -> None:
    data = noisy(90)
    fold = np.arange(90) % 3
    options = OPTIONS | {"scale": "none"}
    found = gpureg.fit(data, l2=GRID[:4], cv=3, folds=fold, **options)
    part = Dataset("part", data.X_train[fold != 1], data.y_train[fold != 1], data.X_val[:0], data.y_val[:0], (0, 1, 2))
    alone = gpureg.fit(part, l2=GRID[:4], **options)
    for place, l2 in enumerate(GRID[:4]):
        index = next(i for i, model in enumerate(found.models) if model.fold == 1 and model.l2 == l2)
        (one, gap), (other, rest) = objective_of(found, index), objective_of(alone, place)
        assert abs(one - other) <= gap + rest + 1e-15


def test_models_keep_the_order_of_the_grid() -> None:
    l2 = (1e-3, 1.0, 1e-3, 0.0, 0.1)
    found = gpureg.fit(blobs(300, 50, features=3, spread=4.0), l2=l2, cv=2, **OPTIONS)
    assert [model.l2 for model in found.models if model.fold == 1] == list(l2)
    assert repr(found.models[0]) == repr(found.models[4])


@pytest.mark.parametrize("cv", [None, 3])
def test_any_chunking_of_members_agrees(cv: int | None) -> None:
    """In parts, each member whole: the same optima, in the same order."""
    results = [gpureg.fit(noisy(), l2=GRID[:4], cv=cv, memory=memory, **OPTIONS) for memory in (2**31, 200_000)]
    assert len(results[0].models) == len(results[1].models)
    for index, (one, other) in enumerate(zip(results[0].models, results[1].models, strict=True)):
        assert (one.l2, one.fold, one.seed) == (other.l2, other.fold, other.seed)
        (a, gap), (b, rest) = objective_of(results[0], index), objective_of(results[1], index)
        assert abs(a - b) <= gap + rest + 1e-15


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("cv", [None, 3])
def test_patience_leaves_out_what_comes_after(cv: int | None) -> None:
    """Every λ kept has the result that it has without the option."""
    data = noisy()
    whole = gpureg.fit(data, l2=GRID, cv=cv, **OPTIONS)
    some = gpureg.fit(data, l2=GRID, cv=cv, path_patience=2, **OPTIONS)
    if cv:
        assert whole.cv is not None
        scores = [float(row.mean or 0.0) for row in whole.cv]
    else:
        scores = [float(model.val_loss or 0.0) for model in whole.models]
    kept = points_kept(scores, 2)
    assert kept is not None
    assert kept < len(GRID)
    assert some.left_out == GRID[kept:]
    assert sorted({model.l2 for model in some.models}, reverse=True) == list(GRID[:kept])
    assert set(some.history.l2.tolist()) == set(GRID[:kept]) == set(some.model.l2.tolist())
    twins = [model for model in whole.models if model.l2 in GRID[:kept]]
    for one, other in zip(some.models, twins, strict=True):
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-9)
        assert (one.l2, one.fold, one.steps) == (other.l2, other.fold, other.steps)
    assert some.selected is not None
    assert whole.selected is not None
    assert some.models[some.selected].l2 == whole.models[whole.selected].l2


def test_patience_names_what_it_leaves_out_and_saves_the_passes() -> None:
    passes: list[int] = []
    for patience in (0, 1):
        seen: list[Event] = []
        config = FitConfig(l2=GRID, path_patience=patience, **OPTIONS)
        if patience:
            with pytest.warns(gpureg.GpuregWarning, match="Left out"):
                run_fit(noisy(), config, Hooks(seen.append))
        else:
            run_fit(noisy(), config, Hooks(seen.append))
        passes.append(sum(isinstance(event, Iterated) for event in seen))
    assert passes[1] < passes[0]


def test_patience_needs_held_out_rows() -> None:
    with pytest.raises(gpureg.errors.UsageError, match="held-out rows"):
        gpureg.fit(noisy(m=0), l2=GRID, path_patience=1, **OPTIONS)


@pytest.mark.parametrize(
    ("scores", "patience", "kept"),
    [
        ([3.0, 2.0, 1.0, 2.0, 3.0, 4.0], 2, 5),
        ([3.0, 2.0, 2.5, 1.0, 2.0, 3.0], 2, 6),  # a better one in between begins the count again
        ([3.0, 2.0, 2.0, 2.0, 2.0], 1, None),  # equal is not worse
        ([3.0, 2.0, 4.0, 5.0], 0, None),
        ([3.0, float("nan"), 1.0], 1, 2),
        ([], 1, None),
    ],
)
def test_worse_in_a_row(scores: list[float], patience: int, kept: int | None) -> None:
    assert points_kept(scores, patience) == kept


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("patience", [0, 2])
def test_interrupted_and_resumed_to_the_same_bits(patience: int) -> None:
    data = noisy()
    config = FitConfig(l2=GRID[:9], cv=2, path_patience=patience, **(OPTIONS | {"dtype": "float32", "tol": 1e-8}))
    seen: list[Event] = []
    expected = run_fit(data, config, Hooks(seen.append))
    total = sum(isinstance(event, Iterated) for event in seen)
    assert [event.done for event in seen if isinstance(event, PathPoint)][:3] == [2, 4, 6]  # two at a time
    for boundary in range(0, total, max(1, total // 8)):
        keeper, passed = Memory(), []

        def observe(event: Event, passed: list[Event] = passed) -> None:
            if isinstance(event, Iterated):
                passed.append(event)

        run_fit(data, config, Hooks(observe, lambda: len(passed) >= boundary, keeper))  # noqa: B023
        found = run_fit(data, config, Hooks(), saved=keeper.saved)
        assert repr(found.models) == repr(expected.models)
        assert found.model.coef.tobytes() == expected.model.coef.tobytes()
        assert (found.selected, found.left_out) == (expected.selected, expected.left_out)
