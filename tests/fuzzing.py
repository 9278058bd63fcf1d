"""Mutations, seeded: of bytes, of JSON values and of arrays, which keep the rest of what they change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e308, float("inf"), float("nan"), "",
    "x", "softmax", "\udcff", "\0", [], [[]], [1, "x"], {}, {"l2": 1}, [None] * 9,
)  # fmt: skip


def mutated_json(value: Any, rng: np.random.Generator) -> Any:
    """A copy with one change at a random place: dropped, doubled, or something else instead."""
    value = copy.deepcopy(value)
    place, parent, key = value, None, None
    while isinstance(place, (dict, list)) and place and (parent is None or rng.random() < 0.8):
        parent, key = place, _pick(list(place) if isinstance(place, dict) else list(range(len(place))), rng)
        place = parent[key]
    if parent is None:
        return _pick(VALUES, rng)
    kind = rng.integers(4)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(place))
    elif kind == 1:
        parent[f"{key}x"] = parent.pop(key)
    else:
        parent[key] = copy.deepcopy(_pick(VALUES, rng))
    return value


def mutated_arrays(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """A copy with one array changed: its name, shape, type or numbers."""
    name = _pick(sorted(arrays), rng)
    rest = {other: array for other, array in arrays.items() if other != name}
    kind = _pick(["drop", "rename", "swap", *CHANGES], rng)
    if kind == "drop":
        return rest
    if kind == "rename":
        return rest | {f"{name}x": arrays[name]}
    if kind == "swap":
        return arrays | {name: arrays[_pick(sorted(arrays), rng)]}
    return rest | {name: CHANGES[kind](arrays[name], rng)}


def _other_numbers(array: Array, rng: np.random.Generator) -> Array:
    changed = array.copy()
    if changed.size:
        odd = [-1, 10**6, 0] if changed.dtype.kind in "iu" else [np.nan, np.inf, 1e300, -1.0]
        with np.errstate(over="ignore"):
            changed.reshape(-1)[rng.integers(changed.size)] = _pick(odd, rng)
    return changed


def _other_type(array: Array, rng: np.random.Generator) -> Array:
    kind = _pick(["f4", "f8", "f2", "i8", "i4", "u1", "b1", "c16", "S3", "U4", ">f8", ">i8", "M8[s]"], rng)
    with np.errstate(all="ignore"):
        return (
            array.astype(np.int64).astype(kind) if array.dtype.kind == "f" and kind == "M8[s]" else array.astype(kind)
        )


CHANGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "shorter": lambda array, rng: array[:-1] if array.ndim else array.reshape(1),
    "longer": lambda array, rng: np.concatenate([array, array[:1]]) if array.ndim and len(array) else array[None],
    "narrower": lambda array, rng: array[..., :-1] if array.ndim else array.reshape(1, 1),
    "an axis more": lambda array, rng: array[None],
    "an axis less": lambda array, rng: array.reshape(-1) if array.ndim > 1 else array.sum(),
    "transposed": lambda array, rng: array.T.copy(),
    "empty": lambda array, rng: array.reshape(-1)[:0],
    "type": _other_type,
    "numbers": _other_numbers,
}


def mutated_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with a bit flipped, a part cut out, doubled or overwritten."""
    start, end = sorted(int(place) for place in rng.integers(0, len(content) + 1, 2))
    kind = rng.integers(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[end:]
    if kind == 2:
        return content[:end] + content[start:]
    if kind == 3:
        return content[:start] + bytes(rng.integers(0, 256, min(9, end - start), dtype=np.uint8)) + content[start + 9 :]
    changed = bytearray(content)
    changed[min(start, len(content) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _pick(choices: Any, rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]
