"""One question of a segment's rules, whatever its grammar: the parts of a condition `{field, operator, value}`, read and checked.

What cannot be read raises Invalid that names the part at fault as it was written, `rules[0].value`: `given` is the condition, `at` its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.errors import Invalid
from relay.mail import address, ids
from relay.store import bulk
from relay.store.audience.operators import fits
from relay.store.audience.rules import DAY, Condition, Moment, Not, Number, Rule, Subject
from relay.store.audience.subjects import SHAPES, decimal

LONGEST = 500  # characters of a value
MOST_DAYS = 3_650  # of a window
MEMBERS = {"segment": "seg", "audience": "aud", "topic": "top"}  # what one can be a member of, and how its ids begin

_LISTS = {"segment": "/segments", "audience": "/audiences", "topic": "/subscription-topics"}
_UNITS = {"minutes": 60.0, "hours": 3_600.0, "days": DAY}
_FORBIDDEN = frozenset('"\\')


@dataclass(frozen=True, slots=True)
class Word:
    """An operator of a grammar: ours it stands for, `negated`, and how its value reads: "text" | "range" | "date" | "days" | "window" | ""."""

    operator: str
    negated: bool = False
    value: str = "text"


def asked(subject: Subject, word: Word, given: Mapping[str, Any], at: str) -> Rule:
    """One question, with its value read as the word wants it."""
    if not fits(word.operator, subject):
        raise unsupported(given, at)
    return perhaps(_VALUES[word.value](subject, word.operator, given, at), word)


def _plain_value(subject: Subject, operator: str, given: Mapping[str, Any], at: str) -> Condition:
    value = given.get("value")
    if operator == "same":
        if isinstance(value, bool):
            return Condition(subject, operator, value)
        if isinstance(value, (int, float)):
            return Condition(subject, operator, Number(float(value), str(value)))
        return Condition(subject, operator, value_of(given, at))
    text = value_of(given, at)
    if SHAPES[subject.kind] == "time":
        return _dated(subject, operator, given, at)
    if subject.kind == "email":
        text = _folded(text) if operator == "is" else text.lower()
    return Condition(subject, operator, text)


def _ranged(subject: Subject, operator: str, given: Mapping[str, Any], at: str) -> Condition:
    text = value_of(given, at)
    number = decimal(text)
    if number is not None and SHAPES[subject.kind] != "time":
        return Condition(subject, operator, number)
    return _dated(subject, operator, given, at, "a number or a date such as 2026-03-23")


def _dated(subject: Subject, operator: str, given: Mapping[str, Any], at: str, form: str = "a date such as 2026-03-23") -> Condition:
    moment = Moment.read(value_of(given, at))
    if moment is None:
        raise Invalid(f"{at}.value", f"{at}.value is {form}")
    return Condition(subject, operator, moment)


def _last_days(subject: Subject, operator: str, given: Mapping[str, Any], at: str) -> Condition:
    return Condition(subject, operator, seconds=days_of(given.get("value"), f"{at}.value"))


def _window(subject: Subject, operator: str, given: Mapping[str, Any], at: str) -> Condition:
    unit, number = _UNITS.get(str(given.get("unit"))), decimal(str(given.get("value")))
    if unit is None:
        raise Invalid(f"{at}.unit", f"{at}.unit is days, hours or minutes")
    if number is None or not 0 <= number.value * unit <= MOST_DAYS * DAY:
        raise Invalid(f"{at}.value", f"{at}.value is a number of {given['unit']}")
    return Condition(subject, operator, seconds=number.value * unit)


_VALUES: dict[str, Callable[[Subject, str, Mapping[str, Any], str], Condition]] = {
    "text": _plain_value, "range": _ranged, "date": _dated, "days": _last_days, "window": _window,
    "": lambda subject, operator, _given, _at: Condition(subject, operator),
}


def perhaps(rule: Rule, word: Word) -> Rule:
    """The rule, or its opposite where the word is negated."""
    return Not(rule) if word.negated else rule


def field_of(given: Mapping[str, Any], at: str) -> str:
    """The field as it was written."""
    field = given.get("field")
    if not isinstance(field, str) or not 0 < len(field) <= LONGEST:
        raise Invalid(f"{at}.field", f"{at}.field is the name of a field")
    return field


def name_of(text: str, at: str) -> str:
    """The name of a property or event."""
    if not text or len(text) > 64 or not text.isprintable() or not _FORBIDDEN.isdisjoint(text):
        raise Invalid(f"{at}.field", f"{at}.field: {text[:80]!r} is not a name that properties or events can have")
    return text


def id_of(kind: str, text: str, at: str) -> int:
    """The number of a segment, audience or topic, by its public id; `kind` of MEMBERS."""
    number = ids.internal(text, MEMBERS[kind])
    if number is None:
        raise Invalid(at, f"{at}: {text[:80]!r} is not the id of one; GET {_LISTS[kind]} lists them")
    return number


def value_of(given: Mapping[str, Any], at: str) -> str:
    """The value as a text: numbers and booleans as JSON writes them."""
    value = given.get("value")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        value = bulk.json(value)
    if not isinstance(value, str) or not value:
        raise Invalid(f"{at}.value", f"{at}.value is required")
    if len(value) > LONGEST:
        raise Invalid(f"{at}.value", f"{at}.value has at most {LONGEST} characters")
    return bulk.clean(value, LONGEST)


def days_of(value: Any, at: str) -> float:
    """Seconds of a whole number of days."""
    number = decimal(str(value))
    if number is None or not number.value.is_integer() or not 0 < number.value <= MOST_DAYS:
        raise Invalid(at, f"{at} is a whole number of days, 1 to {MOST_DAYS}")
    return number.value * DAY


def _folded(text: str) -> str:
    try:
        return address.key(text.strip())
    except Invalid:
        return text.lower()  # no address is it, which is an answer too


def unsupported(given: Mapping[str, Any], at: str) -> Invalid:
    """The error for an operator that the field does not have."""
    operator = given.get("comparator", given.get("operator"))
    return Invalid(f"{at}.operator", f"Unsupported operator {str(operator)[:80]!r} for field {str(given.get('field'))[:80]!r}")
