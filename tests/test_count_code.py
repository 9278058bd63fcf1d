"""The counting command: what is a line of code, and which room it belongs to."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def count(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("count_code")


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ("# a comment\n\n", 0),
        ('"""A docstring\nof two lines."""\n', 0),
        ("x = 1  # a comment beside code\n", 1),
        ('def f():\n    """Says."""\n    return 1\n', 2),
        ('class A:\n    """Says."""\n\n    x: int\n', 2),
        ("x = (\n    1,\n    # a comment inside\n    2,\n)\n", 4),
        ('x = """one\n\ntwo\n"""\n', 3),  # a string that is code counts, its blank lines do not
        ('x = 1\n"""not a docstring"""\n', 2),
        ("async def f():\n    'Says.'\n    pass\n", 2),
    ],
)
def test_lines_of_code(count, source, lines):
    assert count.code_lines(source) == lines


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("gpureg/losses.py", "losses"),
        ("gpureg/data/load.py", "data/"),
        ("gpureg/solvers/lbfgs/search.py", "solvers/"),
        ("cli/plot.py", "cli/"),
    ],
)
def test_rooms(count, path, room):
    assert count.room(path) == room


def test_a_table_of_the_working_tree(count, capsys):
    count.main([])
    head, *rows, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["room", "now"]
    numbers = {row.split()[0]: int(row.split()[1].replace(",", "")) for row in rows}
    assert numbers["cli/"] > 0
    assert {"data/", "losses", "kernels/"} <= set(numbers)
    assert int(total.split()[1].replace(",", "")) == sum(numbers.values())
