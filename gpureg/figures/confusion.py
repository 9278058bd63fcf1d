"""A confusion matrix: which class is predicted for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpureg.errors import UsageError
from gpureg.figures.style import new_figure, styled
from gpureg.figures.text import plain

MOST_NUMBERS = 12  # classes; with more the numbers would be too small to read
MOST_LABELS = 20  # along an axis
MOST_LETTERS = 14  # of a class's name
ROOM = 2.2  # inches along an axis, for the names of its classes
LETTER, BETWEEN = 0.056, 0.08  # inches: the width of a letter, the gap between two names


def counts(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, classes: Sequence[object]) -> npt.NDArray[np.int64]:
    """`(K, K)`: entry (i, j) counts the rows of class i that were predicted as class j; labels `(N,)` as in `classes`.

    Raises UsageError for a label that is not one of `classes`, and if the two differ in length.
    """
    true, predicted, names = np.asarray(y_true), np.asarray(y_pred), np.asarray(classes)
    if true.shape != predicted.shape:
        raise UsageError(
            f"{true.shape[0]} labels and {predicted.shape[0]} predictions; expected one for each row of both."
        )
    table = np.zeros((names.size, names.size), np.int64)
    pairs = [(labels[:, None] == names).argmax(axis=1) for labels in (true, predicted)]
    for labels, index in zip((true, predicted), pairs, strict=True):
        strange = labels[names[index] != labels]
        if strange.size:
            raise UsageError(f"The label {strange[0]} is not one of the model's classes {list(classes)}.")
    np.add.at(table, (pairs[0], pairs[1]), 1)
    return table


def confusion(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, classes: Sequence[object]) -> Figure:
    """`confusion_of` the counts of labels `(N,)`. Raises UsageError as `counts` does."""
    return confusion_of(counts(y_true, y_pred, classes), classes)


def confusion_of(table: npt.NDArray[np.generic], classes: Sequence[object]) -> Figure:
    """Counts, or sums of weights, `(K, K)` by true (rows) and predicted (columns) class; shaded by the share of the
    true class.

    Long names are shortened and stand upright along the horizontal axis; of many classes every second, third, ... is
    named.
    """
    sums = np.asarray(table, np.float64).sum(axis=1, keepdims=True)
    share = np.divide(table, sums, out=np.zeros(table.shape), where=sums > 0)
    K = len(classes)
    with styled():
        figure, (axes,) = new_figure(height=3.3)
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        if K <= MOST_NUMBERS:
            _numbers(axes, table, share)
        _names(axes, classes)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
        return figure


def _numbers(axes: Axes, table: npt.NDArray[np.generic], share: npt.NDArray[np.float64]) -> None:
    texts = [f"{value:.5g}" for value in table.ravel().tolist()]
    digits = max(map(len, texts))
    cell = ROOM / len(table)
    size = min(7.0, 72 * cell / (0.62 * digits + 0.3))  # points: a digit is 0.6 as wide as it is high
    for (i, j), part in np.ndenumerate(share):
        ink = "white" if part > 0.5 else "black" if part else "#999999"
        axes.text(j, i, texts[i * len(share) + j], ha="center", va="center", fontsize=size, color=ink)


def _names(axes: Axes, classes: Sequence[object]) -> None:
    K = len(classes)
    names = [plain(name, MOST_LETTERS) for name in classes]
    ticks = list(range(0, K, -(-K // MOST_LABELS)))
    shown = [names[tick] for tick in ticks]
    width = max(map(len, shown)) * LETTER + BETWEEN
    upright = width * len(ticks) > ROOM
    axes.set_xticks(ticks, shown, rotation=90 if upright else 0)
    axes.set_yticks(ticks, shown)
