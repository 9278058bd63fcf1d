"""`FitConfig`: every choice that shapes a fit, validated once; the only place where a default is written.

Nothing heavy is imported here: the command line reads the defaults from it while `gpureg --help` stays quick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from gpureg.errors import UsageError
from gpureg.losses import LOSSES, Loss, loss_of

TASKS = tuple(LOSSES)
SOLVERS = ("sgd", "lbfgs")
DTYPES = ("float32", "float64")
KEEPS = ("last", "best")
SELECTS = ("min", "1se")
SCALES = ("none", "standard", "pixels")
CLASS_WEIGHTS = ("none", "balanced")
KERNELS = ("auto", "fused", "reference", "pair")
REPORT_LAMBDAS = (2.0, 0.2, 0.02, 0.002)
MEMORY = 2 * 2**30


@dataclass(frozen=True)
class FitConfig:
    """The configuration of a fit. Units: λ multiplies Σ w² and is per sample (the cost is a mean); losses in nats.

    `lr` None stands for the task's default (0.01 softmax, 0.05 logistic); `scale` None for `pixels` where the data are
    images, else `standard`; `threads` None for the BLAS's own choice. `memory` is a budget in bytes: a fixed number, so
    that what happens to be free never reshapes a run. Raises UsageError.
    """

    task: str | Loss = "softmax"
    solver: str = "sgd"
    l2: tuple[float, ...] = (0.0,)
    lr: tuple[float, ...] | None = None
    epochs: int = 50
    batch_size: int = 128
    shuffle: bool = True
    seed: int = 0
    seeds: int = 1
    evals_per_epoch: int = 5
    patience: int = 10
    min_delta: float = 0.0
    keep: str = "last"
    cv: int | None = None
    select: str = "min"
    device: str = "auto"
    strict_device: bool = False
    dtype: str = "float32"
    scale: str | None = None
    class_weight: str | None = None
    penalize_bias: bool = True
    threads: int | None = None
    memory: int = MEMORY
    kernels: str = "auto"
    tol: float = 1e-8
    max_iter: int = 1000

    def __post_init__(self) -> None:
        for name, allowed in (
            ("solver", SOLVERS),
            ("dtype", DTYPES),
            ("keep", KEEPS),
            ("select", SELECTS),
            ("scale", (None, *SCALES)),
            ("class_weight", (None, "balanced")),
            ("kernels", KERNELS),
        ):
            _one_of(name, getattr(self, name), allowed)
        if isinstance(self.task, str):
            _one_of("task", self.task, TASKS)
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("evals_per_epoch", 1),
            ("seeds", 1),
            ("patience", 0),
            ("seed", 0),
            ("max_iter", 1),
            ("memory", 1),
        ):
            _whole(name, getattr(self, name), least)
        if self.seed + self.seeds > 2**32:
            raise UsageError(
                f"seed is {self.seed}; wanted a whole number below 2**32, which is what the random stream takes."
            )
        if self.threads is not None:
            _whole("threads", self.threads, 1)
        if self.cv is not None:
            _whole("cv", self.cv, 2)
        self._check_numbers()

    def _check_numbers(self) -> None:
        object.__setattr__(self, "l2", _numbers("l2", self.l2))
        for value in self.l2:
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"λ (l2) is {value:g}; wanted finite numbers of at least 0.")
        if self.lr is not None:
            object.__setattr__(self, "lr", _numbers("lr", self.lr))
            for value in self.lr:
                if not (math.isfinite(value) and value > 0):
                    raise UsageError(f"The learning rate (lr) is {value:g}; wanted finite numbers above 0.")
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            raise UsageError(f"min_delta is {self.min_delta:g}; wanted a finite number of nats of at least 0.")
        if not (math.isfinite(self.tol) and self.tol > 0):
            raise UsageError(f"tol is {self.tol:g}; wanted a finite number above 0.")
        if self.select == "1se" and self.cv is None:
            raise UsageError("select is 1se, which needs the standard errors of a cross-validation; add cv (--cv 5).")

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
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {"task": self.loss.name}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FitConfig:
        """The inverse of `to_dict`. Raises UsageError on a name that is not an option.

        The whole-epoch kernels of earlier runs, `kernels = "epoch"`, are gone: `auto` takes their place.
        """
        if values.get("kernels") == "epoch":
            values = values | {"kernels": "auto"}
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise UsageError(
                    f"The configuration names {name!r}, which is no option; wanted one of {', '.join(sorted(known))}."
                )
        return replace(cls(), **values)


def _one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        names = ", ".join(dict.fromkeys("none" if option is None else str(option) for option in allowed))
        raise UsageError(f"{name} is {value!r}; wanted one of {names}.")


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r}; wanted a whole number of at least {least}.")


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, (int, float)):
        values = (values,)
    try:
        numbers = tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {values!r}; wanted a number or a sequence of numbers.") from None
    if not numbers:
        raise UsageError(f"{name} is empty; wanted at least one number.")
    return numbers
