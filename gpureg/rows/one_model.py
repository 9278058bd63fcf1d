"""One model on any rows, by the sums that a batch takes; see `Rows.one_model`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.protocol import Rows
from gpureg.types import Array, Floats


@dataclass
class SummedModel:
    """`gpureg.kernels.one_model.OneModel` of rows whose kernels have no shorter way; `column` into the row-weight
    table, None for weights of 1; `centre (D - 1,)` or None.
    """

    kernels: Kernels
    rows: Rows
    column: int | None
    centre: Floats | None = None
    _last: Array = field(init=False)

    @property
    def double(self) -> bool:
        """See the protocol."""
        return bool(self.kernels.backend.dtype == "float64")

    def value(self, W: Floats) -> tuple[float, Floats]:
        """See the protocol."""
        if self.centre is not None:
            W = W.copy()
            W[:, -1] -= W[:, :-1] @ self.centre
        self._last = self.kernels.weights(W.T)
        cost, slope, _ = self.rows.cost_and_gradient(self._last, self._column())
        gradient = np.array(self.kernels.to_host(slope).T, order="C")  # sync
        if self.centre is not None:
            gradient[:, :-1] -= gradient[:, -1:] * self.centre
        return float(self.kernels.to_host(cost)[0]), gradient  # sync

    def curvature(self) -> Floats:
        """See the protocol."""
        centre = None if self.centre is None else self._origin
        return self.kernels.to_host(self.rows.curvature(self._last, self._column(), centre))[0]  # sync

    def squares(self) -> Floats:
        """See the protocol."""
        return self.rows.n * self.kernels.to_host(self.rows.scatter(self._origin, diagonal=True))  # sync

    def nearby(self) -> None:
        """See the protocol: there is none."""
        return

    def curved(self) -> None:
        """See the protocol: there is none."""
        return

    def dual(self) -> None:
        """See the protocol: there is none."""
        return

    def kronecker(self) -> tuple[Floats, Floats] | None:
        """See the protocol; None for rows whose second moments are not worth a decomposition."""
        free = self.centre is not None
        sums = self.rows.kronecker(self._last, self._column(), free=free) if self.rows.rotates else None
        if sums is None:
            return None
        S = np.array(self.kernels.to_host(sums.moments))  # sync
        if self.centre is not None:  # about the mean under s u: moved to the centre
            moved = np.append(sums.centre[:-1] - self.centre, 1.0)
            S[-1, :] = S[:, -1] = 0.0
            S += moved[:, None] * moved
        return sums.classes, S

    @property
    def _origin(self) -> Floats:
        """The centre `(D,)`, its bias 0."""
        return np.zeros(self.rows.features) if self.centre is None else np.append(self.centre, 0.0)

    def _column(self) -> np.ndarray | None:
        return None if self.column is None else np.array([self.column])
