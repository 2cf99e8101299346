"""What rules can ask, as a person sees it: the fields, the operators that each kind of field has, and the input that each operator's value needs.

Two vocabularies, since rules stay in the grammar in which they were written: TREE is that of lists and trees, GROUPS that of nested groups. `row` shows a
condition of the grammar as a Row; `condition` makes one of a Row again. What nobody changed stays as it came, keys that we do not know included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from relay.audience import grammars
from relay.errors import Invalid
from relay.mail import ids
from relay.store.audience.rules import Subject
from relay.store.audience.subjects import SHAPES, decimal

# Inputs: none, a text, a value of the property's type, a number or a date, a date, whole days, a number of units, how often in so many days, yes or no,
# one of a list, a value and its type.
NONE, WORD, VALUE, RANGE, DATE, DAYS, WINDOW, OFTEN, FLAG, CHOICE, TYPED = (
    "", "text", "value", "range", "date", "days", "window", "often", "flag", "choice", "typed")
WITH_MORE = {WINDOW: "days", OFTEN: "30", TYPED: "text"}  # inputs of two parts, and what the second is at first
PROPERTY, EVENT = "properties.", "event."  # fields whose name is typed beside them
MEMBERS = {"segment": "seg", "audience": "aud", "topic": "top"}
ENGAGEMENT = "engagement_segment"

Ask = tuple[str, str, str]  # an operator: its name, its words, its input


@dataclass(frozen=True, slots=True)
class Row:
    """A condition as a form holds it. `name` of a property or event that the list of fields does not have; `more` the second part of the value; `raw` the
    JSON that it was shown from."""

    field: str = ""
    name: str = ""
    operator: str = ""
    value: str = ""
    more: str = ""
    raw: str = ""

    @property
    def asked(self) -> tuple[str, ...]:
        """What it asks, however it was written."""
        return self.field.removesuffix(".") + ("." + self.name if self.name else ""), self.operator, self.value, self.more


_ORDER: tuple[Ask, ...] = (
    ("greater_than", "is more than", RANGE), ("greater_than_or_equal", "is at least", RANGE), ("less_than", "is less than", RANGE),
    ("less_than_or_equal", "is at most", RANGE))
_SET: tuple[Ask, ...] = (("is_set", "is set", NONE), ("is_not_set", "is not set", NONE))
_LAST: tuple[Ask, ...] = (("in_last_days", "is in the last", DAYS), ("not_in_last_days", "is not in the last", DAYS))
_TEXT: tuple[Ask, ...] = (
    ("equals", "is", VALUE), ("not_equals", "is not", VALUE), ("contains", "contains", WORD), ("not_contains", "does not contain", WORD),
    ("starts_with", "starts with", WORD), ("ends_with", "ends with", WORD), *_SET, *_ORDER, ("after", "is after", DATE), ("before", "is before", DATE), *_LAST)
_IS: tuple[Ask, ...] = (("equals", "is", CHOICE), ("not_equals", "is not", CHOICE))

TREE_OPERATORS: dict[str, tuple[Ask, ...]] = {
    "text": _TEXT, "value": _TEXT,
    "time": (*_LAST, ("after", "is after", DATE), ("before", "is before", DATE), ("equals", "is on", DATE), ("not_equals", "is not on", DATE),
             ("greater_than_or_equal", "is on or after", DATE), ("less_than_or_equal", "is on or before", DATE), *_SET),
    "flag": (("equals", "is", FLAG), ("not_equals", "is not", FLAG)),
    "tags": (("contains", "include", WORD), ("not_contains", "do not include", WORD), ("is_set", "are there", NONE), ("is_not_set", "are not there", NONE)),
    "activity": (
        ("is_set", "ever", NONE), ("is_not_set", "never", NONE), ("in_last_days", "in the last", DAYS), ("not_in_last_days", "not in the last", DAYS),
        ("greater_than_or_equal", "at least", OFTEN), ("greater_than", "more often than", OFTEN), ("equals", "exactly", OFTEN),
        ("not_equals", "not exactly", OFTEN), ("less_than", "less often than", OFTEN), ("less_than_or_equal", "at most", OFTEN)),
    "member": _IS, "engagement": _IS,
}

_GROUP_EXISTS: tuple[Ask, ...] = (("exists", "is set", NONE), ("notExists", "is not set", NONE))
_GROUP_WINDOW: tuple[Ask, ...] = (("within", "is in the last", WINDOW), ("olderThan", "is longer ago than", WINDOW))

GROUPS_OPERATORS: dict[str, tuple[Ask, ...]] = {
    "text": (("equals", "is", WORD), ("notEquals", "is not", WORD), ("contains", "contains", WORD), ("notContains", "does not contain", WORD)),
    "value": (
        ("equals", "is exactly", TYPED), ("notEquals", "is set, and is not", TYPED), ("contains", "contains", WORD),
        ("notContains", "is set, and does not contain", WORD), ("greaterThan", "is more than", RANGE), ("greaterThanOrEqual", "is at least", RANGE),
        ("lessThan", "is less than", RANGE), ("lessThanOrEqual", "is at most", RANGE), *_GROUP_WINDOW, *_GROUP_EXISTS),
    "time": (
        *_GROUP_WINDOW, ("equals", "is on", DATE), ("notEquals", "is not on", DATE), ("greaterThan", "is after", DATE),
        ("greaterThanOrEqual", "is on or after", DATE), ("lessThan", "is before", DATE), ("lessThanOrEqual", "is on or before", DATE), *_GROUP_EXISTS),
    "flag": (("equals", "is", FLAG), ("notEquals", "is not", FLAG)),
    "activity": (
        ("triggered", "ever", NONE), ("notTriggered", "never", NONE), ("triggeredWithin", "in the last", WINDOW),
        ("notTriggeredWithin", "not in the last", WINDOW), ("triggeredOlderThan", "longer ago than", WINDOW)),
    "member": (("memberOfSegment", "is", CHOICE), ("notMemberOfSegment", "is not", CHOICE)),
}

_MAIL = tuple((f"email.{did}", f"Email: {words}") for did, words in (
    ("opened", "opened"), ("clicked", "clicked"), ("delivered", "received"), ("sent", "sent"), ("bounced", "bounced"), ("complained", "complained of")))

Fields = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # (heading, ((field, label), ...))

TREE_FIELDS: Fields = (
    ("Contact", (("email", "Address"), ("first_name", "First name"), ("last_name", "Last name"), ("tags", "Tags"), ("subscribed", "Subscribed"),
                 ("unsubscribed", "Unsubscribed"), ("suppressed", "Suppressed"))),
    ("Times", (("created_at", "Added"), ("updated_at", "Changed"), ("last_active", "Last active"), (ENGAGEMENT, "Engagement"))),
    ("Mail", _MAIL),
    ("Belongs to", (("segment", "Segment"), ("audience", "Audience"), ("topic", "Topic"))),
)
GROUPS_FIELDS: Fields = (
    ("Contact", (("email", "Address"), ("subscribed", "Subscribed"))), ("Times", (("createdAt", "Added"), ("updatedAt", "Changed"))), ("Mail", _MAIL),
    ("Belongs to", (("segment", "Segment"),)))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A grammar's: its fields, the prefix of its properties, operators by kind of field; and the ways from a condition to a row and back."""

    fields: Fields
    prefix: str
    operators: Mapping[str, tuple[Ask, ...]]
    row: Callable[[Mapping[str, Any]], Row]
    condition: Callable[[Row], dict[str, Any]]

    def kind(self, field: str) -> str:
        """The key of `operators`; "" for a field that this grammar does not have."""
        if field == ENGAGEMENT:
            return "engagement" if "engagement" in self.operators else ""
        if field.startswith(PROPERTY):
            return "value"
        if field.startswith(EVENT):
            return "activity"
        kind = {"subscribed": "flag", "createdAt": "time", "updatedAt": "time", "email": "text"}.get(field) or (
            "activity" if field.startswith("email.") else SHAPES.get(field, ""))
        return kind if kind in self.operators else ""

    def input(self, row: Row) -> str:
        """What the row's operator needs beside it."""
        return next((needed for name, _, needed in self.operators.get(self.kind(row.field), ()) if name == row.operator), NONE)

    def settled(self, row: Row) -> Row:
        """The row with an operator that its field has, and with the parts of a value that its operator takes."""
        offered = self.operators.get(self.kind(row.field), ())
        operator = row.operator if any(name == row.operator for name, _, _ in offered) else offered[0][0] if offered else ""
        found = Row(row.field, row.name if row.field in (PROPERTY, EVENT) else "", operator, row.value, row.more, row.raw)
        needed = self.input(found)
        more = (row.more if _suits(needed, row.more) else WITH_MORE[needed]) if needed in WITH_MORE else ""
        return Row(found.field, found.name, operator, "" if needed == NONE else row.value, more, row.raw)


