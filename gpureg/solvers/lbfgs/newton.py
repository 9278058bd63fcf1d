"""Newton's method for a single tiny model: few iterations, and a Hessian that costs no more than some passes.

The step is damped by halving until the objective falls enough (Armijo). After the first point that is near enough comes
one more step: there the method squares the error, so that the answer depends on no detail of the way. Source: Boyd and
Vandenberghe, Convex Optimization, 2004, algorithm 9.5.
"""

from __future__ import annotations

import numpy as np

from gpureg.solvers.lbfgs.hessian import DEAD, RIDGES
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.types import Floats

ENOUGH = 1e-4  # of the decrease that the slope promises
LEAST, MOST = 0.1, 0.5  # of a step that was too long, the next
MOST_TRIES = 30
NOISE = 4 * np.finfo(float).eps  # of an objective


def newton(trials: Trials, W: Floats, room: int) -> None:
    """Go from the point `W (K, D)` to the optimum, or as far as the method can, in at most `room` iterations."""
    goal, at = trials.goal, trials.goal.at(W)
    trials.keep(at, met=goal.met(at))
    for _ in range(room):
        d = direction(goal, at)
        if d is None:
            return
        slope = float(np.vdot(at.gradient, d))
        near = goal.met(at, -slope)
        found = _step(trials, at, d, slope)
        trials.met = near
        if found is None:
            return
        if not (near and found.bound > at.bound):
            trials.keep(found, met=near or goal.met(found))
        trials.accept()
        if near:
            return
        at = found


def polished(goal: Goal, W: Floats) -> Trial | None:
    """The point after one full step from `W (K, D)`; None if there is none."""
    at = goal.at(W)
    d = direction(goal, at)
    last = None if d is None else goal.at(W + d)
    return last if last is not None and np.isfinite(last.objective) else None


def _step(trials: Trials, at: Trial, d: Floats, slope: float) -> Trial | None:
    """The next point along `d (K, D)`, in which the objective has that `slope`; None if there is no better one."""
    alpha = 1.0
    for _ in range(MOST_TRIES if slope < 0.0 else 0):
        trial = trials.goal.at(at.W + alpha * d)
        excess = trial.objective - at.objective - ENOUGH * alpha * slope
        if excess <= NOISE * abs(at.objective):
            return trial
        trials.evaluations += 1
        least = -slope * alpha**2 / (2.0 * (trial.objective - at.objective - alpha * slope))  # of a parabola
        alpha = float(np.clip(least, LEAST * alpha, MOST * alpha)) if np.isfinite(least) else LEAST * alpha
    return None


def direction(goal: Goal, at: Trial) -> Floats | None:
    """`-H^-1 ∇ (K, D)` at the point evaluated last; None if H has no factor.

    H is scaled to a unit diagonal first. A weight that no sample and no penalty moves stays. Where a shift of all
    classes changes nothing, in weights without a penalty, H is given a curvature for their sum: the gradient has no
    part in it, and so the step has none.
    """
    from scipy.linalg.lapack import dposv

    K, D = at.W.shape
    H = goal.model.curvature() / goal.n
    decay = np.full((K, D), 2.0 * goal.l2)
    if goal.centre is not None:
        decay[:, -1] = 0.0
    diagonal = H.diagonal() + decay.reshape(-1)
    moved = diagonal > DEAD * diagonal.max()
    root = np.where(moved, 1.0 / np.sqrt(np.where(moved, diagonal, 1.0)), 0.0)
    H *= root
    H *= root[:, None]
    if goal.loss.shift_invariant:
        free = np.flatnonzero((decay[0] == 0.0) & moved.reshape(K, D).all(axis=0))
        z = root.reshape(K, D)[:, free].T
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        H.reshape(K, D, K, D)[:, free, :, free] += z[:, :, None] * z[:, None, :]
    on_it = np.diagonal(H).copy()
    right = root * at.gradient.reshape(-1)
    for ridge in RIDGES:
        np.fill_diagonal(H, np.where(moved, on_it + decay.reshape(-1) * root**2 + ridge, 1.0))
        _, x, failed = dposv(H, right, lower=1)
        if not failed and np.isfinite(x).all():
            return -(root * x).reshape(K, D)
    return None
