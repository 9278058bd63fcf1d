"""`Point`: A models at weights, with all that the solver measures there. `Known`: what a path needs no pass to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.lines import Line
from gpureg.solvers.lbfgs.conditioning import Conditioning
from gpureg.solvers.lbfgs.hessian import Whitened
from gpureg.solvers.lbfgs.objective import Objective, Value
from gpureg.solvers.lbfgs.pairs import Heritage
from gpureg.types import Array, Floats


@dataclass(frozen=True)
class Known:
    """What a model's last optimum says about the next λ: there, at `W (A, K, D)`, the loss `(A,)`, its gradient
    `(A, K, D)` and the `hits (A,)` are as measured, since λ enters only the penalty; and the pairs that led there,
    `pairs`, one each or None. `lines`: the logits where the next optima are expected, if those of the last are known.
    """

    W: Floats
    loss: Floats
    gradient: Floats
    hits: Floats
    pairs: Sequence[Heritage | None]
    lines: tuple[Line, ...] | None = None


@dataclass(frozen=True)
class Point:
    """On the device weights `W (A, K, D)`, variables `v (A, K, D)`, the gradients `g` in the variables and `gradient`
    in the weights, both `(A, K, D)`; on the host `numbers (5, A)`: loss, penalty, the squared slopes of
    `Conditioning.slope`, and the hits.
    """

    W: Array
    v: Array
    g: Array
    gradient: Array
    numbers: Floats

    @classmethod
    def of(cls, objective: Objective, conditioning: Conditioning | Whitened, W: Array, v: Array, value: Value) -> Point:
        """The point at which a value was found."""
        kernels = objective.kernels
        g, slope, bias = conditioning.slope(value.gradient)
        parts = [value.loss, value.penalty, slope, bias, value.hits]
        numbers = kernels.to_host(kernels.backend.xp.stack(parts, axis=0))  # sync
        return cls(W, v, g, value.gradient, numbers)

    @classmethod
    def both(
        cls,
        objective: Objective,
        conditioning: Conditioning | Whitened,
        weights: tuple[Array, Array],
        values: tuple[Value, Value],
    ) -> tuple[Point, Point]:
        """The models' two points at these weights, each with its value: half of the products, which are made for
        both.
        """
        xp, A = objective.kernels.backend.xp, weights[0].shape[0]
        twice = conditioning.take(np.tile(np.arange(A), 2))
        W = xp.concat(list(weights), axis=0)
        names = ("loss", "penalty", "gradient", "hits")
        value = Value(*(xp.concat([getattr(one, name) for one in values], axis=0) for name in names))
        found = cls.of(objective, twice, W, twice.variables(W), value)
        return found._of(slice(0, A)), found._of(slice(A, 2 * A))

    def _of(self, models: slice) -> Point:
        W, v, g, gradient = (vector[models, :, :] for vector in (self.W, self.v, self.g, self.gradient))
        return Point(W, v, g, gradient, self.numbers[:, models])

    @property
    def objective(self) -> Floats:
        """`(A,)`, in nats."""
        return np.asarray(self.numbers[0] + self.numbers[1])

    def unless_worse(self, objective: Objective, other: Point) -> Point:
        """Each model at this point, or at the other one if its objective is lower there."""
        xp = objective.kernels.backend.xp
        here = (self.objective < other.objective) | ~np.isfinite(other.objective)
        mask = objective.kernels.backend.from_host(here[:, None, None])
        W, v, g, gradient = (
            xp.where(mask, mine, its)
            for mine, its in (
                (self.W, other.W),
                (self.v, other.v),
                (self.g, other.g),
                (self.gradient, other.gradient),
            )
        )
        return Point(W, v, g, gradient, np.where(here, self.numbers, other.numbers))
