"""Loss and accuracy against the training step; of a full-batch solver the objective against its iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpureg.errors import UsageError
from gpureg.figures.style import (
    BAND_OPACITY,
    COLOURS,
    colour,
    legend_above,
    mark_clipped,
    new_figure,
    sequential,
    styled,
)
from gpureg.history import History

Floats = npt.NDArray[np.float64]
Limits = tuple[float, float] | None
BLOCK = 10  # steps over which the report averages the training loss
STEP, LOSS, ACCURACY = "training step", "cross-entropy (nats)", "accuracy"
ITERATION, OBJECTIVE, GAP = "iteration", "objective (nats)", "bound on the gap (nats)"


@dataclass(frozen=True)
class Curve:
    """Model `model` of `history` and its `label` in the legend; among many curves its `l2` gives its colour."""

    history: History
    model: int
    label: str

    @property
    def l2(self) -> float:
        return float(self.history.l2[self.model])

    def at_evaluations(self, name: str) -> tuple[npt.NDArray[np.int64], Floats]:
        """The steps at which the model was evaluated and its values of `name`, an array `(E, L)`, without NaN."""
        values = getattr(self.history, name)[:, self.model]
        there = np.isfinite(values)
        return self.history.eval_step[there], values[there]


Points = Callable[[Curve], tuple[Any, Floats]]  # of a curve: the places and the values that are drawn


def block_means(step_loss: Floats, block: int = BLOCK) -> tuple[Floats, Floats, Floats]:
    """Centre, mean and standard deviation (ddof 0) of consecutive blocks of `block` steps, each `(S // block,)`.

    `step_loss (S,)` in nats. The NaN after a model's stop are left out, and so is an incomplete last block, unless it
    is the only one.
    """
    losses = step_loss[np.isfinite(step_loss)]
    block = min(block, max(1, losses.size))
    blocks = losses[: losses.size // block * block].reshape(-1, block)
    centres = np.arange(blocks.shape[0]) * block + (block - 1) / 2
    return np.asarray(centres, np.float64), np.asarray(blocks.mean(axis=1)), np.asarray(blocks.std(axis=1))


def _band(axes: Axes, curve: Curve, tint: str, label: str) -> None:
    centres, mean, sd = block_means(curve.history.step_loss[:, curve.model])
    if not centres.size:
        return
    axes.plot(centres, mean, color=tint, linewidth=0.7, label=label)
    axes.fill_between(centres, mean - sd, mean + sd, color=tint, alpha=BAND_OPACITY, linewidth=0, label=label)


def _line(axes: Axes, curve: Curve, name: str, tint: str, label: str) -> None:
    steps, values = curve.at_evaluations(name)
    if steps.size:
        axes.plot(steps, values, color=tint, label=label)


def _finish(figure: Figure, axes: Axes, ylabel: str, ylim: Limits) -> Figure:
    axes.set_ylabel(ylabel)
    axes.set_xlabel(STEP)
    axes.set_xlim(left=0)
    axes.locator_params(axis="y", nbins=6)
    axes.set_ylim(*(_settled(axes, 1.0 if ACCURACY in ylabel else np.inf) if ylim is None else ylim))
    mark_clipped(axes)
    legend_above(figure, axes)
    return figure


def loss(curves: Sequence[Curve], ylim: Limits = None) -> Figure:
    """Cross-entropy in nats.

    Of one curve the training loss (mean over 10 steps, band of ±1 standard deviation) and the validation loss; of
    several the validation loss. Of models that a full-batch solver fitted the objective and the bound on the gap to its
    minimum instead; next to curves of minibatches the loss that they end at, as a level.
    """
    if all(curve.history.full_batch for curve in curves):
        return course(curves)
    with styled():
        figure, (axes,) = new_figure()
        if len(curves) > 1:
            _validation(figure, axes, curves, "val_loss")
            return _finish(figure, axes, f"validation {LOSS}", ylim)
        (curve,) = curves
        _band(axes, curve, colour(0), "training (mean of 10 steps, ±1 sd)")
        _line(axes, curve, "val_loss", colour(1), "validation")
        return _finish(figure, axes, LOSS, ylim)


def accuracy(curves: Sequence[Curve], ylim: Limits = None) -> Figure:
    """Accuracy: of one curve on the training and the validation rows, of several on the validation rows.

    Raises UsageError if all models are a full-batch solver's, which are evaluated only at the end.
    """
    if all(curve.history.full_batch for curve in curves):
        raise UsageError(
            "The figure `accuracy` shows the accuracy in the course of training, but models fitted by lbfgs are "
            "evaluated only at the end. Choose `path-accuracy` or `confusion`, or `loss` for the objective."
        )
    with styled():
        figure, (axes,) = new_figure()
        if len(curves) > 1:
            _validation(figure, axes, curves, "val_accuracy")
            return _finish(figure, axes, f"validation {ACCURACY}", ylim)
        (curve,) = curves
        _line(axes, curve, "train_accuracy", colour(0), "training")
        _line(axes, curve, "val_accuracy", colour(1), "validation")
        return _finish(figure, axes, ACCURACY, ylim)


def _validation(figure: Figure, axes: Axes, curves: Sequence[Curve], name: str) -> None:
    """The values `name` of each curve; those of a full-batch solver's models as a level."""
    last = max((int(curve.history.eval_step[-1]) for curve in curves if curve.history.eval_step.size), default=0)

    def points(curve: Curve) -> tuple[Any, Floats]:
        steps, values = curve.at_evaluations(name)
        return ([0, last], values[[-1, -1]]) if curve.history.full_batch and values.size else (steps, values)

    _many(figure, [axes], curves, [points])


