"""The examples in the docstrings and in the README run as they stand, without a warning, and give what they say."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import invoke

ROOT = Path(__file__).resolve().parent.parent
# where a user would paste one: module or class, and the method
EXPECTED = {
    "gpureg", "fit", "load_dataset", "make_dataset", "lambda_grid", "load_run", "LogisticRegression",
    "LogisticRegressionCV", "FitResult.save", "LinearModel.predict_proba", "LinearModel.to_sklearn",
}  # fmt: skip


def documented(node: ast.AST, path: str = "") -> Iterator[tuple[str, str, int]]:
    """Name, docstring and line of a module and of everything in it that has a docstring with an example."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
        text = ast.get_docstring(node)
        if text and ">>>" in text:
            yield path or "gpureg", text, node.body[0].lineno
        for child in node.body:
            yield from documented(child, f"{path}.{getattr(child, 'name', '')}".lstrip("."))


def examples() -> dict[str, doctest.DocTest]:
    parser, found = doctest.DocTestParser(), {}
    for path in sorted((ROOT / "gpureg").rglob("*.py")):
        for name, text, line in documented(ast.parse(path.read_text(encoding="utf-8"))):
            assert name not in found, f"two examples are named {name}"
            found[name] = parser.get_doctest(text, {}, name, str(path), line)
    return found


EXAMPLES = examples()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_users_paste_has_an_example() -> None:
    assert set(EXAMPLES) >= EXPECTED


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name: str) -> None:
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(EXAMPLES[name], out=said.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(said)


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    values: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), values)
    assert float(capsys.readouterr().out) > 0.9
    assert getattr(values["probabilities"], "shape", None) == (359, 10)


def test_the_python_of_the_page_on_data_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.S)
    values: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/data.md", "exec"), values)
        said = re.findall(r"print\(.*\)  # (.*)", block)
        assert said
        assert capsys.readouterr().out.splitlines() == said


def test_the_commands_of_the_page_on_data_run() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    values: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/data.md", "exec"), values)
    for line in re.findall(r"^    gpureg (.*)$", text, re.M):
        done = invoke(*line.split(), *(["--out", "runs/x"] if "X.npy" in line and line.startswith("train") else []))
        assert done.exit_code == 0, f"{line}\n{done.stderr}"
