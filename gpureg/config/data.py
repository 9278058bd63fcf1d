"""`DataConfig`: which data to load, which of their columns and rows, and how to split them."""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

from gpureg.config.names import CATEGORICALS, MISSINGS
from gpureg.config.options import About, check_options, options_of, refuse_unknown, to_plain
from gpureg.errors import UsageError, named

Label = int | float | str


@dataclass(frozen=True)
class DataConfig:
    """The data of a fit. None means what the data themselves imply: all classes, all rows, the last column, ...

    Raises UsageError.
    """

    dataset: Annotated[
        str,
        About(
            "mnist, fashion-mnist, digits (built in), or a path: npz, npy, csv, parquet (or a folder), idx, svmlight.",
            "Data",
            metavar="NAME|PATH",
            path=True,
        ),
    ] = "mnist"
    classes: Annotated[
        tuple[Label, ...] | None,
        About(
            "Keep these classes, e.g. 2,3; for logistic the first is the positive one.",
            "Data",
            shown="all; for logistic on mnist 2,3",
            metavar="A,B,...",
        ),
    ] = None
    train_size: Annotated[
        int | None,
        About(
            "Use only the first N training rows, taken before classes are selected.",
            "Data",
            least=1,
            shown="all; mnist: 20000",
        ),
    ] = None
    val_size: Annotated[
        int | None,
        About(
            "Use only the first N validation rows; if the data have none, the size of a stratified split.",
            "Data",
            least=0,
            shown="all, or a 20% split; mnist: 10000",
        ),
    ] = None
    target: Annotated[str | None, About("The label column of a table.", "Data", shown="the last", metavar="COLUMN")] = (
        None
    )
    weights: Annotated[
        str | None, About("The column of sample weights of a table.", "Data", shown="none", metavar="COLUMN")
    ] = None
    groups: Annotated[
        str | None,
        About(
            "Rows with the same value in this column stay together, in the validation split and in folds.",
            "Data",
            shown="none",
            metavar="COLUMN",
        ),
    ] = None
    folds: Annotated[
        str | None,
        About(
            "A column that names each row's fold, in place of --cv.",
            "Data",
            shown="none",
            metavar="COLUMN",
        ),
    ] = None
    features: Annotated[
        tuple[str, ...] | None,
        About(
            "Use only these columns; by number, from 0, if they have no names.",
            "Data",
            shown="all",
            metavar="A,B,...",
        ),
    ] = None
    drop: Annotated[
        tuple[str, ...] | None,
        About("Leave out these columns, named in the same way.", "Data", shown="none", metavar="A,B,..."),
    ] = None
    categorical: Annotated[
        str,
        About(
            "Columns of words: refuse, or one-hot: a 0/1 feature for each category of the training rows.",
            "Data",
            choices=CATEGORICALS,
        ),
    ] = "refuse"
    missing: Annotated[
        str,
        About(
            "Missing values: refuse, mean (of the training rows; a missing word is a category), or drop such rows.",
            "Data",
            choices=MISSINGS,
        ),
    ] = "refuse"
    labels: Annotated[
        str | None,
        About(
            "The labels of an X.npy or a sparse npz: npy, txt, csv, parquet, npz.",
            "Data",
            shown="the last column",
            metavar="FILE",
            path=True,
        ),
    ] = None
    val: Annotated[
        str | None,
        About(
            "A validation set of your own, with the label and weights in columns of the same names.",
            "Data",
            shown="none",
            metavar="FILE",
            path=True,
        ),
    ] = None
    test: Annotated[
        str | None,
        About(
            "A test set: the chosen model is evaluated on it once, at the end.",
            "Data",
            shown="none",
            metavar="FILE",
            path=True,
        ),
    ] = None

    stream: Annotated[
        bool,
        About(
            "Read the rows in blocks during the fit instead of holding them: npy, uncompressed npz, idx, parquet.",
            "Data",
        ),
    ] = False

    def __post_init__(self) -> None:
        for option in ("features", "drop"):
            object.__setattr__(self, option, _columns(getattr(self, option), option))
        check_options(self)

    def absolute(self, names: Container[str]) -> DataConfig:
        """The same data, found from any folder: paths are made absolute; a name among `names` is not a path."""
        paths = {name: getattr(self, name) for name, option in options_of(DataConfig).items() if option.about.path}
        moved = {name: _absolute(value) for name, value in paths.items() if value and value not in names}
        return DataConfig(**self.to_dict() | moved)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.toml` holds them."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataConfig:
        """The inverse of `to_dict`. Raises UsageError on a name that is not an option."""
        refuse_unknown(values, [field.name for field in fields(cls)], "The configuration names")
        return cls(**values)


def _columns(names: Any, option: str) -> Any:
    """Names of columns; a numbered column may be an int. In a text, a name that holds a comma stands in quotes."""
    if isinstance(names, str):
        names = [name.strip() for name in next(csv.reader([names], skipinitialspace=True), [])]
        if "" in names or not names:
            raise UsageError(f"{named(option)} is empty or has an empty name; expected names of columns: a,b,...")
    if isinstance(names, int) and not isinstance(names, bool):
        names = [names]
    if names is None or not hasattr(names, "__iter__"):
        return names
    return [str(name) if hasattr(name, "__index__") and not isinstance(name, bool) else name for name in names]


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:  # the home of a user that does not exist: reading it says so
        return path


class DataOptions(TypedDict, total=False):
    """The fields of `DataConfig` in addition to the data set's name, as `load_dataset` takes them."""

    classes: Sequence[object] | None
    train_size: int | None
    val_size: int | None
    target: str | None
    weights: str | None
    groups: str | None
    folds: str | None
    features: Sequence[str | int] | None
    drop: Sequence[str | int] | None
    categorical: str
    missing: str
    labels: str | None
    val: str | None
    test: str | None
    stream: bool
