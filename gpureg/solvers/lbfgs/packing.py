"""`LbfgsState` as plain arrays and JSON, bit for bit: every model's point, gradient, direction, pairs and line search,
and what its variables are made of.

A rotation is stored, since another machine may find another basis of the same space. What is unique is computed again:
the mean of the samples, and the variables that a Hessian has whitened, from their origin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.conditioning import Conditioning, Spectrum, centred
from gpureg.solvers.lbfgs.directions import Directions, Newton, QuasiNewton, memory_of
from gpureg.solvers.lbfgs.hessian import Whitened, whitened
from gpureg.solvers.lbfgs.logits import pack_logits, unpack_logits
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.lbfgs.pairs import Heritage
from gpureg.solvers.lbfgs.search import BRACKET, LineSearch
from gpureg.solvers.lbfgs.state import NUMBERS, VECTORS, WAYS, Batch, LbfgsState, Way
from gpureg.solvers.packing import Host, Unpacker, by_model, check_running, count_of, ragged, stop_reasons
from gpureg.types import Array, Floats, HostArrays, Ints

KEPT = ("waiting", "finals", "gradients")  # of the state: one model's numbers each
NOTED = {"models": "int64", "iterations": "int64", "numbers": "float64"}  # of each entry of the state's course
ON_HOST, ON_DEVICE = ("spread", "centre", "classes"), ("basis", "turn")  # of a spectrum


def pack(kernels: Kernels, state: LbfgsState) -> tuple[HostArrays, dict[str, Any]]:
    """A boundary's state."""
    arrays: HostArrays = {name: getattr(state, name).copy() for name in ("iterations", "evaluated", "losses", "hits")}
    for name in KEPT:
        arrays |= by_model(name, getattr(state, name))
    for place, (name, dtype) in enumerate(NOTED.items()):
        arrays |= ragged(f"course.{name}", [entry[place] for entry in state.course], dtype)
    meta: dict[str, Any] = {"way": state.way, "reasons": list(state.reasons), "passes": state.passes, "batch": None}
    meta["anew"] = state.anew
    spectrum, meta["spectrum"] = _pack_spectrum(kernels, state.spectrum)
    logits, meta["logits"] = pack_logits(state.logits)
    arrays |= _pack_pairs(kernels, state.pairs) | spectrum | logits
    if state.batch is not None:
        packed, meta["batch"] = _pack_batch(kernels, state.batch)
        arrays |= {f"batch.{name}": array for name, array in packed.items()}
    return arrays, meta


def unpack(
    objective: Objective, noise: float, most: int, arrays: HostArrays, meta: dict[str, Any], later: Sequence[int] = ()
) -> LbfgsState:
    """The state on the device; `objective` is that of all L models, `noise` the line search's, `most` the maximum
    number of iterations; `later`: the models that have not begun.

    Raises ValueError or KeyError for anything that is not a state of these models.
    """
    read, L, shape = Unpacker(arrays), len(objective.table), (objective.kernels.n_columns, objective.D)
    waiting, finals, gradients = (read.by_model(name, L, *shape) for name in KEPT)
    counts = (read.ints("iterations", L, below=most + 1), read.ints("evaluated", L))
    known = (read.floats("losses", L), read.floats("hits", L))
    state = LbfgsState(waiting, _way(meta["way"]), *counts, *known, stop_reasons(meta, L))
    state.passes, state.finals, state.gradients = count_of(meta, "passes"), finals, gradients
    state.anew = bool(meta["anew"])
    state.course = list(_course(read, state.iterations))
    state.spectrum, state.pairs = _spectrum(objective, read, meta["spectrum"]), _pairs_left(objective, read)
    state.logits = unpack_logits(objective, read, meta["logits"])
    if meta["batch"] is not None:
        own = {name.removeprefix("batch."): array for name, array in arrays.items() if name.startswith("batch.")}
        with objective.kernels.steady():
            state.batch = _unpack_batch(objective, noise, state.spectrum, Unpacker(own), meta["batch"])
    active = [] if state.batch is None else state.batch.active.tolist()
    check_running(state.reasons, [*waiting, *active, *later], finals)
    measured = {model for model in finals if np.isfinite(state.losses[model])}
    if not measured <= gradients.keys():
        raise ValueError(f"gradients of the models {sorted(gradients)}, expected those of {sorted(measured)}")
    return state


