"""The options of a fit as keywords, for type checkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from gpureg.losses import Loss


class FitOptions(TypedDict, total=False):
    """The fields of `FitConfig` as `gpureg.fit` takes them."""

    scale: str | None
    class_weight: str | None
    task: str | Loss
    l2: float | Sequence[float] | None
    Cs: float | Sequence[float] | None
    cv: int | None
    score: str
    select: str
    refit: str
    seeds: int
    lr: float | Sequence[float] | None
    solver: str
    epochs: int
    batch_size: int
    shuffle: bool
    shuffle_by: str | None
    seed: int
    evals_per_epoch: int
    patience: int
    min_delta: float
    keep: str
    penalize_bias: bool | None
    tol: float
    path_patience: int
    max_iter: int
    device: str
    strict_device: bool
    dtype: str
    bootstrap: int
    threads: int | None
    memory: int
    kernels: str
    block_rows: int | None
    engine: str
    scheduler: str | None
    workers: int | None
