"""One model alone on few samples: SciPy's L-BFGS-B, whose iterations cost next to no Python, in conditioned variables.

The variables are `w = R^-1 v` with `R'R = h S + 2 λ I`, S the samples' second moments about their mean and h the loss's
curvature at logits of 0: there the Hessian is the identity where every probability is even. R is a Cholesky factor, an
eighth of what an eigendecomposition costs. Every evaluation makes the bound on the gap to the optimum; the first that
meets the tolerance is the answer. If SciPy's line search gives up before, or the factorisation fails, the batched
solver goes on from the best point so far.

Source: Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995 (SciPy's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpureg.events import Event
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.objective import gap_bound
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.types import Floats

MOST_WORK = 1 << 25  # n D K, multiply-adds of a product, above which the batched solver is level
MEMORY = 20  # pairs: they are cheap here


@dataclass
class _Point:
    """Weights `(K, D)`, and what an evaluation there found: objective, the data's loss, and the bound on the gap."""

    W: Floats
    objective: float = np.inf
    loss: float = np.inf
    bound: float = np.inf


class _Enough(Exception):  # noqa: N818 - not an error: how an evaluation ends SciPy's loop
    """The point that was just evaluated is near enough to the optimum."""


class SingleDescent(LbfgsDescent):
    """`LbfgsDescent` of one model, which SciPy's loop brings as far as it can in the first `advance`."""

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol."""
        if state.passes == 0:
            with np.errstate(all="ignore"):
                found = self._borrowed(state)
            if found is not None:
                state.waiting = {0: found.W}
                yield from self._arrive(state, found)
                if self.done(state):
                    return
        yield from super().advance(state)

    def _arrive(self, state: LbfgsState, found: _Point) -> Iterator[Event]:
        """Stop if the point is good enough, or the iterations are used up."""
        if not np.isfinite(found.objective):
            state.waiting = {0: np.zeros_like(found.W)}
            return
        if found.bound <= self._tolerance(found.objective) or state.iterations[0] >= self.config.max_iter:
            met = found.bound <= self._tolerance(found.objective)
            yield self.stop(state, 0, found.W, "converged" if met else "max_epochs")
            state.waiting = {}

    def _borrowed(self, state: LbfgsState) -> _Point | None:
        """The best point of SciPy's loop; None if there is no factor to condition by."""
        from scipy.optimize import minimize

        objective, l2 = self.objective(np.zeros(1, np.int64)), float(self.problem.table.l2[0])
        made = self._factor(l2)
        if made is None:
            return None
        transform = _Transform(*made, h=self.bias_curvature, free=not self.config.penalize_bias)
        best = now = _Point(state.waiting[0])

        def evaluate(v: Floats) -> tuple[float, Floats]:
            nonlocal best, now
            W = transform.weights(v.reshape(self.K, -1))
            value = objective.value(self.kernels.backend.from_host(W[None]))
            state.passes += 1
            gradient = self.kernels.to_host(value.gradient)[0]  # sync
            loss = float(value.loss[0])
            g, slope, bias = transform.slope(gradient)
            bound = self._bound(l2, slope, bias, float((g * g).sum()))
            now = _Point(W, loss + float(value.penalty[0]), loss, bound)
            if not now.objective > best.objective:
                best = now
            if bound <= self._tolerance(now.objective):
                best = now
                raise _Enough
            return now.objective, g.reshape(-1)

        def accepted(_: Floats) -> None:
            state.note_loss(0, last.loss)
            last.loss = now.loss
            state.iterations[0] += 1

        last = _Point(state.waiting[0])
        start = transform.variables(state.waiting[0]).reshape(-1)
        room = {"maxcor": MEMORY, "maxiter": self.config.max_iter - int(state.iterations[0]), "maxfun": 10**9}
        try:
            minimize(evaluate, start, jac=True, method="L-BFGS-B", callback=accepted, options=room | {"ftol": 0.0, "gtol": 0.0})
        except _Enough:
            accepted(start)
        return best
