"""A trained model in a few lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gpureg.data.labels import listed

if TYPE_CHECKING:
    from gpureg.model.linear import LinearModel

MOST = 10  # models that are shown


def table(model: LinearModel) -> str:
    """What the model takes and gives, and its models: λ, learning rate, seed and Σ w², the chosen one marked."""
    L, _, D = model.coef.shape
    features = f"{D} features"
    if model.image_shape is not None:
        features = f"images of {' x '.join(map(str, model.image_shape))}"
    elif model.feature_names is not None:
        features += f" ({listed(model.feature_names, 5)})"
    lines = [
        f"LinearModel: {model.loss.name}, {len(model.classes)} classes ({listed(model.classes, 5)}), {features}",
        f"{L} model{'s' * (L > 1)}, {np.dtype(model.coef.dtype).name}",
    ]
    shown = first_and_chosen(L, model.selected)
    titles, cells = ["", "λ"], [["*" if row == model.selected else "" for row in shown]]
    cells.append([f"{model.l2[row]:.6g}" for row in shown])
    for title, values in (("lr", model.lr), ("seed", model.seed)):
        if values is not None and np.unique(values).size > 1:
            titles.append(title)
            cells.append([f"{values[row]:.6g}" for row in shown])
    if model.scores is not None and np.isfinite(model.scores).any():
        titles.append(model.scored_by)
        cells.append([f"{model.scores[row]:.6g}" for row in shown])
    titles.append("Σ w²")
    norms = (np.square(model.coef[shown], dtype=np.float64)).sum(axis=(1, 2))
    norms += np.square(model.intercept[shown], dtype=np.float64).sum(axis=1)
    cells.append([f"{norm:.6g}" if np.isfinite(norm) else "diverged" for norm in norms])
    lines += aligned(titles, cells)
    if len(shown) < L:
        lines.append(f"... {L - len(shown)} more")
    return "\n".join(lines)


def first_and_chosen(models: int, chosen: int | None) -> list[int]:
    """The indices of the models that are shown: the first, and the chosen one."""
    first = list(range(min(MOST, models)))
    return first if chosen is None or chosen < len(first) else [*first[:-1], chosen]


def aligned(titles: Sequence[str], columns: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: its titles, then its rows, each column as wide as its widest cell."""
    widths = [max(map(len, (title, *column))) for title, column in zip(titles, columns, strict=True)]
    rows = [titles, *zip(*columns, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
