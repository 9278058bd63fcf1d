"""`--config FILE`: options from TOML, under those of the command line. A run's own config.toml runs it again."""

from __future__ import annotations

import codecs
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpureg.config import OWNERS, FitConfig, layered
from gpureg.config.options import brief
from gpureg.errors import UsageError

from .options import Option

NOT_IN_A_FILE = ("config", "resume")
# on the command line, one of a group replaces the others
ALTERNATIVES = (("lambdas", "lambda_grid", "Cs"), ("lr", "lrs"))
CLI_OWNERS = {**OWNERS, "lrs": OWNERS["lr"]}
# what config.toml of a run of schema 1 always holds; the first such runs were written before there was a second solver
SCHEMA_1 = {"task", "l2", "epochs", "batch_size", "shuffle", "seed", "patience", "keep", "device", "dtype"}
LARGEST = 1 << 20  # the most bytes that a file with options may have
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path in quotes"}


@dataclass(frozen=True)
class Given:
    """The options of the command line and the file: `values`; `left_out`, a notice of the file's options that are not
    used; and `where`, for a message, the file that named the solver, if one did.
    """

    values: dict[str, Any]
    left_out: str | None = None
    where: str = ""


def merged(given: dict[str, Any], options: tuple[Option, ...]) -> Given:
    """The options given on the command line over those of `--config`. Raises UsageError on what is not an option."""
    if "config" not in given:
        return Given(given)
    where = f"--config {given['config']}"
    checked = _checked(_read(Path(given["config"])), options, where)
    for group in ALTERNATIVES:
        if any(name in given for name in group):
            checked = {name: value for name, value in checked.items() if name not in group}
    values, names = layered(checked, given, CLI_OWNERS)
    notice = None
    if names:
        notice = (
            f"{where}: the solver is {values['solver']}; {', '.join(names)} "
            f"{'belong' if len(names) > 1 else 'belongs'} to the other solver and "
            f"{'are' if len(names) > 1 else 'is'} left out."
        )
    return Given(values, notice, f" in {where}" if "solver" in checked and "solver" not in given else "")


def _checked(values: dict[str, Any], options: tuple[Option, ...], where: str) -> dict[str, Any]:
    """A file's values as the options of a command."""
    known = {option.name: option for option in options if option.name not in NOT_IN_A_FILE}
    checked = {}
    for name, value in _as_options(values, known, where).items():
        option = known.get(name)
        if option is None:
            import difflib  # only for the error: the help stays quick

            close = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {close[0]!r}?" if close else "See --help for the options."
            raise UsageError(f"{where} names {name!r}, which is not an option of this command. {hint}")
        checked[name] = _typed(option, value, where)
    return checked


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # where it is used: the help stays quick

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--config {path} can't be read ({why}); give the path of a TOML file.") from None
    if len(content) > LARGEST:
        raise UsageError(f"--config {path} is larger than {LARGEST >> 20} MiB; give a TOML file with options.")
    try:
        # some editors put a mark at the beginning of UTF-8; file names need not be UTF-8
        return tomllib.loads(content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        why = "its brackets are nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"--config {path} is not TOML: {why}.") from None


def _as_options(values: dict[str, Any], known: dict[str, Option], where: str) -> dict[str, Any]:
    """A file's names as this command's: `l2` and `lr` of a run's config.toml are lists, `--lambdas` and `--lrs` in a
    sweep. An option that only the other command has is dropped if the file gives its default.
    """
    usual = FitConfig().to_dict()
    result: dict[str, Any] = {"solver": "sgd"} if set(values) >= SCHEMA_1 else {}
    if values.get("kernels") == "epoch":  # of runs of schema 1; gone
        values = values | {"kernels": "auto"}
    for raw, value in values.items():
        name = raw.replace("-", "_")
        if name in ("l2", "lr") and isinstance(value, list):
            if "lambdas" in known:
                name = {"l2": "lambdas", "lr": "lrs"}[name]
            elif len(value) == 1:
                value = value[0]
            else:
                raise UsageError(f"{where}: {name} has {len(value)} values; train takes one. Use gpureg sweep-lambda.")
        if name not in known and name in usual and value == usual[name]:
            continue
        result[name] = value
    return result


def _typed(option: Option, value: Any, where: str) -> Any:
    """A TOML value as the option's type; lists become the comma-separated text of the command line."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if option.many and isinstance(value, list):
        return value  # a name with a comma in it stays one
    if option.type is str and isinstance(value, list):
        value = ",".join(item if isinstance(item, str) else brief(item) for item in value)
    elif option.type is str and number:
        value = brief(value)
    elif option.type is float and number:
        value = math.inf if abs(value) > sys.float_info.max else float(value)
    elif option.type is Path and isinstance(value, str):
        value = Path(value)
    fits = isinstance(value, option.type) and (option.type is bool or not isinstance(value, bool))
    if option.choices and value not in option.choices:
        raise UsageError(f"{where}: {option.name} is {brief(value)}; expected one of {', '.join(option.choices)}.")
    if not fits or "\0" in str(value if option.type in (str, Path) else ""):
        raise UsageError(f"{where}: {option.name} is {brief(value)}; expected {WORDS[option.type]}.")
    return value
