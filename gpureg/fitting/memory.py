"""How much memory a batch of models takes, how it is cut to fit, and what happens if a device has too little.

The estimate adds up the solver's work arrays, the kernels' work arrays, and the samples. The cuts follow the budget,
which is fixed, and never the memory that happens to be free: too little of it can only refuse a run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gpureg.backend import Backend, numpy_backend
from gpureg.errors import GpuregWarning, OutOfMemoryError, UsageError, named, size_text
from gpureg.kernels.protocol import Kernels
from gpureg.rows.ahead import BUFFERS
from gpureg.solvers.lbfgs.conditioning import MOST_ROTATED
from gpureg.solvers.problem import COLUMNS_AT_ONCE
from gpureg.solvers.protocol import Solver
from gpureg.types import Ints, ModelTable, RunShape

T = TypeVar("T")
LABEL_BYTES = 32  # of a streamed row: its label, its number in the file, those of its fold, and what it counts
CERTIFYING = 10  # arrays as large as the weights, in float64


@dataclass(frozen=True)
class Sizes:
    """What the memory of a batch depends on.

    `models` that have work arrays at the same time; `rows` training samples with D `features`, `evaluated` validation
    samples; `weights` columns of the row-weight table; `copies` of the training samples, each to be evaluated fold by
    fold; `measured` models at once in the last evaluation, which is of all of them, and in their certificates;
    `row_bytes` of a sample, None for all of its features; `streamed`: what the blocks in memory take, if the rows are
    streamed.
    """

    models: int
    rows: int
    evaluated: int
    features: int
    weights: int = 0
    copies: int = 0
    measured: int = 0
    row_bytes: int | None = None
    streamed: int | None = None


def cut(solver: Solver, kernels: Kernels, table: ModelTable, sizes: Sizes, memory: int) -> list[Ints]:
    """The models of a table in blocks whose work arrays fit `memory` bytes, if what is free holds the largest of them.
    Members (`Solver.members`) stay whole; `sizes.models` is their number.

    Raises UsageError if not even one model fits the budget, OutOfMemoryError with what is needed and what is free.
    """
    per_model = solver.bytes_per_model(sizes.rows, sizes.features, kernels.n_columns)
    members = solver.members(table)
    sizes = replace(sizes, measured=min(len(table), max(1, COLUMNS_AT_ONCE // kernels.n_columns)))
    memory -= sizes.streamed or 0
    blocks = chunks(sizes.models, per_model, memory, batches=solver.minibatches)
    check_memory(solver, kernels, sizes, max(map(len, blocks)), memory)
    return [np.flatnonzero(np.isin(members, block)) for block in blocks]


def chunks(models: int, bytes_per_model: int, memory: int, *, batches: bool = True) -> list[Ints]:
    """Models in blocks whose work arrays fit `memory` bytes; `batches`: they grow with the batch size.

    Raises UsageError if not even one fits.
    """
    at_once = memory // max(1, bytes_per_model)
    if at_once < 1:
        raise UsageError(
            f"{named('memory')} {size_text(memory)} is too small for the work arrays of one model, "
            f"{size_text(bytes_per_model)}; give a larger {named('memory')}"
            f"{' or a smaller ' + named('batch_size') if batches else ''}."
        )
    return np.array_split(np.arange(models), -(-models // int(at_once)))


def check_memory(solver: Solver, kernels: Kernels, sizes: Sizes, at_once: int, memory: int) -> None:
    """Refuse a batch that does not fit in the free memory, before it starts; `at_once` models in its largest block.

    Raises OutOfMemoryError with what is needed.
    """
    backend = kernels.backend
    free = backend.free_memory()
    if free is None:
        return
    samples, work = needed(solver, kernels, sizes, at_once, memory)
    if samples + work > free:
        raise OutOfMemoryError(
            f"This run needs about {size_text(samples + work)} on {backend.device} ({size_text(samples)} for its rows, "
            f"{size_text(work)} to work in), and {size_text(free)} are free."
        )


def needed(solver: Solver, kernels: Kernels, sizes: Sizes, at_once: int, memory: int) -> tuple[int, int]:
    """Upper bounds on the bytes of a batch's samples and of its work arrays."""
    item, n, D = np.dtype(kernels.backend.dtype).itemsize, sizes.rows, sizes.features
    full_batch = not solver.minibatches
    order = min(D, MOST_ROTATED) if solver.factorises else 0
    models, weighted = max(at_once, sizes.measured), sizes.weights > 0
    seen = n if sizes.streamed is None else max(1, sizes.streamed // (BUFFERS * D * item))  # rows of a streamed block
    evaluated = max(n, sizes.evaluated) if sizes.streamed is None else seen
    shape = RunShape(seen, evaluated, D, models, solver.queued, weighted, full_batch, order)
    work, copies = kernels.run_bytes(shape), sizes.copies
    if work is None and sizes.row_bytes is None:  # NumPy: the folds of the first assignment lie together
        copies = max(0, copies - 1)
    if work is None or full_batch:
        own = sizes.models * solver.bytes_per_model(n, D, kernels.n_columns)
        work = (work or 0) + min(own, memory) + CERTIFYING * 8 * D * kernels.n_columns * sizes.measured
    dense = sizes.streamed is None and sizes.row_bytes is None
    work += solver.shared_bytes(seen, D, kernels.n_columns, at_once, sizes.measured, dense=dense)
    if sizes.streamed is not None:
        return sizes.streamed + n * (sizes.weights * item + LABEL_BYTES) + sizes.evaluated * LABEL_BYTES, work
    rows = n * (1 + copies) + sizes.evaluated
    of_a_row = D * item if sizes.row_bytes is None else sizes.row_bytes
    return rows * (of_a_row + 4) + n * sizes.weights * item, work


def peak_of(solver: Solver, kernels: Kernels, sizes: Sizes, blocks: list[Ints], memory: int) -> int:
    """An upper bound on the bytes of a fit whose models are trained in these blocks, in a budget of `memory` bytes."""
    return sum(needed(solver, kernels, sizes, max(map(len, blocks)), memory - (sizes.streamed or 0)))


def on_device(backend: Backend, work: Callable[[Backend], T], advice: str, *, strict: bool = False) -> T:
    """`work` on the backend, or on the CPU, with a warning, if the device has too little memory for it.

    `advice`: a sentence in the caller's words that says what needs less memory. `strict`: raise OutOfMemoryError
    instead. It is also raised, with the advice, if a checkpoint was saved, and if the CPU's memory is too small.
    """
    try:
        with backend.in_use():
            return work(backend)
    except OutOfMemoryError as error:
        if backend.device == "cpu" or strict or error.saved:
            raise error.with_advice(advice) from error
        reason = f"{backend.device} has too little memory ({error})"
    # the error is forgotten by now, and with it the arrays of the frames that it came through
    with backend.in_use():
        backend.release()
    warnings.warn(f"{reason} Running on the CPU. {advice}", GpuregWarning, stacklevel=3)
    return on_device(numpy_backend(backend.dtype, why=reason, requested=backend.requested), work, advice)
