"""The report as one HTML page that needs no other file, and as Markdown.

The page loads nothing: it contains its style and its drawings, and its content security policy forbids everything else.
It works on a phone, in the dark, on paper, and with a screen reader: landmarks, one heading order, table headers, a
text for each picture.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from gpureg.report.numbers import Comparison, ReportFigure
from gpureg.report.page_style import CSS
from gpureg.storage.directory import Run

AGREE = 1e-11  # relative: the softmax numbers are given to twelve digits
TITLE = "Logistic and softmax regression on MNIST, reproduced"
SOFTMAX_TITLE = "Softmax, compared with plain runs of the same protocol"
AXES = (
    "The axes have the report's limits: a triangle at an edge marks values of a line beyond it, a hollow triangle "
    "those of a band."
)
HIDDEN = ("executable",)  # private: a path on the author's machine


@dataclass(frozen=True)
class ReportPage:
    """What the page shows: comparisons, figures with their `drawings` as SVG, the runs and the names of those `reused`.

    `seconds`: wall time from the start of the command until the page was written.
    """

    printed: Sequence[Comparison]
    protocol: Sequence[Comparison]
    figures: Sequence[ReportFigure]
    drawings: Sequence[bytes]
    runs: Mapping[str, Run]
    reused: frozenset[str]
    seconds: float

    @property
    def dtype(self) -> str:
        return str(next(iter(self.runs.values())).result["dtype"])


def agrees(comparison: Comparison) -> bool:
    """Whether the obtained number is the expected one to within AGREE, relative (False if nothing was obtained)."""
    return comparison.relative <= AGREE


def verdict(page: ReportPage) -> str:
    """One or two sentences: how many of the printed numbers were obtained, and the largest difference."""
    count = sum(agrees(row) for row in page.printed)
    worst = max((row.relative for row in page.printed if row.obtained is not None), default=float("nan"))
    start = f"All {count} numbers" if count == len(page.printed) else f"{count} of {len(page.printed)} numbers"
    text = f"{start} that the report prints were obtained; the largest relative difference is {worst:.1e}."
    if count < len(page.printed) and page.dtype == "float32":
        text += " float32 carries about seven digits; --dtype float64 gives the printed ones."
    return text


def number(value: float | None) -> str:
    """A number as Python prints it, to its last digit; a dash if there is none."""
    return "–" if value is None else repr(value)


def difference(row: Comparison) -> str:
    """Obtained minus expected: 0, or a signed number of two digits."""
    return "–" if row.obtained is None else "0" if row.difference == 0 else f"{row.difference:+.1e}"


def timings(page: ReportPage) -> list[tuple[str, ...]]:
    """For each run: name, number of models, steps, seconds, and whether it was trained for this page."""
    return [
        (
            name,
            str(len(run.result["models"])),
            str(sum(model["steps"] for model in run.result["models"])),
            f"{run.result['seconds']:.1f}",
            "reused" if name in page.reused else "trained now",
        )
        for name, run in page.runs.items()
    ]


TIMING_HEAD = ("run", "models", "steps in all", "seconds", "")


def environment(page: ReportPage) -> list[tuple[str, str]]:
    """Name and value of everything the softmax run was made with."""
    run = page.runs["softmax"]
    head = {"device": f"{run.result['device']} (requested: {run.result['device_requested']})", "dtype": page.dtype}
    found = {key: value for key, value in run.environment.items() if key not in HIDDEN and key not in head}
    if "platform" in found:  # the system and its version; the kernel's build tells a reader nothing
        found["platform"] = " ".join(str(found["platform"]).split("-")[:2])
    return [(key.replace("_", ", "), _flat(value)) for key, value in (head | found).items()]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_flat(item) for item in value)
    return str(value)


def took(page: ReportPage) -> str:
    """One sentence on the time it took."""
    trained = sum(run.result["seconds"] for name, run in page.runs.items() if name not in page.reused)
    training = f"{trained:.1f} of them training" if trained else "none of them training: the runs existed already"
    return f"This page took {page.seconds:.1f} seconds, {training}."


def html_page(page: ReportPage) -> str:
    """The whole page; UTF-8."""
    off = "" if all(agrees(row) for row in page.printed) else " off"
    sections = (
        ("numbers", "The printed numbers", _tables_html(page.printed, "printed")),
        ("figures", "The figures", f"<p>{escape(AXES)}</p>{_figures_html(page)}"),
        ("softmax", SOFTMAX_TITLE, f"<p>{escape(_protocol_note(page))}</p>{_tables_html(page.protocol, 'expected')}"),
        ("time", "Time", f"<p>{escape(took(page))}</p>{_simple_table('The runs', TIMING_HEAD, timings(page))}"),
        ("environment", "Environment", _simple_table("Made with", ("what", "value"), environment(page))),
    )
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{content}</section>\n'
        for key, title, content in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(TITLE)}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header>
<h1>{escape(TITLE)}</h1>
<p>{escape(_about(page))}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="main">
<p class="verdict{off}">{escape(verdict(page))}</p>
{body}</main>
<footer><p class="note">Written by <code>{escape(_command(page))}</code>.</p></footer>
</body>
</html>
"""


