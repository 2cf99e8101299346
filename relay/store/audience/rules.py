"""What a segment asks, as a tree: the one form into which every grammar is read and from which everything else is made.

    Rule = All(rules) | Some(rules) | Not(rule) | Condition(subject, operator, value, seconds)

Operators are positive and always true or false: what is missing is false, so `Not` needs no third value. A grammar in which "is not x" does not match what is
missing says so with All(is set, Not(is x)).

    Subject("email")             the address, in normal form            Subject("property", ("plan",))      a path into the properties
    Subject("first_name")        also last_name                         Subject("created_at")               also updated_at, last_active
    Subject("unsubscribed")      the flag                               Subject("suppressed")               no mail at all goes there
    Subject("tags")              the set of tags                        Subject("activity", ("email.opened",))   what the person did, also custom events
    Subject("segment", (7,))     also audience, topic: by number            Subject("listed", (7,))             on the list of a static segment
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

DAY = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Subject:
    kind: str
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant as it was written: a whole day or a second, from `start` until before `end`, UTC seconds."""

    start: float
    end: float
    text: str

    @classmethod
    def read(cls, text: str) -> Moment | None:
        """The moment that an ISO 8601 text means, or None: "2026-03-01" is that day in UTC, a time without a zone is in UTC too."""
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
        if not 1000 <= found.year <= 9998 or text[4:5] != "-":
            return None
        start = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        return cls(start, start + DAY, text) if len(text) == 10 else cls(start, start + 0.001 if found.microsecond else start + 1.0, text)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One question. `value` is what the operator compares with: str, bool, Number, Moment or None; `seconds` the width of a window."""

    subject: Subject
    operator: str
    value: str | bool | Number | Moment | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class All:
    """Every one of them; true without any."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of them; false without any."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    rule: Rule


Rule = All | Some | Not | Condition


def conditions(rule: Rule) -> Iterator[Condition]:
    """The questions that a rule is made of."""
    if isinstance(rule, (All, Some)):
        for part in rule.rules:
            yield from conditions(part)
    elif isinstance(rule, Not):
        yield from conditions(rule.rule)
    else:
        yield rule


def belongings(rule: Rule) -> set[tuple[str, int]]:
    """The segments, audiences and topics that a rule asks about: ("segment", number)."""
    return {(each.subject.kind, int(each.subject.path[0])) for each in conditions(rule) if each.subject.kind in ("segment", "audience", "topic")}


def segments(rule: Rule) -> set[int]:
    """The segments that a rule asks about."""
    return {int(each.subject.path[0]) for each in conditions(rule) if each.subject.kind == "segment"}


def timed(rule: Rule) -> bool:
    """Whether the passing of time alone can change who a rule is true of."""
    return any(each.seconds or each.operator in ("within", "older") for each in conditions(rule))
