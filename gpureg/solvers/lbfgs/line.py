"""The objective of a single model along a step, where it is known without a product, and where the step ends.

The end is sought as exactly as is useful. From weights of 0, where classes are apart, Newton's own steps add 1 to every
logit; there the search is for the logarithm of the slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log

import numpy as np

from gpureg.kernels.one_model import Stepping
from gpureg.solvers.lbfgs.sight import ROUNDED
from gpureg.solvers.lbfgs.trials import Trials

TRIES = 25  # of a step's end
FLAT, SURELY = 0.2, 0.02  # of the slope may be left there, if there is little to gain, and anyway
GAIN = 0.1  # of what a step has gained, which is little
FURTHER = 10.0  # times a step that is too short is the longest that is tried next


@dataclass(frozen=True)
class Line:
    """The objective along a step, at t: the model has the costs; the penalty has the slope and the curvature `slope`
    and `curvature` at t = 0.
    """

    n: int
    model: Stepping
    slope: float
    curvature: float

    def at(self, t: float) -> tuple[float, float, float]:
        """Loss, its slope, and the change of the penalty."""
        cost, slope = self.model.trial(t)
        return cost / self.n, slope / self.n, t * (self.slope + 0.5 * t * self.curvature)

    def pull(self, t: float) -> float:
        """The slope of the penalty."""
        return self.slope + t * self.curvature

    def following(self, t: float, first: float) -> float:
        """What to try after t, where the loss has the slope `first`."""
        pull, second = self.pull(t), self.model.along() / self.n
        if first + pull < 0.0 < pull:  # the losses' slope falls as exp(-t): Newton's method on logarithms
            return t + log(-first / pull) / (self.curvature / pull - second / first)
        bend = second + self.curvature
        return t - (first + pull) / bend if bend > 0.0 else np.inf

    def end(self, trials: Trials, loss: float, objective: float, slope: float) -> tuple[float, float, float] | None:
        """Where the step ends, as a multiple of it, the loss there and the objective; None if nothing is better than
        those at its beginning, where the objective has a `slope`. Counts the trials.
        """
        low, high, t = 0.0, np.inf, 1.0
        allowed = objective + ROUNDED * abs(objective)
        for _ in range(TRIES):
            found, first, penalty = self.at(t)
            own, reached = first + self.pull(t), found + (objective - loss + penalty)
            trials.evaluations += 1
            falls = reached <= allowed
            if falls and abs(own) <= -SURELY * slope:
                return t, found, reached
            following = self.following(t, first) if isfinite(own) else np.nan
            little = abs(own * (following - t)) <= GAIN * (objective - reached)
            if falls and little and abs(own) <= -FLAT * slope:
                return t, found, reached
            if falls and own < 0.0:
                low, following = t, min(following, FURTHER * t)
            else:
                high = t
            t = following if low < following < high else 0.5 * (low + min(high, FURTHER * t))
        return None
