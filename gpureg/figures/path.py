"""Loss, accuracy and weight norm against λ, on a logarithmic axis with a place for λ = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from gpureg.errors import UsageError, named
from gpureg.figures.averages import Averages, held_out, over_folds, over_seeds
from gpureg.figures.curves import ACCURACY, LOSS, Limits
from gpureg.figures.style import colour, legend_above, new_figure, styled

Floats = npt.NDArray[np.float64]
Result = Mapping[str, Any]
LAMBDA = "λ"
BREAK = {"marker": [(-1, -2), (1, 2)], "markersize": 5, "linestyle": "none", "color": "black", "clip_on": False}
LINEAR = 1e3  # the largest ratio of two norms that a linear axis shows
GREY = "#707070"
AXIS = {"loss": LOSS, "accuracy": ACCURACY, "balanced-accuracy": "balanced accuracy", "roc-auc": "ROC AUC"}


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


def _points(axes: Axes, places: Mapping[float, float], group: Averages, tint: str, label: str) -> None:
    """Points joined by a line, with error bars if there are errors."""
    at = [places[value] for value in group.l2.tolist()]
    style = "-" if len(at) > 24 else "o-"
    if np.any(group.error > 0):
        axes.errorbar(at, group.mean, group.error, fmt=style, color=tint, label=label, elinewidth=0.8, capsize=1.5)
    else:
        axes.plot(at, group.mean, style, color=tint, label=label)


def path(
    result: Result,
    measure: str = "loss",
    ylim: Limits = None,
    *,
    select: str = "min",
    score: str = "loss",
    scores: Sequence[float] = (),
) -> Figure:
    """Training and validation `measure` (`loss` in nats, `accuracy`, or the `score` that λ was chosen by) against λ;
    the chosen λ is marked.

    `result` is as in result.json, `scores` the score of each of its models on the validation rows. After a
    cross-validation the mean over its held-out rows is shown, with error bars of ±1 standard error, and, if `select` is
    `1se`, the limit within which that rule takes the largest λ. Several seeds of one λ are shown as their mean ±1
    standard deviation.
    """
    with styled():
        figure, (axes,) = new_figure()
        places = _places(axes, result)
        groups = held_out(result, measure)
        for index, group in enumerate(groups):
            label = f"held-out, {group.count} folds (±1 s.e.)" + _rate(group, groups)
            _points(axes, places, group, colour(index), label)
        if not groups:
            models = [dict(model) for model in result["models"]]
            for model, value in zip(models, scores, strict=False):  # runs of earlier versions have none
                model.setdefault(f"val_{score}", None if np.isnan(value) else value)
            _training_and_validation(axes, models, measure, places)
        _chosen(axes, result, places, score)
        if select == "1se" and groups and _score(result) == measure:
            _limit(axes, groups, places, lowest=measure == "loss")
        axes.set_ylabel(AXIS.get(measure, measure))
        if measure != "loss":
            low, high = axes.get_ylim()
            axes.set_ylim(low, min(high, 1.0 + 0.01 * (1.0 - low)))
        if ylim is not None:
            axes.set_ylim(*ylim)
        legend_above(figure, axes)
        return figure


def _places(axes: Axes, result: Result) -> dict[float, float]:
    every = np.array([float(model["l2"]) for model in result["models"]])
    return dict(zip(every.tolist(), lambda_axis(axes, every).tolist(), strict=True))


def _rate(group: Averages, groups: Sequence[Averages]) -> str:
    return f", lr {group.lr:g}" if len(groups) > 1 and group.lr is not None else ""


def _score(result: Result) -> str:
    """What a cross-validation has compared."""
    rows = result.get("cv") or [{}]
    return str(rows[0].get("score", "loss"))


def _chosen(axes: Axes, result: Result, places: Mapping[float, float], score: str = "loss") -> None:
    if result.get("selected") is not None:
        l2 = float(result["models"][result["selected"]]["l2"])
        by = "" if score == "loss" else f" by {AXIS.get(score, score)}"
        label = f"chosen{by}: λ = {l2:.3g}"
        axes.axvline(places[l2], color="black", linewidth=0.8, linestyle=(0, (4, 2)), label=label, zorder=1)


def _limit(axes: Axes, groups: Sequence[Averages], places: Mapping[float, float], *, lowest: bool) -> None:
    """The limit of the 1se rule, one standard error from the best mean, as a level; the best is ringed."""
    sign = 1.0 if lowest else -1.0
    group = min(groups, key=lambda each: float((sign * each.mean).min()))
    best = int((sign * group.mean).argmin())
    level, at = group.mean[best] + sign * group.error[best], places[float(group.l2[best])]
    label = "lowest + 1 s.e." if lowest else "highest − 1 s.e."
    axes.axhline(level, color=GREY, linewidth=0.9, linestyle=(0, (1, 1)), label=label, zorder=1)
    axes.plot([at], [group.mean[best]], "o", markersize=7, markerfacecolor="none", markeredgecolor=GREY, zorder=3)


def _training_and_validation(
    axes: Axes, models: Sequence[Mapping[str, Any]], measure: str, places: Mapping[float, float]
) -> None:
    index = 0
    for part, word in (("train", "training"), ("val", "validation")):
        groups = over_seeds(models, f"{part}_{measure}")
        for group in groups:
            _points(axes, places, group, colour(index), word + _rate(group, groups))
            index += 1
    if not index:
        raise UsageError(_nothing(models, measure))


def norm(result: Result, ylim: Limits = None) -> Figure:
    """`||w||² = Σ w²` of the trained weights, bias included, against λ: points joined by a dotted line.

    After a cross-validation whose λ were not all fitted again, the mean over the folds ±1 standard deviation, and the
    refit as a separate point.
    """
    models = result["models"]
    refits, folds = over_seeds(models, "weight_norm_sq"), over_folds(models, "weight_norm_sq")
    if not refits and not folds:
        raise UsageError(_nothing(models, "norm"))
    with styled():
        figure, (axes,) = new_figure()
        places = _places(axes, result)
        only = bool(folds) and sum(len(group.l2) for group in refits) <= 1  # the chosen λ
        shown = folds if only else refits
        for index, group in enumerate(shown):
            rate = _rate(group, shown).removeprefix(", ")
            label = ", ".join(filter(None, [f"mean of {group.count} folds (±1 sd)" if only else "", rate]))
            at = [places[value] for value in group.l2.tolist()]
            errors = group.error if np.any(group.error > 0) else None
            axes.errorbar(
                at, group.mean, errors, fmt="o:", color=colour(index), label=label or None, capsize=1.5, clip_on=False
            )
        if only and refits:
            at = [places[value] for value in refits[0].l2.tolist()]
            axes.plot(at, refits[0].mean, "D", color="black", markersize=4.5, label="fitted to all training rows")
        values = np.concatenate([group.mean for group in (*shown, *refits)])
        if values.min() > 0 and values.max() > LINEAR * values.min():
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_ylabel("||w||² = Σ w²")
        if ylim is not None:
            axes.set_ylim(*ylim)
        legend_above(figure, axes)
        return figure


def _nothing(models: Sequence[Mapping[str, Any]], measure: str) -> str:
    if any(model.get("stop_reason") != "diverged" for model in models):
        return f"No model of this run has a {measure}. Choose another figure."
    return f"No model of this run has a {measure}: all diverged. Train with a smaller {named('lr')}."
