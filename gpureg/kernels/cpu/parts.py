"""A sum of scaled vectors that is made several at a time: one product in place of two passes for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.types import Array, Floats

HELD = 8  # vectors, as a rule


class Parts:
    """`Σ a v` of vectors of a `shape`, of which as many as `held` are kept in `dtype` before they are added up in
    float64.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, held: int) -> None:
        self._rows, self._lengths = np.empty((held, *shape), dtype), list[float]()
        self._total = np.zeros(shape)

    def following(self) -> Array:
        """Where the next vector is written; the last one stays where it is if two or more are held."""
        if len(self._lengths) == len(self._rows):
            self.total()
        return self._rows[len(self._lengths)]

    def add(self, a: float) -> None:
        """The vector that was written is part of the sum, a times."""
        self._lengths.append(a)

    def total(self) -> Floats:
        """The sum so far, which changes with the next."""
        count = len(self._lengths)
        if count:
            flat = self._rows[:count].reshape(count, -1)
            self._total += (np.array(self._lengths, flat.dtype) @ flat).reshape(self._total.shape)
            self._lengths.clear()
        return self._total

    def clear(self) -> None:
        """The sum is 0."""
        self._lengths.clear()
        self._total[:] = 0.0
