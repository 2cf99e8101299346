"""Rules in SQL have the members that plain Python gives them, on both databases, whatever contacts hold."""

from __future__ import annotations

from functools import cache, partial
from math import floor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.audience.grammars import read
from relay.mail.ids import Maker
from relay.store import bulk, suppressions
from relay.store.audience import contacts, segments
from relay.store.audience.contacts import Contact
from relay.store.audience.operators import OPERATORS, compiled
from relay.store.audience.rules import DAY, All, Condition, Moment, Not, Number, Some, Subject
from relay.store.audience.schema import activity, audience_members, audiences, segment_members, subscriptions, topics
from relay.store.audience.schema import contacts as table
from relay.store.audience.schema import segments as segment_table
from relay.store.audience.subjects import SHAPES, Compiler, decimal
from relay.store.suppressions import Suppression
from tests.audience.conftest import NOW, PROJECT
from tests.audience.oracle import Person, holds

MAKER = Maker(5)
AUDIENCE, TOPIC, LISTED, ASKED, ABSENT = 11, 12, 13, 14, 15

TEXTS = [
    "pro", "Pro", "PRO plan", "enterprise", "Ärmel", "ärmel", "", "x%y", "a_b", "'", '"', "\\", "[", "*", "true", "false",
    "4500", "-3", "0.5", "1.0", "007", "1e3", "٣", "2026-01-15", "2026-09-20", "2026-09-20T22:00:00Z", "2026-09-21T13:46:40.500Z",
    "2026-09-20T22:00:00+02:00", "2026-09-21T01:30:00.25+03:30", "2026-09-20T16:00:00-06:00", "2026-01-14T23:59:59-00:01", "2026-02-30T10:00:00+02:00",
    "2026-09-20T24:00:00+02:00", "2026-13-01T00:00:00+02:00", "2026-09-20T22:00:00+15:00", "0999-01-01T00:00:00+01:00", "2026-09-20T22:00:60-01:00",
    "2026-9-1", "2026-01-15T", "--5", "5-", "1.2.3", ".5", "5.", "-", "123456789012345", "1234567890123456"]
texts = st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS[:4]), st.text(max_size=4).map(lambda text: bulk.clean(text, 99)))
numbers = st.one_of(st.integers(-5, 5_000), st.sampled_from([0.5, 1.0, -3.25, 4500, 1e20, -1e-7, 2**53, 2**63 - 1]))
values = st.recursive(st.one_of(st.none(), st.booleans(), numbers, texts), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "0", "plan"]), inner, max_size=3)), max_leaves=4)
paths = st.one_of(st.just(("plan",)), st.sampled_from([("plan",), ("seats",), ("v1.0",), ("größe",), ("a", "b"), ("plan", "0"), ("a", "a", "a"), ("$",)]))
moments = st.sampled_from(["2026-01-15", "2026-09-21", "2026-09-20T22:00:00Z", "2026-09-21T13:46:40.500Z", "1500-01-01", "2026-09-21T13:46:40"])
windows = st.sampled_from([0.0, 60.0, 3_600.0, DAY, 30 * DAY, 90 * DAY])
times = st.sampled_from([NOW, NOW - 0.001, NOW - 1, NOW - 3_600, NOW - DAY, NOW - DAY - 0.5, NOW - 30 * DAY, NOW - 45 * DAY, NOW - 400 * DAY, NOW + DAY])


# Made once: to make a strategy costs more than to draw from it.
crowds, answers, suffixes = st.integers(1, 5), st.booleans(), st.sampled_from(["com", "org"])
locals_ = st.sampled_from(["ann", "bob", "Änn", "cid", "a_b", "x%y"])
held = st.dictionaries(st.sampled_from(["plan", "seats", "v1.0", "größe", "a", "$", "#"]), values, max_size=4)
labels = st.lists(st.sampled_from(["vip", "VIP", "a,b", '","', "pro-plan", "a\\", "ä"]), max_size=3, unique=True)
names_, since = st.one_of(st.none(), texts.filter(bool)), st.one_of(st.none(), times)
deeds = st.lists(st.tuples(st.sampled_from(["email.opened", "signed up"]), times, st.integers(1, 4)), max_size=3,
                 unique_by=lambda each: (each[0], floor(each[1] / DAY)))
some = st.frozensets(st.sampled_from([0, 1]), max_size=1)


