"""A property of each type, asked about in each grammar: the same contacts on both databases, and never a mistake for a value of another type."""

from __future__ import annotations

import pytest

from relay.audience.grammars import read
from relay.store.audience import contacts, properties, segments
from relay.store.audience.properties import Property
from tests.audience.conftest import NOW
from tests.audience.town import MAKER, Town

TYPES = {"text": "text", "number": "number", "boolean": "boolean", "date": "date", "select": "select"}
PEOPLE = {
    "ann": {"text": "pro", "number": 7, "boolean": True, "date": "2026-03-01", "select": "gold"},
    "bob": {"text": "7", "number": 7.5, "boolean": False, "date": "2026-03-02T00:30:00+02:00", "select": "silver"},
    "cid": {"text": "true", "number": -1, "boolean": True, "date": "2026-03-02T10:00:00Z", "select": "gold"},
    "dan": {},
}


@pytest.fixture(scope="module")
def typed(stored):
    """A project with a definition of each type, and people who have them or not."""
    town = Town(stored)
    for name, kind in TYPES.items():
        options = ["gold", "silver"] if kind == "select" else []
        stored.write(properties.add, Property(MAKER.next(), town.project, name, name, kind, options, False, NOW))
    for name, given in PEOPLE.items():
        town.join(name, **given)
    return town


def listed(field, operator, value=None):
    return [{"field": f"properties.{field}", "operator": operator, "value": value}]


def tree(field, comparator, value=None):
    return {"operator": "and", "conditions": [{"field": field, "comparator": comparator, "value": value}]}


def groups(field, operator, value=None, **more):
    return {"logic": "AND", "groups": [{"filters": [{"field": f"data.{field}", "operator": operator, "value": value, **more}]}]}


@pytest.mark.parametrize(("rules", "found"), [
    *(pytest.param(form("text", "equals", "7"), "bob", id=f"{form.__name__}: a text") for form in (listed, tree, groups)),
    pytest.param(listed("number", "equals", 7), "ann", id="listed: a number"),
    pytest.param(tree("number", "equals", "7"), "ann", id="tree: a number, as the SDK writes it"),
    pytest.param(groups("number", "equals", 7), "ann", id="groups: a number"),
    pytest.param(groups("number", "equals", "7"), "", id="groups: a text is no number"),
    pytest.param(listed("number", "greater_than", 7), "bob", id="listed: more than a number"),
    pytest.param(tree("number", "less_than", "0"), "cid", id="tree: less than a number"),
    pytest.param(groups("number", "lessThanOrEqual", 7), "ann cid", id="groups: at most a number"),
    pytest.param(listed("boolean", "equals", True), "ann cid", id="listed: a boolean"),
    pytest.param(tree("boolean", "not_equals", "true"), "bob dan", id="tree: no boolean is not true either"),
    pytest.param(groups("boolean", "notEquals", True), "bob", id="groups: what is missing is not unequal"),
    pytest.param(groups("boolean", "equals", "true"), "", id="groups: a text is no boolean"),
    pytest.param(listed("date", "after", "2026-03-01"), "cid", id="listed: after a day"),
    pytest.param(tree("date", "before", "2026-03-02"), "ann bob", id="tree: before a day in UTC, whatever the zone"),
    pytest.param(groups("date", "greaterThanOrEqual", "2026-03-01T22:30:00Z"), "bob cid", id="groups: since a second"),
    pytest.param(groups("date", "olderThan", 1, unit="days"), "ann bob cid", id="groups: longer ago"),
    pytest.param(listed("date", "not_in_last_days", 3_333), "dan", id="listed: longer ago or never"),
    *(pytest.param(form("select", "equals", "gold"), "ann cid", id=f"{form.__name__}: a choice") for form in (listed, tree, groups)),
    pytest.param(listed("select", "is_not_set"), "dan", id="listed: no choice"),
    pytest.param(groups("select", "notEquals", "gold"), "bob", id="groups: another choice"),
    *(pytest.param(form(name, word), "ann bob cid", id=f"{form.__name__}: {name} is there")
      for form, word in ((listed, "is_set"), (tree, "is_set"), (groups, "exists")) for name in TYPES),
])
def test_each_type_in_each_grammar(typed, rules, found):
    def asked(conn):
        rule = segments.where(conn, typed.project, read(rules), NOW, read)
        return sorted(each.email.partition("@")[0] for each in contacts.after(conn, typed.project, 0, contacts.Filter(rule=rule), 10))

    assert typed.stored.read(asked) == found.split()
