"""`--track`: which service a fit is logged to, and as which run of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpureg.tracking import Tracker

FOLDER = "tensorboard"  # of a run directory


@dataclass(frozen=True)
class Tracking:
    """A fit's place in a service: `fit` names the fit there, `again` tells that it goes on from a checkpoint."""

    service: str
    fit: str
    again: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {name: value for name, value in asdict(self).items() if name != "again"}

    def tracker(self, directory: Path) -> Tracker:
        """The observer that logs the run of `directory`. Raises UsageError if the service's package is missing."""
        from gpureg.tracking import MLflowTracker, TensorBoardTracker

        if self.service == "mlflow":
            return MLflowTracker(directory=directory, fit=self.fit)
        replace = not self.again  # what a run that is replaced has logged
        return TensorBoardTracker(directory / FOLDER, directory=directory, replace=replace, go_on=self.again)


def new_tracking(service: str | None) -> Tracking | None:
    """Of a new fit."""
    if service is None:
        return None
    import uuid  # where it is used: the help stays quick

    return Tracking(service, uuid.uuid4().hex)


def tracking_again(kept: Any, service: str | None) -> Tracking | None:
    """Of a fit that goes on: where its checkpoint says it is logged, or a new one in another service."""
    known = isinstance(kept, dict) and all(isinstance(kept.get(name), str) for name in ("service", "fit"))
    if known and service in (None, kept["service"]):
        return Tracking(kept["service"], kept["fit"], again=True)
    return new_tracking(service)
