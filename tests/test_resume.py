"""Resuming: interrupted at any epoch boundary and taken up again, a fit ends with the bits of one that was not."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import DATA, SWEEP, Memory, assert_same, boundaries_of, run

from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.environment import blas_threads
from gpureg.errors import GpuregWarning, RunError
from gpureg.events import EpochEnded, Event, Started
from gpureg.fitting.entry import Hooks, fit_on, run_fit
from gpureg.fitting.results import FitResult
from gpureg.fitting.resume import Saved, data_sha256, unpack
from gpureg.solvers.sgd.solver import Sgd
from gpureg.solvers.sgd.state import SgdState
from gpureg.types import HostArrays

CASES: dict[str, dict[str, Any]] = {
    "single": {"epochs": 12, "batch_size": 32, "lr": (0.1,)},
    "single, many evaluations, none of them settled at first": {"epochs": 7, "batch_size": 20, "evals_per_epoch": 1},
    "logistic": {"task": "logistic", "epochs": 9, "batch_size": 20, "dtype": "float64"},
    "sweep with early stops": SWEEP,
    "best": SWEEP | {"keep": "best", "dtype": "float64"},
    "class weights": SWEEP | {"class_weight": "balanced"},
    "seeds": SWEEP | {"seeds": 3},
    "rates": SWEEP | {"lr": (0.3, 0.05), "shuffle": False},
    "cross-validation": SWEEP | {"cv": 3, "epochs": 6},
    "cross-validation, seeds": SWEEP | {"cv": 2, "seeds": 2, "epochs": 6, "keep": "best"},
    "chunks": SWEEP | {"memory": 50_000, "epochs": 6},
    "chunks and cross-validation": SWEEP | {"cv": 3, "memory": 150_000, "epochs": 5},
    "reference kernels": SWEEP | {"kernels": "reference"},
    "to the optimum": {"solver": "lbfgs", "l2": (0.3, 1e-3, 1e-6), "tol": 1e-10},
    "to the optimum, cross-validation": {"solver": "lbfgs", "l2": (0.1, 0.01), "dtype": "float64", "cv": 2},
    "to the optimum, chunks": {"solver": "lbfgs", "l2": (0.1, 0.01, 1e-4), "dtype": "float64", "memory": 50_000},
    "divergence": {"l2": (0.0, 0.0), "lr": (0.01, 1e308), "epochs": 6, "batch_size": 20, "dtype": "float64"},
}
pytestmark = pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning", "ignore:overflow:RuntimeWarning")


@pytest.fixture(scope="module")
def whole() -> dict[str, tuple[FitResult, int]]:
    """Every case uninterrupted, with the number of its epochs; made when it is first asked for."""
    return {}


def uninterrupted(whole: dict[str, tuple[FitResult, int]], case: str) -> tuple[FitResult, int]:
    if case not in whole:
        config = FitConfig(**CASES[case])
        whole[case] = run(config, None), boundaries_of(config)
    return whole[case]


@pytest.mark.parametrize("case", CASES)
def test_interrupted_anywhere_and_resumed(case: str, whole: dict[str, tuple[FitResult, int]], tmp_path: Any) -> None:
    config = FitConfig(**CASES[case])
    expected, epochs = uninterrupted(whole, case)
    for boundary in sorted({0, epochs // 3, epochs // 2, epochs - 1}):
        keeper = Memory(tmp_path)
        partial = run(config, boundary, keeper)
        if boundary <= epochs // 2:  # near the end the evaluations due may show that everyone had already stopped
            assert any(model.stop_reason == "interrupted" for model in partial.models)
        assert_same(run(config, None, saved=keeper.saved), expected)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_interrupted_again_and_again(whole: dict[str, tuple[FitResult, int]], case: str, pieces: list[int]) -> None:
    config = FitConfig(**CASES[case])
    expected, _ = uninterrupted(whole, case)
    saved = None
    for boundaries in pieces:
        keeper = Memory()
        run(config, boundaries, keeper, saved)
        saved = keeper.saved
    assert_same(run(config, None, saved=saved), expected)


@pytest.mark.parametrize("case", ["sweep with early stops", "chunks and cross-validation"])
def test_killed_anywhere_and_resumed(case: str, whole: dict[str, tuple[FitResult, int]]) -> None:
    """A kill leaves whatever checkpoint was written last, without an interruption's own."""
    config = FitConfig(**CASES[case])
    expected, _ = uninterrupted(whole, case)
    every: list[Saved] = []

    class Collector(Memory):
        def write(self, arrays: HostArrays, meta: dict[str, Any]) -> None:
            super().write(arrays, meta)
            every.append(self.saved)

    run(config, None, Collector())
    for saved in every[:: max(1, len(every) // 5)] + every[-1:]:
        assert_same(run(config, None, saved=saved), expected)


def test_the_cases_cover_what_a_checkpoint_holds(whole: dict[str, tuple[FitResult, int]]) -> None:
    """Otherwise a field that is lost would not be noticed."""
    found = set()
    for case, share in itertools.product(CASES, (0.5, 0.9)):
        _, boundaries = uninterrupted(whole, case)
        keeper = Memory()
        run(FitConfig(**CASES[case]), int(share * boundaries), keeper)
        saved = keeper.saved
        found |= {"stages"} if saved.stages else set()
        if saved.state is None:  # interrupted where a stage ends
            continue
        running = saved.meta["running"]
        found |= {name for name in ("finals", "best") if len(saved.state.get(f"{name}.models", ()))}
        found |= {name for name in ("queued", "in_flight") if running.get(name)}
        found |= {"several streams"} if running.get("streams", 1) > 1 else set()
        found |= {"diverged"} if "diverged" in running["reasons"] else set()
    if blas_threads() == 1:  # evaluations go on beside the steps only if there is a thread for them
        found.add("in_flight")
    assert found == {"stages", "finals", "best", "queued", "in_flight", "several streams", "diverged"}


def test_every_field_of_the_state_is_known_here() -> None:
    """A new one belongs into `gpureg.solvers.sgd.packing` and into the cases above."""
    kept = {"epoch", "streams", "stopping", "steps", "bad_step", "reasons", "losses", "evaluations"}
    kept |= {"unread", "unread_weights"}  # none at a boundary
    assert {field.name for field in fields(SgdState)} == kept | {"queued", "in_flight", "finals", "best"}


def test_a_solver_that_can_not_be_packed_begins_its_stage_again() -> None:
    class Plain(Sgd):
        resumable = False

    config = FitConfig(**CASES["chunks"])
    solver, keeper = Plain(config), Memory()
    backend, data, boundaries = numpy_backend(config.dtype), DATA["softmax"], iter(range(1000))
    expected = fit_on(backend, data, config, Hooks(), solver=solver)
    hooks = Hooks(should_stop=lambda: next(boundaries) >= 9, keeper=keeper)
    partial = fit_on(backend, data, config, hooks, solver=solver)
    assert any(model.stop_reason == "interrupted" for model in partial.models)
    assert keeper.saved.stages
    assert keeper.saved.state is None
    assert_same(fit_on(backend, data, config, Hooks(), solver=solver, saved=keeper.saved), expected)


def test_interrupted_before_the_refit_is_interrupted() -> None:
    config = FitConfig(**CASES["cross-validation"])
    epochs = boundaries_of(config)
    refit = [b for b in range(epochs) if _models(run(config, b)) > 3 * len(config.l2)]
    assert refit  # some boundaries lie in the refit, and at the first of them nothing of it has been done
    partial = run(config, refit[0])
    assert partial.models[-1].stop_reason == "interrupted"
    assert partial.models[-1].steps == 0
    assert all(model.stop_reason != "interrupted" for model in partial.models[:-1])


def _models(result: FitResult) -> int:
    return len(result.models)


def test_the_time_before_the_interruption_counts() -> None:
    config = FitConfig(**CASES["single"])
    keeper = Memory()
    run(config, 3, keeper)
    arrays, meta = keeper.last or ({}, {})
    assert run(config, None, saved=unpack(arrays, meta | {"seconds": 1000.0})).seconds > 1000


def test_observers_are_told_where_the_run_stands() -> None:
    config = FitConfig(**CASES["chunks"])
    keeper = Memory()
    run(config, boundaries_of(config) - 1, keeper)
    seen: list[Event] = []
    run_fit(DATA["softmax"], config, Hooks(seen.append, lambda: False), saved=keeper.saved)
    started = [event for event in seen if isinstance(event, Started)]
    assert sorted(model for event in started for model in event.models.tolist()) == list(range(len(config.l2)))
    assert started[-1].resumed_epoch == keeper.saved.meta["running"]["epoch"] > 0
    assert sum(isinstance(event, EpochEnded) for event in seen) == 1


def changed(**arrays: Any) -> Dataset:
    return replace(DATA["softmax"], **arrays)


def test_other_data_are_refused() -> None:
    config = FitConfig(**CASES["single"])
    keeper = Memory()
    run(config, 2, keeper)
    X = DATA["softmax"].X_train.copy()
    X[7, 3] += 1e-9
    hooks = Hooks(lambda event: None, lambda: False)
    with pytest.raises(RunError, match="not the data that the run began with"):
        run_fit(changed(X_train=X), config, hooks, saved=keeper.saved)


def test_the_hash_sees_every_array_and_the_classes() -> None:
    data = DATA["softmax"]
    others = [
        changed(y_train=data.y_train[::-1].copy()),
        changed(X_val=data.X_val[:-1], y_val=data.y_val[:-1]),
        changed(y_val=data.y_val[::-1].copy()),
        changed(classes=("0", "1", "2")),
        changed(sample_weight=np.ones(len(data.y_train))),
        changed(X_train=data.X_train.astype(np.float32)),
    ]
    hashes = {data_sha256(value) for value in (data, *others)}
    assert len(hashes) == 1 + len(others)
    strided = np.repeat(data.X_train, 2, axis=1)[:, ::2]
    assert data_sha256(changed(X_train=strided)) == data_sha256(data)


def test_another_number_of_threads_is_warned_about() -> None:
    config = FitConfig(**CASES["single"])
    keeper = Memory()
    run(config, 2, keeper)
    arrays, meta = keeper.last or ({}, {})
    with pytest.warns(GpuregWarning, match="began with 99 BLAS threads and continues with"):
        run(config, None, saved=unpack(arrays, meta | {"threads": 99}))


def test_another_format_or_a_checkpoint_that_does_not_fit_is_refused() -> None:
    config = FitConfig(**CASES["sweep with early stops"])
    keeper = Memory()
    run(config, 4, keeper)
    arrays, meta = keeper.last or ({}, {})
    with pytest.raises(RunError, match=r"has format 99 .* reads format 2"):
        unpack(arrays, meta | {"format": 99})
    with pytest.raises(RunError, match="does not match its run"):
        unpack({}, meta | {"stages": [{}]})
    lost = {name: array for name, array in arrays.items() if name != "state.waited"}
    with pytest.raises(RunError, match="waited"):
        run(config, None, saved=unpack(lost, meta))
    fewer = FitConfig(**SWEEP | {"l2": (0.0, 1.0)})
    with pytest.raises(RunError, match="7 models, expected 2"):
        run(fewer, None, saved=unpack(arrays, meta))
