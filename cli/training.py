"""What `train` and `sweep-lambda` have in common: data, fit with progress, run directory, result, exit code."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from gpureg.config import DataConfig, FitConfig
from gpureg.errors import GpuregWarning

from .checkpoints import SECONDS, CheckpointWriter, beginning, interrupted_run
from .interrupts import interruptible
from .notes import show_warnings
from .progress import Observer, observer
from .streams import screen as screen_of_stdout
from .streams import shows_unicode
from .tracking import Tracking, new_tracking, tracking_again
from .values import checkpoint_seconds, opening

if TYPE_CHECKING:
    from gpureg.config import SolverChoice
    from gpureg.data import Dataset
    from gpureg.events import Event
    from gpureg.fitting.results import FitResult
    from gpureg.fitting.resume import Saved
    from gpureg.storage.directory import RunFolder

    from .config_file import Given


def run_training(given: Given, made: Callable[[], tuple[DataConfig, FitConfig, SolverChoice]]) -> None:
    """Make a new run of the options, which `made` turns into configurations; ends the command with its exit code.

    The progress is shown before that: whatever loads NumPy, or data, comes after it.
    """
    values = given.values
    notes = notes_of(values)
    quiet = bool(values.get("quiet"))
    with observer(notes, quiet=quiet) as shown:
        data, config, choice = made()
        tracking, lines = new_tracking(values.get("track")), opening(choice, given)
        first = Opening(lines, notes, quiet=quiet)
        with run_folder(data, config, values, tracking) as folder:
            result = fit_and_save(data, config, folder, (first, shown), values, tracking)
    finish(result, folder.path, values, notes, lines[0])


class Opening:
    """The first lines of the output: the solver and why, and under it warnings. Said once, when the fit is possible."""

    def __init__(self, lines: Sequence[str], notes: Console, *, quiet: bool) -> None:
        self.lines, self.notes, self.quiet = list(lines), notes, quiet

    def say(self) -> None:
        """Print them, unless that is done."""
        lines, self.lines = self.lines, []
        if lines and not self.quiet:
            self.notes.print(lines[0], markup=False, highlight=False, soft_wrap=True)
        for line in lines[1:]:
            warnings.warn(line, GpuregWarning, stacklevel=2)


def resume_training(given: dict[str, Any]) -> None:
    """Continue the run that `--resume` names; ends the command as that run would have ended it."""
    notes, quiet = notes_of(given), bool(given.get("quiet"))
    with (
        observer(notes, quiet=quiet) as shown,
        resumable(given["resume"]),
        interrupted_run(given) as (folder, data, config, saved),
    ):
        line = f"solver: {config.solver} (as the run began)"
        first = Opening([line], notes, quiet=quiet)
        tracking = tracking_again(None if saved is None else saved.meta.get("track"), given.get("track"))
        result = fit_and_save(data, config, folder, (first, shown), given, tracking, saved)
    finish(result, folder.path, given, notes, line)


def notes_of(values: dict[str, Any]) -> Console:
    """The console on stderr, which also shows warnings. Raises UsageError for options that only this command has."""
    checkpoint_seconds(values.get("checkpoint_seconds", SECONDS))
    notes = Console(stderr=True, highlight=False)
    show_warnings(notes)
    return notes


def fit_and_save(
    source: DataConfig,
    config: FitConfig,
    folder: RunFolder,
    screen: tuple[Opening, Observer],
    values: dict[str, Any],
    tracking: Tracking | None = None,
    saved: Saved | None = None,
) -> FitResult:
    """Load the data, fit with progress and checkpoints, write the run directory."""
    from gpureg.events import EngineReady
    from gpureg.fitting.defaults import folded
    from gpureg.fitting.entry import Hooks, run_fit

    first, shown = screen
    seconds = checkpoint_seconds(values.get("checkpoint_seconds", SECONDS))
    track = None if tracking is None else tracking.tracker(folder.path)  # before anything is read
    data = load(source, config)
    config = folded(config, data)
    shown.expect(config.n_models, config.seeds * (config.cv or 1), config.score)
    writer = CheckpointWriter(folder, source, seconds, tracking)

    def see(event: Event) -> None:
        if isinstance(event, EngineReady):
            shown.see(event)
            return
        folder.begin()  # the first event says that the fit is possible
        first.say()
        if track is not None:
            track(event)
        shown.see(event)

    with track or nullcontext(), interruptible(shown.say) as interrupt:
        result = run_fit(data, config, Hooks(see, lambda: interrupt.requested, writer), saved=saved)
        if exit_code(result) == 130 and folder.holds_finished():
            shown.say(f"{folder.path} keeps its finished run until this one is finished")
        else:
            folder.commit(result.to_run(folder.path))
    return result


def finish(result: FitResult, out: Path, values: dict[str, Any], notes: Console, first_line: str) -> None:
    """Show the result; raises the command's exit code if that is not 0."""
    from gpureg.fitting.results import to_json_dict
    from gpureg.storage.encoding import json_text

    from .summary import show

    as_json = bool(values.get("json"))
    if as_json:
        value = to_json_dict(result, out)
        sys.stdout.write(json_text(value) if shows_unicode(sys.stdout.encoding) else json.dumps(value))
        sys.stdout.write("\n")
    elif values.get("quiet"):
        Console(file=screen_of_stdout(), highlight=False).print(first_line, markup=False, soft_wrap=True)
    show(notes if as_json else Console(file=screen_of_stdout(), highlight=False), result, out)
    code = exit_code(result)
    if code == 130:
        notes.print(how_to_resume(out), style="yellow", markup=False, soft_wrap=True)
    if code:
        raise typer.Exit(code)


