"""`History`: what was measured while a batch of L models was trained.

Axes: S steps (minibatch updates), E evaluations, L models. A row after a model's stop is NaN. Losses are mean
cross-entropy in nats, without the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    learning rates; `fold, seed (L,)`: -1 where a model belongs to no fold or seed.
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
