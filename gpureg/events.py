"""What a fit tells its observers while it runs. An observer only looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpureg.types import Floats, Ints, ModelTable, StopReason


@dataclass(frozen=True)
class EngineReady:
    """The workers that a fit runs on are there: `text` says in a line how many, where, and how to watch them."""

    text: str


@dataclass(frozen=True)
class FitBegun:
    """A fit begins, or goes on from a checkpoint: its options as its config.toml holds them, and all its models but the
    refits that follow. A fit that falls back to another device begins again."""

    config: Mapping[str, Any]
    table: ModelTable


@dataclass(frozen=True)
class FitEnded:
    """The fit is over: `result` is the `gpureg.FitResult` that it returns, also where it was interrupted."""

    result: Any  # of a room below this one


@dataclass(frozen=True)
class Started:
    """A fit, or one chunk of it, begins: its models, the steps of an epoch, the maximum number of epochs. `finishing`:
    they have stopped before, because float32 was too coarse, and go on in float64."""

    table: ModelTable
    models: Ints
    steps_per_epoch: int
    epochs: int
    resumed_epoch: int = 0
    finishing: bool = False


@dataclass(frozen=True)
class Evaluated:
    """`models (A,)` were evaluated after the update of step `step`: losses in nats and accuracies, each `(A,)`."""

    step: int
    models: Ints
    val_loss: Floats
    val_accuracy: Floats
    train_accuracy: Floats


@dataclass(frozen=True)
class ModelStopped:
    """A model has stopped, after `steps` updates; one that goes on in float64 stops a second time."""

    model: int
    steps: int
    epoch: int
    reason: StopReason


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is over (counted from 0); `train_loss (A,)` is the mean of its steps' losses of the models still
    running."""

    epoch: int
    models: Ints
    train_loss: Floats


@dataclass(frozen=True)
class Iterated:
    """One iteration of a full-batch solver: the objective of the models still running, `(A,)`, in nats."""

    iteration: int
    models: Ints
    objective: Floats


@dataclass(frozen=True)
class PathPoint:
    """Every model is at its optimum for one more λ of a path: for the first `done` of `points` λ, in falling order."""

    done: int
    points: int


@dataclass(frozen=True)
class StreamBegun:
    """Rows are read in blocks during the fit: `rows` for training in blocks of `block_rows`, of which those in memory
    take `block_bytes`; the fit takes at most about `peak` bytes in addition to the program itself.
    """

    rows: int
    block_rows: int
    block_bytes: int
    peak: int


@dataclass(frozen=True)
class RowsRead:
    """So much has been read since the fit began: `rows`, and the `size` of their numbers in bytes."""

    rows: int
    size: int


Event = (
    EngineReady
    | FitBegun
    | StreamBegun
    | RowsRead
    | Started
    | Evaluated
    | ModelStopped
    | EpochEnded
    | Iterated
    | PathPoint
    | FitEnded
)
