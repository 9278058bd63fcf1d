"""What runs on a worker: its kernels, placing a block of rows, and adding up what its blocks give.

These are the tasks that Dask runs, by name: a worker needs gpureg of the same version. Nothing here knows of Dask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from gpureg.backend import choose_backend, cuda_count
from gpureg.data.collections import Partition
from gpureg.data.pieces import Piece
from gpureg.errors import naming_flags
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Block, Kernels
from gpureg.losses import Loss
from gpureg.rows.partials import Partial, Sums, added
from gpureg.types import Floats, Ints
from gpureg.version import __version__

Design = Callable[[Any], Callable[[Ints | None], Any]]
ON_A_DEVICE = ("W", "part")  # the fields of partials that kernels take as they take weights


@dataclass(frozen=True)
class KernelsLike:
    """The kernels that a worker makes: `loss` and number of `classes`, and the options of a fit that choose them."""

    loss: Loss
    classes: int
    dtype: str
    device: str
    strict: bool
    which: str
    memory: int


@dataclass(frozen=True)
class Share:
    """What a worker is told to place: the rows `picked` of a `piece` (None: all), and of each its class index `y (n,)`,
    its row of the weight table `weights (n, T)` or None, the fold in which it is held out or None, and what it counts
    in an evaluation or None.
    """

    piece: Piece
    picked: Ints | None
    y: Ints
    weights: Floats | None
    fold: Ints | None
    sample_weight: Floats | None

    def of(self, piece: Piece) -> Share:
        """The same of a piece in another form."""
        return replace(self, piece=piece)


@dataclass(frozen=True)
class Seat:
    """Where a worker works: the `ordinal` of those on its machine, which chooses its GPU, and the number of `threads`
    of its products, None for the process's own.
    """

    ordinal: int
    threads: int | None


def called(flags: bool, function: Callable[..., Any], *args: Any) -> Any:
    """A function on a worker, whose messages name options as the client's do: as the command line does if `flags`."""
    with naming_flags() if flags else nullcontext():
        return function(*args)


def version() -> str:
    """The version of gpureg that the worker has."""
    return __version__


def make_kernels(like: KernelsLike, seat: Seat) -> Kernels:
    """The worker's kernels. Raises DeviceError if a CUDA device is required and is not available."""
    kind, near = like.device.partition(":")[0], seat.ordinal % max(1, cuda_count())
    device = f"cuda:{near}" if kind == "cuda" else like.device
    with ExitStack() as stack:
        # the client tells of a device that is not available: a worker may be a thread, whose filters are the process's
        backend = choose_backend(device, like.dtype, strict=like.strict, near=near, tell=False)
        if seat.threads is not None:
            stack.enter_context(threadpool_limits(seat.threads, user_api="blas"))
        return choose_kernels(backend, like.loss, like.classes, like.which, like.memory)


def device_of(kernels: Kernels) -> tuple[str, str]:
    """The device that the kernels work on, and why."""
    return kernels.backend.device, kernels.backend.why


def rows_of(piece: Piece, picked: Ints | None, held: Any) -> Any:
    """The rows `picked` of a piece (None: all), read, or computed by Dask as `held`. Raises DataError."""
    X = piece.taken(held) if isinstance(piece, Partition) else piece.read()
    return X if picked is None else X[picked]


def place(kernels: Kernels, share: Share, held: Any, design: Design) -> Block:
    """Read a share's rows, or take them from `held` if something else has read them, and place them.

    Raises DataError.
    """
    X = rows_of(share.piece, share.picked, held)
    order = kernels.storage_order(share.y, share.fold)
    y, weights, mass = (_ordered(values, order) for values in (share.y, share.weights, share.sample_weight))
    with kernels.backend.in_use():
        return kernels.place(design(X)(order), y, weights, order, mass)


def summed(partials: Partial | Sequence[Partial], kernels: Kernels, blocks: list[Block]) -> Sums:
    """What the worker's blocks add to a sum, on the host: one partial for all, or one for each."""
    return functools.reduce(added, each(partials, kernels, blocks))


def each(partials: Partial | Sequence[Partial], kernels: Kernels, blocks: list[Block]) -> list[Sums]:
    """What each of the worker's blocks gives, on the host."""
    own = partials if isinstance(partials, Sequence) else [partials] * len(blocks)
    with kernels.backend.in_use(), kernels.steady(), np.errstate(all="ignore"):
        there = {id(partial): _to_device(kernels, partial) for partial in own}
        return [_to_host(kernels, there[id(one)](kernels, block)) for one, block in zip(own, blocks, strict=True)]


def _to_device(kernels: Kernels, partial: Any) -> Any:
    """A partial whose arrays lie where the kernels want them."""
    if kernels.backend.name == "numpy":
        return partial
    changed: dict[str, Any] = {}
    for field in fields(partial):
        value = getattr(partial, field.name)
        if field.name in ON_A_DEVICE:
            changed[field.name] = kernels.backend.from_host(value)
        elif is_dataclass(value):
            changed[field.name] = _to_device(kernels, value)
        elif field.name == "partials":
            changed[field.name] = [_to_device(kernels, one) for one in value]
    return replace(partial, **changed)


def _to_host(kernels: Kernels, sums: Any) -> Any:
    if isinstance(sums, tuple):
        return tuple(_to_host(kernels, part) for part in sums)
    if sums is None or isinstance(sums, (np.ndarray, float, int)):
        return sums
    return kernels.to_host(sums)  # sync


def _ordered(values: Any, order: Ints | None) -> Any:
    return values if order is None or values is None else values[order]
