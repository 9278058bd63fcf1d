"""What `train` and `sweep-lambda` have in common: data, fit with progress, run directory, result, exit code."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from gpureg.config import DataConfig, FitConfig

from .checkpoints import SECONDS, CheckpointWriter, open_interrupted
from .interrupts import interruptible
from .notes import show_warnings
from .progress import observer
from .streams import shows_unicode, unread_is_fine
from .values import checkpoint_seconds

if TYPE_CHECKING:
    from gpureg.data import Dataset
    from gpureg.fitting.results import FitResult
    from gpureg.fitting.resume import Saved


def run_training(data: DataConfig, config: FitConfig, values: dict[str, Any]) -> None:
    """A new run; ends the command with the contract's exit code."""
    every = checkpoint_seconds(values.get("checkpoint_seconds", SECONDS))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    with run_folder(data, config, values) as out:
        result = fit_and_save(data, config, out, notes, every, None, quiet=bool(values.get("quiet")))
    finish(result, out, values, notes)


def resume_training(given: dict[str, Any]) -> None:
    """Go on with the run that `--resume` names; ends the command as that run would have ended it."""
    every = checkpoint_seconds(given.get("checkpoint_seconds", SECONDS))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    saved, values = open_interrupted(given)
    config, out = FitConfig.from_dict(saved.meta["config"]), Path(given["resume"])
    data = DataConfig.from_dict(saved.meta["options"])
    result = fit_and_save(data, config, out, notes, every, saved, quiet=bool(values.get("quiet")))
    finish(result, out, values, notes)


def fit_and_save(
    source: DataConfig,
    config: FitConfig,
    out: Path,
    notes: Console,
    every: float,
    saved: Saved | None,
    *,
    quiet: bool,
) -> FitResult:
    """Load the data, fit with progress and checkpoints, write the run directory."""
    from gpureg.data import CATALOG
    from gpureg.fitting.entry import Hooks, run_fit

    data = load(source, config)
    options = source.absolute(CATALOG).to_dict()
    members = config.seeds * (config.cv or 1)
    total = len(config.l2) * len(config.rates) * members
    shown = observer(notes, total, members=members, quiet=quiet)
    with shown, interruptible(shown.say) as interrupt:
        hooks = Hooks(shown.see, lambda: interrupt.requested, CheckpointWriter(out, options, every))
        result = run_fit(data, config, hooks, saved=saved)
        result.save(out, force=True)
    return result


def finish(result: FitResult, out: Path, values: dict[str, Any], notes: Console) -> None:
    """Show the result; raises the command's exit code where that is not 0."""
    from gpureg.fitting.results import to_json_dict

    from .summary import show

    as_json = bool(values.get("json"))
    with unread_is_fine():
        if as_json:
            ascii_only = not shows_unicode(sys.stdout.encoding)
            json.dump(to_json_dict(result, out), sys.stdout, ensure_ascii=ascii_only, allow_nan=False)
            sys.stdout.write("\n")
        show(notes if as_json else Console(highlight=False), result, out)
    code = exit_code(result)
    if code == 130:
        notes.print(
            f"interrupted; go on with: gpureg train --resume {out}", style="yellow", markup=False, soft_wrap=True
        )
    if code:
        raise typer.Exit(code)


@contextmanager
def run_folder(data: DataConfig, config: FitConfig, values: dict[str, Any]) -> Iterator[Path]:
    """The run directory, made before anything is loaded; what is still empty where the block fails is removed again."""
    from gpureg.storage.directory import prepare_run_directory

    out = Path(values["out"]) if "out" in values else unused(config.loss.name, data.dataset)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield prepare_run_directory(out, bool(values.get("force")))
    except BaseException:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # not there, or something is in it
                break
        raise


def unused(task: str, dataset: str) -> Path:
    """`runs/<task>-<dataset>-<time>`, with a number behind it where another run began in the same second."""
    name = Path(dataset).name if dataset_path(dataset) is None else Path(dataset).stem
    path = Path("runs") / f"{task}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in itertools.count(1))
    return next(candidate for candidate in candidates if not candidate.exists())


def load(source: DataConfig, config: FitConfig) -> Dataset:
    """The data set that the options name."""
    from gpureg.data import load

    return load(source, task=config.task, seed=config.seed)


def dataset_path(dataset: str) -> Path | None:
    """The path that `--dataset` names, None where it names a known data set."""
    from gpureg.data.catalog import CATALOG

    return None if dataset in CATALOG else Path(dataset)


def exit_code(result: FitResult) -> int:
    """130 interrupted, 4 where every model diverged, else 0."""
    reasons = [model.stop_reason for model in result.models]
    if "interrupted" in reasons:
        return 130
    return 4 if all(reason == "diverged" for reason in reasons) else 0
