"""What the caller says about the columns of data: which are used, and what becomes of words and missing values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from gpureg.config import DataConfig
from gpureg.data.labels import listed
from gpureg.errors import DataError, UsageError, named


@dataclass(frozen=True)
class Uses:
    """The columns of the label, of the weights, of groups and of folds; the `features`, or those that are left out
    (`drop`); `one_hot`: columns of words become features; `missing`: what becomes of rows with missing values;
    `stream`: features stay in their file.

    Columns without names are named by their number, from 0.
    """

    target: str | None = None
    weights: str | None = None
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] | None = None
    one_hot: bool = False
    missing: str = DataConfig.missing
    groups: str | None = None
    folds: str | None = None
    stream: bool = False

    @classmethod
    def of(cls, config: DataConfig) -> Uses:
        """Those that a configuration names."""
        return cls(
            config.target,
            config.weights,
            config.features,
            config.drop,
            config.categorical == "one-hot",
            config.missing,
            config.groups,
            config.folds,
            config.stream,
        )

    @property
    def keeps_missing(self) -> bool:
        """Whether missing values are read, as NaN."""
        return self.missing != "refuse"

    @property
    def chooses(self) -> bool:
        """Whether some columns are chosen or left out."""
        return self.features is not None or self.drop is not None

    def chosen(
        self,
        columns: Sequence[str],
        others: Sequence[str],
        where: str,
        hidden: Sequence[str] = (),
        label: str | None = None,
    ) -> tuple[str, ...]:
        """The features among `columns`, in the order of the data; `others` are the label and the weights, and `hidden`
        columns count only if they are named. The `label` can't be left out.

        Raises UsageError for names that are not there or of the label, and if nothing is left.
        """
        there = [*columns, *others, *hidden]
        for option, names in (("features", self.features), ("drop", self.drop)):
            for name in names or ():
                if name not in there:
                    raise UsageError(f"{named(option)}: {where} has no column {name!r}; {_close(name, there)}")
        for name in self.features or ():
            if name in others:
                raise UsageError(
                    f"{named('features')} names {name!r}, which is the label or the weights of {where}. Leave it out, "
                    f"or name another label column with {named('target')}."
                )
        if label is not None and label in (self.drop or ()):
            raise UsageError(
                f"{named('drop')} names {label!r}, which is the label of {where}: {named('target')} names it, else it "
                f"is the last column. Leave it out of {named('drop')}, or name another label column with "
                f"{named('target')}."
            )
        if self.features is not None:
            kept = [name for name in (*columns, *hidden) if name in self.features and name not in others]
        else:
            kept = list(columns)
        found = tuple(name for name in kept if name not in (self.drop or ()))
        if not found and self.chooses:
            raise UsageError(f"{where}: {self.given()} left no feature. Keep at least one column.")
        if not found:
            raise DataError(f"{where} has the columns {listed(there)}: nothing is left as a feature.")
        return found

    @property
    def marks(self) -> dict[str, str]:
        """The columns of groups and folds that are named, by their options."""
        return {
            option: column for option, column in (("groups", self.groups), ("folds", self.folds)) if column is not None
        }

    def marked(self, columns: Sequence[str], others: Sequence[str], where: str) -> dict[str, str]:
        """`marks`, which must be among `columns` and not among `others`, the label and the weights.

        Raises UsageError.
        """
        for option, name in self.marks.items():
            if name not in (*columns, *others):
                raise UsageError(f"{named(option, name)}: {where} has no such column; {_close(name, columns)}")
            if name in others or name in (self.features or ()):
                what = "the label or the weights" if name in others else f"one of {named('features')}"
                raise UsageError(f"{named(option, name)}: that column is {what}. Name another column.")
        return self.marks

    def positions(self, width: int, where: str) -> tuple[int, ...] | None:
        """The features among `width` columns without names, by their number; None for all of them."""
        if not self.chooses:
            return None
        names = tuple(str(index) for index in range(width))
        return tuple(int(name) for name in self.chosen(names, (), where))

    def refuse_choice(self, where: str) -> None:
        """Raise UsageError if columns are named of data that have none."""
        for option, value in (("features", self.features), ("drop", self.drop)):
            if value is not None:
                raise UsageError(
                    f"{named(option, ','.join(value))}: {where} has no columns to name. Leave out {named(option)}."
                )

    def refuse_of_sparse(self, where: str) -> None:
        """Raise UsageError for what sparse rows can't do: they have no columns to name, and no missing values."""
        self.refuse_choice(f"{where}, sparse,")
        if self.keeps_missing:
            raise UsageError(
                f"{named('missing', self.missing)}: {where} is sparse, and what is not stored there is 0, not missing. "
                f"Leave out {named('missing')}."
            )

    def given(self) -> str:
        """The options that choose columns, for a message."""
        return " and ".join(named(o) for o, v in (("features", self.features), ("drop", self.drop)) if v is not None)


def _close(name: str, there: Sequence[str]) -> str:
    """The names that may have been meant, else the existing ones."""
    lower = {column.lower(): column for column in there}
    close = [lower[found] for found in get_close_matches(name.lower(), list(lower), 2, 0.6)]
    return f"did you mean {' or '.join(repr(one) for one in close)}?" if close else f"it has {listed(there, 40)}."


def advice_missing() -> str:
    """What to do about missing values, for a message."""
    return f"Fill them in with {named('missing', 'mean')}, or leave such rows out with {named('missing', 'drop')}."


def not_numbers(where: str, columns: Sequence[str], *, one_hot: bool) -> DataError:
    """The error for columns that can't be features, with what to do."""
    if one_hot:
        return DataError(
            f"{where}: columns that hold neither numbers nor words: {listed(columns, 10)}. Leave out dates and the "
            f"like with {named('drop')}, or store numbers (a year, days since a first day)."
        )
    return DataError(
        f"{where}: columns that do not hold numbers: {listed(columns, 10)}. Make features of words with "
        f"{named('categorical', 'one-hot')}, leave out columns (dates, ids) with {named('drop')}, or name the label "
        f"column with {named('target')}."
    )
