"""Identifiers: one 63-bit integer inside, a prefix and 13 letters outside (`em_01h7...`).

An id is 42 bits of milliseconds since 2020, 10 bits of the process and 11 bits of a counter, so ids are made without asking anyone, sort by
time, and keep index pages hot. The text form is Crockford's base 32 in lower case. Ids are not secrets; every read is checked against the project.
"""

from __future__ import annotations

import os
import time

EPOCH = 1_577_836_800_000  # 2020-01-01 in milliseconds; 42 bits last until 2159
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 13  # letters of 5 bits each: 65 bits, enough for 63
_VALUE = {letter: value for value, letter in enumerate(ALPHABET)}
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # 10 bits at a time: an id is written for every log line


class Maker:
    """Makes ids that differ from each other and, but for one chance in 1,024 a pair, from every other process at the same millisecond."""

    __slots__ = ("_last", "_process")

    def __init__(self, process: int | None = None, last: int = 0):
        """`last` is an id that every one of this maker is larger than, for one who goes on after a restart with a clock that stepped back."""
        self._process = (int.from_bytes(os.urandom(2), "big") if process is None else process) & 0x3FF
        self._last = ((last >> 21) + 1) << 11 if last else 0

    def next(self) -> int:
        """A new id, larger than every earlier one of this maker."""
        tick = ((time.time_ns() // 1_000_000 - EPOCH) << 11) & ((1 << 53) - 1)
        self._last = tick if tick > self._last else self._last + 1
        return ((self._last >> 11) << 21) | (self._process << 11) | (self._last & 0x7FF)


def made_at(number: int) -> float:
    """When an id was made, in UTC seconds."""
    return ((number >> 21) + EPOCH) / 1_000


def public(prefix: str, number: int) -> str:
    """`em_` and 13 letters for `("em", number)`."""
    n, pairs = number, _PAIRS
    return (f"{prefix}_{ALPHABET[n >> 60 & 31]}{pairs[n >> 50 & 1023]}{pairs[n >> 40 & 1023]}{pairs[n >> 30 & 1023]}{pairs[n >> 20 & 1023]}"
            f"{pairs[n >> 10 & 1023]}{pairs[n & 1023]}")


def internal(text: str, *prefixes: str) -> int | None:
    """The number of a public id, or None if it is not one (or has none of the prefixes)."""
    prefix, _, letters = text.partition("_")
    if len(letters) != LENGTH or (prefixes and prefix not in prefixes):
        return None
    number = 0
    for letter in letters:
        value = _VALUE.get(letter)
        if value is None:
            return None
        number = number << 5 | value
    return number if number < 1 << 63 else None
