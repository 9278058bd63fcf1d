"""Too little device memory: before the start the CPU takes over, in the middle what was trained is kept."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from resuming import SWEEP
from small_problems import blobs

import gpureg
from gpureg import LogisticRegression
from gpureg.backend import Backend, numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning, OutOfMemoryError, UsageError
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


def run_out_at(number: int, what: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The reference kernels run out of memory in their `number`th call of `what`; counts the calls."""
    usual, calls = getattr(ReferenceKernels, what), []

    def failing(self: ReferenceKernels, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise OutOfMemoryError("The device ran out of memory.")
        return usual(self, *arguments, **named)

    monkeypatch.setattr(ReferenceKernels, what, failing)
    return calls


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.99])
@pytest.mark.parametrize("options", [OPTIONS, SWEEP | {"dtype": "float64"}])
def test_in_the_middle_what_was_trained_is_kept(
    options: dict[str, Any], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where models have stopped since the boundary that is gone on from."""
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype))
    data, config, keeper = blobs(300, 100, spread=2.0), FitConfig(**options), Keeper()
    calls = run_out_at(0, "steps", monkeypatch)
    expected = fitting.run_fit(data, config, Hooks())
    number = int(share * len(calls))
    calls = run_out_at(number, "steps", monkeypatch)
    with pytest.raises(
        OutOfMemoryError, match=r"ran out of memory\. What was trained is kept: resume with `gpureg train --resume`"
    ):
        fitting.run_fit(data, config, Hooks(keeper=keeper))
    assert keeper.last is not None
    resumed = fitting.run_fit(data, config, Hooks(), saved=unpack(*keeper.last))
    np.testing.assert_array_equal(resumed.history.step_loss, expected.history.step_loss)
    np.testing.assert_array_equal(resumed.model.coef, expected.model.coef)
    assert number < len(calls) < number + len(expected.history.eval_step)  # it did not begin again


def test_a_state_that_is_not_light_keeps_the_stages_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype))
    config = FitConfig(solver="lbfgs", l2=(1.0, 0.1, 0.01), cv=3, dtype="float64", memory=50_000)
    calls = run_out_at(0, "cost_and_gradient", monkeypatch)
    expected = fitting.run_fit(blobs(), config, Hooks())
    number = int(0.7 * len(calls))
    keeper, calls = Keeper(), run_out_at(number, "cost_and_gradient", monkeypatch)
    with pytest.raises(OutOfMemoryError, match="What was trained is kept"):
        fitting.run_fit(blobs(), config, Hooks(keeper=keeper))
    assert keeper.last is not None
    saved = unpack(*keeper.last)
    assert saved.stages
    assert saved.state is None
    resumed = fitting.run_fit(blobs(), config, Hooks(), saved=saved)
    np.testing.assert_array_equal(resumed.model.coef, expected.model.coef)
    assert len(calls) > number


@pytest.mark.parametrize(
    ("solver", "which"),
    [
        *((solver, which) for solver in ("sgd", "lbfgs") for which in ("place", "start_evaluation")),
        ("sgd", "steps"),
        ("lbfgs", "cost_and_gradient"),
    ],
)
def test_an_allocators_own_error_is_explained_wherever_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, solver: str, which: str
) -> None:
    """NumPy's MemoryError stands for it: of a device the CPU takes over, and of the CPU the fit ends with words."""
    options: dict[str, Any] = {"solver": solver, "l2": (0.1, 0.2), "dtype": "float64", "kernels": "reference"}
    expected = gpureg.fit(blobs(), device="cpu", **options)
    usual = getattr(ReferenceKernels, which)

    def full(self: ReferenceKernels, *arguments: Any, **named: Any) -> Any:
        if self.backend.name in failing:
            raise np._core._exceptions._ArrayMemoryError((1 << 20, 1 << 20), np.dtype(np.float64))
        return usual(self, *arguments, **named)

    monkeypatch.setattr(ReferenceKernels, which, full)
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype))
    failing = {"small"}
    with pytest.warns(
        GpuregWarning, match=r"small:0 ran out of memory \(Unable to allocate 8.00 TiB.*on the CPU\. Use"
    ):
        found = gpureg.fit(blobs(), **options)
    np.testing.assert_array_equal(found.model.coef, expected.model.coef)
    with pytest.raises(OutOfMemoryError, match=r"small:0 ran out of memory .* Use dtype='float32'"):
        gpureg.fit(blobs(), strict_device=True, **options)
    failing.add("numpy")
    with (
        pytest.warns(GpuregWarning, match="Running on the CPU"),
        pytest.raises(OutOfMemoryError, match=r"cpu ran out of memory \(Unable to allocate .*are free\. Use"),
    ):
        gpureg.fit(blobs(), **options)


