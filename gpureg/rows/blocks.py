"""`Blocks`: where the blocks of the rows are, and how what they add to a sum is added up."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gpureg.data.streamed import by_part
from gpureg.kernels.protocol import Block, Kernels
from gpureg.rows.folding import AsStored, Read
from gpureg.rows.partials import Of, Partial, Sums, Together, added
from gpureg.rows.stepping import stepped
from gpureg.types import Array, Floats, Ints, StepPlan

Later = Callable[[], Sums]


class Blocks(Protocol):
    """N samples of D features in blocks, the bias last. The numbers of a block's samples follow those of the block
    before it.
    """

    @property
    def kernels(self) -> Kernels:
        """What finishes the sums; the blocks are placed by kernels of the same kind."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """The samples in each block."""
        ...

    @property
    def features(self) -> int:
        """D, the bias included."""
        ...

    @property
    def weighted(self) -> bool:
        """Whether there is a row-weight table."""
        ...

    @property
    def sample_weight(self) -> Floats | None:
        """What each sample counts in an evaluation `(N,)`, on the host and in the order of the data; None for 1."""
        ...

    def total(self, partial: Partial) -> Sums:
        """What all blocks add, added up."""
        ...

    def each(self, partial: Partial) -> list[Sums]:
        """What each block gives, in their order."""
        ...

    def later(self, partial: Partial) -> Later:
        """`total`, asked for now and made when it is called: all that are asked for until then share one pass."""
        ...

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """Minibatch gradient descent; see `Kernels.steps`."""
        ...


class Asked:
    """Totals that were asked for and not yet made. The first that is needed has them all made, in one pass."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Partial, list[Sums]]] = []

    def later(self, blocks: Blocks, partial: Partial) -> Later:
        """See `Blocks.later`."""
        found: list[Sums] = []
        self._waiting.append((partial, found))

        def result() -> Sums:
            if not found:
                waiting, self._waiting = self._waiting, []
                sums = blocks.total(Together([partial for partial, _ in waiting]))
                for (_, place), own in zip(waiting, sums, strict=True):
                    place.append(own)
            return found[0]

        return result


@dataclass(frozen=True)
class LocalBlocks:
    """Blocks that pass through this process one at a time; see `Blocks`.

    `read(numbers)` places those blocks one after the other; a block is used before the next is asked for.
    `order(number)` is the order in which a block's samples are stored, None for their own. `as_stored`: the same blocks
    before they are scaled, for the sums that can be made of them.
    """

    kernels: Kernels
    sizes: tuple[int, ...]
    features: int
    weighted: bool
    sample_weight: Floats | None
    read: Read
    order: Callable[[int], Ints | None]
    as_stored: AsStored | None = None
    _asked: Asked = field(default_factory=Asked)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def total(self, partial: Partial) -> Sums:
        """See the protocol: added up in the order of the blocks."""
        if self.as_stored is not None:
            found = self.as_stored.total(self.kernels, partial, self._passed)
            if found is not None:
                return found
        return functools.reduce(added, self._passed(partial, self.read))

    def each(self, partial: Partial) -> list[Sums]:
        """See the protocol."""
        return list(self._passed(partial, self.read))

    def later(self, partial: Partial) -> Later:
        """See the protocol."""
        return self._asked.later(self, partial)

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol; see `rows.stepping`."""
        with self._one_at_a_time:
            return stepped(self.kernels, self, W, plan)

    def _passed(self, partial: Partial, read: Read) -> Iterator[Sums]:
        """One pass. A second one, in another thread, waits: two blocks are in memory, and not four."""
        with self._one_at_a_time:
            for number, block in enumerate(read(range(len(self.sizes)))):
                yield partial.at(number)(self.kernels, block)


def in_memory(blocks: Sequence[Block]) -> Read:
    """`LocalBlocks.read` of blocks that are all there."""
    return lambda numbers: (blocks[number] for number in numbers)


@dataclass(frozen=True)
class PickedBlocks:
    """Some samples of other blocks, `picks` their numbers in each, in rising order; see `Blocks`. They have no table,
    and no minibatches. Their sums are made in the passes of the blocks that they are of.
    """

    blocks: Blocks
    picks: tuple[Ints, ...]
    sample_weight: Floats | None

    weighted = False

    @classmethod
    def of(cls, blocks: Blocks, index: Ints) -> PickedBlocks:
        """The samples `index` of all samples, by number."""
        index = np.sort(index)
        mass = None if blocks.sample_weight is None else blocks.sample_weight[index]
        return cls(blocks, tuple(by_part(index, blocks.sizes)), mass)

    @property
    def kernels(self) -> Kernels:
        """See the protocol."""
        return self.blocks.kernels

    @property
    def sizes(self) -> tuple[int, ...]:
        """See the protocol."""
        return tuple(map(len, self.picks))

    @property
    def features(self) -> int:
        """See the protocol."""
        return self.blocks.features

    def total(self, partial: Partial) -> Sums:
        """See the protocol."""
        return self.blocks.total(self._of(partial))

    def each(self, partial: Partial) -> list[Sums]:
        """See the protocol."""
        return [sums for sums in self.blocks.each(self._of(partial)) if sums]

    def later(self, partial: Partial) -> Later:
        """See the protocol."""
        return self.blocks.later(self._of(partial))

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol."""
        raise NotImplementedError("a subset of rows is for evaluation")

    def _of(self, partial: Partial) -> Of:
        return Of(partial, self.picks)


def bounds(sizes: Sequence[int]) -> list[int]:
    """The number of each block's first sample, and N."""
    return [0, *itertools.accumulate(sizes)]
