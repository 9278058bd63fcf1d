"""Early stopping as a value: `observe` takes the state and one evaluation; it returns the next state and which stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpureg.types import Floats, Ints


@dataclass(frozen=True)
class Stopping:
    """Per model `(L,)`: the lowest validation loss so far (nats), and the evaluations since it."""

    lowest: Floats
    waited: Ints

    @classmethod
    def start(cls, models: int) -> Stopping:
        """Nothing seen yet."""
        return cls(np.full(models, np.inf), np.zeros(models, np.int64))

    def observe(
        self, models: Ints, val_loss: Floats, patience: int, min_delta: float
    ) -> tuple[Stopping, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """One evaluation of `models (A,)`: a loss below `lowest - min_delta` is a new lowest and resets the count,
        any other adds 1 to it, and at `patience` the model stops; patience 0 never stops one.

        Returns the next state, `improved (A,)` and `stops (A,)`.
        """
        lowest, waited = self.lowest.copy(), self.waited.copy()
        improved = val_loss < lowest[models] - min_delta
        lowest[models] = np.where(improved, val_loss, lowest[models])
        waited[models] = np.where(improved, 0, waited[models] + 1)
        stops = (waited[models] >= patience) if patience > 0 else np.zeros(len(models), bool)
        return Stopping(lowest, waited), improved, stops
