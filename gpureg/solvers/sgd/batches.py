"""Minibatches: the one place where order is drawn, on the host, so that every device sees the same batches.

The stream is that of `numpy.random.RandomState(seed).shuffle`, which NumPy has promised never to change (NEP 19).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.types import Ints


def shuffled_in(config: FitConfig) -> int | None:
    """The rows of the blocks by which a fit shuffles; None if it shuffles row by row."""
    return config.rows_of_a_block if config.shuffle_by == "blocks" else None


class Shuffler:
    """One permutation of `range(n)` per epoch, cut into `n // batch_size` minibatches; the incomplete last one is
    dropped.

    With `block_rows` the blocks of that number of rows come in a new order, and the rows within each. Without `shuffle`
    the order is `0 ... n-1` in every epoch. `state` and `restore` carry the generator over an interruption.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool, seed: int, block_rows: int | None = None) -> None:
        self.n, self.batch_size, self.shuffle, self.block_rows = n, batch_size, shuffle, block_rows
        self._random = np.random.RandomState(seed)

    @property
    def batches(self) -> int:
        """Minibatches of an epoch, `b = n // B`."""
        return self.n // self.batch_size

    def epoch(self) -> Ints:
        """The next epoch's sample indices, `(b, B)`."""
        order = np.arange(self.n)
        if self.shuffle and self.block_rows is not None:
            order = self._by_blocks(order, self.block_rows)
        elif self.shuffle:
            self._random.shuffle(order)  # the same stream as for list(range(n))
        return order[: self.batches * self.batch_size].reshape(self.batches, self.batch_size)

    def _by_blocks(self, order: Ints, size: int) -> Ints:
        """The blocks in a new order, and the rows within each; they are drawn in this order."""
        starts = np.arange(0, self.n, size)
        self._random.shuffle(starts)
        blocks = [order[start : start + size] for start in starts.tolist()]
        for block in blocks:
            self._random.shuffle(block)
        return np.concatenate(blocks)

    def state(self) -> tuple[Ints, int]:
        """The generator's state: key `(624,)` and position."""
        state: Any = self._random.get_state()
        return np.asarray(state[1], np.int64), int(state[2])

    def restore(self, key: Ints, position: int) -> None:
        """Go on where `state` was taken."""
        self._random.set_state(("MT19937", key.astype(np.uint32), position, 0, 0.0))
