"""A project that is moved whole, contacts by an import and the rest list by list, is the same elsewhere: above all consent with its evidence."""

from __future__ import annotations

import re
import secrets

import orjson
import pytest

from relay import consent
from relay.audience import contacts as acts
from relay.audience import exporter, restore
from relay.audience import segments as lists
from relay.audience.contacts import By
from relay.audience.exports import KINDS, Export
from relay.audience.imports import Imports, Order
from relay.audience.reading import FILE
from relay.clock import Clock
from relay.consent import Act
from relay.delivery.dns import Resolver
from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import audiences, contacts, history, properties, topics
from relay.store.audience.audiences import Audience
from relay.store.audience.history import Entry
from relay.store.audience.properties import Property
from relay.store.audience.segments import Segment
from relay.store.audience.topics import Topic
from tests.audience.conftest import NOW

MAKER = Maker(78)
ID = re.compile(r"\b(?:aud|ct|imp|seg|sup|top)_\w+")


@pytest.fixture(scope="module")
def town(stored):
    """A store on each database, and its imports."""
    mine = stored.call(_imports(stored))
    yield stored, mine
    stored.call(mine.close())


async def _imports(stored):
    return Imports(stored.store, Resolver(["127.0.0.1:9"]), Clock(), MAKER, ["secret"])


def project(stored):
    number = MAKER.next()
    stored.write(projects.add, projects.Project(number, f"r{number}", {}, NOW))
    return number


def by(number, source="api"):
    return By(number, Act(source, "192.0.2.1", "Browser", NOW), MAKER, ("secret",))


def segment(stored, owner, name, rules=None):
    return stored.write(lists.create, Segment(MAKER.next(), owner, name, "", rules, None, False, NOW, NOW))


def rule(field, value):
    return [{"field": field, "operator": "equals", "value": value}]


def told(stored, owner):
    """Every list of a project as an export writes it, JSON."""
    async def rows(kind):
        return orjson.loads(b"".join([octets async for octets in exporter.every(stored.store, Export(owner, kind, "json"))]))

    return {kind: stored.call(rows(kind)) for kind in KINDS}


def moved(stored, mine, owner, other, slice_=restore.ROWS):
    """Take everything of one project into another, contacts from a CSV file, as `relay import` does."""
    async def people():
        file = mine.place() / secrets.token_hex(16)
        file.write_bytes(b"".join([octets async for octets in exporter.every(stored.store, Export(owner))]))
        work = await mine.start(Order(other, file.name, "contacts.csv", FILE, look=False))
        await work.task

    known, rows = {}, told(stored, owner)
    for kind in restore.ORDER:
        if kind == "contacts":
            stored.call(people())
            continue
        for start in range(0, len(rows[kind]), slice_):
            known |= stored.write(restore.put, other, kind, rows[kind][start:start + slice_], known, MAKER, NOW)
    return known


def same(lists_):
    """The lists without ids; history in its order, the others in any."""
    found = {kind: [ID.sub("", orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode()) for row in rows] for kind, rows in lists_.items()}
    return {kind: rows if kind == "history" else sorted(rows) for kind, rows in found.items()}


@pytest.mark.parametrize("slice_", [1, restore.ROWS], ids=["a row at a time", "at once"])
def test_a_project_becomes_the_same_elsewhere(town, slice_):
    stored, mine = town
    owner, other, beside = project(stored), project(stored), project(stored)
    topic = stored.write(topics.add, Topic(MAKER.next(), owner, "News", "monthly", NOW))
    audience = stored.write(audiences.add, Audience(MAKER.next(), owner, "Customers", "", NOW, NOW))
    hand = segment(stored, owner, "By hand")
    segment(stored, owner, "Paying", rule("audience", audience.public_id))
    segment(stored, owner, "Reads", rule("topic", topic.public_id))
    late = segment(stored, owner, "Asks about a younger one", rule("plan", "pro"))
    younger = segment(stored, owner, "Younger", rule("segment", hand.public_id))
    stored.write(lists.change, owner, late.id, {"rules": rule("segment", younger.public_id)})
    gone = segment(stored, owner, "Gone", rule("plan", "pro"))
    segment(stored, owner, "Orphan", rule("segment", gone.public_id))
    stored.write(lists.remove, owner, gone.id, NOW)
    ann, bob = (stored.write(acts.create, {"email": f"{name}@example.com", "tags": ["a", "b"], "properties": {"seats": value}}, by(owner)).contact
                for name, value in (("ann", 5), ("bob", "five")))
    stored.write(properties.add, Property(MAKER.next(), owner, "seats", "Seats", "number", [], True, NOW))  # later than what Bob has
    stored.write(audiences.put, audience.id, [ann.id], NOW)
    stored.write(lists.put, owner, hand.id, [ann.id], NOW)
    stored.write(acts.leave, bob.id, by(owner))
    stored.write(consent.leave_topic, ann, topic.id, Act("one_click", "192.0.2.1", "Browser", NOW, {}), MAKER)
    stored.write(history.append, [Entry(ann.id, NOW - 9, "subscribed", "import", {"optin_ip": "192.0.2.7"})])
    before = told(stored, owner)
    known = moved(stored, mine, owner, other, slice_)
    after = told(stored, other)
    assert same(after) == same(before)
    rules = {each["name"]: each["rules"][0]["value"] for each in after["segments"] if each["rules"]}
    assert rules == {"Paying": known[audience.public_id], "Reads": known[topic.public_id], "Asks about a younger one": known[younger.public_id],
                     "Younger": known[hand.public_id], "Orphan": gone.public_id}
    assert {row["act"] for row in after["history"] if row["evidence"].get("topic_id") == known[topic.public_id]} == {"topic_unsubscribed"}
    assert all(rows == [] for rows in told(stored, beside).values())


def test_what_the_import_of_a_restored_contact_wrote_gives_way_to_the_evidence(town):
    stored, mine = town
    owner, other = project(stored), project(stored)
    bob = stored.write(acts.create, {"email": "bob@example.com"}, by(owner)).contact
    stored.write(acts.leave, bob.id, by(owner, "dashboard"))
    before = told(stored, owner)["history"]
    for _ in range(2):  # a second time changes nothing
        moved(stored, mine, owner, other)
        assert told(stored, other)["history"] == before
    assert [(each["act"], each["source"]) for each in before] == [("created", "api"), ("unsubscribed", "dashboard")]
    assert stored.read(contacts.by_key, other, "bob@example.com").unsubscribed


def test_an_entry_of_its_own_stays_beside_those_that_come(town):
    """Two topics left in one request are two entries; what the other project wrote itself stays."""
    stored, mine = town
    owner, other = project(stored), project(stored)
    ann, here = (stored.write(acts.create, {"email": "ann@example.com"}, by(each)).contact for each in (owner, other))
    for name in ("one", "two"):
        topic = stored.write(topics.add, Topic(MAKER.next(), owner, name, "", NOW))
        stored.write(consent.leave_topic, ann, topic.id, Act("one_click", at=NOW), MAKER)
    stored.write(history.append, [Entry(here.id, NOW - 5, "subscribed", "form", {"form": "sf_1"})])
    for _ in range(2):
        moved(stored, mine, owner, other, 1)
        assert sorted((each["act"], each["source"]) for each in told(stored, other)["history"]) == [
            ("created", "api"), ("subscribed", "form"), ("topic_unsubscribed", "one_click"), ("topic_unsubscribed", "one_click")]
