"""The three grammars in which a segment's rules come, each read into the one tree of relay.store.audience.rules.

    a list             [{field, operator, value}]                                           all must hold
    the SDK's tree     {operator: and|or, conditions: [{field, comparator, value, windowDays}]}, whose conditions may be such trees again
    nested groups      {logic: AND|OR, groups: [{filters: [{field, operator, value, unit}], conditions: {logic, groups}}]}

The list and the tree share their fields and operators, the tables WORDS and _PLAIN below; groups have their own, in which negations do not match what is
missing and equality is that of JSON. Rules are stored as they came: `read` is called whenever a segment is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.audience.question import MEMBERS, Word, asked, days_of, field_of, id_of, name_of, perhaps, unsupported, value_of
from relay.errors import Invalid
from relay.store.audience.rules import DAY, All, Condition, Not, Rule, Some, Subject
from relay.store.audience.subjects import SHAPES, decimal

CONDITIONS = 50  # of a list, or of one level of a tree
FILTERS = 200  # of a tree or of nested groups in all
DEPTH = 5  # of a tree, and of nested groups

WORDS = {
    "equals": Word("is"), "not_equals": Word("is", True), "contains": Word("contains"), "not_contains": Word("contains", True),
    "starts_with": Word("starts"), "ends_with": Word("ends"),
    "greater_than": Word("above", value="range"), "less_than": Word("below", value="range"),
    "greater_than_or_equal": Word("from", value="range"), "less_than_or_equal": Word("until", value="range"),
    "before": Word("below", value="date"), "after": Word("above", value="date"),
    "in_last_days": Word("within", value="days"), "not_in_last_days": Word("within", True, "days"),
    "is_set": Word("set", value=""), "is_not_set": Word("set", True, ""),
    "gt": Word("above", value="range"), "lt": Word("below", value="range"), "gte": Word("from", value="range"), "lte": Word("until", value="range"),
    ">": Word("above", value="range"), "<": Word("below", value="range"), ">=": Word("from", value="range"), "<=": Word("until", value="range"),
    "=": Word("is"), "!=": Word("is", True), "eq": Word("is"), "neq": Word("is", True),
}
PLAIN = tuple(WORDS)[:16]  # the operators by the names that are told; the others are spellings of them

GROUPED = {
    "equals": Word("same"), "notEquals": Word("same", True), "contains": Word("contains_exactly"), "notContains": Word("contains_exactly", True),
    "greaterThan": Word("above", value="range"), "lessThan": Word("below", value="range"),
    "greaterThanOrEqual": Word("from", value="range"), "lessThanOrEqual": Word("until", value="range"),
    "within": Word("within", value="window"), "olderThan": Word("older", value="window"),
    "exists": Word("set", value=""), "notExists": Word("set", True, ""),
    "triggered": Word("set", value=""), "notTriggered": Word("set", True, ""),
    "triggeredWithin": Word("within", value="window"), "notTriggeredWithin": Word("within", True, "window"),
    "triggeredOlderThan": Word("older", value="window"),
    "memberOfSegment": Word("member", value=""), "notMemberOfSegment": Word("member", True, ""),
}

_PLAIN = {
    "email": "email", "first_name": "first_name", "firstname": "first_name", "last_name": "last_name", "lastname": "last_name", "tags": "tags", "tag": "tags",
    "unsubscribed": "unsubscribed", "subscribed": "subscribed", "suppressed": "suppressed", "created_at": "created_at", "createdat": "created_at",
    "updated_at": "updated_at", "updatedat": "updated_at", "last_active": "last_active", "lastactive": "last_active", "last_active_at": "last_active",
    "last_engaged_at": "last_active", "lastengagedat": "last_active", "engagement_segment": "engagement", "engagementsegment": "engagement",
    "segment": "segment", "segment_id": "segment", "audience": "audience", "audience_id": "audience", "topic": "topic", "topic_id": "topic",
}
_COUNTS = {"emails_opened": "email.opened", "emailsopened": "email.opened", "emails_clicked": "email.clicked", "emailsclicked": "email.clicked",
           "emails_delivered": "email.delivered", "emails_bounced": "email.bounced", "emails_sent": "email.sent",
           "emails_complained": "email.complained"}
_PREFIXES = ("properties.", "customFields.", "custom_fields.", "data.")
ACTIVITIES = {"open": "opened", "opened": "opened", "click": "clicked", "clicked": "clicked", "bounce": "bounced", "bounced": "bounced", "sent": "sent",
              "complaint": "complained", "complained": "complained", "delivery": "delivered", "delivered": "delivered"}


def read(rules: Any) -> Rule:
    """The tree; raises Invalid that names the part at fault as it was written, `rules[0].operator`."""
    if isinstance(rules, list):
        return All(tuple(_conditions(rules, "rules", 1, [0])))
    if isinstance(rules, Mapping) and "groups" in rules:
        return _group(rules, "rules", DEPTH, [0])
    if isinstance(rules, Mapping) and "conditions" in rules:
        return _tree(rules, "rules", DEPTH, [0])
    raise Invalid("rules", "rules is a list of {field, operator, value}, or {operator, conditions}, or {logic, groups}")


# The list and the tree.


def _tree(given: Mapping[str, Any], at: str, depth: int, seen: list[int]) -> Rule:
    if not depth:
        raise Invalid(at, f"{at} is nested more than {DEPTH} deep")
    word = str(given.get("operator", "and")).lower()
    if word not in ("and", "or"):
        raise Invalid(f"{at}.operator", f"{at}.operator is and or or")
    found = tuple(_conditions(given["conditions"], f"{at}.conditions", depth, seen))
    return All(found) if word == "and" else Some(found)


def _conditions(given: Any, at: str, depth: int, seen: list[int]) -> list[Rule]:
    if not isinstance(given, list) or not 0 < len(given) <= CONDITIONS:
        raise Invalid(at, f"{at} has 1 to {CONDITIONS} conditions")
    seen[0] += len(given)
    if seen[0] > FILTERS:
        raise Invalid(at, f"there are at most {FILTERS} conditions")
    return [_either(each, f"{at}[{number}]", depth, seen) for number, each in enumerate(given)]


def _either(given: Any, at: str, depth: int, seen: list[int]) -> Rule:
    """A condition, or conditions of their own with and or or between."""
    nested = isinstance(given, Mapping) and "conditions" in given and "field" not in given
    return _tree(given, at, depth - 1, seen) if nested else _condition(given, at)


def _condition(given: Any, at: str) -> Rule:
    if not isinstance(given, Mapping):
        raise Invalid(at, f"{at} is {{field, operator, value}}")
    spelled = "comparator" if "comparator" in given else "operator"
    name = str(given.get(spelled) or "")
    found = word(name)
    if found is None:
        lack = f"there is no {name[:80]!r}" if name else "it is required"
        raise Invalid(f"{at}.{spelled}", f"{at}.{spelled}: {lack}; there are {', '.join(PLAIN)}")
    subject, special = native(field_of(given, at), at)
    if special == "engagement":
        return _engagement(found, given, at)
    if special == "subscribed":
        return _flagged(subject, found, given, at, False)
    if SHAPES[subject.kind] == "flag":
        return _flagged(subject, found, given, at, True)
    if SHAPES[subject.kind] == "member":
        return _belongs(subject, found, given, at)
    if subject.kind == "activity":
        return _did(subject, special, found, given, at)
    if subject.kind == "tags":
        found = {"contains": Word("has", found.negated), "is": Word("has", found.negated)}.get(found.operator, found)
    return asked(subject, found, given, at)


def word(name: str) -> Word | None:
    """An operator of the list and the tree, snake_case or camelCase."""
    return WORDS.get(name) or WORDS.get(_snake(name))


def native(field: str, at: str) -> tuple[Subject, str]:
    """What a field of the list or tree is; the second part names a field with a meaning of its own."""
    for prefix in _PREFIXES:
        if field.startswith(prefix):
            return Subject("property", (name_of(field[len(prefix):], at),)), ""
    head, _, rest = field.partition(".")
    if head == "event" and rest:
        return Subject("activity", (name_of(rest, at),)), "event"
    if head == "email" and rest in ACTIVITIES:
        return Subject("activity", (f"email.{ACTIVITIES[rest]}",)), "event"
    if head in MEMBERS and rest:
        return Subject(head, (id_of(head, rest, f"{at}.field"),)), "named"
    plain = field.lower() if field.lower() in _COUNTS or field.lower() in _PLAIN else field
    if plain in _COUNTS:
        return Subject("activity", (_COUNTS[plain],)), "count"
    kind = _PLAIN.get(plain)
    if kind in ("engagement", "subscribed"):
        return Subject("unsubscribed"), kind
    return (Subject("property", (name_of(field, at),)), "") if kind is None else (Subject(kind), "")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _flagged(subject: Subject, word: Word, given: Mapping[str, Any], at: str, yes: bool) -> Rule:
    if word.operator != "is":
        raise unsupported(given, at)
    wanted = value_of(given, at).lower()
    if wanted not in ("true", "false"):
        raise Invalid(f"{at}.value", f"{at}.value is true or false")
    return Condition(subject, "is", ((wanted == "true") == yes) != word.negated)


def _belongs(subject: Subject, word: Word, given: Mapping[str, Any], at: str) -> Rule:
    if not subject.path:
        subject = Subject(subject.kind, (id_of(subject.kind, value_of(given, at), f"{at}.value"),))
        if word.operator not in ("is", "contains"):
            raise unsupported(given, at)
        return perhaps(Condition(subject, "member"), word)
    if word.operator == "is" and str(given.get("value", "true")).lower() in ("true", "false"):
        return perhaps(Condition(subject, "member"), Word("is", word.negated != (str(given.get("value", "true")).lower() == "false")))
    if word.operator == "set":
        return perhaps(Condition(subject, "member"), word)
    raise unsupported(given, at)


def _did(subject: Subject, special: str, word: Word, given: Mapping[str, Any], at: str) -> Rule:
    """Whether somebody did something, ever or in a window; or how often in one."""
    if special == "event" and word.operator in ("set", "within"):
        return asked(subject, word, given, at)
    if word.operator not in ("is", "above", "from", "below", "until") or word.value == "date":
        raise unsupported(given, at)
    number = decimal(value_of(given, at))
    if number is None or not number.value.is_integer():
        raise Invalid(f"{at}.value", f"{at}.value is a whole number")
    days = given.get("windowDays", given.get("window_days", 30))
    return perhaps(Condition(subject, word.operator, number, days_of(days, f"{at}.windowDays")), word)


def _engagement(word: Word, given: Mapping[str, Any], at: str) -> Rule:
    """active: within 30 days, at_risk: within 90, dormant: longer ago or never."""
    last = Subject("last_active")
    recent, seen = Condition(last, "within", seconds=30 * DAY), Condition(last, "within", seconds=90 * DAY)
    rules: dict[str, Rule] = {"active": recent, "at_risk": All((seen, Not(recent))), "dormant": Not(seen)}
    if word.operator != "is" or str(given.get("value")) not in rules:
        raise Invalid(f"{at}.value", f"{at}: engagement_segment equals {', '.join(rules)}")
    return perhaps(rules[str(given["value"])], word)


# Nested groups.


def _group(given: Any, at: str, depth: int, seen: list[int]) -> Rule:
    if not isinstance(given, Mapping) or not depth:
        raise Invalid(at, f"{at} is {{logic, groups}}, nested up to {DEPTH} deep")
    logic, groups = str(given.get("logic", "AND")).upper(), given.get("groups")
    if logic not in ("AND", "OR"):
        raise Invalid(f"{at}.logic", f"{at}.logic is AND or OR")
    if not isinstance(groups, list) or not groups:
        raise Invalid(f"{at}.groups", f"{at}.groups has at least one group")
    found = tuple(_filters(each, f"{at}.groups[{number}]", depth, seen) for number, each in enumerate(groups))
    return All(found) if logic == "AND" else Some(found)


def _filters(given: Any, at: str, depth: int, seen: list[int]) -> Rule:
    if not isinstance(given, Mapping):
        raise Invalid(at, f"{at} is {{filters, conditions}}")
    filters = given.get("filters") or []
    if not isinstance(filters, list):
        raise Invalid(f"{at}.filters", f"{at}.filters is a list")
    seen[0] += len(filters)
    if seen[0] > FILTERS:
        raise Invalid(at, f"there are at most {FILTERS} filters")
    found = [_filter(each, f"{at}.filters[{number}]") for number, each in enumerate(filters)]
    if given.get("conditions") is not None:
        found.append(_group(given["conditions"], f"{at}.conditions", depth - 1, seen))
    if not found:
        raise Invalid(at, f"{at} has at least one filter or nested conditions")
    return All(tuple(found))


def _filter(given: Any, at: str) -> Rule:
    if not isinstance(given, Mapping):
        raise Invalid(at, f"{at} is {{field, operator, value}}")
    word = GROUPED.get(str(given.get("operator") or ""))
    subject = grouped(field_of(given, at), at)
    if word is None or (subject.kind == "activity") != str(given["operator"]).lower().replace("not", "").startswith("triggered"):
        raise unsupported(given, at)
    if subject.kind == "unsubscribed":
        if word.operator != "same":
            raise unsupported(given, at)
        return Condition(subject, "is", (given.get("value") is True) == word.negated)
    if subject.kind == "email":
        if word.operator not in ("same", "contains_exactly"):
            raise unsupported(given, at)
        return asked(subject, Word("is" if word.operator == "same" else "contains", word.negated), given, at)
    if subject.kind == "activity" and word.operator == "older":
        return All((Condition(subject, "set"), Not(asked(subject, Word("within", value="window"), given, at))))
    if SHAPES[subject.kind] == "time" and word.operator == "same":
        return perhaps(asked(subject, Word("is", value="date"), given, at), word)
    found = asked(subject, Word(word.operator, False, word.value), given, at)
    if word.negated and subject.kind == "property" and word.operator != "set":
        return All((Condition(subject, "set"), Not(found)))
    return perhaps(found, word)


def grouped(field: str, at: str) -> Subject:
    """What a field of nested groups is."""
    head, _, rest = field.partition(".")
    if field in ("email", "subscribed", "createdAt", "updatedAt"):
        return Subject({"subscribed": "unsubscribed", "createdAt": "created_at", "updatedAt": "updated_at"}.get(field, field))
    if head == "data" and rest:
        return Subject("property", tuple(name_of(part, at) for part in rest.split(".")))
    if head == "event" and rest:
        return Subject("activity", (name_of(rest, at),))
    if head == "email" and rest in ACTIVITIES:
        return Subject("activity", (f"email.{ACTIVITIES[rest]}",))
    if head == "segment" and rest:
        return Subject("segment", (id_of("segment", rest, f"{at}.field"),))
    raise Invalid(f"{at}.field", f"Unsupported field {field[:80]!r}")
