"""`LbfgsState`: where a batch of full-batch fits stands, and its history when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpureg.history import History
from gpureg.objective import Objective
from gpureg.results import StopReason
from gpureg.solvers.conditioning import Conditioning
from gpureg.solvers.lbfgs_directions import Directions
from gpureg.solvers.lbfgs_search import LineSearch
from gpureg.solvers.problem import Measured
from gpureg.types import Array, Floats, Ints, ModelTable


@dataclass
class LbfgsState:
    """The models still running, `active (A,)`, at the points they have accepted.

    On the device `v, g, d (A, P)`: variables, gradient, direction. On the host, each `(A,)`: `objective`, `loss`
    (the data's part), `slope` (squared norm of the gradient in the penalised weights), `bias` (in a free bias),
    `least` the smallest of their sum so far and `idle` the iterations since. `(L,)`: `iterations`, `reasons`,
    `finals` the weights `(K, D)` of those that have stopped.
    """

    active: Ints
    objective_of: Objective
    conditioning: Conditioning
    directions: Directions
    search: LineSearch
    v: Array
    g: Array
    d: Array
    objective: Floats
    loss: Floats
    slope: Floats
    bias: Floats
    least: Floats
    idle: Ints
    iterations: Ints
    reasons: list[StopReason | None]
    passes: int = 0
    finals: dict[int, Floats] = field(default_factory=dict)
    losses: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)

    def note_losses(self, places: npt.NDArray[np.bool_], loss: Floats) -> None:
        """Record the losses `(A,)` that the iterations now beginning start from."""
        models = self.active[places]
        self.losses.append((models, self.iterations[models], loss[places]))

    def take(self, keep: Ints) -> None:
        """Take all but the models at the places `keep` out of the batch."""
        kernels = self.objective_of.kernels
        xp, places = kernels.backend.xp, kernels.backend.from_host(np.asarray(keep, np.int64))
        self.active = self.active[keep]
        self.objective_of = self.objective_of.take(keep)
        self.conditioning = self.conditioning.take(places)
        self.directions.take(keep, places, self.objective_of)
        self.search.take(keep)
        for name in ("v", "g", "d"):
            setattr(self, name, xp.take(getattr(self, name), places, axis=0))
        for name in ("objective", "loss", "slope", "bias", "least", "idle"):
            setattr(self, name, getattr(self, name)[keep])


def build_history(state: LbfgsState, table: ModelTable, measured: Measured) -> History:
    """Losses per iteration, NaN from each model's stop on, and one evaluation: the final one."""
    steps = state.iterations
    step_loss = np.full((int(steps.max(initial=0)), len(table)), np.nan)
    for models, rows, values in state.losses:
        kept = rows < steps[models]  # an iteration that was begun and not ended is no update
        step_loss[rows[kept], models[kept]] = values[kept]
    return History(
        step_loss=step_loss,
        eval_step=np.array([max(int(steps.max(initial=0)) - 1, 0)]),
        val_loss=measured.val_loss[None, :],
        val_accuracy=measured.val_accuracy[None, :],
        train_accuracy=measured.train_accuracy[None, :],
        l2=table.l2,
        lr=table.lr,
        fold=table.fold,
        seed=table.seed,
    )
