"""What a fit returns: `ModelResult` per model, `FitResult` for the batch. The run directory is its form on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpureg.history import History
from gpureg.model import LinearModel

StopReason = Literal["patience", "max_epochs", "converged", "diverged", "interrupted"]
SCHEMA = 1


@dataclass(frozen=True)
class ModelResult:
    """One model of the batch at its final weights.

    Losses are mean cross-entropy in nats without the penalty, over the full sets; `steps` counts updates; epochs count
    from 0; `weight_norm_sq` is Σ w², bias included. None stands for what does not exist (a diverged model's losses, a
    fold model's training accuracy), since JSON holds no NaN.
    """

    l2: float
    steps: int
    stopped_epoch: int | None
    stop_reason: StopReason
    train_loss: float | None
    val_loss: float | None
    train_accuracy: float | None
    val_accuracy: float | None
    weight_norm_sq: float | None
    lr: float | None = None
    fold: int | None = None
    seed: int | None = None
    certificate: dict[str, float | bool | None] | None = None


@dataclass(frozen=True)
class CvRow:
    """The cross-validation of one λ (and learning rate): mean and standard error of the held-out loss over the
    folds."""

    l2: float
    mean: float | None
    se: float | None
    folds: int
    lr: float | None = None


@dataclass(frozen=True)
class FitResult:
    """The batch: `models` (L), their `history`, the trained `model`, and what it was trained on and with."""

    task: str
    dataset: str
    device: str
    device_requested: str
    backend: str
    dtype: str
    seed: int
    n_train: int
    n_val: int
    n_features: int
    classes: tuple[int | float | str, ...]
    seconds: float
    models: tuple[ModelResult, ...]
    history: History
    model: LinearModel
    selected: int | None = None
    cv: tuple[CvRow, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def save(self, directory: str | Path, *, force: bool = False) -> Path:
        """Write the run directory; refuses to overwrite one unless `force`."""
        from gpureg.run_directory import save_run  # a room below: imported where it is used

        return save_run(self, directory, force=force)
