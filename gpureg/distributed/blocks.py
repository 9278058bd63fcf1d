"""`DaskBlocks`: blocks of rows on Dask's workers, and the tree that adds up what they give.

Every block is placed once, on the worker with the fewest rows, and stays there. For a sum each worker adds up its own
blocks; then a tree of pairs of workers adds up theirs, and its root goes to the client. If a worker is lost, its blocks
are read again, from where they came from, on those that are left, and the sum is made again.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpureg.distributed import work
from gpureg.distributed.ahead import ahead
from gpureg.distributed.cluster import LOST, Cluster, Future, Lost, usable
from gpureg.errors import GpuregWarning, UsageError, named
from gpureg.kernels.protocol import Kernels
from gpureg.rows.blocks import Asked, Later
from gpureg.rows.partials import Partial, Sums, added
from gpureg.types import Array, Floats, StepPlan

AT_ONCE = 2  # shares that are on their way to a worker at the same time


@dataclass(frozen=True)
class Placed:
    """A block that a worker has placed, or is placing."""

    worker: str
    block: Future


@dataclass(frozen=True)
class Holding:
    """A worker, its kernels, and its blocks with their numbers."""

    worker: str
    kernels: Future
    numbers: list[int]
    blocks: list[Future]


@dataclass
class DaskBlocks:
    """See `rows.blocks.Blocks`. `shares` are what the blocks are placed from, `design` makes the samples of them that
    products run over.
    """

    cluster: Cluster
    kernels: Kernels
    like: work.KernelsLike
    shares: Sequence[work.Share]
    design: work.Design
    features: int
    sample_weight: Floats | None
    _placed: list[Placed | None] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _asked: Asked = field(default_factory=Asked)

    def __post_init__(self) -> None:
        self._placed = [None] * len(self.shares)

    @property
    def sizes(self) -> tuple[int, ...]:
        """See the protocol."""
        return tuple(len(share.y) for share in self.shares)

    @property
    def weighted(self) -> bool:
        """See the protocol."""
        return self.shares[0].weights is not None

    def total(self, partial: Partial) -> Sums:
        """See the protocol."""
        found: Sums = self.cluster.until_found(lambda: self._summed(partial))
        return found

    def each(self, partial: Partial) -> list[Sums]:
        """See the protocol."""
        found: list[Sums] = self.cluster.until_found(lambda: self._each(partial))
        return found

    def later(self, partial: Partial) -> Later:
        """See the protocol."""
        return self._asked.later(self, partial)

    def steps(self, W: Array, plan: StepPlan) -> tuple[Array, Array, list[Array]]:
        """See the protocol. Raises UsageError: there are no minibatches on workers."""
        raise UsageError(f"{named('engine', 'dask')} has no minibatches; use {named('solver', 'lbfgs')}.")

    def place(self) -> None:
        """Place all blocks that are not placed. Raises DataError for rows that can't be used."""
        self.cluster.until_found(self._told)

    def _told(self) -> list[Holding] | Lost:
        """`_holdings`, with one warning for workers that do not have the device that was asked for."""
        holdings = self._holdings()
        if isinstance(holdings, Lost) or not self.like.device.startswith("cuda"):
            return holdings
        asked = [self.cluster.submit(work.device_of, one.kernels, at=one.worker) for one in holdings]
        found = self.cluster.fetch_all(asked, [one.worker for one in holdings])
        if isinstance(found, Lost):
            return self._unless_lost(found)
        without = [(one.worker, why) for one, (device, why) in zip(holdings, found, strict=True) if device == "cpu"]
        if without:
            worker, why = without[0]
            warnings.warn(
                f"{named('device', self.like.device)} is not available to {len(without)} of {len(holdings)} Dask "
                f"workers ({worker}: {why}). They run on the CPU.",
                GpuregWarning,
                stacklevel=2,
            )
        return holdings

    def _summed(self, partial: Partial) -> Sums | Lost:
        """The sum over all blocks, by a tree; LOST if a worker is."""
        holdings = self._holdings()
        level = LOST if isinstance(holdings, Lost) else self._started(work.summed, partial, holdings)
        if isinstance(level, Lost):
            return level
        needs = [worker for worker, _ in level]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            above = [(at, self.cluster.submit(added, one, other, at=at)) for (at, one), (_, other) in pairs]
            level = above if len(level) % 2 == 0 else [*above, level[-1]]
        found: Sums | Lost = self.cluster.fetch(level[0][1], needs)
        return self._unless_lost(found)

    def _each(self, partial: Partial) -> list[Sums] | Lost:
        """What each block gives; LOST if a worker is."""
        holdings = self._holdings()
        started = LOST if isinstance(holdings, Lost) else self._started(work.each, partial, holdings)
        if isinstance(holdings, Lost) or isinstance(started, Lost):
            return LOST
        found = self.cluster.fetch_all([future for _, future in started], [worker for worker, _ in started])
        if isinstance(found, Lost):
            return self._unless_lost(found)
        parts: list[Sums] = [()] * len(self.shares)
        for holding, sums in zip(holdings, found, strict=True):
            for number, own in zip(holding.numbers, sums, strict=True):
                parts[number] = own
        return parts

    def _started(
        self, function: Callable[..., Any], partial: Partial, holdings: Sequence[Holding]
    ) -> list[tuple[str, Future]] | Lost:
        """A task on each worker that has blocks: its address, and what will be found."""
        found, shared = [], None
        for holding in holdings:
            mine: Any = [partial.at(number) for number in holding.numbers]
            if all(one is partial for one in mine):  # the others take it from the first worker
                mine = shared = self.cluster.send(partial, holding.worker) if shared is None else shared
            else:
                mine = self.cluster.send(mine, holding.worker)
            if mine is LOST:
                return self._unless_lost(LOST)
            task = self.cluster.submit(function, mine, holding.kernels, holding.blocks, at=holding.worker)
            found.append((holding.worker, task))
        return found

    def _unless_lost(self, found: Any) -> Any:
        """What was found; if that is a loss, blocks of workers that are not there any more are forgotten."""
        if found is LOST:
            with self._lock:
                workers = self.cluster.workers()
                for number, placed in enumerate(self._placed):
                    if placed is not None and placed.worker not in workers:
                        self._placed[number] = None
        return found

    def _holdings(self) -> list[Holding] | Lost:
        """The workers that have blocks, once every block is placed; LOST if a worker is lost meanwhile."""
        with self._lock:
            missing = [n for n, one in enumerate(self._placed) if one is None or not usable(one.block)]
            while missing:
                some = self._dealt(missing)
                if some is None or self._sent(some) is LOST:
                    return self._unless_lost(LOST)
                missing = [number for number in missing if number not in some]
            held: dict[str, list[int]] = {}
            for number, placed in enumerate(self._placed):
                assert placed is not None
                held.setdefault(placed.worker, []).append(number)
            return [
                Holding(worker, self._kernels(worker), numbers, [self._block(number) for number in numbers])
                for worker, numbers in held.items()
            ]

    def _dealt(self, missing: Sequence[int]) -> dict[int, str]:
        """The next blocks to place, and where: those of few rows first, a few for each worker."""
        workers = self.cluster.some_workers()
        rows, waiting = dict.fromkeys(workers, 0), dict.fromkeys(workers, 0)
        for number, placed in enumerate(self._placed):
            if placed is not None and number not in missing and placed.worker in rows:
                rows[placed.worker] += self.sizes[number]
        dealt = {}
        for number in missing:
            worker = min(rows, key=lambda one: rows[one])
            if waiting[worker] == AT_ONCE:
                break
            dealt[number] = worker
            rows[worker] += self.sizes[number]
            waiting[worker] += 1
        return dealt

    def _sent(self, dealt: dict[int, str]) -> Lost | None:
        """Have blocks placed, and wait for it; LOST if a worker is."""
        for number, worker in dealt.items():
            share = self.shares[number]
            piece, held = ahead(self.cluster, share.piece, worker)
            sent = self.cluster.send(share.of(piece), worker)
            if sent is LOST:
                return LOST
            task = self.cluster.submit(work.place, self._kernels(worker), sent, held, self.design, at=worker)
            self._placed[number] = Placed(worker, task)
        return self.cluster.settle([self._block(number) for number in dealt], dealt.values())

    def _block(self, number: int) -> Future:
        placed = self._placed[number]
        assert placed is not None
        return placed.block

    def _kernels(self, worker: str) -> Future:
        return self.cluster.kernels(self.like, worker, work.make_kernels)
