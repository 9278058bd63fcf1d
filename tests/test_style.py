"""Plain English, read from the sources: phrases that no string, docstring, comment or document of the project holds."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# what is not said, and what is said instead
ANYWHERE = {
    r"can't be had": "is not available",
    r"(?<!there )\bis no (?!longer|more|such)": "is not a",
    r"\bso many\b": "maximum number of, this many",
    r"[Ww]hoever": "a caller that",
    r"\bfor ever\b": "without bound, forever",
    r"\b[Gg]o(?:es)? on with\b": "continue, resume",
    r"(?<=[a-z] )anew\b": "again",
    r"\bbeside\b": "in addition to, next to, alongside",
    r"\bfrom [0-9.]+ on\b": "from 0, from 0.5 upwards",
}
IN_MESSAGES = {r"\bwanted\b": "expected"}
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))


def sources() -> list[Path]:
    return sorted(path for folder in ("gpureg", "cli") for path in (ROOT / folder).rglob("*.py"))


def docstrings(tree: ast.Module) -> set[int]:
    """The identities of the string nodes that are docstrings."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def prose(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is a message, of every string, docstring and comment; line breaks become spaces."""
    tree = ast.parse(source)
    documents, inside = docstrings(tree), set()
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            inside.update(id(part) for part in node.values)
            yield node.lineno, on_one_line("".join(map(str, parts))), True
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, on_one_line(node.value), id(node) not in documents
    comments: list[list[tuple[int, str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, alone = token.start[0], token.line.lstrip().startswith("#")
            if not (alone and comments and comments[-1][-1][0] == line - 1):  # else it goes on with the line above
                comments.append([])
            comments[-1].append((line, token.string.lstrip("# ")))
    yield from ((lines[0][0], " ".join(text for _, text in lines), False) for lines in comments)


def on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def faults(text: str, *, message: bool = False) -> list[str]:
    """What is wrong with a text: the words found, and what is said instead."""
    phrases = ANYWHERE | (IN_MESSAGES if message else {})
    return [
        f"{match[0]!r} (say: {better})" for phrase, better in phrases.items() for match in re.finditer(phrase, text)
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_sources_are_in_plain_english(path: Path) -> None:
    found = [
        f"line {line}: {fault}"
        for line, text, message in prose(path.read_text(encoding="utf-8"))
        for fault in faults(text, message=message)
    ]
    assert not found, "\n".join(found)


# the command line's own words: of options, which `errors.named` puts in the words of the caller
OPTION = re.compile(r"(?<![\w-])--[a-z]")
COMMAND = re.compile(r"`gpureg [^`]*`")  # a command that a message quotes has its options


def names_an_option(text: str) -> bool:
    return " " in text and OPTION.search(COMMAND.sub("", text)) is not None


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sources()
        if path.is_relative_to(ROOT / "gpureg") and path.parent.name not in ("config", "report")
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_library_does_not_speak_of_options(path: Path) -> None:
    """Its caller may be in Python. (The options' own help in `config` is read on the command line only.)"""
    said = [(line, text) for line, text, message in prose(path.read_text(encoding="utf-8")) if message]
    assert not [f"line {line}: {text}" for line, text in said if names_an_option(text)]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Give another --out.", True),
        ("--kernels pair does not run", True),
        ("--no-scripts", False),
        ("resume it with `gpureg train --resume x`", False),
        ("a--b is not an option, - is one", False),
    ],
)
def test_what_an_option_is(text: str, wrong: bool) -> None:
    assert names_an_option(text) == wrong


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_in_plain_english(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not faults(" ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "message", "wrong"),
    [
        ("x.idx is no IDX file", False, True),
        ("x.idx is no {}", True, True),
        ("x.idx is not an IDX file", False, False),
        ("there is no such column", False, False),
        ("it is no longer there, and is no more", False, False),
        ("MNIST can't be had", False, True),
        ("the first so many rows", False, True),
        ("the loss falls for ever as weights grow", False, True),
        ("for every row", False, False),
        ("go on with it by `gpureg train --resume x`", True, True),
        ("the stages that go on without one", False, False),
        ("the file is fetched anew", False, True),
        ("a field called `anew`", False, False),
        ("the rows beside it", False, True),
        ("`beside_evaluation`: other threads", False, False),
        ("numbers from 0 on, and from 0.5 on", False, True),
        ("numbers from 0 only", False, False),
        ("Whoever asks", False, True),
        ("epochs is 3; wanted a number", True, True),
        ("the copies that are wanted", False, False),
    ],
)
def test_the_phrases(text: str, message: bool, wrong: bool) -> None:
    assert bool(faults(text, message=message)) == wrong


def test_what_is_read_of_a_source() -> None:
    source = '"""One\ntwo."""\n# three\n# four\nx = f"five {1} " "six"  # seven\n'
    assert sorted(prose(source)) == [
        (1, "One two.", False),
        (3, "three four", False),
        (5, "five {} six", True),
        (5, "seven", False),
    ]