def _about(page: ReportPage) -> str:
    return (
        "Binary regression on the digits 2 and 3 without and with shuffled batches, softmax regression on all ten "
        "digits, and four strengths of L2 regularisation: the runs of S. Utne's “Assignment 1 – Report” (3 "
        f"February 2022), trained again by gpureg {page.runs['softmax'].environment.get('gpureg', '')} in "
        f"{page.dtype}."
    )


def _command(page: ReportPage) -> str:
    return "gpureg reproduce" + ("" if page.dtype == "float64" else f" --dtype {page.dtype}")


def _protocol_note(page: ReportPage) -> str:
    return (
        "The report prints no numbers for softmax. Expected is what its protocol gives in a plain float64 run of one λ "
        f"after the other, to twelve digits; obtained is one batch of all λ. {sum(map(agrees, page.protocol))} of "
        f"{len(page.protocol)} agree."
    )


def _tables_html(rows: Sequence[Comparison], expected: str) -> str:
    groups = groupby(rows, key=lambda row: row.run)
    return "".join(_comparison_table(run, list(group), expected) for run, group in groups)


def _comparison_table(run: str, rows: Sequence[Comparison], expected: str) -> str:
    """One run's numbers. The roles keep it a table for screen readers when the phone's style takes its rows apart."""
    head = "".join(
        f'<th scope="col" role="columnheader"{" class=number" if index else ""}>{name}</th>'
        for index, name in enumerate(("quantity", expected, "obtained", "difference"))
    )
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{escape(row.quantity)}</th>'
        f'<td role="cell" class="number" data-label="{expected}">{number(row.expected)}</td>'
        f'<td role="cell" class="number" data-label="obtained">{number(row.obtained)}</td>'
        f'<td role="cell" class="number{"" if agrees(row) else " off"}" data-label="difference">{difference(row)}</td>'
        "</tr>"
        for row in rows
    )
    return (
        f'<table role="table" class="stacked"><caption>{escape(run)}</caption><thead role="rowgroup"><tr role="row">'
        f'{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


def _simple_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _figures_html(page: ReportPage) -> str:
    parts = []
    for figure, drawing in zip(page.figures, page.drawings, strict=True):
        width, height = (round(inches * 96) for inches in figure.figure.get_size_inches())
        source = "data:image/svg+xml;base64," + base64.b64encode(drawing).decode()
        wide = ' class="wide"' if width > 500 else ""
        parts.append(
            f'<figure{wide}><img src="{source}" width="{width}" height="{height}" alt="{escape(figure.alt)}">'
            f"<figcaption><strong>Figure {figure.number}. {escape(figure.title)}</strong> "
            f"{escape(figure.see)}</figcaption></figure>\n"
        )
    return f'<div class="figures">{"".join(parts)}</div>'


def markdown(page: ReportPage) -> str:
    """The same content as Markdown; its figures are the files figure-1.svg to figure-9.svg in the same folder."""
    lines = [f"# {TITLE}", "", _about(page), "", f"**{verdict(page)}**", "", "## The printed numbers", ""]
    lines += [*_comparison_lines(page.printed, "printed"), "", "## The figures", "", AXES, ""]
    for figure in page.figures:
        lines += [f"### Figure {figure.number}. {figure.title}", "", figure.see, ""]
        lines += [f"![{figure.alt}](figure-{figure.number}.svg)", ""]
    lines += [f"## {SOFTMAX_TITLE}", "", _protocol_note(page), "", *_comparison_lines(page.protocol, "expected"), ""]
    lines += ["## Time", "", took(page), "", *_markdown_table(TIMING_HEAD, timings(page)), ""]
    lines += ["## Environment", "", *_markdown_table(("what", "value"), environment(page)), ""]
    lines += [f"Written by `{_command(page)}`.", ""]
    return "\n".join(lines)


def _comparison_lines(rows: Sequence[Comparison], expected: str) -> list[str]:
    table = [(row.run, row.quantity, number(row.expected), number(row.obtained), difference(row)) for row in rows]
    return _markdown_table(("run", "quantity", expected, "obtained", "difference"), table)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *(line(row) for row in rows)]
