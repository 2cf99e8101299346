"""Reading a config that a caller wrote: every field that is wrong is noted, so that all can be told at once.

A Form gives what it could read, and `faults` says what it could not: (field, words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay import kinds
from relay.errors import Invalid
from relay.mail import ids
from relay.store.audience.rules import DAY

LONGEST = 3_650 * DAY  # seconds of a wait
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": DAY, "week": 7 * DAY}


@dataclass(slots=True)
class Form:
    """`given` the config; names are tried in the order in which they are asked for."""

    given: Mapping[str, Any]
    faults: list[tuple[str, str]] = field(default_factory=list)

    def wrong(self, name: str, text: str) -> None:
        self.faults.append((name, f"{name} {text}"))

    def has(self, *names: str) -> str | None:
        """The first of these names that is there."""
        return next((name for name in names if self.given.get(name) is not None), None)

    def value(self, *names: str) -> Any:
        found = self.has(*names)
        return None if found is None else self.given[found]

    def text(self, *names: str, required: bool = False, longest: int = 500) -> str:
        found = self.value(*names)
        if found is None:
            if required:
                self.wrong(names[0], "is required")
            return ""
        if not isinstance(found, str) or len(found) > longest or (required and not found.strip()):
            self.wrong(self.has(*names) or names[0], f"is a text of 1 to {longest} characters")
            return ""
        return found

    def choice(self, name: str, among: Sequence[str], default: str) -> str:
        found = self.value(name)
        if found is None:
            return default
        if not isinstance(found, str) or found.lower() not in among:
            self.wrong(name, f"is one of {', '.join(among)}")
            return default
        return found.lower()

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        found = self.value(name)
        if found is not None and not isinstance(found, bool):
            self.wrong(name, "is true or false")
            return default
        return default if found is None else found

    def object(self, name: str) -> dict[str, Any]:
        found = self.value(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.wrong(name, "is an object")
            return {}
        return found

    def id(self, prefix: str, *names: str) -> int | None:
        """The number of an id, which SDKs also write as that number."""
        found = self.value(*names)
        if found is None:
            return None
        bare = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 63
        number = found if bare else ids.internal(found, prefix) if isinstance(found, str) else None
        if number is None:
            self.wrong(self.has(*names) or names[0], f"is an id that begins with {prefix}_")
        return number

    def seconds(self, *names: str, signed: bool = False) -> float | None:
        """A time span: "3d", "1h30m", a number of seconds, or {"amount": 3, "unit": "days"}; None when it is absent or wrong."""
        found = self.value(*names)
        if found is None:
            return None
        seconds = span(found, signed)
        if seconds is None:
            sign = ', with a "-" in front for before' if signed else ""
            self.wrong(self.has(*names) or names[0], f'is a time span such as "30m", "3d" or "1w", at most {LONGEST / DAY:.0f}d{sign}')
        return seconds


def span(given: Any, signed: bool = False) -> float | None:
    """The seconds of a time span, None for what is none."""
    if isinstance(given, Mapping):
        unit, amount = _UNITS.get(str(given.get("unit")).lower().removesuffix("s")), given.get("amount", given.get("value"))
        if unit is None or isinstance(amount, bool) or not isinstance(amount, (int, float)):
            return None
        given = amount * unit
    sign = 1.0
    if signed and isinstance(given, str) and given[:1] in ("-", "+"):
        sign, given = (-1.0 if given[0] == "-" else 1.0), given[1:]
    if signed and isinstance(given, (int, float)) and not isinstance(given, bool) and given < 0:
        sign, given = -1.0, -given
    try:
        seconds = kinds.duration(given)
    except ValueError:
        return None
    return sign * seconds if seconds <= LONGEST else None


def said(form: Form, name: str, error: Invalid) -> None:
    """Note what the reader of rules found wrong, in its words; what it calls `rules` is called `name` here."""
    place = name + error.field.removeprefix("rules")
    form.faults.append((place, error.text.replace(error.field, place, 1)))