@st.composite
def people(draw):
    found = []
    for number in range(draw(crowds)):
        local = draw(locals_)
        properties = {"plan": draw(texts)} | {name: value for name, value in draw(held).items() if value is not None}
        tags = draw(labels)
        key = f"{local.lower()}{number}@example.{draw(suffixes)}"
        contact = Contact(MAKER.next(), PROJECT, key, f"{local}{number}@example.com", draw(names_), draw(names_), properties, tags, draw(answers), None,
                          draw(since), draw(times), draw(times))
        did = draw(deeds)
        acts = tuple((name, floor(at / DAY), count, at) for name, at, count in did)
        found.append(Person(contact, acts, frozenset(LISTED for _ in draw(some)), frozenset(AUDIENCE for _ in draw(some)),
                            frozenset(TOPIC for _ in draw(some)), draw(answers)))
    return found


@cache
def subjects(shape):
    names = [kind for kind, its in SHAPES.items() if its == shape]
    parts = {"property": paths, "activity": st.sampled_from([("email.opened",), ("signed up",), ("never",)]), "audience": st.just((AUDIENCE,)),
             "topic": st.just((TOPIC,)), "segment": st.sampled_from([(LISTED,), (ASKED,), (ABSENT,)]), "listed": st.just((LISTED,))}
    return st.one_of([parts.get(kind, st.just(())).map(partial(Subject, kind)) for kind in names])


decimals = st.sampled_from(["0", "1", "2", "3", "4500", "-3", "0.5", "-3.25", "5000.0"]).map(decimal)
nothing, borders = st.none(), st.one_of(decimals, moments.map(Moment.read))
operators = st.sampled_from(OPERATORS)
shapes = {each.shapes: st.sampled_from(each.shapes) for each in OPERATORS}
operands = {  # by operator, else by shape
    "flag": st.booleans(), "time": moments.map(Moment.read), "activity": decimals,
    "same": st.one_of(st.booleans(), texts, numbers.map(lambda n: Number(float(n), str(n)))),
    "has": st.sampled_from(["vip", "Vip", ",", '","', "a,b", "a\\", "ä"]), "text": texts, "value": texts,
}


@st.composite
def conditions(draw):
    operator = draw(operators)
    shape = draw(shapes[operator.shapes])
    value = None
    if operator.name in ("above", "from", "below", "until") and shape in ("text", "value"):
        value = draw(borders)
    elif operator.name not in ("set", "within", "older", "member"):
        value = draw(operands.get(operator.name, operands.get(shape, nothing)))
    return Condition(draw(subjects(shape)), operator.name, value, draw(windows))


rules = st.recursive(conditions(), lambda inner: st.one_of(
    st.builds(Not, inner), st.lists(inner, max_size=3).map(lambda each: All(tuple(each))),
    st.lists(inner, max_size=3).map(lambda each: Some(tuple(each)))), max_leaves=5)


def fill(conn, folk):
    """A project with these people in it and nobody else."""
    for emptied in (table, audiences, topics, segment_table, suppressions.table):
        conn.execute(emptied.delete())
    conn.execute(audiences.insert(), {"id": AUDIENCE, "project_id": PROJECT, "name": "a", "description": "", "created_at": NOW, "updated_at": NOW})
    conn.execute(topics.insert(), {"id": TOPIC, "project_id": PROJECT, "name": "t", "description": "", "created_at": NOW})
    segments.add(conn, segments.Segment(LISTED, PROJECT, "s", "", None, None, False, NOW, NOW))
    for person in folk:
        number = person.contact.id
        assert contacts.add(conn, person.contact)
        for name, day, count, last in person.did:
            conn.execute(activity.insert(), {"contact_id": number, "name": name, "day": day, "count": count, "first_at": last, "last_at": last})
        if person.segments:
            segments.put(conn, LISTED, [number], NOW)
        if person.audiences:
            conn.execute(audience_members.insert(), {"audience_id": AUDIENCE, "contact_id": number, "added_at": NOW})
        if person.left:
            conn.execute(subscriptions.insert(), {"topic_id": TOPIC, "contact_id": number, "subscribed": False, "updated_at": NOW})
        if person.suppressed:
            suppressions.add(conn, Suppression(MAKER.next(), PROJECT, person.contact.key, person.contact.email, "manual", created_at=NOW))


