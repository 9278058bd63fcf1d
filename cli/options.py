"""The options that `train` and `sweep-lambda` share, each written once, and the way from them to a configuration.

A command's parameters are built from these tables, so that both commands, `--config` files and the help say the same.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from gpureg.config import FitConfig
from gpureg.errors import UsageError

DATA, MODEL, TRAINING, DEVICE, OUTPUT = "Data", "Model", "Training", "Device", "Run and output"


@dataclass(frozen=True)
class Option:
    """One option: its name (as in a configuration), type, flags, help, help panel, and the default in words."""

    name: str
    type: Any
    flags: tuple[str, ...]
    help: str
    panel: str
    default: str | None = None

    def parameter(self) -> inspect.Parameter:
        """As a parameter that typer reads; None stands for not given."""
        shown: Any = self.default if self.default is not None else False
        option = typer.Option(*self.flags, help=self.help, rich_help_panel=self.panel, show_default=shown)
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[self.type | None, option]
        )


def _fit(name: str, type_: Any, text: str, panel: str, flags: tuple[str, ...] = (), default: str | None = None) -> Option:
    """An option of `FitConfig`, with its default read from there."""
    value = getattr(FitConfig, name, None)
    flag = flags or ("--" + name.replace("_", "-"),)
    return Option(name, type_, flag, text, panel, default if default is not None else (None if value is None else str(value)))


SHARED = (
    _fit("task", str, "softmax, or logistic for two classes.", MODEL),
    Option("dataset", str, ("--dataset",), "mnist, fashion-mnist, digits, or a path (npz, npy, csv, parquet, idx).", DATA, "mnist"),
    Option("classes", str, ("--classes",), "Keep these classes, e.g. 2,3; for logistic the first is positive.", DATA, "all; 2,3 for logistic on mnist"),
    Option("train_size", int, ("--train-size",), "The first so many training rows, before classes are selected.", DATA, "mnist: 20000, else all"),
    Option("val_size", int, ("--val-size",), "The first so many validation rows, or of a stratified split.", DATA, "mnist: 10000, else all or 20%"),
    Option("target", str, ("--target",), "Label column of a table.", DATA, "the last"),
    Option("weights", str, ("--weights",), "Column of sample weights of a table.", DATA, "none"),
    _fit("scale", str, "none; standard (fitted on the training rows, also with --cv); pixels (2x/max - 1).", DATA, default="pixels for images, else standard"),
    _fit("class_weight", str, "balanced: every class weighs the same.", DATA, default="none"),
    _fit("penalize_bias", bool, "Whether the bias carries the penalty.", MODEL, ("--penalize-bias/--no-penalize-bias",), "on"),
    _fit("solver", str, "sgd (minibatches, early stopping) or lbfgs (to the optimum).", TRAINING),
    _fit("epochs", int, "At most so many epochs.", TRAINING),
    _fit("batch_size", int, "Samples of a minibatch.", TRAINING),
    _fit("shuffle", bool, "A new order in every epoch.", TRAINING, ("--shuffle/--no-shuffle",), "on"),
    _fit("seed", int, "Of the shuffle, the split and the folds.", TRAINING),
    _fit("evals_per_epoch", int, "Evaluations in an epoch.", TRAINING),
    _fit("patience", int, "Stop after so many evaluations without a new lowest validation loss; 0: never.", TRAINING),
    _fit("min_delta", float, "Nats below the lowest that count as a new lowest.", TRAINING),
    _fit("keep", str, "Weights of the last step, or of the best evaluation.", TRAINING),
    _fit("tol", float, "lbfgs: when a model counts as converged.", TRAINING),
    _fit("max_iter", int, "lbfgs: at most so many iterations.", TRAINING),
    _fit("device", str, "auto, cpu, cuda or cuda:N.", DEVICE),
    _fit("strict_device", bool, "Fail (exit 3) rather than fall back to the CPU.", DEVICE, ("--strict-device",), "off"),
    _fit("dtype", str, "float32 or float64.", DEVICE),
    _fit("threads", int, "Threads of the BLAS.", DEVICE, default="the library's own"),
    _fit("memory", str, "Budget for work arrays, e.g. 512MiB or 2GiB; a grid is split to fit it.", DEVICE, default="2GiB"),
    _fit("kernels", str, "auto, fused, reference, or epoch (CUDA: one launch an epoch).", DEVICE),
    Option("config", Path, ("--config",), "TOML file with these options; the command line wins.", OUTPUT),
    Option("out", Path, ("--out",), "Run directory.", OUTPUT, "runs/<task>-<dataset>-<time>"),
    Option("force", bool, ("--force",), "Replace a run that is there.", OUTPUT),
    Option("json", bool, ("--json",), "The result as one JSON object on stdout; all else goes to stderr.", OUTPUT),
    Option("quiet", bool, ("--quiet",), "No progress.", OUTPUT),
)

SINGLE = (
    _fit("l2", float, "λ; the penalty is λ Σ w².", MODEL, default="0"),
    _fit("lr", float, "Learning rate.", TRAINING, default="0.01 softmax, 0.05 logistic"),
)

SWEEP = (
    Option("lambdas", str, ("--lambdas",), "λ values, comma-separated; the penalty is λ Σ w².", MODEL, "2,0.2,0.02,0.002"),
    Option("lambda_grid", str, ("--lambda-grid",), "LOW:HIGH:COUNT, log-spaced, instead of --lambdas.", MODEL),
    Option("lr", float, ("--lr",), "Learning rate.", TRAINING, "0.01 softmax, 0.05 logistic"),
    Option("lrs", str, ("--lrs",), "Several learning rates, comma-separated: a further axis of models.", TRAINING),
    _fit("cv", int, "Folds of a stratified cross-validation, all in the same batch; scaling is fitted on all training rows.", MODEL),
    _fit("select", str, "min, or 1se (the largest λ within one standard error; needs --cv).", MODEL),
    _fit("seeds", int, "With --cv so many fold assignments; without, so many shuffles.", MODEL),
)


def with_options(*options: Option) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """A command that takes `options` and hands its function those that were given, as a dict."""

    def decorate(function: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function({name: value for name, value in values.items() if value is not None})

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature([option.parameter() for option in options])  # type: ignore[attr-defined]
        return command

    return decorate


def merged(given: dict[str, Any], options: tuple[Option, ...]) -> dict[str, Any]:
    """The options given on the command line over those of `--config`. Raises UsageError on what is no option."""
    path = given.get("config")
    if path is None:
        return given
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--config {path} can't be read ({error.strerror}); give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is no TOML: {error}.") from None
    known = {option.name: option for option in options if option.name != "config"}
    checked = {}
    for name, value in _as_options(values, known, str(path)).items():
        option = known.get(name)
        if option is None:
            raise UsageError(f"--config {path} names {name!r}, which is no option here; see --help for those there are.")
        checked[name] = _typed(option, value, str(path))
    for one, other in (("lambdas", "lambda_grid"), ("lr", "lrs")):  # one of a pair on the command line replaces the other
        if one in given:
            checked.pop(other, None)
        if other in given:
            checked.pop(one, None)
    return checked | given


def _as_options(values: dict[str, Any], known: dict[str, Option], where: str) -> dict[str, Any]:
    """A file's names as this command's: `l2` and `lr` of a run's config.toml are lists, `--lambdas` and `--lrs` in a sweep. What
    the other command alone has is dropped where it says what is so anyway.
    """
    usual = FitConfig().to_dict()
    result = {}
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
    if isinstance(value, list) and option.type is str:
        return ",".join(str(item) for item in value)
    if option.type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if option.type is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if option.type is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, option.type) or (option.type is not bool and isinstance(value, bool)):
        raise UsageError(f"{where}: {option.name} is {value!r}; wanted {option.type.__name__}.")
    return value


def fit_config(values: dict[str, Any], **models: Any) -> FitConfig:
    """The part of the options that shapes the fit, with `models` (λ, learning rates) beside it."""
    names = {field.name for field in fields(FitConfig)}
    chosen = {name: value for name, value in values.items() if name in names} | models
    if "memory" in chosen:
        chosen["memory"] = parse_bytes(chosen["memory"])
    for name in ("scale", "class_weight"):
        if chosen.get(name) == "none" and name == "class_weight":
            chosen[name] = None
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
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    cleaned = text.strip().upper()
    digits = cleaned.rstrip("BKMGI ")
    try:
        size = float(digits) * units[cleaned[len(digits) :].strip()]
    except (ValueError, KeyError):
        size = 0
    if not 1 <= size < 2**63:
        raise UsageError(f"--memory is {text!r}; wanted a size such as 512MiB or 2GiB.")
    return int(size)
