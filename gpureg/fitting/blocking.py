"""How a fit cuts its rows in blocks: whether, how large they are, and what streaming them takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling
from gpureg.data.design import Designer
from gpureg.data.pieces import in_pieces
from gpureg.data.sparse import is_sparse
from gpureg.data.streamed import is_streamed
from gpureg.errors import UsageError, named, size_text
from gpureg.events import Event, RowsRead, StreamBegun
from gpureg.kernels.protocol import Kernels
from gpureg.rows.ahead import BUFFERS, BlockSource, Buffers, HostRows, Meter
from gpureg.rows.blocked import BlockedRows
from gpureg.rows.blocks import LocalBlocks, Read, in_memory
from gpureg.rows.folding import AsStored
from gpureg.solvers.choice import choose_solver
from gpureg.solvers.protocol import Solver
from gpureg.types import Ints


@dataclass(frozen=True)
class Blocking:
    """The `rows` of a block; `buffers` and `meter` of those that are streamed; `streams`: whether some are; `folds`:
    whether the products of a pass take rows as they are stored, if they can.
    """

    rows: int
    buffers: Buffers
    streams: bool
    meter: Meter
    folds: bool = False

    @classmethod
    def of(
        cls, data: Dataset, config: FitConfig, observe: Callable[[Event], None], *, minibatches: bool, one_model: int
    ) -> Blocking | None:
        """That of a fit, with `minibatches` or without; None if its rows are in one piece. `one_model`: what the work
        arrays of a model take, in bytes.

        Raises UsageError for options that can't go together, and for blocks that exceed the budget.
        """
        if in_pieces(data.X_train):  # workers place them as blocks of their own
            return None
        streams = is_streamed(data.X_train)
        _check(data, config, streams=streams, minibatches=minibatches)
        rows, cut = config.rows_of_a_block, streams or config.block_rows is not None or config.shuffle_by == "blocks"
        if not cut or is_sparse(data.X_train):
            return None
        if streams:
            _check_budget(rows, data, config, one_model)
        meter = Meter(lambda rows, size: observe(RowsRead(rows, size)))
        return cls(rows, Buffers(rows, config.dtype), streams, meter, folds=not minibatches)

    def place(self, kernels: Kernels, rows: HostRows, scaling: Scaling, dtype: str) -> BlockedRows:
        """Rows in blocks; those of an array are placed now, and streamed ones in each pass."""
        if rows.weights is not None:
            rows = replace(rows, weights=np.asarray(rows.weights, dtype))
        n = len(rows.y)
        designer = Designer.of(scaling, dtype, rows.X.dtype)
        bounds = (*range(0, n, self.rows), n)
        source = BlockSource(kernels, rows, designer, bounds, self.buffers, self.meter, self.folds)
        fold, streams, every = source.fold, is_streamed(rows.X), range(len(source.sizes))
        again = source.ahead if streams else source.made
        stored: Read = partial(again, scaled=False)
        order: Callable[[int], Ints | None] = source.order
        if not streams:
            stored = in_memory(list(source.made(every, scaled=fold is None)))
            order = [source.order(number) for number in every].__getitem__
        read = stored if fold is None and not streams else again
        once = source.stretches if streams and kernels.bare and rows.X.anywhere else stored
        as_stored = None if fold is None else AsStored(fold, stored, once)
        weighted = rows.weights is not None
        return BlockedRows(
            LocalBlocks(
                kernels, source.sizes, designer.width, weighted, rows.sample_weight, read, order, as_stored=as_stored
            )
        )

    def in_double(self) -> Blocking:
        """The same for float64; streamed blocks of half the rows, so that they take no more memory."""
        rows = max(1, self.rows // 2) if self.streams else self.rows
        return replace(self, rows=rows, buffers=Buffers(rows, "float64"))

    def begun(self, data: Dataset, kernels: Kernels, needed: int) -> StreamBegun:
        """What an observer is told of a fit that streams, and whose rows and work arrays take `needed` bytes."""
        X: Any = data.X_train
        size = self.bytes_of(data, kernels.backend.dtype)
        return StreamBegun(X.shape[0], self.rows, size, needed + X.overhead(kernels.lanes))

    def bytes_of(self, data: Dataset, dtype: str) -> int:
        """What the blocks in memory take."""
        return _two_blocks(self.rows, data.X_train, dtype)


def with_solver(config: FitConfig, data: Dataset) -> tuple[FitConfig, Solver]:
    """The configuration, which shuffles streamed rows by blocks if it does not say otherwise, and its solver."""
    solver = choose_solver(config)
    if solver.minibatches and config.shuffle_by is None and is_streamed(data.X_train):
        config = replace(config, shuffle_by="blocks")
        solver = choose_solver(config)
    return config, solver


def _two_blocks(rows: int, X: Any, dtype: str) -> int:
    return BUFFERS * min(rows, X.shape[0]) * (X.shape[1] + 1) * np.dtype(dtype).itemsize


def _check(data: Dataset, config: FitConfig, *, streams: bool, minibatches: bool) -> None:
    """Raise UsageError for options that can't go together."""
    by_blocks = config.shuffle_by == "blocks"
    if is_sparse(data.X_train):
        if config.block_rows is not None and not by_blocks:
            raise UsageError(
                f"{named('block_rows', config.block_rows)}: the rows of {data.name} are sparse, and are not cut in "
                f"blocks. Leave out {named('block_rows')}."
            )
        return
    if minibatches and streams and not data.X_train.asked:  # type: ignore[attr-defined]
        raise UsageError(
            f"The rows of {data.name} take more than half of this machine's memory, and minibatches are streamed only "
            f"when told: give {named('stream', True)}, whose order is {named('shuffle_by', 'blocks')}, or "
            f"{named('solver', 'lbfgs')}."
        )
    if not minibatches or not config.shuffle or by_blocks:
        return
    if streams:
        raise UsageError(
            f"{named('shuffle_by', 'rows')} needs rows that are held, but {named('stream', True)} was given: it reads "
            f"blocks of rows. Give {named('shuffle_by', 'blocks')}, or leave {named('shuffle_by')} or "
            f"{named('stream')} out."
        )
    if config.block_rows is not None:
        raise UsageError(
            f"{named('block_rows', config.block_rows)}: with {named('shuffle_by', 'rows')} a minibatch has rows of "
            f"every block. Give {named('shuffle_by', 'blocks')}, or leave out {named('block_rows')}."
        )


def _check_budget(rows: int, data: Dataset, config: FitConfig, one_model: int) -> None:
    """Raise UsageError if the blocks that are in memory, and the work arrays of one model, exceed the budget."""
    size = _two_blocks(rows, data.X_train, config.dtype)
    if size + one_model <= config.memory:
        return
    fits = (config.memory - one_model) // _two_blocks(1, data.X_train, config.dtype)
    if fits < 1:
        raise UsageError(
            f"{named('memory')} {size_text(config.memory)} is too small for the work arrays of one model, "
            f"{size_text(one_model)}, and two rows of {data.X_train.shape[1]:,} features; give a larger "
            f"{named('memory')}."
        )
    raise UsageError(
        f"{named('memory')} is {size_text(config.memory)}, but two blocks of {min(rows, data.X_train.shape[0]):,} rows "
        f"take {size_text(size)}, one that is worked on and one that is read ahead, and the work arrays of one model "
        f"{size_text(one_model)}. Give {named('block_rows', fits)} or less, or a larger {named('memory')}."
    )
