"""Lines of code in gpureg/ and cli/, without blank lines, comments and docstrings, for each room and in all.

python bench/count_code.py              # the working tree
python bench/count_code.py COMMIT ...   # a column for each commit
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("gpureg", "cli")
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> int:
    """How many lines hold code: a line of a string counts unless it is blank or the string is a docstring."""
    lines, found = source.splitlines(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return sum(1 for number in found if lines[number - 1].strip())


def room(path: str) -> str:
    """`gpureg/data/load.py` is in `data/`, `gpureg/losses.py` is `losses`, everything of the command line `cli/`."""
    folder, *parts = path.split("/")
    if folder == "cli":
        return "cli/"
    return parts[0].removesuffix(".py") if len(parts) == 1 else parts[0] + "/"


def sources(commit: str | None) -> dict[str, str]:
    """Path and text of every Python file of the two folders, in the working tree or in a commit."""
    if commit is None:
        paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
        return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout

    names = git("ls-tree", "-r", "--name-only", commit, *FOLDERS).splitlines()
    return {name: git("show", f"{commit}:{name}") for name in names if name.endswith(".py")}


def counted(commit: str | None) -> Counter[str]:
    """Lines of code for each room."""
    rooms: Counter[str] = Counter()
    for path, source in sources(commit).items():
        rooms[room(path)] += code_lines(source)
    return rooms


def main(commits: list[str]) -> None:
    """A column for each commit, or one for the working tree."""
    named: list[tuple[str, Counter[str]]] = [(commit[:10], counted(commit)) for commit in commits]
    named = named or [("now", counted(None))]
    rooms = sorted(set().union(*(count for _, count in named)))
    width = max(len("room"), *map(len, rooms))
    print(f"{'room':{width}s}" + "".join(f"{name:>12s}" for name, _ in named))
    for name in rooms:
        print(f"{name:{width}s}" + "".join(f"{count[name]:12,d}" for _, count in named))
    print(f"{'total':{width}s}" + "".join(f"{count.total():12,d}" for _, count in named))


if __name__ == "__main__":
    main(sys.argv[1:])
