"""Blocks that are read ahead of use: while one is worked on, a thread reads the next and makes it a design matrix."""

from __future__ import annotations

import contextvars
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gpureg.data.design import Designer
from gpureg.data.scaling import block_rows
from gpureg.data.streamed import Streamed
from gpureg.kernels.protocol import Block, Kernels
from gpureg.rows.folding import Fold
from gpureg.rows.stretches import Lane, Stretch
from gpureg.types import Array, Floats, Ints

Filled = tuple[Array, Ints | None]  # a block's samples, and the order in which they are stored
BUFFERS = 2  # one that is worked on, and one that is filled meanwhile


@dataclass
class Meter:
    """How much has been read: `rows`, and `size` in bytes of the file's numbers. `tell(rows, size)` hears it after each
    block.
    """

    tell: Callable[[int, int], None] = lambda rows, size: None
    rows: int = 0
    size: int = 0

    def add(self, rows: int, size: int) -> None:
        """A block has been read."""
        self.rows, self.size = self.rows + rows, self.size + size
        self.tell(self.rows, self.size)


class Buffers:
    """The memory of the blocks that are read, room for `(rows, D)` numbers each. All rows of a fit share it, since a
    pass ends before another begins; it is made when it is first needed.
    """

    def __init__(self, rows: int, dtype: str) -> None:
        self.rows, self.dtype = rows, dtype
        self.lock = threading.Lock()  # held during a pass
        self._made: list[Array] = []

    def get(self, rows: int, features: int) -> list[Array]:
        """Arrays of at least `(rows, features)` numbers."""
        size = min(self.rows, max(rows, 1)) * features
        if not self._made or len(self._made[0]) < size:
            self._made = []  # before larger ones are made
            self._made = [np.empty(size, self.dtype) for _ in range(BUFFERS)]
        return self._made

    def release(self) -> None:
        """Give the memory back until it is needed again."""
        with self.lock:
            self._made = []


@dataclass(frozen=True)
class HostRows:
    """What the blocks of some rows are made from, on the host and in the order of the data: features `X (N, F)`, held
    or streamed, class indices `y (N,)`, the row-weight table `(N, T)` or None, what a row counts in an evaluation
    `(N,)` or None, and the fold in which it is held out `(N,)`, None without.
    """

    X: Any
    y: Ints
    weights: Array | None = None
    sample_weight: Floats | None = None
    fold: Ints | None = None


