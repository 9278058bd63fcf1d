"""`PathState` as plain arrays and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.packing import Unpacker, count_of
from gpureg.solvers.path.state import PathState
from gpureg.types import HostArrays, Ints


def pack(descent: LbfgsDescent, state: PathState) -> tuple[HostArrays, dict[str, Any]]:
    """A boundary's state."""
    arrays, meta = descent.pack(state.run)
    return arrays | {"scores": np.array(state.scores, np.float64)}, meta | {
        "point": state.point,
        "ended": state.ended,
        "spent": state.spent,
    }


def unpack(descent: LbfgsDescent, points: Sequence[Ints], arrays: HostArrays, meta: dict[str, Any]) -> PathState:
    """The state on the device. Raises ValueError or KeyError for what no state of a path of these points is."""
    point = count_of(meta, "point")
    if point > len(points):
        raise ValueError(f"point {point} of a path of {len(points)}")
    later = [model for models in points[point:] for model in models.tolist()]
    scores = Unpacker(arrays).floats("scores", None).tolist()
    run = descent.unpack(arrays, meta, later)
    if run.gradients.keys() != run.finals.keys():  # the next point begins from them
        raise ValueError(f"gradients of the models {sorted(run.gradients)}, expected those of {sorted(run.finals)}")
    return PathState(run, point, scores, bool(meta["ended"]), count_of(meta, "spent"))