def _suits(needed: str, more: str) -> bool:
    """Whether this is a second part that such an input has."""
    if needed == OFTEN:
        return more.isdigit()
    return more in (("days", "hours", "minutes") if needed == WINDOW else ("text", "number", "boolean"))


def flat(value: Any) -> str:
    """A value as the field of a form keeps it: one line, no white space around it."""
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    return "".join(text.splitlines()).strip()


# The list and the tree.


def _tree_row(raw: Mapping[str, Any]) -> Row:
    subject, special = grammars.native(str(raw.get("field")), "rules")
    name = str(raw.get("comparator" if "comparator" in raw else "operator") or "")
    field, value = flat(_tree_field(subject, special)), flat(raw.get("value"))
    kind = TREE.kind(field)
    if kind == "member" and subject.path:  # segment.seg_x is true
        word = grammars.word(name)
        gone = word is not None and word.negated != (word.operator == "is" and value.lower() == "false")
        return Row(field, "", "not_equals" if gone else "equals", ids.public(MEMBERS[field], int(subject.path[0])), "", _json(raw))
    row = Row(field, "", _offered(TREE_OPERATORS[kind], name), value, "", _json(raw))
    days = raw.get("windowDays", raw.get("window_days", 30))
    needed = TREE.input(row)
    return Row(field, "", row.operator, "" if needed == NONE else value, flat(days) if needed == OFTEN else "", row.raw)


