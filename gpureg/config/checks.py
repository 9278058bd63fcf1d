"""Options of a fit that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpureg.errors import UsageError, named

if TYPE_CHECKING:
    from gpureg.config.fit import FitConfig


def check_together(config: FitConfig) -> None:
    """Raise UsageError for values that are each allowed, but not together."""
    _check_engine(config)
    if config.seed + config.seeds > 2**32:
        raise UsageError(
            f"{named('seed', config.seed)} with {named('seeds', config.seeds)}: expected seeds below 2**32, the limit "
            "of the random stream."
        )
    if config.refit == "all" and config.keep == "best":
        raise UsageError(
            f"{named('refit', 'all')} trains for a fixed number of steps and leaves no validation rows by which "
            f"{named('keep', 'best')} could choose. Give {named('keep', 'last')} or "
            f"{named('refit', 'train')}."
        )
    if config.select == "1se" and config.cv is None:
        raise UsageError(
            f"{named('select', '1se')} needs the standard errors of a cross-validation; add {named('cv', 5)}."
        )


def _check_engine(config: FitConfig) -> None:
    """Raise UsageError for workers without the engine that has them, and for workers of two kinds."""
    given = [name for name in ("scheduler", "workers") if getattr(config, name) is not None]
    if given and config.engine != "dask":
        raise UsageError(
            f"{named(given[0], getattr(config, given[0]))} is for {named('engine', 'dask')}, but the engine is "
            f"{config.engine}. Add {named('engine', 'dask')}, or leave out {named(given[0])}."
        )
    if len(given) > 1:
        raise UsageError(
            f"{named('scheduler', config.scheduler)} and {named('workers', config.workers)} were both given: the "
            "workers are those of a running scheduler, or are started here. Leave one of them out."
        )
