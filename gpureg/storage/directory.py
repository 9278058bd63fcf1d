"""A run directory: at most one finished run, and at most one run under way.

    config.toml             enough to run it again; there from the start
    result.json             the JSON result: a run that ended, or was interrupted
    environment.json        versions, machine, threads
    history.npz             what was measured while it was trained
    model.safetensors       the weights and the scaling of their inputs
    checkpoint/state.npz    the run under way, from its first moment: it goes before the result of an earlier one
    .lock                   held by the one process that writes (`lock`)

      nothing --begin--> under way --commit--> finished --begin (--force)--> finished, another under way
                          |     ^                 ^                                   |
        commit of what    |     | go on           +-----------commit------------------+
        was interrupted   v     |
                        interrupted

Only the process that holds the lock moves a folder from one state to the next. `begin` and every checkpoint are one
rename each; `commit` replaces five files as one (`swap`). So a kill at any moment leaves one of these states.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.errors import RunError, named
from gpureg.storage import swap
from gpureg.storage.checkpoint import (
    CHECKPOINT,
    STATE,
    checkpoint_bytes,
    has_checkpoint,
    is_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from gpureg.storage.contents import (
    AGAIN,
    CONFIG,
    MODEL,
    RESULT,
    Run,
    decode_run,
    encode_run,
    is_interrupted,
    read_config,
    read_result,
)
from gpureg.storage.encoding import Arrays, toml_bytes
from gpureg.storage.files import reading, write_bytes, write_files, writing
from gpureg.storage.lock import LOCK, Lock, OccupiedError

__all__ = ["Beginning", "OccupiedError", "Run", "RunFolder", "claim", "claim_again", "load_run", "write_run"]


@dataclass(frozen=True)
class Beginning:
    """What a run has from its first moment: `config` for config.toml, and the `meta` of a checkpoint without state."""

    config: dict[str, Any]
    meta: dict[str, Any]

    def files(self) -> dict[str, bytes]:
        """By their names below the run directory."""
        return {CONFIG: toml_bytes(self.config), f"{CHECKPOINT}/{STATE}": checkpoint_bytes({}, self.meta)}


class RunFolder:
    """A run directory that this process alone writes, until the block of its `claim` ends."""

    def __init__(self, path: Path, beginning: Beginning | None, begun: bool = False) -> None:
        self.path, self._beginning = path, beginning
        self.begun, self._kept = begun, False  # whether there is something to resume; whether it has a state

    def begin(self) -> None:
        """Put this run in place of another one under way; a finished run stays. Raises RunError."""
        if self.begun or self._beginning is None:
            return
        self.begun = True
        with writing(self.path):
            remove_checkpoint(self.path)  # first: no checkpoint ever meets the config.toml of another run
            for name, content in self._beginning.files().items():
                if name != CONFIG or not (self.path / RESULT).exists():
                    (self.path / name).parent.mkdir(exist_ok=True)
                    write_bytes(self.path / name, content)

    def keep(self, arrays: Mapping[str, npt.NDArray[np.generic]], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint. Raises RunError if the disk refuses; the one before is then untouched."""
        write_checkpoint(self.path, arrays, meta)
        self._kept = True

    def under_way(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The checkpoint to resume from; None if there is only config.toml. Raises RunError."""
        return read_checkpoint(self.path) if has_checkpoint(self.path) else None

    def config(self) -> dict[str, Any]:
        """The content of config.toml. Raises RunError."""
        with reading(self.path / CONFIG, AGAIN):
            return read_config(self.path)

    def holds_finished(self) -> bool:
        """Whether there is a run that has ended."""
        result = read_result(self.path)
        return bool(result) and not is_interrupted(result)

    def commit(self, run: Run) -> Path:
        """Make `run` the run of this folder, whole or not at all. Raises RunError if the disk refuses.

        The checkpoint goes, unless the run was interrupted and is to be resumed.
        """
        with writing(self.path):
            swap.commit(self.path, encode_run(run))
        return self.path

    def abandon(self) -> None:
        """Undo the beginning of a run that could not be trained, unless there is a checkpoint to resume from."""
        if self._beginning is None or not self.begun or self._kept:
            return
        with suppress(OSError):
            remove_checkpoint(self.path)
            if not (self.path / RESULT).exists():
                (self.path / CONFIG).unlink(missing_ok=True)


@contextmanager
def claim(directory: str | Path, *, force: bool = False, beginning: Beginning | None = None) -> Iterator[RunFolder]:
    """The folder for a new run, made if it is not there, and this process's own until the block ends.

    With `beginning` the run is under way at once, except where that would cost another one's checkpoint: that goes in
    `RunFolder.begin`. If the block fails before a checkpoint was kept, all that was made is removed again. Raises
    OccupiedError if a run is there and `force` is false, or another process is writing; RunError if the folder is a
    file, holds other files than a run's, or can't be written.
    """
    path = Path(directory)
    with _made_or_removed(path):
        with writing(path):
            if path.exists() and not path.is_dir():
                raise RunError(f"{path} is a file, expected a folder for the run. Give another {named('out')}.")
            lock, begun = _enter(path, beginning)
        folder = RunFolder(path, beginning, begun)
        try:
            with writing(path):
                swap.clean(path)
                _refuse(path, force or begun)
                if not has_checkpoint(path):
                    folder.begin()
            yield folder
        except Exception:
            folder.abandon()
            raise
        finally:
            lock.release()


@contextmanager
def _made_or_removed(path: Path) -> Iterator[None]:
    """The folders that are not there yet are removed again when the block ends, if they are empty then."""
    with writing(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def claim_again(directory: str | Path) -> Iterator[RunFolder]:
    """The folder of a run that has not ended, this process's own until the block ends.

    Raises RunError if there is none, OccupiedError if another process is writing.
    """
    path = Path(directory)
    with reading(path, "Give the directory of an interrupted run."):
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise RunError(f"{path} {what}, expected the directory of an interrupted run.")
    with writing(path):
        lock = Lock.acquire(path)
    try:
        with writing(path):
            swap.clean(path)
            _refuse_ended(path)
        yield RunFolder(path, None, begun=True)
    finally:
        lock.release()


def is_under_way(directory: str | Path) -> bool:
    """Whether there is a run to resume."""
    path = Path(directory)
    with suppress(OSError):
        return has_checkpoint(path) or bool(read_config(path) and not read_result(path))
    return False


def write_run(run: Run, *, force: bool = False) -> Path:
    """Write `run` into its directory, as `load_run` reads it, and return the path.

    Raises RunError as `claim` and `RunFolder.commit` do.
    """
    with claim(run.directory, force=force) as folder:
        return folder.commit(run)


def load_run(directory: str | Path) -> Run:
    """Read a finished or interrupted run. Raises one RunError that says what is missing or damaged, and what to do.

    >>> import gpureg
    >>> result = gpureg.fit(gpureg.load_dataset("digits"), solver="lbfgs", l2=[1e-3, 1e-4])
    >>> folder = result.save("runs/sweep")
    >>> run = gpureg.load_run("runs/sweep")
    >>> [model["stop_reason"] for model in run.result["models"]]
    ['converged', 'converged']
    >>> run.model.coef.shape  # models, classes, features
    (2, 10, 64)
    """
    path = Path(directory)
    with reading(path, AGAIN):
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise RunError(f"{path} {what}, expected a run directory, as `gpureg train --out {path}` writes one.")
        files = swap.read_whole(path)
        if files is None and _is_ours(path) and not (path / MODEL).exists():
            raise RunError(f"{path} holds an unfinished run: resume it with `gpureg train --resume {path}`.")
    if files is None:
        raise RunError(f"{path} is not a run directory: {RESULT} is missing. {AGAIN}")
    return decode_run(path, files)


def _enter(path: Path, beginning: Beginning | None) -> tuple[Lock, bool]:
    """The folder's lock, and whether the folder is new: it then appears with the run under way, by one rename."""
    if beginning is not None and not path.exists():
        temporary, lock = path.with_name(swap.unused_name()), None
        try:
            write_files(temporary, beginning.files(), flushed=False)  # nothing has been trained that could be lost
            lock = Lock.acquire(temporary)
            os.rename(temporary, path)
            lock.folder = path
            return lock, True
        except BaseException as error:
            if lock is not None:
                lock.release()
            shutil.rmtree(temporary, ignore_errors=True)
            if not (isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY)):
                raise  # else another process was first
    path.mkdir(parents=True, exist_ok=True)
    return Lock.acquire(path), False


