"""Weights as images: what a linear classifier looks for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from gpureg.errors import UsageError
from gpureg.figures.style import styled
from gpureg.model.linear import LinearModel

WIDTH = 7.0  # inches, two columns: ten classes side by side


def image_shape(features: int, known: Sequence[int] | None = None) -> tuple[int, int]:
    """(height, width) of `features` pixels: `known` if it fits, else a square. Raises UsageError if neither fits."""
    if known is not None and len(known) == 2 and known[0] * known[1] == features:
        return int(known[0]), int(known[1])
    side = math.isqrt(features)
    if side * side != features:
        raise UsageError(
            f"Weights of {features} features do not form an image: {features} is not a square, and the run has no "
            "image shape. Choose other figures than `weights`."
        )
    return side, side


def weights(model: LinearModel, rows: Sequence[int], shape: tuple[int, int]) -> Figure:
    """Weights `coef[row] (K, D)` of each model in `rows`, one row of grey images `shape` each, one image per class.

    Grey is 0, white the row's largest |weight|, black its negative; the bias is not shown.
    """
    K = model.coef.shape[1]
    names = [f"{model.classes[0]} rather than {model.classes[1]}"] if model.loss.binary else model.classes
    size = min(1.6, (WIDTH - 0.4) / K)
    with styled():
        width = max(2.2, size * K + 0.4)
        height = len(rows) * (size * shape[0] / shape[1] + 0.08) + 0.25
        layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.02, wspace=0.02, hspace=0.02, compress=True)
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows), K, squeeze=False)
        for i, row in enumerate(rows):
            limit = float(np.abs(model.coef[row]).max()) or 1.0
            for k in range(K):
                axes = panels[i, k]
                image = model.coef[row, k].reshape(shape)
                axes.imshow(image, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                for spine in axes.spines.values():
                    spine.set_visible(False)
                if i == 0:
                    axes.set_title(str(names[k]), pad=2)
            panels[i, 0].set_ylabel(f"λ = {float(model.l2[row]):g}\n±{limit:.2g}", fontsize=7)
        return figure
