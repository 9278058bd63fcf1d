"""What is written about a model in addition to its arrays, as plain values, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.encoding import Encoding
from gpureg.model.linear import LinearModel


def described(model: LinearModel) -> dict[str, Any]:
    """Task, classes, what distinguishes the models, and the names of the features; None for what does not exist."""
    return {
        "task": model.loss.name,
        "classes": list(model.classes),
        "l2": model.l2.tolist(),
        "selected": model.selected,
        "lr": _listed(model.lr),
        "seed": _listed(model.seed),
        "scores": _listed(model.scores),
        "scored_by": model.scored_by,
        "total_weight": model.total_weight,
        "feature_names": None if model.feature_names is None else list(model.feature_names),
        "image_shape": None if model.image_shape is None else list(model.image_shape),
        "target": model.target,
        "encoding": None if model.encoding is None else model.encoding.to_dict(),
        "refit_of": model.refit_of,
        "index_base": model.index_base,
    }


def model_of(known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> LinearModel:
    """The inverse of `described`; what earlier runs did not write is None. Raises ValueError for lengths that do not
    fit.
    """
    L, _, D = arrays["coef"].shape
    names, shape = known.get("feature_names"), known.get("image_shape")
    if names is not None and len(names) != D:
        raise ValueError(f"feature_names holds {len(names)} names, expected {D}")
    if shape is not None and (len(shape) != 2 or shape[0] * shape[1] != D):
        raise ValueError(f"image_shape is {shape}, expected two numbers whose product is {D}")
    for name in ("lr", "seed", "scores"):
        if known.get(name) is not None and len(known[name]) != L:
            raise ValueError(f"{name} holds {len(known[name])} values, expected {L}")
    encoding = None if known.get("encoding") is None else Encoding.from_dict(known["encoding"])
    if encoding is not None and encoding.n_features != D:
        raise ValueError(f"encoding makes {encoding.n_features} features, expected {D}")
    if known.get("index_base") not in (None, 0, 1):
        raise ValueError(f"index_base is {known['index_base']!r}, expected 0, 1 or null")
    seed = known.get("seed")
    return LinearModel(
        task=known["task"],
        classes=tuple(known["classes"]),
        l2=np.asarray(known["l2"], np.float64),
        selected=known["selected"],
        lr=_floats(known.get("lr")),
        seed=None if seed is None else np.asarray(seed, np.int64),
        scores=_floats(known.get("scores")),
        scored_by=known.get("scored_by") or "loss",
        total_weight=known.get("total_weight"),
        feature_names=None if names is None else tuple(names),
        image_shape=None if shape is None else (shape[0], shape[1]),
        target=known.get("target"),
        encoding=encoding,
        refit_of=known.get("refit_of"),
        index_base=known.get("index_base"),
        coef=arrays["coef"],
        intercept=arrays["intercept"],
        offset=arrays["offset"],
        scale=arrays["scale"],
    )


def _listed(values: npt.NDArray[Any] | None) -> list[Any] | None:
    """Numbers as plain ones; what is not finite is None."""
    if values is None:
        return None
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _floats(values: list[float | None] | None) -> npt.NDArray[np.float64] | None:
    if values is None:
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
