"""The checkpoint of a run under way: the trainer's state, from the run's first moment to its end.

One file, checkpoint/state.npz, replaced by one rename: a kill at any moment leaves the state before or the state after.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.storage.encoding import ARCHIVE_ERRORS, Arrays, damaged, npz_bytes, parse_npz, plain
from gpureg.storage.files import is_debris, reading, write_bytes, writing

CHECKPOINT, STATE = "checkpoint", "state.npz"
META = "meta.json"  # the JSON travels as a byte array among the arrays: one file, so one atomic rename
AGAIN = "It can't be resumed: start the run again."


def checkpoint_bytes(arrays: Mapping[str, npt.NDArray[np.generic]], meta: Mapping[str, Any]) -> bytes:
    """A checkpoint as a file.

    `arrays` may have any names and shapes (no object arrays); `meta` is JSON (floats keep every bit, ±∞ is allowed).
    """
    text = json.dumps(meta, default=plain).encode()
    return npz_bytes({**arrays, META: np.frombuffer(text, np.uint8)})


def write_checkpoint(
    directory: str | Path, arrays: Mapping[str, npt.NDArray[np.generic]], meta: Mapping[str, Any]
) -> Path:
    """Put the trainer's state into `directory`/checkpoint; the one before it survives a kill at any moment.

    Raises RunError if the disk refuses.
    """
    path = Path(directory) / CHECKPOINT / STATE
    content = checkpoint_bytes(arrays, meta)
    with writing(Path(directory)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return path


def read_checkpoint(directory: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the meta of the last checkpoint. Raises RunError if there is none or it can't be read."""
    path = Path(directory) / CHECKPOINT / STATE
    with reading(path, AGAIN):
        content = path.read_bytes()
    return parse_checkpoint(content, path)


def parse_checkpoint(content: bytes, path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The inverse of `checkpoint_bytes`; `path` is where the file lies. Raises RunError."""
    arrays = parse_npz(content, path, AGAIN)
    try:
        meta = json.loads(arrays.pop(META).astype(np.uint8).tobytes())
        return arrays, dict(meta)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error, AGAIN) from error


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a file where a checkpoint lies; it may be damaged."""
    return (directory / CHECKPOINT / STATE).is_file()


def is_checkpoint(directory: Path) -> bool:
    """Whether there is a checkpoint of gpureg's: an archive with its meta in it."""
    try:
        with zipfile.ZipFile(directory / CHECKPOINT / STATE) as archive:
            return f"{META}.npy" in archive.namelist()
    except ARCHIVE_ERRORS:
        return False


def remove_checkpoint(directory: Path) -> None:
    """Remove the checkpoint, if there is one, and nothing else from its folder. Raises OSError."""
    folder = directory / CHECKPOINT
    if not folder.is_dir():
        return
    (folder / STATE).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if is_debris(entry.name, (STATE,)):
            entry.unlink()
    with suppress(OSError):  # other files are in it
        folder.rmdir()
