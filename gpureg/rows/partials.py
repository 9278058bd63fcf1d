"""What a block of rows adds to a sum, as values that can be pickled: a block may be in this process or on a worker.

A `Partial` is called with the kernels and a block, wherever that is, and returns `Sums`: a tuple of arrays (on the
kernels' device), numbers or None. `added` joins those of two blocks, so that a chain or a tree of them gives the total,
and `rows.blocked` finishes it: divides, moves a centre, turns it into what a solver asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpureg.kernels.protocol import Block, Kernels
from gpureg.rows import moments
from gpureg.rows.kronecker import kronecker_sums
from gpureg.rows.sampled import combined, every
from gpureg.types import Array, Floats, Ints

Sums = tuple[Any, ...]


class Partial(Protocol):
    """A sum over rows, as what each block adds to it."""

    def at(self, number: int) -> Partial:
        """As much of it as block `number` needs: what travels to that block."""
        ...

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """What the block adds."""
        ...


def added(one: Sums, other: Sums) -> Sums:
    """The sums of two sets of rows together; None and anything is None, () are those of no rows."""
    if not one or not other:
        return one or other
    return tuple(_added(a, b) for a, b in zip(one, other, strict=True))


def _added(a: Any, b: Any) -> Any:
    if isinstance(a, tuple):
        return added(a, b)
    return None if a is None or b is None else a + b


class Everywhere:
    """A partial that is the same for every block."""

    def at(self, number: int) -> Any:
        """See `Partial`."""
        return self


@dataclass(frozen=True)
class Cost(Everywhere):
    """`Kernels.cost_and_gradient`, the gradient in float64: many blocks are added up."""

    W: Array
    column: Ints | None

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        xp = kernels.backend.xp
        cost, gradient, hits = kernels.cost_and_gradient(self.W, block, self.column)
        hits = None if hits is None else xp.astype(hits, xp.float64)
        return xp.astype(cost, xp.float64), xp.astype(gradient, xp.float64), hits


@dataclass(frozen=True)
class Evaluated(Everywhere):
    """`Kernels.evaluate`, on the host."""

    W: Array
    with_loss: bool

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return kernels.evaluate(self.W, block, with_loss=self.with_loss)


@dataclass(frozen=True)
class Mean(Everywhere):
    """`moments.mean_sums`."""

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return moments.mean_sums(kernels, block)


@dataclass(frozen=True)
class Scatter(Everywhere):
    """`moments.scatter_sums`."""

    centre: Floats
    diagonal: bool

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return moments.scatter_sums(kernels, block, self.centre, diagonal=self.diagonal)


@dataclass(frozen=True)
class Curvature(Everywhere):
    """`moments.curvature`."""

    W: Array
    column: Ints | None
    centre: Floats | None

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return (moments.curvature(kernels, block, self.W, self.column, self.centre),)


@dataclass(frozen=True)
class Kronecker(Everywhere):
    """`kronecker.kronecker_sums`."""

    W: Array
    column: Ints | None
    centre: Floats
    diagonal: bool

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return kronecker_sums(kernels, block, self.W, self.column, self.centre, diagonal=self.diagonal)


def outputs(kernels: Kernels, block: Block, W: Array) -> tuple[Floats, Ints, Floats | None]:
    """Logits `(b, C)`, class indices and sample weights (None for 1) of a block, on the host."""
    to_host, weight = kernels.to_host, block.sample_weight
    logits = to_host(kernels.backend.xp.matmul(block.X, W))  # sync
    return logits, to_host(block.y).astype(np.int64), None if weight is None else to_host(weight)


@dataclass(frozen=True)
class Outputs(Everywhere):
    """`outputs`; for `Blocks.each`."""

    W: Array

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return outputs(kernels, block, self.W)


@dataclass(frozen=True)
class Every(Everywhere):
    """Every `stride`-th sample of each block, `X (m, D)` if `samples`, `y (m,)`, their rows of the table and their
    sample weights; for `Blocks.each`.

    Copies: the block may be gone when they are used.
    """

    stride: int
    samples: bool = True

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        xp = kernels.backend.xp
        X, y, table = every(block, self.stride)
        mass = block.sample_weight
        parts = (X if self.samples else None, y, table, None if mass is None else mass[:: self.stride])
        return tuple(None if part is None else xp.concat([part], axis=0) for part in parts)  # copies


@dataclass(frozen=True)
class Logits(Everywhere):
    """`X W` of every `stride`-th sample of a block; for `Blocks.each`."""

    W: Array
    stride: int

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return (kernels.backend.xp.matmul(block.X[:: self.stride, :], self.W),)


@dataclass(frozen=True)
class Combined:
    """`R' X` `(C, D)` over every `stride`-th sample of each block; `parts` are those rows of R, by block."""

    parts: tuple[Array, ...]
    stride: int

    def at(self, number: int) -> Partial:
        """See `Partial`."""
        return _CombinedHere(self.parts[number], self.stride)

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """Only `at` a block."""
        raise NotImplementedError


@dataclass(frozen=True)
class _CombinedHere(Everywhere):
    part: Array
    stride: int

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        return (combined(kernels.backend.xp, block.X[:: self.stride, :], self.part),)


@dataclass(frozen=True)
class Of:
    """A partial over some of the samples only: `picks` are their numbers in each block."""

    partial: Partial
    picks: tuple[Ints, ...]

    def at(self, number: int) -> Partial:
        """See `Partial`."""
        return Of(self.partial.at(number), (self.picks[number],))

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`; `at` a block."""
        (picks,) = self.picks
        if not len(picks):
            return ()
        return self.partial(kernels, kernels.subset(block, picks))


@dataclass(frozen=True)
class Together:
    """Several partials in one pass: a tuple of their sums."""

    partials: Sequence[Partial]

    def at(self, number: int) -> Partial:
        """See `Partial`."""
        return Together([partial.at(number) for partial in self.partials])

    def __call__(self, kernels: Kernels, block: Block) -> Sums:
        """See `Partial`."""
        return tuple(partial(kernels, block) for partial in self.partials)
