"""`Spread`: samples whose pieces lie, or will lie, on the workers of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.data.pieces import HeldPiece, Piece, Pieces, StreamedPiece, in_pieces
from gpureg.data.sparse import is_sparse
from gpureg.data.streamed import is_streamed
from gpureg.distributed.blocks import DaskBlocks
from gpureg.distributed.cluster import Cluster
from gpureg.distributed.work import Design, KernelsLike, Share
from gpureg.errors import UsageError, named
from gpureg.kernels.protocol import Kernels
from gpureg.rows.blocked import BlockedRows
from gpureg.types import Floats, Ints

BLOCK_BYTES = 1 << 28  # of float64 in a block that a worker places; a block that is lost is read again as a whole


@dataclass(frozen=True)
class Options:
    """The options of a fit that its workers follow."""

    device: str = "auto"
    strict: bool = False
    memory: int = 2 * 2**30
    block_rows: int | None = None


@dataclass(frozen=True)
class Spread(Pieces):
    """`Pieces` with the cluster that reads and keeps them."""

    cluster: Cluster
    options: Options

    def blocks(self, columns: int) -> Pieces:
        """The same rows in pieces, each of which becomes a block of samples of that many `columns`: at least one for
        each worker, if there are as many rows.
        """
        most = min(-(-len(self) // len(self.cluster.some_workers())), BLOCK_BYTES // (8 * columns))
        asked = self.options.block_rows
        return self.cut(max(1, most if asked is None else min(asked, most)))


def spread_over(cluster: Cluster, options: Options, X: Any, names: tuple[str, ...] | None = None) -> Spread:
    """Samples of this process, of files, or in pieces, for the workers of a cluster; `names` are the features', for
    messages. Raises UsageError for sparse ones.
    """
    if is_sparse(X):
        raise UsageError(
            f"The rows are sparse; {named('engine', 'dask')} takes dense rows. Leave out {named('engine')}, or store "
            "the rows as a dense array."
        )
    if not in_pieces(X):
        piece: Piece = StreamedPiece(X, names) if is_streamed(X) else HeldPiece(X, 0, len(X))
        X = Pieces.of([piece] if len(X) else [], X.shape[1], X.dtype)
    return Spread(X.pieces, X.picked, X.width, X.dtype, cluster, options)


@dataclass(frozen=True)
class Placeable:
    """Samples that will be placed on workers, as `design` makes them; it is called there, with rows as they are read,
    and gives a function of the order in which they are stored.
    """

    X: Spread
    design: Design

    def place(
        self, kernels: Kernels, y: Ints, weights: Floats | None, fold: Ints | None, sample_weight: Floats | None
    ) -> BlockedRows:
        """The samples in blocks on the workers; parameters as in `fitting.prepare.place`. Raises DataError."""
        blocks, options = self.X.blocks(self.X.width + 1), self.X.options
        like = KernelsLike(
            kernels.loss,
            2 if kernels.loss.binary else kernels.n_columns,
            kernels.backend.dtype,
            options.device,
            options.strict,
            kernels.name,
            options.memory,
        )
        shares = shares_of(blocks, y, weights, fold, sample_weight)
        features = len(self.design(np.zeros((1, self.X.width)))(None)[0])
        placed = DaskBlocks(self.X.cluster, kernels, like, shares, self.design, features, sample_weight)
        placed.place()
        return BlockedRows(placed)


def shares_of(
    blocks: Pieces, y: Ints, weights: Floats | None, fold: Ints | None, sample_weight: Floats | None
) -> list[Share]:
    """What is placed of each block, of arrays `(N, ...)` about all rows."""
    dealt = (blocks.dealt(values) for values in (y, weights, fold, sample_weight))
    return [Share(*parts) for parts in zip(blocks.pieces, blocks.picked, *dealt, strict=True)]
