"""Figures of an evaluation: confusion matrix, reliability diagram, ROC curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from gpureg.figures.confusion import confusion_of
from gpureg.figures.style import COLOURS, colour, legend_above, new_figure, styled
from gpureg.figures.text import plain
from gpureg.model.rows import BINS, Rows, bins

Doubles = npt.NDArray[np.float64]
GREY = "#999999"
MOST_POINTS = 1000  # of a curve
MOST_LETTERS = 24  # of a class's name


def evaluation_figures(rows: Rows, classes: Sequence[object]) -> Iterator[tuple[str, Figure]]:
    """The three figures, by the names of their files."""
    K = len(classes)
    weights = _weights(rows)
    counts = np.bincount(rows.y * K + rows.predicted, weights, minlength=K * K).reshape(K, K)
    yield "confusion", confusion_of(counts if rows.weights is not None else counts.astype(np.int64), classes)
    yield "reliability", reliability(rows)
    yield "roc", roc(rows, classes)


def reliability(rows: Rows) -> Figure:
    """How often the predicted class is right, against its probability, in 15 equal bins; below, the share of the rows
    in each. On the diagonal, probabilities are calibrated.
    """
    weights, top = _weights(rows), rows.top
    number = bins(top)
    total = np.bincount(number, weights, minlength=BINS)
    there = total > 0
    confidence, accuracy = (
        np.bincount(number, weights * values, minlength=BINS)[there] / total[there] for values in (top, rows.hits)
    )
    error = float(np.abs(accuracy - confidence) @ total[there] / total.sum())
    edges = np.linspace(0, 1, BINS + 1)
    lowest = edges[int(np.argmax(there))]
    with styled():
        figure, (upper, lower) = new_figure(rows=2, height=3.3)
        upper.plot([lowest, 1], [lowest, 1], color=GREY, linewidth=0.8, linestyle="--", label="calibrated")
        upper.bar(
            edges[:-1][there],
            accuracy,
            width=1 / BINS,
            align="edge",
            color=colour(0),
            alpha=0.35,
            edgecolor=colour(0),
            linewidth=0.5,
        )
        label = f"model (expected calibration error {error:.4f})"
        upper.plot(confidence, accuracy, "o-", color=colour(0), markersize=2.5, linewidth=0.9, label=label)
        upper.set_ylabel("accuracy")
        upper.set_ylim(0, 1.02)
        lower.bar(edges[:-1], total / total.sum(), width=1 / BINS, align="edge", color=colour(0), linewidth=0)
        lower.set_ylabel("share of rows")
        lower.set_xlabel("probability of the predicted class")
        lower.set_xlim(lowest, 1)
        legend_above(figure, upper)
        return figure


def roc(rows: Rows, classes: Sequence[object]) -> Figure:
    """The rate of true positives against that of false ones: of two classes for the first (the positive one), of more
    for each class against the rest; of many classes only their mean is named.
    """
    K = len(classes)
    numbers = [0] if K == 2 else [k for k in range(K) if 0 < np.count_nonzero(rows.y == k) < len(rows.y)]
    curves = {k: _curve(rows, k) for k in numbers if 0 < np.count_nonzero(rows.y == k) < len(rows.y)}
    named = len(curves) <= len(COLOURS)
    with styled():
        figure, (axes,) = new_figure(height=3.0)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        for place, (k, (false, true, area)) in enumerate(curves.items()):
            label = (
                f"{plain(classes[k], MOST_LETTERS)} ({area:.4f})"
                if named
                else None
                if place
                else "each class against the rest"
            )
            tint = colour(place) if named else GREY
            axes.plot(false, true, color=tint, linewidth=0.9 if named else 0.4, alpha=1 if named else 0.5, label=label)
        if len(curves) > 1:
            grid = np.r_[0.0, np.linspace(0, 1, MOST_POINTS)]
            mean = np.mean([np.interp(grid, false, true) for false, true, _ in curves.values()], axis=0)
            mean[0] = 0.0
            area = float(np.mean([area for *_, area in curves.values()]))
            axes.plot(grid, mean, color="black", linewidth=1.2, linestyle=":", label=f"mean ({area:.4f})")
        axes.set(xlabel="rate of false positives", ylabel="rate of true positives", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.set_aspect("equal")
        if curves:
            axes.legend(loc="lower right", title="class (area)", fontsize=6, title_fontsize=6)
        else:
            axes.text(0.5, 0.4, "not defined: all rows are of one class", ha="center", fontsize=7)
        return figure


def _curve(rows: Rows, k: int) -> tuple[Doubles, Doubles, float]:
    """False and true positive rates of class k against the rest, from (0, 0) to (1, 1), and the area below."""
    order = np.argsort(-rows.probabilities[:, k], kind="stable")
    scores, weights = rows.probabilities[order, k], _weights(rows)[order]
    positive = weights * (rows.y[order] == k)
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True])  # equal scores are one step
    true = np.r_[0.0, np.cumsum(positive)[last]]
    false = np.r_[0.0, np.cumsum(weights - positive)[last]]
    true, false = true / true[-1], false / false[-1]
    area = float(np.trapezoid(true, false))
    kept = np.unique(np.linspace(0, len(true) - 1, MOST_POINTS).astype(int))
    return false[kept], true[kept], area


def _weights(rows: Rows) -> Doubles:
    return np.ones(len(rows.y)) if rows.weights is None else rows.weights
