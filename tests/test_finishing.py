"""Models that float32 leaves short of the tolerance are finished in float64, and nothing else changes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from resuming import Memory, assert_same
from scipy import sparse
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import GpuregWarning, OutOfMemoryError
from gpureg.events import Event, Iterated, ModelStopped, Started
from gpureg.fitting.entry import Hooks, fit_on, run_fit
from gpureg.fitting.results import FitResult
from gpureg.fitting.resume import unpack
from gpureg.rows.dense import DenseRows
from gpureg.solvers.lbfgs.solver import Lbfgs

EPS = float(np.finfo(np.float32).eps)
TOL = 1e-8


def scaled(decades: float, **options: Any) -> Dataset:
    """Blobs whose features differ in scale by so many decades."""
    data = blobs(spread=2.0, **options)
    factor = np.logspace(-decades / 2, decades / 2, data.X_train.shape[1])
    return replace(data, X_train=data.X_train * factor, X_val=data.X_val * factor)


def correlated() -> Dataset:
    data, random = blobs(spread=2.0), np.random.default_rng(1)
    doubled = [np.concatenate([X, X + 1e-3 * random.normal(size=X.shape)], axis=1) for X in (data.X_train, data.X_val)]
    return replace(data, X_train=doubled[0], X_val=doubled[1])


def lacking() -> Dataset:
    """A class that only one fold's rows have."""
    data = scaled(6, n=120)
    y = np.where(np.arange(120) % 40 == 0, 3, data.y_train)
    return replace(data, y_train=y, classes=(0, 1, 2, 3))


def in_csr(data: Dataset) -> Dataset:
    return replace(data, X_train=sparse.csr_array(data.X_train), X_val=sparse.csr_array(data.X_val))


def weighted(data: Dataset) -> Dataset:
    return replace(data, sample_weight=1.0 + np.arange(len(data.y_train)) % 3)


SCALED = {"l2": (1e-3, 1e-6), "scale": "none", "solver": "lbfgs"}
FAMILY: dict[str, tuple[Callable[[], Dataset], dict[str, Any]]] = {
    "scales": (lambda: scaled(6), SCALED),
    "one": (lambda: scaled(6), SCALED | {"l2": (1e-7,), "kernels": "reference"}),  # others have a loop in float64
    "offset": (lambda: replace(blobs(), X_train=blobs().X_train + 1000.0, X_val=blobs().X_val + 1000.0), SCALED),
    "correlated": (correlated, SCALED | {"l2": (1e-3, 1e-6, 1e-9)}),
    "weak": (lambda: blobs(spread=2.0), SCALED | {"l2": (1e-4, 1e-10)}),
    "logistic": (lambda: scaled(4, classes=2), SCALED | {"task": "logistic", "l2": (1e-6, 1e-8)}),
    "no penalty": (lambda: scaled(6), SCALED | {"l2": (1e-6, 0.0)}),
    "bias": (lambda: scaled(6), SCALED | {"penalize_bias": True}),
    "wide": (lambda: scaled(4, n=40, features=90), SCALED | {"l2": (1e-3, 1e-7)}),
    "sparse": (lambda: in_csr(scaled(6)), SCALED),
    "weights": (lambda: weighted(scaled(6)), SCALED | {"class_weight": "balanced"}),
    "folds": (lambda: scaled(6), SCALED | {"cv": 3}),
    "seeds": (lambda: weighted(scaled(6)), SCALED | {"cv": 2, "seeds": 2, "score": "roc-auc"}),
    "lacking": (lacking, SCALED | {"cv": 3}),
    "patience": (correlated, SCALED | {"l2": (1e-2, 1e-3, 1e-7, 1e-8, 1e-9), "path_patience": 2}),
    "refit": (lambda: scaled(6), SCALED | {"l2": (1e-6,), "refit": "all", "kernels": "reference"}),
    "chunks": (lambda: scaled(6), SCALED | {"cv": 3, "memory": 60_000}),
    "blocks": (lambda: scaled(6), SCALED | {"block_rows": 64}),
}


class Short(Lbfgs):
    """Leaves what float32 leaves."""

    def in_double(self) -> None:
        return None


@dataclass(frozen=True)
class Fitted:
    """A fit in float32, what it was told, and the same fit without its end in float64."""

    result: FitResult
    events: list[Event]
    short: FitResult


