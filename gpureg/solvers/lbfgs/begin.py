"""Where a model begins: at weights of 0, and a free bias at the class shares if that is worth it.

The optimum of a model with a large penalty is the best constant predictor, whose biases are known: from biases of 0 its
weights, whose curvature is the penalty's, leave the biases no digits (λ = 1e30 ended 0.5 nats from its optimum). Where
classes are of uneven sizes the same start saves passes (3% of positive rows: 38 of a path of 12 λ where there were 45).
Where neither holds it changes little, and models begin at 0.
"""

from __future__ import annotations

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.losses import LOSSES, Loss
from gpureg.solvers.problem import Problem
from gpureg.types import Floats, Ints

LARGE = 1.0  # λ
UNEVEN = 0.05  # nats by which the best constant predictor is better than equal probabilities


def beginnings(problem: Problem, kernels: Kernels, models: Ints, *, free: bool) -> Floats:
    """Weights `(A, K, D)` of `models (A,)`: the problem's own start if it has one."""
    if problem.start is not None:
        return np.ascontiguousarray(np.swapaxes(problem.start.weights[models], 1, 2))
    W = np.zeros((len(models), kernels.n_columns, problem.D))
    shares = _shares(problem, kernels)
    if free and shares is not None:
        for place, own in enumerate(shares[models]):
            biases = first_biases(kernels.loss, own, float(problem.table.l2[models[place]]))
            W[place, :, -1] = 0.0 if biases is None else biases
    return W


def first_biases(loss: Loss, shares: Floats, l2: float) -> Floats | None:
    """The biases `(K,)` of the best constant predictor for class shares `(classes,)`; None if they are not worth it."""
    if not (shares.min() > 0.0 and (l2 > LARGE or _uneven(loss, shares))):
        return None
    logits = np.log(shares)
    return np.asarray(logits[:1] - logits[1:] if loss.binary else logits - logits.mean())


def rarity(problem: Problem, kernels: Kernels) -> Floats:
    """How many times as flat as the conditioning takes it to be the loss is in the rarest class's bias, `(L,)`: with p
    the class's share, its curvature there is `p (1 - p)`. At least 1, and 1 if the classes are of even sizes.
    """
    shares, found = _shares(problem, kernels), np.ones(len(problem.table))
    curvature = kernels.loss.curvature(kernels.n_columns)
    for model, own in enumerate(() if shares is None else shares):
        if own.min() > 0.0 and _uneven(kernels.loss, own):
            least = max(float((own * (1.0 - own)).min()), float(np.finfo(float).eps))  # a share may round to 1
            found[model] = max(1.0, curvature / least)
    return found


def _shares(problem: Problem, kernels: Kernels) -> Floats | None:
    """The class shares `(L, classes)` of each model's rows; None if they are not known, or say nothing of this loss."""
    if problem.shares is None or kernels.loss not in LOSSES.values():
        return None
    columns = problem.table.column if problem.weighted else np.zeros(len(problem.table), np.int64)
    return np.asarray(problem.shares[columns])


def _uneven(loss: Loss, shares: Floats) -> bool:
    even = np.full(len(shares), 1.0 / len(shares))
    return loss.constant(even.tolist()) - loss.constant(shares.tolist()) > UNEVEN
