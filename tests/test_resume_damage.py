"""Checkpoints whose content was changed, their structure kept or not: RunError, or a fit that ends; nothing else."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
from resuming import DATA, SWEEP, Memory, boundaries_of, run

from gpureg.config import FitConfig
from gpureg.errors import RunError
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.resume import unpack
from gpureg.types import HostArrays

CASES: dict[str, dict[str, Any]] = {
    "sgd": SWEEP | {"keep": "best", "seeds": 2, "epochs": 5, "memory": 300_000, "patience": 2},
    "lbfgs": {"solver": "lbfgs", "l2": (0.3, 1e-3, 1e-6), "cv": 2, "dtype": "float64"},
}
PLACES: tuple[Any, ...] = (None, True, -1, 3, 10**30, 0.5, float("nan"), "word", [], {}, [1, 2], {"a": 1})


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values of a JSON tree."""
    below: list[tuple[Any, ...]] = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, child in children:
        below += leaves(child, (*path, key))
    return below


def changed_meta(meta: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    meta = copy.deepcopy({name: value for name, value in meta.items() if name not in ("config", "data_sha256")})
    paths = leaves(meta)
    *way, last = paths[random.integers(len(paths))]
    place: Any = meta
    for key in way:
        place[key] = list(place[key]) if isinstance(place[key], tuple) else place[key]
        place = place[key]
    place[last] = PLACES[random.integers(len(PLACES))]
    return meta


def changed_array(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    kind = random.integers(6)
    if kind == 0:
        return array.astype(random.choice(["float32", "int32", "U5", "bool"]))
    if kind == 1:
        return array[: random.integers(len(array) + 1)] if array.ndim else np.zeros(2)
    if kind == 2:
        return np.repeat(array, 2, axis=random.integers(array.ndim)) if array.ndim else np.zeros(2)
    array = array.copy()
    if array.size:
        bad = [-1, 0, 1, 7, 2**40] if array.dtype.kind in "iu" else [np.nan, np.inf, -1.0, 1e300, 0.0]
        flat = array.reshape(-1)
        flat[random.integers(flat.size, size=1 if kind < 5 else flat.size)] = random.choice(bad)
    return array


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("case", CASES)
def test_a_changed_checkpoint(case: str, seed: int) -> None:
    config, random = FitConfig(**CASES[case]), np.random.default_rng(seed)
    keeper = Memory()
    run(config, int(random.integers(1, boundaries_of(config))), keeper)
    assert keeper.last is not None
    arrays, meta = keeper.last
    for _ in range(12):
        other: HostArrays = dict(arrays)
        said = meta
        if random.random() < 0.4:
            said = meta | changed_meta(meta, random)
        else:
            name = str(random.choice(sorted(arrays)))
            other[name] = changed_array(np.asarray(arrays[name]), random)
        with contextlib.suppress(RunError):
            run_fit(DATA["softmax"], config, Hooks(), saved=unpack(other, said))
