"""Pieces that Dask itself makes: partitions of its collections, computed near the worker that will take them."""

from __future__ import annotations

from typing import Any

from gpureg.data.collections import Partition
from gpureg.data.pieces import Piece
from gpureg.distributed.cluster import Cluster, Future


def ahead(cluster: Cluster, piece: Piece, worker: str) -> tuple[Any, Future | None]:
    """A piece as it travels, and if Dask makes its rows, what they will be, on that worker if it can."""
    if not isinstance(piece, Partition):
        return piece, None
    with cluster.reaching():
        held = cluster.client.compute(piece.delayed, workers=[worker], allow_other_workers=True)
    return piece.told(), held
