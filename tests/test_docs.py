"""The documents: what they show runs as it stands, no link is dead, and the pages that are made are up to date."""

from __future__ import annotations

import functools
import glob
import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from commands import invoke, write_flowers

import gpureg

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
ELSEWHERE = {
    "trackers.md": "test_tracking_document.py",
    "data.md": "test_doctests.py",
    "distributed.md": "test_dask_document.py",
    "probes.md": "test_probes.py",
    "python.md": "test_doctests.py",
}
# what the page takes minutes for, and the test that runs it
LONG_COMMANDS = {"reproduce": "test_reproduce.py"}
SMALL = ("--train-size", "400", "--val-size", "200", "--epochs", "2")  # of the report's runs


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def snippets(text: str) -> Iterator[tuple[str, str]]:
    """The Python blocks and the commands of a page, in its order."""
    for kind, block, line in re.findall(r"^```(python|sh)\n(.*?)^```|^    (gpureg [^\n]*)$", text, re.S | re.M):
        if kind == "python":
            yield kind, block
        else:
            yield from (("sh", one) for one in (block or line).replace("\\\n", "").splitlines())


def shows_something(name: str) -> bool:
    return any(True for _ in snippets(read(name)))


def run_python(block: str, values: dict[str, Any], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A block; each line that it prints is what the comment beside its `print` says, if there is one."""
    capsys.readouterr()
    exec(compile(block, where, "exec"), values)
    printed = capsys.readouterr().out.splitlines()
    said = [comment for _, comment in re.findall(r"^ *print\((.*?)\)(?:  # (.*))?$", block, re.M)]
    assert len(printed) == len(said)
    for found, expected in zip(printed, said, strict=True):
        assert not expected or found == expected


def run_command(line: str, extra: tuple[str, ...] = ()) -> None:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "gpureg"
    expanded = [one for word in arguments for one in (sorted(glob.glob(word)) if "*" in word else [word])]
    done = invoke(*expanded, *extra)
    assert done.exit_code == 0, f"{line}\n{done.stderr}"


def of_the_report(line: str) -> tuple[str, ...]:
    """What makes a fit of the report small: those that name no data are of MNIST."""
    _, command, *rest = shlex.split(line, comments=True)
    return SMALL if command in ("train", "sweep-lambda") and "--dataset" not in rest else ()


@functools.cache
def made(name: str) -> ModuleType:
    """A module of docs/make."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "make" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sparse_files(values: dict[str, Any]) -> None:
    """What the page on sparse rows takes for granted."""
    from scipy import sparse
    from sklearn.datasets import dump_svmlight_file

    random = np.random.default_rng(0)
    y = np.arange(200) % 3
    dense = random.poisson(0.3, size=(200, 20)) + (np.arange(20) % 3 == y[:, None]) * random.poisson(0.5, (200, 20))
    X = sparse.csr_matrix(dense.astype(float))
    sparse.save_npz("X.npz", X)
    np.save("y.npy", y)
    dump_svmlight_file(X, y, "data.svm")
    gpureg.fit(gpureg.make_dataset(X, y), l2=1e-2).save("RUN")
    values.update(X=X, y=y)


def large_files(values: dict[str, Any]) -> None:
    """What the page on large data begins with."""
    random = np.random.default_rng(0)
    np.save("y.npy", np.arange(200) % 3)
    np.save("X.npy", random.normal(size=(200, 4)) + (np.arange(200) % 3)[:, None])


GIVEN = {"sparse.md": sparse_files, "large-data.md": large_files}


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.mnist, pytest.mark.long] if name == "report.md" else [])
        for name in PAGES
        if name not in ELSEWHERE and shows_something(name)
    ],
)
def test_what_a_page_shows_runs_in_its_order(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Any] = {}
    GIVEN.get(name, lambda values: None)(values)
    for kind, text in snippets(read(name)):
        if kind == "python":
            run_python(text, values, name, capsys)
        elif text.split()[1] not in LONG_COMMANDS:
            run_command(text, of_the_report(text))


def test_what_is_tested_elsewhere_is() -> None:
    for page, test in ELSEWHERE.items():
        assert page in PAGES
        assert page.removesuffix(".md") in (ROOT / "tests" / test).read_text(encoding="utf-8")
    for command, test in LONG_COMMANDS.items():
        assert command in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