@dataclass(frozen=True)
class BlockSource:
    """Makes the blocks of some rows, `bounds[k] ... bounds[k + 1] - 1` each. `folds`: whether the products of rows as
    they are stored take the place of those of scaled ones, if they can.
    """

    kernels: Kernels
    rows: HostRows
    designer: Designer
    bounds: tuple[int, ...]
    buffers: Buffers
    meter: Meter
    folds: bool = False
    _seen: set[int] = field(default_factory=set)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The samples in each block."""
        return tuple(stop - start for start, stop in itertools.pairwise(self.bounds))

    def order(self, number: int) -> Ints | None:
        """The order in which the samples of a block are stored; see `LocalBlocks`."""
        part = slice(self.bounds[number], self.bounds[number + 1])
        return self.kernels.storage_order(self.rows.y[part], None if self.rows.fold is None else self.rows.fold[part])

    @cached_property
    def fold(self) -> Fold | None:
        """What scales the products of rows as they are stored; None: they are scaled themselves."""
        folded = self.designer.folded if self.folds and self.kernels.backend.name == "numpy" else None
        return None if folded is None else Fold(*folded)

    def made(self, numbers: Sequence[int], *, scaled: bool = True) -> Iterator[Block]:
        """Blocks of rows that are held, one after the other."""
        for number in numbers:
            memory = np.empty(self.sizes[number] * self.designer.width, self.designer.dtype)
            yield self._placed(number, *self.fill(_Held(self.rows.X), number, memory, scaled=scaled), scaled=scaled)

    def ahead(self, numbers: Sequence[int], *, scaled: bool = True) -> Iterator[Block]:
        """Blocks of streamed rows, one after the other; each is gone when the next is asked for. Raises what reading
        raises.
        """
        with self.buffers.lock:
            buffers = self.buffers.get(max(self.sizes), self.designer.width)
            pass_ = _Pass(self, numbers, buffers, scaled=scaled)
            try:
                for number in numbers:
                    X, order = pass_.next()
                    self._tell(number)
                    yield self._placed(number, X, order, scaled=scaled)
                    pass_.give_back()
                pass_.finish()
            finally:
                pass_.end()

    def stretches(self, numbers: Sequence[int]) -> Iterator[Block]:
        """Blocks of streamed rows as they are stored, which the kernels' threads read themselves, each a tile at a time
        into memory that stays in its cache: nothing is read ahead, and no block is ever whole. Raises what reading
        raises.
        """
        if not self._seen.issuperset(numbers):  # values that overflow are looked for in a block that is read first
            yield from self.ahead(numbers, scaled=False)
            return
        with self.rows.X.opened() as opened:
            lanes = [Lane(opened.lane(), self.designer) for _ in range(self.kernels.lanes)]
            for number in numbers:
                self._tell(number)
                yield self._placed(number, Stretch(lanes, self.bounds[number]), None, scaled=False)

    def fill(self, rows: Any, number: int, memory: Array, *, scaled: bool = True) -> Filled:
        """Write block `number` to `memory`, in the order in which it is stored; the samples and that are returned.
        Raises DataError if a scaled value overflows, also when a block is first written as it is stored.
        """
        start, stop = self.bounds[number], self.bounds[number + 1]
        X, out, order = self._shaped(memory, number, scaled=scaled)
        size = min(block_rows(self.designer.width), stop - start)
        work, first, places = self.designer.work(size), 0, None
        if order is not None:
            places = np.empty(len(order), np.int64)
            places[order] = np.arange(len(order))
        checks = not scaled and number not in self._seen
        for piece in rows.pieces(start, stop):
            like = piece.dtype == work.dtype and not checks
            inside = like and scaled and rows.may_change and piece.flags.writeable  # worked on where they lie
            step = len(piece) if inside or (like and not scaled) else size
            for begin in range(0, len(piece), step):
                part = piece[begin : begin + step]
                where = slice(first, first + len(part)) if places is None else places[first : first + len(part)]
                if scaled:
                    self.designer.write(part, out, where, part if inside else work)
                elif checks:
                    self.designer.check(part, work)
                if not scaled:
                    self.designer.copy(part, out, where, work)
                first += len(part)
        self._seen.add(number)
        return X, order

    def _shaped(self, memory: Array, number: int, *, scaled: bool) -> tuple[Array, Array, Ints | None]:
        """The samples of a block in `memory`, those of their columns that are features, and their order."""
        n, D = self.sizes[number], self.designer.width
        if not scaled and self.kernels.bare:
            X = memory[: n * (D - 1)].reshape(n, D - 1)
            return X, X, None
        X = memory[: n * D].reshape(n, D)
        X[:, -1] = 1
        return X, X[:, :-1], self.order(number)

    def _tell(self, number: int) -> None:
        """A block is there, or about to be read."""
        size = self.sizes[number]
        self.meter.add(size, size * (self.designer.width - 1) * self.rows.X.dtype.itemsize)

    def _placed(self, number: int, X: Array | Stretch, order: Ints | None, *, scaled: bool) -> Block:
        """The block of samples `X (n, D)`, which are in the order in which they are stored."""
        rows = self.rows
        part: Any = slice(self.bounds[number], self.bounds[number + 1])
        part = part if order is None else part.start + order
        weights, sample_weight = (
            None if values is None else values[part] for values in (rows.weights, rows.sample_weight)
        )
        if not scaled and self.kernels.bare:
            return self.kernels.place_bare(X, rows.y[part], weights, sample_weight)
        return self.kernels.place(X, rows.y[part], weights, order, sample_weight)


class _Held:
    """An array's rows as `streamed.Opened` has them."""

    may_change = False

    def __init__(self, X: Array) -> None:
        self._X = X

    def pieces(self, start: int, stop: int) -> Iterator[Array]:
        yield self._X[start:stop]


class _Pass:
    """A thread that fills buffers, and what it hands over."""

    def __init__(self, source: BlockSource, numbers: Sequence[int], buffers: Sequence[Array], *, scaled: bool) -> None:
        self._source, self._numbers, self._scaled = source, numbers, scaled
        self._free: queue.SimpleQueue[Array] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[tuple[Array, Filled] | BaseException | None] = queue.SimpleQueue()
        self._ended = False
        self._current: Array = None
        for buffer in buffers:
            self._free.put(buffer)
        context = contextvars.copy_context()  # messages speak the caller's language
        self._thread = threading.Thread(target=context.run, args=(self._read,), name="gpureg-read", daemon=True)
        self._thread.start()

    def next(self) -> Filled:
        """The next block. Raises what reading it has raised."""
        found = self._filled.get()
        if isinstance(found, BaseException):
            raise found
        assert found is not None, "fewer blocks than were asked for"
        self._current, filled = found
        return filled

    def give_back(self) -> None:
        """The block is not needed any more."""
        self._free.put(self._current)

    def finish(self) -> None:
        """After the last block. Raises what closing the file has raised: it may no longer be what it was."""
        found = self._filled.get()
        if isinstance(found, BaseException):
            raise found

    def end(self) -> None:
        """No more blocks; wait until the thread has seen it."""
        self._ended = True
        self._free.put(None)
        self._thread.join()

    def _read(self) -> None:
        X = self._source.rows.X
        opened: AbstractContextManager[Any] = X.opened() if isinstance(X, Streamed) else nullcontext(_Held(X))
        try:
            with opened as rows:
                for number in self._numbers:
                    buffer = self._free.get()
                    if self._ended:
                        return
                    self._filled.put((buffer, self._source.fill(rows, number, buffer, scaled=self._scaled)))
            self._filled.put(None)
        except BaseException as error:  # raised where the block was waited for
            self._filled.put(error)