def fit(data: Dataset, options: dict[str, Any], keeper: Any = None, **course: Any) -> tuple[FitResult, list[Event]]:
    seen: list[Event] = []
    stop: Callable[[list[Event]], bool] = course.pop("stop", lambda seen: False)
    hooks, data = Hooks(seen.append, lambda: stop(seen), keeper), data.for_folds() if "cv" in options else data
    return fit_on(course.pop("backend", numpy_backend("float32")), data, made(options), hooks, **course), seen


def made(options: dict[str, Any]) -> FitConfig:
    return FitConfig(**options)


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], Fitted]:
    """Each member of the family, fitted once."""
    known: dict[str, Fitted] = {}

    def of(name: str) -> Fitted:
        if name not in known:
            make, options = FAMILY[name]
            result, events = fit(make(), options)
            known[name] = Fitted(result, events, fit(make(), options, solver=Short(made(options)))[0])
        return known[name]

    return of


pytestmark = pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")


@pytest.mark.parametrize("name", FAMILY)
def test_every_model_ends_converged(name: str, fitted: Callable[[str], Fitted]) -> None:
    """Within the tolerance, or float32's resolution, of the optimum that a fit in float64 finds."""
    found, (make, options) = fitted(name), FAMILY[name]
    assert "precision" in {model.stop_reason for model in found.short.models}
    assert {model.stop_reason for model in found.result.models} == {"converged"}
    assert not [text for text in found.result.warnings if "tolerance" in text]
    assert found.result.dtype == "float32"
    assert found.result.model.coef.dtype == np.float32
    data = make().for_folds() if "cv" in options else make()
    exact = run_fit(data, made(options | {"dtype": "float64", "tol": 1e-12}), Hooks())
    resolved = 4 * EPS if name != "offset" else 1e-5  # of a float32 objective, for those that needed no float64
    finished = [one.stop_reason == "precision" for one in found.short.models]
    assert len(exact.models) == len(found.result.models)
    for model, other, double in zip(found.result.models, exact.models, finished, strict=True):
        assert (model.l2, model.fold, model.seed) == (other.l2, other.fold, other.seed)
        own, best = model.certificate, other.certificate
        assert own is not None
        assert best is not None
        J, gap = float(own["objective"] or 0), own["gap_bound"]
        tolerance = max(TOL * (100 if model.fold is not None else 1), EPS * J)
        assert gap is None or float(gap) <= tolerance
        rounding = 1e-12 if double else resolved
        assert abs(J - float(best["objective"] or 0)) <= (0.0 if gap is None else float(gap)) + rounding


@pytest.mark.parametrize("name", FAMILY)
def test_a_finished_model_goes_on_from_where_float32_ended(name: str, fitted: Callable[[str], Fitted]) -> None:
    """Its history is one, and models that were not short have not changed by a bit."""
    found, names = fitted(name), ("objective", "gap_bound", "val_loss", "val_accuracy", "train_accuracy")
    history, before = found.result.history, found.short.history
    most = max(model.steps for model in found.result.models)
    assert name == "patience" or history.eval_step.tolist() == list(range(most + 1))
    for index, (model, short) in enumerate(zip(found.result.models, found.short.models, strict=True)):
        courses = {key: (getattr(history, key)[:, index], getattr(before, key)[:, index]) for key in names}
        if short.stop_reason != "precision" and not (name == "refit" and index == 1):
            assert repr(model) == repr(short)
            assert history.passes[index] == before.passes[index]
            for now, then in courses.values():
                np.testing.assert_array_equal(now[: len(then)][: model.steps + 1], then[: model.steps + 1])
            continue
        assert model.steps >= short.steps
        assert history.passes[index] > before.passes[index]
        for key in ("objective", "gap_bound"):
            now, then = courses[key]
            np.testing.assert_array_equal(now[: short.steps], then[: short.steps])
            assert np.isfinite(now[: model.steps + 1]).all()
            assert np.isnan(now[model.steps + 1 :]).all()
            assert now[model.steps] == (model.certificate or {})[key]
        for key in names[2:]:
            now, value = courses[key][0], getattr(model, key)
            assert np.isnan(np.delete(now, model.steps)).all()
            assert now[model.steps] == value or value is None


