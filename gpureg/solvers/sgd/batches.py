"""Minibatches: the one place where order is drawn, on the host, so that every device sees the same batches.

The stream is that of `numpy.random.RandomState(seed).shuffle`, which NumPy has promised never to change (NEP 19).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.types import Ints


class Shuffler:
    """One permutation of `range(n)` per epoch, cut into `n // batch_size` minibatches; the incomplete last one is
    dropped.

    Without `shuffle` the order is `0 ... n-1` in every epoch. `state` and `restore` carry the generator over an
    interruption.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool, seed: int) -> None:
        self.n, self.batch_size, self.shuffle = n, batch_size, shuffle
        self._random = np.random.RandomState(seed)

    @property
    def batches(self) -> int:
        """Minibatches of an epoch, `b = n // B`."""
        return self.n // self.batch_size

    def epoch(self) -> Ints:
        """The next epoch's sample indices, `(b, B)`."""
        order = np.arange(self.n)
        if self.shuffle:
            self._random.shuffle(order)  # the same stream as for list(range(n))
        return order[: self.batches * self.batch_size].reshape(self.batches, self.batch_size)

    def state(self) -> tuple[Ints, int]:
        """The generator's state: key `(624,)` and position."""
        state: Any = self._random.get_state()
        return np.asarray(state[1], np.int64), int(state[2])

    def restore(self, key: Ints, position: int) -> None:
        """Go on where `state` was taken."""
        self._random.set_state(("MT19937", key.astype(np.uint32), position, 0, 0.0))
