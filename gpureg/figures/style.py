"""One style for every figure: legible at a journal's column width, safe for colour-blind readers, reproducible bytes.

Figures are `Figure` objects on an Agg canvas. pyplot, with its global list of open figures, is never imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.container import Container
from matplotlib.figure import Figure

from gpureg.config import FIGURE_FORMATS
from gpureg.errors import UsageError
from gpureg.storage.files import write_bytes
from gpureg.types import Floats

COLUMN = 3.5  # inches, the width of one column
HEIGHT = 2.5
PNG_DPI = 300
# Okabe & Ito (2008), "Color universal design", without its yellow, which is too pale for a line on white paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BAND_OPACITY = 0.22
MOST_MARKS = 50  # of values beyond an edge, along it
LEGEND_HANDLE, LEGEND_LETTER = 0.36, 0.056  # inches taken by an entry, and by each of its letters


def styled() -> AbstractContextManager[None]:
    """matplotlib's settings while a figure is drawn or saved; the user's own settings are left alone."""
    settings: dict[str, object] = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same letters
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "lines.linewidth": 1.1,
        "lines.markersize": 4,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.fonttype": "path",  # letters as outlines: the reader needs no font
        "svg.hashsalt": "gpureg",  # otherwise the ids in the file are random
        "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    }
    return matplotlib.rc_context(settings)  # type: ignore[arg-type]


def new_figure(rows: int = 1, height: float = HEIGHT, width: float = COLUMN) -> tuple[Figure, list[Axes]]:
    """A figure (sizes in inches) with `rows` panels, one above the other, that share their horizontal axis."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, list(panels[:, 0])


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` above the panels, where it hides no data, in as many columns as its labels allow."""
    together: dict[str, tuple[Artist, ...]] = {}  # a line and its band share a label and an entry
    entries = zip(*axes.get_legend_handles_labels(), strict=True)
    for handle, label in sorted(entries, key=lambda entry: not isinstance(entry[0], Container)):  # data, then marks
        together[label] = (handle, *together.get(label, ()))  # the line, drawn first, on top of its band
    if not together:
        return
    entry = LEGEND_HANDLE + LEGEND_LETTER * max(len(label) for label in together)
    columns = int(max(1, min(len(together), (figure.get_figwidth() - 0.1) // entry)))
    labels = by_row(list(together), columns)
    handles = [together[label] for label in labels]
    # matplotlib draws the handles of a tuple over one another; its stub knows single handles only
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)  # type: ignore[call-overload]


def by_row(items: Sequence[str], columns: int) -> list[str]:
    """`items` in the order that makes a legend, which matplotlib fills column by column, read row by row."""
    return [item for column in range(columns) for item in items[column::columns]]


def mark_clipped(axes: Axes) -> None:
    """Put a triangle at the edge of `axes` for every stretch of a line that is beyond it, a hollow one for a band.

    A stretch with which a line begins is not marked: a curve's start is far off as a rule. Of stretches that are too
    close for two triangles the first is marked.
    """
    low, high = axes.get_ylim()
    width = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    drawn: list[tuple[Floats, Any, bool]]
    drawn = [(np.asarray(line.get_xydata(), np.float64), line.get_color(), True) for line in axes.lines]
    for band in axes.collections:
        tint = to_rgb(np.asarray(band.get_facecolor())[0])
        drawn += [(_outline(band, upper), tint, False) for upper in (False, True)]
    for points, tint, full in drawn:
        x, y = points.T
        for beyond, edge, shape in ((y > high, high, "^"), (y < low, low, "v")):
            at = _spaced(x[np.flatnonzero(beyond[1:] & ~beyond[:-1]) + 1], width / MOST_MARKS)
            if at:
                face = tint if full else "white"
                axes.plot(
                    at, [edge] * len(at), shape, color=tint, markerfacecolor=face, markersize=3, markeredgewidth=0.5,
                    clip_on=False, zorder=3,
                )  # fmt: skip


def _spaced(places: Floats, gap: float) -> list[float]:
    """The places, in rising order, without those that are closer than `gap` to the one before."""
    kept: list[float] = []
    for place in places.tolist():
        if not kept or place - kept[-1] >= gap:
            kept.append(place)
    return kept


def _outline(band: Collection, upper: bool) -> Floats:
    """The lower or upper edge of a band, `(n, 2)`: its places, in rising order, and its values."""
    vertices = np.concatenate([np.asarray(path.vertices, np.float64) for path in band.get_paths()])
    x = np.unique(vertices[:, 0])
    values = np.full(len(x), -np.inf if upper else np.inf)
    (np.maximum if upper else np.minimum).at(values, np.searchsorted(x, vertices[:, 0]), vertices[:, 1])
    return np.stack([x, values], axis=1)


def colour(index: int) -> str:
    """The colour of curve `index`."""
    return COLOURS[index % len(COLOURS)]


def sequential() -> Colormap:
    """Colours from dark to light for an ordered quantity: cividis, made for colour-blind readers, less its palest."""
    dark_to_light = matplotlib.colormaps["cividis"](np.linspace(0, 0.92, 256))
    return ListedColormap(dark_to_light, name="gpureg")


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as png, svg or pdf; the same figure gives the same bytes. Raises UsageError for another `kind`."""
    if kind not in FIGURE_FORMATS:
        raise UsageError(f"The format {kind!r} is unknown; expected one of {', '.join(FIGURE_FORMATS)}.")
    metadata: dict[str, None] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = BytesIO()
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from"
        )  # a name in a script that the font lacks: drawn as boxes
        figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, directory: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write `directory`/`name`.`format` for each format, atomically; returns the paths. Raises UsageError, OSError."""
    paths = [directory / f"{name}.{kind}" for kind in formats]
    for path, kind in zip(paths, formats, strict=True):
        write_bytes(path, figure_bytes(figure, kind))
    return paths
