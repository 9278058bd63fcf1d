"""The arithmetic of one model, for a solver whose passes are so short that what surrounds the products decides."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from gpureg.types import Array, Floats


class OneModel(Protocol):
    """The data's part of one model's objective, on the host in float64, prepared for many evaluations.

    With a centre `m (D - 1,)` the bias is the last weight, and the others belong to the features less m: the logits are
    `w (x - m) + b`, and all sums are about m.
    """

    def value(self, W: Floats) -> tuple[float, Floats]:
        """`Σ_i s_i loss_i` and its gradient `(K, D)` at weights `(K, D)`."""
        ...

    def curvature(self) -> Floats:
        """Its Hessian `(K*D, K*D)` at the weights of the last `value`; row `k*D + d` is class k, feature d."""
        ...

    def squares(self) -> Floats:
        """`Σ_i s_i x_i²` `(D,)`, to five digits: it scales steps."""
        ...

    def nearby(self) -> NearbyModel | None:
        """The same model, in float32 near a point; None if that is not any faster, or not possible. What is asked of
        this model at "the last `value`" is then of the last one of either.
        """
        ...

    def curved(self) -> CurvedModel | None:
        """The same model with the product of its Hessian near a point, as with `nearby`; None where there is none."""
        ...

    def kronecker(self) -> tuple[Floats, Floats] | None:
        """The Hessian of the mean loss at the weights of the last `value` as a Kronecker product A ⊗ S, `(K, K)` and
        `(D, D)` (see `Rows.kronecker`); None where there is none.
        """
        ...


class NearbyModel(Protocol):
    """An `OneModel` near a point V at which it is known in float64: only what changes from there is in float32, so the
    error is a part in some millions of the change.
    """

    def settle(self, W: Floats) -> tuple[float, Floats]:
        """`OneModel.value` in float64; from here, W is the point."""
        ...

    def value(self, W: Floats) -> tuple[float, Floats]:
        """`OneModel.value`, in float32 as to what is not at the point."""
        ...


class CurvedModel(Protocol):
    """An `OneModel` at a point where its Hessian `H = Σ_i s_i M_i ⊗ x_i x_i'` is known, M the curvature of the loss in
    the logits; `bend (K,)` is `Σ_i s_i M_i,kk`.

    Products are in `dtype`; in float32 what is summed from a point that was settled is as good as a `NearbyModel`.
    """

    dtype: np.dtype[Any]
    bend: Floats

    def start(self, W: Floats) -> tuple[float, Floats]:
        """`OneModel.value` at weights of 0, but for biases, in `dtype`; from here, W is the point."""
        ...

    def settle(self, W: Floats) -> tuple[float, Floats]:
        """`OneModel.value` in float64; from here, W is the point, and there is no step."""
        ...

    def product(self, p: Array) -> Array:
        """`H p` `(K, D)` of `p (K, D)`, both in `dtype`."""
        ...

    def extend(self, a: float) -> None:
        """The step is longer by a times the p of the last product."""
        ...

    def trial(self, t: float) -> tuple[float, float]:
        """Cost, and its derivative in t, at the point plus t times the step: no product."""
        ...

    def along(self) -> float:
        """The second derivative in t, at the last trial."""
        ...

    def move(self, t: float) -> Floats:
        """The gradient `(K, D)` at the last trial, at t; from here, that is the point, and there is no step."""
        ...
