"""Problems with fewer rows than features, solved in the span of the rows (`rows.span`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpureg.rows.span import Basis
from gpureg.solvers.problem import Problem

MOST_ROWS = 2048  # a factorisation of their Gram matrix takes some tenths of a second


def in_span(problem: Problem, *, free: bool) -> tuple[Problem, Basis | None]:
    """The problem in the span of its rows, with the basis; or as it is, and None.

    Without a penalty the optimum need not lie in the span, so a problem with a model of λ = 0 stays as it is. `free`:
    the bias carries no penalty.
    """
    n, F = problem.n, problem.D - free
    if not (n < F and n <= MOST_ROWS and (problem.table.l2 > 0).all()):
        return problem, None
    with np.errstate(all="ignore"):  # numbers that overflow end as diverged
        rows, basis = problem.train.span(free=free)
    start = problem.start
    if start is not None:
        start = replace(start, weights=basis.inside(start.weights))
    return replace(problem, train=rows, D=rows.features, start=start), basis
