"""The inputs of an ONNX graph: one matrix, or for a table with words one input for each of its columns; and the steps
from them to the features of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.encoding import Encoding

FEATURES = "x"  # what the steps end with: (N, F)
OUTPUTS = ("label", "probabilities")
DOUBLE = 11
ML = "ai.onnx.ml"

Node = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]


@dataclass(frozen=True)
class Input:
    """An input `(N, width)` of words or numbers, and the `column` of the table that it is."""

    name: str
    width: int
    words: bool = False
    column: str | None = None


@dataclass(frozen=True)
class Steps:
    """The inputs, the constants by name, and the steps from the inputs to FEATURES, as (operator, inputs, outputs,
    attributes)."""

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...] = ()
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def steps_of(encoding: Encoding | None, F: int) -> Steps:
    """The steps of an encoding; without one the input `X (N, F)` is the features."""
    if encoding is None:
        return Steps((Input("X", F),), (("Identity", ("X",), (FEATURES,), {}),))
    if not encoding.words:
        return _matrix(encoding)
    inputs, parts, nodes, constants = [], [], [], {}
    for number, (name, columns) in enumerate(_columns(encoding.names or ())):
        words = encoding.categories[columns[0]]
        given = Input(f"{name}_column" if name in OUTPUTS else name, len(columns), words is not None, name)
        inputs.append(given)
        made = _Column(f"/{number}", given.name)
        if words is not None:
            found = list(made.words(words, encoding.missing))
        else:
            fill = None if encoding.fill is None else [encoding.fill[column] for column in columns]
            found = list(made.numbers(fill))
        nodes += found
        constants.update(made.constants)
        parts.append(found[-1][2][0])
    nodes.append(("Concat", tuple(parts), (FEATURES,), {"axis": 1}))
    return Steps(tuple(inputs), tuple(nodes), constants)


def _matrix(encoding: Encoding) -> Steps:
    made, source, nodes = _Column("/0", "X"), "X", []
    if encoding.positions is not None:
        made.constants["/used"] = np.array(encoding.positions, np.int64)
        nodes.append(("Gather", ("X", "/used"), ("/chosen",), {"axis": 1}))
        source = "/chosen"
    made = _Column("/0", source, made.constants)
    found = list(made.numbers(None if encoding.fill is None else list(encoding.fill)))
    last: Node = ("Identity", (found[-1][2][0],), (FEATURES,), {})
    return Steps((Input("X", encoding.width),), (*nodes, *found, last), made.constants)


@dataclass(frozen=True)
class _Column:
    """The steps of one input, whose values are called by `name`."""

    name: str
    source: str
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def numbers(self, fill: list[float] | None) -> Iterator[Node]:
        """Numbers in float64, missing ones filled in."""
        wide, absent = f"{self.name}/wide", f"{self.name}/absent"
        yield "Cast", (self.source,), (wide,), {"to": DOUBLE}
        if fill is not None:
            self.constants[f"{self.name}/fill"] = np.array([fill], np.float64)
            yield "IsNaN", (wide,), (absent,), {}
            yield "Where", (absent, f"{self.name}/fill", wide), (f"{self.name}/filled",), {}

    def words(self, categories: Sequence[str | None], missing: str) -> Iterator[Node]:
        """Words as 0 and 1; the empty word is a missing one, unless it is a category."""
        known = [word for word in categories if word is not None]
        hot, flat, wide = f"{self.name}/hot", f"{self.name}/flat", f"{self.name}/categories"
        absent, last = f"{self.name}/absent", f"{self.name}/last"
        parts = [wide]
        if known:
            yield "OneHotEncoder", (self.source,), (hot,), {"cats_strings": known, "zeros": 1, "domain": ML}
            self.constants[f"{self.name}/axis"] = np.array([1], np.int64)
            yield "Squeeze", (hot, f"{self.name}/axis"), (flat,), {}
            yield "Cast", (flat,), (wide,), {"to": DOUBLE}
        if None not in categories and (missing == "mean" or "" in known):
            return
        of_missing = 0.0 if "" in known else 1.0 if None in categories else float("nan")
        mapping = {"keys_strings": [""], "values_floats": [of_missing], "default_float": 0.0, "domain": ML}
        yield "LabelEncoder", (self.source,), (absent,), mapping
        yield "Cast", (absent,), (last,), {"to": DOUBLE}
        if None not in categories:  # NaN in all of the column's features
            yield "Add", (wide, last), (f"{self.name}/all",), {}
        elif known:
            yield "Concat", (*parts, last), (f"{self.name}/all",), {"axis": 1}


def _columns(names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """The columns of a table with their places; `e[0]`, `e[1]`, ... are one, `e`."""
    place = 0
    while place < len(names):
        base, length = names[place].removesuffix("[0]"), 0
        while place + length < len(names) and names[place + length] == f"{base}[{length}]":
            length += 1
        if length < 2 or base in names:
            base, length = names[place], 1
        yield base, list(range(place, place + length))
        place += length
