"""The checkpoint of a run: the trainer's state, written while it runs and read to go on with it.

One file, checkpoint/state.npz, replaced by one rename: a kill at any moment leaves the state before or the state after.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.errors import RunError
from gpureg.storage import files as run_files
from gpureg.storage.files import Arrays

CHECKPOINT, STATE = "checkpoint", "state.npz"
META = "meta.json"  # the JSON travels as a byte array among the arrays: one file, so one atomic rename


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for a disk that refuses a run."""
    return RunError(
        f"The run directory {path} can't be written ({error.strerror or error}). Give an --out on a disk that has "
        "room and that you may write to."
    )


def write_checkpoint(
    directory: str | Path, arrays: Mapping[str, npt.NDArray[np.generic]], meta: Mapping[str, Any]
) -> Path:
    """Put the trainer's state into `directory`/checkpoint; the one before it survives a kill at any moment.

    `arrays` may have any names and shapes (no object arrays); `meta` is JSON (floats keep every bit, ±∞ is allowed).
    Raises RunError where the disk refuses.
    """
    path = Path(directory) / CHECKPOINT / STATE
    text = json.dumps(dict(meta), default=run_files.plain).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        run_files.write_bytes(path, run_files.npz_bytes({**arrays, META: np.frombuffer(text, np.uint8)}))
    except OSError as error:
        raise cannot_write(Path(directory), error) from error
    return path


def read_checkpoint(directory: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the meta of the last checkpoint. Raises RunError where there is none or it can't be read."""
    path = Path(directory) / CHECKPOINT / STATE
    if not path.exists():
        ended = "its run has ended" if (Path(directory) / "result.json").exists() else "it holds no interrupted run"
        raise RunError(f"{directory} has no checkpoint to resume from: {ended}. Start a run with `gpureg train --out`.")
    remedy = "It can't be resumed: start the run again with --force."
    arrays = run_files.read_npz(path, remedy)
    try:
        meta = json.loads(arrays.pop(META).astype(np.uint8).tobytes())
        return arrays, dict(meta)
    except (KeyError, ValueError, TypeError) as error:
        raise run_files.damaged(path, error, remedy) from error


def remove_checkpoint(directory: str | Path) -> None:
    """Drop the checkpoint, if there is one."""
    shutil.rmtree(Path(directory) / CHECKPOINT, ignore_errors=True)
