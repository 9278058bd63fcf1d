"""What stderr shows while a fit runs: bars in a terminal, a plain line every few seconds in a pipe or a log file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .reading import Reading, opening
from .states import INDENT, ModelStates

if TYPE_CHECKING:
    from gpureg.events import Event

PLAIN_SECONDS = 5.0  # between two plain lines
NARROW = 70  # characters; a narrower terminal has no room for the elapsed time


class Observer(Protocol):
    """Observes the events of a fit between `__enter__` and `__exit__`."""

    def __enter__(self) -> Observer: ...

    def __exit__(self, *error: object) -> None: ...

    def expect(self, total: int, members: int, score: str = "loss") -> None:
        """What is to come: `total` models, every `members` consecutive ones of the same λ, compared by `score`."""
        ...

    def see(self, event: Event) -> None:
        """One event."""
        ...

    def say(self, line: str) -> None:
        """Show the user a line, in addition to the progress."""
        ...


class Quiet:
    """Shows no progress, only the lines given to `say`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def expect(self, total: int, members: int, score: str = "loss") -> None:
        """Ignore it."""

    def see(self, event: Event) -> None:
        """Ignore the event."""

    def say(self, line: str) -> None:
        """Print the line."""
        self.console.print(line, style="yellow")


class Plain(Quiet):
    """Prints a line every few seconds; a short run prints none."""

    def __init__(self, console: Console, total: int, members: int) -> None:
        super().__init__(console)
        self.states, self.reading = ModelStates(total, members), Reading()
        self.last = time.monotonic()

    def expect(self, total: int, members: int, score: str = "loss") -> None:
        """Count these models."""
        self.states = ModelStates(total, members, score)

    def see(self, event: Event) -> None:
        """Count the event; print a line if the last one is old enough."""
        from gpureg.events import EngineReady, EpochEnded, Iterated, RowsRead, StreamBegun

        self.states.see(event)
        if isinstance(event, EngineReady):
            self.console.print(event.text, markup=False, soft_wrap=True)
        elif isinstance(event, StreamBegun):
            self.console.print(opening(event), soft_wrap=True)
        elif isinstance(event, RowsRead):
            self.reading.see(event)
        if isinstance(event, (EpochEnded, Iterated, RowsRead)) and time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            counts = [self.states.counts()] if self.states.total > 1 else []
            phrases = [self.states.title(), self.states.where(), *self.states.losses(), *counts]
            phrases += self.reading.phrases()
            self.console.print("  ".join(phrases), soft_wrap=True)


class TimeLeft(TimeRemainingColumn):
    """The time left, if it can be estimated."""

    def render(self, task: Task) -> Text:
        """See rich."""
        return Text("") if task.total is None else Text.assemble(super().render(task), " left")


class Bars:
    """Shows a bar of epochs (of models, if a full-batch solver fits several) with the time left; below it losses and
    rate; in a sweep the state of every λ.
    """

    def __init__(self, console: Console, total: int, members: int) -> None:
        self.console, self.total = console, total
        self.states, self.reading = ModelStates(total, members), Reading()
        elapsed: list[ProgressColumn] = [TimeElapsedColumn()] if console.width >= NARROW else []
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[where]}"),
            *elapsed,
            TimeLeft(compact=True),
            console=console,
            expand=True,
        )
        self.task: TaskID | None = None
        self.begun, self.rate = time.monotonic(), ""
        self.live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._picture)

    def __enter__(self) -> Bars:
        self.live.__enter__()
        self.live.refresh()  # at once, and not at the next beat
        return self

    def __exit__(self, *error: Any) -> None:
        self.live.__exit__(*error)

    def expect(self, total: int, members: int, score: str = "loss") -> None:
        """Show these models."""
        self.total, self.states = total, ModelStates(total, members, score)

    def see(self, event: Event) -> None:
        """Update the picture; a separate thread draws it eight times a second."""
        from gpureg.events import EngineReady, EpochEnded, Iterated, PathPoint, RowsRead, Started, StreamBegun

        self.states.see(event)
        if isinstance(event, EngineReady):
            self.live.console.print(event.text, markup=False, soft_wrap=True)
        elif isinstance(event, StreamBegun):
            self.say(opening(event))
        elif isinstance(event, RowsRead):
            self.reading.see(event)
        elif isinstance(event, Started):
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.begun, self.rate = time.monotonic(), ""
            (done, total), where = self.states.progress(), self.states.where()
            self.task = self.bar.add_task(self.states.title(), total=total, completed=done, where=where)
        elif isinstance(event, (EpochEnded, Iterated, PathPoint)) and self.task is not None:
            rate = self.states.steps / max(time.monotonic() - self.begun, 1e-9)
            self.rate = f"{rate:,.0f} {'passes' if self.states.full_batch else 'steps'}/s"
            done, total = self.states.progress()
            self.bar.update(self.task, completed=done, total=total, where=self.states.where())

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self.live.console.print(line, style="yellow")

    def _picture(self) -> Group:
        width = self.console.width
        if self.task is None:
            return Group(Text(INDENT + "preparing the data"))
        phrases = [phrase for phrase in (*self.states.losses(), self.rate, *self.reading.phrases()) if phrase]
        rows: list[Any] = [self.bar, *(Text(line) for line in _lines(phrases, width))]
        if self.total > 1:
            rows += [self.states.picture(width), Text(INDENT + self.states.counts())]
        return Group(*rows)


def _lines(phrases: list[str], width: int) -> list[str]:
    """Join phrases into lines of at most `width` characters."""
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(lines[-1]) + len(INDENT) + len(phrase) <= width:
            lines[-1] += INDENT + phrase
        else:
            lines.append(INDENT + phrase)
    return lines


def observer(console: Console, total: int = 1, *, members: int = 1, quiet: bool = False) -> Observer:
    """The observer that suits stderr: bars in a terminal, plain lines elsewhere, nothing with `quiet`."""
    if quiet:
        return Quiet(console)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars(console, total, members)
    return Plain(console, total, members)
