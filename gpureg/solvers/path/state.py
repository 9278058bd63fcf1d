"""The state of a fit along a path."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpureg.solvers.lbfgs.state import LbfgsState


@dataclass
class PathState:
    """`run`: the models of the point that is being solved, with the optima of those before it, their gradients, pairs
    and the variables; `point`: the number of points that have begun. `scores`: the mean score of held-out rows at every
    finished point, the lowest the best, if they are needed; `ended`: whether they ended the path. `spent`: the passes
    of all members since the variables were built.
    """

    run: LbfgsState
    point: int = 0
    scores: list[float] = field(default_factory=list)
    ended: bool = False
    spent: int = 0
