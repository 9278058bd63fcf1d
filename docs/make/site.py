"""What MkDocs calls for every page: the page of release notes is CHANGELOG.md, by version, so that they are written
once; and what a narrow screen needs to be told from the rest is marked: long code within a line, tables of options.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

RELEASE_NOTES = "release-notes.md"
TITLE, TOP = "# Changelog\n", "# Release notes\n"
FITS = 38  # characters of code in a line of a narrow screen


def release_notes(changelog: str) -> str:
    """The page: the changelog under its own title, its links as the site has them."""
    if not changelog.startswith(TITLE):
        raise ValueError(f"CHANGELOG.md does not begin with {TITLE!r}.")
    return TOP + changelog.removeprefix(TITLE).replace("](docs/", "](")


def long_code(html: str) -> str:
    """The page with the class `long` on code of more than a narrow line, if it is not a block of its own."""
    return re.sub(
        rf"(?<!<pre>)(?<!<pre><span></span>)<code>(?=[^<]{{{FITS + 1},}}</code>)", '<code class="long">', html
    )


def options(html: str) -> str:
    """The page with the class `options` on the head of a table of options."""
    return re.sub(r"<thead>(?=\s*<tr>\s*<th>option</th>)", '<thead class="options">', html)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """A page before it becomes HTML."""
    if page.file.src_uri != RELEASE_NOTES:
        return markdown
    return release_notes((Path(config.config_file_path).parent / "CHANGELOG.md").read_text("utf-8"))


def on_page_content(html: str, *, page: Any, config: Any, files: Any) -> str:
    """A page's HTML."""
    return options(long_code(html))
