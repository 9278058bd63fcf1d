"""`LogitPasses`: passes over rows that keep their logits, and passes that begin from logits."""

from __future__ import annotations

from dataclasses import dataclass

from gpureg.kernels.lines import Kept, Line, LogitKernels
from gpureg.kernels.protocol import Block
from gpureg.types import Array, Ints


@dataclass(frozen=True)
class LogitPasses:
    """Those of a block of rows."""

    kernels: LogitKernels
    block: Block

    def keeping(self, W: Array, column: Ints | None) -> Kept:
        """`Rows.cost_and_gradient`, and each model's logits."""
        return self.kernels.keeping(W, self.block, column)

    def along(self, lines: tuple[Line, ...], column: Ints | None) -> tuple[Array, Array, Array | None]:
        """`Rows.cost_and_gradient` at the weights of the models' `lines`."""
        return self.kernels.along(lines, self.block, column)
