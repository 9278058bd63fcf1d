"""The report that gpureg reproduces: its printed numbers compared with the obtained ones, and its nine figures.

Source: S. Utne, "Assignment 1 - Report", 3 February 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gpureg.figures import curves, images, path
from gpureg.figures.curves import Curve
from gpureg.storage.directory import Run

LOSS_LIMITS, ACCURACY_LIMITS = (0.0, 0.2), (0.93, 0.99)
SOFTMAX_LOSS_LIMITS, SOFTMAX_ACCURACY_LIMITS = (0.2, 0.6), (0.89, 0.93)
LAMBDA_LIMITS = (0.625, 0.925)
SWEEP = (2.0, 0.2, 0.02, 0.002)
KEYS = ("stopped_epoch", "steps", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "weight_norm_sq")
WORDS = (
    "stops in epoch",
    "steps",
    "training loss (nats)",
    "validation loss (nats)",
    "training accuracy",
    "validation accuracy",
    "Σ w²",
)
# As the report prints them, to the last digit.
PRINTED_NO_SHUFFLE = (33, None, 0.07088705555893647, 0.06577187753329566, 0.9757802746566792, 0.9794319294809011, None)
PRINTED_SHUFFLE = (16, None, 0.07924553698509086, 0.07166134981545134, 0.9735330836454432, 0.9764936336924583, None)
# The report prints no number for softmax: these are a plain float64 NumPy run of its protocol, one λ after the other.
PLAIN_RUNS = (
    (0.0, (None, 7800, 0.280033587535, 0.299024023937, 0.9225, 0.9157, 23.9518493745)),
    (2.0, (None, 621, 1.628146113596, 1.621315167281, 0.64125, 0.6449, 0.149361050711)),
    (0.2, (None, 1210, 0.753976256245, 0.737490565763, 0.86555, 0.8704, 1.664015504732)),
    (0.02, (None, 3783, 0.396484117133, 0.391996998277, 0.9019, 0.9009, 7.286195363417)),
    (0.002, (None, 7800, 0.292529725892, 0.306845927305, 0.92055, 0.9142, 19.236808408056)),
)


@dataclass(frozen=True)
class ReportRuns:
    """The runs behind the figures: binary without and with shuffle, and the batch of softmax models, one per λ."""

    no_shuffle: Run
    shuffle: Run
    softmax: Run

    def softmax_model(self, l2: float) -> int:
        """The index of the softmax model with λ = `l2`."""
        return int(np.flatnonzero(self.softmax.history.l2 == l2)[0])


@dataclass(frozen=True)
class Comparison:
    """One number: the `expected` and the `obtained` value (None if the model diverged)."""

    run: str
    quantity: str
    expected: float
    obtained: float | None

    @property
    def difference(self) -> float:
        """Obtained minus expected; NaN if nothing was obtained."""
        return float("nan") if self.obtained is None else self.obtained - self.expected

    @property
    def relative(self) -> float:
        """|difference| as a share of the expected number."""
        return abs(self.difference) / abs(self.expected)


@dataclass(frozen=True)
class ReportFigure:
    """Figure `number` of the report: title, one sentence on what to `see`, and `alt`, the text that replaces the
    picture.
    """

    number: int
    title: str
    see: str
    alt: str
    figure: Figure


def printed_numbers(runs: ReportRuns) -> list[Comparison]:
    """Every number that the report prints, with the obtained one."""
    binary = (
        ("binary, no shuffle", PRINTED_NO_SHUFFLE, runs.no_shuffle),
        ("binary, shuffle", PRINTED_SHUFFLE, runs.shuffle),
    )
    return [row for name, values, run in binary for row in _compare(name, values, run.result["models"][0])]


def protocol_numbers(runs: ReportRuns) -> list[Comparison]:
    """The softmax models, compared with a plain float64 run of the same protocol."""
    models = runs.softmax.result["models"]
    return [
        row
        for l2, values in PLAIN_RUNS
        for row in _compare(f"softmax, λ = {l2:g}", values, models[runs.softmax_model(l2)])
    ]


def _compare(name: str, expected: Sequence[float | None], model: dict[str, Any]) -> list[Comparison]:
    return [
        Comparison(name, words, value, model[key])
        for key, words, value in zip(KEYS, WORDS, expected, strict=True)
        if value is not None
    ]


def report_figures(runs: ReportRuns) -> list[ReportFigure]:
    """Figures 1 to 9, as the report draws them, axes included."""
    return [*_binary_figures(runs), *_softmax_figures(runs), *_lambda_figures(runs)]


def _binary_figures(runs: ReportRuns) -> list[ReportFigure]:
    without, shuffled = Curve(runs.no_shuffle.history, 0, ""), Curve(runs.shuffle.history, 0, "")
    first, second = runs.no_shuffle.result["models"][0], runs.shuffle.result["models"][0]
    return [
        ReportFigure(
            1,
            "Training and validation loss, binary",
            "Both losses fall fast, then slowly; the mean training loss rises and falls with every epoch, because "
            "the same batches return in the same order.",
            f"Line chart of cross-entropy from 0 to 0.2 nats over {first['steps']} training steps. The training "
            "loss, a mean over 10 steps, zigzags in a band of one standard deviation; the validation loss falls to "
            f"{_n(first['val_loss'])}, with a few spikes.",
            curves.loss([without], LOSS_LIMITS),
        ),
        ReportFigure(
            2,
            "Training and validation accuracy, binary",
            "The validation accuracy lies a little above the training accuracy, and both drop in the same few spikes.",
            f"Line chart of accuracy from 0.93 to 0.99 over {first['steps']} training steps. Training accuracy ends at "
            f"{_n(first['train_accuracy'])}, validation accuracy at {_n(first['val_accuracy'])}.",
            curves.accuracy([without], ACCURACY_LIMITS),
        ),
        ReportFigure(
            3,
            "Validation accuracy without and with shuffle, binary",
            "Without shuffle the accuracy spikes at regular intervals, whenever an evaluation follows the same "
            "hard batch; with shuffle it rises evenly and stops earlier.",
            "Line chart of validation accuracy from 0.93 to 0.99. Without shuffle it spikes downwards regularly "
            f"and runs for {first['steps']} steps; with shuffle it is even and stops after {second['steps']}.",
            curves.shuffle_accuracy(without, shuffled, ACCURACY_LIMITS),
        ),
        ReportFigure(
            4,
            "Training loss without and with shuffle, binary",
            "Without shuffle easy and hard batches return in every epoch as a zigzag; shuffling evens them out.",
            "Line chart of training loss from 0 to 0.2 nats, each curve a mean over 10 steps with a band of one "
            "standard deviation. Without shuffle the curve repeats a pattern of peaks; with shuffle it is "
            "smoother, its band narrower.",
            curves.shuffle_loss(without, shuffled, LOSS_LIMITS),
        ),
    ]


def _softmax_figures(runs: ReportRuns) -> list[ReportFigure]:
    plain = runs.softmax_model(0.0)
    curve, model = Curve(runs.softmax.history, plain, "λ = 0"), runs.softmax.result["models"][plain]
    return [
        ReportFigure(
            5,
            "Training and validation loss, softmax",
            "Both losses fall and flatten; towards the end the training loss is, on average, below the validation "
            "loss.",
            f"Line chart of cross-entropy from 0.2 to 0.6 nats over {model['steps']} training steps. The training "
            "loss, a mean over 10 steps, is noisy in a band of one standard deviation; the validation loss falls "
            f"smoothly to {_n(model['val_loss'])}.",
            curves.loss([curve], SOFTMAX_LOSS_LIMITS),
        ),
        ReportFigure(
            6,
            "Training and validation accuracy, softmax",
            "The two part at step 2000 to 3000: from there the training accuracy rises faster, an early sign of "
            "overfitting.",
            f"Line chart of accuracy from 0.89 to 0.93 over {model['steps']} training steps. The curves rise together, "
            f"then part; training ends at {_n(model['train_accuracy'])}, validation at {_n(model['val_accuracy'])}.",
            curves.accuracy([curve], SOFTMAX_ACCURACY_LIMITS),
        ),
    ]


def _lambda_figures(runs: ReportRuns) -> list[ReportFigure]:
    softmax, rows = runs.softmax, [runs.softmax_model(l2) for l2 in SWEEP]
    swept = [Curve(softmax.history, row, f"λ = {l2:g}") for l2, row in zip(SWEEP, rows, strict=True)]
    models = [softmax.result["models"][row] for row in rows]
    norms = "; ".join(f"{_n(model['weight_norm_sq'])} at λ = {model['l2']:g}" for model in models)
    ends = "; ".join(f"λ = {m['l2']:g} after {m['steps']} steps at {_n(m['val_accuracy'])}" for m in models)
    return [
        _weights_figure(softmax, [runs.softmax_model(0.0), rows[0]]),
        ReportFigure(
            8,
            "Validation accuracy for four λ",
            "Less is better; λ = 2 swings wildly and stops first.",
            f"Line chart of validation accuracy from 0.625 to 0.925 against the training step. The curves end: {ends}.",
            curves.accuracy(swept, LAMBDA_LIMITS),
        ),
        ReportFigure(
            9,
            "Length of the weight vector against λ",
            "The larger λ, the shorter the weights.",
            f"Four points joined by a dotted line that falls as λ grows. The squared norm of the weights is {norms}.",
            path.norm({**softmax.result, "models": models, "selected": None}),
        ),
    ]


def _weights_figure(softmax: Run, rows: list[int]) -> ReportFigure:
    shape = images.image_shape(softmax.model.coef.shape[2])
    return ReportFigure(
        7,
        "Weights of the ten classes, λ = 0 (above) and λ = 2 (below)",
        "Without a penalty the weights are noisy; with λ = 2 they read as the digits.",
        f"Two rows of ten grey images of {shape[0]} by {shape[1]} weights, one for each digit. The upper row, λ = "
        "0, is blotchy and noisy; the lower row, λ = 2, is smooth and shows the shapes of the digits 0 to 9. A scale "
        "of grey at the end of each row says that white is its largest weight and black the negative of that.",
        images.weights(softmax.model, rows, shape),
    )


def _n(value: float | None) -> str:
    return "nothing (it diverged)" if value is None else f"{value:.4g}"
