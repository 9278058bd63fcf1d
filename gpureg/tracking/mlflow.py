"""`MLflowTracker`: a fit as a run of MLflow."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpureg.tracking.points import Point
from gpureg.tracking.tracker import Tracker, missing

EXPERIMENT = "gpureg"
FIT = "gpureg.fit"  # the tag that names the fit
MOST_METRICS, MOST_PARAMETERS = 1000, 100  # of one request, by MLflow's interface
LONGEST = 6000  # characters of a parameter


class MLflowTracker(Tracker):
    """Logs a fit as one run of MLflow.

    `experiment` is the experiment's name (else what MLFLOW_EXPERIMENT_NAME says, else `gpureg`), `tracking_uri` the
    server, database or folder (else MLflow's own setting). `directory` is the run directory that the fit is saved in,
    if any: it names the run. `fit` identifies the fit: where the experiment has a run of it, that run goes on.

    Raises UsageError if mlflow is not installed (`pip install 'gpureg[mlflow]'`).
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        tracking_uri: str | None = None,
        directory: str | Path | None = None,
        fit: str | None = None,
    ) -> None:
        sink = _MLflow(experiment, tracking_uri, directory, fit or uuid.uuid4().hex)
        super().__init__(sink, directory)


class _MLflow:
    name = "MLflow"

    def __init__(self, experiment: str | None, uri: str | None, directory: str | Path | None, fit: str) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise missing("mlflow-skinny", "mlflow") from error
        self._mlflow, self._uri, self._fit = mlflow, uri, fit
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self._directory = None if directory is None else Path(directory)
        self._client: Any = None
        self._run = ""
        self._again = False

    def begin(self, parameters: Mapping[str, str]) -> None:
        """See `Sink`."""
        self._client = self._mlflow.MlflowClient(tracking_uri=self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        where = self._client.create_experiment(self._experiment) if found is None else found.experiment_id
        runs = self._client.search_runs([where], f"tags.`{FIT}` = '{self._fit}'")
        self._again = bool(runs)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        tags, name = {FIT: self._fit}, None
        if self._directory is not None:
            tags["gpureg.run_dir"], name = str(self._directory.absolute()), self._directory.name
        self._run = self._client.create_run(where, tags=tags, run_name=name).info.run_id
        all_of_them = [
            self._mlflow.entities.Param(name, text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")
            for name, text in parameters.items()
        ]
        for first in range(0, len(all_of_them), MOST_PARAMETERS):
            self._client.log_batch(self._run, params=all_of_them[first : first + MOST_PARAMETERS])

    def last(self, name: str) -> int:
        """See `Sink`."""
        if not self._again:
            return -1
        return max((metric.step for metric in self._client.get_metric_history(self._run, name)), default=-1)

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink`."""
        now = int(time.time() * 1000)
        metrics = [self._mlflow.entities.Metric(point.name, point.value, now, point.step) for point in points]
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[first : first + MOST_METRICS])

    def figure(self, name: str, png: bytes) -> None:
        """See `Sink`."""
        self._artifacts({f"{name}.png": png}, "figures")

    def files(self, files: Mapping[str, bytes]) -> None:
        """See `Sink`."""
        self._artifacts(files, "run")

    def end(self, status: str) -> None:
        """See `Sink`."""
        self._client.set_terminated(self._run, status)

    def _artifacts(self, files: Mapping[str, bytes], folder: str) -> None:
        with TemporaryDirectory() as temporary:
            for name, content in files.items():
                (Path(temporary) / name).write_bytes(content)
            self._client.log_artifacts(self._run, temporary, folder)
