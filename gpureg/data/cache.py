"""The data cache on disk: where it lies, what is valid in it, and how a file gets into it."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from gpureg.data.catalog import FileSpec
from gpureg.errors import DataError

_CHUNK = 1 << 20  # bytes per read
_STALE_SECONDS = 6 * 3600  # a temporary file older than this belongs to a process that was killed


class BadFileError(Exception):
    """A file is not the one expected (never leaves gpureg.data: `fetch` puts its text into one DataError)."""


def cache_dir() -> Path:
    """The root of the data cache: `GPUREG_DATA_DIR`, else the platform's user cache folder. Creates nothing.

    Raises DataError if there is neither.
    """
    named = os.environ.get("GPUREG_DATA_DIR")
    if named:
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError as error:
            raise DataError(
                f"GPUREG_DATA_DIR is {named!r}: there is no such home folder. Give the full path."
            ) from error
    import platformdirs

    try:
        cache = Path(platformdirs.user_cache_dir("gpureg")) / "data"
    except RuntimeError:  # what newer versions of platformdirs make of it
        cache = Path()
    if not cache.is_absolute():
        raise DataError("This user has no home folder to keep data sets in. Set GPUREG_DATA_DIR to a folder.")
    return cache


def dataset_dir(name: str) -> Path:
    """The folder of one named data set in the cache; data sets share file names, so each has its own."""
    return cache_dir() / name


def is_valid(path: Path, spec: FileSpec) -> bool:
    """Whether `path` is the file that `spec` describes: its size, then its SHA-256."""
    try:
        if path.stat().st_size != spec.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == spec.sha256
    except OSError:
        return False


def make_folder(folder: Path) -> None:
    """Create the cache folder and sweep out temporary files that killed processes left.

    Raises DataError if it can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _not_writable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def place(stream: BinaryIO, folder: Path, spec: FileSpec) -> None:
    """Copy `stream` (plain or gzip) to `folder/spec.name`, checked, so that no reader ever sees a partial file.

    The bytes go to a temporary file with a unique name, which takes the final name in one step once their size and
    SHA-256 are right. So two processes that fetch at once both succeed.

    Raises BadFileError if the content is not what `spec` describes, DataError if the cache can't be written, and
    OSError if the stream can't be read.
    """
    part = folder / f".{spec.name}.{secrets.token_hex(8)}.part"
    try:
        try:
            target = part.open("xb")
        except OSError as error:
            raise _not_writable(folder, error) from error
        with target:
            _copy_checked(stream, target, folder, spec)
        try:
            part.replace(folder / spec.name)
        except OSError as error:
            raise _not_writable(folder, error) from error
    finally:
        part.unlink(missing_ok=True)


def _copy_checked(stream: BinaryIO, target: BinaryIO, folder: Path, spec: FileSpec) -> None:
    """Decompress if the content is gzip (its first bytes tell: servers differ), count and hash, compare."""
    digest = hashlib.sha256()
    size = 0
    try:
        for block in _blocks(stream):
            size += len(block)
            if size > spec.size:  # stop early: a gzip stream can expand without end
                raise BadFileError(f"{spec.name}: more than the {spec.size} bytes it should have")
            digest.update(block)
            try:
                target.write(block)
            except OSError as error:
                raise _not_writable(folder, error) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadFileError(f"{spec.name}: damaged gzip data ({error})") from error
    if size != spec.size:
        raise BadFileError(f"{spec.name}: {size} bytes, expected {spec.size}")
    if digest.hexdigest() != spec.sha256:
        raise BadFileError(f"{spec.name}: SHA-256 {digest.hexdigest()}, expected {spec.sha256}")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    head = stream.read(2)
    stream.seek(0)
    source = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if head == b"\x1f\x8b" else stream
    while block := source.read(_CHUNK):
        yield block


def _not_writable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"can't write to the data cache {folder} ({error.strerror or error}). "
        "Set GPUREG_DATA_DIR to a folder that can be written, or free some space there."
    )
