"""The shape glossary, and the values that the rooms hand one another.

    L models      everything that is trained at once: λ × learning rate × fold × seed
    K classes     columns of a model: the number of classes for softmax, 1 for logistic
    D features    the bias last: D = F + 1 with F features in the data
    N samples     B batch (samples of one minibatch), b batches of an epoch
    C columns     L * K, the width of the one matrix product

Weights are `(D, L*K)` on the device, model-major in their columns: `W.reshape(D, L, K)[:, l, k]`. In a logistic model
class index 0 is the positive class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = Any  # an array of whatever namespace the backend holds: NumPy, CuPy, PyTorch, array-api-strict
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
HostArrays = dict[str, npt.NDArray[np.generic]]  # named arrays of NumPy's, as files hold them
StopReason = Literal[
    "patience",
    "max_epochs",
    "converged",
    "max_iter",
    "precision",  # the float type can't do better, nor could the model be finished in float64
    "cv_steps",  # a refit without a validation set: the median number of steps of its λ's fold models
    "refit_steps",  # a refit on training and validation rows
    "diverged",
    "interrupted",
]


@dataclass(frozen=True)
class ModelTable:
    """What distinguishes the L models of a batch; every field has the shape `(L,)`. `lr` is 0 if a solver has none.

    `column` is the column of the row-weight table `(N, F)` that a model is trained with (a fold's mask, or 0 for all
    rows), `stream` the shuffle whose minibatches it sees. `fold` and `seed` are -1 where a model belongs to none.
    """

    l2: Floats
    lr: Floats
    fold: Ints
    seed: Ints
    column: Ints
    stream: Ints

    @classmethod
    def plain(cls, l2: Floats, lr: Floats) -> ModelTable:
        """A table without folds and seeds: every model sees all rows in the same order."""
        zero = np.zeros(len(l2), np.int64)
        return cls(np.asarray(l2, float), np.asarray(lr, float), zero - 1, zero - 1, zero, zero)

    def take(self, models: Ints) -> ModelTable:
        """The table's rows `models`."""
        return ModelTable(*(getattr(self, name)[models] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.l2)


@dataclass(frozen=True)
class StepPlan:
    """A run of minibatch steps for A models that share their batches.

    `order (steps, B)`: sample indices of each minibatch, on the host. `lr, l2 (A,)` on the host. `column (A,)` into the
    row-weight table, or None where every sample weighs 1. `snapshot_after`: the steps of this run (counted from 0)
    after whose update the weights are copied. `penalize_bias`: whether the last row of W carries the
    penalty. `beside_evaluation`: other threads are evaluating meanwhile, so the steps have one thread.
    """

    order: Ints
    lr: Floats
    l2: Floats
    column: Ints | None
    snapshot_after: tuple[int, ...]
    penalize_bias: bool = True
    beside_evaluation: bool = False


@dataclass(frozen=True)
class RunShape:
    """The sizes of a run that its memory depends on.

    `rows`: training samples; `evaluated`: the most samples of one evaluation; `features`: D; `models`: those trained at
    once; `queued`: the maximum number of evaluations made in one; `weighted`: whether samples have weights;
    `full_batch`: every step sees all samples; `factorised`: the order of the largest matrix that is factorised, or 0.
    """

    rows: int
    evaluated: int
    features: int
    models: int
    queued: int
    weighted: bool
    full_batch: bool
    factorised: int = 0
