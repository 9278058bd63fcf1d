"""A line search for A models at once: each has its own bracket, all are tried in the same pass over the data.

A step α along d is taken where the weak Wolfe conditions hold, with φ(α) = J(v + α d):

    φ(α) <= φ(0) + 1e-4 α φ'(0)    and    φ'(α) >= 0.9 φ'(0)

If φ changes by no more than its rounding error, the first can't be decided; then the slopes decide, `φ'(α) <= 0.9998
|φ'(0)|`, as in Hager and Zhang, A new conjugate gradient method with guaranteed descent and an efficient line
search, 2005. φ is convex, so φ' is monotone, and the secant of two slopes of opposite sign estimates its zero, within
the bracket.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.types import Floats, Ints

Mask = npt.NDArray[np.bool_]

DECREASE, FLATTER = 1e-4, 0.9
MOST_TRIES = 25
BRACKET = ("alpha", "low", "high", "slope_low", "slope_high", "tries")  # where the searches stand


class LineSearch:
    """The brackets of A models. `alpha (A,)` is the step that each tries next; `noise` φ's relative rounding error."""

    def __init__(self, models: int, noise: float) -> None:
        self.noise = noise
        self.alpha = np.ones(models)
        self.low, self.high = np.zeros(models), np.full(models, np.inf)
        self.slope_low, self.slope_high = np.zeros(models), np.full(models, np.nan)
        self.tries = np.zeros(models, np.int64)

    def take(self, keep: Ints) -> None:
        """Keep the models `keep`."""
        for name in BRACKET:
            setattr(self, name, getattr(self, name)[keep])

    def restart(self, models: Mask) -> None:
        """Those models have a new direction: try 1 first."""
        self.alpha[models], self.low[models], self.high[models] = 1.0, 0.0, np.inf
        self.slope_high[models], self.tries[models] = np.nan, 0

    def judge(self, start: Floats, slope_start: Floats, there: Floats, slope: Floats) -> tuple[Mask, Mask]:
        """φ(0), φ'(0), φ(α), φ'(α), each `(A,)` -> masks of the models that take the step, and of those that give up.

        The others' `alpha` is the next to try.
        """
        tolerance = self.noise * np.abs(start)
        fell = there <= start + DECREASE * self.alpha * slope_start
        level = (there <= start + tolerance) & (slope <= (1.0 - 2.0 * DECREASE) * np.abs(slope_start))
        flat = slope >= FLATTER * slope_start
        finite = np.isfinite(there) & np.isfinite(slope)
        taken = finite & (fell | level) & flat
        self.tries += 1
        lost = ~taken & (self.tries >= MOST_TRIES)
        too_far = ~taken & ~(finite & (fell | level))
        too_short = ~taken & ~too_far
        self.slope_low = np.where(self.low == 0.0, slope_start, self.slope_low)
        self._narrow(too_far, too_short, slope)
        return taken, lost

    def _narrow(self, too_far: Mask, too_short: Mask, slope: Floats) -> None:
        with np.errstate(all="ignore"):
            secant_out = self.alpha + slope * (self.alpha - self.low) / (self.slope_low - slope)
        further = np.clip(np.nan_to_num(secant_out, nan=np.inf), 2.0 * self.alpha, 10.0 * self.alpha)
        self.high = np.where(too_far, self.alpha, self.high)
        self.slope_high = np.where(too_far, slope, self.slope_high)
        self.low = np.where(too_short, self.alpha, self.low)
        self.slope_low = np.where(too_short, slope, self.slope_low)
        width = self.high - self.low
        with np.errstate(all="ignore"):
            share = self.slope_low / (self.slope_low - self.slope_high)
        share = np.where(np.isfinite(share) & (self.slope_high > 0), np.clip(share, 0.1, 0.9), 0.5)
        inside = np.where(np.isfinite(width), self.low + share * np.where(np.isfinite(width), width, 0.0), further)
        self.alpha = np.where(too_far | too_short, inside, self.alpha)
