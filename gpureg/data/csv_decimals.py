"""Short decimal numbers of text, read exactly and many at once.

Eight characters are one word of 64 bits, and three multiplications add up its bytes ("SWAR"; D. Lemire, "Number parsing
at a gigabyte per second", 2021). A number is then the whole number of its digits, less than 10^8, divided by a power of
ten: both are exact in float64, so that the quotient is the float64 that is nearest (W. Clinger, "How to read floating
point numbers accurately", 1990).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

MARGIN = 16  # bytes behind the last cell of a text that are read with it
WORD = np.dtype("<u8")  # the first character in the lowest byte
_MINUS = ord("-")
_EACH = 0x0101010101010101  # times a byte: that byte in all eight places
_POINT = ord(".") ^ ord("0")  # 0x1E; digits, by their values, are less than 0x10
# What the digits are divided by, for each number of bits below the point (the point takes a place too, the last one if
# it isn't there), and the same for numbers with a minus.
_POWERS = np.outer([1.0, -1.0], 10.0 ** (8 - np.arange(65) // 8)).ravel()


def short_decimals(text: memoryview, starts: Places, ends: Places, X: npt.NDArray[np.float64]) -> Places | slice:
    """Write the numbers `text[start : end]` into `X`, all of one shape, and return the flat positions of those that are
    left to a parser: whatever is not up to eight digits, one of which may be a point, and a minus before them; all of
    them if most are too long.
    """
    minus = np.frombuffer(text, np.uint8).take(starts, mode="wrap") == _MINUS
    starts = starts + minus.astype(np.int64)
    lengths = ends - starts
    if 2 * np.count_nonzero(lengths > 8) > lengths.size:
        return slice(None)
    words, unused = eight_characters(text, starts), unused_bits(lengths)
    words ^= ord("0") * _EACH
    words <<= unused
    point = words & np.uint64(0x10 * _EACH)
    below = point - 1  # all bits if there is no point
    power = np.bitwise_count(below)
    power += minus.view(np.uint8) * np.uint8(65)
    left = below | 1 << 60  # a point at the end, as in "5." and "."
    left &= point  # or several
    point >>= 4
    words ^= point * _POINT
    left |= _not_digits(words, point)
    below >>= 4
    below &= words  # the digits before the point
    words ^= below
    words >>= 8
    words |= below
    np.divide(_added_up(words), _POWERS.take(power.astype(np.intp), mode="wrap"), out=X)
    none_or_more = unused > 56
    none_or_more |= left != 0
    return np.flatnonzero(none_or_more)


def eight_characters(text: memoryview, starts: Places) -> Words:
    """The eight characters from each start on."""
    words = np.frombuffer(text, WORD, len(text) // 8)
    place, shift = starts >> 3, ((starts & 7) << 3).view(np.uint64)
    found = words.take(place, mode="wrap")
    found >>= shift
    rest = words[1:].take(place, mode="wrap")
    np.subtract(64, shift, out=shift)
    rest <<= shift
    found |= rest
    return found


def unused_bits(lengths: Places) -> Words:
    """The number of bits of eight characters that are not a cell's; more than 64 if the cell has more characters."""
    unused = 8 - lengths
    unused <<= 3
    return unused.view(np.uint64)


def _not_digits(words: Words, point: Words) -> Words:
    """Bits for the bytes of `words` that are more than 9, or more than 0 where `point` has a 1."""
    found = point * 9
    found += 0x76 * _EACH
    found += words
    found |= words
    found &= 0x80 * _EACH
    return found


def _added_up(words: Words) -> Words:
    """The number that the bytes of a word are the digits of: of each two bytes, each four, and all."""
    for times, bits, kept in ((10, 8, 0x00FF00FF00FF00FF), (100, 16, 0x0000FFFF0000FFFF), (10_000, 32, 0xFFFFFFFF)):
        words *= (times << bits) + 1
        words >>= bits
        words &= kept
    return words
