"""Bytes on disk: a file appears whole or not at all, and a path that can't be used is one clear error.

A file is written under a hidden name in the same folder, flushed to the disk and renamed: a reader, or a machine that
loses power, finds the old file or the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gpureg.atomic import replacing
from gpureg.errors import RunError

DEBRIS = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


def is_debris(name: str, of: Collection[str]) -> bool:
    """Whether `name` is what a kill left of `replacing` for a file that is named in `of`."""
    return bool(DEBRIS.fullmatch(name)) and name[1:].rsplit(".", 2)[0] in of


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename outlives a power cut (systems that can't do it are left alone)."""
    if os.name != "posix":
        return
    with suppress(OSError):  # some network file systems refuse to sync a folder; the rename itself has happened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically. Raises OSError; what was at `path` is then untouched."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    sync_folder(path.parent)


def write_files(folder: Path, files: Mapping[str, bytes], *, flushed: bool = True) -> None:
    """Write new files below a new folder, `files` by their names relative to it. Raises OSError.

    Files that need not outlive a power cut are not flushed to the disk, which takes longer than all else.
    """
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            if flushed:
                os.fsync(file.fileno())
    for inner in {(folder / name).parent for name in files} | {folder} if flushed else ():
        sync_folder(inner)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """While a run is written, a disk that refuses becomes a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"The run directory {directory} can't be written ({error.strerror or error}). Free space there, or name a "
            "folder that you may write to, on a disk with room."
        ) from error


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """While a run is read, a file that is missing or can't be read becomes a RunError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{error.filename or path} is missing. {remedy}") from None
    except OSError as error:
        raise RunError(f"{error.filename or path} can't be read ({error.strerror or error}). {remedy}") from error
