"""Minibatches from blocks that pass by one at a time.

The batches of a block run through the kernels as they do on all rows. A batch that begins in one block and ends in the
next (or a later one) is put together from copies of its samples, and is a block of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from gpureg.kernels.protocol import Block, Kernels
from gpureg.types import Array, Floats, Ints, StepPlan

Piece = tuple[Floats, Floats, Floats | None]  # on the host: X (b, D), y (b,), table (b, T)


class Readable(Protocol):
    """Blocks as steps need them; see `LocalBlocks`."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The samples in each block."""
        ...

    @property
    def read(self) -> Callable[[Sequence[int]], Iterator[Block]]:
        """Places blocks one after the other."""
        ...

    @property
    def order(self) -> Callable[[int], Ints | None]:
        """The order in which a block's samples are stored."""
        ...


def stepped(kernels: Kernels, blocks: Readable, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
    """See `Kernels.steps`. The blocks are read in the order in which the plan needs them, again if it returns."""
    walk, B = _Walk(kernels, W, plan), plan.order.shape[1]
    flat = plan.order.reshape(-1)
    ends = np.cumsum(blocks.sizes)
    where = np.searchsorted(ends, flat, side="right")
    cuts = [0, *(np.flatnonzero(np.diff(where)) + 1).tolist(), len(flat)]
    visits = [(int(where[start]), start, stop) for start, stop in itertools.pairwise(cuts)]
    for (number, start, stop), block in zip(visits, blocks.read([number for number, _, _ in visits]), strict=True):
        own = flat[start:stop] - (ends[number] - blocks.sizes[number])
        first, last = min(-(-start // B) * B, stop), stop // B * B  # of the batches that lie inside
        order = functools.cache(functools.partial(blocks.order, number))
        walk.cross(block, order, own[: first - start])
        if last > first:
            walk.run(block, own[first - start : last - start].reshape(-1, B))
        walk.cross(block, order, own[max(first, last) - start :])
    return walk.W, kernels.backend.xp.concat(walk.losses, axis=0), walk.snapshots


class _Walk:
    """The weights on their way through the steps of a plan, `done` of them; and the samples `carried` from blocks that
    have passed.
    """

    def __init__(self, kernels: Kernels, W: Array, plan: StepPlan) -> None:
        self.kernels, self.W, self.plan = kernels, W, plan
        self.done = 0
        self.losses: list[Array] = []
        self.snapshots: list[Array] = []
        self.carried: list[Piece] = []

    def run(self, block: Block, order: Ints) -> None:
        """The next steps, whose batches `order (s, B)` lie in one block."""
        after = tuple(
            step - self.done for step in self.plan.snapshot_after if self.done <= step < self.done + len(order)
        )
        plan = replace(self.plan, order=order, snapshot_after=after)
        self.W, losses, snapshots = self.kernels.steps(self.W, block, plan)
        self.losses.append(losses)
        self.snapshots += snapshots
        self.done += len(order)

    def cross(self, block: Block, order: Callable[[], Ints | None], samples: Ints) -> None:
        """Carry some samples of a block on; if they complete a batch, it is the next step. `order()` sorts the block's
        samples, and is called only if there are some to carry.
        """
        if not len(samples):
            return
        kernels, B = self.kernels, self.plan.order.shape[1]
        self.carried.append(_taken(kernels, block, order(), samples))
        if sum(len(y) for _, y, _ in self.carried) < B:
            return
        X, y = (np.concatenate([piece[place] for piece in self.carried]) for place in (0, 1))
        tables = [table for _, _, table in self.carried if table is not None]
        table = np.concatenate(tables) if tables else None
        self.carried = []
        dtype = np.dtype(kernels.backend.dtype)
        own = kernels.place(X.astype(dtype), y.astype(np.int64), table, None)
        self.run(own, np.arange(B)[None, :])


def _taken(kernels: Kernels, block: Block, order: Ints | None, samples: Ints) -> Piece:
    """Copies of some samples of a block, by their own numbers in it."""
    places = samples
    if order is not None:
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        places = rank[samples]
    xp, picked = kernels.backend.xp, kernels.backend.from_host(places)

    def own(array: Array) -> Floats:
        return kernels.to_host(xp.take(array, picked, axis=0))  # sync

    return own(block.X), own(block.y), None if block.weights is None else own(block.weights)
