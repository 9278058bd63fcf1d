"""Rows that are stored as their file has them: the scaling goes into the weights, and comes back out of the gradient.

`x' = f x - s` per feature, so that `x' W = x W'` with `W' = f W` for the features and `b - s W` for the bias, and the
gradient in W is `f g - s g_b`, g that in W' and g_b its bias. A pass then copies its rows and computes nothing else of
them. What is not a product of the samples with weights (moments, chosen samples) takes scaled rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpureg.kernels.protocol import Block, Kernels
from gpureg.rows.partials import Cost, Evaluated, Of, Partial, Sums, Together, added
from gpureg.types import Array, Floats

Read = Callable[[Sequence[int]], Iterator[Block]]  # places those blocks one after the other
Passed = Callable[[Partial, Read], Iterator[Sums]]  # what each block gives


@dataclass(frozen=True)
class Fold:
    """The `factor` f and the `shift` s `(F,)`, in float64; of samples on the host."""

    factor: Floats
    shift: Floats

    def onto(self, kernels: Kernels, partial: Partial) -> Partial | None:
        """The partial of rows as they are stored whose sums `back` takes; None if there is none."""
        if isinstance(partial, (Cost, Evaluated)):
            return replace(partial, W=self._weights(kernels, partial.W))
        if isinstance(partial, Of):
            own = self.onto(kernels, partial.partial)
            return None if own is None else replace(partial, partial=own)
        if isinstance(partial, Together):
            parts = [own for part in partial.partials if (own := self.onto(kernels, part)) is not None]
            return Together(parts) if len(parts) == len(partial.partials) else None
        return None

    def back(self, partial: Partial, sums: Sums) -> Sums:
        """The sums of a partial, from those of what `onto` has made of it."""
        if isinstance(partial, Cost):
            cost, gradient, hits = sums
            return cost, self._gradient(gradient), hits
        if isinstance(partial, Of):
            return self.back(partial.partial, sums) if sums else sums
        if isinstance(partial, Together):
            return tuple(self.back(part, own) for part, own in zip(partial.partials, sums, strict=True))
        return sums

    def _weights(self, kernels: Kernels, W: Array) -> Array:
        """`W' (D, C)`, computed in float64 and rounded once."""
        own = np.array(W, np.float64)
        own[-1] -= self.shift @ own[:-1]
        own[:-1] *= self.factor[:, None]
        return kernels.weights(own)

    def _gradient(self, gradient: Floats) -> Floats:
        """The gradient in W `(D, C)`, from that in W'."""
        own = np.array(gradient, np.float64)
        own[:-1] *= self.factor[:, None]
        own[:-1] -= self.shift[:, None] * own[-1]
        return own


@dataclass(frozen=True)
class AsStored:
    """The blocks as their file has them, `read` one after the other, and the fold that their sums take. `once`: `read`
    for what asks for each sample once, and from the first to the last.
    """

    fold: Fold
    read: Read
    once: Read

    def total(self, kernels: Kernels, partial: Partial, passed: Passed) -> Sums | None:
        """`Blocks.total`, None if it takes scaled rows."""
        own = self.fold.onto(kernels, partial)
        if own is None:
            return None
        read = self.once if isinstance(own, Cost) else self.read
        return self.fold.back(partial, functools.reduce(added, passed(own, read)))
