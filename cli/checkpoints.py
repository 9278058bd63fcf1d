"""Checkpoints of a run: when one is written into its directory, and how a run is begun and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpureg.config import DataConfig, FitConfig, joined, parted
from gpureg.errors import UsageError

if TYPE_CHECKING:
    from gpureg.fitting.resume import Saved
    from gpureg.storage.directory import Beginning, RunFolder
    from gpureg.types import HostArrays

    from .tracking import Tracking

SECONDS = 20.0
SHARE = 20  # a checkpoint that takes t seconds is followed by 20 t without one: they take at most 5% of the time
WHERE = ("scheduler", "workers")  # other workers can continue the same fit
WITH_RESUME = ("resume", "json", "quiet", "checkpoint_seconds", "track", *WHERE)


class CheckpointWriter:
    """Keeps a fit's checkpoints in its run directory, at least `seconds` apart; `data` says where its rows are,
    `tracking` where it is logged.
    """

    def __init__(self, folder: RunFolder, data: DataConfig, seconds: float, tracking: Tracking | None = None) -> None:
        self.folder, self.seconds = folder, seconds
        self._also = besides(anywhere(data), tracking)
        self._pause = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """See `gpureg.fitting.resume.Keeper`."""
        return time.monotonic() - self._last >= self._pause

    def write(self, arrays: HostArrays, meta: dict[str, Any]) -> None:
        """See `gpureg.fitting.resume.Keeper`."""
        begun = time.monotonic()
        self.folder.keep(arrays, meta | self._also)
        self._last = time.monotonic()
        if self.seconds:
            self._pause = max(self.seconds, SHARE * (self._last - begun))


def besides(data: DataConfig, tracking: Tracking | None) -> dict[str, Any]:
    """What a checkpoint holds in addition to the fit."""
    return {"options": data.to_dict(), "track": None if tracking is None else tracking.to_dict()}


def beginning(data: DataConfig, config: FitConfig, tracking: Tracking | None = None) -> Beginning:
    """What the directory of a run holds from its first moment."""
    from gpureg.fitting.resume import begun
    from gpureg.storage.directory import Beginning

    data = anywhere(data)
    return Beginning(joined(data, config), begun(config) | besides(data, tracking))


def anywhere(data: DataConfig) -> DataConfig:
    """The data's options in a form that holds in any folder."""
    from gpureg.data import CATALOG

    return data.absolute(CATALOG)


@contextmanager
def interrupted_run(given: dict[str, Any]) -> Iterator[tuple[RunFolder, DataConfig, FitConfig, Saved | None]]:
    """The run that `--resume` names: its folder, its options, and its checkpoint if there is one.

    Raises UsageError for options that would make it another run, RunError if there is nothing to resume.
    """
    from gpureg.fitting.resume import unpack
    from gpureg.storage.directory import claim_again

    others = ["--" + name.replace("_", "-") for name in given if name not in WITH_RESUME]
    if others:
        raise UsageError(
            f"--resume continues a run with its own options: {', '.join(others)} can't be given with it. Leave "
            f"{'them' if len(others) > 1 else 'it'} out, or start a new run."
        )
    with claim_again(given["resume"]) as folder:
        checkpoint = folder.under_way()
        if checkpoint is None:
            data, config = parted(folder.config())
            yield folder, data, _elsewhere(config, given), None
        else:
            saved = unpack(*checkpoint)
            data = DataConfig.from_dict(saved.meta["options"])
            config = FitConfig.from_dict(saved.meta["config"], folded=data.folds is not None)
            yield folder, data, _elsewhere(config, given), saved


def _elsewhere(config: FitConfig, given: dict[str, Any]) -> FitConfig:
    """The options with the workers that are given now, if any are. Raises UsageError."""
    if not any(name in given for name in WHERE):
        return config
    return replace(config, scheduler=given.get("scheduler"), workers=given.get("workers"))
