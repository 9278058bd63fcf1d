"""Values as they are written on the command line: lists of numbers, sizes; and the options as configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gpureg.config import (
    LBFGS_GRID,
    REPORT_LAMBDAS,
    DataConfig,
    FitConfig,
    SolverChoice,
    decide_solver,
    options_of,
    parted,
)
from gpureg.errors import UsageError

from .config_file import CLI_OWNERS, Given

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def configs(
    given: Given, models: Mapping[str, Any] = MappingProxyType({}), *, sweep: bool = False
) -> tuple[DataConfig, FitConfig, SolverChoice]:
    """The configurations of the data and the fit, with `models` (λ, learning rates) in place of theirs, and the solver.

    Raises UsageError.
    """
    from gpureg.data.catalog import CATALOG

    known = {**options_of(DataConfig), **options_of(FitConfig)}
    chosen = {name: value for name, value in given.values.items() if name in known}
    chosen |= models
    for name, value in chosen.items():
        if known[name].about.size and isinstance(value, str):
            chosen[name] = parse_bytes(value)
    named_set = chosen.get("dataset", DataConfig.dataset) in CATALOG
    values = dict(given.values)
    if "folds" in values and values.get("seeds") == 1:
        del values["seeds"]  # folds that the data name are one assignment, and no shuffle is asked for
    choice = decide_solver(values, CLI_OWNERS, named_set, where=given.where)
    if sweep and not {"l2", "Cs"} & set(chosen):
        chosen["l2"] = grid("lambda_grid", LBFGS_GRID) if choice.to_optimum else REPORT_LAMBDAS
    return *parted(chosen | {"solver": choice.solver}), choice


def opening(choice: SolverChoice, given: Given) -> list[str]:
    """What a run says first: the solver and why, then the options that it leaves out."""
    line = f"solver: {choice.solver} ({choice.reason})"
    return [line] if given.left_out is None else [line, given.left_out]


def grid(option: str, text: str) -> tuple[float, ...]:
    """`LOW:HIGH:COUNT`, from HIGH down. Raises UsageError."""
    from gpureg.fitting.grid import log_grid

    return log_grid(text, option)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Comma-separated numbers. Raises UsageError."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values:
        raise UsageError(f"{option} is {text!r}; expected numbers separated by commas, for example 2,0.2,0.02.")
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
        raise UsageError(f"--memory is {text!r}; expected a size such as 512MiB or 2GiB.")
    return int(size)


def checkpoint_seconds(value: float) -> float:
    """Seconds between two checkpoints. Raises UsageError."""
    if not 0 <= value < math.inf:
        raise UsageError(f"--checkpoint-seconds is {value:g}; expected a finite number of at least 0.")
    return value
