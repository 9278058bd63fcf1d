"""`fit`: from a data set and a configuration to a `FitResult`. This is what the commands call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gpureg.backend import Backend, choose_backend, numpy_backend
from gpureg.config import FitConfig, FitOptions, refuse_unknown
from gpureg.data import Dataset, Scaling
from gpureg.data.sparse import is_sparse
from gpureg.environment import blas_threads, describe_environment
from gpureg.errors import GpuregWarning, UsageError, named
from gpureg.events import Event, FitBegun, FitEnded
from gpureg.fitting.assemble import Trained, linear_model, model_results
from gpureg.fitting.blocking import Blocking, with_solver
from gpureg.fitting.checks import check_data
from gpureg.fitting.defaults import configured, of_two_classes, settled, total_weight
from gpureg.fitting.engine import on_engine
from gpureg.fitting.finishing import Finisher, Held
from gpureg.fitting.grid import model_table, with_refits
from gpureg.fitting.groups import fold_numbers, grouped
from gpureg.fitting.memory import cut, on_device, peak_of
from gpureg.fitting.notices import of_folds
from gpureg.fitting.patience import left_out_notices, without_the_rest
from gpureg.fitting.prepare import assignments_of, prepare, scaling_of, sizes_of
from gpureg.fitting.refit import refitted
from gpureg.fitting.results import FitResult
from gpureg.fitting.resume import Saved, check_resumable, fingerprint
from gpureg.fitting.scores import Scored
from gpureg.fitting.selection import Chosen, select
from gpureg.fitting.stages import Hooks, Stages
from gpureg.fitting.testing import TestRows, tested, tester
from gpureg.fitting.unseen import Lacking
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.protocol import Solver
from gpureg.types import Ints, ModelTable

__all__ = ["Hooks", "fit", "fit_on", "run_fit"]


def fit(
    data: Dataset,
    config: FitConfig | None = None,
    *,
    folds: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    test: TestRows | None = None,
    observe: Callable[[Event], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Train one model for every λ in `l2` (times learning rates, folds and seeds), all as one batch.

    Minimises, per model, `J(w) = C(w) + λ Σ w²` with C the mean cross-entropy in nats, by minibatch gradient descent
    `w -= lr (∂C/∂w + 2 λ w)` with early stopping (`solver="sgd"`) or to the optimum (`"lbfgs"`). Models that float32 is
    too coarse to bring to `tol` are finished in float64, if memory allows; the result is float32.

    `options` are the fields of `gpureg.config.FitConfig`, which has their defaults: `task`, `l2`, `lr`, `epochs`, `cv`,
    ...; with a `config` they replace its values. Without `solver`, an option that only one solver has chooses it;
    otherwise it is `sgd` for the named data sets and `lbfgs` for a file or arrays. `folds (N,)` or `(seeds, N)` gives
    the fold in which each training row is held out: numbers from 0, or any names `(N,)`. Without `folds`, `cv` draws
    stratified folds, in which rows of equal `groups (N,)` stay together; without either, whole groups go to the
    validation split.
    `test`, a file or `(X, y)` or `(X, y, sample_weight)`: the chosen model is evaluated there once, at the end.
    `observe(event)` sees the events of `gpureg.events`; `should_stop()` is asked at every boundary, an epoch or a pass
    over the data.

    Raises UsageError for options and data that do not fit together, DeviceError with `strict_device` if the device is
    not available, OutOfMemoryError before the start if the run does not fit in memory. Warns with GpuregWarning.

    >>> import gpureg
    >>> data = gpureg.load_dataset("digits")
    >>> result = gpureg.fit(data, solver="lbfgs", l2=[1e-3, 1e-4, 1e-5], cv=3)
    >>> len(result.models)  # three folds for each λ, and its refit
    12
    >>> result.models[result.selected].l2
    0.0001
    >>> bool(result.models[result.selected].val_accuracy > 0.95)
    True
    """
    refuse_unknown(options, FitOptions.__optional_keys__, "fit was given")
    if not isinstance(data, Dataset):
        kind = "None" if data is None else f"a {type(data).__name__}"
        raise UsageError(f"data is {kind}; expected what gpureg.load_dataset or gpureg.make_dataset returns.")
    numbers = fold_numbers(folds, options.get("cv", None if config is None else config.cv))
    chosen, notices = configured(data, config, options, numbers)
    for notice in notices:
        warnings.warn(notice, GpuregWarning, stacklevel=2)
    hooks = Hooks(observe or (lambda event: None), should_stop or (lambda: False))
    return run_fit(data, chosen, hooks, folds=numbers, groups=groups, test=test)


