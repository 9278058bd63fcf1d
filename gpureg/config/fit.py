"""`FitConfig`: every choice that shapes a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Annotated, Any

from gpureg.config.checks import check_together
from gpureg.config.names import (
    AUTO,
    CLASS_WEIGHTS,
    DTYPES,
    ENGINES,
    KEEPS,
    KERNELS,
    REFITS,
    SCALES,
    SCORES,
    SELECTS,
    SHUFFLES,
    SOLVERS,
    TASKS,
)
from gpureg.config.options import About, check_options, options_of, refuse_unknown, to_plain
from gpureg.config.solver import decide_solver, layered, owner_of
from gpureg.errors import UsageError, named
from gpureg.losses import Loss, loss_of

REPORT_LAMBDAS = (2.0, 0.2, 0.02, 0.002)
BLOCK_ROWS = 1 << 16
LBFGS_GRID = "1e-6:10:32"  # of a sweep to the optimum


@dataclass(frozen=True)
class FitConfig:
    """The configuration of a fit. Units: λ multiplies Σ w² and is per sample (the cost is a mean); losses in nats.

    `solver` is decided by `gpureg.config.solver.decide_solver`, where a field that differs from its default counts as
    given; if no field decides, it stays `auto` until the data are known. A solver's own fields keep their defaults with
    the other solver. `l2` None means 0 with `sgd`, C = 1 with `lbfgs`; `penalize_bias` None means on with `sgd`, off
    with `lbfgs`; `lr` None means the task's default (0.01 softmax, 0.05 logistic); `scale` None means `pixels` if the
    data are images, `none` if they are sparse, else `standard`; `threads` None means the BLAS's own choice.
    `memory` is a budget in bytes: a fixed number, so that what is free never reshapes a run. Raises UsageError.
    """

    scale: Annotated[
        str | None,
        About(
            "standard: mean 0, deviation 1 over all training rows, also with --cv. pixels: 2x/max - 1.",
            "Data",
            choices=SCALES,
            shown="pixels for images, none for sparse data, else standard",
        ),
    ] = None
    class_weight: Annotated[
        str | None, About("balanced: every class weighs the same.", "Data", choices=CLASS_WEIGHTS, shown="none")
    ] = None
    task: Annotated[str | Loss, About("Softmax over all classes, or logistic for two.", "Model", choices=TASKS)] = (
        "softmax"
    )
    l2: Annotated[
        tuple[float, ...] | None,
        About("λ of the penalty λ Σ w².", "Model", least=0, shown="sgd: 0; lbfgs: 1 / (2 S), that is C = 1"),
    ] = None
    Cs: Annotated[
        tuple[float, ...] | None,
        About("C = 1 / (2 λ S) instead of λ, S the sum of the training rows' weights.", "Model", above=0),
    ] = None
    cv: Annotated[int | None, About("Number of stratified folds, all in the same batch.", "Choice of λ", least=2)] = (
        None
    )
    score: Annotated[str, About("The score that compares the λ.", "Choice of λ", choices=SCORES)] = "loss"
    select: Annotated[
        str,
        About("The best mean score, or the largest λ within one standard error of it.", "Choice of λ", choices=SELECTS),
    ] = "min"
    refit: Annotated[
        str,
        About(
            "Keep the chosen model of the training rows, or fit it again, at its C, to training and validation rows.",
            "Choice of λ",
            choices=REFITS,
        ),
    ] = "train"
    seeds: Annotated[
        int,
        About("With --cv, the number of fold assignments; otherwise the number of shuffles.", "Choice of λ", least=1),
    ] = 1
    lr: Annotated[
        tuple[float, ...] | None,
        About("Learning rate.", "Training", above=0, shown="0.01 for softmax, 0.05 for logistic", solver="sgd"),
    ] = None
    solver: Annotated[
        str,
        About(
            "sgd: minibatches with early stopping. lbfgs: to the optimum. auto: chosen by the options and the data.",
            "Training",
            choices=(AUTO, *SOLVERS),
            metavar="NAME",
        ),
    ] = AUTO
    epochs: Annotated[int, About("Maximum number of epochs.", "Training", least=1, solver="sgd")] = 50
    batch_size: Annotated[int, About("Samples of a minibatch.", "Training", least=1, solver="sgd")] = 128
    shuffle: Annotated[bool, About("A new order of the samples in every epoch.", "Training", solver="sgd")] = True
    shuffle_by: Annotated[
        str | None,
        About(
            "rows: any order. blocks: the blocks in a new order, and the rows within each.",
            "Training",
            choices=SHUFFLES,
            shown="rows; blocks with --stream",
            solver="sgd",
        ),
    ] = None
    seed: Annotated[
        int, About("Seed for the shuffle, the split and the folds.", "Training", least=0, most=2**32 - 1)
    ] = 0
    evals_per_epoch: Annotated[int, About("Evaluations in an epoch.", "Training", least=1, solver="sgd")] = 5
    patience: Annotated[
        int,
        About(
            "Stop after this many evaluations without a new lowest validation loss; 0: never.",
            "Training",
            least=0,
            solver="sgd",
        ),
    ] = 10
    min_delta: Annotated[
        float,
        About("How far below the lowest loss a new lowest must be, in nats.", "Training", least=0, solver="sgd"),
    ] = 0.0
    keep: Annotated[
        str,
        About("Keep the weights of the last step or the best evaluation.", "Training", choices=KEEPS, solver="sgd"),
    ] = "last"
    penalize_bias: Annotated[
        bool | None,
        About("Whether the bias carries the penalty too.", "Training", shown="sgd: on; lbfgs: off"),
    ] = None
    tol: Annotated[float, About("Bound on the gap to the optimum, in nats.", "Training", above=0, solver="lbfgs")] = (
        1e-8
    )
    path_patience: Annotated[
        int,
        About(
            "As λ falls, stop when the score has become worse this many times in a row; the smaller λ are left "
            "out. 0: never.",
            "Choice of λ",
            least=0,
            solver="lbfgs",
        ),
    ] = 0
    max_iter: Annotated[int, About("Maximum number of iterations.", "Training", least=1, solver="lbfgs")] = 1000
    device: Annotated[str, About("auto, cpu, cuda or cuda:N.", "Device", metavar="NAME")] = "auto"
    strict_device: Annotated[bool, About("Fail with exit code 3 rather than fall back to the CPU.", "Device")] = False
    block_rows: Annotated[
        int | None,
        About(
            "Rows of a block, of those that are streamed or held; sums are added up block by block.",
            "Data",
            least=1,
            shown="65536, if there are blocks",
        ),
    ] = None
    dtype: Annotated[str, About("The float type of the arithmetic.", "Device", choices=DTYPES)] = "float32"
    bootstrap: Annotated[
        int, About("Resamples of the test set's rows, for 95% intervals of the metrics.", "Data", least=0)
    ] = 0
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
            "auto, fused, reference; on CUDA also pair (2 launches a step).", "Device", choices=KERNELS, metavar="NAME"
        ),
    ] = "auto"
    engine: Annotated[
        str,
        About("local, or dask: the rows lie on Dask's workers.", "Device", choices=ENGINES, solver="lbfgs"),
    ] = "local"
    scheduler: Annotated[
        str | None,
        About("Address of a running Dask scheduler, e.g. tcp://10.0.0.1:8786.", "Device", solver="lbfgs", shown="none"),
    ] = None
    workers: Annotated[
        int | None,
        About("Dask workers to start here, each a process.", "Device", least=1, solver="lbfgs", shown="none"),
    ] = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.class_weight == "none":
            object.__setattr__(self, "class_weight", None)
        self._settle(decide_solver(self.given(), OWNERS, None).solver)
        check_together(self)

    def _settle(self, solver: str) -> None:
        """Set the solver, and with it the defaults that depend on it."""
        object.__setattr__(self, "solver", solver)
        if self.l2 is not None and self.Cs is not None:
            raise UsageError(f"{named('l2')} and {named('Cs')} were both given; expected one of them.")
        if solver == AUTO:
            return
        if self.penalize_bias is None:
            object.__setattr__(self, "penalize_bias", solver == "sgd")
        if solver == "sgd" and self.l2 is None and self.Cs is None:
            object.__setattr__(self, "l2", (0.0,))

    @property
    def undecided(self) -> bool:
        """Whether the solver has yet to be chosen, by the data."""
        return self.solver == AUTO

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, some of which depend on the solver."""
        settled = {"penalize_bias": self.solver == "sgd", "l2": (0.0,) if self.solver == "sgd" else None}
        values = ((name, getattr(self, name), option.default) for name, option in options_of(FitConfig).items())
        return {name: value for name, value, default in values if value not in (default, settled.get(name, default))}

    @property
    def lambdas(self) -> tuple[float, ...]:
        """The λ of a settled configuration (`fitting.defaults`)."""
        assert self.l2 is not None, "λ is not settled yet"
        return self.l2

    @property
    def penalizes_bias(self) -> bool:
        """Whether the bias carries the penalty: `penalize_bias`, or the solver's default."""
        return self.solver != "lbfgs" if self.penalize_bias is None else self.penalize_bias

    @property
    def n_models(self) -> int:
        """The number of models before a refit."""
        return len(self.l2 or self.Cs or (1.0,)) * len(self.rates) * self.seeds * (self.cv or 1)

    @property
    def rows_of_a_block(self) -> int:
        """The rows of a block, where there are blocks."""
        return BLOCK_ROWS if self.block_rows is None else self.block_rows

    @property
    def loss(self) -> Loss:
        """The loss that `task` names, or is."""
        return loss_of(self.task)

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, the task's default if none was named; 0 for a solver that has none."""
        if self.solver == "lbfgs":
            return (0.0,)
        return (self.loss.rate,) if self.lr is None else self.lr

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.toml` holds them: without the options of the other solver."""
        mine = {name for name in options_of(FitConfig) if self._has(name)}
        plain = to_plain(self) | {"task": self.loss.name}
        return {name: value for name, value in plain.items() if name in mine}

    def _has(self, name: str) -> bool:
        if self.solver == AUTO:
            return True
        return owner_of(name, {"cv": self.cv}, OWNERS) in (None, self.solver)

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, folded: bool = False) -> FitConfig:
        """The inverse of `to_dict`; `folded`: the data name each row's fold. Raises UsageError on a name that is not an
        option.

        Runs of schema 1 hold the options of both solvers: those of the other one are left out. Their whole-epoch
        kernels, `kernels = "epoch"`, are gone: `auto` takes their place.
        """
        if values.get("kernels") == "epoch":
            values = values | {"kernels": "auto"}
        refuse_unknown(values, [field.name for field in fields(cls)], "The configuration names")
        waits = folded and values.get("select") == "1se" and values.get("cv") is None
        config = cls(**layered(values | ({"select": "min"} if waits else {}), {}, OWNERS)[0])
        if waits:
            object.__setattr__(config, "select", "1se")  # its folds come with the data
        return config


OWNERS: Mapping[str, str] = MappingProxyType(
    {name: option.about.solver for name, option in options_of(FitConfig).items() if option.about.solver}
)
