"""From a path to `RawData`."""

from __future__ import annotations

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from gpureg.data.catalog import CATALOG
from gpureg.data.formats import EXPECTED, format_of
from gpureg.data.limits import Limit, machine_limit
from gpureg.data.opening import first_words
from gpureg.data.raw import RawData
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named


def read_path(
    path: str | Path,
    uses: Uses = Uses(),  # noqa: B008  # it is frozen
    limit: Limit | None = None,
) -> RawData:
    """Read a data set from a file (or a folder of IDX files in MNIST's names), without rows of weight 0.

    `uses` names columns of a table or arrays of an npz. `limit` bounds the memory that reading takes; by default the
    machine's memory does. The result's `source` has the path.

    Raises UsageError for a path that is not there or an option that the format has no use for, DataError for what can't
    be read.
    """
    file = existing(path)
    raw = format_of(file).labelled(file, uses, limit or machine_limit())
    return named_as(raw, file)


def named_as(raw: RawData, file: Path) -> RawData:
    """Data with a name that prints, and where they came from."""
    name = raw.name or file.absolute().name
    return replace(raw, name=_printable(name), source={"origin": _printable(str(file.absolute()))}, read=True)


def existing(path: str | Path, option: str = "dataset") -> Path:
    """The path that an option names, which must be there.

    Raises UsageError, with the named data sets that may have been meant.
    """
    if str(path) == "":
        raise UsageError(f"{_given(option)} is empty. {EXPECTED}, or one of {', '.join(CATALOG)}.")
    try:
        file = Path(path).expanduser()
        file.stat()
    except RuntimeError as error:  # the home of a user that there is not
        raise UsageError(f"{_given(option, str(path))}: there is no such home folder. Give the full path.") from error
    except PermissionError as error:
        raise DataError(
            f"{_given(option, str(path))} can't be reached: permission denied. Check the permissions of the folders "
            "that lead to it."
        ) from error
    except (OSError, ValueError) as error:  # not there, a name too long, a null byte
        close = get_close_matches(str(path).lower(), list(CATALOG), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        if not isinstance(error, FileNotFoundError):
            hint = f" ({first_words(error)})"
        raise UsageError(
            f"{_given(option, str(path))} is neither a named data set ({', '.join(CATALOG)}) nor a file that exists."
            f"{hint}"
        ) from error
    return file


def _given(option: str, value: str | None = None) -> str:
    """An option in its caller's words; an argument (in capitals) is the same everywhere."""
    return named(option, value) if option.islower() else f"{option} {value}" if value else option


def _printable(name: str) -> str:
    """A file's name as text: bytes of it that are not UTF-8 stand as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