def run_fit(
    data: Dataset,
    config: FitConfig,
    hooks: Hooks,
    *,
    folds: Ints | None = None,
    groups: npt.ArrayLike | None = None,
    test: TestRows | None = None,
    saved: Saved | None = None,
) -> FitResult:
    """`fit` with the options as one value, resumed from the checkpoint `saved` if there is one.

    Raises RunError if the checkpoint belongs to other data.
    """
    split = config.cv is None and folds is None and data.folds is None
    data = data if split else data.for_folds()
    if groups is not None:
        data = grouped(data, groups, config.seed, split=split)
    notices = of_two_classes(config, data)
    config = settled(config, data, folds)
    testing = tester(data, config, test)
    with ExitStack() as stack:
        threads = config.threads if saved is None else saved.meta["threads"]  # bits depend on their number
        if threads is not None:
            stack.enter_context(threadpool_limits(threads, user_api="blas"))
        config, solver = with_solver(config, data)
        data = stack.enter_context(on_engine(data, config, hooks.observe))
        backend = _backend(data, config, solver)

        def work(backend: Backend) -> FitResult:
            return fit_on(backend, data, config, hooks, solver=solver, folds=folds, saved=saved, notices=notices)

        result = tested(on_device(backend, work, _needs_less(), strict=config.strict_device), testing)
    hooks.observe(FitEnded(result))
    return result


def fit_on(
    backend: Backend,
    data: Dataset,
    config: FitConfig,
    hooks: Hooks,
    *,
    solver: Solver | None = None,
    folds: Ints | None = None,
    saved: Saved | None = None,
    notices: Sequence[str] = (),
) -> FitResult:
    """`run_fit` on a backend (any array-API namespace) and with a solver of the caller's choice.

    `notices` are shown to the user with the others.
    """
    config = settled(config, data, folds)
    if solver is None:
        config, solver = with_solver(config, data)
    check_data(data, config, solver)
    threads = blas_threads()  # asked for now: while the fit runs they are held at one
    table = _table(config, solver)
    kernels_on = _kernels_of(data, config)
    kernels = kernels_on(backend)
    one_model = solver.bytes_per_model(len(data.y_train), data.X_train.shape[1] + 1, kernels.n_columns)
    blocking = Blocking.of(data, config, hooks.observe, minibatches=solver.minibatches, one_model=one_model)
    stages = Stages(kernels, solver, hooks, lambda: fingerprint(data, config, backend.device, threads), saved, blocking)
    sizes = sizes_of(data, config, len(np.unique(solver.members(table))), int(table.column.max()) + 1, blocking)
    notices = [*([backend.notice] if backend.notice else []), *data.notices, *notices]
    notices += solver.notices(kernels, sizes.rows, sizes.features)
    notices += [] if saved is None else check_resumable(saved, data, backend.device, threads)
    blocks = cut(solver, kernels, table, sizes, config.memory)
    scaling = scaling_of(data, config)
    assignments = assignments_of(data, config, folds)
    lacking, scored = Lacking.of(data, config, scaling, assignments), Scored.of(data, config, assignments)
    notices += [*of_folds(data, config), *lacking.notices(), *scored.notices()]
    finisher = Finisher(stages, config, kernels_on)
    make = partial(prepare, data, table=table, scaling=scaling, assignments=assignments)
    held = Held(data, make, kernels_on, make(config, kernels, blocking=blocking))
    hooks.observe(FitBegun(_run_config(data, config), table))
    if blocking is not None and sizes.streamed is not None:
        hooks.observe(blocking.begun(data, kernels, peak_of(solver, kernels, sizes, blocks, config.memory)))
    trained = lacking.train_all(finisher, held, blocks)
    patience = 0 if stages.interrupted else config.path_patience
    trained, left_out = without_the_rest(trained, patience, scored) if patience else (trained, ())
    notices += left_out_notices(left_out, patience, config.score)
    with stages.kept():
        chosen = select(stages, held, trained, data, config, scored)
        held.release()  # the rows are placed again for a last refit
        chosen = refitted(finisher, chosen, data, config, scaling)
        backend.synchronize()
    notices += [*chosen.notices, *chosen.trained.outcome.warnings, *_remarks(solver, chosen.trained, data, config)]
    result = _result(data, config, backend, chosen, scaling, (stages.seconds, tuple(notices)))
    return replace(result, left_out=left_out)


