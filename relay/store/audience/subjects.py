"""What a rule can ask about, as SQL for SQLite or PostgreSQL: a text, a number or a moment, each NULL when the subject is none, so that a comparison never
meets a value of another type.

A text is a number when it is a decimal number of up to 15 digits (CSV files know no other), and a moment when it is an ISO 8601 date, or a time in UTC or with
its distance from it; moments in properties are compared by the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, Double, Integer, Interval, Text, and_, case, cast, func, literal, not_
from sqlalchemy import collate as collated
from sqlalchemy.dialects.postgresql import JSONB

from relay.store.audience.rules import Number, Rule, Subject
from relay.store.audience.schema import contacts

TEXT, VALUE, TIME, FLAG, TAGS, ACTIVITY, MEMBER = "text", "value", "time", "flag", "tags", "activity", "member"
SHAPES = {"email": TEXT, "first_name": TEXT, "last_name": TEXT, "property": VALUE, "created_at": TIME, "updated_at": TIME, "last_active": TIME,
          "unsubscribed": FLAG, "suppressed": FLAG, "tags": TAGS, "activity": ACTIVITY, "segment": MEMBER, "listed": MEMBER, "audience": MEMBER,
          "topic": MEMBER}
DIGITS = 15  # of a decimal number in a text; both databases read as many exactly
STRING, NUMBERS = {True: "string", False: "text"}, {True: ("number",), False: ("integer", "real")}  # kinds of JSON, on PostgreSQL and not

_DATE, _SECOND = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]", "T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
_AWAY = "[-+][01][0-9]:[0-5][0-9]"  # as the distance from UTC is written (RFC 3339 §4.2), 14 hours at most
_REAL = r"^[1-8][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"  # what both databases reckon with alike

Sql = Any  # a SQLAlchemy expression


@dataclass(frozen=True, slots=True)
class Compiler:
    """What a rule is compiled for.

    postgres   the dialect, else SQLite
    now        UTC seconds, where windows end
    segments   rules of the segments that rules may ask about; one that is not there has no members
    """

    postgres: bool
    now: float
    segments: dict[int, Rule]
    depth: int = 0


def held(compiler: Compiler, subject: Subject) -> tuple[Sql, Sql]:
    """The kind of JSON value at a path, as the database calls it, and its text."""
    if compiler.postgres:
        value: Sql = contacts.c.properties
        for name in subject.path[:-1]:
            value = value.op("->", return_type=JSONB)(literal(name, Text))
        last = literal(subject.path[-1], Text)
        return func.jsonb_typeof(value.op("->", return_type=JSONB)(last)), value.op("->>", return_type=Text)(last)
    path = "$" + "".join(f'."{name}"' for name in subject.path)
    return func.json_type(contacts.c.properties, path), func.json_extract(contacts.c.properties, path, type_=Text)


def text(compiler: Compiler, subject: Subject) -> Sql:
    """A column, or a property that is a text."""
    if SHAPES[subject.kind] == TEXT:
        return contacts.c.key if subject.kind == "email" else contacts.c[subject.kind]
    kind, value = held(compiler, subject)
    return case((kind == STRING[compiler.postgres], value))


def lower(compiler: Compiler, subject: Subject) -> Sql:
    """The text with A to Z in lower case."""
    return func.lower(_binary(compiler, text(compiler, subject)))


def folded(given: Any) -> str:
    """A to Z in lower case, as both databases fold."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in str(given))


def _binary(compiler: Compiler, found: Sql) -> Sql:
    """The text, compared by code point."""
    return collated(found, "C") if compiler.postgres else found


def time(subject: Subject) -> Sql:
    """A time of the contact itself, UTC seconds."""
    return contacts.c.last_active_at if subject.kind == "last_active" else contacts.c[subject.kind]


# Numbers.


