"""`SgdState` as plain arrays and JSON, bit for bit: weights, the snapshots of evaluations that are not decided on, the
random streams, stopping counters and histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.packing import Unpacker, by_model, check_running, count_of, counted, entries, stop_reasons
from gpureg.solvers.sgd.batches import Shuffler
from gpureg.solvers.sgd.early_stopping import Stopping
from gpureg.solvers.sgd.state import SgdState, Stream
from gpureg.types import Array, HostArrays

SNAPSHOTS = ("queued", "in_flight")  # of the state: weights at evaluations that are not decided on
KEPT = ("finals", "best")  # of the state: one model's weights each
NOTED = ("losses", "evaluations")
KEY = 624  # numbers of the random generator's state


def pack(kernels: Kernels, shufflers: Sequence[Shuffler], state: SgdState) -> tuple[HostArrays, dict[str, Any]]:
    """A boundary's state and the random streams."""
    assert not state.unread, "a boundary's state has read its losses"
    assert not state.unread_weights, "and the weights that it keeps"

    def host(W: Array) -> npt.NDArray[np.generic]:
        return kernels.to_host(W).astype(kernels.backend.dtype)  # exact: it was that  # sync

    streams = [shuffler.state() for shuffler in shufflers]
    arrays: HostArrays = {"lowest": state.stopping.lowest, "waited": state.stopping.waited}
    arrays |= {
        "steps": state.steps.copy(),
        "bad_step": state.bad_step.copy(),
        "keys": np.stack([key for key, _ in streams]),
    }
    for number, stream in enumerate(state.streams):
        arrays |= {f"stream{number}.models": stream.models, f"stream{number}.W": host(stream.W)}
    for name in SNAPSHOTS:
        for row, (_, copies) in enumerate(getattr(state, name)):
            arrays |= {f"{name}{row}.{number}": host(copy) for number, copy in enumerate(copies)}
    for name in KEPT:
        arrays |= by_model(name, getattr(state, name))
    for name in NOTED:
        arrays |= entries(name, getattr(state, name))
    meta = {
        "epoch": state.epoch,
        "streams": len(state.streams),
        "reasons": list(state.reasons),
        **{name: [step for step, _ in getattr(state, name)] for name in SNAPSHOTS},
        "positions": [position for _, position in streams],
    }
    return arrays, meta


def unpack(
    kernels: Kernels,
    shufflers: Sequence[Shuffler],
    sizes: tuple[int, int, int],
    arrays: HostArrays,
    meta: dict[str, Any],
) -> SgdState:
    """The state on the device; the random streams go on where they were. `sizes`: L models, D features, the
    most steps.

    Raises ValueError or KeyError for what no state of them is.
    """
    L, D, most = sizes
    K, read, dtype = kernels.n_columns, Unpacker(arrays), kernels.backend.dtype
    reasons = stop_reasons(meta, L)
    streams = []
    for number in range(count_of(meta, "streams")):
        models = read.ints(f"stream{number}.models", None, below=L)
        W = read.floats(f"stream{number}.W", D, len(models) * K, dtype=dtype)
        streams.append(Stream(models, kernels.weights(W)))
    stopping = Stopping(read.floats("lowest", L), read.ints("waited", L))
    steps, bad = read.ints("steps", L, below=most + 1), read.ints("bad_step", L)
    state = SgdState(count_of(meta, "epoch"), streams, stopping, steps, bad, reasons)
    for name in SNAPSHOTS:
        for row, step in enumerate(meta[name]):
            counted(name, step, most)
            copies = [
                read.floats(f"{name}{row}.{number}", D, len(stream.models) * K, dtype=dtype)
                for number, stream in enumerate(streams)
            ]
            getattr(state, name).append((step, [kernels.weights(copy) for copy in copies]))
    for name in KEPT:
        setattr(state, name, read.by_model(name, L, D, K))
    check_running(reasons, state.active.tolist(), state.finals)
    for name in NOTED:
        setattr(state, name, list(read.entries(name, L, most)))
    for shuffler, position, key in zip(
        shufflers, meta["positions"], read.ints("keys", len(shufflers), KEY), strict=True
    ):
        shuffler.restore(key, counted("position", position, KEY))
    return state
