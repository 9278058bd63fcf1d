"""The score that compares the models of a fit, and the folds for which it is not defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.data.labels import listed
from gpureg.errors import UsageError, named
from gpureg.fitting.grid import cv_rows
from gpureg.fitting.results import CvRow
from gpureg.model.scores import missing_classes
from gpureg.solvers.problem import Measured
from gpureg.types import Ints, ModelTable


@dataclass(frozen=True)
class Scored:
    """The `score` of a fit with `folds` (0: none); `undefined`: columns of the row-weight table whose held-out rows do
    not define it, with the classes that these lack.
    """

    score: str
    folds: int
    undefined: Mapping[int, tuple[str, ...]]
    first_seed: int = 0
    seeds: int = 1

    @classmethod
    def of(cls, data: Dataset, config: FitConfig, assignments: Sequence[Ints]) -> Scored:
        """Raises UsageError if nothing would be left to compare."""
        K, folds, undefined = len(data.classes), config.cv or 0, {}
        for number, assignment in enumerate(assignments):
            for fold in range(folds):
                lacking = missing_classes(config.score, data.y_train[assignment == fold], K)
                if len(lacking):
                    undefined[number * folds + fold] = tuple(repr(data.classes[k]) for k in lacking)
        if assignments and len(undefined) == len(assignments) * folds:
            raise UsageError(
                f"{named('score', config.score)} needs rows of every class, but no fold holds out such rows: "
                f"{_lacks(undefined[0], 'the first')}. Use fewer folds, or another {named('score')}."
            )
        lacking = missing_classes(config.score, data.y_val, K)
        if len(lacking) and len(data.y_val) and not assignments:
            classes = tuple(repr(data.classes[k]) for k in lacking)
            raise UsageError(
                f"{named('score', config.score)} needs rows of every class, but the validation rows lack "
                f"{listed(classes, 5)}. Use more validation rows ({named('val_size')}), or another {named('score')}."
            )
        return cls(config.score, folds, undefined, config.seed, config.seeds)

    def notices(self) -> list[str]:
        """One sentence that names the folds that are left out."""
        if not self.undefined:
            return []
        folds = [
            _lacks(classes, f"fold {column % self.folds}" + self._seed(column))
            for column, classes in self.undefined.items()
        ]
        return [f"The score {self.score} is not defined, and is left out of the means, if {listed(folds, 10)}."]

    def _seed(self, column: int) -> str:
        return f" of seed {self.first_seed + column // self.folds}" if self.seeds > 1 else ""

    def rows(self, table: ModelTable, measured: Measured) -> tuple[CvRow, ...]:
        """The mean of each λ and learning rate: over the folds, or without any over the models."""
        compared = np.flatnonzero(table.fold >= 0) if self.folds else np.arange(len(table))
        return cv_rows(table.take(compared), measured.score[compared], self.score, self.undefined)


def _lacks(classes: Sequence[str], where: str) -> str:
    return f"{where} holds out no row of {'the class' if len(classes) == 1 else 'the classes'} {listed(classes, 5)}"