def how_to_resume(out: Path) -> str:
    """The line that names the command to resume with."""
    return f"interrupted; resume with: gpureg train --resume {shlex.quote(str(out))}"


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """If an interrupt ends the block at once, say how to resume, if there is something to resume."""
    from gpureg.storage.directory import is_under_way

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_resume(out) if is_under_way(out) else "") from None


@contextmanager
def run_folder(
    data: DataConfig, config: FitConfig, values: dict[str, Any], tracking: Tracking | None
) -> Iterator[RunFolder]:
    """The run directory, made before anything is loaded; it is removed if the block fails without a checkpoint."""
    from gpureg.storage.directory import OccupiedError, claim

    start = beginning(data, config, tracking)
    if "out" in values:
        with resumable(values["out"]), claim(values["out"], force=bool(values.get("force")), beginning=start) as folder:
            yield folder
        return
    with ExitStack() as stack:
        for out in fresh_names(config.loss.name, data.dataset):
            stack.enter_context(resumable(out))
            with suppress(OccupiedError):  # another run began in the same second
                folder = stack.enter_context(claim(out, beginning=start))
                break
        yield folder


def fresh_names(task: str, dataset: str) -> Iterator[Path]:
    """`runs/<task>-<dataset>-<time>`, then the same with a number appended; names that are taken are left out."""
    name = Path(dataset).name if dataset_path(dataset) is None else Path(dataset).stem
    path = Path("runs") / f"{task}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in itertools.count(1))
    return (candidate for candidate in candidates if not candidate.exists())


def load(source: DataConfig, config: FitConfig) -> Dataset:
    """The data set that the options name."""
    from gpureg.data import load

    spread = config.engine == "dask"
    return load(source, task=config.task, seed=config.seed, folds=config.cv is not None, spread=spread)


def dataset_path(dataset: str) -> Path | None:
    """The path that `--dataset` names, or None if it names a known data set."""
    from gpureg.data.catalog import CATALOG

    return None if dataset in CATALOG else Path(dataset)


def exit_code(result: FitResult) -> int:
    """130 if interrupted, 4 if every model diverged, else 0."""
    reasons = [model.stop_reason for model in result.models]
    if "interrupted" in reasons:
        return 130
    return 4 if all(reason == "diverged" for reason in reasons) else 0
