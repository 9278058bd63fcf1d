"""What JSON values and arrays must be, declared once and checked before use.

JSON: a type as it is annotated. `class Row(TypedDict): l2: float; fold: int | None` and then `conform(value, Row)`.
Arrays: `{"coef": Array("float", ("L", "K", "D")), "l2": Array("float", ("L",))}`; a letter is the same size everywhere.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NotRequired, Union

import numpy as np
import numpy.typing as npt

MOST = sys.float_info.max
KINDS = {"float": (np.float32, np.float64), "int": (np.int8, np.int16, np.int32, np.int64)}


class MismatchError(ValueError):
    """A value that is not what the schema says; names it, what it is, and what was expected."""


def conform(value: Any, kind: Any, where: str = "") -> None:
    """Check a JSON value against a type: float (finite, whole ones included), int (64 bits), bool, str, None, unions,
    Literal, list[X], tuple[X, ...] (a list too), dict[str, X] and TypedDict (further keys are ignored). Raises
    MismatchError, which names the place.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if origin in (Union, types.UnionType):
        _one_of(value, parts, where)
    elif origin is Literal:
        _expect(any(type(value) is type(part) and value == part for part in parts), value, kind, where)
    elif origin in (list, tuple):
        _expect(isinstance(value, (list, tuple)), value, kind, where)
        for index, item in enumerate(value):
            conform(item, parts[0], f"{where}[{index}]")
    elif origin is dict:
        _expect(isinstance(value, dict), value, kind, where)
        for key, item in value.items():
            conform(item, parts[1], _inside(where, key))
    elif typing.is_typeddict(kind):
        _table(value, kind, where)
    elif kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _expect(number and -MOST <= value <= MOST, value, kind, where)
    elif kind is int:
        _expect(type(value) is int and -(2**63) <= value < 2**63, value, kind, where)
    else:
        _expect(type(value) is (type(None) if kind is None else kind), value, kind, where)


def conforms(value: Any, kind: Any) -> bool:
    """Whether `conform` accepts the value."""
    try:
        conform(value, kind)
    except MismatchError:
        return False
    return True


def _table(value: Any, kind: Any, where: str) -> None:
    _expect(isinstance(value, dict), value, kind, where)
    for name, (hint, optional) in _fields(kind).items():
        if name in value:
            conform(value[name], hint, _inside(where, name))
        elif not optional:
            raise MismatchError(f"{_inside(where, name)} is missing")


@cache
def _fields(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    """The fields of a TypedDict: the type of each, and whether it may be missing."""
    hints = typing.get_type_hints(kind, include_extras=True)
    optional = {name for name, hint in hints.items() if typing.get_origin(hint) is NotRequired}
    return {
        name: (typing.get_args(hint)[0] if name in optional else hint, name in optional) for name, hint in hints.items()
    }


def _one_of(value: Any, parts: tuple[Any, ...], where: str) -> None:
    """The part of a union to which the value belongs; if only one is not None, what is wrong with it."""
    others = [part for part in parts if part is not type(None)]
    if value is None and len(others) < len(parts):
        return
    if len(others) == 1:
        conform(value, others[0], where)
        return
    _expect(any(conforms(value, part) for part in others), value, " or ".join(map(_name, parts)), where)


def _expect(holds: bool, value: Any, kind: Any, where: str) -> None:
    if not holds:
        raise MismatchError(f"{where or 'it'} is {_shown(value)}, expected {_name(kind)}")


def _inside(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a number with thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."


def _name(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))


@dataclass(frozen=True)
class Array:
    """An array: its kind of numbers, its shape (a number, or a letter for a size), and the bounds of its values.

    `low <= value < below` is checked for whole numbers; `below` may be a letter.
    """

    kind: Literal["float", "int"]
    shape: tuple[int | str, ...]
    low: int | None = None
    below: int | str | None = None


def conform_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], schema: Mapping[str, Array], sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Check that the arrays of the schema are there and fit, with `sizes` known before; returns all sizes.

    Raises MismatchError, which names the array, what it is and what was expected. Further arrays are ignored.
    """
    known = dict(sizes or {})
    for name, spec in schema.items():
        if name not in arrays:
            raise MismatchError(f"{name} is missing")
        array = arrays[name]
        fits = array.dtype.isnative and array.dtype in KINDS[spec.kind] and len(array.shape) == len(spec.shape)
        for letter, size in zip(spec.shape, array.shape, strict=False):
            if isinstance(letter, str):
                letter = known.setdefault(letter, size) if fits else -1
            fits &= letter == size
        if not fits:
            shape = f"({', '.join(str(known.get(str(letter), letter)) for letter in spec.shape)})"
            raise MismatchError(f"{name} is {array.dtype} {array.shape}, expected {spec.kind} {shape}")
        _within(name, array, spec, known)
    return known


def _within(name: str, array: npt.NDArray[Any], spec: Array, sizes: Mapping[str, int]) -> None:
    below = sizes[spec.below] if isinstance(spec.below, str) else spec.below
    if array.size and (
        (spec.low is not None and array.min() < spec.low) or (below is not None and array.max() >= below)
    ):
        raise MismatchError(
            f"{name} has values from {array.min()} to {array.max()}, expected at least {spec.low}"
            + ("" if below is None else f" and below {below}")
        )
