"""`fit`: from a data set and a configuration to a `FitResult`. This is what the commands call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from threadpoolctl import threadpool_limits

from gpureg.backend import Backend, choose_backend, device_kept, numpy_backend
from gpureg.config import FitConfig, FitOptions, refuse_unknown
from gpureg.data import Dataset
from gpureg.environment import blas_threads, describe_environment
from gpureg.errors import GpuregWarning, OutOfMemoryError, UsageError, named
from gpureg.events import Event
from gpureg.fitting.assemble import Trained, join, linear_model, model_results
from gpureg.fitting.grid import check_stability, chunks, cv_rows, model_table, select_row
from gpureg.fitting.prepare import bytes_per_model, check_memory, prepare
from gpureg.fitting.results import CvRow, FitResult, ModelResult
from gpureg.fitting.resume import Saved, about, check_resumable
from gpureg.fitting.stages import Hooks, Parts
from gpureg.kernels.choice import choose_kernels, fallback_notices
from gpureg.solvers.problem import Problem
from gpureg.types import Floats, Ints

__all__ = ["Hooks", "fit", "fit_on", "run_fit"]


def fit(
    data: Dataset,
    config: FitConfig | None = None,
    *,
    folds: Ints | None = None,
    observe: Callable[[Event], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Train one model for every λ in `l2` (times learning rates, folds and seeds), all as one batch.

    Minimises, per model, `J(w) = C(w) + λ Σ w²` with C the mean cross-entropy in nats, by minibatch gradient descent
    `w -= lr (∂C/∂w + 2 λ w)` with early stopping (`solver="sgd"`) or to the optimum (`"lbfgs"`).

    `options` are the fields of `gpureg.config.FitConfig`, which has their defaults: `task`, `l2`, `lr`, `epochs`, `cv`,
    ...; with a `config` they replace what it says. `folds (N,)` or `(seeds, N)` gives the fold in which each training
    row is held out; without it `cv` draws stratified ones. `observe(event)` sees the events of `gpureg.events`;
    `should_stop()` is asked at every epoch boundary.

    Raises UsageError for options and data that do not fit one another, DeviceError with `strict_device` if the device
    is not available, OutOfMemoryError before the start if the run can't fit. Warns with GpuregWarning.
    """
    refuse_unknown(options, FitOptions.__optional_keys__, "fit was given")
    config = replace(config or FitConfig(), **options)  # type: ignore[arg-type]  # it turns numbers and sequences into tuples
    hooks = Hooks(observe or (lambda event: None), should_stop or (lambda: False))
    return run_fit(data, config, hooks, folds=folds)


def run_fit(
    data: Dataset, config: FitConfig, hooks: Hooks, *, folds: Ints | None = None, saved: Saved | None = None
) -> FitResult:
    """`fit` with the options as one value, from the checkpoint `saved` on if there is one.

    Raises RunError if that is of other data.
    """
    with ExitStack() as stack:
        if config.threads is not None:
            stack.enter_context(threadpool_limits(config.threads, user_api="blas"))
        stack.enter_context(device_kept())
        backend = choose_backend(
            config.device, config.dtype, strict=config.strict_device, factorises=config.solver == "lbfgs"
        )
        try:
            return fit_on(backend, data, config, hooks, folds=folds, saved=saved)
        except OutOfMemoryError as error:
            if backend.device == "cpu" or config.strict_device or error.saved:
                raise
            reason = f"{backend.device} has too little memory ({error})"
            warnings.warn(f"{reason} Running on the CPU.", GpuregWarning, stacklevel=2)
            host = numpy_backend(config.dtype, why=reason, requested=config.device)
            return fit_on(host, data, config, hooks, folds=folds, saved=saved)


def fit_on(
    backend: Backend,
    data: Dataset,
    config: FitConfig,
    hooks: Hooks,
    *,
    folds: Ints | None = None,
    saved: Saved | None = None,
) -> FitResult:
    """`run_fit` on a backend of the caller's choice (any array-API namespace)."""
    _check_data(data, config)
    notices = check_stability(config)
    if config.batch_size > len(data.y_train) and config.solver == "sgd":
        rows = len(data.y_train)
        notices.append(f"The batch size {config.batch_size} was cut to the {rows} training rows there are.")
    threads = blas_threads()  # asked for now: while the fit runs they are held at one
    if saved is not None:
        notices += check_resumable(saved, data, backend.device, threads)
    table = model_table(config)
    kernels = choose_kernels(backend, config.loss, len(data.classes), config.kernels, config.memory)
    parts = Parts(kernels, config, hooks, lambda: about(data, config, backend.device, threads), saved)
    D, n = data.X_train.shape[1] + 1, len(data.y_train)
    if config.solver == "sgd":
        notices += fallback_notices(kernels, config.kernels, D, min(config.batch_size, n))
    per_model = _bytes_per_model(config, D, kernels.n_columns, n)
    blocks = chunks(len(table), per_model, config.memory, batches=config.solver == "sgd")
    check_memory(data, config, kernels, per_model, len(table), max(map(len, blocks)))
    prepared = prepare(data, config, kernels, table, folds)
    trained = join([parts.train(replace(prepared.problem, table=table.take(block)), block) for block in blocks])
    cv, chosen = _choose(trained, config)
    if cv is not None and chosen is not None:
        trained = join([trained, parts.train(_refit(prepared.refit, config, cv[chosen]), np.array([-1]))])
        chosen = len(trained.table) - 1
    elif config.cv is not None:
        chosen = None
    backend.synchronize()
    return _result(data, config, backend, trained, prepared.scaling, cv, chosen, parts.seconds, notices)


