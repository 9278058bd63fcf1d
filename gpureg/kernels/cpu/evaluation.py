"""An evaluation in NumPy, as tiles that the next free thread takes: it can run alongside the training steps."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from gpureg.kernels.cpu.rows import NumpyRows, tiles_of
from gpureg.kernels.cpu.tiles import TileLoss, padded
from gpureg.kernels.cpu.workers import Workers
from gpureg.types import Array, Floats


class TiledEvaluation:
    """Loss and hits of the columns W `(D, M*K)` on `rows`. Every tile's sums have a place of their own and are added
    in the order of the tiles, so that the bits do not depend on which thread took which tile, or when.
    """

    def __init__(
        self, workers: Workers, tile: type[TileLoss], K: int, W: Array, rows: NumpyRows, with_loss: bool
    ) -> None:
        self.workers, self.tile, self.K, self.rows, self.with_loss = workers, tile, K, rows, with_loss
        self.columns = padded(W)
        self.size = rows.tile_of(W.shape[0], W.itemsize)
        self.tiles = tiles_of(rows, self.size)
        models = W.shape[1] // K
        self.loss_sums = np.zeros((len(self.tiles), models))
        self.hit_counts = np.zeros((len(self.tiles), models))
        self._next, self._lanes = itertools.count(), itertools.count()
        self._others: list[Future[None]] = []
        self._release: Callable[[], object] | None = None

    def start(self) -> TiledEvaluation:
        """Let the other threads begin now; without it they begin when the result is asked for."""
        self.workers.hold()
        # if abandoned (an error elsewhere, a closed generator), it still restores the BLAS thread limit
        self._release = weakref.finalize(self, self.workers.release)
        helpers = min(self.workers.count - 1, len(self.tiles) - 1)
        self._others = [self.workers.submit(self._take_tiles) for _ in range(helpers)]
        return self

    def result(self) -> tuple[Floats, Floats]:
        """Help until the last tile is taken, wait, and add up: the sums of losses in nats and of hits, each `(M,)`."""
        if self._release is None:
            self.start()
        try:
            self._take_tiles()
            for other in self._others:
                other.result()
        finally:
            assert self._release is not None
            self._release()
        return self.loss_sums.sum(axis=0), self.hit_counts.sum(axis=0)

    def _take_tiles(self) -> None:
        tile = self.tile(self.loss_sums.shape[1], self.K, self.size, self.columns.dtype)
        X = self.rows.lane(next(self._lanes))
        with np.errstate(all="ignore"):
            for number in self._next:
                if number >= len(self.tiles):
                    return
                start, stop, labels = self.tiles[number]
                loss = self.loss_sums[number] if self.with_loss else None
                weight = self.rows.sample_weight
                mass = None if weight is None else weight[start:stop]
                tile.run(self.columns, X[start:stop], labels, mass, loss, self.hit_counts[number])
