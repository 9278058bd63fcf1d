"""What `train` and `sweep-lambda` have in common: data, fit with progress, run directory, result, exit code."""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console

from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning

from .interrupts import interruptible
from .progress import observer

if TYPE_CHECKING:
    from gpureg.data import Dataset
    from gpureg.results import FitResult

DATA_OPTIONS = ("classes", "train_size", "val_size", "target", "weights")


def run_training(config: FitConfig, values: dict[str, Any]) -> None:
    """Fit, save, show; ends the command with the contract's exit code."""
    from gpureg.fitting import Hooks, fit_config
    from gpureg.run_directory import prepare_run_directory, save_run, to_json_dict

    as_json = bool(values.get("json"))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    given_out = Path(values["out"]) if "out" in values else None
    force = bool(values.get("force"))
    data = load(config, values)
    out = given_out or Path("runs") / f"{config.task}-{Path(data.name).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    existed = out.exists()
    out = prepare_run_directory(out, force)
    total = len(config.l2) * len(config.rates) * config.seeds * (config.cv or 1)
    shown = observer(notes, total, folds=config.cv or 1, quiet=bool(values.get("quiet")))
    try:
        with shown, interruptible(shown.say) as interrupt:
            hooks = Hooks(shown.see, lambda: interrupt.requested)
            result = fit_config(data, config, hooks)
            result = replace(result, config=result.config | data_options(config, values))
            save_run(result, out, force=True)
    except BaseException:
        if not existed and not any(out.iterdir()):
            out.rmdir()  # nothing is left of a run that never was
        raise
    if as_json:
        json.dump(to_json_dict(result, out), sys.stdout, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
    report(notes if as_json else Console(highlight=False), result, out)
    code = exit_code(result)
    if code:
        raise typer.Exit(code)


def load(config: FitConfig, values: dict[str, Any]) -> Dataset:
    """The data set that the options name."""
    from gpureg.data import load_dataset

    classes = values.get("classes")
    return load_dataset(
        values.get("dataset", "mnist"),
        task=config.task,
        classes=None if classes is None else [part.strip() for part in classes.split(",") if part.strip()],
        train_size=values.get("train_size"),
        val_size=values.get("val_size"),
        target=values.get("target"),
        weights=values.get("weights"),
        seed=config.seed,
    )


def data_options(config: FitConfig, values: dict[str, Any]) -> dict[str, Any]:
    """The data's part of config.toml, so that it is enough to run again."""
    named = {name: values[name] for name in DATA_OPTIONS if name in values}
    return {"dataset": str(values.get("dataset", "mnist"))} | named


def report(console: Console, result: FitResult, out: Path) -> None:
    """Tables, and the course of the validation loss in a line."""
    from .sparkline import sparkline
    from .summary import show

    show(console, result, out)
    history = result.history
    index = result.selected if result.selected is not None else 0
    losses = [float(value) for value in history.val_loss[:, index] if value == value]
    if len(losses) > 1:
        console.print(f"val loss {losses[0]:.4f} {sparkline(losses)} {losses[-1]:.4f}", highlight=False)


def exit_code(result: FitResult) -> int:
    """130 interrupted, 4 where every model diverged, else 0."""
    reasons = [model.stop_reason for model in result.models]
    if "interrupted" in reasons:
        return 130
    return 4 if all(reason == "diverged" for reason in reasons) else 0


def show_warnings(console: Console) -> None:
    """gpureg's own warnings as one line each on stderr; others as Python shows them."""
    usual = warnings.showwarning

    def show_one(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, GpuregWarning):
            console.print("warning: ", style="bold yellow", end="")
            console.print(str(message), markup=False, soft_wrap=True)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show_one
    warnings.simplefilter("always", GpuregWarning)