def _tree_field(subject: Subject, special: str) -> str:
    if special == "engagement":
        return ENGAGEMENT
    if special == "subscribed":
        return "subscribed"
    if subject.kind == "property":
        return f"{PROPERTY}{subject.path[0]}"
    if subject.kind == "activity":
        return str(subject.path[0]) if subject.path[0] in dict(_MAIL) else f"{EVENT}{subject.path[0]}"
    return subject.kind


def _offered(asks: tuple[Ask, ...], name: str) -> str:
    """The operator that stands for this one, which may be spelled otherwise."""
    word = grammars.word(name)
    if word is None or name in {each for each, _, _ in asks}:
        return name
    same = [each for each, _, _ in asks if grammars.WORDS[each] == word]
    alike = [each for each, _, _ in asks if _meaning(grammars.WORDS[each]) == _meaning(word)]
    return next(iter([*same, *alike]), name)


def _meaning(word: grammars.Word) -> tuple[str, bool]:
    """For tags and belonging, to be one and to contain one is the same."""
    return {"contains": "is"}.get(word.operator, word.operator), word.negated


def _tree_condition(row: Row) -> dict[str, Any]:
    old: dict[str, Any] = orjson.loads(row.raw) if row.raw else {}
    if old and _tree_row(old).asked == row.asked:
        return old
    made = {name: value for name, value in old.items() if name not in ("field", "operator", "comparator", "value", "windowDays", "window_days")}
    spelled = "comparator" if "comparator" in old else "operator"
    made |= {"field": _named(row, PROPERTY), spelled: row.operator}
    needed = TREE.input(row)
    if needed != NONE:
        made["value"] = _value(needed, row.value)
    if needed == OFTEN:
        made["windowDays"] = _value(DAYS, row.more)
    return made if not old or _tree_row(old).field in MEMBERS else _kept(made, old, row, _tree_row(old), spelled)


