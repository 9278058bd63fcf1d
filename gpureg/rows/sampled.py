"""One sample in several: the part S of the rows that `rows.dual` works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpureg.kernels.protocol import Block, Kernels
from gpureg.types import Array


class Part(Protocol):
    """The m samples S and their products."""

    @property
    def y(self) -> Array:
        """Their class indices `(m,)`."""
        ...

    @property
    def weights(self) -> Array | None:
        """Their rows of the row-weight table `(m, F)`, or None for ones."""
        ...

    def logits(self, W: Array) -> Array:
        """`(m, C)` of `W (D, C)`."""
        ...

    def combined(self, R: Array) -> Array:
        """`R' X` `(C, D)` of `R (m, C)`, float64."""
        ...


class Sampled(Protocol):
    """All samples, of which S is about every `stride`-th."""

    @property
    def n(self) -> int:
        """N."""
        ...

    def every(self, stride: int) -> Part:
        """S."""
        ...


@dataclass(frozen=True)
class DensePart:
    """S of dense samples, `X (m, D)`."""

    xp: Array
    X: Array
    y: Array
    weights: Array | None

    def logits(self, W: Array) -> Array:
        """See the protocol."""
        return self.xp.matmul(self.X, W)

    def combined(self, R: Array) -> Array:
        """See the protocol."""
        return combined(self.xp, self.X, R)


@dataclass(frozen=True)
class DenseSampled:
    """Dense samples, as the kernels have placed them."""

    kernels: Kernels
    block: Block

    @property
    def n(self) -> int:
        """See the protocol."""
        return self.block.n

    def every(self, stride: int) -> DensePart:
        """See the protocol."""
        return DensePart(self.kernels.backend.xp, *every(self.block, stride))


def every(block: Block, stride: int) -> tuple[Array, Array, Array | None]:
    """Every `stride`-th sample of a block, its label, and its row of the table."""
    table = block.weights
    return block.X[::stride, :], block.y[::stride], None if table is None else table[::stride, :]


def combined(xp: Array, X: Array, R: Array) -> Array:
    """`R' X` `(C, D)` of `R (m, C)` and `X (m, D)`, in the type of X, as float64."""
    R = xp.astype(R, X.dtype)
    return xp.astype(xp.matmul(xp.matrix_transpose(R), X), xp.float64)
