"""Values as the bytes of a run's files, and back: JSON, TOML, NumPy archives, safetensors. No pickle anywhere.

A file name that is not UTF-8 comes as text with surrogates (`os.fsdecode`). JSON holds these as its own escapes, TOML
as the bytes that they stand for. What can't be decoded is one RunError that names the file.
"""

from __future__ import annotations

import json
import tomllib
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


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON without NaN; only what UTF-8 can't hold is escaped."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate becomes \udcff, JSON's own escape


def json_bytes(value: Any) -> bytes:
    """`value` as an indented JSON file."""
    return (json_text(value, indent=2) + "\n").encode()


def toml_bytes(value: Mapping[str, Any]) -> bytes:
    """`value` as TOML; what is None is left out, since TOML has no null."""
    import tomli_w

    return tomli_w.dumps(_without_none(plain(value))).encode("utf-8", "surrogateescape")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


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
    """The error for a file that exists but whose content is not that of a run."""
    return RunError(f"{path} is damaged or not of this kind ({type(cause).__name__}: {cause}). {remedy}")


def parse_json(content: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in `content`, the bytes of `path`; raises RunError."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error
    if not isinstance(value, dict):
        raise damaged(path, TypeError(f"a JSON {type(value).__name__}, expected an object"), remedy)
    return value


def parse_toml(content: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """The TOML table in `content`, the bytes of `path`; raises RunError."""
    try:
        return tomllib.loads(content.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error


def parse_npz(content: bytes, path: Path, remedy: str) -> Arrays:
    """Every array of the archive in `content`, the bytes of `path`; raises RunError."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("a compressed member, which could unpack to any size; a run's are stored")
            # reading a member to its end makes zipfile check its CRC: a flipped bit is an error, not another number
            members = {
                member.filename.removesuffix(".npy"): BytesIO(archive.read(member)) for member in archive.infolist()
            }
        return {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}
    except ARCHIVE_ERRORS as error:
        raise damaged(path, error, remedy) from error


def parse_safetensors(content: bytes, path: Path, remedy: str) -> tuple[Arrays, dict[str, str]]:
    """The tensors and the metadata in `content`, the bytes of `path`; raises RunError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: Arrays = load(content)  # checks the header, which is then read once more for the metadata
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, dict(header.get("__metadata__") or {})
    except (SafetensorError, *ARCHIVE_ERRORS) as error:
        raise damaged(path, error, remedy) from error
