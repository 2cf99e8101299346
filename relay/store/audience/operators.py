"""Rules as SQL: OPERATORS is the table of what can be asked, `compiled` turns a tree into one condition on `contacts` for SQLite or PostgreSQL.

Every condition is true or false, never NULL, whatever a contact holds: a comparison looks only at values of the type that it can compare
(relay.store.audience.subjects). Texts are compared by code point; where case does not matter, that is the case of A to Z, since neither database folds
more in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Boolean, Double, Text, and_, case, cast, exists, false, func, not_, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB

from relay.store.audience import subjects
from relay.store.audience.rules import DAY, All, Condition, Moment, Not, Number, Rule, Some, Subject
from relay.store.audience.schema import activity, audience_members, contacts, segment_members, subscriptions
from relay.store.audience.subjects import ACTIVITY, FLAG, MEMBER, SHAPES, TAGS, TEXT, TIME, VALUE, Compiler, Sql, decimal, folded
from relay.store.schema import suppressions

COSTS = {FLAG: 0, TIME: 0, TEXT: 1, TAGS: 2, VALUE: 3, ACTIVITY: 4, MEMBER: 5}
NESTED = 10  # segments that ask about segments


@dataclass(frozen=True, slots=True)
class Operator:
    """`sql(compiler, test)` for the shapes of subject it fits."""

    name: str
    shapes: tuple[str, ...]
    sql: Callable[[Compiler, Condition], Sql]


def compiled(rule: Rule, compiler: Compiler) -> Sql:
    """The condition on `contacts`."""
    if isinstance(rule, All):
        return and_(true(), *(compiled(each, compiler) for each in sorted(rule.rules, key=_cost)))
    if isinstance(rule, Some):
        return or_(false(), *(compiled(each, compiler) for each in sorted(rule.rules, key=_cost)))
    if isinstance(rule, Not):
        return not_(compiled(rule.rule, compiler))
    return _BY_NAME[rule.operator, SHAPES[rule.subject.kind]].sql(compiler, rule)


def _cost(rule: Rule) -> int:
    """What comes first in a list of conditions: a column before JSON, JSON before other tables. SQLite asks them in this order, and stops when it knows."""
    if isinstance(rule, (All, Some)):
        return max(map(_cost, rule.rules), default=0)
    if isinstance(rule, Not):
        return _cost(rule.rule)
    return COSTS[SHAPES[rule.subject.kind]] if rule.subject.kind != "suppressed" else COSTS[MEMBER]


def fits(operator: str, subject: Subject) -> bool:
    """Whether the table has this operator for the subject."""
    return (operator, SHAPES[subject.kind]) in _BY_NAME


def _sure(condition: Sql) -> Sql:
    return func.coalesce(condition, false(), type_=Boolean)


# Operators on texts and values.


def _is(compiler: Compiler, test: Condition) -> Sql:
    """Equal as texts; a number in a property also to its decimal text, a boolean to true or false."""
    if SHAPES[test.subject.kind] == TEXT:
        return _sure(subjects.text(compiler, test.subject) == test.value)
    kind, value = subjects.held(compiler, test.subject)
    found = [and_(_written(compiler, str(test.value), '"'), kind == subjects.STRING[compiler.postgres], value == test.value)]
    number = decimal(str(test.value))
    if number is not None:
        found.append(case((kind.in_(subjects.NUMBERS[compiler.postgres]), cast(value, Double) == number.value), else_=false()))
    if test.value in ("true", "false"):
        found.append(_boolean(compiler, kind, value, test.value == "true"))
    return _sure(or_(*found))


def _written(compiler: Compiler, text: str, quote: str = "") -> Sql:
    """Whether the properties have this text somewhere in their JSON; true where that cannot be told. SQLite sees it ten times sooner than it reads JSON."""
    plain = text.isascii() and text.isprintable() and not any(c in text for c in '"\\/')
    return func.instr(contacts.c.properties, f"{quote}{text}{quote}", type_=Text) > 0 if plain and not compiler.postgres else true()


def _boolean(compiler: Compiler, kind: Sql, value: Sql, wanted: bool) -> Sql:
    word = "true" if wanted else "false"
    return and_(kind == "boolean", value == word) if compiler.postgres else kind == word


def _same(compiler: Compiler, test: Condition) -> Sql:
    """Equal as JSON: 1 is neither "1" nor true."""
    kind, value = subjects.held(compiler, test.subject)
    if isinstance(test.value, bool):
        return _sure(_boolean(compiler, kind, value, test.value))
    if isinstance(test.value, Number):
        return _sure(case((kind.in_(subjects.NUMBERS[compiler.postgres]), cast(value, Double) == test.value.value), else_=false()))
    return _sure(and_(_written(compiler, str(test.value), '"'), kind == subjects.STRING[compiler.postgres], value == test.value))


def _set(compiler: Compiler, test: Condition) -> Sql:
    if SHAPES[test.subject.kind] == TEXT:
        return subjects.text(compiler, test.subject).is_not(None)
    return _sure(subjects.held(compiler, test.subject)[0] != "null")


def _find(compiler: Compiler, text: Sql, part: str) -> Sql:
    return _sure((func.strpos(text, part) if compiler.postgres else func.instr(text, part)) > 0)


def _contains(compiler: Compiler, test: Condition) -> Sql:
    return _find(compiler, subjects.lower(compiler, test.subject), folded(test.value))


def _contains_exactly(compiler: Compiler, test: Condition) -> Sql:
    return and_(_written(compiler, str(test.value)), _find(compiler, subjects.text(compiler, test.subject), str(test.value)))


def _starts(compiler: Compiler, test: Condition) -> Sql:
    wanted = folded(test.value)
    return _sure(func.substr(subjects.lower(compiler, test.subject), 1, len(wanted)) == wanted)


def _ends(compiler: Compiler, test: Condition) -> Sql:
    wanted, text = folded(test.value), subjects.lower(compiler, test.subject)
    return _sure(and_(func.length(text) >= len(wanted), func.substr(text, func.length(text) - len(wanted) + 1) == wanted))


def _range(wanted: str) -> Callable[[Compiler, Condition], Sql]:
    """above, from, below or until: of a number, or of a moment by its edges."""

    def sql(compiler: Compiler, test: Condition) -> Sql:
        if isinstance(test.value, Number):
            return _sure(_compared(wanted, subjects.number(compiler, test.subject), test.value.value, test.value.value))
        moment = test.value
        assert isinstance(moment, Moment)
        end = moment.end if moment.end - moment.start > 1 else math.floor(moment.start) + 1.0
        return _sure(_compared(wanted, subjects.moment(compiler, test.subject), subjects.second(moment.start), subjects.second(end), later=True))

    return sql


def _compared(wanted: str, value: Sql, start: Any, end: Any, later: bool = False) -> Sql:
    """`later`: `end` is the first that is too late, not the last that still belongs."""
    if wanted == "above":
        return value >= end if later else value > end
    if wanted == "from":
        return value >= start
    if wanted == "below":
        return value < start
    return value < end if later else value <= end


def _value_within(compiler: Compiler, test: Condition) -> Sql:
    return _sure(subjects.moment(compiler, test.subject) >= subjects.second(compiler.now - test.seconds))


def _value_older(compiler: Compiler, test: Condition) -> Sql:
    return _sure(subjects.moment(compiler, test.subject) < subjects.second(compiler.now - test.seconds))


# Times.


def _time_on(_compiler: Compiler, test: Condition) -> Sql:
    return _sure(and_(subjects.time(test.subject) >= test.value.start, subjects.time(test.subject) < test.value.end))  # type: ignore[union-attr]


def _time_range(wanted: str) -> Callable[[Compiler, Condition], Sql]:
    return lambda _compiler, test: _sure(_compared(wanted, subjects.time(test.subject), test.value.start, test.value.end, later=True))  # type: ignore[union-attr]


def _time_within(compiler: Compiler, test: Condition) -> Sql:
    return _sure(subjects.time(test.subject) >= compiler.now - test.seconds)


def _time_older(compiler: Compiler, test: Condition) -> Sql:
    return _sure(subjects.time(test.subject) < compiler.now - test.seconds)


# Flags, tags, what people did, where they belong.


def _flag(_compiler: Compiler, test: Condition) -> Sql:
    if test.subject.kind == "unsubscribed":
        return contacts.c.unsubscribed.is_(bool(test.value))
    held = exists().where(suppressions.c.project_id == contacts.c.project_id, suppressions.c.key == contacts.c.key, suppressions.c.scope == "all")
    return held if test.value else not_(held)


def _tagged(compiler: Compiler, test: Condition) -> Sql:
    if compiler.postgres:
        return cast(contacts.c.tags, JSONB).contains([test.value])
    each = func.json_each(contacts.c.tags).table_valued("value")
    seen = func.instr(contacts.c.tags, orjson.dumps(test.value).decode(), type_=Text) > 0  # cheap, and nearly sure
    return and_(seen, exists(select(1).select_from(each).where(each.c.value == test.value)))


def _tags_set(compiler: Compiler, _test: Condition) -> Sql:
    length = func.jsonb_array_length if compiler.postgres else func.json_array_length
    return length(contacts.c.tags) > 0


def _acts(test: Condition) -> Sql:
    return and_(activity.c.contact_id == contacts.c.id, activity.c.name == test.subject.path[0])


def _did(_compiler: Compiler, test: Condition) -> Sql:
    return exists().where(_acts(test))


def _did_within(compiler: Compiler, test: Condition) -> Sql:
    return exists().where(_acts(test), activity.c.last_at >= compiler.now - test.seconds)


def _counted(wanted: str) -> Callable[[Compiler, Condition], Sql]:
    """How often in the window, by whole days in UTC. Nobody's acts are added up who has none: most have none, and the database sees that sooner."""

    def sql(compiler: Compiler, test: Condition) -> Sql:
        first, number = math.floor((compiler.now - test.seconds) / DAY), test.value.value  # type: ignore[union-attr]
        here = and_(_acts(test), activity.c.day >= first)
        if (wanted, number) in (("above", 0), ("from", 1)):
            return exists().where(here)
        total = func.coalesce(select(func.sum(activity.c.count)).where(here).scalar_subquery(), 0)
        holds = total == number if wanted == "is" else _compared(wanted, total, number, number)
        return or_(not_(exists().where(here)), holds) if _nothing(wanted, number) else and_(exists().where(here), holds)

    return sql


