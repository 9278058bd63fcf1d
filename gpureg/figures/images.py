"""Weights as images: what a linear classifier looks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine

from gpureg.errors import UsageError
from gpureg.figures.style import styled
from gpureg.figures.text import plain
from gpureg.model.linear import LinearModel

WIDTH = 7.0  # inches, two columns: ten classes side by side
PER_ROW = 10  # images
MOST_IMAGES = 100  # of one model
LARGEST, TALLEST = 1.6, 9.0  # inches: the width of an image, the height of all
LEFT, RIGHT = 0.25, 0.5  # inches: the names of the models, the scales of grey
FLATTEST = 4.0  # ratio of an image's sides; a longer one is squeezed
LETTERS_PER_INCH = 13


def image_shape(features: int, known: Sequence[int] | None = None) -> tuple[int, int]:
    """(height, width) of `features` pixels: `known` if it fits, else a square. Raises UsageError if neither fits."""
    if known is not None and len(known) == 2 and known[0] * known[1] == features:
        return int(known[0]), int(known[1])
    side = math.isqrt(features)
    if side * side != features:
        raise UsageError(
            f"Weights of {features} features do not form an image: {features} is not a square, and the run has no "
            "image shape. Choose figures other than `weights`."
        )
    return side, side


def weights(model: LinearModel, rows: Sequence[int], shape: tuple[int, int]) -> Figure:
    """Weights `coef[row] (K, D)` of each model in `rows` as grey images of `shape`, one for each class.

    Grey is 0, white the model's largest |weight|, black its negative, as the scale next to its images says; the bias is
    not shown. Of more than 100 classes only the first 100 are shown.
    """
    K = min(model.coef.shape[1], MOST_IMAGES)
    titles = [_rather(model)] if model.loss.binary else [str(name) for name in model.classes[:K]]
    across, down = min(K, PER_ROW), -(-K // PER_ROW)
    ratio = min(FLATTEST, max(1 / FLATTEST, shape[0] / shape[1]))
    size = min(LARGEST, (WIDTH - LEFT - RIGHT) / across, TALLEST / (len(rows) * down * ratio))
    tall = size * ratio
    with styled():
        width = max(2.2, size * across + LEFT + RIGHT)
        height = len(rows) * down * (tall + (0.22 if down > 1 else 0.08)) + 0.25
        layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0.02, hspace=0.02, compress=True)
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows) * down, across, squeeze=False)
        for i, row in enumerate(rows):
            own = panels[i * down : (i + 1) * down]
            limit = float(np.abs(model.coef[row]).max()) or 1.0
            for k, axes in enumerate(own.flat):
                if k < K:
                    grey = _image(axes, model.coef[row, k].reshape(shape), limit)
                    if i == 0 or down > 1:
                        axes.set_title(plain(titles[k], max(4, int(size * LETTERS_PER_INCH))), pad=2)
                else:
                    axes.set_axis_off()
            own[0, 0].set_ylabel(f"λ = {float(model.l2[row]):.3g}", fontsize=7)
            _scale(figure, grey, own, limit)
        return figure


def _rather(model: LinearModel) -> str:
    return f"{model.classes[0]} rather than {model.classes[1]}"


def _image(axes: Axes, image: npt.NDArray[np.floating], limit: float) -> AxesImage:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    ratio = max(image.shape) / min(image.shape)
    drawn = axes.imshow(image, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_aspect("equal" if ratio <= FLATTEST else "auto")
    return drawn


def _scale(figure: Figure, image: AxesImage, panels: Any, limit: float) -> None:
    """The scale of grey at the right of a model's images."""
    bar = figure.colorbar(image, ax=list(panels.flat), aspect=12 * len(panels), pad=0.01, fraction=0.05)
    bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g}".replace("-", "−"), "0", f"{limit:.2g}"])
    bar.ax.tick_params(labelsize=6, length=1.5, pad=1.5)
    bar.outline.set_linewidth(0.4)
