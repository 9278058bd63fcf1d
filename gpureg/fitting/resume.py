"""A fit that is under way as plain arrays and JSON, and back: what a checkpoint holds.

A fit is a series of parts (the chunks of its grid, then a cross-validation's refit). A checkpoint holds the parts that
are done and the state of the one that runs, at an epoch boundary: weights and the snapshots of evaluations that are not
made yet bit for bit, the random streams, stopping counters and histories. Whoever goes on from it does the same
arithmetic in the same order, and ends with the same bits. No pickle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import RunError
from gpureg.fitting.assemble import Trained
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Measured, Outcome
from gpureg.solvers.sgd.early_stopping import Stopping
from gpureg.solvers.sgd.solver import SgdSolver
from gpureg.solvers.sgd.state import SgdState, Stream
from gpureg.types import Array, Floats, ModelTable
from gpureg.version import __version__

Arrays = dict[str, npt.NDArray[np.generic]]
FORMAT = 1
BLOCK = 1 << 26  # bytes that are hashed at once
SNAPSHOT_LISTS = ("pending", "flying")  # of the state: weights at evaluations that are not decided on
WEIGHT_ARRAYS = ("finals", "best")  # of the state: one model's weights each


class Keeper(Protocol):
    """Whoever keeps checkpoints: says when one is wanted, and takes it."""

    def due(self) -> bool:
        """Whether it is time for another one."""
        ...

    def write(self, arrays: Arrays, meta: dict[str, Any]) -> None:
        """Keep this one in place of the last."""
        ...


@dataclass(frozen=True)
class Saved:
    """A checkpoint that has been read: the parts that are done; the arrays of the state, or None where the next part is
    to begin; and what else was written (`config`, `data_sha256`, `device`, `seconds`, ...).
    """

    parts: tuple[Trained, ...]
    state: Arrays | None
    meta: dict[str, Any]


def about(data: Dataset, config: FitConfig, device: str, threads: int) -> dict[str, Any]:
    """What a checkpoint says of the fit it belongs to."""
    return {
        "format": FORMAT,
        "gpureg": __version__,
        "config": config.to_dict(),
        "data_sha256": data_sha256(data),
        "device": device,
        "threads": threads,
    }


def check_resumable(saved: Saved, data: Dataset, device: str, threads: int) -> list[str]:
    """Refuse other data (RunError); return a warning for each thing that makes the bits differ."""
    meta = saved.meta
    if meta["data_sha256"] != data_sha256(data):
        raise RunError(
            f"The data {data.name!r} are not those that the run began with (SHA-256). Put the old data back, or start "
            "a new run: a model can't be trained on half of each."
        )
    now = {"device": device, "threads": threads, "gpureg": __version__}
    words = {"device": "on {}", "threads": "with {} BLAS threads", "gpureg": "with gpureg {}"}
    return [
        f"The run began {words[name].format(meta[name])} and goes on {words[name].format(value)}: its results agree "
        "with an uninterrupted run's to rounding, not bit for bit."
        for name, value in now.items()
        if meta[name] != value
    ]


def data_sha256(data: Dataset) -> str:
    """SHA-256 of the data set's arrays (types, shapes, values) and classes."""
    digest = hashlib.sha256(repr(data.classes).encode())
    for array in (data.X_train, data.y_train, data.X_val, data.y_val, data.sample_weight):
        if array is None:
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        rows = max(1, BLOCK // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
    return digest.hexdigest()


def pack(parts: Sequence[Trained], solver: SgdSolver | None, state: SgdState | None) -> tuple[Arrays, dict[str, Any]]:
    """The parts that are done, and the state of the running one at an epoch boundary, as arrays and JSON."""
    arrays: Arrays = {}
    done = []
    for number, part in enumerate(parts):
        arrays |= _pack_part(f"part{number}.", part)
        outcome = part.outcome
        done.append({name: getattr(outcome, name) for name in ("reasons", "epochs", "certificates", "warnings")})
    meta: dict[str, Any] = {"parts": done, "running": None}
    if solver is not None and state is not None:
        packed, meta["running"] = _pack_state(solver, state)
        arrays |= {f"state.{name}": value for name, value in packed.items()}
    return arrays, meta


def unpack(arrays: Mapping[str, npt.NDArray[np.generic]], meta: dict[str, Any]) -> Saved:
    """The inverse of `pack`, as far as it goes without a device. Raises RunError for what is no such checkpoint."""
    if meta.get("format") != FORMAT:
        raise RunError(
            f"The checkpoint has format {meta.get('format')!r} and was written by gpureg {meta.get('gpureg', '?')}; "
            f"this is gpureg {__version__}, which reads format {FORMAT}. Go on with that version, or start again."
        )
    try:
        parts = tuple(_unpack_part(f"part{n}.", arrays, part) for n, part in enumerate(meta["parts"]))
        state = {name.removeprefix("state."): value for name, value in arrays.items() if name.startswith("state.")}
        return Saved(parts, state if meta["running"] is not None else None, meta)
    except (KeyError, ValueError, TypeError) as error:
        raise not_of_this_fit(error) from error


def not_of_this_fit(cause: object) -> RunError:
    """The error for a checkpoint whose content does not fit the run that it claims to be of."""
    return RunError(f"The checkpoint does not fit its run ({cause!r}). It can't be resumed: start again with --force.")


def restore(saved: Saved, solver: SgdSolver) -> SgdState:
    """The saved state on the solver's device; the solver's random streams go on where they were. Raises RunError."""
    assert saved.state is not None
    try:
        state = _unpack_state(saved.state, saved.meta["running"], solver.kernels)
        for shuffler, position, key in zip(
            solver.shufflers, saved.meta["running"]["positions"], saved.state["keys"], strict=True
        ):
            shuffler.restore(np.asarray(key, np.int64), position)
    except (KeyError, ValueError, TypeError) as error:
        raise not_of_this_fit(error) from error
    if len(state.steps) != len(solver.table):
        raise not_of_this_fit(f"{len(state.steps)} models, wanted {len(solver.table)}")
    return state


def _pack_part(prefix: str, part: Trained) -> Arrays:
    arrays: Arrays = {f"{prefix}weights": part.outcome.weights, f"{prefix}steps": part.outcome.steps}
    for name, value in (("table", part.table), ("measured", part.outcome.measured), ("history", part.history)):
        arrays |= {f"{prefix}{name}.{field.name}": getattr(value, field.name) for field in fields(value)}
    return arrays


def _unpack_part(prefix: str, arrays: Mapping[str, npt.NDArray[Any]], meta: dict[str, Any]) -> Trained:
    def read(kind: type, name: str) -> Any:
        return kind(**{field.name: arrays[f"{prefix}{name}.{field.name}"] for field in fields(kind)})

    certificates = meta["certificates"]
    outcome = Outcome(
        arrays[f"{prefix}weights"],
        arrays[f"{prefix}steps"],
        tuple(meta["reasons"]),
        tuple(meta["epochs"]),
        read(Measured, "measured"),
        None if certificates is None else tuple(certificates),
        tuple(meta["warnings"]),
    )
    return Trained(read(ModelTable, "table"), outcome, read(History, "history"))


def _pack_state(solver: SgdSolver, state: SgdState) -> tuple[Arrays, dict[str, Any]]:
    assert not state.unread, "a boundary's state has read its losses"

    def host(W: Array) -> npt.NDArray[np.generic]:
        return solver.kernels.to_host(W).astype(solver.kernels.backend.dtype)  # exact: it was that  # sync

    shuffles = [shuffler.state() for shuffler in solver.shufflers]
    arrays: Arrays = {"lowest": state.stopping.lowest, "waited": state.stopping.waited}
    arrays |= {"steps": state.steps, "bad_step": state.bad_step, "keys": np.stack([key for key, _ in shuffles])}
    for number, stream in enumerate(state.streams):
        arrays |= {f"stream{number}.models": stream.models, f"stream{number}.W": host(stream.W)}
    for name in SNAPSHOT_LISTS:
        for row, (_, copies) in enumerate(getattr(state, name)):
            arrays |= {f"{name}{row}.{number}": host(copy) for number, copy in enumerate(copies)}
    for name in WEIGHT_ARRAYS:
        kept: dict[int, Floats] = getattr(state, name)
        arrays[f"{name}.models"] = np.array(list(kept), np.int64)
        arrays |= _ragged(name, list(kept.values()))
    for name, entries in (("losses", state.losses), ("evaluations", state.evaluations)):
        arrays[f"{name}.step"] = np.array([step for step, _, _ in entries], np.int64)
        arrays |= _ragged(f"{name}.models", [models for _, models, _ in entries])
        arrays |= _ragged(name, [values for _, _, values in entries])
    meta = {
        "epoch": state.epoch,
        "streams": len(state.streams),
        "reasons": state.reasons,
        **{name: [step for step, _ in getattr(state, name)] for name in SNAPSHOT_LISTS},
        "positions": [position for _, position in shuffles],
    }
    return arrays, meta


def _unpack_state(arrays: Mapping[str, npt.NDArray[Any]], meta: dict[str, Any], kernels: Kernels) -> SgdState:
    streams = range(meta["streams"])
    state = SgdState(
        meta["epoch"],
        [Stream(arrays[f"stream{n}.models"], kernels.weights(arrays[f"stream{n}.W"].copy())) for n in streams],
        Stopping(arrays["lowest"], arrays["waited"]),
        arrays["steps"].copy(),
        arrays["bad_step"].copy(),
        list(meta["reasons"]),
    )
    for name in SNAPSHOT_LISTS:
        for row, step in enumerate(meta[name]):
            getattr(state, name).append((step, [kernels.weights(arrays[f"{name}{row}.{n}"]) for n in streams]))
    for name in WEIGHT_ARRAYS:
        models = arrays[f"{name}.models"].tolist()
        setattr(state, name, dict(zip(models, _unragged(name, arrays), strict=True)))
    for name in ("losses", "evaluations"):
        steps = arrays[f"{name}.step"].tolist()
        whose = _unragged(f"{name}.models", arrays)
        setattr(state, name, list(zip(steps, whose, _unragged(name, arrays), strict=True)))
    return state


def _ragged(name: str, values: Sequence[npt.NDArray[Any]]) -> Arrays:
    """Arrays of one dtype and several shapes as two: all values in a row, and the shapes."""
    if not values:
        return {f"{name}.values": np.zeros(0), f"{name}.shapes": np.zeros((0, 0), np.int64)}
    flat = np.concatenate([value.reshape(-1) for value in values])
    return {f"{name}.values": flat, f"{name}.shapes": np.array([value.shape for value in values], np.int64)}


def _unragged(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    values, shapes = arrays[f"{name}.values"], arrays[f"{name}.shapes"]
    if not len(shapes):
        return []
    ends = np.cumsum(shapes.prod(axis=1))[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes.tolist(), strict=True)]


def same_tables(one: ModelTable, other: ModelTable) -> bool:
    """Whether two parts are of the same models."""
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(ModelTable))
