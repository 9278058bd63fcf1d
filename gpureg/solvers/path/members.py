"""The members of a path: models of the same rows and row weights, sorted by falling λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.types import Floats, Ints, ModelTable

MOST_IN_BLOCK = 2  # with four, each takes half as many passes again (MNIST, 20,000 samples, 96 C)
APART = 1e-3  # of the way to the next λ that two λ are apart, at least, whose optima say where it leads
FEW_COLUMNS = 40  # of a product: below that, more columns cost little


@dataclass(frozen=True)
class Members:
    """A table's models as M paths that are walked side by side.

    A member is a column of the row-weight table: a fold of an assignment, or the refit. `unique (U,)`: the table's
    models with one of each member and λ, `place (L,)` the one that each model of the table is equal to. `points`:
    the unique models in the order in which they are solved, those of one point of the path together, of each member at
    most `block` that follow each other (and 0 alone); `before (U, 2)`: the two that its member has solved before they
    begin, the last first, -1 where there is none; `rank (U,)`: its place in its member's block. `reached (P + 1,)`:
    the number of λ that are over after p points.
    """

    unique: Ints
    place: Ints
    points: tuple[Ints, ...]
    before: Ints
    rank: Ints
    reached: Ints

    @classmethod
    def of(cls, table: ModelTable, block: int = 1) -> Members:
        """Those of a table."""
        keys = list(zip(table.column.tolist(), table.l2.tolist(), strict=True))
        first = {key: model for model, key in reversed(list(enumerate(keys)))}
        unique = np.array(sorted(first.values()), np.int64)
        number = {int(model): place for place, model in enumerate(unique)}
        place = np.array([number[first[key]] for key in keys], np.int64)
        column, l2 = table.column[unique], table.l2[unique]
        before, rank = np.full((len(unique), 2), -1, np.int64), np.zeros(len(unique), np.int64)
        points: list[list[int]] = []
        for member in dict.fromkeys(column.tolist()):
            mine = np.flatnonzero(column == member)
            mine = mine[np.argsort(-l2[mine], kind="stable")]
            positive = mine[l2[mine] > 0]
            blocks = [positive[start : start + block] for start in range(0, len(positive), block)]
            for index, models in enumerate([*blocks, *([mine[-1:]] if len(positive) < len(mine) else [])]):
                start = index * block if models[0] in positive else len(positive)
                rank[models] = np.arange(len(models))
                for place_, model in enumerate((start - 1, start - 2)):
                    before[models, place_] = mine[model] if model >= 0 else -1
                if index == len(points):
                    points.append([])
                points[index].extend(models.tolist())
        ordered = tuple(np.array(sorted(point), np.int64) for point in points)
        sizes = [np.unique(column[point], return_counts=True)[1].max() for point in ordered]
        return cls(unique, place, ordered, before, rank, np.cumsum([0, *sizes]))

    def by_rank(self, point: int) -> list[Ints]:
        """The models of a point by λ, falling: one of each member in each array."""
        models = self.points[point]
        return [models[self.rank[models] == rank] for rank in np.unique(self.rank[models]).tolist()]

    def copies(self, model: int) -> Ints:
        """The table's models that are equal to the unique one `model`."""
        return np.flatnonzero(self.place == model)


def block_of(table: ModelTable, K: int) -> int:
    """How many λ of a member are solved together: a product of few columns takes as long as one of a few more, but
    a start is worth less the farther away the last optimum is. Measured (MNIST, 20,000 samples, 96 C, K = 10, tol 1e-3,
    1e-4, 1e-5): 11.5, 15.3, 22.4 s one by one, 8.2, 12.8, 20.1 s two at a time, 10.4, 13.5, 20.0 s four at a time.
    """
    columns = K * len(np.unique(table.column))
    return max(1, min(MOST_IN_BLOCK, FEW_COLUMNS // columns))


def along_a_path(table: ModelTable) -> bool:
    """Whether a member has more than one model."""
    return len(np.unique(table.column)) < len(table)


def reach(at: float, last: float, before: float | None = None) -> float:
    """How far beyond the last optimum, at λ = `last`, that at λ = `at` is to be expected, as a multiple of the way from
    the one `before` it: on the line through both in log λ; 0, so at the last one, if there is only one, if λ is 0, or
    if they are so close that the line between them is one of rounding.
    """
    if before is None or at <= 0.0:
        return 0.0
    further, between = np.log(at) - np.log(last), np.log(last) - np.log(before)
    return 0.0 if abs(between) <= APART * abs(further) else float(further / between)


def secant(at: float, last: tuple[float, Floats], before: tuple[float, Floats] | None = None) -> Floats:
    """Where the optimum at λ = `at` is to be expected; see `reach`. An optimum is `(λ, weights)`."""
    step = reach(at, last[0], None if before is None else before[0])
    return last[1] if before is None or step == 0.0 else np.asarray(last[1] + step * (last[1] - before[1]))
