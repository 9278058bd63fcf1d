"""`Lbfgs`: batched L-BFGS to the optimum, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import named
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.rows.dual import balanced_bytes
from gpureg.rows.moments import moments_bytes
from gpureg.solvers.lbfgs.conditioning import MOST_ROTATED
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.directions import Hessians, memory_of
from gpureg.solvers.lbfgs.hessian import hessian_bytes
from gpureg.solvers.lbfgs.logits import logit_bytes
from gpureg.solvers.lbfgs.single import SingleDescent, is_single, is_worth_it_alone, near_bytes
from gpureg.solvers.lbfgs.watched import WatchedDescent, WatchedSingle
from gpureg.solvers.lbfgs.watching import Watch
from gpureg.solvers.path.descent import PathDescent
from gpureg.solvers.path.members import MOST_IN_BLOCK, along_a_path
from gpureg.solvers.problem import Outcome, Problem
from gpureg.solvers.remarks import diverged, worse_than_a_constant
from gpureg.types import Floats, Ints, ModelTable


@dataclass(frozen=True)
class Lbfgs:
    """Batched L-BFGS; see `gpureg.solvers.protocol.Solver`, and `LbfgsDescent` for the fields.

    `alone`: a single model on few samples has a loop of its own (`single`); `along`: several λ for the same rows are
    solved one after the other, as a path. `watch` sees a single model.
    """

    config: FitConfig
    target: Floats | None = None
    resolution: float | None = None
    hessians: Hessians = field(default_factory=Hessians)
    alone: bool = True
    along: bool = True
    measures: bool = True
    watch: Watch | None = None

    name = "lbfgs"
    minibatches = False
    resumable = True
    light = False
    factorises = True
    wants_validation = False
    queued = 1
    refits_along = True

    def members(self, table: ModelTable) -> Ints:
        """See the protocol: the models of a column of the row-weight table, along a path; else each its own."""
        if not self.along:
            return np.arange(len(table))
        return np.unique(table.column, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def bytes_per_model(self, n: int, D: int, K: int) -> int:
        """Pairs (those of the last λ too) and vectors, the Hessian if it may come to that, and the logits of a tile."""
        size = D * K
        whitening = 8 * size**2 if self.hessians.handover(n, size) is not None else 0
        return 8 * size * (4 * memory_of(n, size) + 16) + whitening + 2 * 8 * K * (1024 if n > 3 * 1024 else 512)

    def shared_bytes(self, n: int, D: int, K: int, members: int, measured: int, *, dense: bool) -> int:
        """The second moments of the samples, then Hessians if it may come to that, and at last the dual points of the
        certificates: none of them while another is made. In addition to them, logits along a path, or the samples of
        a single model in float32.
        """
        made = self.hessians.newton_first(n, D * K) or self.hessians.handover(n, D * K) is not None
        parts = [moments_bytes(n, min(D, MOST_ROTATED))]
        parts += [hessian_bytes(n, D, K, MOST_IN_BLOCK * members)] if made else []
        parts += [] if self.config.penalizes_bias else [balanced_bytes(n, D, K, measured)]
        alone = dense and self.alone and members == 1 and is_worth_it_alone(n, D, K, dtype := self.config.dtype)
        return max(parts) + logit_bytes(n, D, K, members) + (near_bytes(n, D, K, dtype) if alone else 0)

    def notices(self, kernels: Kernels, n: int, D: int) -> list[str]:
        """None."""
        return []

    def remarks(self, table: ModelTable, outcome: Outcome, history: History, constant: float) -> list[str]:
        """See the protocol."""
        scale = f"Features this large overflow: use {named('scale', 'standard')}."
        more = f"Give it more iterations ({named('max_iter')})."

        def help_worst(models: Ints) -> str:
            return more if outcome.reasons[models[0]] == "max_iter" else "The penalty keeps it there: use a smaller λ."

        found = diverged(table, outcome, lambda models: scale)
        return found + worse_than_a_constant(table, outcome, constant, help_worst)

    def in_double(self) -> Lbfgs | None:
        """See the protocol. None in float64, and for models that stop at a target."""
        if self.config.dtype != "float32" or self.target is not None:
            return None
        return replace(self, config=replace(self.config, dtype="float64", path_patience=0)).finishing()

    def finishing(self) -> Lbfgs:
        """The same for models that begin near their optimum, where float32 has left them: to the tolerance, or to the
        resolution of float32 in the objective.

        They are one batch: neither a path nor a loop of its own has anything to offer where a start is that near, and
        what float32 leaves is badly conditioned. Measured: 5 λ of MNIST, 20,000 samples, left at bounds of 2e-8 to
        2e-6, take 192 products, and 637 along a path; a single model of 80,000 x 60, features of six decades, 4
        classes, λ = 1e-8, takes 15 iterations, and 139 in its own loop.
        """
        resolution = float(np.finfo(np.float32).eps) if self.resolution is None else self.resolution
        return replace(self, resolution=resolution, alone=False, along=False)

    def on(self, problem: Problem, kernels: Kernels) -> LbfgsDescent | PathDescent:
        """See the protocol: along a path if there is more than one λ for the same rows."""
        single = self.alone and is_single(problem, kernels)
        kinds = (SingleDescent, WatchedSingle) if single else (LbfgsDescent, WatchedDescent)
        watched = self.watch is not None and len(problem.table) == 1
        descent = (PathDescent if self.along and along_a_path(problem.table) else kinds[watched])(
            problem,
            kernels,
            self.config,
            target=self.target,
            resolution=self.resolution,
            hessians=self.hessians,
            measures=self.measures,
        )
        if isinstance(descent, WatchedDescent):
            descent.watch = self.watch
        return descent
