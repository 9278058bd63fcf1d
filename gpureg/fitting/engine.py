"""Where a fit works: in this process, or with its rows on Dask's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.data.pieces import in_pieces
from gpureg.events import EngineReady, Event


@contextmanager
def on_engine(data: Dataset, config: FitConfig, observe: Callable[[Event], None]) -> Iterator[Dataset]:
    """The data where the fit's engine wants them: as they are, or for Dask's workers, which are there within the block.

    Raises UsageError for workers that are not there, EngineError later, if they are lost.
    """
    if config.engine == "local":
        yield data
        return
    from gpureg.distributed.connecting import connected, describe
    from gpureg.distributed.spread import Options, spread_over

    own = in_pieces(data.X_train)
    with connected(config.scheduler, config.workers, dask_data=own) as cluster:
        observe(EngineReady(describe(cluster)))
        options = Options(config.device, config.strict_device, config.memory, config.block_rows)
        X_train, X_val = (spread_over(cluster, options, X, data.feature_names) for X in (data.X_train, data.X_val))
        spread = replace(data, X_train=X_train, X_val=X_val)  # type: ignore[arg-type]  # rows that lie elsewhere
        yield spread.loaded(data.options, data.whole)
