"""From a path to `RawData`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from gpureg.data.catalog import CATALOG
from gpureg.data.formats import EXPECTED, format_of
from gpureg.data.raw import RawData
from gpureg.errors import UsageError


def read_path(path: str | Path, *, target: str | None, weights: str | None) -> RawData:
    """Read a data set from a file (or a folder of IDX files in MNIST's names).

    `target` and `weights` name columns of a table or arrays of an npz. The result's `source` has the path and, for a
    file, its SHA-256.

    Raises UsageError for a path that is not there or an option that the format has no use for, DataError for what can't
    be read.
    """
    file = existing(path)
    raw = format_of(file).labelled(file, target, weights)
    return replace(raw, source={"origin": str(file.absolute()), **_digest(file)})


def existing(path: str | Path) -> Path:
    """The path, which must be there. Raises UsageError, with the named data sets that it may have been meant for."""
    if str(path) == "":
        raise UsageError(f"--dataset is empty. {EXPECTED}, or one of {', '.join(CATALOG)}.")
    file = Path(path).expanduser()
    try:
        there = file.exists()
    except (OSError, ValueError):  # a name too long, a null byte
        there = False
    if there:
        return file
    close = get_close_matches(str(path).lower(), list(CATALOG), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(
        f"--dataset {str(path)!r} is neither a named data set ({', '.join(CATALOG)}) nor a file that exists.{hint}"
    )


def _digest(file: Path) -> dict[str, str]:
    if file.is_dir():
        return {}
    with file.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