def number(compiler: Compiler, subject: Subject) -> Sql:
    """The number that a value is, or that its text means."""
    if SHAPES[subject.kind] == TEXT:
        return _decimal(compiler, text(compiler, subject))
    kind, value = held(compiler, subject)
    return case((kind.in_(NUMBERS[compiler.postgres]), cast(value, Double)), (kind == STRING[compiler.postgres], _decimal(compiler, value)))


def _decimal(compiler: Compiler, found: Sql) -> Sql:
    """The number that a decimal text means."""
    if compiler.postgres:
        fits = and_(found.regexp_match(r"^-?[0-9]+(\.[0-9]+)?$"), func.length(found) <= DIGITS)
    else:
        plain = func.ltrim(found, "-")
        signs = func.length(found) - func.length(plain)
        fits = and_(func.length(found) <= DIGITS, signs <= 1, _glob(plain, "[0-9]*[0-9]") | _glob(plain, "[0-9]"), not_(_glob(plain, "*[^0-9.]*")),
                    not_(_glob(plain, "*.*.*")))
    return case((fits, cast(found, Double)))


def decimal(given: str) -> Number | None:
    """The number that a decimal text of up to 15 characters means."""
    digits = given.removeprefix("-")
    whole, dot, rest = digits.partition(".")
    if len(given) > DIGITS or not (whole + rest).isascii() or not whole.isdigit() or (dot and not rest.isdigit()):
        return None
    return Number(float(given), given)


def _glob(found: Sql, pattern: str) -> Sql:
    return found.op("GLOB", is_comparison=True)(pattern)


# Moments.


def moment(compiler: Compiler, subject: Subject) -> Sql:
    """The second in UTC that a text means, as 2026-03-23T10:00:00."""
    return _moment(compiler.postgres, subject)


@lru_cache(256)  # it takes ten times as long to write as any other
def _moment(postgres: bool, subject: Subject) -> Sql:
    compiler = Compiler(postgres, 0.0, {})
    found = text(compiler, subject)
    zone = func.ltrim(func.substr(found, 20), ".0123456789")
    if postgres:
        day, second_ = found.regexp_match(f"^{_DATE}$"), found.regexp_match(f"^{_DATE}{_SECOND}")
        away = case((and_(found.regexp_match(_REAL), func.substr(zone, 2, 2) <= "14"), _shifted(found, zone)))
    else:
        day, second_ = _glob(found, _DATE), _glob(found, f"{_DATE}{_SECOND}*")
        real = and_(_glob(found, "[1-8]*"), not_(_glob(found, "*T2[4-9]*")))
        away = case((real, func.strftime("%Y-%m-%dT%H:%M:%S", func.substr(found, 1, 19).concat(zone), type_=Text)))
    alike = zone.regexp_match(f"^{_AWAY}$") if postgres else _glob(zone, _AWAY)
    return _binary(compiler, case((day, found.concat("T00:00:00")), (and_(second_, zone.in_(("", "Z", "+00:00"))), func.substr(found, 1, 19)),
                                  (and_(second_, alike), away)))


def _shifted(found: Sql, zone: Sql) -> Sql:
    """A time with its distance from UTC, in UTC: reckoned, since PostgreSQL's own reading of one that there is not, such as February 30, is an error."""
    def part(of: Sql, start: int, length: int = 2) -> Sql:
        return cast(func.substr(of, start, length), Integer)

    since = func.make_interval(part(found, 1, 4) - 1_000, part(found, 6) - 1, 0, part(found, 9) - 1, part(found, 12), part(found, 15),
                               cast(part(found, 18), Double), type_=Interval)
    apart = func.make_interval(0, 0, 0, 0, part(zone, 2), part(zone, 5), type_=Interval)
    there = cast(literal(datetime(1_000, 1, 1)), DateTime) + since
    return func.to_char(case((func.substr(zone, 1, 1) == "-", there + apart), else_=there - apart), 'YYYY-MM-DD"T"HH24:MI:SS', type_=Text)


def second(at: float) -> str:
    """UTC seconds as `moment` writes them."""
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%S")
