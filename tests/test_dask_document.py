"""What docs/distributed.md shows in Python is what it prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")
pytestmark = pytest.mark.long
PAGE = Path(__file__).resolve().parent.parent / "docs" / "distributed.md"


def test_its_python_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert blocks
    values: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), values)
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
        assert capsys.readouterr().out.splitlines() == said