def _refuse(path: Path, force: bool) -> None:
    """Refuse a folder that is not a run's, and without `force` one that is."""
    if not _is_ours(path):
        others = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)
        if others:
            raise RunError(
                f"{path} holds other files ({others[0]}, ...) but no run. Give a new or empty folder as {named('out')}."
            )
    elif not force:
        if has_checkpoint(path) or not (path / RESULT).exists():
            raise OccupiedError(
                f"{path} holds an interrupted run; resume it with `gpureg train --resume {path}`, or replace it with "
                f"{named('force', True)}."
            )
        raise OccupiedError(
            f"{path} already holds a run; give another {named('out')}, or replace it with {named('force', True)}."
        )


def _refuse_ended(path: Path) -> None:
    if is_under_way(path):
        return
    result = read_result(path)
    if result and not is_interrupted(result):
        raise RunError(f"{path}: this run is finished; there is nothing to resume. {named('force', True)} replaces it.")
    if not read_config(path):
        raise RunError(f"{path} holds no interrupted run. Start one with `gpureg train --out {path}`.")


def _is_ours(path: Path) -> bool:
    """Whether the folder holds a run of gpureg's, finished or under way, by what its files say: names alone don't."""
    return bool(read_result(path)) or bool(read_config(path)) or is_checkpoint(path)
