"""What is shown while a fit runs, on stderr: bars in a terminal, now and then a plain line in a pipe or a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .states import ModelStates

if TYPE_CHECKING:
    from gpureg.events import Event

PLAIN_SECONDS = 5.0  # between two plain lines


class Observer(Protocol):
    """Sees the events of a fit between `__enter__` and `__exit__`."""

    def __enter__(self) -> Observer: ...

    def __exit__(self, *error: object) -> None: ...

    def see(self, event: Event) -> None:
        """One event."""
        ...

    def say(self, line: str) -> None:
        """A line for the user, beside the progress."""
        ...


class Quiet:
    """Shows nothing but what must be said."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def see(self, event: Event) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """The line."""
        self.console.print(line, style="yellow")


class Plain(Quiet):
    """A line at the start, every few seconds, and for every chunk's end."""

    def __init__(self, console: Console, total: int, folds: int) -> None:
        super().__init__(console)
        self.states = ModelStates(total, folds)
        self.last = time.monotonic()

    def see(self, event: Event) -> None:
        """Counts; prints when it is time."""
        from gpureg.events import EpochEnded, Iterated

        self.states.see(event)
        if isinstance(event, (EpochEnded, Iterated)) and time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            self.console.print(f"{self.states.where()}  {self.states.losses()}  {self.states.counts()}", soft_wrap=True)


class Bars:
    """A bar of epochs with losses, rate and time left; in a sweep the state of every λ below it."""

    def __init__(self, console: Console, total: int, folds: int) -> None:
        self.console, self.total = console, total
        self.states = ModelStates(total, folds)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[where]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self.task: TaskID | None = None
        self.live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._picture)
        self.begun = time.monotonic()

    def __enter__(self) -> Bars:
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.live.__exit__(*error)

    def see(self, event: Event) -> None:
        """Brings the picture up to date; it is drawn by a thread of its own, eight times a second."""
        from gpureg.events import EpochEnded, Iterated, Started

        self.states.see(event)
        if isinstance(event, Started):
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.begun = time.monotonic()
            self.task = self.bar.add_task(self.states.title(), total=event.epochs, where="", rate="")
        elif isinstance(event, (EpochEnded, Iterated)) and self.task is not None:
            done = event.epoch + 1 if isinstance(event, EpochEnded) else event.iteration + 1
            rate = self.states.steps / max(time.monotonic() - self.begun, 1e-9)
            unit = "steps/s" if isinstance(event, EpochEnded) else "iterations/s"
            self.bar.update(self.task, completed=done, where=self.states.where(), rate=f"{rate:,.0f} {unit}")

    def say(self, line: str) -> None:
        """Above the bars."""
        self.live.console.print(line, style="yellow")

    def _picture(self) -> Group:
        rows: list[Any] = [self.bar, f"  {self.states.losses()}"]
        if self.total > 1:
            rows += [self.states.table(self.console.width), f"  {self.states.counts()}"]
        return Group(*rows)


def observer(console: Console, total: int, *, folds: int = 1, quiet: bool = False) -> Observer:
    """The one that fits where stderr goes: bars in a terminal, plain lines elsewhere, nothing with `--quiet`."""
    if quiet:
        return Quiet(console)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars(console, total, folds)
    return Plain(console, total, folds)
