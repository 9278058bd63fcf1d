"""`Option`: one option of a command as a value, and a command whose parameters are built from such values.

So both commands, their `--config` files and the help agree, and each option is written once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gpureg.config import ConfigOption


@dataclass(frozen=True)
class Option:
    """An option of a command.

    `name` is its name in a configuration, `choices` its values if they are few, `default` the value it has if it is not
    given, `shown` the default in words if it is not one of its values. `many`: values separated by commas. `switch`: a
    flag that can also be turned off. `several`: for a number, the command and option that take several.
    """

    name: str
    type: type
    help: str
    default: Any = None
    shown: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    complete: Callable[[str], list[str]] | None = None
    panel: str | None = None
    many: bool = False
    switch: bool = False
    several: str = ""

    @property
    def flag(self) -> str:
        """As it is written on the command line."""
        return "--" + self.name.replace("_", "-")

    def parameter(self) -> inspect.Parameter:
        """As a parameter that typer reads."""
        kind: Any = Literal[self.choices] if self.choices else self.type
        option = typer.Option(
            f"{self.flag}/--no-{self.flag[2:]}" if self.switch else self.flag,
            help=self.help,
            rich_help_panel=self.panel,
            show_default=self.shown or self.default is not None,
            metavar=self.metavar or (None if self.choices else METAVARS[self.type]),
            autocompletion=self.complete,
            parser=self._one_number if self.several else None,
        )
        kinds = Annotated[kind | None, option]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=kinds)

    def _one_number(self, text: str | float) -> float:
        """The number that `text` is; for several numbers the message names the command that takes them."""
        try:
            return float(text)
        except ValueError:
            numbers = str(text).split(",")
        try:
            several = len([float(number) for number in numbers]) > 1
        except ValueError:
            several = False
        remedy = f"is several numbers; expected one. Use {self.several} {text}" if several else "is not a number"
        raise typer.BadParameter(f"{text!r} {remedy}.")


METAVARS: dict[type, str] = {str: "TEXT", int: "N", float: "X", Path: "PATH", bool: " "}


def of_field(field: ConfigOption) -> Option:
    """A configuration's field as an option; the field itself says everything about it."""
    about = field.about
    return Option(
        field.name,
        str if field.many or about.size else field.type,
        f"{about.solver}: {about.help}" if about.solver else about.help,
        # a flag that is off needs no default, and if the help describes the default in words, no value is shown
        None if about.shown or field.many or field.default is False else field.default,
        about.shown,
        about.metavar,
        about.choices,
        panel=about.panel,
        many=field.many,
        switch=field.type is bool and field.default is not False,
    )


def panel(title: str, *options: Option) -> tuple[Option, ...]:
    """`options` under one title of the help."""
    return tuple(replace(option, panel=title) for option in options)


def with_options(*options: Option) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """A command that takes `options` and passes those that were given to its function, as a dict."""

    def decorate(function: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def command(ctx: typer.Context, **values: Any) -> None:
            function({name: value for name, value in values.items() if _was_given(ctx, name)})

        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        parameters = [context, *(option.parameter() for option in options)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
