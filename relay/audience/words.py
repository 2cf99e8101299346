"""Rules in words for people: "contacts whose plan is pro and who joined in the last 30 days"."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relay.mail import ids
from relay.store.audience.rules import DAY, All, Condition, Moment, Not, Number, Rule, Some, Subject

_PREFIXES = {"segment": "seg", "audience": "aud", "topic": "top"}
_ACTIVITY = {  # done, not done
    "email.opened": ("opened an email", "have not opened an email"), "email.clicked": ("clicked a link", "have not clicked a link"),
    "email.bounced": ("had an email bounce", "had no email bounce"), "email.sent": ("were sent an email", "were not sent an email"),
    "email.delivered": ("received an email", "have not received an email"), "email.complained": ("complained", "have not complained"),
}
_TIMES = {"created_at": ("joined", "did not join"), "updated_at": ("were changed", "were not changed"), "last_active": ("were active", "were not active")}
_NAMES = {"email": "address", "first_name": "first name", "last_name": "last name"}

_VALUES = {  # operator: (as it is, negated)
    "is": ("is {}", "is not {}"), "same": ("is {}", "is not {}"), "contains": ("contains {}", "does not contain {}"),
    "contains_exactly": ("contains {}", "does not contain {}"), "starts": ("starts with {}", "does not start with {}"),
    "ends": ("ends with {}", "does not end with {}"), "set": ("is set", "is not set"),
    "above": ("is more than {}", "is not more than {}"), "from": ("is at least {}", "is not at least {}"),
    "below": ("is less than {}", "is not less than {}"), "until": ("is at most {}", "is not at most {}"),
    "within": ("is in the last {}", "is not in the last {}"), "older": ("is more than {} ago", "is not more than {} ago"),
}
_DATES = {"above": ("is after {}", "is not after {}"), "from": ("is on or after {}", "is not on or after {}"), "below": ("is before {}", "is not before {}"),
          "until": ("is on or before {}", "is not on or before {}")}
_WHEN = {"is": "on {}", "above": "after {}", "from": "on or after {}", "below": "before {}", "until": "on or before {}", "within": "in the last {}",
         "older": "more than {} ago", "set": "ever"}
_COUNTS = {"is": "exactly {}", "above": "more than {}", "from": "at least {}", "below": "fewer than {}", "until": "at most {}"}


Names = Mapping[tuple[str, int], str]  # what segments, audiences and topics are called, by ("segment", number)


def phrase(rule: Rule, names: Names = MappingProxyType({})) -> str:
    """The whole rule as one phrase; a segment, an audience or a topic that has no name in `names` is called by its id."""
    return f"contacts {_clause(rule, False, names)}" if not isinstance(rule, (All, Some)) or rule.rules else "all contacts"


def _clause(rule: Rule, inner: bool, names: Names) -> str:
    if isinstance(rule, (All, Some)):
        if len(rule.rules) == 1:
            return _clause(rule.rules[0], inner, names)
        if _missing_too(rule):
            return _clause(rule.rules[1], inner, names)
        joined = (" and " if isinstance(rule, All) else " or ").join(_clause(each, True, names) for each in rule.rules)
        return f"({joined})" if inner else joined
    if isinstance(rule, Not):
        return _asked(rule.rule, True, names) if isinstance(rule.rule, Condition) else f"not ({_clause(rule.rule, False, names)})"
    return _asked(rule, False, names)


def _missing_too(rule: Rule) -> bool:
    """Whether this says "is set, and is not x", which people call "is not x"."""
    match rule:
        case All((Condition(subject, "set"), Not(Condition(other)))):
            return subject == other and subject.kind == "property"
    return False


def _asked(condition: Condition, negated: bool, names: Names) -> str:
    subject, operator = condition.subject, condition.operator
    if subject.kind in ("unsubscribed", "suppressed"):
        word = {"unsubscribed": ("unsubscribed", "subscribed"), "suppressed": ("suppressed", "not suppressed")}[subject.kind]
        return f"who are {word[0 if bool(condition.value) != negated else 1]}"
    if subject.kind == "tags":
        wanted = f"tagged {condition.value}" if operator == "has" else "tagged"
        return f"who are {'not ' if negated else ''}{wanted}"
    if subject.kind in _PREFIXES:
        return _belonging(subject, negated, names)
    if subject.kind == "activity":
        return _did(condition, negated)
    if subject.kind in _TIMES:
        return f"who {_TIMES[subject.kind][negated]} {_WHEN[operator].format(_shown(condition))}"
    words = (_DATES if isinstance(condition.value, Moment) else _VALUES)[operator]
    name = _NAMES.get(subject.kind) or ".".join(map(str, subject.path))
    return f"whose {name} {words[negated].format(_shown(condition))}"


def _belonging(subject: Subject, negated: bool, names: Names) -> str:
    number = int(subject.path[0])
    name = f'"{names[subject.kind, number]}"' if (subject.kind, number) in names else ids.public(_PREFIXES[subject.kind], number)
    if subject.kind == "topic":
        return f"who {'opted out of' if negated else 'get'} the topic {name}"
    return f"who are {'not ' if negated else ''}in the {subject.kind} {name}"


def _did(condition: Condition, negated: bool) -> str:
    name = str(condition.subject.path[0])
    did = _ACTIVITY.get(name, (f"triggered {name}", f"have not triggered {name}"))[negated]
    window = f"in the last {_span(condition.seconds)}"
    if condition.operator == "set":
        return f"who {did}{' ever' if negated else ''}"
    if condition.operator == "within":
        return f"who {did} {window}"
    count = _COUNTS[condition.operator].format(condition.value.text if isinstance(condition.value, Number) else condition.value)
    return f"who {did} {count} times {window}"


def _shown(condition: Condition) -> str:
    if condition.operator in ("within", "older"):
        return _span(condition.seconds)
    value = condition.value
    if isinstance(value, (Number, Moment)):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _span(seconds: float) -> str:
    for unit, size in (("day", DAY), ("hour", 3_600.0), ("minute", 60.0)):
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {unit}s" if number != 1 else unit
    return f"{seconds:g} seconds"
