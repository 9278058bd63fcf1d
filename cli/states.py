"""The state of every λ while a batch runs: running, stopped, diverged, and the best so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from gpureg.events import Event, ModelStopped, Started

GLYPHS = {"running": "·", "partly": "▪", "stopped": "■", "diverged": "✗", "waiting": " ", "best": "★"}
STYLES = {"best": "bold green", "diverged": "red", "running": "cyan", "partly": "cyan"}
ROWS = 12  # at most this many λ get a line each; a longer grid is a strip of glyphs
INDENT = "  "


class ModelStates:
    """Collects the events of a fit into what the screen shows.

    Of the `total` models, every `members` consecutive ones (folds, seeds) share a λ and a learning rate and form a
    group. Refits are further models after them. The best group is that of the best `score`; it is known only for a
    loss and an accuracy, since no other score is measured while the models run.
    """

    def __init__(self, total: int, members: int, score: str = "loss") -> None:
        self.total, self.members, self.score = total, members, score
        self.groups = total // members
        self.l2, self.lr = [math.nan] * (total + 1), [math.nan] * (total + 1)
        self.state = ["waiting"] * (total + 1)
        self.how = [""] * (total + 1)  # how a model stopped, in words
        self.val_loss, self.val_accuracy = [math.nan] * (total + 1), [math.nan] * (total + 1)
        self.train_loss = [math.nan] * (total + 1)
        self.models: list[int] = []
        self.epoch, self.epochs, self.steps, self.per_epoch = 0, 0, 0, 0
        self.point, self.points = 0, 0  # of a path: how many of its λ are over
        self.finishing = False  # whether these models go on in float64

    @property
    def refit(self) -> bool:
        """Whether the refit of the chosen λ is running."""
        return self.models == [self.total]

    def see(self, event: Event) -> None:
        """Take in one event."""
        from gpureg.events import EpochEnded, Evaluated, Iterated, ModelStopped, PathPoint, Started

        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Evaluated):
            for place, loss, accuracy in zip(event.models, event.val_loss, event.val_accuracy, strict=True):
                self.val_loss[self.models[place]] = float(loss)
                self.val_accuracy[self.models[place]] = float(accuracy)
        elif isinstance(event, ModelStopped):
            self.state[self.models[event.model]] = "diverged" if event.reason == "diverged" else "stopped"
            self.how[self.models[event.model]] = self._how(event)
        elif isinstance(event, EpochEnded):
            self.epoch, self.steps = event.epoch + 1, self.steps + self.per_epoch
            for place, loss in zip(event.models, event.train_loss, strict=True):
                self.train_loss[self.models[place]] = float(loss)
        elif isinstance(event, PathPoint):
            self.point, self.points = event.done, event.points
        elif isinstance(event, Iterated):
            self.epoch, self.steps = event.iteration, self.steps + 1
            for place, loss in zip(event.models, event.objective, strict=True):
                self.train_loss[self.models[place]] = float(loss)

    def _start(self, event: Started) -> None:
        self.models = [self.total if model < 0 else model for model in event.models.tolist()]
        self._make_room(max(self.models, default=0) + 1)
        for place, model in enumerate(self.models):
            self.l2[model], self.lr[model] = float(event.table.l2[place]), float(event.table.lr[place])
            self.state[model], self.how[model] = "running", ""
        self.finishing = event.finishing
        self.epochs, self.per_epoch, self.epoch = event.epochs, event.steps_per_epoch, event.resumed_epoch
        self.steps, self.point, self.points = 0, 0, 0

    def _make_room(self, models: int) -> None:
        """Refits that are trained alongside their folds come after the folds in the same batch."""
        for numbers in (self.l2, self.lr, self.val_loss, self.val_accuracy, self.train_loss):
            numbers += [math.nan] * (models - len(numbers))
        self.state += ["waiting"] * (models - len(self.state))
        self.how += [""] * (models - len(self.how))

    @property
    def full_batch(self) -> bool:
        """Whether a step is a pass over all samples: then the end of a model can't be predicted."""
        return self.per_epoch == 0

    def _how(self, event: ModelStopped) -> str:
        if event.reason == "diverged":
            return "diverged"
        if self.full_batch:
            return f"{'converged' if event.reason == 'converged' else 'stopped'} after {event.steps} iterations"
        return f"stopped in epoch {event.epoch}" if event.reason == "patience" else "stopped"

    def title(self) -> str:
        """What is running, in a word or two."""
        double = " in float64" if self.finishing else ""
        if self.refit:
            return f"refit{double}, λ = {self.l2[self.total]:.4g}"
        if self.total == 1:
            return f"{'finishing' if double else 'training'}{double}"
        if double:
            return f"finishing {len(self.models)} model{'s' if len(self.models) > 1 else ''}{double}"
        if len(self.models) < self.total:
            return f"models {self.models[0] + 1}-{self.models[-1] + 1} of {self.total}"
        return f"{self.total} models"

    def where(self) -> str:
        """How far the run has got."""
        if self.full_batch:
            return f"pass {self.epoch}" + (f", λ {self.point}/{self.points}" if self.points else "")
        return f"epoch {self.epoch}/{self.epochs}"

    def progress(self) -> tuple[int, int | None]:
        """How much is done, and of how much: epochs, λ of a path, or models of a full-batch solver; None if there is no
        total.
        """
        if not self.full_batch:
            return self.epoch, self.epochs
        if self.points:
            return self.point, self.points
        done = sum(self.state[model] in ("stopped", "diverged") for model in self.models)
        return done, len(self.models) if len(self.models) > 1 else None

    def losses(self) -> list[str]:
        """The losses of the only model, or of the best group, each as a phrase."""
        index, name = self.models, ""
        if not self.refit and self.total > 1:
            best = self.best()
            index, name = ([], "") if best is None else (self._group(best), f"best {self._name(best)}: ")
        first = "objective" if self.full_batch else "train loss"
        named = ((first, self.train_loss), ("val loss", self.val_loss), ("accuracy", self.val_accuracy))
        means = [(what, _mean([values[model] for model in index])) for what, values in named]
        phrases = [f"{what} {_number(mean)}" for what, mean in means if mean == mean]
        return [name + phrases[0], *phrases[1:]] if phrases else []

    def counts(self) -> str:
        """How many models are running, have stopped, have diverged."""
        found = {name: self.state[: self.total].count(name) for name in ("running", "stopped", "diverged", "waiting")}
        return ", ".join(f"{found[name]} {name}" for name in found if found[name] or name in ("running", "stopped"))

    def best(self) -> int | None:
        """The group with the lowest mean validation loss so far, or the highest accuracy if that is the score."""
        if self.score not in ("loss", "accuracy"):
            return None
        values, sign = (self.val_loss, 1.0) if self.score == "loss" else (self.val_accuracy, -1.0)
        costs = {group: sign * _mean([values[model] for model in self._group(group)]) for group in range(self.groups)}
        finite = [group for group, cost in costs.items() if math.isfinite(cost)]
        return min(finite, key=costs.__getitem__, default=None)

    def picture(self, width: int) -> Text:
        """A line for each λ if they are few, else a strip of one glyph for each λ."""
        best = self.best()
        if self.groups <= ROWS:
            return Text("\n").join(Text(self._line(group, group == best)) for group in range(self.groups))
        strip = Text(f"{INDENT}λ = {self.l2[0]:.4g} ... {self.l2[self.total - 1]:.4g}", "dim")
        room = max(1, width - 2 * len(INDENT))
        for group in range(self.groups):
            if group % room == 0:
                strip.append("\n" + 2 * INDENT)
            name = "best" if group == best else self._state(group)
            strip.append(GLYPHS[name], STYLES.get(name, "dim"))
        return strip

    def _group(self, group: int) -> list[int]:
        return list(range(group * self.members, (group + 1) * self.members))

    def _state(self, group: int) -> str:
        found = {self.state[model] for model in self._group(group)}
        if "diverged" in found:
            return "diverged"
        return found.pop() if len(found) == 1 else "partly"

    def _name(self, group: int) -> str:
        first = group * self.members
        several = len({rate for rate in self.lr[: self.total] if rate == rate}) > 1
        return f"λ = {self.l2[first]:.4g}" + (f", lr = {self.lr[first]:.4g}" if several else "")

    def _line(self, group: int, best: bool) -> str:
        models = self._group(group)
        shown = [("val loss", self.val_loss), ("accuracy", self.val_accuracy)]
        if self.full_batch:
            shown = [("objective", self.train_loss)]
        numbers = "  ".join(f"{word} {_number(_mean([values[m] for m in models]))}" for word, values in shown)
        state = self.how[models[0]] or self._state(group)
        if self.members > 1:
            state = f"{sum(self.state[m] == 'running' for m in models)} of {self.members} running"
        mark = GLYPHS["best"] if best else " "
        names = [self._name(g) for g in range(self.groups)]
        name = self._name(group).ljust(max(map(len, names)))
        return f"{INDENT}{mark} {name}  {numbers}  {state}"


def _mean(values: list[float]) -> float:
    """The mean of the values that are not NaN."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else math.nan


def _number(value: float) -> str:
    return "   -  " if value != value else f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"
