"""One sample in several: the part S of the rows that `rows.dual` works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpureg.kernels.protocol import Block, Kernels
from gpureg.types import Array


class Part(Protocol):
    """The samples S and their products."""

    def logits(self, W: Array) -> Array:
        """`(m, C)` of `W (D, C)`."""
        ...

    def combined(self, R: Array) -> Array:
        """`R' X` `(C, D)` of `R (m, C)`, float64."""
        ...


class Sampled(Protocol):
    """All samples, of which S is every `stride`-th; the rest as `Block` has it."""

    @property
    def n(self) -> int:
        """N."""
        ...

    @property
    def y(self) -> Array:
        """The class indices `(N,)`."""
        ...

    @property
    def weights(self) -> Array | None:
        """The row-weight table `(N, F)`, or None for ones."""
        ...

    def every(self, stride: int) -> Part:
        """S."""
        ...


@dataclass(frozen=True)
class DensePart:
    """S of dense samples, `X (m, D)`."""

    xp: Array
    X: Array

    def logits(self, W: Array) -> Array:
        """See the protocol."""
        return self.xp.matmul(self.X, W)

    def combined(self, R: Array) -> Array:
        """See the protocol."""
        R = self.xp.astype(R, self.X.dtype)
        return self.xp.astype(self.xp.matmul(self.xp.matrix_transpose(R), self.X), self.xp.float64)


@dataclass(frozen=True)
class DenseSampled:
    """Dense samples, as the kernels have placed them."""

    kernels: Kernels
    block: Block

    @property
    def n(self) -> int:
        """See the protocol."""
        return self.block.n

    @property
    def y(self) -> Array:
        """See the protocol."""
        return self.block.y

    @property
    def weights(self) -> Array | None:
        """See the protocol."""
        return self.block.weights

    def every(self, stride: int) -> DensePart:
        """See the protocol."""
        return DensePart(self.kernels.backend.xp, self.block.X[::stride, :])