def _bytes_per_model(config: FitConfig, D: int, K: int, n: int) -> int:
    """Work arrays of one model in the configured solver."""
    if config.solver == "lbfgs":
        from gpureg.solvers.lbfgs.solver import lbfgs_bytes_per_model

        return lbfgs_bytes_per_model(D, K)
    return bytes_per_model(config, D, K, n)


def _refit(problem: Problem, config: FitConfig, row: CvRow) -> Problem:
    """The chosen λ on all training rows, to stop as `train` does."""
    lr = row.lr if row.lr else config.rates[0]
    return replace(problem, table=replace(problem.table, l2=np.array([row.l2]), lr=np.array([lr])))


def _choose(trained: Trained, config: FitConfig) -> tuple[tuple[CvRow, ...] | None, int | None]:
    """The cross-validation's rows and the chosen one; without folds (None, the index of the chosen model)."""
    table, val_loss = trained.table, trained.outcome.measured.val_loss
    if "interrupted" in trained.outcome.reasons and config.cv is not None:
        return None, None
    rows = cv_rows(table, val_loss)
    chosen = select_row(rows, config.select)
    if config.cv is not None:
        return rows, chosen
    if chosen is None:
        return None, None
    same = np.flatnonzero((table.l2 == rows[chosen].l2) & (table.lr == rows[chosen].lr))
    return None, int(same[0])


def _check_data(data: Dataset, config: FitConfig) -> None:
    K = len(data.classes)
    if config.loss.binary and K != 2:
        raise UsageError(
            f"The {config.loss.name} task takes two classes; {data.name} has {K}. Name two, the positive one first, "
            f"with {named('classes')}, or use {named('task', 'softmax')}."
        )
    if K < 2:
        raise UsageError(f"{data.name} has {K} class; expected at least two.")
    if len(data.y_train) == 0:
        raise UsageError(f"{data.name} has no training rows; expected at least one.")


def _result(
    data: Dataset,
    config: FitConfig,
    backend: Backend,
    trained: Trained,
    scaling: object,
    rows: tuple[CvRow, ...] | None,
    chosen: int | None,
    seconds: float,
    notices: list[str],
) -> FitResult:
    outcome, table = trained.outcome, trained.table
    models = model_results(outcome, table)
    kept: Floats = outcome.weights
    l2, selected = table.l2, chosen or 0
    if config.cv is not None and chosen is not None:  # after a cross-validation the model is the refit
        kept, l2, selected = outcome.weights[chosen:], table.l2[chosen:], 0
    model = linear_model(kept, l2, config.task, data.classes, scaling, config.dtype, selected)  # type: ignore[arg-type]
    notices = [*notices, *outcome.warnings, *_quality(models, data, config)]
    for notice in notices:
        warnings.warn(notice, GpuregWarning, stacklevel=4)
    return FitResult(
        task=config.loss.name,
        dataset=data.name,
        device=backend.device,
        device_requested=backend.requested,
        backend=backend.name,
        dtype=config.dtype,
        seed=config.seed,
        n_train=len(data.y_train),
        n_val=len(data.y_val),
        n_features=data.X_train.shape[1],
        classes=data.classes,
        seconds=seconds,
        models=models,
        history=trained.history,
        model=model,
        selected=chosen,
        cv=rows,
        config=_run_config(data, config),
        environment=describe_environment() | _where(backend),
        warnings=tuple(notices),
    )


def _run_config(data: Dataset, config: FitConfig) -> dict[str, Any]:
    """What config.toml holds: the fit's options, with the data's unless those were loaded for another task or seed,
    when they would not load the same rows again.
    """
    fit = config.to_dict()
    same = all(fit[name] == value for name, value in data.options.items() if name in fit)
    return (data.options if same else {}) | fit


def _where(backend: Backend) -> dict[str, Any]:
    """The device and why it was taken; a GPU's name and versions too."""
    found: dict[str, Any] = {"device": backend.device, "device_why": backend.why}
    return found | {"cuda": backend.card} if backend.card else found


def _quality(models: Sequence[ModelResult], data: Dataset, config: FitConfig) -> list[str]:
    """Warnings about models that diverged, or that predict worse than the best constant predictor."""
    share = np.bincount(data.y_train, minlength=len(data.classes)) / len(data.y_train)
    constant = config.loss.constant(share.tolist())
    found = []

    def smaller(some: Sequence[ModelResult]) -> str:
        return f"Use a learning rate smaller than {max(model.lr or 0 for model in some):g}."

    diverged = [model for model in models if model.stop_reason == "diverged"]
    if diverged:
        named = ", ".join(sorted({f"{model.l2:g}" for model in diverged}))
        found.append(
            f"{len(diverged)} of {len(models)} models diverged (λ = {named}): a loss was not finite. "
            + (smaller(diverged) if config.solver == "sgd" else "Features this large overflow: use --scale standard.")
        )
    worse = [model for model in models if model.train_loss is not None and model.train_loss > constant * (1 + 1e-9)]
    if worse:
        top = max(worse, key=lambda model: model.train_loss or 0.0)
        found.append(
            f"{len(worse)} of {len(models)} models predict worse than a constant does ({constant:.4f} nats); the "
            f"worst, λ = {top.l2:g}, ends at {top.train_loss:.5g}. "
            + (smaller([top]) if config.solver == "sgd" else "Give it more iterations (max_iter).")
        )
    return found
