"""Trackers: what was logged is read back, and is what result.json and the history hold."""

from __future__ import annotations

import builtins
import json
import math
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, write_npz

import gpureg
from gpureg.events import EpochEnded, Event, FitBegun, FitEnded, Started
from gpureg.fitting import stages
from gpureg.storage.directory import load_run
from gpureg.tracking.points import Course, Point, final_points
from gpureg.tracking.tracker import Tracker
from gpureg.types import ModelTable

Curves = dict[str, dict[int, float]]


class Memory:
    """A service in memory; `breaks` is the call that fails."""

    name = "Memory"

    def __init__(self, breaks: str = "") -> None:
        self.breaks, self.calls = breaks, list[str]()
        self.parameters: dict[str, str] = {}
        self.points: list[Point] = []
        self.figures: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.status = ""

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks:
            raise OSError(f"no {name}\nmore")

    def begin(self, parameters: Any) -> None:
        self._call("begin")
        self.parameters = dict(parameters)

    def last(self, name: str) -> int:
        return max((point.step for point in self.points if point.name == name), default=-1)

    def write(self, points: Any) -> None:
        self._call("write")
        self.points += points

    def figure(self, name: str, png: bytes) -> None:
        assert png.startswith(b"\x89PNG")
        self.figures.append(name)

    def files(self, files: Any) -> None:
        self.kept = dict(files)

    def end(self, status: str) -> None:
        self._call("end")
        self.status = status

    def curves(self) -> Curves:
        found: Curves = defaultdict(dict)
        for point in self.points:
            assert point.step not in found[point.name], point
            found[point.name][point.step] = point.value
        return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> gpureg.Dataset:
    return gpureg.load_dataset(write_npz(tmp_path_factory.mktemp("data") / "blobs.npz", classes=3))


SGD = {"solver": "sgd", "epochs": 6, "batch_size": 20, "patience": 0}


def expect_result(curves: Curves, result: dict[str, Any]) -> None:
    """The curves over `models` and `cv`, and the single numbers, are those of the JSON result."""
    for name in ("models", "cv"):
        for field in {key for row in result[name] for key in row}:
            numbers = {k: row[field] for k, row in enumerate(result[name]) if type(row[field]) in (int, float)}
            assert curves.get(f"{name}/{field}", {}) == numbers, field
    chosen = result["models"][result["selected"] or 0]
    assert {name for name in curves if name.startswith("chosen/")} == {
        f"chosen/{field}" for field, value in chosen.items() if type(value) in (int, float)
    }
    assert curves["chosen/l2"] == {0: chosen["l2"]}
    assert curves["seconds"][0] == result["seconds"]


def test_one_model_s_curves_are_its_history(data: gpureg.Dataset) -> None:
    sink = Memory()
    result = gpureg.fit(data, observe=Tracker(sink), l2=0.01, **SGD)
    curves, history = sink.curves(), result.history
    steps = history.eval_step.tolist()
    for name in ("val_loss", "val_accuracy", "train_accuracy"):
        np.testing.assert_array_equal([curves[name][step] for step in steps], getattr(history, name)[:, 0])
        assert len(curves[name]) == len(steps)
    per_epoch = history.step_loss.shape[0] // 6
    means = history.step_loss[:, 0].reshape(6, per_epoch).mean(axis=1)
    np.testing.assert_allclose([curves["epoch_loss"][per_epoch * (e + 1)] for e in range(6)], means, rtol=1e-6)
    expect_result(curves, json.loads(sink.kept["result.json"]))
    assert sink.status == "FINISHED"
    assert sink.parameters["epochs"] == "6"
    assert {"loss", "accuracy"} <= set(sink.figures)
    assert {"model.safetensors", "config.toml", "history.npz"} <= set(sink.kept)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_curve_of_each_λ_is_the_mean_of_its_folds(data: gpureg.Dataset, solver: str) -> None:
    sink, options = Memory(), SGD if solver == "sgd" else {"solver": "lbfgs"}
    result = gpureg.fit(data, observe=Tracker(sink), l2=[0.1, 0.01], cv=3, **options)
    curves, history = sink.curves(), result.history
    expect_result(curves, json.loads(sink.kept["result.json"]))
    assert len(curves["models/l2"]) == len(result.models)
    if solver == "lbfgs":
        assert {"objective/l2_0.1", "objective/l2_0.01"} <= set(curves)
        return
    for l2 in (0.1, 0.01):
        mine = (history.l2 == l2) & (history.fold >= 0)
        for row, step in enumerate(history.eval_step.tolist()):
            assert math.isclose(curves[f"val_loss/l2_{l2}"][step], history.val_loss[row, mine].mean(), rel_tol=1e-12)
    assert any(name.startswith("epoch_loss/refit_l2_") for name in curves)  # which has no rows held out


def test_λ_that_round_to_one_number_keep_their_own_curves() -> None:
    table = ModelTable.plain(np.array([1.0, 1.0 + 1e-9]), np.full(2, 0.1))
    course = Course(FitBegun({}, table))
    course.points(Started(table, np.arange(2), 10, 5))
    names = [p.name for p in course.points(EpochEnded(0, np.arange(2), np.array([0.5, math.nan])))]
    assert names == ["epoch_loss/l2_1.0"]  # and what is not finite is not logged
    assert [p.step for p in course.points(EpochEnded(2, np.arange(2), np.array([0.5, 0.4])))] == [30, 30]


def test_no_number_is_made_of_what_is_null() -> None:
    result = {"models": [{"l2": 1.0, "fold": None, "stop_reason": "patience"}], "selected": None, "cv": [],
              "test": None, "seconds": 2}  # fmt: skip
    found = [(p.name, p.step, p.value) for p in final_points(result)]
    assert found == [("models/l2", 0, 1.0), ("chosen/l2", 0, 1.0), ("seconds", 0, 2.0)]


