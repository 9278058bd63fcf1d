"""What is kept of rows that a model has predicted: labels and probabilities, never features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS = 15  # of the top probability, equally wide


@dataclass(frozen=True)
class Rows:
    """N predicted rows: `y (N,)` and `predicted (N,)` indices of classes, `probabilities (N, number of classes)`,
    `losses (N,)` in nats, `weights (N,)` or None where every row weighs 1.
    """

    y: Ints
    predicted: Ints
    probabilities: Doubles
    losses: Doubles
    weights: Doubles | None = None

    @property
    def top(self) -> Doubles:
        """The top probability of each row `(N,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Whether the label was predicted `(N,)`."""
        return np.asarray(self.predicted == self.y)


def joined(parts: Sequence[Rows]) -> Rows:
    """Blocks of rows, one after the other."""
    if len(parts) == 1:
        return parts[0]
    weights = [part.weights for part in parts if part.weights is not None]
    return Rows(
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.losses for part in parts]),
        np.concatenate(weights) if weights else None,
    )


def bins(top: Doubles) -> Ints:
    """The bin `(N,)` of each top probability: bin b holds those above `b / 15`, up to `(b + 1) / 15`."""
    edges = np.linspace(0, 1, BINS + 1)
    return np.clip(np.searchsorted(edges, top, side="left") - 1, 0, BINS - 1)
