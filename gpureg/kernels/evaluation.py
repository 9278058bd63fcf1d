"""An evaluation that has been asked for and may still be going on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpureg.types import Floats, Ints


class Evaluation(Protocol):
    """Sums over the samples of an evaluation, as soon as they are there."""

    def result(self) -> tuple[Floats, Ints]:
        """Wait: cross-entropy in nats `(M,)` (zeros where none was wanted), correctly classified samples `(M,)`."""
        ...


@dataclass(frozen=True)
class Ready:
    """An evaluation that was made when it was asked for."""

    loss_sum: Floats
    hits: Ints

    def result(self) -> tuple[Floats, Ints]:
        """The sums."""
        return self.loss_sum, self.hits
