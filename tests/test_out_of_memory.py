"""Too little device memory: before the start the CPU takes over, in the middle what was trained is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.backend import Backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning, OutOfMemoryError
from gpureg.fitting import entry as fitting
from gpureg.fitting.resume import unpack
from gpureg.fitting.stages import Hooks
from gpureg.kernels.reference import ReferenceKernels

OPTIONS: dict[str, Any] = {"epochs": 8, "batch_size": 20, "dtype": "float64", "lr": (0.2,), "l2": (0.0, 0.1)}


def small_device(dtype: str, free: int | None = None) -> Backend:
    """NumPy that says it is a device of its own."""
    return replace(numpy_backend(dtype), name="small", device="small:0", free_memory=lambda: free)


class Keeper:
    """Never asks for a checkpoint, and keeps the one that it is given."""

    def __init__(self) -> None:
        self.last: tuple[dict, dict] | None = None

    def due(self) -> bool:
        return False

    def write(self, arrays: dict, meta: dict) -> None:
        self.last = ({name: np.array(value) for name, value in arrays.items()}, meta)


def test_before_the_start_the_cpu_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype, free=100))
    with pytest.warns(GpuregWarning, match=r"small:0 has too little memory .*bytes are free.*Running on the CPU"):
        result = gpureg.fit(blobs(), **OPTIONS)
    assert result.device == "cpu"
    assert "too little memory" in result.environment["device_why"]
    with pytest.raises(OutOfMemoryError, match="bytes are free"):
        gpureg.fit(blobs(), strict_device=True, **OPTIONS)


def test_in_the_middle_what_was_trained_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype))
    usual, calls = ReferenceKernels.steps, []

    def steps(self: ReferenceKernels, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise OutOfMemoryError("The device ran out of memory.")
        return usual(self, *arguments)

    config = FitConfig(**OPTIONS)
    hooks, keeper = Hooks(lambda event: None, lambda: False), Keeper()
    expected = fitting.run_fit(blobs(), config, hooks)
    calls.clear()
    monkeypatch.setattr(ReferenceKernels, "steps", steps)
    with pytest.raises(
        OutOfMemoryError, match=r"ran out of memory\. What was trained is kept: resume with `gpureg train --resume`"
    ):
        fitting.run_fit(blobs(), config, replace(hooks, keeper=keeper))
    assert keeper.last is not None
    saved = unpack(*keeper.last)
    resumed = fitting.run_fit(blobs(), config, hooks, saved=saved)
    np.testing.assert_array_equal(resumed.history.step_loss, expected.history.step_loss)
    np.testing.assert_array_equal(resumed.model.coef, expected.model.coef)
    assert 5 < len(calls) < 5 + len(expected.history.eval_step)  # it did not begin again
