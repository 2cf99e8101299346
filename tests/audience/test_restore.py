"""A whole project goes out, list by list, and is made again beside: rules ask about what they asked about, by its new ids."""

from __future__ import annotations

import csv
import io

import orjson
import pytest

from relay.audience import contacts as acts
from relay.audience import exporter, restore
from relay.audience import segments as segment_acts
from relay.audience.cells import armed
from relay.audience.contacts import By
from relay.audience.exports import CSV, JSON, Export
from relay.consent import Act
from relay.mail import ids
from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import audiences, contacts, segments, topics
from relay.store.audience.audiences import Audience
from relay.store.audience.segments import Segment
from relay.store.audience.topics import Topic
from tests.audience.conftest import NOW

MAKER = Maker(9)


def project(stored):
    number = MAKER.next()
    stored.write(projects.add, projects.Project(number, f"p{number}", {}, NOW))
    return number


def join(stored, number, name):
    made = stored.write(acts.create, {"email": f"{name}@example.com"}, By(number, Act("api", at=NOW), MAKER, ("a secret of thirty-two characters",)))
    return made.contact


def segment(stored, number, name, rules, audience=None):
    return stored.write(segment_acts.create, Segment(MAKER.next(), number, name, "", rules, audience, False, NOW, NOW))


def asks(field, public):
    return [{"field": field, "operator": "equals", "value": public}]


@pytest.fixture
def full(stored):
    """A project whose segments ask about an audience, a topic, a list, and about one that was made after them."""
    number = project(stored)
    ann, bob = join(stored, number, "ann"), join(stored, number, "bob")
    paid = stored.write(audiences.add, Audience(MAKER.next(), number, "paid", "who pays", NOW, NOW))
    stored.write(audiences.add, Audience(MAKER.next(), number, "nobody", "", NOW, NOW))
    stored.write(audiences.put, paid.id, [ann.id], NOW)
    news = stored.write(topics.add, Topic(MAKER.next(), number, "news", "", NOW))
    stored.write(topics.set_state, bob, news.id, False, NOW)
    early = segment(stored, number, "early", asks("email", "x@example.com"))
    listed = segment(stored, number, "list", None)
    stored.write(segment_acts.put, number, listed.id, [bob.id], NOW)
    segment(stored, number, "payers", asks("audience", paid.public_id))
    segment(stored, number, "readers", [{"field": f"topic.{news.public_id}", "operator": "is_set"}])
    late = segment(stored, number, "late", asks("segment", listed.public_id), paid.id)
    stored.write(segment_acts.change, number, early.id, {"rules": {"logic": "AND", "groups": [{"filters": [
        {"field": f"segment.{late.public_id}", "operator": "notMemberOfSegment"}]}]}, "updated_at": NOW})
    return number


async def exported(stored, number, kind, form):
    octets = b"".join([some async for some in exporter.every(stored.store, Export(number, kind, form))])
    if form == JSON:
        return orjson.loads(octets)
    return [{name: armed(cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(octets.decode(), newline=""))]


def members(stored, number):
    """Who is in which segment, by name."""
    def asked(conn):
        found = {}
        for each in segments.paged_list(conn, number, segments.Page(1, 100)).rows:
            some = segments.members_after(conn, number, each.id, 0, 100, NOW, segment_acts.read)
            found[each.name] = sorted(contact.email for contact in some)
        return found

    return stored.read(asked)


@pytest.mark.parametrize("form", [CSV, JSON])
def test_every_list_comes_back(stored, full, form):
    other = project(stored)
    for name in ("ann", "bob"):
        join(stored, other, name)
    known = {}
    for kind in restore.KINDS:
        rows = stored.call(exported(stored, full, kind, form))
        for start in range(0, len(rows), 2):  # as if they were too many for one request
            known |= stored.write(restore.put, other, kind, rows[start:start + 2], known, MAKER, NOW)
    everybody = members(stored, full)
    assert everybody == {"early": ["ann@example.com", "bob@example.com"], "list": ["bob@example.com"], "payers": ["ann@example.com"],
                         "readers": ["ann@example.com"], "late": []}
    assert members(stored, other) == everybody
    old = {ids.internal(each) for each in known}
    assert not any(ids.public("seg", each)[4:] in orjson.dumps(rules).decode() for each in old for _, rules in stored.read(segments.asking, other))
    bob = stored.read(contacts.by_key, other, "bob@example.com")
    assert [each.subscribed for each in stored.read(topics.of_contact, bob)] == [False]
