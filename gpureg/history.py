"""`History`: what was measured while a batch of L models was trained.

Axes: S steps (minibatch updates), E evaluations (or iterations of a full-batch solver), L models. A row after a model's
stop is NaN. Losses are mean cross-entropy in nats, without the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """The course of a fit.

    `step_loss (S, L)`: the loss of each step on its minibatch, before the update. `eval_step (E,)`: the step after
    whose update the evaluation was made. `val_loss`, `val_accuracy`, `train_accuracy`, each `(E, L)`: over the full
    sets, or for a fold's model over its held-out rows (its training accuracy is NaN). `l2, lr (L,)`: the models' λ and
    learning rates; `fold, seed (L,)`: -1 if a model belongs to no fold or seed.

    With a full-batch solver row e is a model after e iterations of its own: `eval_step` is 0 to E - 1, `objective
    (E, L)` (nats, with the penalty) and `gap_bound (E, L)` (the bound on its gap to the optimum, NaN without a penalty)
    are in every row, losses and accuracies only in a model's last row, and `step_loss` is (0, L). Each row of
    `gap_bound` but the last is the solver's own estimate; the last is the certificate's. With minibatches both are
    empty.

    `passes (L,)`: the passes over the data that a model took part in, line searches included; empty with minibatches.

    `score (L,)`: the score that compares the models, at their final weights, on the same rows as `val_loss`; NaN if a
    model has none. Empty in runs that did not keep it.
    """

    step_loss: Floats
    eval_step: Ints
    val_loss: Floats
    val_accuracy: Floats
    train_accuracy: Floats
    l2: Floats
    lr: Floats
    fold: Ints
    seed: Ints
    objective: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    gap_bound: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    passes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    score: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def full_batch(self) -> bool:
        """Whether its rows are iterations over all samples, with their objective."""
        return self.objective.size > 0
