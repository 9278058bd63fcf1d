"""`FitConfig`: every choice that shapes a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypedDict

from gpureg.config.names import CLASS_WEIGHTS, DTYPES, KEEPS, KERNELS, SCALES, SELECTS, SOLVERS, TASKS
from gpureg.config.options import About, check_options, refuse_unknown, to_plain
from gpureg.errors import UsageError, named
from gpureg.losses import Loss, loss_of

REPORT_LAMBDAS = (2.0, 0.2, 0.02, 0.002)


@dataclass(frozen=True)
class FitConfig:
    """The configuration of a fit. Units: λ multiplies Σ w² and is per sample (the cost is a mean); losses in nats.

    `lr` None stands for the task's default (0.01 softmax, 0.05 logistic); `scale` None for `pixels` where the data are
    images, else `standard`; `threads` None for the BLAS's own choice. `memory` is a budget in bytes: a fixed number, so
    that what happens to be free never reshapes a run. Raises UsageError.
    """

    scale: Annotated[
        str | None,
        About(
            "standard: mean 0, deviation 1 over all training rows, also with --cv. pixels: 2x/max - 1.",
            "Data",
            choices=SCALES,
            shown="pixels for images, else standard",
        ),
    ] = None
    class_weight: Annotated[
        str | None, About("balanced: every class weighs the same.", "Data", choices=CLASS_WEIGHTS, shown="none")
    ] = None
    task: Annotated[str | Loss, About("Softmax over all classes, or logistic for two.", "Model", choices=TASKS)] = (
        "softmax"
    )
    l2: Annotated[tuple[float, ...], About("λ of the penalty λ Σ w².", "Model", least=0)] = (0.0,)
    cv: Annotated[
        int | None,
        About(
            "Number of stratified folds, all in the same batch.",
            "Choice of λ",
            least=2,
        ),
    ] = None
    select: Annotated[
        str,
        About(
            "The lowest loss, or the largest λ within one standard error of it.",
            "Choice of λ",
            choices=SELECTS,
        ),
    ] = "min"
    seeds: Annotated[
        int,
        About(
            "With --cv the number of fold assignments; without, the number of shuffles.",
            "Choice of λ",
            least=1,
        ),
    ] = 1
    lr: Annotated[
        tuple[float, ...] | None,
        About("Learning rate.", "Training", above=0, shown="0.01 for softmax, 0.05 for logistic"),
    ] = None
    solver: Annotated[
        str, About("sgd: minibatches with early stopping. lbfgs: to the optimum.", "Training", choices=SOLVERS)
    ] = "sgd"
    epochs: Annotated[int, About("Maximum number of epochs.", "Training", least=1)] = 50
    batch_size: Annotated[int, About("Samples of a minibatch.", "Training", least=1)] = 128
    shuffle: Annotated[bool, About("A new order of the samples in every epoch.", "Training")] = True
    seed: Annotated[
        int, About("Seed for the shuffle, the split and the folds.", "Training", least=0, most=2**32 - 1)
    ] = 0
    evals_per_epoch: Annotated[int, About("Evaluations in an epoch.", "Training", least=1)] = 5
    patience: Annotated[
        int,
        About("Stop after this many evaluations without a new lowest validation loss; 0: never.", "Training", least=0),
    ] = 10
    min_delta: Annotated[
        float, About("How much lower a loss must be to count as a new lowest, in nats.", "Training", least=0)
    ] = 0.0
    keep: Annotated[
        str, About("The weights of the last step, or of the best evaluation.", "Training", choices=KEEPS)
    ] = "last"
    penalize_bias: Annotated[bool, About("Whether the bias carries the penalty too.", "Training")] = True
    tol: Annotated[float, About("lbfgs: when a model counts as converged.", "Training", above=0)] = 1e-8
    max_iter: Annotated[int, About("lbfgs: maximum number of iterations.", "Training", least=1)] = 1000
    device: Annotated[str, About("auto, cpu, cuda or cuda:N.", "Device", metavar="NAME")] = "auto"
    strict_device: Annotated[bool, About("Fail with exit code 3 rather than fall back to the CPU.", "Device")] = False
    dtype: Annotated[str, About("The float type of the arithmetic.", "Device", choices=DTYPES)] = "float32"
    threads: Annotated[
        int | None, About("Threads of the BLAS.", "Device", least=1, shown="the library's own choice")
    ] = None
    memory: Annotated[
        int,
        About(
            "Budget for work arrays, e.g. 512MiB; a wider grid is trained in parts, with the same results.",
            "Device",
            least=1,
            most=2**63 - 1,
            shown="2GiB",
            metavar="SIZE",
            size=True,
        ),
    ] = 2 * 2**30
    kernels: Annotated[
        str,
        About(
            "auto, fused, reference; on CUDA also pair (2 launches a step).",
            "Device",
            choices=KERNELS,
            metavar="NAME",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        check_options(self)
        if self.class_weight == "none":
            object.__setattr__(self, "class_weight", None)
        if self.seed + self.seeds > 2**32:
            raise UsageError(
                f"{named('seed', self.seed)} with {named('seeds', self.seeds)}: expected seeds below 2**32, which is "
                "what the random stream takes."
            )
        if self.select == "1se" and self.cv is None:
            raise UsageError(
                f"{named('select', '1se')} needs the standard errors of a cross-validation; add {named('cv', 5)}."
            )

    @property
    def loss(self) -> Loss:
        """The loss that `task` names, or is."""
        return loss_of(self.task)

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, the task's default where none was named."""
        return (self.loss.rate,) if self.lr is None else self.lr

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.toml` holds them."""
        return to_plain(self) | {"task": self.loss.name}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FitConfig:
        """The inverse of `to_dict`. Raises UsageError on a name that is not an option.

        The whole-epoch kernels of earlier runs, `kernels = "epoch"`, are gone: `auto` takes their place.
        """
        if values.get("kernels") == "epoch":
            values = values | {"kernels": "auto"}
        refuse_unknown(values, [field.name for field in fields(cls)], "The configuration names")
        return cls(**values)


class FitOptions(TypedDict, total=False):
    """The fields of `FitConfig` as `gpureg.fit` takes them."""

    scale: str | None
    class_weight: str | None
    task: str | Loss
    l2: float | Sequence[float]
    cv: int | None
    select: str
    seeds: int
    lr: float | Sequence[float] | None
    solver: str
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    evals_per_epoch: int
    patience: int
    min_delta: float
    keep: str
    penalize_bias: bool
    tol: float
    max_iter: int
    device: str
    strict_device: bool
    dtype: str
    threads: int | None
    memory: int
    kernels: str
