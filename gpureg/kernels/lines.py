"""`Line`: logits without a product, of weights on the line through two others.

Logits are linear in the weights, so those at `W + t (V - W)` are a combination of those at W and V, whose products have
been made. Rounding errors are combined with them: `MOST_REACH` bounds by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from gpureg.types import Array, Ints

Kept = tuple[Array, Array, Array | None, tuple["Line", ...]]
MOST_REACH = 16.0  # |1 - t| + |t|; a product of some hundred features rounds by as much


@dataclass(frozen=True)
class Line:
    """The logits `base + t (tip - base)` of one model, class-major `(K, n)`; one array twice if they are its own."""

    base: Array
    tip: Array
    t: float = 0.0

    @classmethod
    def of(cls, logits: Array) -> Line:
        """Logits from a product."""
        return cls(logits, logits)

    def write(self, start: int, stop: int, out: Array) -> None:
        """Those of the rows from start to stop, into `out (K, stop - start)`."""
        base = self.base[:, start:stop]
        if self.base is self.tip:
            out[...] = base
            return
        np.subtract(self.tip[:, start:stop], base, out=out)
        out *= out.dtype.type(self.t)
        out += base

    def whole(self) -> Array:
        """All of them, `(K, n)`."""
        if self.base is self.tip:
            return self.base
        out = np.empty_like(self.base)
        self.write(0, out.shape[1], out)
        return out

    def beyond(self, before: Line, step: float) -> Line | None:
        """The logits as far beyond these as `step` times the way here from those `before`; None if the line reaches too
        far from what was measured.
        """
        here, there = self._place(before), before._place(self)
        if here is not None:  # on the line of those before
            found = Line(before.base, before.tip, here + step * (here - before.t))
        elif there is not None:
            found = Line(self.base, self.tip, self.t + step * (self.t - there))
        else:
            found = Line(before.whole(), self.whole(), 1.0 + step)
        return found if abs(1.0 - found.t) + abs(found.t) <= MOST_REACH else None

    def _place(self, other: Line) -> float | None:
        """The t of these logits on another's line, None if they are not known to be on it."""
        if other.base is other.tip:
            return None
        if self.base is other.base and self.tip is other.tip:
            return self.t
        if self.base is self.tip and (self.base is other.base or self.base is other.tip):
            return float(self.base is other.tip)
        return None


@runtime_checkable
class LogitKernels(Protocol):
    """Kernels whose passes can keep their logits, or begin from them."""

    def keeping(self, W: Array, rows: object, column: Ints | None) -> Kept:
        """`Kernels.cost_and_gradient`, and each model's logits."""
        ...

    def along(self, lines: tuple[Line, ...], rows: object, column: Ints | None) -> tuple[Array, Array, Array | None]:
        """`Kernels.cost_and_gradient` at the weights of the models' `lines`: half of the products."""
        ...
