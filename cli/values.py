"""Values as they are written on the command line: lists of numbers, sizes; and the options as a configuration."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from gpureg.config import FitConfig
from gpureg.errors import UsageError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def fit_config(values: dict[str, Any], **models: Any) -> FitConfig:
    """The part of the options that shapes the fit, with `models` (λ, learning rates) beside it. Raises UsageError."""
    names = {field.name for field in fields(FitConfig)}
    chosen = {name: value for name, value in values.items() if name in names} | models
    if "memory" in chosen:
        chosen["memory"] = parse_bytes(chosen["memory"])
    if chosen.get("class_weight") == "none":
        chosen["class_weight"] = None
    return FitConfig(**chosen)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Comma-separated numbers. Raises UsageError."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values:
        raise UsageError(f"{option} is {text!r}; wanted numbers separated by commas, for example 2,0.2,0.02.")
    return values


def parse_bytes(text: str) -> int:
    """`512MiB`, `2GiB`, `1.5GB` or a number of bytes. Raises UsageError."""
    cleaned = text.strip().upper()
    digits = cleaned.rstrip("BKMGI ")
    try:
        size = float(digits) * UNITS[cleaned[len(digits) :].strip()]
    except (ValueError, KeyError):
        size = 0
    if not 1 <= size < 2**63:
        raise UsageError(f"--memory is {text!r}; wanted a size such as 512MiB or 2GiB.")
    return int(size)


def checkpoint_seconds(value: float) -> float:
    """Seconds between two checkpoints. Raises UsageError."""
    if not 0 <= value < math.inf:
        raise UsageError(f"--checkpoint-seconds is {value:g}; wanted a finite number of at least 0.")
    return value
