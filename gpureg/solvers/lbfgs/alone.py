"""L-BFGS for a single model on few samples, where Python's own time counts: flat vectors, a few products an iteration.

The direction is that of the two loops over the m pairs, in its compact form: with `S (m, P)` the steps, `Y` the changes
of the gradient, R the upper triangle of `S Y'` and E its diagonal, `q = S g` and H the metric,

    a = R^-1 q,   u = Y H (g - Y' a),   c = R^-T (E a - u),   d = -(H (g - Y' a) + S' c).

Since H is linear it is applied once an iteration, to the new gradient. A step has to fall enough and to be long enough
(Wolfe's two conditions); the next trial is the minimum of a cubic or, beyond the last, where a line through the slopes
is 0. All but a few evaluations may be in float32 (`sight`). Sources: Byrd, Nocedal and Schnabel,
Representations of quasi-Newton matrices, 1994; Nocedal and Wright, Numerical Optimization, 2006, section 3.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from gpureg.solvers.lbfgs.metric import MOST_SAVED, SAVED, USUAL, Diagonal, Kronecker, build_iterations
from gpureg.solvers.lbfgs.sight import Sight
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.types import Floats

MEMORY = 10  # pairs
HELD = 3 * MEMORY  # rows of their arrays: pairs are moved back to the front when these are full
FIRST = 8  # iterations before the metric may be made again
ENOUGH = 1e-3  # of the decrease that the slope promises
FLAT = 0.97  # of the slope may be left

Metric = Diagonal | Kronecker


@dataclass(frozen=True)
class Stretch:
    """How long a loop goes on: at least `least` iterations, and from there as long as those that are left, at the rate
    so far, are no more than `price`, what another way would cost; never more than `most`.
    """

    least: int
    price: float
    most: int

    def over(self, bounds: Sequence[float], tolerance: float) -> bool:
        """Whether a loop with these bounds on the gap after its iterations ends before they meet the tolerance."""
        return len(bounds) >= self.least and not left(bounds, tolerance) <= self.price


def left(bounds: Sequence[float], tolerance: float) -> float:
    """The iterations that are left at the rate of these bounds on the gap; infinite or NaN if they do not fall."""
    with np.errstate(all="ignore"):
        fallen, missing = np.log(bounds[0] / np.min(bounds)), np.log(np.min(bounds) / tolerance)
        return float(missing * (len(bounds) - 1) / fallen)


class Pairs:
    """The last pairs of P weights, and all products of them that a direction needs."""

    def __init__(self, P: int, metric: Metric) -> None:
        from scipy.linalg.lapack import dtrtrs

        self.S, self.Y, self.HY = np.empty((3, HELD, P))
        self.SY, self.YHY = np.zeros((MEMORY, MEMORY)), np.zeros((MEMORY, MEMORY))
        self.first, self.count, self.metric, self.scale, self._solve = 0, 0, metric, 1.0, dtrtrs

    def direction(self, g: Floats, Hg: Floats) -> Floats:
        """At gradient g `(P,)`, given what the metric makes of it."""
        m = self.count
        if not m:
            return -Hg
        rows = slice(self.first, self.first + m)
        S, HY, SY = self.S[rows], self.HY[rows], self.SY[:m, :m]
        a = self._solve(SY, S @ g)[0]
        u = self.scale * (HY @ g - self.YHY[:m, :m] @ a)
        c = self._solve(SY, SY.diagonal() * a - u, trans=1)[0]
        d = Hg - a @ HY
        d *= -self.scale
        d -= c @ S
        return d

    def add(self, s: Floats, y: Floats, Hy: Floats) -> None:
        """The step s, the change y of the gradient along it, and what the metric makes of that; nothing if the slope
        has not risen.
        """
        rise = float(s @ y)
        if not rise > 0.0:
            return
        if self.count == MEMORY:
            self.first, self.count = self.first + 1, MEMORY - 1
            for matrix in (self.SY, self.YHY):
                matrix[:-1, :-1] = matrix[1:, 1:].copy()
            if self.first + MEMORY > HELD:
                for vectors in (self.S, self.Y, self.HY):
                    vectors[: self.count] = vectors[self.first : self.first + self.count]
                self.first = 0
        at, m = self.first + self.count, self.count + 1
        self.S[at], self.Y[at], self.HY[at] = s, y, Hy
        rows = slice(self.first, at + 1)
        self.SY[:m, m - 1] = self.S[rows] @ y
        self.YHY[:m, m - 1] = self.YHY[m - 1, :m] = self.Y[rows] @ Hy
        self.count = m
        self._rescale()

    def change(self, metric: Metric) -> None:
        """Continue with another metric."""
        self.metric, m = metric, self.count
        rows = slice(self.first, self.first + m)
        for place in range(self.first, self.first + m):
            self.HY[place] = metric(self.Y[place])
        self.YHY[:m, :m] = self.Y[rows] @ self.HY[rows].T
        self._rescale()

    def _rescale(self) -> None:
        """The metric is scaled to the curvature along the last step."""
        m = self.count
        if m:
            self.scale = float(self.SY[m - 1, m - 1] / self.YHY[m - 1, m - 1])


def descend(trials: Trials, W: Floats, stretch: Stretch) -> None:
    """Go from the point `W (K, D)` as far as the method can."""
    goal = trials.goal
    sight = None if W.any() else Sight(goal)  # weights that were made may be near enough as they are
    at = goal.at(W) if sight is None else sight.settled(W)
    trials.keep(at, met=goal.met(at))
    if trials.met and stretch.most > 0:
        trials.accept()
    if trials.met or stretch.most < 1 or not isfinite(at.objective):
        return
    if sight is None:
        sight = Sight(goal)
        at = sight.settled(W)
    _Descent(trials, sight, at, stretch).run()


class _Descent:
    """The loop, from a point that is not near enough."""

    def __init__(self, trials: Trials, sight: Sight, at: Trial, stretch: Stretch) -> None:
        self.trials, self.goal, self.sight, self.stretch = trials, trials.goal, sight, stretch
        self.pairs, self.plan = Pairs(at.W.size, Diagonal.of(self.goal)), Plan(self.goal, *at.W.shape)
        self.bounds: list[float] = []  # after each iteration
        self.at, self.g = at, at.gradient.reshape(-1)
        self.Hg = self.pairs.metric(self.g)

    def run(self) -> None:
        """To the end of the stretch, or as far as the method can."""
        for number in range(1, self.stretch.most + 1):
            found = self._next()
            while found is None:
                if self.trials.met or not self._look_again():
                    return
                found = self._next()
            if self._arrive(*found):
                return
            self.bounds.append(self.at.bound)
            tolerance = self.goal.attainable(self.at)
            if self.stretch.over(self.bounds, tolerance):
                break
            if self.plan.due(number, self.bounds, tolerance):
                new = Kronecker.of(self.goal)
                if new is not None:
                    self.pairs.change(new)
                    self.Hg = new(self.g)
        self._look_again()

    def _next(self) -> tuple[Trial, Floats] | None:
        """The next point and the step to it `(P,)`; None if there is none, or none is needed."""
        at, d = self.at, self.pairs.direction(self.g, self.Hg)
        slope = float(self.g @ d)
        if not slope < 0.0:
            return None
        if self.sight.met(at, -slope):
            self.trials.met = True
            return None
        step = 1.0 if self.pairs.count else min(1.0, 1.0 / sqrt(-slope))
        found = _step(self.trials, self.sight, at, d.reshape(at.W.shape), slope, step)
        if found is None:
            return None
        d *= found[1]
        return found[0], d

    def _arrive(self, there: Trial, s: Floats) -> bool:
        """Stand there, after the step s; whether the loop is over."""
        trials, sight, goal = self.trials, self.sight, self.goal
        h = there.gradient.reshape(-1)
        Hh = self.pairs.metric(h)
        self.pairs.add(s, h - self.g, Hh - self.Hg)
        if sight.exact:
            trials.keep(there, met=goal.met(there))
        else:
            trials.pass_by(there)
            if sight.met(there):
                there = sight.settled(there.W)
                trials.keep(there, met=goal.met(there))
                h = there.gradient.reshape(-1)
                Hh = self.pairs.metric(h)
        trials.accept()
        self.at, self.g, self.Hg = there, h, Hh
        return trials.met

    def _look_again(self) -> bool:
        """Whether the point had been seen from afar; then it is seen as it is."""
        if self.sight.exact:
            return False
        at = self.sight.settled(self.at.W)
        self.trials.keep(at, met=self.goal.met(at))
        self._stand(at)
        return not self.trials.met

    def _stand(self, at: Trial) -> None:
        self.at, self.g = at, at.gradient.reshape(-1)
        self.Hg = self.pairs.metric(self.g)


class Plan:
    """When the metric of a loop is made again; a new one costs as much as `build` iterations.

    After 8, 16, 32, ... iterations: if it saves more than it costs. And once the last one has been in use for half as
    many again as it costs, or more: if it may save half of its cost.
    """

    def __init__(self, goal: Goal, K: int, D: int) -> None:
        self.build, self.usual = build_iterations(goal.n, D, K), USUAL if K > 1 else 0
        self.made, self.look = 0, FIRST
        self.least = max(2.0 * FIRST, 1.5 * self.build)

    def due(self, number: int, bounds: Sequence[float], tolerance: float) -> bool:
        """Whether it is made again after that many iterations, which left these bounds on the gap."""
        looked, old = number == self.look, number - self.made >= self.least
        if not (looked or old):
            return False
        if looked:
            self.look *= 2
        missing = left(bounds, tolerance)
        usual = np.fmax(missing, 0 if self.made else self.usual - number)  # the first iterations go faster than others
        due = bool((looked and SAVED * usual > self.build) or (old and MOST_SAVED * missing > 0.5 * self.build))
        if due:
            self.made, self.least = number, 2.0 * self.least
        elif old:
            self.least += FIRST
        return due


def _step(trials: Trials, sight: Sight, at: Trial, d: Floats, slope: float, t: float) -> tuple[Trial, float] | None:
    """The next point along `d (K, D)`, in which the objective has that `slope`, beginning with the step t, and its
    step; None if there is none that is better.
    """
    low, high, best = (0.0, at.objective, slope), None, None
    allowed = at.objective + sight.noise * abs(at.objective)
    for _ in range(sight.tries):
        trial = sight.at(at.W + t * d)
        own = float(np.vdot(trial.gradient, d))
        falls = trial.objective <= allowed + ENOUGH * t * slope
        if (falls and abs(own) <= -FLAT * slope) or sight.met(trial):
            return trial, t
        best = (trial, t) if falls and (best is None or trial.objective < best[0].objective) else best
        trials.evaluations += 1
        end = (t, trial.objective, own)
        if not falls or own > 0.0:
            high = end
            t = _between(low, high)
        elif high is None:
            low, t = end, _beyond(low, end)
        else:
            low = end
            t = _between(low, high)
    if best is None or not sight.exact:
        return None
    return sight.at(best[0].W), best[1]  # the model's curvature is that of the point evaluated last


def _beyond(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Where the slope is 0 on the straight line through those of both ends, beyond the second and not too far."""
    (a, _, da), (t, _, db) = low, high
    found = a + da * (t - a) / (da - db) if db > da else np.inf
    return float(min(max(found, 1.5 * t), 30.0 * t))


def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """The minimum of the cubic through both ends, well inside."""
    width = high[0] - low[0]
    found = _cubic(low, high)
    return low[0] + min(max(found - low[0], 0.1 * width), 0.9 * width) if isfinite(found) else low[0] + 0.1 * width


def _cubic(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Where the cubic with these values and slopes, as (step, value, slope), is least; NaN if nowhere."""
    (a, fa, da), (b, fb, db) = low, high
    z = 3.0 * (fa - fb) / (b - a) + da + db
    square = z * z - da * db
    if not 0.0 <= square < np.inf:
        return np.nan
    w = sqrt(square)
    under = db - da + 2.0 * w
    return b - (b - a) * (db + w - z) / under if under else np.nan
