"""Checkpoints of a run: when one is written into its directory, and how a run is taken up again from one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpureg.errors import RunError, UsageError

if TYPE_CHECKING:
    from gpureg.fitting.resume import Saved
    from gpureg.types import HostArrays

SECONDS = 20.0
SHARE = 20  # a checkpoint that takes t seconds is followed by 20 t without one: at most 5% of the time is spent on them
BESIDE_RESUME = ("resume", "json", "quiet", "checkpoint_seconds")


class CheckpointWriter:
    """Keeps a fit's checkpoints in its run directory, `seconds` apart at the least; `options` are those of the data."""

    def __init__(self, directory: Path, options: dict[str, Any], seconds: float) -> None:
        self.directory, self.options, self.seconds = directory, options, seconds
        self._pause = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """See `gpureg.fitting.resume.Keeper`."""
        return time.monotonic() - self._last >= self._pause

    def write(self, arrays: HostArrays, meta: dict[str, Any]) -> None:
        """See `gpureg.fitting.resume.Keeper`."""
        from gpureg.storage.directory import write_checkpoint

        begun = time.monotonic()
        write_checkpoint(self.directory, arrays, meta | {"options": self.options})
        self._last = time.monotonic()
        if self.seconds:
            self._pause = max(self.seconds, SHARE * (self._last - begun))


def open_interrupted(given: dict[str, Any]) -> tuple[Saved, dict[str, Any]]:
    """The checkpoint of the run that `--resume` names, and its options with those of the command line that only show.

    Raises UsageError for options that would make another run of it, RunError where there is nothing to go on with.
    """
    from gpureg.fitting.resume import unpack
    from gpureg.storage.directory import read_checkpoint

    directory = Path(given["resume"])
    others = ["--" + name.replace("_", "-") for name in given if name not in BESIDE_RESUME]
    if others:
        raise UsageError(
            f"--resume goes on with the run's own options: {', '.join(others)} can't be given with it. Drop that, or "
            "start a new run."
        )
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise RunError(f"--resume {directory} {what}; wanted the directory of an interrupted run.")
    _refuse_ended(directory)
    arrays, meta = read_checkpoint(directory)
    saved = unpack(arrays, meta)
    return saved, meta.get("options", {}) | given


def _refuse_ended(directory: Path) -> None:
    """A run whose result says that it ended has nothing left to do, even where its checkpoint is still there."""
    from gpureg.storage.files import read_json

    result = directory / "result.json"
    if not result.exists():
        return
    models = read_json(result, "Train again with --force.").get("models", [])
    if not any(model.get("stop_reason") == "interrupted" for model in models):
        raise RunError(
            f"--resume {directory}: this run has ended, there is nothing to go on with. Train again with another --out."
        )
