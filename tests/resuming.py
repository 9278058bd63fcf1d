"""Fits that are interrupted at an epoch boundary, checkpoints in memory, and two results compared bit for bit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from small_problems import blobs

from gpureg.backend import Backend
from gpureg.config import FitConfig
from gpureg.events import EpochEnded, Event, Iterated
from gpureg.fitting.entry import Hooks, fit_on, run_fit
from gpureg.fitting.results import FitResult
from gpureg.fitting.resume import Saved, unpack
from gpureg.history import History
from gpureg.storage.checkpoint import read_checkpoint, write_checkpoint
from gpureg.types import HostArrays

# models that stop one after the other
SWEEP = {"l2": (0.0, 1e-6, 1e-3, 0.03, 0.2, 0.5, 1.2), "lr": (0.1,), "epochs": 12, "batch_size": 16, "patience": 6}
DATA = {"softmax": blobs(300, 100, spread=2.0), "logistic": blobs(300, 100, classes=2)}


class Memory:
    """A keeper that always asks for a checkpoint and keeps the last, by way of the disk where it has a folder."""

    def __init__(self, folder: Any = None) -> None:
        self.folder, self.kept = folder, 0
        self.last: tuple[HostArrays, dict[str, Any]] | None = None

    def due(self) -> bool:
        return True

    def write(self, arrays: HostArrays, meta: dict[str, Any]) -> None:
        self.kept += 1
        copies = {name: np.array(array) for name, array in arrays.items()}  # the trainer goes on with its own
        self.last = (copies, meta)
        if self.folder is not None:
            write_checkpoint(self.folder, arrays, meta)
            self.last = read_checkpoint(self.folder)

    @property
    def saved(self) -> Saved:
        assert self.last is not None
        return unpack(*self.last)


def run(
    config: FitConfig,
    boundaries: int | None,
    keeper: Memory | None = None,
    saved: Saved | None = None,
    backend: Backend | None = None,
) -> FitResult:
    """A fit that is stopped after so many boundaries (epochs or passes); on the CPU, or on a backend of the test's."""
    seen: list[Event] = []
    hooks = Hooks(seen.append, lambda: boundaries is not None and _boundaries(seen) >= boundaries, keeper)
    if backend is not None:
        return fit_on(backend, DATA[config.task], config, hooks, saved=saved)
    return run_fit(DATA[config.task], config, hooks, saved=saved)


def boundaries_of(config: FitConfig) -> int:
    """How many boundaries all stages of a fit have together."""
    seen: list[Event] = []
    run_fit(DATA[config.task], config, Hooks(seen.append))
    return _boundaries(seen)


def _boundaries(seen: list[Event]) -> int:
    return sum(isinstance(event, (EpochEnded, Iterated)) for event in seen)


def assert_same(one: FitResult, other: FitResult) -> None:
    """Bit for bit, but for the time it took."""
    for field in fields(History):
        a, b = getattr(one.history, field.name), getattr(other.history, field.name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
    for name in ("coef", "intercept", "offset", "scale", "l2"):
        assert getattr(one.model, name).tobytes() == getattr(other.model, name).tobytes(), name
    assert repr(one.models) == repr(other.models)
    assert repr((one.selected, one.cv, one.warnings)) == repr((other.selected, other.cv, other.warnings))
    assert one.config == other.config