def test_an_interrupted_fit_is_closed_as_such(data: gpureg.Dataset) -> None:
    sink, seen = Memory(), list[Event]()
    tracker = Tracker(sink)

    def observe(event: Event) -> None:
        seen.append(event)
        tracker(event)

    gpureg.fit(data, observe=observe, should_stop=lambda: len(seen) > 5, **SGD)
    assert sink.status == "KILLED"
    assert isinstance(seen[0], FitBegun)
    assert isinstance(seen[-1], FitEnded)
    assert not any(name.startswith("models/") for name in sink.curves())


def test_a_fit_that_fails_is_closed_as_such(data: gpureg.Dataset) -> None:
    sink = Memory()

    def stop() -> bool:
        raise RuntimeError("of the caller's")

    with pytest.raises(RuntimeError, match="of the caller's"), Tracker(sink) as tracker:
        gpureg.fit(data, observe=tracker, should_stop=stop, **SGD)
    assert sink.status == "FAILED"


@pytest.mark.parametrize("call", ["write", "end"])
def test_a_service_that_fails_costs_its_log_and_not_the_fit(data: gpureg.Dataset, call: str) -> None:
    sink = Memory(call)
    with pytest.warns(gpureg.GpuregWarning, match=rf"Memory failed \(no {call}\)") as caught:
        result = gpureg.fit(data, observe=Tracker(sink), **SGD)
    assert sum("Memory failed" in str(one.message) for one in caught) == 1
    assert result.models[0].stop_reason == "max_epochs"


def test_a_service_that_can_t_be_opened_is_refused(data: gpureg.Dataset) -> None:
    with pytest.raises(gpureg.UsageError, match=r"Memory can't be written to \(no begin\)"):
        gpureg.fit(data, observe=Tracker(Memory("begin")), **SGD)


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_missing_package_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def absent(module: str, *rest: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ImportError(module)
        return usual(module, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    out = tmp_path / "run"
    done = invoke("train", "--dataset", "digits", "--epochs", 1, "--track", name, "--out", out)
    assert done.exit_code == 2
    assert f"pip install 'gpureg[{name}]'" in done.stderr
    assert not out.exists()


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a tracker that writes below `tmp_path`."""
    pytest.importorskip(request.param)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return request.param


def logged(service: str, out: Path, status: str) -> tuple[Curves, dict[str, str], set[str]]:
    """What the service holds of the run in `out`: numbers, parameters, and the names of pictures and files."""
    if service == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray

        events = EventAccumulator(str(out / "tensorboard"), size_guidance={"tensors": 0, "images": 0}).Reload()
        curves: Curves = {}
        parameters = {}
        for tag in events.Tags()["tensors"]:
            values = [(e.step, make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)]
            if tag.startswith("parameters/"):
                parameters[tag.removeprefix("parameters/")] = values[0][1].decode()
                assert len(values) == 1
            else:
                curves[tag] = dict(values)
                assert len(curves[tag]) == len(values), tag
        return curves, parameters, {f"{tag}.png" for tag in events.Tags()["images"]}
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("gpureg").experiment_id])
    assert run.info.status == status
    curves = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        curves[name] = {metric.step: metric.value for metric in history}
        assert len(curves[name]) == len(history), name
    listed = [client.list_artifacts(run.info.run_id, folder) for folder in ("figures", "run")]
    return curves, run.data.params, {file.path for files in listed for file in files}


SERVICES = pytest.mark.parametrize("service", ["mlflow", "tensorboard"], indirect=True)


@pytest.mark.long
@SERVICES
@pytest.mark.parametrize("command", ["train", "sweep-lambda"])
def test_what_a_command_logs_is_its_result(service: str, command: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    grid = ["--lambdas", "1,0.1,0.01", "--cv", 3, "--solver", "lbfgs"] if command == "sweep-lambda" else ["--epochs", 3]
    done = invoke(command, "--dataset", "digits", *grid, "--track", service, "--out", out, "--quiet")
    assert done.exit_code == 0, done.stderr
    curves, parameters, files = logged(service, out, "FINISHED")
    run = load_run(out)
    expect_result(curves, json.loads((out / "result.json").read_text()))
    assert parameters["dataset"] == "digits"
    assert "figures/loss.png" in files
    assert service == "tensorboard" or "run/model.safetensors" in files
    if command == "train":
        np.testing.assert_array_equal(list(curves["val_loss"].values()), run.history.val_loss[:, 0])


@pytest.mark.long
@SERVICES
def test_a_resumed_fit_goes_on_in_the_same_run(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, epochs = write_npz(tmp_path / "blobs.npz", classes=3), tmp_path / "run", 8
    usual, count = stages.Stages._keep, [0]

    def keep(self: Any, *given: Any, **options: Any) -> None:
        usual(self, *given, **options)
        count[0] += 1
        if count[0] == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stages.Stages, "_keep", keep)
    options = ("--solver", "sgd", "--epochs", epochs, "--batch-size", 20, "--patience", 0, "--track", service)
    done = invoke("train", "--dataset", source, *options, "--out", out, "--checkpoint-seconds", 0)
    assert done.exit_code == 130, done.stderr
    before, _, _ = logged(service, out, "KILLED")
    assert before["epoch_loss"]
    assert "models/l2" not in before
    done = invoke("train", "--resume", out)
    assert done.exit_code == 0, done.stderr
    curves, _, _ = logged(service, out, "FINISHED")
    history = load_run(out).history
    assert len(curves["epoch_loss"]) == epochs
    assert list(curves["val_loss"].values()) == history.val_loss[:, 0].tolist()
    expect_result(curves, json.loads((out / "result.json").read_text()))
