"""The logits that the models of a path keep for those that go on from them; see `gpureg.kernels.lines`.

With the logits of the last two optima those at the secant's point are known without a product, so that a look at it
takes half of a pass. Measured (`bench/optimum.py --part path-48`, 50,000 x 768, 100 classes, 48 C): 7.5 s without, 6.2
s with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpureg.kernels.lines import Line
from gpureg.rows.logits import LogitPasses
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.packing import Unpacker, counted
from gpureg.solvers.problem import Problem
from gpureg.types import HostArrays

ARRAYS = 5  # of a member's logits, at the same time: of its last two optima, of the line through others, of a pass


def logit_bytes(n: int, D: int, K: int, members: int) -> int:
    """What the logits of a path's members take, at most; 0 where they are not kept: they would take more memory than
    the samples.
    """
    return 8 * ARRAYS * members * n * K if ARRAYS * members * K <= D else 0


def logit_passes(problem: Problem, K: int) -> LogitPasses | None:
    """The passes that keep their logits, where the models of a problem do so."""
    kept = logit_bytes(problem.n, problem.D, K, len(np.unique(problem.table.column)))
    return problem.train.by_logits() if kept else None


def pack_logits(lines: Mapping[int, Line]) -> tuple[HostArrays, list[Any]]:
    """The arrays, each once, and of every model its number, those of its two arrays, and the place between them."""
    arrays = list({id(array): array for line in lines.values() for array in (line.base, line.tip)}.values())
    number = {id(array): place for place, array in enumerate(arrays)}
    meta = [[model, number[id(line.base)], number[id(line.tip)], line.t] for model, line in lines.items()]
    return {f"logits.{place}": array for place, array in enumerate(arrays)}, meta


def unpack_logits(objective: Objective, read: Unpacker, meta: Sequence[Sequence[Any]]) -> dict[int, Line]:
    """The inverse, for the models of an objective. Raises ValueError or KeyError for what no such logits are."""
    kernels, lines = objective.kernels, {}
    shape, dtype = (kernels.n_columns, objective.rows.n), str(kernels.backend.dtype)
    most = 2 * len(meta) - 1
    names = sorted({counted("logits", place, most) for _, *places, _ in meta for place in places})
    arrays = {place: read.floats(f"logits.{place}", *shape, dtype=dtype) for place in names}
    for model, base, tip, t in meta:
        if type(t) is not float or not math.isfinite(t):
            raise ValueError(f"logits at {t!r}, expected a number")
        lines[counted("logits", model, len(objective.table) - 1)] = Line(arrays[base], arrays[tip], t)
    return lines
