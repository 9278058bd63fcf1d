"""Whether models without a penalty have an optimum: those whose classes a direction separates, in whole or in part,
have none.

Along such a direction no row's loss rises and some rows' losses keep falling (a dummy that is 1 only where y = 1 is
enough). There the curvature at the weights found is tiny compared with that at 0, since the rows that move are certain
by then; so only directions of little curvature are tried, by going far along them: that raises the loss unless they
separate the classes. Source: Albert and Anderson, On the existence of maximum likelihood estimates in logistic
regression models, 1984.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.conditioning import centred
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.problem import Problem
from gpureg.types import Floats, Ints

FLAT = 1e-3  # of the curvature at 0, in a direction that may separate
DEAD = 1e-9  # of the largest curvature at 0: what no row moves
FAR = 50.0  # steps of unit curvature at 0: logits change by about a hundred, if at all
RISE = 1e-4  # nats: less is rounding, of float32 too
MOST_TRIED = 8  # directions, both ways


def separated(problem: Problem, kernels: Kernels, weights: Floats, *, free: bool) -> npt.NDArray[np.bool_]:
    """Mask `(L,)` of the models without a penalty that have no optimum, at their weights `(L, K, D)`; `free`: the last
    weight is a bias.

    Only models whose Hessian is affordable are looked at.
    """
    L, K, D = weights.shape
    found = np.zeros(L, bool)
    models = np.flatnonzero((problem.table.l2 == 0) & np.isfinite(weights).all(axis=(1, 2)))
    if len(models) and Hessians().handover(problem.n, K * D) is not None:
        with kernels.steady(), np.errstate(all="ignore"):
            for model in models.tolist():
                found[model] = _separates(problem, kernels, weights[model], model, free=free)
    return found


def _separates(problem: Problem, kernels: Kernels, W: Floats, model: int, *, free: bool) -> bool:
    from_host = kernels.backend.from_host
    plain, centre = centred(kernels, problem.train, free=free)
    one = _objective(problem, kernels, np.array([model]))
    at = plain.variables(from_host(W[None]))
    here, even = (_hessian(one, v, centre) for v in (plain.weights(at), from_host(np.zeros((1, *W.shape)))))
    directions = _flat_directions(here, even, kernels.to_host(at).reshape(-1))
    if directions is None:
        return False
    M = len(directions)
    far = kernels.to_host(at) + FAR * directions.reshape(M, *W.shape)
    several = _objective(problem, kernels, np.full(M, model))
    there = kernels.to_host(several.value(plain.weights(from_host(far))).loss)
    start = kernels.to_host(one.value(from_host(W[None])).loss)
    return bool((there <= start + RISE).any())


def _flat_directions(here: Floats, even: Floats, at: Floats) -> Floats | None:
    """Directions `(M, P)` of unit curvature `even (P, P)` and little curvature `here (P, P)`; the first of them is the
    part of `at (P,)` that lies in their space. None if there are none.
    """
    diagonal = np.diag(even)
    root = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(even * root[:, None] * root[None, :])
    kept = values > DEAD * max(values[-1], np.finfo(float).tiny)
    basis = root[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    share, turned = np.linalg.eigh(basis.T @ here @ basis)
    flat = turned[:, share < FLAT]
    if not flat.shape[1]:
        return None
    scaled = np.where(root > 0.0, at / np.where(root > 0.0, root, 1.0), 0.0)
    coordinates = np.sqrt(values[kept]) * (vectors[:, kept].T @ scaled)
    own = flat @ (flat.T @ coordinates)
    size = np.linalg.norm(own)
    tried = [own / size] if size > 0.0 else []
    tried += [sign * column for column in flat.T[:MOST_TRIED] for sign in (1.0, -1.0)]
    return np.stack(tried) @ basis.T


def _hessian(objective: Objective, W: Floats, centre: Floats | None) -> Floats:
    column = objective.table.column if objective.weighted else None
    H = objective.rows.curvature(objective.columns(W), column, centre) / objective.rows.n
    return objective.kernels.to_host(H)[0]  # sync


def _objective(problem: Problem, kernels: Kernels, models: Ints) -> Objective:
    table = problem.table.take(models)
    return Objective(kernels, problem.train, table, problem.D, weighted=problem.weighted, penalize_bias=False)
