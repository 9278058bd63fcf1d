"""Who walks along a path: models of the same rows and row weights, sorted by falling λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.types import Floats, Ints, ModelTable


@dataclass(frozen=True)
class Members:
    """A table's models as M paths that are walked side by side.

    A member is a column of the row-weight table: a fold of an assignment, or the refit. `unique (U,)`: the table's
    models with one of each member and λ, `place (L,)` the one that each model of the table is equal to. `points`:
    the unique models in the order in which they are solved, those of one point of the path together, at most one of
    each member; `before (U, 2)`: the two before it in its member's order, the last first, -1 where there is none.
    """

    unique: Ints
    place: Ints
    points: tuple[Ints, ...]
    before: Ints

    @classmethod
    def of(cls, table: ModelTable) -> Members:
        """Those of a table."""
        keys = list(zip(table.column.tolist(), table.l2.tolist(), strict=True))
        first = {key: model for model, key in reversed(list(enumerate(keys)))}
        unique = np.array(sorted(first.values()), np.int64)
        rank = {int(model): place for place, model in enumerate(unique)}
        place = np.array([rank[first[key]] for key in keys], np.int64)
        column, l2 = table.column[unique], table.l2[unique]
        before = np.full((len(unique), 2), -1, np.int64)
        points: list[list[int]] = []
        for member in dict.fromkeys(column.tolist()):
            mine = np.flatnonzero(column == member)
            mine = mine[np.argsort(-l2[mine], kind="stable")]
            before[mine[1:], 0], before[mine[2:], 1] = mine[:-1], mine[:-2]
            for index, model in enumerate(mine.tolist()):
                if index == len(points):
                    points.append([])
                points[index].append(model)
        return cls(unique, place, tuple(np.array(sorted(point), np.int64) for point in points), before)

    def copies(self, model: int) -> Ints:
        """The table's models that are equal to the unique one `model`."""
        return np.flatnonzero(self.place == model)


def along_a_path(table: ModelTable) -> bool:
    """Whether a member has more than one model."""
    return len(np.unique(table.column)) < len(table)


def secant(at: float, last: tuple[float, Floats], before: tuple[float, Floats] | None = None) -> Floats:
    """Where the optimum at λ = `at` is to be expected: on the line through the last two optima in log λ, or at the
    last one if there is only one, or if λ is 0. An optimum is `(λ, weights)`.
    """
    l2, W = last
    if before is None or at <= 0.0:
        return W
    step = (np.log(at) - np.log(l2)) / (np.log(l2) - np.log(before[0]))
    return np.asarray(W + step * (W - before[1]))
