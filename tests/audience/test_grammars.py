"""Three grammars, one tree: what each operator of each grammar means, who matches it on both databases, how it reads, and what is refused."""

from __future__ import annotations

import pytest

from relay.audience.grammars import ACTIVITIES, read
from relay.audience.words import phrase
from relay.errors import Invalid
from relay.mail import ids
from relay.store.audience import contacts, segments
from relay.store.audience.contacts import Contact, Filter
from relay.store.audience.rules import DAY, All, Condition, Number, Subject
from tests.audience.conftest import NOW, PROJECT
from tests.audience.oracle import Person
from tests.audience.test_rules import LISTED, fill

SEGMENT = ids.public("seg", LISTED)


def person(number, name, properties, **more):
    fields = {"tags": [], "unsubscribed": False, "last_active_at": None, "created_at": NOW - 100 * DAY, "updated_at": NOW - 100 * DAY, "first_name": None,
              "last_name": None, **more}
    return Contact(number, PROJECT, f"{name}@example.com", f"{name.title()}@Example.com", fields["first_name"], fields["last_name"], properties,
                   fields["tags"], fields["unsubscribed"], None, fields["last_active_at"], fields["created_at"], fields["updated_at"])


def _opened(days, count=1):
    at = NOW - days * DAY
    return (("email.opened", int(at // DAY), count, at), ("signed_up", int(at // DAY), count, at))


FOLK = (
    Person(person(1, "ann", {"plan": "pro", "seats": 5, "since": "2026-09-01", "team": {"size": 9}}, first_name="Ann", created_at=NOW - 3 * DAY,
                  tags=["VIP"], last_active_at=NOW - DAY), _opened(1, 3), frozenset({LISTED})),
    Person(person(2, "bob", {"plan": "PRO plus", "seats": "12", "since": "2024-01-15T10:00:00Z", "ok": True}, last_name="Pro", unsubscribed=True,
                  last_active_at=NOW - 45 * DAY), _opened(45)),
    Person(person(3, "cid", {"plan": None, "seats": "many", "ok": "true"}, tags=["vip", "x"])),
)


@pytest.fixture(scope="module")
def peopled(stored):
    stored.write(fill, FOLK)
    return stored


def names(peopled, rules):
    def found(conn):
        rule = segments.where(conn, PROJECT, read(rules), NOW, read)
        return "".join(each.key[0] for each in contacts.after(conn, PROJECT, 0, Filter(rule=rule), 100))

    return peopled.read(found)


def one(field, operator, value=None, **more):
    return [{"field": field, "operator": operator, **({} if value is None else {"value": value}), **more}]


@pytest.mark.parametrize(("rules", "members"), [
    pytest.param(one("properties.plan", "equals", "pro"), "a", id="equals"),
    pytest.param(one("plan", "equals", "pro"), "a", id="a bare name is a property"),
    pytest.param(one("customFields.plan", "equals", "pro"), "a", id="the other word for properties"),
    pytest.param(one("properties.plan", "not_equals", "pro"), "bc", id="not_equals matches what is missing"),
    pytest.param(one("properties.seats", "equals", "5"), "a", id="a number equals its text"),
    pytest.param(one("properties.ok", "equals", "true"), "bc", id="a boolean equals its word"),
    pytest.param(one("properties.plan", "contains", "PRO"), "ab", id="contains, any case"),
    pytest.param(one("properties.plan", "not_contains", "plus"), "ac", id="not_contains"),
    pytest.param(one("properties.plan", "starts_with", "pro p"), "b", id="starts_with"),
    pytest.param(one("properties.plan", "ends_with", "PLUS"), "b", id="ends_with"),
    pytest.param(one("properties.seats", "greater_than", "5"), "b", id="greater_than, texts that are numbers"),
    pytest.param(one("properties.seats", "greater_than_or_equal", 5), "ab", id="greater_than_or_equal"),
    pytest.param(one("properties.seats", "less_than", "12"), "a", id="less_than"),
    pytest.param(one("properties.seats", "less_than_or_equal", "12"), "ab", id="less_than_or_equal"),
    pytest.param(one("properties.since", "before", "2024-01-15"), "", id="before a day"),
    pytest.param(one("properties.since", "before", "2024-01-16"), "b", id="before the next"),
    pytest.param(one("properties.since", "after", "2024-01-15"), "a", id="after a day"),
    pytest.param(one("properties.since", "in_last_days", "30"), "a", id="in_last_days"),
    pytest.param(one("properties.since", "not_in_last_days", "30"), "bc", id="not_in_last_days, or never"),
    pytest.param(one("properties.plan", "is_set"), "ab", id="is_set"),
    pytest.param(one("properties.plan", "is_not_set"), "c", id="is_not_set"),
    pytest.param(one("email", "equals", "ANN@example.COM"), "a", id="an address in any spelling"),
    pytest.param(one("email", "ends_with", "@Example.com"), "abc", id="part of an address"),
    pytest.param(one("firstName", "equals", "Ann"), "a", id="firstName"),
    pytest.param(one("last_name", "is_not_set"), "ac", id="last_name"),
    pytest.param(one("tags", "contains", "vip"), "c", id="a tag, exact case"),
    pytest.param(one("tags", "not_contains", "vip"), "ab", id="not a tag"),
    pytest.param(one("tags", "is_set"), "ac", id="any tag"),
    pytest.param(one("unsubscribed", "equals", "false"), "ac", id="unsubscribed as a text"),
    pytest.param(one("unsubscribed", "not_equals", False), "b", id="unsubscribed as a boolean"),
    pytest.param(one("subscribed", "equals", True), "ac", id="subscribed"),
    pytest.param(one("created_at", "in_last_days", "30"), "a", id="joined lately"),
    pytest.param(one("createdAt", "before", "2026-07-01"), "bc", id="joined before"),
    pytest.param(one("last_active", "not_in_last_days", 30), "bc", id="last_active > 30 days ago"),
    pytest.param(one("engagementSegment", "equals", "at_risk"), "b", id="engagement"),
    pytest.param(one("emailsOpened", "greater_than", "2"), "a", id="opens in 30 days"),
    pytest.param(one("emailsOpened", "equals", "0"), "bc", id="no opens in 30 days"),
    pytest.param(one("emails_opened", "greater_than_or_equal", "1", windowDays=60), "ab", id="opens in 60 days"),
    pytest.param(one("event.signed_up", "is_set"), "ab", id="an event"),
    pytest.param(one("segment", "equals", SEGMENT), "a", id="member of a segment"),
    pytest.param(one(f"segment.{SEGMENT}", "not_equals", "true"), "bc", id="no member of a segment"),
    pytest.param(one("properties.plan", "equals", "pro") + one("unsubscribed", "equals", "true"), "", id="all must hold"),
    pytest.param({"operator": "or", "conditions": [{"field": "plan", "comparator": "equals", "value": "pro"},
                                                   {"field": "unsubscribed", "comparator": "equals", "value": "true"}]}, "ab", id="a tree with or"),
    pytest.param({"operator": "and", "conditions": [{"field": "emailsOpened", "comparator": "greater_than", "value": "0", "windowDays": 90},
                                                    {"field": "lastName", "comparator": "is_set"}]}, "b", id="a tree with and"),
])
def test_lists_and_trees(peopled, rules, members):
    assert names(peopled, rules) == members


def tree(*conditions, operator="and"):
    return {"operator": operator, "conditions": [each for some in conditions for each in (some if isinstance(some, list) else [some])]}


PRO, OK, GONE = one("plan", "equals", "pro"), one("ok", "is_set"), one("unsubscribed", "equals", True)


@pytest.mark.parametrize(("rules", "members"), [
    pytest.param(tree(PRO, OK, operator="or"), "abc", id="or"),
    pytest.param(tree(GONE, tree(PRO, OK, operator="or")), "b", id="or within and"),
    pytest.param(tree(PRO, tree(OK, one("subscribed", "equals", True)), operator="or"), "ac", id="and within or"),
    pytest.param(tree(tree(tree(tree(tree(PRO))))), "a", id="five deep"),
])
def test_trees_nest(peopled, rules, members):
    assert names(peopled, rules) == members


def group(*filters, logic="AND", nested=None):
    return {"logic": logic, "groups": [{"filters": list(filters), **({"conditions": nested} if nested else {})}]}


def has(field, operator, value=None, unit=None):
    return {"field": field, "operator": operator, **({} if value is None else {"value": value}), **({"unit": unit} if unit else {})}


@pytest.mark.parametrize(("rules", "members"), [
    pytest.param(group(has("data.plan", "equals", "pro"), has("createdAt", "within", 30, "days")), "a", id="the example"),
    pytest.param(group(has("data.seats", "equals", 5)), "a", id="equality is of JSON"),
    pytest.param(group(has("data.seats", "equals", "5")), "", id="1 is not its text"),
    pytest.param(group(has("data.ok", "equals", True)), "b", id="true is not its word"),
    pytest.param(group(has("data.plan", "notEquals", "pro")), "b", id="notEquals leaves out what is missing"),
    pytest.param(group(has("data.plan", "contains", "PRO")), "b", id="contains is exact"),
    pytest.param(group(has("data.plan", "notContains", "PRO")), "a", id="notContains leaves out what is missing"),
    pytest.param(group(has("data.team.size", "greaterThan", 8)), "a", id="a path"),
    pytest.param(group(has("data.seats", "lessThanOrEqual", 12)), "ab", id="lessThanOrEqual"),
    pytest.param(group(has("data.plan", "exists")), "ab", id="exists"),
    pytest.param(group(has("data.plan", "notExists")), "c", id="notExists"),
    pytest.param(group(has("data.since", "within", 30, "days")), "a", id="within"),
    pytest.param(group(has("data.since", "olderThan", 24, "hours")), "ab", id="olderThan"),
    pytest.param(group(has("email", "contains", "ANN@")), "a", id="address, any case"),
    pytest.param(group(has("email", "notEquals", "Ann@example.com")), "bc", id="another address"),
    pytest.param(group(has("subscribed", "equals", True)), "ac", id="subscribed"),
    pytest.param(group(has("subscribed", "equals", "true")), "b", id="only true is true"),
    pytest.param(group(has("createdAt", "equals", "2026-09-18")), "a", id="a date is the whole day"),
    pytest.param(group(has("updatedAt", "olderThan", 60, "days")), "abc", id="updatedAt"),
    pytest.param(group(has("event.signed_up", "triggered")), "ab", id="triggered"),
    pytest.param(group(has("event.signed_up", "notTriggered")), "c", id="notTriggered"),
    pytest.param(group(has("email.opened", "triggeredWithin", 7, "days")), "a", id="triggeredWithin"),
    pytest.param(group(has("email.open", "triggeredOlderThan", 7, "days")), "b", id="triggeredOlderThan"),
    pytest.param(group(has("email.opened", "notTriggeredWithin", 7, "days")), "bc", id="notTriggeredWithin includes never"),
    pytest.param(group(has(f"segment.{SEGMENT}", "memberOfSegment")), "a", id="memberOfSegment"),
    pytest.param(group(has(f"segment.{SEGMENT}", "notMemberOfSegment")), "bc", id="notMemberOfSegment"),
    pytest.param({"logic": "OR", "groups": [{"filters": [has("data.plan", "equals", "pro")]}, {"filters": [has("data.ok", "exists")]}]}, "abc", id="or"),
    pytest.param(group(has("data.ok", "exists"), nested=group(has("subscribed", "equals", True), logic="OR")), "c", id="nested"),
])
def test_nested_groups(peopled, rules, members):
    assert names(peopled, rules) == members


@pytest.mark.parametrize(("rules", "words"), [
    (one("plan", "equals", "pro") + one("created_at", "in_last_days", 30), "contacts whose plan is pro and who joined in the last 30 days"),
    (group(has("data.plan", "notEquals", "pro"), has("createdAt", "within", 1, "days")), "contacts whose plan is not pro and who joined in the last day"),
    (one("tags", "not_contains", "vip") + one("subscribed", "equals", True), "contacts who are not tagged vip and who are subscribed"),
    (one("last_active", "not_in_last_days", 30), "contacts who were not active in the last 30 days"),
    (one("emailsOpened", "greater_than", "2"), "contacts who opened an email more than 2 times in the last 30 days"),
    (one("event.signed up", "is_not_set"), "contacts who have not triggered signed up ever"),
    (one("seats", "less_than", "5"), "contacts whose seats is less than 5"),
    (one("since", "before", "2026-01-01"), "contacts whose since is before 2026-01-01"),
    ({"operator": "or", "conditions": one("a", "is_set") + one("b", "is_not_set")}, "contacts whose a is set or whose b is not set"),
    (tree(PRO, tree(OK, GONE, operator="or")), "contacts whose plan is pro and (whose ok is set or who are unsubscribed)"),
])
def test_rules_in_words(rules, words):
    assert phrase(read(rules)) == words


def test_words_name_what_has_a_name():
    rules = one("segment", "equals", SEGMENT) + one("audience", "not_equals", AUDIENCE) + one("topic", "equals", TOPIC)
    names = {("segment", LISTED): "Beta", ("topic", 4): "News"}
    assert phrase(read(rules), names) == f'contacts who are in the segment "Beta" and who are not in the audience {AUDIENCE} and who get the topic "News"'


AUDIENCE, TOPIC = ids.public("aud", 3), ids.public("top", 4)


@pytest.mark.parametrize(("field", "subject"), [
    *((name, Subject("email")) for name in ("email", "Email")),
    *((name, Subject("first_name")) for name in ("first_name", "firstName")),
    *((name, Subject("last_name")) for name in ("last_name", "lastName")),
    *((name, Subject("property", ("plan",))) for name in ("plan", "properties.plan", "data.plan", "customFields.plan", "custom_fields.plan")),
    *((name, Subject("created_at")) for name in ("created_at", "createdAt")), *((name, Subject("updated_at")) for name in ("updated_at", "updatedAt")),
    *((name, Subject("last_active")) for name in ("last_active", "lastActive", "lastEngagedAt")),
    *((f"email.{word}", Subject("activity", (f"email.{meant}",))) for word, meant in ACTIVITIES.items()),
    ("event.signed up", Subject("activity", ("signed up",))),
    *((f"{kind}.{name}", Subject(kind, (number,))) for kind, name, number in (
        ("segment", SEGMENT, LISTED), ("audience", AUDIENCE, 3), ("topic", TOPIC, 4))),
])
def test_every_field(field, subject):
    assert read(one(field, "is_set")) == All((Condition(subject, "member" if field.startswith(("segment", "audience", "topic")) else "set"),))


@pytest.mark.parametrize(("field", "activity"), [
    *((f"emails_{word}", f"email.{word}") for word in ("opened", "clicked", "delivered", "bounced", "sent", "complained")),
    ("emailsOpened", "email.opened"), ("event.purchased", "purchased"), ("email.click", "email.clicked"),
])
def test_counts_in_a_window(field, activity):
    asked = Condition(Subject("activity", (activity,)), "from", Number(3.0, "3"), 7 * DAY)
    assert read(one(field, "greater_than_or_equal", "3", windowDays=7)) == All((asked,))


@pytest.mark.parametrize("field", ["unsubscribed", "subscribed", "suppressed"])
@pytest.mark.parametrize("value", [True, False])
def test_consent(field, value):
    kind = "suppressed" if field == "suppressed" else "unsubscribed"
    assert read(one(field, "equals", value)) == All((Condition(Subject(kind), "is", value != (field == "subscribed")),))


def deep(levels):
    rules = group(has("data.x", "exists"))
    for _ in range(levels - 1):
        rules = group(has("data.x", "exists"), nested=rules)
    return rules


@pytest.mark.parametrize(("rules", "field"), [
    pytest.param("x", "rules", id="a text"),
    pytest.param([], "rules", id="none"),
    pytest.param(one("plan", "equals", "x") * 51, "rules", id="too many"),
    pytest.param(one("plan", "resembles", "x"), "rules[0].operator", id="no such operator"),
    pytest.param([{"field": "plan"}], "rules[0].operator", id="an operator that is missing"),
    pytest.param(one("plan", "equals"), "rules[0].value", id="no value"),
    pytest.param(one("plan", "equals", "x" * 501), "rules[0].value", id="a long value"),
    pytest.param(one("plan", "greater_than", "x"), "rules[0].value", id="no number"),
    pytest.param(one("created_at", "before", "yesterday"), "rules[0].value", id="no date"),
    pytest.param(one("created_at", "in_last_days", "-1"), "rules[0].value", id="negative days"),
    pytest.param(one("created_at", "contains", "2026"), "rules[0].operator", id="a time contains nothing"),
    pytest.param(one('properties.a"b', "equals", "x"), "rules[0].field", id="a name that no property has"),
    pytest.param(one("unsubscribed", "equals", "maybe"), "rules[0].value", id="no boolean"),
    pytest.param(one("segment", "equals", "x"), "rules[0].value", id="no id"),
    pytest.param(one("emailsOpened", "greater_than", "1.5"), "rules[0].value", id="half an opening"),
    pytest.param({"operator": "xor", "conditions": one("a", "is_set")}, "rules.operator", id="xor"),
    pytest.param({"logic": "AND", "groups": []}, "rules.groups", id="no group"),
    pytest.param({"logic": "AND", "groups": [{"filters": []}]}, "rules.groups[0]", id="no filter"),
    pytest.param(group(has("data.x", "within", 3)), "rules.groups[0].filters[0].unit", id="no unit"),
    pytest.param(group(has("purchase", "triggered")), "rules.groups[0].filters[0].field", id="a bare name"),
    pytest.param(group(has("event.x", "equals", 1)), "rules.groups[0].filters[0].operator", id="an event equals nothing"),
    pytest.param(group(has("data.x", "triggered")), "rules.groups[0].filters[0].operator", id="data is not triggered"),
    pytest.param(tree(tree(tree(tree(tree(tree(PRO)))))), "rules" + ".conditions[0]" * 5, id="a tree too deep"),
    pytest.param(tree(tree()), "rules.conditions[0].conditions", id="a branch of nothing"),
    pytest.param(tree(PRO, tree(one("plan", "equals"))), "rules.conditions[1].conditions[0].value", id="no value in a branch"),
    pytest.param(tree(*[tree(*PRO * 41)] * 5), "rules.conditions[4].conditions", id="too many in all"),
    pytest.param(deep(6), "rules" + ".groups[0].conditions" * 5, id="too deep"),
])
def test_what_no_grammar_says(rules, field):
    with pytest.raises(Invalid) as error:
        read(rules)
    assert error.value.field == field


@pytest.mark.parametrize(("rules", "error"), [
    pytest.param([{"field": "plan", "value": "x"}], "rules[0].operator: it is required; there are equals, not_equals, ", id="no operator"),
    pytest.param(one("plan", "resembles", "x"), "rules[0].operator: there is no 'resembles'; there are equals, not_equals, ", id="no such operator"),
    pytest.param(one("segment", "equals", "x"), "rules[0].value: 'x' is not the id of one; GET /segments lists them", id="no segment"),
    pytest.param(one("topic.x", "equals", True), "rules[0].field: 'x' is not the id of one; GET /subscription-topics lists them", id="no topic"),
    pytest.param(group(has("segment.x", "memberOfSegment")), "'x' is not the id of one; GET /segments lists them", id="no segment in a group"),
])
def test_an_error_names_the_way_out(rules, error):
    with pytest.raises(Invalid) as found:
        read(rules)
    assert error in found.value.text