def test_the_commands_of_the_readme_run(here: Path) -> None:
    rows = write_flowers(here / "flowers.csv").read_text(encoding="utf-8")
    for name in ("new.csv", "held-out.csv"):
        (here / name).write_text(rows, encoding="utf-8")
    data = gpureg.load_dataset("flowers.csv")
    for name in ("x", "a", "b"):
        gpureg.fit(data, l2=[1e-2, 1e-3], solver="lbfgs").save(f"runs/{name}")
    lines = [text for kind, text in snippets((ROOT / "README.md").read_text(encoding="utf-8")) if kind == "sh"]
    assert len(lines) > 10
    for line in lines:
        if line.split()[1] not in LONG_COMMANDS:
            run_command(line, of_the_report(line))


def test_the_pages_that_are_made_are_up_to_date() -> None:
    for path, text in made("reference").pages().items():
        assert path.read_text(encoding="utf-8") == text, "run python docs/make/reference.py"


def test_every_option_and_every_name_is_in_the_reference() -> None:
    from gpureg_cli.option_table import SWEEP, TRAIN

    for option in (*TRAIN, *SWEEP):
        assert f"`{option.flag}`" in read("commands.md")
    for name in set(gpureg.__all__) - {"__version__"}:
        assert f"### {name}\n" in read("python.md")


def slug(heading: str) -> str:
    """The anchor of a heading, as the site and code hosts make it."""
    return re.sub(r"[ ]+", "-", re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip())


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


def links(path: Path) -> list[str]:
    """The targets of a document's links and pictures, but those of other hosts; what is code is not a link."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "figures").glob("*.md")])


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_among_the_files_is_dead(path: Path) -> None:
    for link in links(path):
        target, _, anchor = link.partition("#")
        found = path.parent / target if target else path
        assert found.exists(), f"{link} is not there"
        if anchor:
            assert anchor in anchors(found), f"{link}: no such heading"
        if path.parent == DOCS and path.name != "release-notes.md":  # of which the site shows the changelog itself
            assert found.resolve().is_relative_to(DOCS), f"{link} is not part of the site"


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two` (three)\n[a](b.md#c) ![d](e.png) `[f](g)` [h](x://y)\n", encoding="utf-8")
    assert links(page) == ["b.md#c", "e.png"]
    assert anchors(page) == {"one-two-three"}


def test_the_site_has_every_page_and_loads_nothing_from_another_host() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r": ([\w-]+\.md)$", settings, re.M)) == PAGES
    assert "font: false" in settings
    for text in (settings, (DOCS / "site.css").read_text(encoding="utf-8")):
        assert "://" not in text


def test_the_release_notes_of_the_site_are_the_changelog(tmp_path: Path) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    page = DOCS / "release-notes.md"
    assert links(page) == ["../CHANGELOG.md"]
    text = made("site").release_notes(changelog)
    versions = re.findall(r"^## (.+)$", changelog, re.M)
    assert re.findall(r"^## (.+)$", text, re.M) == versions != []
    assert text.splitlines()[0] == "# Release notes"
    assert text.splitlines()[1:] == changelog.replace("](docs/", "](").splitlines()[1:]
    (tmp_path / "notes.md").write_text(text, encoding="utf-8")
    for link in links(tmp_path / "notes.md"):
        assert (DOCS / link.partition("#")[0]).exists(), f"{link} is not part of the site"
    with pytest.raises(ValueError, match="does not begin with"):
        made("site").release_notes("Changes\n")
    assert "- docs/make/site.py" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_code_longer_than_a_narrow_line_is_marked() -> None:
    short, long = "--cv 5", "python bench/sparse.py --part path --rounds 3"
    blocks = f"<pre><code>{long}</code></pre><pre><span></span><code>{long}</code></pre>"
    html = f"<p><code>{short}</code>, <code>{long}</code></p>{blocks}"
    assert made("site").long_code(html) == html.replace(f", <code>{long}", f', <code class="long">{long}')


def test_tables_of_options_are_marked() -> None:
    html = "<table>\n<thead>\n<tr>\n<th>{}</th>\n</tr>\n</thead></table>"
    assert made("site").options(html.format("option")).count('<thead class="options">') == 1
    assert made("site").options(html.format("file")) == html.format("file")


def test_the_citation_names_this_version() -> None:
    cited = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == gpureg.__version__
    assert cited["license"] == project["license"]
    assert {"cff-version", "message", "title"} <= set(cited)


def test_the_documents_are_tracked() -> None:
    listed = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not listed or {f"docs/{name}" for name in PAGES} <= set(listed)
