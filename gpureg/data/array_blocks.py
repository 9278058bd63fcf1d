"""Blocks of rows from arrays: npy and npz files and IDX images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpureg.data.array_streams import ArrayStream, Matrix, idx_stream, npy_stream, npz_stream, numpy_errors
from gpureg.data.arrays import label_column
from gpureg.data.blocks import Block, Blocks, Columns, Request, checked_weights, choose_columns
from gpureg.data.files import existing
from gpureg.data.idx_set import images_in, labels_of, validation_of
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import find_labels, listed
from gpureg.data.limits import machine_limit
from gpureg.data.matching import Expected
from gpureg.data.npy_matrix import npy_files
from gpureg.data.opening import refuse_special
from gpureg.data.raw import check_lengths
from gpureg.data.uses import Uses
from gpureg.errors import UsageError, named

Arrays = Mapping[str, ArrayStream]
Opened = Callable[[ExitStack], Arrays]


@dataclass(frozen=True)
class _Uses:
    """Which of a file's arrays are which."""

    X: str
    label: str | None = None
    weights: str | None = None
    keep: tuple[str, ...] = ()

    def all(self) -> tuple[str, ...]:
        """Each array that is read, once."""
        others = (name for name in (self.label, self.weights) if name is not None)
        return tuple(dict.fromkeys((self.X, *others, *self.keep)))


def npy_blocks(file: Path, request: Request) -> Blocks:
    """The rows of an npy file: features alone, or among them a label and weights, which are named by number. Of a
    folder those of its files, one after the other.
    """
    if file.is_dir():
        return _of_folder(file, request)
    refuse_special(file)
    _refuse_words(file, request)

    def opened(stack: ExitStack) -> Arrays:
        return {"X": npy_stream(stack.enter_context(file.open("rb")), str(file), searchable=True)}

    array, F = _headers(file, opened)["X"], request.expected.n_features
    array.check_numbers()
    if request.labels is not None:
        return Blocks(str(file), _schema({}), _labelled_rows(file, opened, array.shape[0], request))
    if len(array.shape) == 3 or (array.width == F and not request.labelled and not request.keep):
        _refuse_options(file, request)
        return Blocks(str(file), _schema({}), _rows(file, opened, _Uses("X"), request))
    names = tuple(str(index) for index in range(array.width))
    own = request.own_target if request.own_target in names else None
    by_number = replace(request, expected=Expected(F), own_target=own)
    chosen = choose_columns(names, (), by_number, str(file))
    schema = _schema(dict.fromkeys(chosen.keep, array.dtype))
    return Blocks(str(file), schema, _matrix_rows(file, opened, chosen, request), chosen.notices)


def _of_folder(folder: Path, request: Request) -> Blocks:
    if request.labels is not None:
        raise UsageError(f"{named('labels', request.labels)} is for the rows of one file, but {folder} is a folder.")
    files = [npy_blocks(file, request) for file in npy_files(folder)]

    def rows() -> Iterator[Block]:
        first = 0
        for blocks in files:
            last = first
            for block in blocks.rows:
                last = first + block.first + len(block.X)
                yield replace(block, first=first + block.first, file=(blocks.where, block.first))
            first = last

    notices = dict.fromkeys(notice for blocks in files for notice in blocks.notices)
    return Blocks(str(folder), files[0].schema, rows(), tuple(notices))


def _labelled_rows(file: Path, opened: Opened, rows: int, request: Request) -> Iterator[Block]:
    """Blocks of features, with labels, and weights if they are named, that another file holds."""
    from gpureg.data.labels_file import label_file

    labels = existing(str(request.labels), "labels")
    columns = label_file(labels, Uses(request.target, request.weights), rows, machine_limit())
    check_lengths(rows, len(columns.labels), f"{file} and {labels.name}")
    found = columns.found(ALL, f"{labels} (the labels)")
    for block in _rows(file, opened, _Uses("X"), request):
        part = slice(block.first, block.first + len(block.X))
        weights = None
        if columns.weights is not None:
            weights = checked_weights(columns.weights[part], len(block.X), f"{named('weights')} of {labels}")
        kept = Kept(np.arange(part.start, part.stop))
        yield replace(block, labels=replace(found, codes=found.codes[part], kept=kept), weights=weights)


def npz_blocks(file: Path, request: Request) -> Blocks:
    """The rows of an archive: `X`, with labels `y` and weights, and further arrays of one value a row.

    Of an archive with several parts it is `X_test`, else `X_val`.
    """
    refuse_special(file)
    _refuse_words(file, request)
    with numpy_errors(file), zipfile.ZipFile(file) as archive:
        there = [name.removesuffix(".npy") for name in archive.namelist()]
    uses, notices = _uses(file, there, request)

    def opened(stack: ExitStack) -> Arrays:
        archive = stack.enter_context(zipfile.ZipFile(file))
        return {name: npz_stream(archive, name, file, stack) for name in uses.all()}

    arrays = _headers(file, opened)
    for name, array in arrays.items():
        check_lengths(arrays[uses.X].shape[0], array.shape[0], f"{file}, {uses.X} and {name}")
    for name in uses.keep:
        if len(arrays[name].shape) != 1:
            raise UsageError(
                f"{named('keep', name)}: it has shape {arrays[name].shape} in {file}; expected one value for each row."
            )
    notices = tuple(notice.format(rows=f"{arrays[uses.X].shape[0]:,}") for notice in notices)
    schema = _schema({name: arrays[name].dtype for name in uses.keep})
    return Blocks(str(file), schema, _rows(file, opened, uses, request), notices)


