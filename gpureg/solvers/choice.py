"""The choice of the solver."""

from __future__ import annotations

from gpureg.config import FitConfig
from gpureg.solvers.protocol import Solver


def choose_solver(config: FitConfig) -> Solver:
    """The solver that the options name."""
    if config.solver == "lbfgs":
        from gpureg.solvers.lbfgs.solver import Lbfgs

        return Lbfgs(config)
    from gpureg.solvers.sgd.solver import Sgd

    return Sgd(config)
