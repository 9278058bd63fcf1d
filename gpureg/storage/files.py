"""The files of a run directory: each written atomically, each read with one clear error.

A file is written beside its place, flushed to the disk and renamed: a reader, or a machine that loses power, meets the
old file or the new one, never half of one. NumPy archives are read and written without pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.errors import RunError

Arrays = dict[str, npt.NDArray[np.generic]]
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same arrays give the same bytes, whenever they are written
# What a damaged archive makes NumPy and zipfile raise. MemoryError: a flipped bit in a shape asks for exabytes.
ARCHIVE_ERRORS = (
    OSError, ValueError, KeyError, EOFError, TypeError, OverflowError, MemoryError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def temporary_beside(path: Path) -> Path:
    """An unused hidden name in the folder of `path`: on the same file system, so that a rename is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename outlives a power cut (systems that can't do it are left alone)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse to sync a folder; the rename itself has happened
        pass
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically. Raises OSError; what was at `path` is then untouched."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt too leaves no debris
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put a new folder with `files` at `directory` in one rename; raises OSError where something is already there."""
    temporary = temporary_beside(directory)
    try:
        temporary.mkdir()
        for name, content in files.items():
            write_bytes(temporary / name, content)
        os.rename(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(directory.parent)


def plain(value: Any) -> Any:
    """`value` in JSON's types: NumPy values unwrapped, tuples as lists, paths as text, NaN and ±∞ as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def json_bytes(value: Any) -> bytes:
    """`value` as indented UTF-8 JSON without NaN."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """`arrays` as an uncompressed .npz; raises ValueError on an object array, which only pickle could hold."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH), member.getvalue())
    return buffer.getvalue()


def safetensors_bytes(tensors: Mapping[str, npt.NDArray[np.generic]], metadata: Mapping[str, str]) -> bytes:
    """`tensors` as safetensors, its header's keys sorted: the library writes its metadata in a random order."""
    from safetensors.numpy import save

    blob = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, dict(metadata))
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of eight bytes
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]


def damaged(path: Path, cause: object, remedy: str) -> RunError:
    """The error for a file that is there and can't be read."""
    return RunError(f"{path} is damaged or not of this kind ({type(cause).__name__}: {cause}). {remedy}")


def read_bytes(path: Path, remedy: str) -> bytes:
    """The file's content; raises RunError where it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path} is missing. {remedy}") from None
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror or error}). {remedy}") from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The file's JSON object; raises RunError."""
    content = read_bytes(path, remedy)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error
    if not isinstance(value, dict):
        raise damaged(path, TypeError(f"a JSON {type(value).__name__}, wanted an object"), remedy)
    return value


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """The file's TOML table; raises RunError."""
    content = read_bytes(path, remedy)
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error


def read_npz(path: Path, remedy: str) -> Arrays:
    """Every array of the archive, without pickle; raises RunError."""
    content = read_bytes(path, remedy)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            # reading a member to its end makes zipfile check its CRC: a flipped bit is an error, not another number
            members = {name.removesuffix(".npy"): BytesIO(archive.read(name)) for name in archive.namelist()}
        return {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}
    except ARCHIVE_ERRORS as error:
        raise damaged(path, error, remedy) from error


def read_safetensors(path: Path, remedy: str) -> tuple[Arrays, dict[str, str]]:
    """The file's tensors and its metadata; raises RunError."""
    from safetensors import SafetensorError, safe_open

    read_bytes(path, remedy)  # its errors for a missing file are ours
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            return tensors, file.metadata() or {}
    except (SafetensorError, *ARCHIVE_ERRORS) as error:
        raise damaged(path, error, remedy) from error