def _kept(made: dict[str, Any], old: Mapping[str, Any], row: Row, before: Row, spelled: str) -> dict[str, Any]:
    """The condition with those parts as they were written that mean the same."""
    same = {"field": row.asked[0] == before.asked[0], spelled: row.operator == before.operator, "value": row.value == before.value}
    return {**made, **{name: old[name] for name, alike in same.items() if alike and name in made and name in old}}


# Nested groups.


def _groups_row(raw: Mapping[str, Any]) -> Row:
    field, operator, value = str(raw.get("field")), str(raw.get("operator") or ""), raw.get("value")
    subject = grammars.grouped(field, "rules")
    if subject.kind == "segment":
        return Row("segment", "", operator, ids.public("seg", int(subject.path[0])), "", _json(raw))
    if subject.kind == "property":
        field = flat(PROPERTY + ".".join(map(str, subject.path)))
    elif subject.kind == "activity":
        field = flat(_tree_field(subject, ""))
    row = Row(field, "", operator, flat(value is True if field == "subscribed" else value), "", _json(raw))  # only true is true there
    needed = GROUPS.input(row)
    more = {WINDOW: str(raw.get("unit", "")), TYPED: "boolean" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "text"}
    return Row(field, "", operator, "" if needed == NONE else row.value, more.get(needed, ""), row.raw)


def _groups_condition(row: Row) -> dict[str, Any]:
    old: dict[str, Any] = orjson.loads(row.raw) if row.raw else {}
    if old and _groups_row(old).asked == row.asked:
        return old
    made = {name: value for name, value in old.items() if name not in ("field", "operator", "value", "unit")}
    needed = GROUPS.input(row)
    if row.field == "segment":
        return {**made, "field": f"segment.{row.value}", "operator": row.operator}
    made |= {"field": _named(row, "data."), "operator": row.operator}
    if needed != NONE:
        made["value"] = _value({"number": DAYS, "boolean": FLAG}.get(row.more, WORD) if needed == TYPED else needed, row.value)
    if needed == WINDOW:
        made["unit"] = row.more
    return _kept(made, old, row, _groups_row(old), "operator") if old and "segment" not in (row.field, _groups_row(old).field) and needed != TYPED else made


def _named(row: Row, prefix: str) -> str:
    """The field as the grammar spells it."""
    field = row.field + row.name if row.field in (PROPERTY, EVENT) else row.field
    return prefix + field.removeprefix(PROPERTY) if field.startswith(PROPERTY) else field


def _value(needed: str, text: str) -> Any:
    """The value that an input's text means: numbers and true or false as JSON, where the text is one; else the text, which the grammar then refuses or not."""
    if needed == FLAG and text in ("true", "false"):
        return text == "true"
    number = decimal(text) if needed in (DAYS, WINDOW, OFTEN) else None
    if number is None:
        return text
    return int(number.value) if number.value.is_integer() else number.value


def _json(raw: Mapping[str, Any]) -> str:
    return orjson.dumps(raw).decode()


TREE = Vocabulary(TREE_FIELDS, PROPERTY, TREE_OPERATORS, _tree_row, _tree_condition)
GROUPS = Vocabulary(GROUPS_FIELDS, "data.", GROUPS_OPERATORS, _groups_row, _groups_condition)


def readable(vocabulary: Vocabulary, raw: str) -> str:
    """The JSON of a condition that a form gave back, "" for none; raises Invalid."""
    try:
        if raw:
            vocabulary.row(orjson.loads(raw))
    except (Invalid, AttributeError, KeyError, TypeError, ValueError):
        raise Invalid("rules", "the form holds a condition that cannot be read; load the page again") from None
    return raw
