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

    @property
    def double(self) -> bool:
        """Whether its arithmetic is in float64, whatever the samples' type."""
        ...

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

    def dual(self) -> DualModel | None:
        """The same model in a number per sample; None if it is not worth it, or there is none."""
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


class Stepping(Protocol):
    """A model at a point and a step from there, along which its logits are known."""

    def trial(self, t: float) -> tuple[float, float]:
        """Cost, and its derivative in t, at the point plus t times the step: no product."""
        ...

    def along(self) -> float:
        """The second derivative in t, at the last trial."""
        ...


class CurvedModel(Stepping, Protocol):
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

    def move(self, t: float) -> Floats:
        """The gradient `(K, D)` at the last trial, at t; from here, that is the point, and there is no step."""
        ...


class DualModel(Stepping, Protocol):
    """An `OneModel` of one column at a point `w = X' a` of n samples, where a number per sample says all: residuals `r
    (n,)` and curvatures `h (n,)`, both weighted, and the logits of a step, `step (n,)`.

    `squares (n,)` are those of the samples, and with them products in `dtype`; samples are about the centre.
    """

    dtype: np.dtype[Any]
    squares: Array
    step: Floats
    r: Floats
    h: Floats

    def start(self, bias: float) -> float:
        """Cost at weights of 0; from here, that is the point."""
        ...

    def settle(self, W: Floats, *, bias: bool) -> tuple[float, Floats, float]:
        """Cost and its gradient `(1, D)` in float64 at the weights `W (1, D)`, and their bias, 0 if none is free.
        `bias`: a few steps of Newton's method bring that to its optimum first. From here, that is the point.
        """
        ...

    def product(self, c: Array, out: Array) -> None:
        """Write `X X' c` `(n,)` of `c (n,)`, both in `dtype`; if the bias is free, c sums to 0."""
        ...

    def weights(self, a: Floats) -> Floats:
        """`X' a` `(F,)`, rounded to `dtype`."""
        ...

    def move(self, t: float) -> None:
        """To the last trial, at t; from here, that is the point."""
        ...
