"""A fit that is under way as plain arrays and JSON, and back: what a checkpoint holds.

A fit is a series of stages (`fitting.stages`). A checkpoint holds the stages that are done and the state of the running
one, at a boundary, as its solver packs it. A fit that resumes from it does the same arithmetic in the same order, and
ends with the same bits. No pickle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np

from gpureg.config import FitConfig, options_of
from gpureg.config.options import brief
from gpureg.data import Dataset
from gpureg.data.pieces import Pieces, bytes_of
from gpureg.data.sparse import sparse_parts
from gpureg.data.streamed import is_streamed
from gpureg.environment import blas_threads
from gpureg.errors import RunError
from gpureg.fitting.assemble import Trained
from gpureg.history import History
from gpureg.solvers.packing import Unpacker, stop_reasons
from gpureg.solvers.problem import Measured, Outcome
from gpureg.solvers.protocol import Descent
from gpureg.storage.schema import conform
from gpureg.types import HostArrays, ModelTable, StopReason
from gpureg.version import __version__

FORMAT = 2


class StageMeta(TypedDict):
    """The JSON of a stage that is done."""

    reasons: list[StopReason]
    epochs: list[int | None]
    certificates: list[dict[str, Any]] | None
    warnings: list[str]
    passes: NotRequired[int]
    finishes: NotRequired[bool]


class Meta(TypedDict):
    """The JSON of a checkpoint; what identifies the data and the device is None if nothing has been done yet."""

    gpureg: str
    config: dict[str, Any]
    data_sha256: str | None
    device: str | None
    threads: int
    seconds: float
    stages: list[StageMeta]
    running: dict[str, Any] | None
    finishing: NotRequired[bool]


class Keeper(Protocol):
    """Receives checkpoints: `due()` asks for one, `write()` stores it."""

    def due(self) -> bool:
        """Whether it is time for another one."""
        ...

    def write(self, arrays: HostArrays, meta: dict[str, Any]) -> None:
        """Keep this one in place of the last."""
        ...


@dataclass(frozen=True)
class Running:
    """The stage that runs: its descent, the descent's state at a boundary, and whether it finishes models of a stage
    before it."""

    descent: Descent[Any]
    state: Any
    finishes: bool = False


@dataclass(frozen=True)
class Saved:
    """A checkpoint that has been read: the stages that are done; the arrays of the running one's state, or None if the
    next stage is to begin; and what else was written (`config`, `data_sha256`, `device`, `seconds`, ...).
    """

    stages: tuple[Trained, ...]
    state: HostArrays | None
    meta: dict[str, Any]

    def runs(self, number: int, *, finishes: bool) -> bool:
        """Whether the stage `number` was running, and is one that `finishes` models of another, or is not."""
        finishing = bool(self.meta.get("finishing"))
        return self.state is not None and number == len(self.stages) and finishing == finishes

    def begun(self, number: int, *, finishes: bool) -> bool:
        """Whether the stage `number` had begun, and is of this kind."""
        done = number < len(self.stages) and self.stages[number].finishes == finishes
        return done or self.runs(number, finishes=finishes)


def fingerprint(data: Dataset, config: FitConfig, device: str, threads: int) -> dict[str, Any]:
    """Identifies the fit: version, configuration, data hash, device, threads."""
    return {
        "format": FORMAT,
        "gpureg": __version__,
        "config": config.to_dict(),
        "data_sha256": data_sha256(data),
        "device": device,
        "threads": threads,
    }


def begun(config: FitConfig) -> dict[str, Any]:
    """The meta of a checkpoint in which nothing has been done yet, of data that are not known yet."""
    return {
        "format": FORMAT,
        "gpureg": __version__,
        "config": config.to_dict(),
        "data_sha256": None,
        "device": None,
        "threads": config.threads or blas_threads(),
        "seconds": 0.0,
        **pack((), None)[1],
    }


def check_resumable(saved: Saved, data: Dataset, device: str, threads: int) -> list[str]:
    """Refuse other data (RunError); return a warning for each thing that makes the bits differ."""
    meta = saved.meta
    if meta["data_sha256"] not in (None, data_sha256(data)):
        by = "SHA-256"
        if is_streamed(data.X_train):
            by = "path, size and time of change of the file whose rows are streamed, and SHA-256 of the labels"
        raise RunError(
            f"The data {data.name!r} are not the data that the run began with ({by}). Restore the old data, or "
            "start a new run: a model can't be trained partly on one and partly on the other."
        )
    now = {"device": device, "threads": threads, "gpureg": __version__}
    words = {"device": "on {}", "threads": "with {} BLAS threads", "gpureg": "with gpureg {}"}
    return [
        f"The run began {words[name].format(meta[name])} and continues {words[name].format(value)}: its results agree "
        "with an uninterrupted run's up to rounding, not bit for bit."
        for name, value in now.items()
        if meta[name] not in (None, value)
    ]


def data_sha256(data: Dataset) -> str:
    """SHA-256 of the data set's arrays (types, shapes, values) and classes; of rows that are streamed the path, size
    and time of their file.
    """
    digest = hashlib.sha256(repr(data.classes).encode())
    given: tuple[Any, ...] = (data.X_train, data.y_train, data.X_val, data.y_val, data.sample_weight, data.val_weight)
    marks = (data.groups, data.folds)
    held: list[Any] = []
    for whole in given:
        if isinstance(whole, Pieces):
            for part in whole.identity():
                digest.update(part)
        elif is_streamed(whole):
            digest.update(whole.identity().encode())
        else:
            held.append(whole)
    for array in (*(part for whole in held for part in sparse_parts(whole)), *marks):
        for part in () if array is None else bytes_of(array):
            digest.update(part)
    return digest.hexdigest()


def pack(stages: Sequence[Trained], running: Running | None) -> tuple[HostArrays, dict[str, Any]]:
    """The stages that are done, and the running one at a boundary, as arrays and JSON."""
    arrays: HostArrays = {}
    done = []
    for number, stage in enumerate(stages):
        arrays |= _pack_stage(f"stage{number}.", stage)
        outcome = stage.outcome
        own = {name: getattr(outcome, name) for name in ("reasons", "epochs", "certificates", "warnings")}
        done.append(own | {"passes": stage.passes, "finishes": stage.finishes})
    meta: dict[str, Any] = {"stages": done, "running": None, "finishing": False}
    if running is not None:
        packed, meta["running"] = running.descent.pack(running.state)
        meta["finishing"] = running.finishes
        arrays |= {f"state.{name}": value for name, value in packed.items()}
    return arrays, meta


def unpack(arrays: HostArrays, meta: dict[str, Any]) -> Saved:
    """The inverse of `pack`, as far as it goes without a device. Raises RunError for what is not such a checkpoint."""
    if meta.get("format") != FORMAT:
        raise RunError(
            f"The checkpoint has format {meta.get('format')!r} and was written by gpureg {meta.get('gpureg', '?')}; "
            f"this is gpureg {__version__}, which reads format {FORMAT}. Resume with that version, or start again."
        )
    try:
        conform(meta, Meta)
        options_of(FitConfig)["threads"].checked(meta["threads"])
        stages = tuple(_unpack_stage(f"stage{n}.", arrays, stage) for n, stage in enumerate(meta["stages"]))
        state = {name.removeprefix("state."): value for name, value in arrays.items() if name.startswith("state.")}
        return Saved(stages, state if meta["running"] is not None else None, meta)
    except (KeyError, ValueError, TypeError) as error:
        raise not_of_this_fit(error) from error


def not_of_this_fit(cause: object) -> RunError:
    """The error for a checkpoint whose content does not match the run that it claims to belong to."""
    return RunError(
        f"The checkpoint does not match its run ({brief(cause, 200)}). It can't be resumed: start the run again."
    )


def restore(saved: Saved | None, descent: Descent[Any]) -> Any:
    """The saved state of the running stage, on the descent's device. Raises RunError."""
    assert saved is not None
    assert saved.state is not None
    try:
        return descent.unpack(saved.state, saved.meta["running"])
    except (KeyError, ValueError, TypeError) as error:
        raise not_of_this_fit(error) from error


