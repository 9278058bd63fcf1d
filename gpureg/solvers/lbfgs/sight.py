"""A goal as a loop sees it: as it is or, as long as that brings the loop nearer, in float32 near the point where it was
seen last (`OneModel.nearby`). A pass then takes about half the time, and all but three or four of a fit are of that
kind.
"""

from __future__ import annotations

import numpy as np

from gpureg.solvers.lbfgs.trials import Goal, Trial
from gpureg.types import Floats

FALL = 1e-8  # of the bound on the gap, after which the goal is seen as it is: float32 has 7 digits of a gradient
GAINED = 1e-2  # of that bound: what does not fall that far is seen as it is to the end
NOISE, ROUNDED = 4 * np.finfo(float).eps, 2.0**-24  # of an objective, as it is and near a point
TRIES, FEW_TRIES = 20, 6  # of a line search


class Sight:
    """`exact`: as it is. Then there are `tries` for a step, and an objective has that relative `noise`."""

    def __init__(self, goal: Goal) -> None:
        self.goal, self._near = goal, goal.model.nearby() if goal.l2 > 0.0 else None
        self._last, self._aim = np.inf, 0.0
        self._see(exact=True)

    def settled(self, W: Floats) -> Trial:
        """A trial at the point `(K, D)` as it is; from here the goal is seen near it."""
        goal, near = self.goal, self._near
        if near is None:
            return goal.at(W)
        trial = goal.trial(W, *near.settle(W))
        nearer = bool(trial.bound <= GAINED * self._last)
        if not nearer:
            self._near = None
        self._last, self._aim = trial.bound, max(goal.attainable(trial), FALL * trial.bound)
        self._see(exact=not nearer)
        return trial

    def at(self, W: Floats) -> Trial:
        """A trial at the point, as it is seen."""
        return self.goal.trial(W, *self._value(W))

    def met(self, trial: Trial, decrement: float = np.inf) -> bool:
        """Whether it is near enough, or so near that it has to be seen as it is."""
        if self.exact:
            return self.goal.met(trial, decrement)
        target = self.goal.target
        return trial.bound <= self._aim or (target is not None and trial.objective <= target)

    def _see(self, *, exact: bool) -> None:
        self.exact = exact
        self.noise, self.tries = (NOISE, TRIES) if exact else (ROUNDED, FEW_TRIES)
        self._value = self.goal.model.value if exact or self._near is None else self._near.value
