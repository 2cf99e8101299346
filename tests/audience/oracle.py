"""Rules as plain Python: what each operator means, told a second time and without SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

from relay.store.audience.contacts import Contact
from relay.store.audience.rules import All, Condition, Moment, Not, Number, Some

DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
SECOND = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)[.0-9]*(Z|[-+][01]\d:[0-5]\d)?", re.ASCII)
MISSING = object()


@dataclass(frozen=True)
class Person:
    """A contact and all that is known of it; `did` are (name, day, count, last_at)."""

    contact: Contact
    did: tuple[tuple[str, int, int, float], ...] = ()
    segments: frozenset[int] = frozenset()
    audiences: frozenset[int] = frozenset()
    left: frozenset[int] = field(default=frozenset())
    suppressed: bool = False


def holds(rule: Any, person: Person, now: float, segments: dict[int, Any]) -> bool:
    match rule:
        case All(rules):
            return all(holds(each, person, now, segments) for each in rules)
        case Some(rules):
            return any(holds(each, person, now, segments) for each in rules)
        case Not(inner):
            return not holds(inner, person, now, segments)
    return _test(rule, person, now, segments)


def _test(test: Condition, person: Person, now: float, segments: dict[int, Any]) -> bool:
    contact, kind = person.contact, test.subject.kind
    if kind in ("email", "first_name", "last_name"):
        value = contact.key if kind == "email" else getattr(contact, kind)
        return _value(test, MISSING if value is None else value, now)
    if kind == "property":
        return _value(test, _at(contact.properties, test.subject.path), now)
    if kind in ("created_at", "updated_at", "last_active"):
        return _time(test, contact.last_active_at if kind == "last_active" else getattr(contact, kind), now)
    if kind in ("unsubscribed", "suppressed"):
        return (contact.unsubscribed if kind == "unsubscribed" else person.suppressed) == test.value
    if kind == "tags":
        return test.value in contact.tags if test.operator == "has" else bool(contact.tags)
    if kind == "activity":
        return _did(test, [each for each in person.did if each[0] == test.subject.path[0]], now)
    number = test.subject.path[0]
    if kind == "topic":
        return number not in person.left
    if kind == "audience":
        return number in person.audiences
    if kind == "listed":
        return number in person.segments
    return number in segments and holds(segments[number], person, now, segments)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return MISSING if value is None else value


def _value(test: Condition, value: Any, now: float) -> bool:
    wanted, name = test.value, test.operator
    if name == "set":
        return value is not MISSING
    if name in ("is", "same"):
        return _equal(name, value, wanted)
    if name in ("above", "from", "below", "until"):
        if isinstance(wanted, Number):
            number = _number(value)
            return number is not None and _compare(name, number, wanted.value, wanted.value, False)
        start = datetime.fromtimestamp(floor(wanted.start), UTC)
        end = start + timedelta(days=1) if len(wanted.text) == 10 else start + timedelta(seconds=1)
        moment = _moment(value)
        return moment is not None and _compare(name, moment, start.strftime("%Y-%m-%dT%H:%M:%S"), end.strftime("%Y-%m-%dT%H:%M:%S"), True)
    if name in ("within", "older"):
        moment, edge = _moment(value), datetime.fromtimestamp(floor(now - test.seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return moment is not None and (moment >= edge if name == "within" else moment < edge)
    if not isinstance(value, str):
        return False
    if name == "contains_exactly":
        return wanted in value
    folded, part = _fold(value), _fold(wanted)
    return {"contains": part in folded, "starts": folded.startswith(part), "ends": folded.endswith(part)}[name]


def _equal(name: str, value: Any, wanted: Any) -> bool:
    if isinstance(value, bool):
        return value == wanted if isinstance(wanted, bool) else name == "is" and wanted == ("true" if value else "false")
    if isinstance(value, (int, float)):
        if isinstance(wanted, Number):
            return float(value) == wanted.value
        return name == "is" and DECIMAL.fullmatch(wanted) is not None and len(wanted) <= 15 and float(value) == float(wanted)
    return isinstance(value, str) and value == wanted


def _fold(text: str) -> str:
    return text.translate({code: code + 32 for code in range(65, 91)})


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if DECIMAL.fullmatch(value) and len(value) <= 15 else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _moment(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if DAY.fullmatch(value):
        return value + "T00:00:00"
    found = SECOND.fullmatch(value)
    if found is None or found[2] in (None, "Z", "+00:00"):
        return found and found[1]
    year, month, day, hour, *rest = map(int, re.split("[-T:]", found[1]))
    hours, minutes = map(int, found[2][1:].split(":"))
    if not (1000 <= year < 9000 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and max(rest) < 60 and hours <= 14):
        return None
    apart = timedelta(hours=hours, minutes=minutes)
    there = datetime(year, month, 1, hour, *rest) + timedelta(days=day - 1)
    return (there + apart if found[2][0] == "-" else there - apart).strftime("%Y-%m-%dT%H:%M:%S")


def _time(test: Condition, at: float | None, now: float) -> bool:
    if test.operator == "set" or at is None:
        return at is not None
    if test.operator in ("within", "older"):
        return at >= now - test.seconds if test.operator == "within" else at < now - test.seconds
    moment: Moment = test.value
    if test.operator == "is":
        return moment.start <= at < moment.end
    return _compare(test.operator, at, moment.start, moment.end, True)


def _compare(name: str, value: Any, start: Any, end: Any, later: bool) -> bool:
    if name in ("above", "from"):
        return value >= start if name == "from" else value >= end if later else value > end
    return value < start if name == "below" else value < end if later else value <= end


def _did(test: Condition, did: list[tuple[str, int, int, float]], now: float) -> bool:
    if test.operator == "set":
        return bool(did)
    if test.operator == "within":
        return any(last >= now - test.seconds for _, _, _, last in did)
    total = sum(count for _, day, count, _ in did if day >= floor((now - test.seconds) / 86_400))
    return total == test.value.value if test.operator == "is" else _compare(test.operator, total, test.value.value, test.value.value, False)