def _backend(data: Dataset, config: FitConfig, solver: Solver) -> Backend:
    """Where the arithmetic is done that is not about the rows, and that of the rows too unless they lie elsewhere."""
    if config.engine == "dask":
        return numpy_backend(config.dtype, why="the rows lie on Dask's workers", requested=config.device)
    return choose_backend(
        config.device,
        config.dtype,
        strict=config.strict_device,
        factorises=solver.factorises,
        sparse=is_sparse(data.X_train),
    )


def _table(config: FitConfig, solver: Solver) -> ModelTable:
    """The models that are trained as one batch."""
    table = model_table(config)
    if config.cv is None or not solver.refits_along:
        return table
    return with_refits(table, config.seeds * config.cv)


def _kernels_of(data: Dataset, config: FitConfig) -> Callable[[Backend], Kernels]:
    """What makes the kernels of a fit, on a backend."""
    K, which, memory = len(data.classes), config.kernels, config.memory
    return partial(choose_kernels, loss=config.loss, n_classes=K, which=which, memory=memory)


def _result(
    data: Dataset,
    config: FitConfig,
    backend: Backend,
    chosen: Chosen,
    scaling: Scaling,
    course: tuple[float, tuple[str, ...]],
) -> FitResult:
    trained, (seconds, notices) = chosen.trained, course
    outcome, table = trained.outcome, trained.table
    models = model_results(outcome, table)
    model = chosen.refit_model(data, config) or linear_model(trained, data, config, scaling, chosen.cv, chosen.index)
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
        history=replace(
            trained.history, lr=np.where(table.lr > 0, table.lr, np.nan), score=outcome.measured.score.copy()
        ),
        model=model,
        selected=chosen.index,
        cv=chosen.cv,
        config=_run_config(data, config),
        environment=describe_environment() | _where(backend),
        warnings=notices,
        solver=config.solver,
        feature_names=data.feature_names,
        image_shape=data.image_shape,
        total_weight=total_weight(data, config),
    )


def _run_config(data: Dataset, config: FitConfig) -> dict[str, Any]:
    """What config.toml holds: the fit's options, with the data's unless those were loaded for another task or seed, and
    so would not load the same rows again.
    """
    fit = config.to_dict()
    same = all(fit[name] == value for name, value in data.options.items() if name in fit)
    if same and data.options.get("folds") is not None:  # which says how many there are
        fit = {name: value for name, value in fit.items() if name not in ("cv", "seeds")}
    return (data.options if same else {}) | fit


def _where(backend: Backend) -> dict[str, Any]:
    """The device and why it was chosen; for a GPU also its name and versions."""
    found: dict[str, Any] = {"device": backend.device, "device_why": backend.why}
    return found | {"cuda": backend.card} if backend.card else found


def _needs_less() -> str:
    return f"Use {named('dtype', 'float32')}, a smaller {named('train_size')}, or a smaller {named('memory')}."


def _remarks(solver: Solver, trained: Trained, data: Dataset, config: FitConfig) -> list[str]:
    """The solver's remarks about the models, compared with the best constant predictor."""
    share = np.bincount(data.y_train, data.sample_weight, len(data.classes))
    share = share / share.sum()
    return solver.remarks(trained.table, trained.outcome, trained.history, config.loss.constant(share.tolist()))