def members(conn, folk, asked, others):
    fill(conn, folk)
    found = []
    for rule in asked:
        condition = compiled(rule, Compiler(conn.dialect.name == "postgresql", NOW, others))
        found.append({each.id for each in contacts.after(conn, PROJECT, 0, contacts.Filter(rule=condition), 100)})
    return found


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture])
@given(folk=people(), asked=st.lists(rules, min_size=10, max_size=30), other=conditions())
def test_sql_has_the_members_that_python_gives(stored, folk, asked, other):
    others = {LISTED: Condition(Subject("listed", (LISTED,)), "member"), ASKED: other}
    if other.subject.kind == "segment" and other.subject.path == (ASKED,):
        others[ASKED] = Not(Condition(Subject("unsubscribed"), "is", True))
    found = stored.write(members, folk, asked, others)
    for rule, ids in zip(asked, found, strict=True):
        assert ids == {each.contact.id for each in folk if holds(rule, each, NOW, others)}, rule


NUMBERS = [0, 1, -3, 0.5, 4500, 5000, 1e20, -1e-7, 2**53, 2**63 - 1]
EVERYTHING = [*TEXTS, *NUMBERS, None, True, False, [], ["pro"], {}, {"b": "pro"}, {"0": 1}]
MOMENTS = [Moment.read(text) for text in ("2026-01-15", "2026-09-20", "2026-09-20T22:00:00Z", "2026-09-21T13:46:40.500Z", "2024-02-29")]
WINDOWS = [0.0, 60.0, DAY, 2 * DAY, 300 * DAY]


def operands_of(name, shape):
    """Everything that an operator may be asked to compare with."""
    if name in ("within", "older"):
        return [(None, seconds) for seconds in WINDOWS]
    if name in ("above", "from", "below", "until"):
        return [(each, 0.0) for each in (*filter(None, map(decimal, TEXTS)), *MOMENTS)]
    if name == "set":
        return [(None, 0.0)]
    return [(each, 0.0) for each in (*filter(bool, TEXTS), *([True, False, *(Number(float(n), str(n)) for n in NUMBERS)] if name == "same" else []))]


@pytest.fixture
def everything(stored):
    """A contact for each value that a property may have, and names that are texts; anew for each test, since others of this file fill the same store."""
    folk = [Person(Contact(MAKER.next(), PROJECT, f"{number}@example.com", f"{number}@example.com", value if isinstance(value, str) and value else None, None,
                           {"plan": value, "a": {"plan": value}}, [], False, None, None, NOW, NOW)) for number, value in enumerate(EVERYTHING)]
    stored.write(fill, folk)
    return folk


@pytest.mark.parametrize(("name", "shape"), [
    pytest.param(each.name, shape, id=f"{each.name}-{shape}") for each in OPERATORS for shape in each.shapes if shape in ("text", "value")])
def test_every_operator_on_every_value(stored, everything, name, shape):
    subjects_ = [Subject("first_name")] if shape == "text" else [Subject("property", ("plan",)), Subject("property", ("a", "plan"))]
    asked = [Condition(subject, name, value, seconds) for subject in subjects_ for value, seconds in operands_of(name, shape)]

    def found(conn):
        compiler = Compiler(conn.dialect.name == "postgresql", NOW, {})
        return [{each.id for each in contacts.after(conn, PROJECT, 0, contacts.Filter(rule=compiled(rule, compiler)), 100)} for rule in asked]

    wanted = [{each.contact.id for each in everything if holds(rule, each, NOW, {})} for rule in asked]
    for rule, here, there in zip(asked, stored.read(found), wanted, strict=True):
        assert here == there, rule
    assert any(wanted)
    assert not all(len(each) == len(everything) for each in wanted)


EDGES = [NOW, NOW - 0.5, NOW - DAY, NOW - DAY - 0.5, NOW - 2 * DAY, NOW - 40 * DAY, NOW + DAY]
OPERANDS = {  # of the operators on what is neither text nor value
    "time": [(Moment.read(text), 0.0) for text in ("2026-09-21", "2026-09-20", "2026-09-20T22:00:00Z", "2026-09-21T13:46:40", "2027-01-01")],
    "flag": [(True, 0.0), (False, 0.0)], "tags": [(tag, 0.0) for tag in ("vip", "VIP", "Vip", "a,b", "nobody's")],
    "activity": [(decimal(str(number)), span) for number in range(7) for span in (DAY, 2 * DAY, 300 * DAY)], "member": [(None, 0.0)],
}
KINDS = [(operator.name, kind) for operator in OPERATORS for kind, shape in SHAPES.items() if shape in operator.shapes and shape in OPERANDS]


