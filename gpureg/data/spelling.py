"""From labels as they are written to what they stand for: numbers and booleans in their plain form, else words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

Label = int | float | str  # a bool is an int

# what a text file writes for a missing value
MISSING_WORDS = frozenset({"", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"})
# what a table's cell holds for a missing value: the words that pandas reads so
MISSING_CELLS = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
     "NaN", "n/a", "nan", "null", "<NA>", "None")
)  # fmt: skip
FEW_CELLS = frozenset(("", "NaN", "nan"))  # of these, what programs usually write for a number
BOOLEANS = (("False", "True"), ("false", "true"), ("FALSE", "TRUE"))
EXACT = 2**53  # every whole number up to it has its own float64

_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-][0-9]+)?")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONGEST = 40  # characters of a number; longer ones are ids


def spelled(words: Sequence[str]) -> list[Label]:
    """The labels that distinct `words` of one column spell, in the same order.

    False and True where all are (in one spelling); numbers where every word is the plain decimal form of one, so that
    no two words but `1` and `1.0` become one (`01`, `1_1`, `1.10`, `1e5` are words); else the words themselves, without
    the space around them unless that would make two of them one.
    """
    stripped = [word.strip() for word in words]
    for spelling in BOOLEANS:
        if words and set(stripped) <= set(spelling):
            return [word == spelling[1] for word in stripped]
    numbers = [plain_number(word) for word in stripped]
    found = exact_numbers([number for number in numbers if number is not None])
    if found is not None and None not in numbers:
        return list(found)
    return list(stripped) if len(set(stripped)) == len(set(words)) else list(words)


def plain_number(word: str) -> int | float | None:
    """The number whose plain decimal form `word` is, as Python writes it; None for any other word."""
    if len(word) > _LONGEST or not _PLAIN.fullmatch(word):
        return None
    if "." not in word and "e" not in word:
        return None if word == "-0" else int(word)
    number = float(word)
    return number if math.isfinite(number) and repr(number) == word else None


def exact_numbers(numbers: Sequence[int | float]) -> list[int] | list[float] | None:
    """Numbers of one column as ints if all are whole, else as floats; None if that would change one."""
    if all(isinstance(number, int) or (number.is_integer() and abs(number) < EXACT) for number in numbers):
        whole = [int(number) for number in numbers]
        low, high = min(whole, default=0), max(whole, default=0)
        return whole if low >= -(2**63) and high < (2**63 if low < 0 else 2**64) else None
    if any(isinstance(number, int) and abs(number) > EXACT for number in numbers):
        return None
    return [float(number) for number in numbers]


def reads_as_number(word: str) -> bool:
    """Whether a table's cell is a number, in any of the ways that one is written; padded ones (`01`) are names."""
    return _NUMBER.fullmatch(word.strip()) is not None


def kind_of(label: object) -> str:
    """What a label is, for a message."""
    if isinstance(label, str):
        return "words"
    return "booleans" if isinstance(label, bool) else "numbers"