def _pack_stage(prefix: str, stage: Trained) -> HostArrays:
    arrays: HostArrays = {f"{prefix}weights": stage.outcome.weights, f"{prefix}steps": stage.outcome.steps}
    for name, value in (("table", stage.table), ("measured", stage.outcome.measured), ("history", stage.history)):
        arrays |= {f"{prefix}{name}.{field.name}": getattr(value, field.name) for field in fields(value)}
    return arrays


def _unpack_stage(prefix: str, arrays: HostArrays, meta: dict[str, Any]) -> Trained:
    found = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    if "measured.score" not in found:  # from a version whose only score was the loss
        found |= {"measured.score": found["measured.val_loss"], "history.score": np.zeros(0)}
    found.setdefault("history.passes", np.zeros(0, np.int64))
    read = Unpacker(found)
    weights = read.floats("weights", None, None, None)
    L, E = len(weights), len(read.ints("history.eval_step", None))
    shapes = {"step_loss": (None, L), "eval_step": (E,), "val_loss": (E, L), "val_accuracy": (E, L)}
    shapes["train_accuracy"], shapes["score"] = (E, L), (0,)  # the history gets its scores at the end
    full_batch = len(read.floats("history.objective", None, None)) > 0
    shapes["objective"] = shapes["gap_bound"] = (E, L) if full_batch else (0, 0)
    shapes["passes"] = (len(read.ints("history.passes", None)) and L,)

    def value(kind: type, name: str) -> Any:
        values = {}
        for field in fields(kind):
            array = read.ints if field.type == "Ints" else read.floats
            values[field.name] = array(f"{name}.{field.name}", *shapes.get(field.name, (L,)))
        return kind(**values)

    measured = Measured(*(read.floats(f"measured.{field.name}", L) for field in fields(Measured)))
    reasons = tuple(reason for reason in stop_reasons(meta, L) if reason is not None)
    epochs, certificates = tuple(meta["epochs"]), meta["certificates"]
    if not len(reasons) == len(epochs) == L == len(certificates or reasons):
        raise ValueError(f"{len(reasons)} reasons and {len(epochs)} epochs, expected those of {L} models")
    outcome = Outcome(
        weights,
        read.ints("steps", L),
        reasons,
        epochs,
        measured,
        None if certificates is None else tuple(certificates),
        tuple(meta["warnings"]),
    )
    passes, finishes = meta.get("passes", 0), meta.get("finishes", False)  # an older version wrote neither
    return Trained(value(ModelTable, "table"), outcome, value(History, "history"), passes, finishes)


def same_tables(one: ModelTable, other: ModelTable) -> bool:
    """Whether two stages have the same models."""
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(ModelTable))
