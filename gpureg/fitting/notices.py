"""Notices for the user about a cross-validation and the choice of λ, a line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import named
from gpureg.fitting.results import CvRow
from gpureg.types import ModelTable

FEWEST = 3  # λ that make a grid, which has ends


def of_folds(data: Dataset, config: FitConfig) -> list[str]:
    """Classes with fewer training rows than there are folds: some folds hold out none of them."""
    if config.cv is None:
        return []
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    few = [f"{data.classes[k]!r} ({counts[k]})" for k in np.flatnonzero(counts < config.cv)]
    if not few:
        return []
    return [
        f"Classes with fewer training rows than the {config.cv} folds: {', '.join(few)}. Some folds hold out none of "
        f"their rows, so the scores say little about these classes; use fewer folds ({named('cv')})."
    ]


def of_choice(cv: Sequence[CvRow] | None, chosen: int | None, table: ModelTable) -> list[str]:
    """The chosen λ is the largest or the smallest of a grid: the best may lie beyond. 0 is not such an end.

    `chosen` is an index into the rows of `cv`, or without folds into the models of the table.
    """
    if chosen is None:
        return []
    grid = np.unique(table.l2)
    l2 = float(table.l2[chosen]) if cv is None else cv[chosen].l2
    if len(grid) < FEWEST or l2 == 0.0 or grid[0] < l2 < grid[-1]:
        return []
    end, way = ("largest", "larger") if l2 == grid[-1] else ("smallest", "smaller")
    return [f"The chosen λ, {l2:g}, is the {end} of its grid: a {way} one may be better. Extend the grid that way."]
