"""What a pass over rows on workers moves and takes, as a model; the tests hold its bytes to those that are counted.

Of a batch of L models of K columns each, C = L K, and D features with the bias: the weights `(D, C)` go out to every
worker, once, in the type of the arithmetic; every worker's costs `(L,)`, gradients `(D, C)` and hits `(L,)` go back
through a tree, in float64, so that each worker sends its sum once, to a peer or, at the root, to the scheduler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DOUBLE = 8  # bytes


@dataclass(frozen=True)
class Pass:
    """A pass of `models` L with `columns` C in all over `rows` N of `features` D, on `workers`; `item` bytes a weight.

    `weighted`: rows have weights, so that the models' columns of the table go out, and no hits come back.
    """

    rows: int
    features: int
    columns: int
    models: int
    workers: int
    item: int = 4
    weighted: bool = False

    @property
    def out(self) -> int:
        """Bytes that a worker is sent."""
        return self.features * self.columns * self.item + (DOUBLE * self.models if self.weighted else 0)

    @property
    def back(self) -> int:
        """Bytes that a worker sends."""
        numbers = self.features * self.columns + self.models * (1 if self.weighted else 2)
        return DOUBLE * numbers

    @property
    def moved(self) -> int:
        """Bytes that go to the workers and come from them, all together."""
        return self.workers * (self.out + self.back)

    @property
    def relayed(self) -> int:
        """Bytes between the client and the scheduler: the weights and the total."""
        return self.out + self.back

    @property
    def work(self) -> int:
        """Multiply-adds of the two products."""
        return 2 * self.rows * self.features * self.columns

    @property
    def rounds(self) -> int:
        """Rounds of messages: the weights pass from the first worker to the others, and the sums through a tree of
        pairs, both in about log2(workers), of which the first holds all of the client's.
        """
        return 1 + math.ceil(math.log2(max(1, self.workers)))

    def seconds(self, rate: float, bandwidth: float, latency: float) -> tuple[float, float]:
        """How long a pass computes and how long it communicates: `rate` multiply-adds a second of one worker,
        `bandwidth` bytes a second of one worker's link, `latency` seconds of one round of messages.
        """
        return self.work / (rate * self.workers), self.rounds * ((self.out + self.back) / bandwidth + latency)

    def balance(self, rate: float, bandwidth: float) -> float:
        """Rows for each worker at which a pass computes as long as it communicates, the latency aside. Columns hardly
        matter: both grow with them.
        """
        seconds = self.rounds * (self.out + self.back) / bandwidth
        return seconds * rate / (2 * self.features * self.columns)
