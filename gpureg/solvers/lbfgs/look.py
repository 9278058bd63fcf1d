"""`Look`: what a model of a path may be done with, one pass at its start and no vector in other variables.

Where λ follow one another closely, or change little, the secant's point is as near the optimum as was asked for: for
about half of 48 C, of embeddings with 100 classes and at a tolerance of 0.04. Then its variables, its pairs and its
direction are not needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.kernels.lines import Line
from gpureg.rows.logits import LogitPasses
from gpureg.solvers.lbfgs.conditioning import Conditioning
from gpureg.solvers.lbfgs.objective import Objective, Value
from gpureg.types import Floats, Ints


@dataclass(frozen=True)
class Look:
    """Models `active (A,)` of `objective_of` at the weights `W (A, K, D)`, on the host, and the `value` there. Each
    `(A,)`, as a batch has them: `objective`, `loss`, `slope`, `bias` and `hits`.
    """

    active: Ints
    objective_of: Objective
    W: Floats
    value: Value
    objective: Floats
    loss: Floats
    slope: Floats
    bias: Floats
    hits: Floats

    @classmethod
    def at(
        cls,
        objective: Objective,
        active: Ints,
        conditioning: Conditioning,
        W: Floats,
        passes: LogitPasses | None,
        lines: tuple[Line, ...] | None,
    ) -> Look:
        """One pass, or with the models' `lines` half of one; see `Objective.value`."""
        kernels = objective.kernels
        value = objective.value(kernels.backend.from_host(np.ascontiguousarray(W, np.float64)), passes, lines)
        slope, bias = conditioning.norms(value.gradient)
        numbers = kernels.backend.xp.stack([value.loss, value.penalty, slope, bias, value.hits], axis=0)
        loss, penalty, *others = kernels.to_host(numbers)  # sync
        return cls(active, objective, W, value, np.asarray(loss + penalty), loss, *others)

    def weights(self, places: Ints, *, tried: bool = True) -> Floats:
        """Weights `(B, K, D)` of the models at `places`; see `Batch.weights`."""
        return self.W[places]

    def gradients(self, places: Ints) -> Floats:
        """Gradients in the weights `(B, K, D)` of the models at `places`, on the host."""
        return self.objective_of.kernels.to_host(self.value.gradient)[places]  # sync

    @property
    def lines(self) -> tuple[Line, ...] | None:
        """The models' logits, if they were kept."""
        return self.value.lines