def course(curves: Sequence[Curve]) -> Figure:
    """Objective (nats, with the penalty) and bound on the gap to its minimum against a model's own iterations."""
    with styled():
        bounded = any(np.isfinite(curve.history.gap_bound[:, curve.model]).any() for curve in curves)
        figure, panels = new_figure(1 + bounded, height=4.2 if bounded else 2.5)
        names = ("objective", "gap_bound")[: len(panels)]
        _many(figure, panels, curves, [partial(Curve.at_evaluations, name=name) for name in names])
        panels[0].set_ylabel(OBJECTIVE)
        if bounded:
            panels[1].set_yscale("log")
            panels[1].set_ylabel(GAP)
        panels[-1].set_xlabel(ITERATION)
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[-1].set_xlim(left=0)
        if len(curves) > 1:
            legend_above(figure, panels[0])
        return figure


def _many(figure: Figure, panels: Sequence[Axes], curves: Sequence[Curve], points: Sequence[Points]) -> None:
    """The curves in every panel, at its `points`, named by a legend, or by a colour bar of λ if they are too many."""
    many = len(curves) > len(COLOURS)
    positive = [curve.l2 for curve in curves if curve.l2 > 0]
    lowest, highest = min(positive, default=0.0), max(positive, default=0.0)
    scale = LogNorm(lowest, highest) if many and lowest < highest else None
    shades = ScalarMappable(scale, sequential())
    for axes, of in zip(panels, points, strict=True):
        for index, curve in enumerate(curves):
            steps, values = of(curve)
            if not len(values):
                continue
            if not many:
                level = isinstance(steps, list)
                dashes = (0, (4, 2)) if level else "-"
                label = f"{curve.label} (its end)" if level else curve.label
                axes.plot(steps, values, color=colour(index), linewidth=0.9, linestyle=dashes, label=label)
                if not level:
                    axes.plot(steps[-1:], values[-1:], "o", color=colour(index), markersize=2.5)  # where it stopped
            elif scale is not None:
                axes.plot(steps, values, color=shades.to_rgba(np.array(max(curve.l2, lowest))), linewidth=0.6)
            else:
                axes.plot(steps, values, color=colour(0), linewidth=0.6, alpha=0.5)
    if scale is not None:
        figure.colorbar(shades, ax=list(panels), label="λ")


def _settled(axes: Axes, most: float = np.inf) -> tuple[float, float]:
    """Limits of what is drawn after the first twentieth of the steps, since the start would dwarf the rest; hardly more
    than `most`.
    """
    lines = [np.asarray(line.get_xydata(), np.float64) for line in axes.lines]
    bands = [np.asarray(path.vertices, np.float64) for band in axes.collections for path in band.get_paths()]
    start = max((float(xy[:, 0].max()) for xy in lines if xy.size), default=0.0) / 20
    values = [xy[xy[:, 0] >= start, 1] for xy in (*lines, *bands)]
    values += [xy[-1:, 1] for xy in lines]  # a curve that ends before that is shown by its end
    settled = np.concatenate(values) if values else np.empty(0)
    low, high = (settled.min(), settled.max()) if settled.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05
    return float(low - margin), float(min(high + margin, most + margin / 10))


def shuffle_accuracy(without: Curve, shuffled: Curve, ylim: Limits = None) -> Figure:
    """Validation accuracy without and with shuffle."""
    with styled():
        figure, (axes,) = new_figure()
        _shuffle_accuracy(axes, without, shuffled)
        return _finish(figure, axes, f"validation {ACCURACY}", ylim)


def shuffle_loss(without: Curve, shuffled: Curve, ylim: Limits = None) -> Figure:
    """Training loss without and with shuffle, each a mean over 10 steps with its band of ±1 sd, in nats."""
    with styled():
        figure, (axes,) = new_figure()
        _shuffle_loss(axes, without, shuffled)
        return _finish(figure, axes, f"training {LOSS}", ylim)


def shuffle(without: Curve, shuffled: Curve) -> Figure:
    """Both comparisons, one above the other."""
    with styled():
        figure, (above, below) = new_figure(2, height=4.2)
        _shuffle_accuracy(above, without, shuffled)
        above.set_ylabel(f"validation {ACCURACY}")
        above.set_ylim(*_settled(above, 1.0))
        mark_clipped(above)
        _shuffle_loss(below, without, shuffled)
        return _finish(figure, below, f"training {LOSS}", None)


def _shuffle_accuracy(axes: Axes, without: Curve, shuffled: Curve) -> None:
    for index, (curve, label) in enumerate(((without, "without shuffle"), (shuffled, "with shuffle"))):
        _line(axes, curve, "val_accuracy", colour(index), label)


def _shuffle_loss(axes: Axes, without: Curve, shuffled: Curve) -> None:
    for index, (curve, label) in enumerate(((without, "without shuffle"), (shuffled, "with shuffle"))):
        _band(axes, curve, colour(index), f"{label} (±1 sd)")
