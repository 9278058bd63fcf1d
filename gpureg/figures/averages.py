"""Means over the models that share a λ and a learning rate: over seeds, and over the folds of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.types import Floats

Models = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Averages:
    """Of one learning rate: the λ `l2 (n,)` in rising order, the mean and the error of each, `count` values of a λ."""

    lr: float | None
    l2: Floats
    mean: Floats
    error: Floats
    count: int


def over_seeds(models: Models, key: str) -> list[Averages]:
    """Mean ±1 standard deviation of `key` over the models of a λ that belong to no fold; None is left out."""
    return _grouped([model for model in models if model.get("fold") is None], key)


def over_folds(models: Models, key: str) -> list[Averages]:
    """Mean ±1 standard deviation of `key` over the folds of a λ; a λ at which a fold has none is left out."""
    return _grouped([model for model in models if model.get("fold") is not None], key, whole=True)


def held_out(result: Mapping[str, Any], measure: str) -> list[Averages]:
    """A cross-validation's held-out `measure`, `loss` or `accuracy`: mean ±1 standard error (sd with ddof 1 over √K).

    As the result has it if it was compared, else from its fold models; nothing without a cross-validation.
    """
    rows = result.get("cv") or []
    if any(row.get("score", "loss") != measure for row in rows):
        folds = _grouped([m for m in result["models"] if m.get("fold") is not None], f"val_{measure}", whole=True)
        return [_standard_errors(group) for group in folds]
    groups = []
    for lr in _rates(rows):
        own = sorted((r for r in rows if r.get("lr") == lr and r["mean"] is not None), key=lambda row: row["l2"])
        if own:
            l2, mean, error = (np.array([float(row[key] or 0.0) for row in own]) for key in ("l2", "mean", "se"))
            groups.append(Averages(lr, l2, mean, error, max(row["folds"] for row in own)))
    return groups


def _standard_errors(group: Averages) -> Averages:
    """Standard errors in place of the standard deviations (ddof 0)."""
    scale = math.sqrt(max(1, group.count - 1))
    return Averages(group.lr, group.l2, group.mean, group.error / scale, group.count)


def _rates(rows: Models) -> list[float | None]:
    return sorted({row.get("lr") for row in rows}, key=lambda lr: lr or 0.0)


def _grouped(models: Models, key: str, *, whole: bool = False) -> list[Averages]:
    """`whole`: a λ counts only if all of its models have a value."""
    groups = []
    for lr in _rates(models):
        found: dict[float, list[float | None]] = {}
        for model in models:
            if model.get("lr") == lr:
                found.setdefault(float(model["l2"]), []).append(model.get(key))
        kept = {
            l2: [v for v in found[l2] if v is not None] for l2 in sorted(found) if not (whole and None in found[l2])
        }
        kept = {l2: values for l2, values in kept.items() if values}
        if kept:
            mean, error = (np.array([of(values) for values in kept.values()]) for of in (np.mean, np.std))
            groups.append(Averages(lr, np.array(list(kept)), mean, error, max(map(len, kept.values()))))
    return groups
