"""A model on the files of a data set, each read and predicted by a worker: predictions in order, or a file for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import Blocks, Request, open_blocks
from gpureg.data.files import existing
from gpureg.data.npy_matrix import npy_files
from gpureg.data.parquet_folder import files_in
from gpureg.distributed.cluster import Cluster
from gpureg.distributed.in_order import in_order
from gpureg.errors import DataError, UsageError, named
from gpureg.model.evaluation import labelled_rows
from gpureg.model.linear import LinearModel
from gpureg.model.rows import Rows, joined
from gpureg.storage.predictions import Layout, Write, open_predictions, predict_rows

Predicted = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Any]]  # codes, probabilities, kept columns
A = TypeVar("A")
Told = tuple[A, list[str]]  # a result, and notices about the rows
SUFFIX = ".parquet"


@dataclass(frozen=True)
class Part:
    """A file of a data set, `number` of them from 0."""

    number: int
    path: str


@dataclass(frozen=True)
class Predictor:
    """The model `index` of `model`, and what is read of new rows."""

    model: LinearModel
    index: int
    request: Request

    def predicted(self, part: Part) -> Told[Predicted]:
        """Labels and probabilities of a file's rows, block by block."""
        found: Predicted = []
        notices: list[str] = []
        predict_rows(self.model, self.index, self._blocks(part, notices), lambda *block: found.append(block))
        return found, notices

    def written(self, folder: str, layout: Layout, part: Part) -> Told[int]:
        """Write the predictions of a file's rows into a folder; the number of rows."""
        notices: list[str] = []
        with open_predictions(Path(folder) / f"part-{part.number:05d}{SUFFIX}", layout) as write:
            return predict_rows(self.model, self.index, self._blocks(part, notices), write), notices

    def labelled(self, part: Part) -> Told[Rows]:
        """A file's rows with their labels, predicted. Raises DataError."""
        notices: list[str] = []
        return labelled_rows(self.model, self.index, self._blocks(part, notices)), notices

    def _blocks(self, part: Part, notices: list[str]) -> Blocks:
        """The rows of a file, and what they held that the user should know."""
        return open_blocks(part.path, self.request, tell=notices.append)


@dataclass(frozen=True)
class Job:
    """A predictor for the parts of a data set, on the workers of a cluster; `tell` is given notices about the rows."""

    cluster: Cluster
    predictor: Predictor
    parts: list[Part]
    tell: Callable[[str], None]

    def done(self, function: Callable[[Part], Told[A]]) -> Iterator[A]:
        """What a function of the predictor gives for each part, in order."""
        for found, notices in in_order(self.cluster, function, self.parts):
            for notice in notices:
                self.tell(notice)
            yield found

    def predict(self, write: Write) -> int:
        """Predict every part on workers, and write in their order; returns the number of rows."""
        rows = 0
        for blocks in self.done(self.predictor.predicted):
            for codes, probabilities, kept in blocks:
                write(codes, probabilities, kept)
                rows += len(codes)
        return rows

    def write(self, out: Path, layout: Layout) -> int:
        """Have workers write the predictions of every part into a folder that they share; returns the number of rows.

        The folder takes its place when all are written. Raises UsageError if there is something already.
        """
        with _whole(out) as folder:
            return sum(self.done(partial(self.predictor.written, str(folder), layout)))

    def evaluated(self) -> Rows:
        """The labelled rows of every part, predicted, in their order."""
        return joined(list(self.done(self.predictor.labelled)))


def parts_of(data: str) -> list[Part]:
    """The files of a data set: those of a folder of Parquet or npy files, or a single file. Raises UsageError."""
    path = existing(data, "DATA")
    files = (list(files_in(path)) or npy_files(path)) if path.is_dir() else []
    if any("=" in str(file.relative_to(path).parent) for file in files):
        raise DataError(
            f"{path}: its folders name columns, which are not in the files that workers read. Leave out "
            f"{named('engine')}, or write the columns into the files."
        )
    return [Part(number, str(file.absolute())) for number, file in enumerate(files or [path])]


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder next to `out`, which takes its place if the block ends well, and is removed if not."""
    if out.exists():
        raise UsageError(f"{named('out', str(out))} is there already; expected the name of a new folder.")
    folder = out.absolute().with_name(f".{out.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.rename(out)
    except OSError as error:
        raise UsageError(
            f"{named('out', str(out))} can't be written ({error.strerror or error}); give another path."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
