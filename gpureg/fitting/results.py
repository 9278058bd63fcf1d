"""What a fit returns: `ModelResult` per model, `FitResult` for the batch. The run directory is its form on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpureg.history import History
from gpureg.model.linear import LinearModel
from gpureg.model.metrics import Evaluation
from gpureg.storage.directory import Run, write_run
from gpureg.storage.encoding import plain
from gpureg.storage.versions import SCHEMA
from gpureg.types import StopReason

HEAD = (
    "task",
    "dataset",
    "device",
    "device_requested",
    "backend",
    "dtype",
    "solver",
    "seed",
    "n_train",
    "n_val",
    "n_features",
    "feature_names",
    "image_shape",
    "classes",
    "seconds",
)


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model of the batch at its final weights.

    Losses are mean cross-entropy in nats without the penalty, over the full sets; `steps` counts updates; epochs count
    from 0; `weight_norm_sq` is Σ w², bias included. None marks what does not exist (a diverged model's losses, a
    fold model's training accuracy), since JSON holds no NaN.
    """

    l2: float
    lr: float | None = None
    fold: int | None = None
    seed: int | None = None
    steps: int
    stopped_epoch: int | None
    stop_reason: StopReason
    train_loss: float | None
    val_loss: float | None
    train_accuracy: float | None
    val_accuracy: float | None
    weight_norm_sq: float | None
    certificate: dict[str, float | bool | None] | None = None


@dataclass(frozen=True)
class CvRow:
    """The cross-validation of one λ (and learning rate): mean and standard error of the held-out `score` over the
    folds that count."""

    l2: float
    mean: float | None
    se: float | None
    folds: int
    lr: float | None = None
    score: str = "loss"


@dataclass(frozen=True, repr=False)
class FitResult:
    """The batch: `models` (L), their `history`, the trained `model`, and what it was trained on and with.

    `selected` is the chosen one's index in `models`, None if none was chosen. `total_weight` is S, the sum of the
    training rows' weights: C = 1 / (2 λ S). `left_out`: λ of the grid that were not trained. `test`: metrics.
    """

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
    solver: str = "sgd"
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, int] | None = None
    left_out: tuple[float, ...] = ()
    test: Evaluation | None = None
    total_weight: float | None = None

    def __repr__(self) -> str:
        """A table of a few lines: what was trained on what, and its models."""
        from gpureg.fitting.summary import table

        return table(self)

    def C(self, l2: float) -> float | None:  # noqa: N802
        """scikit-learn's C of a λ: `1 / (2 λ S)`; None without a penalty."""
        return None if not l2 or self.total_weight is None else 1.0 / (2.0 * l2 * self.total_weight)

    @property
    def chosen_l2(self) -> float | None:
        """The λ of the grid that was chosen, even if its model was fitted again, at the same C, to all rows; None if
        none was chosen.
        """
        if self.selected is None:
            return None
        return self.models[self.selected].l2 if self.model.refit_of is None else self.model.refit_of

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
    """The JSON result, schema 2: what `--json` prints and result.json holds.

    All keys are always there; what does not exist is None or [], never NaN.
    """
    value: dict[str, Any] = {"schema": SCHEMA} | {name: getattr(result, name) for name in HEAD}
    value |= {
        "run_dir": None if run_dir is None else str(run_dir),
        "warnings": result.warnings,
        "models": [asdict(model) for model in result.models],
        "selected": result.selected,
        "cv": [asdict(row) for row in result.cv or ()],
        "left_out": result.left_out,
        "test": None if result.test is None else result.test.to_dict(),
    }
    found: dict[str, Any] = plain(value)
    return found
