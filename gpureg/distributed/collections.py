"""Dask's collections as results: a function of rows, partition by partition, when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def by_partitions(X: Any, function: Callable[[Any], Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The Dask array `(N, *shape)` of what a function gives for each partition of a Dask array or data frame X."""
    import dask
    import dask.array as da

    if hasattr(X, "columns"):
        parts, sizes = X.to_delayed(), [float("nan")] * X.npartitions
    else:
        X = X if len(X.chunks[1]) == 1 else X.rechunk({1: -1})
        parts, sizes = X.to_delayed()[:, 0], list(X.chunks[0])
    run = dask.delayed(function, pure=True)
    blocks = [da.from_delayed(run(part), (size, *shape), dtype=dtype) for part, size in zip(parts, sizes, strict=True)]
    return da.concatenate(blocks, axis=0)