@pytest.fixture
def everybody(stored):
    """Somebody for each edge of a window, with and without everything that one can have, do or belong to; anew for each test."""
    folk = []
    for number, at in enumerate([*EDGES, None]):
        odd, when = number % 2 == 1, NOW if at is None else at
        tags_ = [["vip"], [], ["VIP", "a,b"]][number % 3]
        contact = Contact(MAKER.next(), PROJECT, f"{number}@example.com", f"{number}@example.com", None, None, {}, tags_, odd, None, at, when, when - number)
        did = () if at is None else (("email.opened", floor(at / DAY), number + 1, at), ("signed up", floor(at / DAY), 1, at))
        some = [frozenset([each]) if number % 2 == turn else frozenset() for each, turn in ((LISTED, 0), (AUDIENCE, 1), (TOPIC, 0))]
        folk.append(Person(contact, did, *some, number % 3 == 0))
    stored.write(fill, folk)
    return folk


@pytest.mark.parametrize(("name", "kind"), [pytest.param(name, kind, id=f"{name}-{kind}") for name, kind in KINDS])
def test_every_operator_on_every_kind_of_subject(stored, everybody, name, kind):
    paths_ = {"activity": [("email.opened",), ("signed up",), ("never",)], "audience": [(AUDIENCE,)], "topic": [(TOPIC,)], "listed": [(LISTED,)],
              "segment": [(LISTED,), (ASKED,), (ABSENT,)]}.get(kind, [()])
    given_ = [(None, seconds) for seconds in WINDOWS] if name in ("within", "older") else [(None, 0.0)] if name == "set" else OPERANDS[SHAPES[kind]]
    asked = [Condition(Subject(kind, path), name, value, seconds) for path in paths_ for value, seconds in given_]
    others = {LISTED: Condition(Subject("listed", (LISTED,)), "member"), ASKED: Not(Condition(Subject("unsubscribed"), "is", True))}

    def found(conn):
        compiler = Compiler(conn.dialect.name == "postgresql", NOW, others)
        return [{each.id for each in contacts.after(conn, PROJECT, 0, contacts.Filter(rule=compiled(rule, compiler)), 100)} for rule in asked]

    wanted = [{each.contact.id for each in everybody if holds(rule, each, NOW, others)} for rule in asked]
    for rule, here, there in zip(asked, stored.read(found), wanted, strict=True):
        assert here == there, rule
    assert any(wanted)
    assert not all(len(each) == len(everybody) for each in wanted) or (name, kind) in (("set", "created_at"), ("set", "updated_at"))


def test_the_table_is_tested_as_a_whole():
    """A new row, or a new kind of subject, is in one of the two tables above."""
    assert {(each.name, kind) for each in OPERATORS for kind, shape in SHAPES.items() if shape in each.shapes} == {
        *KINDS, *((each.name, kind) for each in OPERATORS for kind, shape in SHAPES.items() if shape in each.shapes and shape in ("text", "value"))}


def test_a_segment_in_an_audience_has_only_its_members_when_another_asks_about_it(stored, everybody):
    """Of a list and of rules alike."""
    def act(conn):
        listed = segments.Segment(MAKER.next(), PROJECT, "l", "", None, AUDIENCE, False, NOW, NOW)
        ruled = segments.Segment(MAKER.next(), PROJECT, "r", "", [{"field": "tags", "operator": "is_set"}], AUDIENCE, False, NOW, NOW)
        for each in (listed, ruled):
            segments.add(conn, each)
        segments.put(conn, listed.id, [each.contact.id for each in everybody], NOW)
        return [({each.id for each in segments.members_after(conn, PROJECT, of.id, 0, 100, NOW, read)}, {each.id for each in contacts.after(
            conn, PROJECT, 0, contacts.Filter(rule=segments.where(conn, PROJECT, Condition(Subject("segment", (of.id,)), "member"), NOW, read)), 100)})
            for of in (listed, ruled)]

    inside = {each.contact.id for each in everybody if each.audiences}
    tagged = {each.contact.id for each in everybody if each.contact.tags}
    assert stored.write(act) == [(inside, inside), (inside & tagged, inside & tagged)]


def test_a_left_member_is_none(stored):
    def act(conn):
        person = Person(Contact(MAKER.next(), PROJECT, "a@example.com", "a@example.com", None, None, {}, [], False, None, None, NOW, NOW))
        fill(conn, [person])
        number = person.contact.id
        counts = [segments.put(conn, LISTED, [number], NOW - DAY), segments.put(conn, LISTED, [number], NOW), segments.take(conn, LISTED, [number], NOW - 60),
                  segments.take(conn, LISTED, [number], NOW)]
        return counts, conn.execute(segment_members.select()).all(), segments.daily(conn, PROJECT, LISTED, 3, NOW)

    counts, still, growth = stored.write(act)
    assert (list(map(len, counts)), still) == ([1, 0, 1, 0], [])
    assert [size for _, size in growth] == [0, 1, 0]