def test_an_estimator_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own words: it has no option for the memory."""
    data = blobs()
    expected = LogisticRegression(device="cpu").fit(data.X_train, data.y_train)
    small = small_device("float64", free=100)
    monkeypatch.setattr("gpureg.estimators.task.choose_backend", lambda device, dtype, **_: small)
    with pytest.warns(GpuregWarning, match=r"too little memory .*Running on the CPU\. Use dtype=.float32.*fewer rows"):
        model = LogisticRegression(device="cuda").fit(data.X_train, data.y_train)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)  # another loop, to the same optimum
    monkeypatch.setattr(
        "gpureg.estimators.task.choose_backend",
        lambda device, dtype, **_: replace(numpy_backend(dtype), free_memory=lambda: 100),
    )
    with pytest.raises(OutOfMemoryError, match=r"100 bytes are free\. Use dtype=.float32"):
        LogisticRegression(device="cpu", dtype="float64").fit(*many())


def many() -> tuple[np.ndarray, np.ndarray]:
    """More than the few for which the device is not chosen."""
    random = np.random.default_rng(0)
    return random.normal(size=(4000, 60)), np.arange(4000) % 40


def test_the_pair_becomes_the_fused_steps_where_the_cpu_takes_over() -> None:
    """On the CPU that was asked for it is refused."""
    options: dict[str, Any] = {"solver": "sgd", "epochs": 2}
    taken_over = numpy_backend("float32", requested="cuda")
    with pytest.warns(GpuregWarning, match="kernels='pair' is not available on the CPU; kernels='fused' trained"):
        found = fitting.fit_on(taken_over, blobs(), FitConfig(kernels="pair", **options), Hooks())
    expected = fitting.fit_on(taken_over, blobs(), FitConfig(kernels="fused", **options), Hooks())
    np.testing.assert_array_equal(found.model.coef, expected.model.coef)
    with pytest.raises(UsageError, match="kernels='pair' does not run on the numpy backend; use kernels='auto'"):
        fitting.fit_on(numpy_backend("float32"), blobs(), FitConfig(kernels="pair", **options), Hooks())


@pytest.mark.parametrize("where", ["the end", "the refit"])
def test_what_was_trained_is_kept_at_the_end_too(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last measurement, or the refit's rows, do not fit any more."""
    monkeypatch.setattr(fitting, "choose_backend", lambda device, dtype, **_: small_device(dtype))
    config, keeper = FitConfig(solver="sgd", refit="all", patience=0, **OPTIONS), Keeper()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        what = {"the end": "start_evaluation", "the refit": "place"}[where]
        calls = run_out_at(0, what, monkeypatch)
        expected = fitting.run_fit(blobs(), config, Hooks())
        run_out_at(len(calls), what, monkeypatch)
        with pytest.raises(OutOfMemoryError, match="What was trained is kept"):
            fitting.run_fit(blobs(), config, Hooks(keeper=keeper))
        assert keeper.last is not None
        resumed = fitting.run_fit(blobs(), config, Hooks(), saved=unpack(*keeper.last))
    np.testing.assert_array_equal(resumed.model.coef, expected.model.coef)