def idx_blocks(path: Path, request: Request) -> Blocks:
    """IDX images, with their labels if those are asked for; of a folder the images for validation if there are any."""
    images = images_in(path) if path.is_dir() else path
    validation = validation_of(images) if path.is_dir() else None
    images = images if validation is None else validation[0]
    _refuse_options(images, request)
    _refuse_words(images, request)
    labels = labels_of(images) if request.labelled else None

    def opened(stack: ExitStack) -> Arrays:
        arrays = {"X": idx_stream(images, stack)}
        return arrays if labels is None else arrays | {"y": idx_stream(labels, stack)}

    arrays = _headers(images, opened)
    if labels is not None:
        check_lengths(arrays["X"].shape[0], arrays["y"].shape[0], f"{images} and {labels.name}")
    uses = _Uses("X", None if labels is None else "y")
    return Blocks(str(images), _schema({}), _rows(images, opened, uses, request))


def _headers(file: Path, opened: Opened) -> Arrays:
    """The arrays of a file, closed again: their shapes and types."""
    with numpy_errors(file), ExitStack() as stack:
        return opened(stack)


def _uses(file: Path, there: list[str], request: Request) -> tuple[_Uses, tuple[str, ...]]:
    """Which arrays of an archive are read, and a notice if it has several parts. Raises UsageError."""
    names = {part: (f"X_{part}", f"x_{part}") if part else ("X",) for part in request.parts}
    parts = {part: name for part in request.parts for name in names[part] if name in there}
    part = next(iter(parts), "")
    X = parts.get(part, "X")
    if X not in there:
        raise UsageError(f"{file} has no array X; it has {listed(there, 40)}.")
    ending = f"_{part}" if part else ""
    y = weights = None
    if request.labelled:
        candidates = [request.target, f"{(request.own_target or 'y').removesuffix('_train')}{ending}", f"y{ending}"]
        y = next((name for name in candidates[1:] if name in there), candidates[2])
        y = request.target or y
        weights = request.weights
        if weights is None and f"{request.own_weights}{ending}" in there:
            weights = f"{request.own_weights}{ending}"
    for option, name in (("target", y), ("weights", weights), *(("keep", name) for name in request.keep)):
        if name is not None and name not in there:
            raise UsageError(f"{named(option, name)}: {file} has no such array; it has {listed(there, 40)}.")
    several = len(parts) > 1
    notices = (f"{file} has several parts; {X} is read ({{rows}} rows).",) if several else ()
    return _Uses(X, y, weights, request.keep), notices


def _rows(file: Path, opened: Opened, uses: _Uses, request: Request) -> Iterator[Block]:
    """Blocks of features, labels, weights and further arrays, each read front to back."""
    with ExitStack() as stack:
        with numpy_errors(file):
            arrays = opened(stack)
        X = arrays[uses.X]
        X.check_numbers()
        if X.width != request.expected.n_features:
            raise UsageError(
                f"{X.name} has {X.width} features; expected {request.expected.n_features}, those that this model was "
                "trained on, in the same order."
            )
        for start in range(0, X.shape[0], request.block_rows):
            count = min(request.block_rows, X.shape[0] - start)
            with numpy_errors(file):  # here alone: between two blocks the caller's own warnings count
                values = {name: array.read(start, count) for name, array in arrays.items()}
            labels = weights = None
            if uses.label is not None:
                where = arrays[uses.label].name
                kept = Kept(np.arange(start, start + count))
                labels = find_labels(label_column(values[uses.label], where), where, kept)
            if uses.weights is not None:
                weights = checked_weights(values[uses.weights], count, arrays[uses.weights].name)
            further = _table({name: values[name] for name in uses.keep})
            yield Block(start, values[uses.X].reshape(count, X.width), labels, weights, further)


def _matrix_rows(file: Path, opened: Opened, chosen: Columns, request: Request) -> Iterator[Block]:
    """Blocks of a matrix that holds label and weights among its columns."""
    with ExitStack() as stack:
        with numpy_errors(file):
            array = opened(stack)["X"]
        for start in range(0, array.shape[0], request.block_rows):
            count = min(request.block_rows, array.shape[0] - start)
            with numpy_errors(file):
                block = array.read(start, count)
            labels = weights = None
            if chosen.label is not None:
                where = f"column {chosen.label} (the label) of {file}"
                labels = find_labels(block[:, int(chosen.label)], where, Kept(np.arange(start, start + count)))
            if chosen.weights is not None:
                weights = checked_weights(block[:, int(chosen.weights)], count, f"column {chosen.weights} of {file}")
            further = _table({name: block[:, int(name)] for name in chosen.keep})
            yield Block(start, block[:, [int(name) for name in chosen.features]], labels, weights, further)


def _refuse_options(file: Path, request: Request) -> None:
    for option, value in (("target", request.target), ("weights", request.weights), ("keep", request.keep or None)):
        if value is not None:
            raise UsageError(f"{named(option)}: {file} has no columns to name. Leave out {named(option)}.")


def _refuse_words(file: Path, request: Request) -> None:
    if words := request.expected.words():
        raise UsageError(
            f"{file} holds numbers without names; this model was trained on a table with columns of words "
            f"({listed(list(words), 5)}). Give a CSV or Parquet file."
        )


def _schema(kinds: Mapping[str, np.dtype[Any]]) -> Any:
    import pyarrow as pa

    return pa.schema([(name, pa.array(np.zeros(0, kind)).type) for name, kind in kinds.items()])


def _table(columns: Mapping[str, Matrix]) -> Any:
    """Kept columns as an Arrow table."""
    if not columns:
        return None
    import pyarrow as pa

    return pa.table({name: pa.array(np.ascontiguousarray(values)) for name, values in columns.items()})
