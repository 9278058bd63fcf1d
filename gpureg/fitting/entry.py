"""`fit`: from a data set and a configuration to a `FitResult`. This is what the commands call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from threadpoolctl import threadpool_limits

from gpureg.backend import Backend, choose_backend, device_kept
from gpureg.config import FitConfig, FitOptions, refuse_unknown
from gpureg.data import Dataset, Scaling, default_scaling, fit_scaling
from gpureg.environment import blas_threads, describe_environment
from gpureg.errors import GpuregWarning, UsageError, named
from gpureg.events import Event
from gpureg.fitting.assemble import Trained, join, linear_model, model_results
from gpureg.fitting.grid import cv_rows, model_table, select_row
from gpureg.fitting.memory import cut, on_device
from gpureg.fitting.prepare import prepare, refit_problem, sizes_of
from gpureg.fitting.results import CvRow, FitResult
from gpureg.fitting.resume import Saved, check_resumable, fingerprint
from gpureg.fitting.stages import Hooks, Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.solvers.choice import choose_solver
from gpureg.solvers.protocol import Solver
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

    >>> import gpureg
    >>> data = gpureg.load_dataset("digits")
    >>> result = gpureg.fit(data, solver="lbfgs", l2=[1e-3, 1e-4, 1e-5], cv=3)
    >>> len(result.models)  # three folds for each λ, and the refit of the chosen one
    10
    >>> result.models[result.selected].l2
    0.0001
    >>> bool(result.models[result.selected].val_accuracy > 0.95)
    True
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
        threads = config.threads if saved is None else saved.meta["threads"]  # bits depend on their number
        if threads is not None:
            stack.enter_context(threadpool_limits(threads, user_api="blas"))
        stack.enter_context(device_kept())
        solver = choose_solver(config)
        backend = choose_backend(config.device, config.dtype, strict=config.strict_device, factorises=solver.factorises)

        def work(backend: Backend) -> FitResult:
            return fit_on(backend, data, config, hooks, solver=solver, folds=folds, saved=saved)

        return on_device(backend, work, _needs_less(), strict=config.strict_device)


def fit_on(
    backend: Backend,
    data: Dataset,
    config: FitConfig,
    hooks: Hooks,
    *,
    solver: Solver | None = None,
    folds: Ints | None = None,
    saved: Saved | None = None,
) -> FitResult:
    """`run_fit` on a backend (any array-API namespace), and by a solver, of the caller's choice."""
    solver = solver or choose_solver(config)
    _check_data(data, config, solver)
    threads = blas_threads()  # asked for now: while the fit runs they are held at one
    table = model_table(config)
    kernels = choose_kernels(backend, config.loss, len(data.classes), config.kernels, config.memory)
    stages = Stages(kernels, solver, hooks, lambda: fingerprint(data, config, backend.device, threads), saved)
    sizes = sizes_of(data, config, len(table))
    notices = [*data.notices, *solver.notices(kernels, sizes.rows, sizes.features)]
    if saved is not None:
        notices += check_resumable(saved, data, backend.device, threads)
    blocks = cut(solver, kernels, sizes, config.memory)
    scaling = fit_scaling(config.scale or default_scaling(data), data, data.sample_weight)
    problem = prepare(data, config, kernels, table, scaling, folds)
    trained = stages.train_all(problem, blocks)
    cv, chosen = _choose(trained, config)
    if cv is not None and chosen is not None:
        row = cv[chosen]
        refit = refit_problem(problem, data, config, row.l2, row.lr or config.rates[0])
        trained = join([trained, stages.train(refit, np.array([-1]))])
        chosen = len(trained.table) - 1
    elif config.cv is not None:
        chosen = None
    backend.synchronize()
    notices += [*trained.outcome.warnings, *_remarks(solver, trained, data, config)]
    return _result(data, config, backend, trained, scaling, (cv, chosen), (stages.seconds, tuple(notices)))


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


def _check_data(data: Dataset, config: FitConfig, solver: Solver) -> None:
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
    if solver.wants_validation and config.cv is None and len(data.y_val) == 0:
        raise UsageError(
            f"{data.name} has no validation rows, and early stopping or the best weights go by the loss on them. Give "
            f"some ({named('val_size')}), or train without: {named('patience', 0)} and {named('keep', 'last')}."
        )


def _result(
    data: Dataset,
    config: FitConfig,
    backend: Backend,
    trained: Trained,
    scaling: Scaling,
    selection: tuple[tuple[CvRow, ...] | None, int | None],
    course: tuple[float, tuple[str, ...]],
) -> FitResult:
    outcome, table = trained.outcome, trained.table
    (rows, chosen), (seconds, notices) = selection, course
    models = model_results(outcome, table)
    kept: Floats = outcome.weights
    l2, selected = table.l2, chosen or 0
    if config.cv is not None and chosen is not None:  # after a cross-validation the model is the refit
        kept, l2, selected = outcome.weights[chosen:], table.l2[chosen:], 0
    model = linear_model(kept, l2, config.task, data.classes, scaling, config.dtype, selected)
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
        warnings=notices,
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


def _needs_less() -> str:
    return f"Use {named('dtype', 'float32')}, a smaller {named('train_size')}, or a smaller {named('memory')}."


def _remarks(solver: Solver, trained: Trained, data: Dataset, config: FitConfig) -> list[str]:
    """What the solver says of the models, beside the best constant predictor."""
    share = np.bincount(data.y_train, minlength=len(data.classes)) / len(data.y_train)
    return solver.remarks(trained.table, trained.outcome, trained.history, config.loss.constant(share.tolist()))
