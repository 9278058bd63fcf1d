"""Models that float32 leaves short of the tolerance are finished in float64 on the same device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from resuming import Memory, assert_same
from small_problems import blobs

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.events import Event, Iterated, Started
from gpureg.fitting.entry import Hooks, fit_on, run_fit
from gpureg.fitting.results import FitResult

from .conftest import device_backend

pytestmark = pytest.mark.gpu
EPS = float(np.finfo(np.float32).eps)
CONFIG = FitConfig(solver="lbfgs", l2=(1e-3, 1e-6, 1e-9), scale="none", cv=3)


def scaled() -> Dataset:
    data = blobs(spread=2.0)
    factor = np.logspace(-3, 3, data.X_train.shape[1])
    return Dataset("scaled", data.X_train * factor, data.y_train, data.X_val[:0], data.y_val[:0], data.classes)


def fit(keeper: Any = None, stop_at: int | None = None, saved: Any = None) -> tuple[FitResult, list[Event]]:
    seen: list[Event] = []
    hooks = Hooks(seen.append, lambda: stop_at is not None and len(seen) >= stop_at, keeper)
    return fit_on(device_backend("float32"), scaled(), CONFIG, hooks, saved=saved), seen


def test_on_the_device() -> None:
    result, events = fit()
    assert result.device.startswith("cuda")
    assert any(event.finishing for event in events if isinstance(event, Started))
    exact = run_fit(scaled(), FitConfig(**CONFIG.given() | {"dtype": "float64", "device": "cpu"}), Hooks())
    for model, other in zip(result.models, exact.models, strict=True):
        assert model.stop_reason == "converged"
        own, best = model.certificate or {}, other.certificate or {}
        assert (
            abs(float(own["objective"] or 0) - float(best["objective"] or 0)) < float(own["gap_bound"] or 0) + 4 * EPS
        )


def test_killed_and_resumed() -> None:
    whole, events = fit()
    begun = next(n for n, event in enumerate(events) if isinstance(event, Started) and event.finishing)
    passes = [n for n in range(begun, len(events)) if isinstance(events[n], Iterated)]
    for number in (begun + 1, passes[len(passes) // 2] + 1):
        keeper = Memory()
        fit(keeper, number)
        assert_same(fit(saved=keeper.saved)[0], whole)
