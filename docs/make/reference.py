"""`python docs/make/reference.py`: docs/commands.md from the option tables, docs/python.md from the docstrings.

`--check` writes nothing and fails if a page differs from what would be written.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from gpureg_cli.main import app
from gpureg_cli.option_table import SWEEP, TRAIN

import gpureg

DOCS = Path(__file__).resolve().parent.parent
CHOICES = {option.name: option.choices for option in (*TRAIN, *SWEEP)}
METAVARS = {"Path": "PATH", "int": "N", "float": "X", "str": "TEXT"}
FITS = ("train", "sweep-lambda")
COMMANDS_TOP = """# Commands

Every option of every command. This page is made from the tables that the program itself reads
(`python docs/make/reference.py`), and a test compares the two; `gpureg COMMAND --help` says the same.

Exit codes: 0 done, 1 an unexpected error, 2 bad usage, configuration or data, 3 a device that `--strict-device`
requires is not available, 4 every model diverged, 130 interrupted.
"""
PYTHON_TOP = """# Python names

Everything that `import gpureg` offers. This page is made from the docstrings (`python docs/make/reference.py`), and a
test compares the two; the examples run in the tests.

Letters of shapes: L models, K classes, N samples, F features; D is F, or F + 1 where a bias column is counted. Losses
are in nats. The options of `gpureg.fit`, `load_dataset` and `make_dataset` are those of [the commands](commands.md),
with an underscore for a hyphen: `--batch-size` is `batch_size`.
"""
GROUPS = (
    ("Data", ("load_dataset", "make_dataset", "Dataset")),
    ("Fits", ("fit", "lambda_grid", "FitResult", "ModelResult", "History")),
    ("Runs and models", ("load_run", "Run", "LinearModel", "Evaluation")),
    ("Estimators", ("LogisticRegression", "LogisticRegressionCV")),
    ("Trackers", ("MLflowTracker", "TensorBoardTracker")),
    ("Errors and warnings", ("GpuregError", "UsageError", "DataError", "DeviceError", "RunError", "GpuregWarning")),
)


def cell(text: str) -> str:
    """A text as the cell of a table."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    safe = [part if part.startswith("`") else part.replace("<", "&lt;").replace("*", r"\*") for part in parts]
    return "".join(safe).replace("|", r"\|")


def flag(parameter: Any) -> str:
    """An option as it is written: all its names, and what it takes."""
    names = ", ".join(f"`{name}`" for name in reversed(parameter.opts))
    if parameter.secondary_opts:
        return f"{names}, `{parameter.secondary_opts[0]}`"
    if parameter.is_flag:
        return names
    kind = parameter.type_descriptor.annotation
    choices = CHOICES.get(parameter.name) if parameter.metavar is None else None
    takes = (
        " | ".join(choices) if choices else (parameter.metavar or METAVARS.get(getattr(kind, "__name__", ""), "TEXT"))
    )
    return f"{names} {cell(takes)}"


def default(parameter: Any) -> str:
    """An option's default in words, or its value; empty if there is none."""
    if isinstance(parameter.show_default, str):
        return cell(parameter.show_default)
    if parameter.default in (None, False, ()):
        return ""
    value = parameter.default
    if value is True:
        return "on"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def table(parameters: list[Any]) -> str:
    rows = [f"| {flag(one)} | {cell(one.help or '')} | {default(one)} |" for one in parameters]
    return "\n".join(["| option | meaning | default |", "| --- | --- | --- |", *rows]) + "\n"


def by_panel(parameters: list[Any]) -> dict[str, list[Any]]:
    panels: dict[str, list[Any]] = {}
    for one in parameters:
        panels.setdefault(one.rich_help_panel or "", []).append(one)
    return panels


def usage(path: str, command: Any) -> str:
    """The line that calls it, and the command's own words."""
    arguments = [f"{one.metavar or one.name.upper()}" for one in command.params if one.param_type_name == "argument"]
    shown = [
        argument if one.required else f"[{argument}]" for argument, one in zip(arguments, command.params, strict=False)
    ]
    text = inspect.cleandoc(command.help or "")
    options = ["[OPTIONS]"] if len(command.params) > len(arguments) else []
    return f"```text\n{' '.join(['gpureg', path, *shown, *options])}\n```\n\n{text}\n"


def commands_page() -> str:
    """docs/commands.md."""
    program = typer.main.get_command(app)
    found = program.commands
    pages = [COMMANDS_TOP]
    fits = {name: [one for one in found[name].params if one.param_type_name == "option"] for name in FITS}
    for name in FITS:
        others = {one.name for other in FITS if other != name for one in fits[other]}
        alone = [one for one in fits[name] if one.name not in others]
        pages += [f"## {name}\n", usage(name, found[name])]
        pages += [f"Only `{name}` has these; the others are below.\n", table(alone)]
    pages.append("## Options of train and sweep-lambda\n")
    names = {one.name for one in fits[FITS[1]]}
    for title, options in by_panel([one for one in fits[FITS[0]] if one.name in names]).items():
        pages += [f"### {title}\n", table(options)]
    for name, command in found.items():
        if name not in FITS:
            pages += [f"## {name}\n", *section(name, command)]
    return "\n".join(pages)


def section(path: str, command: Any) -> Iterator[str]:
    """A command that is not a fit; of a group, each of its commands."""
    nested = getattr(command, "commands", None)
    if nested is None:
        yield usage(path, command)
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        if arguments:
            yield (
                "\n".join(f"- `{one.metavar or one.name.upper()}`: {cell(one.help or '')}" for one in arguments) + "\n"
            )
        options = [one for one in command.params if one.param_type_name == "option"]
        if options:
            yield table(options)
        return
    yield inspect.cleandoc(command.help or "") + "\n"
    for name, one in nested.items():
        yield f"### {path} {name}\n"
        yield from section(f"{path} {name}", one)


def signature(name: str, function: Any) -> str:
    """A call with the names and defaults of its parameters, one line or one a line."""
    parameters = inspect.signature(function).parameters.values()
    parts, starred = [], False
    for one in parameters:
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        stars = {one.VAR_KEYWORD: "**", one.VAR_POSITIONAL: "*"}.get(one.kind, "")
        parts.append(stars + one.name + ("" if one.default is one.empty else f"={shown(one.default)}"))
    line = f"{name}({', '.join(parts)})"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def shown(value: Any) -> str:
    """A default as it is written; of a function its name would say little."""
    return "..." if callable(value) and not isinstance(value, type) else repr(value)


def prose(text: str) -> str:
    """A docstring as Markdown: its examples fenced, its titles bold, its parameters a list."""
    paragraphs = re.split(r"\n\s*\n", re.sub(r"^(\w+)\n-{3,}$", r"**\1**\n", text, flags=re.M))
    title, written = "", []
    for paragraph in paragraphs:
        if paragraph.startswith("**"):
            title = paragraph.strip("*\n ")
        if paragraph.startswith(">>>"):
            paragraph = f"```pycon\n{paragraph}\n```"
        elif title == "Parameters" and " : " in paragraph:
            paragraph = "\n".join(items(paragraph))
        elif not paragraph.startswith("**"):
            paragraph = escaped(paragraph)
        written.append(paragraph)
    return "\n\n".join(written) + "\n"


def escaped(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;").replace("_ ", r"\_ ") for part in parts)


def items(paragraph: str) -> Iterator[str]:
    """The parameters of a docstring, `name : meaning`, as a list; a name may go on in the next line."""
    names = ""
    for line in paragraph.splitlines():
        if line.startswith("    "):
            yield "  " + escaped(line.strip())
        elif " : " in line:
            name, meaning = line.split(" : ", 1)
            each = [re.sub(r"^(and )?(.+)$", r"\1`\2`", part) for part in f"{names}{name}".split(", ")]
            yield f"- {', '.join(each)}: {escaped(meaning)}"
            names = ""
        else:
            names += line + " "


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that gpureg wrote, with a docstring."""
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        function = value.fget if isinstance(value, property) else value
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        if function.__module__.startswith("gpureg."):
            yield name, value


def described(name: str) -> Iterator[str]:
    """One public name."""
    value = getattr(gpureg, name)
    yield f"### {name}\n"
    if not is_error(value) and not hasattr(value, "__dataclass_fields__"):
        yield f"```python\n{signature(f'gpureg.{name}', value)}\n```\n"
    elif not is_error(value):
        fields = ", ".join(f"`{field}`" for field in value.__dataclass_fields__ if not field.startswith("_"))
        yield f"Fields: {fields}.\n"
    yield prose(inspect.getdoc(value) or "")
    if isinstance(value, type) and not is_error(value):
        for member, function in members(value):
            is_property = isinstance(function, property)
            yield f"#### {name}.{member}\n"
            if not is_property:
                yield f"```python\n{signature(f'.{member}', function)}\n```\n"
            yield prose(inspect.getdoc(function) or "")


def python_page() -> str:
    """docs/python.md."""
    pages = [PYTHON_TOP]
    for title, names in GROUPS:
        pages.append(f"## {title}\n")
        for name in names:
            pages += described(name)
    return "\n".join(pages)


def pages() -> dict[Path, str]:
    """Each page that is made, with its text."""
    made = {"commands.md": commands_page(), "python.md": python_page()}
    return {DOCS / name: re.sub(r"\n{3,}", "\n\n", text).strip() + "\n" for name, text in made.items()}


def main() -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is not what python docs/make/reference.py writes", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