@pytest.mark.parametrize("name", FAMILY)
def test_the_events_are_those_of_one_fit(name: str, fitted: Callable[[str], Fitted]) -> None:
    """A model's last stop is its own, and the passes of a stage count on from those of the stage that it finishes."""
    found, stopped, passes, ids = fitted(name), {}, {False: 0, True: 0}, np.zeros(0, int)
    last = len(found.result.models) - 1
    for event in found.events:
        if isinstance(event, Started):
            ids = np.where(event.models < 0, last, event.models)
            assert not event.finishing or event.resumed_epoch > 0
            passes[event.finishing] += 1
        elif isinstance(event, ModelStopped):
            stopped[int(ids[event.model])] = (event.steps, event.reason)
    whole = [(model.steps, model.stop_reason) for model in found.result.models]
    assert passes[True] > 0
    if name != "patience":  # whose models are those that are kept
        assert [stopped[model][0] for model in range(last + 1)] == [steps for steps, _ in whole]
        for model, short in enumerate(found.short.models):
            assert short.stop_reason != "precision" or stopped[model] == whole[model]
    if name == "one":
        numbers = [event.iteration for event in found.events if isinstance(event, Iterated)]
        assert numbers == sorted(set(numbers))


def test_nothing_changes_where_nothing_is_short() -> None:
    options = SCALED | {"l2": (1e-1, 1e-2, 1e-3), "cv": 3}
    result, events = fit(blobs(), options)
    assert_same(result, fit(blobs(), options, solver=Short(made(options)))[0])
    assert not any(event.finishing for event in events if isinstance(event, Started))


def finishing_boundaries(events: list[Event]) -> list[int]:
    """The numbers of events after which a boundary within the finishing is."""
    inside, found = False, []
    for number, event in enumerate(events):
        inside = event.finishing if isinstance(event, Started) else inside
        if inside and isinstance(event, (Iterated, Started)):
            found.append(number + 1)
    return found


