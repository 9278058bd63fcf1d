"""Sparse features in files: SciPy's npz (`scipy.sparse.save_npz`), whose labels another file holds, and svmlight."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.arrays import numpy_errors
from gpureg.data.blocks import BLOCK_BYTES, BLOCK_ROWS, Block, Blocks, Request, checked_weights
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, find_labels, settle
from gpureg.data.limits import Limit, machine_limit
from gpureg.data.opening import first_words, opened, refuse_special
from gpureg.data.raw import Features, RawData, check_lengths
from gpureg.data.sparse import Csr, read_sparse
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named

_MEMBERS = frozenset({"format", "shape", "data"})  # of every archive that save_npz writes
_OTHERS = frozenset({"indices", "indptr", "row", "col", "offsets", "_is_array"})  # of some of them


def is_sparse_npz(file: Path) -> bool:
    """Whether a file is an archive that `scipy.sparse.save_npz` wrote."""
    return file.is_file() and zipfile.is_zipfile(file) and _members(file) >= _MEMBERS


def own_arrays(there: Collection[str]) -> list[str]:
    """The arrays in an archive that are not the sparse matrix in it."""
    sparse = set(there) >= _MEMBERS
    return [name for name in there if not sparse or name not in _MEMBERS | _OTHERS]


def holds_labels(file: Path) -> bool:
    """Whether a sparse archive has arrays in addition to the matrix: labels, weights, groups."""
    return bool(own_arrays(_members(file)))


def _members(file: Path) -> set[str]:
    with numpy_errors(file), zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def load_sparse_npz(file: Path, limit: Limit, *, new: bool = False) -> Csr:
    """Its matrix `(N, F)` in CSR; `new` as in `read_sparse`. Raises DataError."""
    from scipy import sparse

    refuse_special(file)
    with numpy_errors(file):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        size, packed = (sum(getattr(m, name) for m in members) for name in ("file_size", "compress_size"))
        limit.check(2 * size, file, 2 * packed)
        found = sparse.load_npz(file)
    return read_sparse(found, str(file), new=new)


def read_svmlight_data(file: Path, uses: Uses, limit: Limit) -> RawData:
    """The rows of an svmlight file, `label index:value ...` in each line. Raises UsageError and DataError."""
    _refuse_columns(file, {"target": uses.target, "weights": uses.weights, **uses.marks})
    uses.refuse_of_sparse(str(file))
    found = load_svmlight(file, limit)
    (codes,), labels = settle([find_labels(found.y, f"{file} (the labels)")])
    features = Features(read_sparse(found.X, str(file)), index_base=found.index_base)
    return RawData(name=file.stem, features=features, codes=codes, labels=labels)


@dataclass(frozen=True)
class Svmlight:
    """The features `X (N, F)` and the labels `y (N,)` of an svmlight file; `index_base`: the number, 0 or 1, from which
    its indices count, None if it has none.
    """

    X: Csr
    y: npt.NDArray[Any]
    index_base: int | None


def load_svmlight(file: Path, limit: Limit, index_base: int | None = None) -> Svmlight:
    """An svmlight file whose indices count from `index_base`; if that is None from 1, and from 0 if a 0 is among them.

    Raises DataError.
    """
    from sklearn.datasets import load_svmlight_file

    with opened(file, limit) as stream:
        try:
            X, y = load_svmlight_file(stream, zero_based=True)
        except DataError:
            raise
        except (ValueError, OverflowError, MemoryError, IndexError) as error:
            raise DataError(
                f"can't read {file} as svmlight: {first_words(error)}. Expected a label and index:value pairs in each "
                "line, indices from 1 in rising order."
            ) from error
    has_zero = bool((X.indices == 0).any())
    if has_zero and index_base == 1:
        raise DataError(
            f"{file} has an index 0, but in the training file the lowest possible index is 1: none was 0. Write both "
            "with the same first index, e.g. sklearn.datasets.dump_svmlight_file(..., zero_based=False), and train "
            "again if it was the training file that counted from 0."
        )
    if index_base is None and X.nnz:
        index_base = 0 if has_zero else 1
    if index_base == 1 and X.nnz:
        X.indices -= 1
        X.resize(X.shape[0], X.shape[1] - 1)
    return Svmlight(X, np.asarray(y), index_base)


def svmlight_blocks(file: Path, request: Request) -> Blocks:
    """The rows of an svmlight file, with its labels if they are asked for."""
    _refuse_options(file, request)
    _refuse_columns(file, {"target": request.target, "weights": request.weights})
    read, expected = load_svmlight(file, machine_limit(), request.expected.index_base), request.expected
    if read.X.shape[1] > expected.n_features:
        counted = "" if expected.index_base is None else f" Indices count from {expected.index_base}, as in training."
        raise UsageError(
            f"{file} has {read.X.shape[1]} features; expected at most {expected.n_features}, those that this "
            f"model was trained on, in the same order.{counted}"
        )
    read.X.resize(read.X.shape[0], expected.n_features)
    found = find_labels(read.y, f"{file} (the labels)") if request.labelled else None
    return _blocks(file, read_sparse(read.X, str(file), new=True), request, found, None)


def sparse_npz_blocks(file: Path, request: Request) -> Blocks:
    """The rows of a sparse archive, with labels if they are asked for, which it holds itself, or another file."""
    _refuse_options(file, request)
    X = load_sparse_npz(file, machine_limit(), new=True)
    if X.shape[1] != request.expected.n_features:
        raise UsageError(
            f"{file} has {X.shape[1]} features; expected {request.expected.n_features}, those that this model was "
            "trained on, in the same order."
        )
    if not request.labelled:
        return _blocks(file, X, request, None, None)
    from gpureg.data.files import existing
    from gpureg.data.labels_file import label_file

    uses, labels = Uses(request.target, request.weights), file
    if request.labels is not None:
        labels = existing(request.labels, "labels")
    elif own := own_arrays(_members(file)):
        target = request.own_target if request.own_target in own else None
        weight = request.own_weights if request.own_weights in own else None
        uses = Uses(request.target or target, request.weights or weight)
    else:
        raise no_labels(file)
    columns = label_file(labels, uses, X.shape[0], machine_limit())
    check_lengths(X.shape[0], len(columns.labels), f"{file} and {labels.name}")
    weights = None
    if columns.weights is not None:
        weights = checked_weights(columns.weights, X.shape[0], f"{named('weights')} of {labels}")
    return _blocks(file, X, request, columns.found(ALL, f"{labels} (the labels)"), weights)


def no_labels(file: Path) -> UsageError:
    """The error for a sparse archive whose labels are not named."""
    return UsageError(
        f"{file} is a sparse matrix without labels. Name a file of labels with {named('labels')} (for the training "
        "data and for evaluate), or add them to it as the array y: np.savez(path, y=y, **np.load(path))."
    )


def _blocks(file: Path, X: Csr, request: Request, found: Found | None, weights: np.ndarray | None) -> Blocks:
    """Rows that are held, some at a time."""
    import pyarrow as pa

    step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (32 * request.outputs)))  # logits, probabilities, and their copies

    def rows() -> Iterator[Block]:
        for start in range(0, X.shape[0], step):
            part = slice(start, min(start + step, X.shape[0]))
            kept = Kept(np.arange(part.start, part.stop))
            labels = None if found is None else replace(found, codes=found.codes[part], kept=kept)
            yield Block(start, X[part], labels, None if weights is None else weights[part])

    return Blocks(str(file), pa.schema([]), rows())


def _refuse_columns(file: Path, named_columns: Mapping[str, str | None]) -> None:
    for option, value in named_columns.items():
        if value is not None:
            raise UsageError(f"{named(option, value)}: {file} has no columns to name. Leave out {named(option)}.")


def _refuse_options(file: Path, request: Request) -> None:
    if request.keep:
        raise UsageError(f"{named('keep')}: {file} has no columns to name. Leave out {named('keep')}.")
    if words := request.expected.words():
        raise UsageError(
            f"{file} holds numbers; this model was trained on a table with columns of words ({', '.join(words)}). Give "
            "a table."
        )
