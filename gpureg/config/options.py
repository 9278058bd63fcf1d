"""What a field of a configuration says about itself, and the check of its value that follows from that."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Collection, Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from gpureg.errors import UsageError, named

MOST = 2**31 - 1  # of a whole number, unless its field says otherwise


@dataclass(frozen=True)
class About:
    """A field's annotation: its help text, the `panel` of the help that shows it, and the bounds of its value.

    `choices`: the words that it may be. `least`, `above`, `most`: bounds of numbers. `shown`: the default in words, if
    the value does not say it. `size`: a number of bytes, written as 2GiB. `path`: a file's name, unless it is a name
    that gpureg knows. `solver`: the only solver that has the option.
    """

    help: str
    panel: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: int = MOST
    shown: str | None = None
    metavar: str | None = None
    size: bool = False
    path: bool = False
    solver: str | None = None


@dataclass(frozen=True)
class ConfigOption:
    """A field of a configuration: its name, the type of its value (of each value if there are `many`), its default.

    `open`: an object of the caller's own may take the place of a name.
    """

    name: str
    type: type
    many: bool
    optional: bool
    default: Any
    about: About
    open: bool = False

    def checked(self, value: object) -> Any:
        """The value as the configuration holds it. Raises UsageError for a value that is not allowed."""
        if value is None and self.optional:
            return None
        if self.many:
            return self._several(value)
        if self.about.choices:
            return self._choice(value)
        return self._one(value)

    def _several(self, value: object) -> tuple[Any, ...]:
        if isinstance(value, str):
            values: list[object] = [part.strip() for part in value.split(",") if part.strip()]
        else:
            values = list(value) if hasattr(value, "__iter__") else [value]
        if not values:
            raise UsageError(f"{named(self.name)} is empty; expected at least one value.")
        return tuple(self._one(one) for one in values)

    def _choice(self, value: object) -> Any:
        if self.open and not isinstance(value, str):
            return value
        if not isinstance(value, str) or value not in self.about.choices:
            raise UsageError(f"{named(self.name)} is {value!r}; expected one of {', '.join(self.about.choices)}.")
        return value

    def _one(self, value: object) -> Any:
        if self.type is int:
            return self._whole(value)
        if self.type is float:
            return self._number(value)
        if self.type is bool:
            if not isinstance(value, bool):
                raise UsageError(f"{named(self.name)} is {value!r}; expected True or False.")
            return value
        if self.type is str:
            if not isinstance(value, (str, os.PathLike)):
                raise UsageError(f"{named(self.name)} is {value!r}; expected text.")
            return str(value)
        return value.item() if hasattr(value, "item") else value  # a class: text or a number, NumPy's too

    def _whole(self, value: object) -> int:
        least, most = int(self.about.least or 0), self.about.most
        try:
            number = operator.index(value)  # type: ignore[arg-type]  # NumPy's whole numbers too
        except TypeError:
            number = least - 1
        if isinstance(value, bool) or not least <= number <= most:
            expected = f"of at least {least}" if number <= most else f"from {least} to {most}"
            raise UsageError(f"{named(self.name)} is {brief(value)}; expected a whole number {expected}.")
        return number

    def _number(self, value: object) -> float:
        least, above = self.about.least, self.about.above
        bound = f"above {above:g}" if above is not None else f"of at least {least:g}" if least is not None else ""
        try:
            if isinstance(value, (bool, str)):
                raise TypeError
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            several = " or a sequence of numbers" if self.many else ""
            raise UsageError(f"{named(self.name)} is {brief(value)}; expected a number{several}.") from None
        except OverflowError:
            number = math.inf
        if (
            not math.isfinite(number)
            or (least is not None and number < least)
            or (above is not None and number <= above)
        ):
            kind = "finite numbers" if self.many else "a finite number"
            raise UsageError(f"{named(self.name)} is {brief(value)}; expected {kind} {bound}".rstrip() + ".")
        return number


def brief(value: object, most: int = 60) -> str:
    """A value for a message, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        text = "a number with very many digits"
    return text if len(text) <= most else f"{text[:most]}..."


@cache
def options_of(config: Hashable) -> Mapping[str, ConfigOption]:
    """The options of a configuration's class, by name, in the order of its fields."""
    hints = get_type_hints(config, include_extras=True)
    return MappingProxyType({one.name: _option(one, hints[one.name]) for one in fields(config)})  # type: ignore[arg-type]


def _option(one: Field[Any], hint: Any) -> ConfigOption:
    about, hint = hint.__metadata__[0], hint.__origin__
    kinds = [kind for kind in _kinds(hint) if kind is not NoneType]
    kind, many = kinds[0], get_origin(kinds[0]) is tuple
    if many:
        each = _kinds(get_args(kind)[0])
        kind = each[0] if len(each) == 1 else object
    assert one.default is not MISSING, f"{one.name} has no default"
    return ConfigOption(one.name, kind, many, NoneType in _kinds(hint), one.default, about, len(kinds) > 1)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the only one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def check_options(config: Any) -> None:
    """Check a configuration's values one by one, and set each in the form to be held. Raises UsageError."""
    for name, option in options_of(config.__class__).items():
        object.__setattr__(config, name, option.checked(getattr(config, name)))


def to_plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values: what TOML and JSON can hold, and None."""
    values = ((name, getattr(config, name)) for name in options_of(config.__class__))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def refuse_unknown(given: Mapping[str, Any], known: Collection[str], whose: str) -> None:
    """Raise UsageError for a name that is not an option; the message suggests the option that may have been meant."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # only for the error

            close = get_close_matches(name, known, 2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(sorted(known))}."
            raise UsageError(f"{whose} {name!r}, which is not an option; {hint}")
