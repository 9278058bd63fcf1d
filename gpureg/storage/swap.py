"""Five files replaced as one: the files of a run, written whole, become the run by one rename.

    .gpureg-new-<hex>/      the five files of a run that is being saved; debris, if its writer was killed
    .gpureg-swap/           the same, complete: from the rename to this name on, these files are the run

A kill before that rename leaves the old run, a kill after it the new one. Readers look into .gpureg-swap first, so they
find one run whole without writing anything; the next process that opens the folder moves what is left into its place.
Each of these steps can be done again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gpureg.errors import RunError
from gpureg.storage.checkpoint import remove_checkpoint
from gpureg.storage.contents import FILES, RESULT, is_interrupted, read_result
from gpureg.storage.files import is_debris, sync_folder, write_files
from gpureg.storage.lock import OccupiedError, locked

SWAP, NEW = ".gpureg-swap", ".gpureg-new-"
ATTEMPTS = 100  # at reading a run that is replaced again and again


def unused_name() -> str:
    """A folder's name for what is being written."""
    return f"{NEW}{uuid.uuid4().hex[:12]}"


def commit(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `files` the run of `folder`, whose lock the caller holds. Raises OSError; the run before is then there."""
    staged = folder / unused_name()
    try:
        write_files(staged, files)
        os.rename(staged, folder / SWAP)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    sync_folder(folder)
    finish(folder)


def finish(folder: Path) -> None:
    """Move the files of a committed run into their places, and remove its checkpoint if it has ended.

    The checkpoint goes before .gpureg-swap does, so one that is there never belongs to a run that has ended. The caller
    holds the lock. Raises OSError.
    """
    swap = folder / SWAP
    if not swap.is_dir():
        return
    for name in FILES:  # result.json last
        with suppress(FileNotFoundError):  # moved already
            os.replace(swap / name, folder / name)
    if not is_interrupted(read_result(folder)):
        remove_checkpoint(folder)
    sync_folder(folder)
    swap.rmdir()


def clean(folder: Path) -> None:
    """Finish what a killed writer committed, and remove what it did not. The caller holds the lock. Raises OSError."""
    finish(folder)
    for entry in list(folder.iterdir()):
        if entry.name.startswith(NEW) and set(os.listdir(entry)) <= set(FILES):
            shutil.rmtree(entry)
        elif is_debris(entry.name, FILES):
            entry.unlink()


def read_whole(folder: Path) -> dict[str, bytes] | None:
    """The files of one run by their names, also while another process replaces it; None if there is no run.

    Raises OSError, FileNotFoundError for a file that is missing among them too.
    """
    if (folder / SWAP).is_dir():
        with suppress(OSError, OccupiedError), locked(folder, patience=0):
            finish(folder)
    for _ in range(ATTEMPTS):
        try:
            mark = _open(folder, RESULT)
        except FileNotFoundError:
            return None
        with mark:  # open until the end, so that no other file gets its number
            files = {name: _read(folder, name) for name in FILES}
            with _open(folder, RESULT) as still:
                if os.path.samestat(os.fstat(mark.fileno()), os.fstat(still.fileno())):
                    return files
    raise RunError(f"{folder} keeps being replaced by other runs. Read it when they have ended.")


def _open(folder: Path, name: str) -> BinaryIO:
    try:
        return (folder / SWAP / name).open("rb")
    except FileNotFoundError:
        return (folder / name).open("rb")


def _read(folder: Path, name: str) -> bytes:
    with _open(folder, name) as file:
        return file.read()
