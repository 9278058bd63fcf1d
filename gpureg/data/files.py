"""Placeholder, replaced below."""

from __future__ import annotations

from pathlib import Path

from gpureg.data.raw import RawData
from gpureg.errors import DataError


def read_path(path: str | Path, *, target: str | None, weights: str | None) -> RawData:
    """Read a data set from a file."""
    raise DataError(f"{path}: files are not read yet")