def _course(read: Unpacker, iterations: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
    columns = (read.ragged(f"course.{name}", dtype) for name, dtype in NOTED.items())
    for models, rows, numbers in zip(*columns, strict=True):
        if not (models.ndim == 1 and models.shape == rows.shape and numbers.shape == (2, len(models))):
            raise ValueError(f"a course of {models.shape}, {rows.shape}, {numbers.shape}, expected (A,), (A,), (2, A)")
        if len(models) and not 0 <= models.min() <= models.max() < len(iterations):
            raise ValueError(f"a course of models {models.tolist()}, expected some of 0 to {len(iterations) - 1}")
        if not ((rows >= 0) & (rows <= iterations[models])).all():
            raise ValueError(f"a course of iterations {rows.tolist()}, expected some that were made")
        yield models, rows, numbers


def _pack_batch(kernels: Kernels, batch: Batch) -> tuple[HostArrays, dict[str, Any]]:
    def host(array: Array) -> Host:
        return kernels.to_host(array)  # exact: it is float64  # sync

    arrays: HostArrays = {"active": batch.active}
    arrays |= {name: host(getattr(batch, name)) for name in VECTORS}
    arrays |= {name: getattr(batch, name).copy() for name in NUMBERS}
    arrays |= {f"search.{name}": getattr(batch.search, name).copy() for name in BRACKET}
    meta: dict[str, Any] = {"way": batch.way, "pairs": None}
    if isinstance(batch.directions, QuasiNewton):
        pairs = batch.directions.pairs
        meta["pairs"] = pairs.count
        arrays |= {"vectors": host(pairs.filled()), "ss_yy": pairs.ss_yy.copy(), "pair_age": pairs.age.copy()}
    if isinstance(batch.conditioning, Whitened):
        arrays |= _pack_whitened(kernels, batch.conditioning)
    return arrays, meta


def _pack_whitened(kernels: Kernels, variables: Whitened) -> HostArrays:
    """Whole groups, including models that have left: so they are computed again exactly as they were."""
    groups = variables.groups
    sizes = np.array([len(group.models) for group in groups], np.int64)
    first = np.cumsum(sizes) - sizes
    return {
        "whitened_sizes": sizes,
        "whitened_models": np.concatenate([group.models for group in groups]),
        "whitened_at": np.concatenate([kernels.to_host(group.origins) for group in groups]),  # sync
        "whitened_kept": np.concatenate([start + group.kept for start, group in zip(first, groups, strict=True)]),
    }


def _whitened(whole: Objective, read: Unpacker, active: Ints) -> Whitened:
    kernels, models = whole.kernels, read.ints("whitened_models", None, below=len(whole.table))
    sizes, kept = read.ints("whitened_sizes", None), read.ints("whitened_kept", len(active), below=len(models))
    if not (sizes.sum() == len(models) and (sizes > 0).all() and np.array_equal(models[kept], active)):
        raise ValueError(f"whitened models {models.tolist()} in groups of {sizes.tolist()}, expected {active.tolist()}")
    at = read.floats("whitened_at", len(models), kernels.n_columns, whole.D)
    return whitened(whole.take(models), kernels.backend.from_host(at), models, sizes.tolist()).take(kept)


def _pack_pairs(kernels: Kernels, pairs: Mapping[int, Heritage]) -> HostArrays:
    left = list(pairs.values())
    arrays: HostArrays = {
        "left.models": np.array(list(pairs), np.int64),
        "left.count": np.array([p.count for p in left], np.int64),
    }
    arrays |= ragged("left.vectors", [kernels.to_host(one.vectors) for one in left])  # sync
    return arrays | ragged("left.age", [one.age for one in left], "int64")


def _pairs_left(objective: Objective, read: Unpacker) -> dict[int, Heritage]:
    models, from_host = read.ints("left.models", None, below=len(objective.table)), objective.kernels.backend.from_host
    counts, size = read.ints("left.count", len(models)), objective.kernels.n_columns * objective.D
    memory = memory_of(objective.rows.n, size)
    found = {}
    parts = zip(
        models.tolist(), read.ragged("left.vectors"), read.ragged("left.age", "int64"), counts.tolist(), strict=True
    )
    for model, vectors, age, count in parts:
        if vectors.shape != (2 * max(1, min(count, memory)), size) or age.shape != (memory,):
            raise ValueError(f"pairs {vectors.shape} of ages {age.shape}, expected {memory} of {size} numbers")
        found[model] = Heritage(from_host(vectors), age, count)
    return found


def _pack_spectrum(kernels: Kernels, spectrum: Spectrum | None) -> tuple[HostArrays, list[str] | None]:
    """The spectrum, and the names of what it has; None if there is none."""
    if spectrum is None:
        return {}, None
    found = {name: getattr(spectrum, name) for name in (*ON_HOST, *ON_DEVICE)}
    names = [name for name, array in found.items() if array is not None]
    return {
        f"spectrum.{name}": kernels.to_host(found[name]) if name in ON_DEVICE else found[name]  # sync
        for name in names
    }, names


def _spectrum(objective: Objective, read: Unpacker, names: Sequence[str] | None) -> Spectrum | None:
    if names is None:
        return None
    D, K, kernels = objective.D, objective.kernels.n_columns, objective.kernels
    shapes: dict[str, tuple[int | None, ...]] = {"centre": (D,), "basis": (D, D), "turn": (K, K)}
    centre, basis, turn = (
        read.floats(f"spectrum.{name}", *shape) if name in names else None for name, shape in shapes.items()
    )
    on_device = (None if array is None else kernels.backend.from_host(array) for array in (basis, turn))
    basis, turn = on_device
    spread, classes = read.floats("spectrum.spread", D), read.floats("spectrum.classes", None)
    return Spectrum(kernels, spread, basis, centre, classes, turn)


def _unpack_batch(
    whole: Objective, noise: float, spectrum: Spectrum | None, read: Unpacker, meta: dict[str, Any]
) -> Batch:
    kernels, D, K = whole.kernels, whole.D, whole.kernels.n_columns
    active = read.ints("active", None, below=len(whole.table))
    A, P, objective, way = len(active), K * D, whole.take(active), _way(meta["way"])
    from_host = kernels.backend.from_host
    directions: Directions
    if way == "newton":
        directions = Newton(objective, centred(kernels, objective.rows, free=not objective.penalize_bias)[1])
    else:
        directions = _pairs(objective, read, A, count_of(meta, "pairs"))
    search = LineSearch(A, noise)
    for name in BRACKET:
        setattr(search, name, read.ints(f"search.{name}", A) if name == "tries" else read.floats(f"search.{name}", A))
    vectors = (from_host(read.floats(name, A, P)) for name in VECTORS)
    numbers = (read.ints(name, A) if name in ("idle", "age") else read.floats(name, A) for name in NUMBERS)
    conditioning = _whitened(whole, read, active) if way == "whitened" else _variables(objective, spectrum, way)
    return Batch(active, objective, conditioning, directions, way, search, *vectors, *numbers)


def _variables(objective: Objective, spectrum: Spectrum | None, way: Way) -> Conditioning:
    if way == "newton":
        return centred(objective.kernels, objective.rows, free=not objective.penalize_bias)[0]
    if spectrum is None:
        raise ValueError("no spectrum, which the variables of a batch are made of")
    return spectrum.at(objective.table.l2)


def _pairs(objective: Objective, read: Unpacker, A: int, count: int) -> QuasiNewton:
    directions = QuasiNewton(objective, A, objective.kernels.n_columns * objective.D)
    pairs = directions.pairs
    M, size = pairs.memory, pairs.vectors.shape[2]
    pairs.fill(read.floats("vectors", A, 2 * max(1, min(count, M)), size), count)
    pairs.ss_yy, pairs.age = read.floats("ss_yy", 2, A, M, M), read.ints("pair_age", A, M)
    return directions


def _way(name: Any) -> Way:
    if name not in WAYS:
        raise ValueError(f"the way is {name!r}, expected one of {', '.join(WAYS)}")
    return name
