"""The report's page: complete, self-contained, in order for a screen reader; a browser's word where there is one."""

import base64
import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.figures.style import figure_bytes
from gpureg.report import numbers as report
from gpureg.report import page
from gpureg.storage.directory import load_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEADLESS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
    "--allow-file-access-from-files",
]
FRAME = """<!doctype html>
<iframe id="f" src="page.html" width="WIDTH" height="900" style="border:0"></iframe><p id="out"></p>
<script>onload = () => {
  const page = document.getElementById("f").contentDocument;
  const shown = [...page.images].filter(image => image.complete && image.naturalWidth > 0).length;
  document.getElementById("out").textContent = "images " + shown + " width " + page.documentElement.scrollWidth;
}</script>"""
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Outline(HTMLParser):
    """Tags with their attributes, headings with their level, text, and whether every tag is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.open, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "head"} & set(self.open[-1:]):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = {"dataset": "mnist", "shuffle": True}
    results = {
        "binary-no-shuffle": synthetic_result(task="logistic", config=config),
        "binary-shuffle": synthetic_result(task="logistic", stops=[33], config=config),
        "softmax": synthetic_result(l2=(0.0, 2.0, 0.2, 0.02, 0.002), stops=[60, 20, 33, 50, 60], config=config),
    }
    environment = {
        "gpureg": "0.1.0",
        "executable": "/home/someone/python",
        "packages": {"numpy": "2"},
        "note": "a < b & c",
    }
    environment["platform"] = "Linux-6.1.0-18-amd64-x86_64-with-glibc2.36"
    runs = {
        name: load_run(save_run(dataclasses.replace(result, environment=environment), folder / name))
        for name, result in results.items()
    }
    behind = report.ReportRuns(*runs.values())
    figures = report.report_figures(behind)
    return page.ReportPage(
        printed=tuple(report.printed_numbers(behind)),
        protocol=tuple(report.protocol_numbers(behind)),
        figures=figures,
        drawings=[figure_bytes(figure.figure, "svg") for figure in figures],
        runs=runs,
        reused=frozenset({"softmax"}),
        seconds=12.34,
    )


@pytest.fixture(scope="module")
def html(content):
    return page.html_page(content)


@pytest.fixture(scope="module")
def outline(html):
    return Outline(html)


def test_every_tag_is_closed_and_every_id_is_one(outline):
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        assert attributes.get("href", "#" + ids[0]).removeprefix("#") in [*ids, "data:,"]


def test_the_page_loads_nothing(html, outline):
    without_drawings = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_drawings)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert all(attributes["src"].startswith("data:image/svg+xml;base64,") for attributes in outline.all("img"))
    (policy,) = [a["content"] for a in outline.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_the_drawings_load_nothing_either(outline):
    for attributes in outline.all("img"):
        drawing = base64.b64decode(attributes["src"].partition(",")[2]).decode()
        assert not re.search(r"""(href|src)=["'](?!#|data:)""", drawing)
        assert "<script" not in drawing


def test_landmarks_language_and_one_heading_order(outline):
    assert outline.all("html") == [{"lang": "en"}]
    for landmark in ("header", "main", "nav", "footer", "title"):
        assert len(outline.all(landmark)) == 1
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.all("meta")


def test_nine_figures_each_with_a_text_in_its_place_and_a_sentence(outline):
    images = outline.all("img")
    assert len(images) == len(outline.all("figure")) == len(outline.all("figcaption")) == 9
    assert all(len(attributes["alt"]) > 60 for attributes in images)
    assert len({attributes["alt"] for attributes in images}) == 9
    text = "".join(outline.text)
    for number in range(1, 10):
        assert f"Figure {number}. " in text


def test_tables_have_captions_and_headers(outline):
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert {attributes.get("scope") for attributes in outline.all("th")} == {"row", "col"}


def test_every_number_stands_beside_the_obtained_one(content, outline):
    text = "|".join(outline.text)
    assert len(content.printed) == 10
    assert len(content.protocol) == 30
    for row in (*content.printed, *content.protocol):
        cells = "|".join((row.quantity, repr(row.expected), repr(row.obtained), page.difference(row)))
        assert cells.replace("None", "–") in text


def test_the_same_content_as_markdown(content):
    text = page.markdown(content)
    for row in (*content.printed, *content.protocol):
        cells = (row.run, row.quantity, page.number(row.expected), page.number(row.obtained), page.difference(row))
        assert "| " + " | ".join(cells) + " |" in text
    for figure in content.figures:
        assert f"![{figure.alt}](figure-{figure.number}.svg)" in text
        assert figure.see in text
    assert "This page took 12.3 seconds, 1.0 of them training." in text  # the reused run is not counted
    reused = dataclasses.replace(content, reused=frozenset(content.runs))
    assert "none of them training: the runs existed already." in page.markdown(reused)


def test_where_it_ran_is_told_and_whose_machine_it_was_is_not(html):
    assert "numpy 2" in html
    assert "a &lt; b &amp; c" in html
    assert "/home/someone" not in html
    assert "cpu (requested: auto)" in html
    assert "<td>Linux 6.1.0</td>" in html


def exactly(rows):
    return [dataclasses.replace(row, obtained=row.expected) for row in rows]


def test_the_verdict_is_honest(content):
    right = dataclasses.replace(content, printed=exactly(content.printed))
    assert page.verdict(right) == (
        "All 10 numbers that the report prints were obtained; the largest relative difference is 0.0e+00."
    )
    assert 'class="verdict"' in page.html_page(right)
    off = [*exactly(content.printed)[:9], dataclasses.replace(content.printed[9], obtained=None)]
    wrong = dataclasses.replace(content, printed=off)
    assert page.verdict(wrong).startswith("9 of 10 numbers")
    assert 'class="verdict off"' in page.html_page(wrong)
    assert "float32" not in page.verdict(wrong)
    for run in wrong.runs.values():
        run.result["dtype"] = "float32"
    assert "--dtype float64 gives the printed ones" in page.verdict(wrong)
    for run in wrong.runs.values():
        run.result["dtype"] = "float64"


def test_differences():
    def row(obtained):
        return report.Comparison("run", "loss", 2.0, obtained)

    assert (page.difference(row(2.0)), page.difference(row(2.5)), page.difference(row(None))) == ("0", "+5.0e-01", "–")
    assert row(1.0).relative == 0.5
    assert not page.agrees(row(None))
    assert page.agrees(row(2.0 + 1e-12))
    assert not page.agrees(row(2.0 + 1e-9))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_all_drawings_and_nothing_is_wider_than_the_window(html, tmp_path, width):
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    command = [CHROMIUM, *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run(
        [*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    images, scroll = map(int, re.search(r"images (\d+) width (\d+)</p>", shown).groups())
    assert images == 9
    assert scroll <= width