def _nothing(wanted: str, number: float) -> bool:
    """Whether none is enough."""
    return {"is": number == 0, "above": number < 0, "from": number <= 0, "below": number > 0, "until": number >= 0}[wanted]


def _member(compiler: Compiler, test: Condition) -> Sql:
    number = test.subject.path[0]
    if test.subject.kind == "audience":
        return exists().where(audience_members.c.audience_id == number, audience_members.c.contact_id == contacts.c.id)
    if test.subject.kind == "topic":
        return not_(exists().where(subscriptions.c.topic_id == number, subscriptions.c.contact_id == contacts.c.id, subscriptions.c.subscribed.is_(False)))
    if test.subject.kind == "listed":
        return exists().where(segment_members.c.segment_id == number, segment_members.c.contact_id == contacts.c.id)
    if number not in compiler.segments or compiler.depth >= NESTED:
        return false()
    return compiled(compiler.segments[number], Compiler(compiler.postgres, compiler.now, compiler.segments, compiler.depth + 1))  # type: ignore[index]


OPERATORS = (
    Operator("is", (TEXT, VALUE), _is),
    Operator("same", (VALUE,), _same),
    Operator("set", (TEXT, VALUE), _set),
    Operator("contains", (TEXT, VALUE), _contains),
    Operator("contains_exactly", (VALUE,), _contains_exactly),
    Operator("starts", (TEXT, VALUE), _starts),
    Operator("ends", (TEXT, VALUE), _ends),
    *(Operator(name, (TEXT, VALUE), _range(name)) for name in ("above", "from", "below", "until")),
    Operator("within", (TEXT, VALUE), _value_within),
    Operator("older", (TEXT, VALUE), _value_older),
    Operator("is", (TIME,), _time_on),
    Operator("set", (TIME,), lambda _compiler, test: subjects.time(test.subject).is_not(None)),
    *(Operator(name, (TIME,), _time_range(name)) for name in ("above", "from", "below", "until")),
    Operator("within", (TIME,), _time_within),
    Operator("older", (TIME,), _time_older),
    Operator("is", (FLAG,), _flag),
    Operator("has", (TAGS,), _tagged),
    Operator("set", (TAGS,), _tags_set),
    Operator("set", (ACTIVITY,), _did),
    Operator("within", (ACTIVITY,), _did_within),
    *(Operator(name, (ACTIVITY,), _counted(name)) for name in ("is", "above", "from", "below", "until")),
    Operator("member", (MEMBER,), _member),
)
_BY_NAME = {(each.name, shape): each for each in OPERATORS for shape in each.shapes}
