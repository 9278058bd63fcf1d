"""Loss, accuracy and weight norm against λ, on a logarithmic axis with a place for λ = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from gpureg.errors import UsageError
from gpureg.figures.curves import ACCURACY, LOSS, Limits
from gpureg.figures.style import colour, legend_above, new_figure, styled

Floats = npt.NDArray[np.float64]
LAMBDA = "λ"
BREAK = {"marker": [(-1, -2), (1, 2)], "markersize": 5, "linestyle": "none", "color": "black", "clip_on": False}


def lambda_axis(axes: Axes, l2: Floats) -> Floats:
    """Make the horizontal axis logarithmic for the λ in `l2 (L,)`; returns their places on it, `(L,)`.

    λ = 0 has no logarithm: its place and its tick are a decade and a half below the smallest positive λ, with a break
    in the axis between them.
    """
    positive = l2[l2 > 0]
    if not positive.size:
        axes.set_xticks([0], ["0"])
        axes.set_xlabel(LAMBDA)
        return np.zeros_like(l2)
    low, high = float(positive.min()), float(positive.max())
    places = np.where(l2 > 0, l2, low / 10**1.5)
    axes.set_xscale("log")
    axes.set_xlim(places.min() / 1.6, high * 1.6)
    first, last = np.floor(np.log10(low)), np.ceil(np.log10(high))
    decades = 10.0 ** np.arange(first, last + 1, max(1, (last - first) // 6))
    decades = decades[(decades >= low / 1.6) & (decades <= high * 1.6)]
    if not decades.size:
        decades = np.unique(positive)[:4]
    ticks = [low / 10**1.5, *decades] if (l2 == 0).any() else list(decades)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "0" if x < low / 1.7 else _power(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if (l2 == 0).any():
        axes.xaxis.set_minor_locator(FixedLocator([]))
        axes.plot([low / 10**0.8, low / 10**0.7], [0, 0], transform=axes.get_xaxis_transform(), **BREAK)  # type: ignore[arg-type]
    else:
        axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=40))
    axes.set_xlabel(LAMBDA)
    return places


def _power(x: float) -> str:
    exponent = np.log10(x)
    return f"$10^{{{exponent:.0f}}}$" if abs(exponent - round(exponent)) < 1e-9 else f"{x:g}"


def _by_lambda(models: Sequence[Mapping[str, Any]], key: str) -> list[tuple[str, Floats, Floats, Floats]]:
    """For each learning rate: its name, its λ `(n,)` in rising order, mean and sd of `key` over the seeds."""
    there = [model for model in models if model.get(key) is not None and model.get("fold") is None]
    if not there:
        raise UsageError(f"No model of this run has a {key}: all diverged. Train with a smaller --lr.")
    rates = sorted({model.get("lr") for model in there}, key=lambda lr: lr or 0.0)
    groups = []
    for lr in rates:
        l2 = sorted({float(model["l2"]) for model in there if model.get("lr") == lr})
        values = [[float(m[key]) for m in there if m.get("lr") == lr and float(m["l2"]) == value] for value in l2]
        name = f"learning rate {lr:g}" if len(rates) > 1 else ""
        groups.append(
            (name, np.array(l2), np.array([np.mean(v) for v in values]), np.array([np.std(v) for v in values]))
        )
    return groups


def _chosen(axes: Axes, place: float, l2: float) -> None:
    axes.axvline(place, color="black", linewidth=0.8, linestyle=(0, (4, 2)), label=f"chosen: λ = {l2:.3g}", zorder=1)


def _points(axes: Axes, places: Floats, values: Floats, errors: Floats | None, tint: str, label: str) -> None:
    """Points joined by a line, with error bars if there are errors."""
    style = "-" if len(places) > 24 else "o-"
    if errors is not None and np.any(errors > 0):
        axes.errorbar(places, values, yerr=errors, fmt=style, color=tint, label=label, elinewidth=0.8, capsize=1.5)
    else:
        axes.plot(places, values, style, color=tint, label=label)


def path(result: Mapping[str, Any], measure: str = "loss", ylim: Limits = None) -> Figure:
    """Training and validation `measure` (`loss` in nats, or `accuracy`) against λ, the chosen λ marked.

    `result` is as in result.json. After a cross-validation the mean held-out loss is shown, with error bars of ±1
    standard error. Several seeds of one λ are shown as their mean ±1 standard deviation.
    """
    chosen = result.get("selected")
    with styled():
        figure, (axes,) = new_figure()
        every = np.array([float(model["l2"]) for model in result["models"]])
        places = dict(zip(every.tolist(), lambda_axis(axes, every).tolist(), strict=True))
        if measure == "loss" and result.get("cv"):
            _cross_validation(axes, result["cv"], places)
        else:
            _training_and_validation(axes, result["models"], measure, places)
        if chosen is not None:
            value = float(result["models"][chosen]["l2"])
            _chosen(axes, places[value], value)
        axes.set_ylabel(LOSS if measure == "loss" else ACCURACY)
        if ylim is not None:
            axes.set_ylim(*ylim)
        legend_above(figure, axes)
        return figure


def _cross_validation(axes: Axes, rows: Sequence[Mapping[str, Any]], places: Mapping[float, float]) -> None:
    there = [row for row in rows if row["mean"] is not None]
    rates = sorted({row.get("lr") for row in there}, key=lambda lr: lr or 0.0)
    for index, lr in enumerate(rates):
        group = sorted((row for row in there if row.get("lr") == lr), key=lambda row: row["l2"])
        at = np.array([places[float(row["l2"])] for row in group])
        label = f"held-out, {group[0]['folds']} folds (±1 s.e.)" + (f", lr {lr:g}" if len(rates) > 1 else "")
        errors = np.array([float(row["se"] or 0.0) for row in group])
        _points(axes, at, np.array([float(row["mean"]) for row in group]), errors, colour(index), label)


def _training_and_validation(
    axes: Axes, models: Sequence[Mapping[str, Any]], measure: str, places: Mapping[float, float]
) -> None:
    index = 0
    for part in ("train", "val"):
        for name, l2, mean, sd in _by_lambda(models, f"{part}_{measure}"):
            label = ("training" if part == "train" else "validation") + (f", {name}" if name else "")
            _points(axes, np.array([places[value] for value in l2.tolist()]), mean, sd, colour(index), label)
            index += 1


def norm(result: Mapping[str, Any], ylim: Limits = None) -> Figure:
    """`||w||² = Σ w²` of the trained weights, bias included, against λ: points joined by a dotted line."""
    with styled():
        figure, (axes,) = new_figure()
        every = np.array([float(model["l2"]) for model in result["models"]])
        places = dict(zip(every.tolist(), lambda_axis(axes, every).tolist(), strict=True))
        for index, (name, l2, mean, sd) in enumerate(_by_lambda(result["models"], "weight_norm_sq")):
            at = [places[value] for value in l2.tolist()]
            errors = sd if np.any(sd > 0) else None
            axes.errorbar(
                at, mean, yerr=errors, fmt="o:", color=colour(index), label=name or None, capsize=1.5, clip_on=False
            )
        axes.set_ylabel("||w||² = Σ w²")
        axes.set_ylim(bottom=0)
        if ylim is not None:
            axes.set_ylim(*ylim)
        legend_above(figure, axes)
        return figure
