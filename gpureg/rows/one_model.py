"""One model on any rows, by the sums that a batch takes; see `Rows.one_model`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.protocol import Rows
from gpureg.types import Floats


@dataclass
class SummedModel:
    """`gpureg.kernels.protocol.OneModel` of rows whose kernels have no shorter way; `column` into the row-weight table,
    None for weights of 1.
    """

    kernels: Kernels
    rows: Rows
    column: int | None
    _last: Floats = field(init=False)

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        self._last = W
        cost, gradient, _ = self.rows.cost_and_gradient(self.kernels.weights(W.T), self._column())
        return float(self.kernels.to_host(cost)[0]), np.ascontiguousarray(self.kernels.to_host(gradient).T)  # sync

    def curvature(self) -> Floats:
        """See the protocol."""
        return self.kernels.to_host(self.rows.curvature(self.kernels.weights(self._last.T), self._column(), None))[0]

    def _column(self) -> np.ndarray | None:
        return None if self.column is None else np.array([self.column])
