"""What a fit returns: `ModelResult` per model, `FitResult` for the batch. The run directory is its form on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpureg.history import History
from gpureg.model.linear import LinearModel
from gpureg.storage.directory import SCHEMA, Run, write_run
from gpureg.storage.encoding import plain
from gpureg.types import StopReason


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
        """Write the run directory, whole or not at all, and return its path.

        Raises RunError if it holds a run and `force` is false, or can't be written.

        >>> import gpureg
        >>> result = gpureg.fit(gpureg.load_dataset("digits"), solver="lbfgs", l2=1e-4)
        >>> folder = result.save("runs/digits")
        >>> gpureg.load_run(folder).result["n_features"]
        64
        """
        return write_run(self.to_run(directory), force=force)

    def to_run(self, directory: str | Path) -> Run:
        """This result as the run that `directory` is to hold."""
        path = Path(directory)
        return Run(path, to_json_dict(self, path), self.history, self.model, self.config, self.environment)


def to_json_dict(result: FitResult, run_dir: str | Path | None = None) -> dict[str, Any]:
    """The JSON result, schema 1: what `--json` prints and result.json holds. What does not exist is None, never NaN."""
    with_folds = result.cv is not None or any(m.fold is not None or m.seed is not None for m in result.models)
    head = (
        "task",
        "dataset",
        "device",
        "device_requested",
        "backend",
        "dtype",
        "seed",
        "n_train",
        "n_val",
        "n_features",
    )
    value: dict[str, Any] = {"schema": SCHEMA} | {name: getattr(result, name) for name in head}
    value |= {
        "classes": result.classes,
        "seconds": result.seconds,
        "run_dir": None if run_dir is None else str(run_dir),
        "models": [_model_dict(model, with_folds) for model in result.models],
        "selected": result.selected,
    }
    if result.cv is not None:
        value["cv"] = [asdict(row) for row in result.cv]
    if result.warnings:
        value["warnings"] = result.warnings
    found: dict[str, Any] = plain(value)
    return found


def _model_dict(model: ModelResult, with_folds: bool) -> dict[str, Any]:
    value = asdict(model)
    optional = {
        "lr": model.lr is not None,
        "fold": with_folds,
        "seed": with_folds,
        "certificate": bool(model.certificate),
    }
    return {name: item for name, item in value.items() if optional.get(name, True)}