def killed(name: str, most: int, whole: FitResult, events: list[Event], folder: Any) -> None:
    """Stopped after some of these boundaries, at most so many, and resumed: bit-equal."""
    make, options = FAMILY[name]
    boundaries = finishing_boundaries(events)
    assert len(boundaries) > 1
    for number in boundaries[:: -(-len(boundaries) // most)]:
        keeper = Memory(folder)
        stop: Callable[[list[Event]], bool] = lambda seen, number=number: len(seen) >= number  # noqa: E731
        half, _ = fit(make(), options, keeper, stop=stop)
        assert "interrupted" in {model.stop_reason for model in half.models} or number == boundaries[-1]
        resumed, again = fit(make(), options, saved=keeper.saved)
        assert_same(resumed, whole)
        begun = [event for event in again if isinstance(event, Started)]
        assert any(event.finishing for event in begun)


@pytest.mark.parametrize("name", ["scales", "one", "lacking", "chunks", "refit"])
def test_killed_in_the_finishing_and_resumed(name: str, fitted: Callable[[str], Fitted], tmp_path: Any) -> None:
    killed(name, 4, fitted(name).result, fitted(name).events, tmp_path if name == "scales" else None)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILY)
def test_killed_at_every_boundary_of_the_finishing(name: str, fitted: Callable[[str], Fitted], tmp_path: Any) -> None:
    killed(name, 1000, fitted(name).result, fitted(name).events, tmp_path)


def test_a_checkpoint_of_a_version_that_finished_none_is_read() -> None:
    """Its models stay as that version left them; what had not ended is finished."""
    make, options = FAMILY["refit"]
    keeper, solver = Memory(), Short(made(options))

    def in_the_refit(seen: list[Event]) -> bool:
        refits = [place for place, event in enumerate(seen) if isinstance(event, Started) and event.models[0] < 0]
        return bool(refits) and any(isinstance(event, Iterated) for event in seen[refits[0] :])

    fit(make(), options, keeper, stop=in_the_refit, solver=solver)
    assert keeper.last is not None
    arrays, meta = keeper.last
    (stage,) = meta["stages"]
    old = {name: value for name, value in stage.items() if name not in ("passes", "finishes")}
    meta = {name: value for name, value in meta.items() if name != "finishing"} | {"stages": [old]}
    resumed, _ = fit(make(), options, saved=unpack(arrays, meta))
    short, _ = fit(make(), options, solver=solver)
    assert repr(resumed.models[0]) == repr(short.models[0])
    assert resumed.models[0].stop_reason == "precision"
    assert resumed.models[1].stop_reason == "converged"


LARGE = SCALED | {"task": "logistic", "l2": (1e-3, 1e-8)}


def large() -> Dataset:
    return scaled(4, n=3000, features=30, classes=2)


def test_too_little_memory_leaves_models_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget, the free memory, and the most that samples may take in float64; and memory that ends on the way."""

    class Failing(Lbfgs):
        def in_double(self) -> Lbfgs:
            return Failing(replace(self.config, dtype="float64"), resolution=EPS)

        def on(self, problem: Any, kernels: Any) -> Any:
            if self.config.dtype == "float64":
                raise OutOfMemoryError("The device ran out of memory.")
            return super().on(problem, kernels)

    short, _ = fit(large(), LARGE, solver=Short(made(LARGE)))
    assert [model.stop_reason for model in short.models] == ["converged", "precision"]
    assert any("dtype='float64'" in text for text in short.warnings)
    assert {model.stop_reason for model in fit(large(), LARGE)[0].models} == {"converged"}
    free = iter([1 << 40])
    little = replace(numpy_backend("float32"), free_memory=lambda: next(free, 0))
    assert_same(fit(large(), LARGE, backend=little)[0], short)
    assert_same(fit(large(), LARGE, solver=Failing(made(LARGE)))[0], short)
    budget, _ = fit(large(), LARGE | {"memory": 500_000})
    assert repr(budget.models) == repr(short.models)
    monkeypatch.setattr("gpureg.fitting.finishing.MOST_DOUBLE_BYTES", 8 * 3000 * 30 - 1)
    assert_same(fit(large(), LARGE)[0], short)


def test_the_rows_of_float32_are_released_first(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, alive = DenseRows.place.__func__, []  # type: ignore[attr-defined]

    def place(cls: Any, *arguments: Any) -> DenseRows:
        gc.collect()
        held = [there for there in (one() for one in alive) if there is not None]
        if arguments[0].backend.dtype == "float64":
            assert not held
        rows = usual(cls, *arguments)
        if arguments[0].backend.dtype == "float32":
            alive.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(DenseRows, "place", classmethod(place))
    result, _ = fit(large(), LARGE)
    assert {model.stop_reason for model in result.models} == {"converged"}
    assert len(alive) == 2


def test_iterations_may_end_in_the_finishing(fitted: Callable[[str], Fitted]) -> None:
    """The warning is about all models, and names what helps."""
    make, options = FAMILY["wide"]
    steps = fitted("wide").short.models[1].steps
    assert fitted("wide").result.models[1].steps > steps + 1
    with pytest.warns(GpuregWarning, match=r"2 of 2 model\(s\).*more iterations \(max_iter\), a larger tolerance"):
        result, _ = fit(make(), options | {"max_iter": steps + 1})
    assert [(model.stop_reason, model.steps) for model in result.models][1] == ("max_iter", steps + 1)


@pytest.mark.parametrize("stream", [True, False])
def test_rows_in_a_file(stream: bool, tmp_path: Any) -> None:
    """Streamed in blocks of half the rows, which take as much memory; or held."""
    data = scaled(6)
    np.save(tmp_path / "X.npy", np.concatenate([data.X_train, data.X_val]).astype(np.float32))
    np.save(tmp_path / "y.npy", np.concatenate([data.y_train, data.y_val]))
    read = gpureg.load_dataset(tmp_path / "X.npy", labels=tmp_path / "y.npy", stream=stream)
    result = gpureg.fit(read, block_rows=50, device="cpu", **SCALED)
    exact = gpureg.fit(read, block_rows=50, device="cpu", dtype="float64", **SCALED)
    for model, other in zip(result.models, exact.models, strict=True):
        assert model.stop_reason == "converged"
        apart = float((model.certificate or {})["objective"] or 0) - float((other.certificate or {})["objective"] or 0)
        assert abs(apart) < 3 * EPS
    assert result.models[1].steps > 10
