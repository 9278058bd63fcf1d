"""Both configurations of a run as the one table that its config.toml holds, and back."""

from __future__ import annotations

from typing import Any

from gpureg.config.data import DataConfig
from gpureg.config.fit import FitConfig
from gpureg.config.options import options_of, refuse_unknown
from gpureg.errors import UsageError, named


def joined(data: DataConfig, fit: FitConfig) -> dict[str, Any]:
    """Plain values; the names of the two are disjoint."""
    return data.to_dict() | fit.to_dict()


def parted(values: dict[str, Any]) -> tuple[DataConfig, FitConfig]:
    """The inverse of `joined`; a missing name takes its default. Raises UsageError on a name that is not an option."""
    of_data, of_fit = options_of(DataConfig), options_of(FitConfig)
    refuse_unknown(values, [*of_data, *of_fit], "The configuration names")
    data = DataConfig.from_dict({name: value for name, value in values.items() if name in of_data})
    fit = {name: value for name, value in values.items() if name in of_fit}
    for option, usual in (("cv", None), ("seeds", 1)):
        if data.folds is not None and fit.get(option, usual) != usual:
            raise UsageError(
                f"{named('folds', data.folds)} and {named(option, fit[option])} were both given, but the column "
                f"already names the fold of each row. Leave one of them out."
            )
    return data, FitConfig.from_dict(fit, folded=data.folds is not None)
