"""What `train` and `sweep-lambda` have in common: data, fit with progress, run directory, result, exit code."""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from gpureg.config import DataConfig, FitConfig
from gpureg.errors import GpuregWarning

from .checkpoints import SECONDS, CheckpointWriter, open_interrupted
from .interrupts import interruptible
from .notes import show_warnings
from .progress import observer
from .streams import shows_unicode, unread_is_fine
from .values import checkpoint_seconds

if TYPE_CHECKING:
    from gpureg.data import Dataset
    from gpureg.events import Event
    from gpureg.fitting.results import FitResult
    from gpureg.fitting.resume import Saved


def run_training(data: DataConfig, config: FitConfig, values: dict[str, Any], opening: Sequence[str]) -> None:
    """A new run, which says the `opening` first; ends the command with the contract's exit code."""
    every = checkpoint_seconds(values.get("checkpoint_seconds", SECONDS))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    first = Opening(opening, notes, quiet=bool(values.get("quiet")))
    with run_folder(data, config, values) as out:
        result = fit_and_save(data, config, out, first, every, None)
    finish(result, out, values, notes, opening[0])


class Opening:
    """The first lines of the output: the solver and why, and under it warnings. Said once, when the fit is possible."""

    def __init__(self, lines: Sequence[str], notes: Console, *, quiet: bool) -> None:
        self.lines, self.notes, self.quiet = list(lines), notes, quiet

    def say(self) -> None:
        """Say them, if that is not done yet."""
        lines, self.lines = self.lines, []
        if lines and not self.quiet:
            self.notes.print(lines[0], markup=False, highlight=False, soft_wrap=True)
        for line in lines[1:]:
            warnings.warn(line, GpuregWarning, stacklevel=2)


def resume_training(given: dict[str, Any]) -> None:
    """Go on with the run that `--resume` names; ends the command as that run would have ended it."""
    every = checkpoint_seconds(given.get("checkpoint_seconds", SECONDS))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    saved, values = open_interrupted(given)
    config, out = FitConfig.from_dict(saved.meta["config"]), Path(given["resume"])
    data = DataConfig.from_dict(saved.meta["options"])
    line = f"solver: {config.solver} (as the run began)"
    result = fit_and_save(data, config, out, Opening([line], notes, quiet=bool(values.get("quiet"))), every, saved)
    finish(result, out, values, notes, line)


def fit_and_save(
    source: DataConfig,
    config: FitConfig,
    out: Path,
    first: Opening,
    every: float,
    saved: Saved | None,
) -> FitResult:
    """Load the data, fit with progress and checkpoints, write the run directory."""
    from gpureg.data import CATALOG
    from gpureg.fitting.entry import Hooks, run_fit

    data = load(source, config)
    options = source.absolute(CATALOG).to_dict()
    members = config.seeds * (config.cv or 1)
    shown = observer(first.notes, config.n_models, members=members, quiet=first.quiet)

    def see(event: Event) -> None:
        first.say()
        shown.see(event)

    with shown, interruptible(shown.say) as interrupt:
        hooks = Hooks(see, lambda: interrupt.requested, CheckpointWriter(out, options, every))
        result = run_fit(data, config, hooks, saved=saved)
        result.save(out, force=True)
    return result


def finish(result: FitResult, out: Path, values: dict[str, Any], notes: Console, opening: str) -> None:
    """Show the result; raises the command's exit code where that is not 0."""
    from gpureg.fitting.results import to_json_dict

    from .summary import show

    as_json = bool(values.get("json"))
    with unread_is_fine():
        if as_json:
            ascii_only = not shows_unicode(sys.stdout.encoding)
            json.dump(to_json_dict(result, out), sys.stdout, ensure_ascii=ascii_only, allow_nan=False)
            sys.stdout.write("\n")
        elif values.get("quiet"):
            Console(highlight=False).print(opening, markup=False, soft_wrap=True)
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

    return load(source, task=config.task, seed=config.seed, folds=config.cv is not None)


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
