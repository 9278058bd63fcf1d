"""The state of every model while a batch runs: running, stopped, diverged, and the best so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from gpureg.events import Event

GLYPHS = {"running": "·", "patience": "■", "converged": "■", "diverged": "✗", "best": "★"}
ROWS = 12  # λ that get a line of their own; a longer grid is one strip of glyphs


class ModelStates:
    """Folds the events of a fit into what a person wants to see. `folds` models share a λ."""

    def __init__(self, total: int, folds: int) -> None:
        self.total, self.folds = total, folds
        self.l2: list[float] = [math.nan] * total
        self.lr: list[float] = [math.nan] * total
        self.state = ["waiting"] * total
        self.epoch_of: list[int | None] = [None] * total
        self.val_loss = [math.nan] * total
        self.val_accuracy = [math.nan] * total
        self.train_loss = [math.nan] * total
        self.models: list[int] = []
        self.epoch, self.epochs, self.steps, self.per_epoch = 0, 0, 0, 0
        self.refit = False

    def see(self, event: Event) -> None:
        """One event."""
        from gpureg.events import EpochEnded, Evaluated, Iterated, ModelStopped, Started

        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Evaluated):
            for place, loss, accuracy in zip(event.models, event.val_loss, event.val_accuracy, strict=True):
                self.val_loss[self.models[place]] = float(loss)
                self.val_accuracy[self.models[place]] = float(accuracy)
        elif isinstance(event, ModelStopped):
            self.state[self.models[event.model]] = event.reason
            self.epoch_of[self.models[event.model]] = event.epoch
        elif isinstance(event, EpochEnded):
            self.epoch, self.steps = event.epoch + 1, self.steps + self.per_epoch
            for place, loss in zip(event.models, event.train_loss, strict=True):
                self.train_loss[self.models[place]] = float(loss)
        elif isinstance(event, Iterated):
            self.epoch = self.steps = event.iteration + 1
            for place, loss in zip(event.models, event.objective, strict=True):
                self.train_loss[self.models[place]] = float(loss)

    def _start(self, event: Event) -> None:
        from gpureg.events import Started

        assert isinstance(event, Started)
        self.refit = bool((event.models < 0).any())
        if self.refit:  # its line is that of its λ; a model of its own comes after the folds'
            for values, new in ((self.l2, math.nan), (self.lr, math.nan)):
                values.append(new)
            self.state.append("running")
            self.epoch_of.append(None)
            for values in (self.val_loss, self.val_accuracy, self.train_loss):
                values.append(math.nan)
            self.models = [self.total]
        else:
            self.models = event.models.tolist()
        for place, model in enumerate(self.models):
            self.l2[model], self.lr[model] = float(event.table.l2[place]), float(event.table.lr[place])
            self.state[model] = "running"
        self.epochs, self.per_epoch, self.epoch = event.epochs, event.steps_per_epoch, event.resumed_epoch
        self.steps = 0

    def title(self) -> str:
        """What runs, in a word or two."""
        if self.refit:
            return f"refit, λ = {self.l2[-1]:g}"
        return "training" if self.total == 1 else f"training {len(self.models)} of {self.total} models"

    def where(self) -> str:
        """The place in the run."""
        word = "epoch" if self.per_epoch else "iteration"
        return f"{word} {self.epoch}/{self.epochs}"

    def losses(self) -> str:
        """Losses of the one model, or of the best."""
        best = self.best()
        model = best if best is not None else self.models[0] if self.models else 0
        name = "" if self.total == 1 else f"best λ = {self.l2[model]:g}: "
        return (
            f"{name}train loss {_number(self.train_loss[model])}  val loss {_number(self.val_loss[model])}  "
            f"val accuracy {_number(self.val_accuracy[model])}"
        )

    def counts(self) -> str:
        """How many run, have stopped, have diverged."""
        found = {name: self.state[: self.total].count(name) for name in ("running", "diverged", "waiting")}
        stopped = self.total - sum(found.values())
        parts = [f"{found['running']} running", f"{stopped} stopped"]
        parts += [f"{found[name]} {name}" for name in ("diverged", "waiting") if found[name]]
        return ", ".join(parts) if self.total > 1 else ""

    def best(self) -> int | None:
        """The model with the lowest validation loss so far."""
        finite = [model for model in range(len(self.val_loss)) if self.val_loss[model] == self.val_loss[model]]
        return min(finite, key=lambda model: self.val_loss[model], default=None)

    def table(self, width: int) -> Text:
        """A line per λ where they are few, else a strip of one glyph per model, a row of folds together."""
        best = self.best()
        if self.total <= ROWS:
            return Text("\n").join(Text(self._line(model, model == best)) for model in range(self.total))
        strip = Text("  λ ")
        group = max(1, self.folds)
        for model in range(self.total):
            name = "best" if model == best else self.state[model]
            style = {"best": "bold green", "diverged": "red", "running": "cyan"}.get(name, "dim")
            strip.append(GLYPHS.get(name, " "), style)
            if group > 1 and (model + 1) % group == 0:
                strip.append(" ")
        strip.append(f"\n    {self.l2[0]:g} ... {self.l2[self.total - 1]:g}", "dim")
        return strip

    def _line(self, model: int, best: bool) -> str:
        at = f" in epoch {self.epoch_of[model]}" if self.epoch_of[model] is not None else ""
        state = {"patience": "stopped"}.get(self.state[model], self.state[model])
        mark = GLYPHS["best"] if best else " "
        return (
            f"  {mark} λ = {self.l2[model]:<9.3g} val loss {_number(self.val_loss[model])}  "
            f"val accuracy {_number(self.val_accuracy[model])}  {state}{at}"
        )


def _number(value: float) -> str:
    return "   -  " if value != value else f"{value:.4f}"
