"""`LbfgsState` as plain arrays and JSON, bit for bit: every model's point, gradient, direction, pairs and line search,
and what its variables are made of.

A rotation is stored, since another machine may find another basis of the same space. What is unique is made again: the
mean of the samples, and the variables that a Hessian has whitened, from their origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.conditioning import Conditioning, centred
from gpureg.solvers.lbfgs.directions import Directions, Newton, QuasiNewton
from gpureg.solvers.lbfgs.hessian import Whitened, whitened
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.lbfgs.search import BRACKET, LineSearch
from gpureg.solvers.lbfgs.state import NUMBERS, VECTORS, WAYS, Batch, LbfgsState, Way
from gpureg.solvers.packing import Host, Unpacker, by_model, check_running, count_of, ragged, stop_reasons
from gpureg.types import Array, Floats, HostArrays, Ints

KEPT = ("waiting", "finals")  # of the state: one model's weights each
NOTED = {"models": "int64", "iterations": "int64", "numbers": "float64"}  # of each entry of the state's course
TRANSFORM = ("basis", "shift", "scale")  # of a conditioning


def pack(kernels: Kernels, state: LbfgsState) -> tuple[HostArrays, dict[str, Any]]:
    """A boundary's state."""
    arrays: HostArrays = {"iterations": state.iterations.copy()}
    for name in KEPT:
        arrays |= by_model(name, getattr(state, name))
    for place, (name, dtype) in enumerate(NOTED.items()):
        arrays |= ragged(f"course.{name}", [entry[place] for entry in state.course], dtype)
    meta: dict[str, Any] = {"way": state.way, "reasons": list(state.reasons), "passes": state.passes, "batch": None}
    if state.batch is not None:
        packed, meta["batch"] = _pack_batch(kernels, state.batch)
        arrays |= {f"batch.{name}": array for name, array in packed.items()}
    return arrays, meta


def unpack(objective: Objective, noise: float, most: int, arrays: HostArrays, meta: dict[str, Any]) -> LbfgsState:
    """The state on the device; `objective` is that of all L models, `noise` the line search's, `most` the maximum
    number of iterations.

    Raises ValueError or KeyError for what no state of them is.
    """
    read, L, shape = Unpacker(arrays), len(objective.table), (objective.kernels.n_columns, objective.D)
    waiting, finals = (read.by_model(name, L, *shape) for name in KEPT)
    state = LbfgsState(waiting, _way(meta["way"]), read.ints("iterations", L, below=most + 1), stop_reasons(meta, L))
    state.passes, state.finals = count_of(meta, "passes"), finals
    state.course = list(_course(read, state.iterations))
    if meta["batch"] is not None:
        own = {name.removeprefix("batch."): array for name, array in arrays.items() if name.startswith("batch.")}
        with objective.kernels.steady():
            state.batch = _unpack_batch(objective, noise, Unpacker(own), meta["batch"])
    active = [] if state.batch is None else state.batch.active.tolist()
    check_running(state.reasons, [*waiting, *active], finals)
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
    meta: dict[str, Any] = {"way": batch.way, "pairs": None, "transform": []}
    if isinstance(batch.directions, QuasiNewton):
        pairs = batch.directions.pairs
        meta["pairs"] = pairs.count
        arrays |= {"vectors": host(pairs.filled()), "ss_yy": pairs.ss_yy.copy(), "pair_age": pairs.age.copy()}
    if isinstance(batch.conditioning, Whitened):
        arrays["whitened_at"] = host(batch.conditioning.origin)
    else:
        transform = {name: getattr(batch.conditioning, name) for name in TRANSFORM}
        meta["transform"] = [name for name, array in transform.items() if array is not None]
        arrays |= {name: host(transform[name]) for name in meta["transform"]}
    return arrays, meta


def _unpack_batch(whole: Objective, noise: float, read: Unpacker, meta: dict[str, Any]) -> Batch:
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
    conditioning = _variables(objective, read, A, meta)
    return Batch(active, objective, conditioning, directions, way, search, *vectors, *numbers)


def _variables(objective: Objective, read: Unpacker, A: int, meta: dict[str, Any]) -> Conditioning | Whitened:
    kernels, D, K = objective.kernels, objective.D, objective.kernels.n_columns
    if meta["way"] == "whitened":
        return whitened(objective, kernels.backend.from_host(read.floats("whitened_at", A, K, D)))
    shapes = {"basis": (D, D), "shift": (D,), "scale": (A, 1, D)}
    basis, shift, scale = (
        kernels.backend.from_host(read.floats(name, *shapes[name])) if name in meta["transform"] else None
        for name in TRANSFORM
    )
    return Conditioning(kernels, basis, shift, scale, not objective.penalize_bias)


def _pairs(objective: Objective, read: Unpacker, A: int, count: int) -> QuasiNewton:
    directions = QuasiNewton(objective, A, objective.kernels.n_columns * objective.D)
    pairs = directions.pairs
    M, size = pairs.memory, pairs.vectors.shape[2]
    pairs.fill(read.floats("vectors", A, 2 * min(count, M), size), count)
    pairs.ss_yy, pairs.age = read.floats("ss_yy", 2, A, M, M), read.ints("pair_age", A, M)
    return directions


def _way(name: Any) -> Way:
    if name not in WAYS:
        raise ValueError(f"the way is {name!r}, expected one of {', '.join(WAYS)}")
    return name
