"""A data set as a table of a few lines, for its repr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpureg.data.labels import listed

_CLASSES, _FEATURES, _WIDTH = 6, 8, 14  # that are shown, and characters of a class's name


@dataclass(frozen=True)
class Part:
    """Rows of one part of a data set: its name, and the class indices `y (N,)`."""

    name: str
    y: npt.NDArray[np.int64]


def table(
    name: str,
    parts: Sequence[Part],
    classes: Sequence[object],
    features: Sequence[str],
    image_shape: tuple[int, int] | None,
    weights: npt.NDArray[np.float64] | None,
) -> str:
    """One line of the data set, one for each part with its rows of each class, then the features and the weights."""
    shown = min(len(classes), _CLASSES)
    rest = f"{len(classes) - shown} more" if len(classes) > shown else ""
    heads = ["", "rows", *(_cut(listed([label])) for label in classes[:shown]), *([rest] if rest else [])]
    rows = [heads]
    for part in parts:
        counts = np.bincount(part.y, minlength=len(classes))
        cells = [*counts[:shown], *([counts[shown:].sum()] if rest else [])]
        rows.append([part.name, f"{len(part.y):,}", *(f"{count:,}" for count in cells)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    images = f" ({image_shape[0]} x {image_shape[1]} pixels)" if image_shape else f": {_names(features)}"
    weighted = "none" if weights is None else f"{weights.min():g} to {weights.max():g}, {weights.sum():g} in all"
    head = f"Dataset {listed([name])!r}: {len(features):,} features, {len(classes):,} classes"
    return "\n".join([head, *(f"  {line}" for line in lines), f"  features{images}", f"  weights: {weighted}"])


def _names(features: Sequence[str]) -> str:
    shown = ", ".join(_cut(listed([name])) for name in features[:_FEATURES])
    return shown if len(features) <= _FEATURES else f"{shown}, ... ({len(features) - _FEATURES:,} more)"


def _cut(name: str) -> str:
    return name if len(name) <= _WIDTH else name[: _WIDTH - 3] + "..."
