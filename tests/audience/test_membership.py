"""Membership tracking: each entry and exit is told once, by whatever it came about, and never for a new baseline; on both databases."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay import consent
from relay.audience import audiences as audience_acts
from relay.audience import contacts as acts
from relay.audience import removing
from relay.audience import segments as segment_acts
from relay.audience.membership import settle
from relay.consent import Act
from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import events, suppressions
from relay.store.audience import audiences, changes, contacts, memberships, merging, segments, topics
from relay.store.audience.audiences import Audience
from relay.store.audience.rules import DAY
from relay.store.audience.segments import Segment
from relay.store.audience.topics import Topic
from relay.store.events import Event
from tests.audience.conftest import NOW
from tests.audience.race import meet
from tests.audience.town import MAKER, PRO, Town

# What makes somebody come and go.


def test_a_change_by_the_api_is_told_at_once(town):
    segment = town.segment(PRO)
    ann, bob = town.join("ann", plan="pro"), town.join("bob", plan="free")
    town.change(bob, plan="pro")
    town.change(bob, seats=3)
    town.change(ann, plan="free")
    assert town.said == [("entry", "ann"), ("entry", "bob"), ("exit", "ann")]
    first = town.happened()[0]
    assert first.type == "segment.trial-users.entry"
    assert first.data == {"segment_id": segment.public_id, "segment_name": "Trial Users", "email": f"ann@{town.project}.example"}
    town.turn()
    assert len(town.said) == 3
    assert town.held(segment) == {"bob"}


def test_entering_and_leaving_between_two_looks_is_told(town):
    town.segment(PRO)
    ann = town.join("ann", plan="pro")
    town.change(ann, plan="free")
    town.change(ann, plan="pro")
    assert town.said == [("entry", "ann"), ("exit", "ann"), ("entry", "ann")]


def test_the_list_of_a_static_segment(town):
    segment = town.segment(None, "Beta Testers")
    ann, bob = town.join("ann"), town.join("bob")
    town.stored.write(segment_acts.put, town.project, segment.id, [ann, bob], NOW)
    town.stored.write(segment_acts.put, town.project, segment.id, [ann], NOW)
    town.stored.write(segment_acts.take, town.project, segment.id, [ann, MAKER.next()], NOW)
    assert town.said == [("entry", "ann"), ("entry", "bob"), ("exit", "ann")]
    assert {event.type for event in town.happened()} == {"segment.beta-testers.entry", "segment.beta-testers.exit"}


@pytest.mark.parametrize("rules", [PRO, None], ids=["dynamic", "static"])
def test_a_segment_that_lives_in_an_audience(town, rules):
    audience = town.stored.write(audiences.add, Audience(MAKER.next(), town.project, "paid", "", NOW, NOW))
    segment = town.segment(rules, audience=audience.id)
    ann = town.join("ann", plan="pro")
    if rules is None:
        town.stored.write(segment_acts.put, town.project, segment.id, [ann], NOW)
    assert town.said == []
    town.stored.write(audience_acts.put, audience.id, [ann], NOW)
    town.stored.write(audience_acts.take, audience.id, [ann], NOW)
    assert town.said == [("entry", "ann"), ("exit", "ann")]
    town.stored.write(audience_acts.remove, town.project, audience.id, NOW)
    assert (town.said[2:], town.held(segment)) == ([], {"ann"})


def test_a_topic_and_consent(town):
    topic = town.stored.write(topics.add, Topic(MAKER.next(), town.project, "news", "", NOW))
    town.segment([{"field": f"topic.{topics.public(topic.id)}", "operator": "is_set"}, {"field": "subscribed", "operator": "equals", "value": True}])
    ann, bob = town.join("ann"), town.join("bob")
    town.stored.write(acts.subscribe, ann, topic.id, False, town.by())
    person = town.stored.read(contacts.get, town.project, bob)
    town.stored.write(consent.leave, person, Act("one-click", at=NOW), MAKER)  # by a link, which knows nothing of segments
    assert town.said == [("entry", "ann"), ("entry", "bob"), ("exit", "ann")]
    town.turn()
    assert town.said[3:] == [("exit", "bob")]
    assert not town.stored.read(changes.waiting)


def test_a_suppression_comes_and_goes(town):
    town.segment([{"field": "suppressed", "operator": "equals", "value": True}])
    town.join("ann")
    key = f"ann@{town.project}.example"
    town.stored.write(suppressions.add, suppressions.make(MAKER.next(), town.project, key, "manual", "all", {}, NOW))
    town.turn()
    town.stored.write(suppressions.remove, town.project, key)
    town.turn()
    assert town.said == [("entry", "ann"), ("exit", "ann")]


def test_an_event_of_the_project_s_own(town):
    segment = town.segment([{"field": "event.purchased", "operator": "is_set"}])
    ann = town.join("ann")
    town.stored.write(events.append, [Event(town.project, "purchased", NOW, contact_id=ann), Event(town.project, "contact.updated", NOW, contact_id=ann)])
    town.turn()
    assert (town.said, town.held(segment)) == ([("entry", "ann")], {"ann"})


def test_bulk_acts_are_told_a_moment_later(town):
    town.segment([{"field": "tags", "operator": "contains", "value": "vip"}])
    people = [town.join(f"p{number}") for number in range(5)]
    town.stored.write(acts.many, people, acts.TAG, ["vip"], town.by())
    town.turn()
    town.stored.write(acts.many, people[:2], acts.UNTAG, ["vip"], town.by())
    town.turn()
    assert sorted(town.said) == [*(("entry", f"p{number}") for number in range(5)), ("exit", "p0"), ("exit", "p1")]


def test_who_is_deleted_leaves(town):
    segment = town.segment(PRO)
    ann = town.join("ann", plan="pro")
    town.stored.write(acts.erase, [ann], town.by())
    assert town.said == [("entry", "ann"), ("exit", "ann")]
    assert all("email" not in event.data for event in town.happened())
    assert town.happened()[-1].data == {"segment_id": segment.public_id, "segment_name": "Trial Users"}
    assert town.held(segment) == set()


# What does not tell.


@pytest.mark.parametrize("crowd", [3, memberships.SMALL + 1], ids=["few", "many"])
def test_switching_on_is_a_baseline(town, crowd):
    some = [acts.Contact(MAKER.next(), town.project, f"{n}@many.example", f"{n}@many.example", None, None, {"plan": "pro"}, [], False, None, None, NOW, NOW)
            for n in range(crowd)]
    town.stored.write(contacts.add_many, some)
    town.names |= {each.id: "crowd" for each in some}
    segment = town.segment(PRO, tracked=False)
    segment = town.stored.write(segment_acts.change, town.project, segment.id, {"tracked": True, "updated_at": NOW + 1})
    assert segment.settled is (crowd < memberships.SMALL)
    town.turn()
    assert (town.said, town.held(segment)) == ([], {"crowd"})
    town.change(some[0].id, plan="free")
    assert town.said == [("exit", "crowd")]


def test_a_short_list_is_told_from_its_first_moment_among_however_many(town):
    some = [acts.Contact(MAKER.next(), town.project, f"{n}@many.example", f"{n}@many.example", None, None, {}, [], False, None, None, NOW, NOW)
            for n in range(memberships.SMALL + 1)]
    town.stored.write(contacts.add_many, some)
    town.names |= {each.id: "crowd" for each in some}
    segment = town.segment(None, "List")
    assert segment.settled
    town.stored.write(segment_acts.put, town.project, segment.id, [some[0].id], NOW)
    assert (town.said, town.held(segment)) == ([("entry", "crowd")], {"crowd"})
    for at, tracked in ((1, False), (2, True)):
        segment = town.stored.write(segment_acts.change, town.project, segment.id, {"tracked": tracked, "updated_at": NOW + at})
    assert segment.settled
    town.stored.write(segment_acts.take, town.project, segment.id, [some[0].id], NOW)
    assert town.said == [("entry", "crowd"), ("exit", "crowd")]


def test_new_rules_are_a_baseline_also_for_who_asks_about_them(town):
    inner = town.segment(PRO, "inner")
    outer = town.segment([{"field": "segment", "operator": "equals", "value": inner.public_id}], "outer")
    ann, bob = town.join("ann", plan="pro"), town.join("bob", plan="free")
    before = town.said
    assert sorted(before) == [("entry", "ann"), ("entry", "ann")]
    town.stored.write(segment_acts.change, town.project, inner.id, {"rules": [{**PRO[0], "value": "free"}], "updated_at": NOW + 1})
    town.turn()
    assert (town.said, town.held(inner), town.held(outer)) == (before, {"bob"}, {"bob"})
    town.change(bob, plan="gold")
    assert sorted(town.said[2:]) == [("exit", "bob"), ("exit", "bob")]
    town.change(ann, plan="free")
    town.stored.write(segment_acts.remove, town.project, inner.id, NOW)
    assert (town.said[4:], town.held(outer)) == ([("entry", "ann"), ("entry", "ann")], set())


def test_an_import_moves_people_without_a_word(town):
    segment = town.segment(PRO)
    ann = town.join("ann", plan="free")

    def imported(conn):
        person = contacts.get(conn, town.project, ann)
        with changes.quietly(conn):
            contacts.save(conn, acts.replace(person, properties={"plan": "pro"}))

    town.stored.write(imported)
    town.minute()
    town.turn()
    assert (town.said, town.held(segment)) == ([], {"ann"})
    town.change(ann, plan="free")
    assert town.said == [("exit", "ann")]


def test_an_untracked_segment_says_nothing_and_notes_nothing(town):
    segment = town.segment(PRO, tracked=False)
    town.join("ann", plan="pro")
    town.turn()
    assert (town.said, town.held(segment), town.stored.read(changes.waiting)) == ([], set(), False)


def test_switching_off_forgets(town):
    segment = town.segment(PRO)
    ann = town.join("ann", plan="pro")
    town.stored.write(segment_acts.change, town.project, segment.id, {"tracked": False, "updated_at": NOW + 1})
    town.change(ann, plan="free")
    town.minute()
    assert (town.said, town.held(segment)) == ([("entry", "ann")], set())


# Time.


def test_time_lets_people_go(town):
    segment = town.segment([{"field": "created_at", "operator": "in_last_days", "value": 1}])
    outer = town.segment([{"field": "segment", "operator": "not_equals", "value": segment.public_id}], "Old Hands")
    still = town.segment(PRO, "still")
    town.join("ann")
    town.minute()
    assert town.said == [("entry", "ann")]
    town.minute(DAY)
    town.minute()
    assert town.said == [("entry", "ann"), ("exit", "ann"), ("entry", "ann")]
    assert [each.type for each in town.happened()][1:] == ["segment.trial-users.exit", "segment.old-hands.entry"]
    assert (town.held(segment), town.held(outer), town.held(still)) == (set(), {"ann"}, set())


def test_time_waits_for_what_an_import_noted(town):
    segment = town.segment([{"field": "created_at", "operator": "in_last_days", "value": 1}])
    person = acts.Contact(MAKER.next(), town.project, "q@many.example", "q@many.example", None, None, {}, [], False, None, None, NOW, NOW)

    def imported(conn):
        with changes.quietly(conn):
            contacts.add_many(conn, [person])

    town.stored.write(imported)
    town.names[person.id] = "quiet"
    town.minute()
    assert (town.said, town.held(segment)) == ([], {"quiet"})


@pytest.mark.parametrize("kind", ["audience", "segment"])
def test_a_large_one_is_deleted_in_slices(town, kind, monkeypatch):
    """Its contacts stay, nobody is told that they left, and what asks about it begins anew."""
    monkeypatch.setattr(removing, "SLICE", 2)
    people = [town.join(f"p{n}", plan="pro") for n in range(5)]
    if kind == "audience":
        made = town.stored.write(audiences.add, Audience(MAKER.next(), town.project, "big", "", NOW, NOW))
        town.stored.write(audience_acts.put, made.id, people, NOW)
        asking = town.segment(PRO, audience=made.id)
    else:
        made = town.segment(None, "big")
        town.stored.write(segment_acts.put, town.project, made.id, people, NOW)
        member = {"field": f"segment.{made.public_id}", "operator": "memberOfSegment"}
        asking = town.segment({"logic": "AND", "groups": [{"filters": [member]}]}, "asking")
    before = len(town.said)
    town.stored.call(getattr(removing, kind)(town.stored.store, town.project, made.id, NOW), 60)
    town.turn()
    assert len(town.said) == before
    assert town.held(asking) == ({f"p{n}" for n in range(5)} if kind == "audience" else set())
    assert town.stored.read(contacts.count, town.project, contacts.Filter()) == 5
    with pytest.raises(NotFound):
        town.stored.call(getattr(removing, kind)(town.stored.store, town.project, made.id, NOW), 60)


# Bounds, neighbours, growth.


def test_a_project_tracks_so_many(town):
    for number in range(memberships.MOST):
        town.segment(None, f"s{number}")
    with pytest.raises(Conflict, match="50 segments"):
        town.segment(PRO)
    assert town.segment(PRO, tracked=False).settled is False


def test_two_projects_hear_nothing_of_each_other(stored):
    here, there = Town(stored), Town(stored)
    for town in (here, there):
        town.segment(PRO)
    here.join("ann", plan="pro")
    here.turn()
    assert (here.said, there.said) == ([("entry", "ann")], [])


# Whatever is done in whatever order: events alternate, and end where the rules say.

deeds = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["pro", "free", "delete", "bulk", "quiet", "turn", "minute", "put", "take"])), max_size=25)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(deeds=deeds)
def test_events_alternate_and_end_where_the_rules_say(stored, deeds):
    town = Town(stored)
    dynamic, static = town.segment(PRO, "dynamic"), town.segment(None, "static")
    people = [town.join(f"p{number}", plan="free") for number in range(4)]
    quiet, alive = set(), set(people)
    for who, deed in deeds:
        number = people[who]
        if number in alive:
            _do(town, deed, number, static, quiet, alive)
    town.turn()
    for segment in (dynamic, static):
        told = {number: [e.type.rpartition(".")[2] for e in town.happened() if e.contact_id == number and e.data.get("segment_id") == segment.public_id]
                for number in people}
        found = {each.id for each in stored.read(segments.members_after, town.project, segment.id, 0, 100, town.now, segment_acts.read)}
        assert town.held(segment) == {town.names[each] for each in found}
        for number in alive - quiet:
            assert told[number] == ["entry", "exit"] * (len(told[number]) // 2) + ["entry"] * (number in found), ids.public("ct", number)


def _do(town, deed, number, static, quiet, alive):
    if deed in ("pro", "free"):
        town.change(number, plan=deed)
    elif deed == "bulk":
        town.stored.write(acts.many, [number], acts.TAG, ["x"], town.by())
    elif deed == "quiet":
        quiet.add(number)
        town.stored.write(_quietly, town.project, number)
    elif deed == "turn":
        town.turn()
    elif deed == "minute":
        town.minute()
    elif deed == "delete":
        alive.discard(number)
        town.stored.write(acts.erase, [number], town.by())
    else:
        town.stored.write(segment_acts.put if deed == "put" else segment_acts.take, town.project, static.id, [number], town.now)


def _quietly(conn, project, number):
    with changes.quietly(conn):
        contacts.save(conn, acts.replace(contacts.get(conn, project, number), properties={"plan": "pro"}))


def test_a_segment_begins_with_those_of_an_import_that_is_under_way(stored):
    """A slice that began while nobody tracked anything notes nobody, so what counts a segment's first members waits for it."""
    town = Town(stored)
    made = Segment(MAKER.next(), town.project, "Pro", "", PRO, None, True, NOW, NOW)

    def slice_(conn):
        merging.reach(conn, {"project": town.project, "import": 1, "before": 0, "through": 1})
        acts.create(conn, {"email": "ann@example.com", "properties": {"plan": "pro"}}, town.by())

    meet(stored, slice_, lambda conn: segment_acts.create(conn, made))
    assert stored.read(segments.size, made) == 1


@pytest.mark.parametrize("plan", ["pro", "free"])
def test_two_nodes_that_see_the_same_move_tell_it_once(stored, plan):
    """What time changes has no note that one of them takes away, so the row of the membership itself decides."""
    town = Town(stored)
    segment = town.segment(PRO)
    ann = town.join("ann", plan="free" if plan == "pro" else "pro")
    before = len(town.said)

    def changed(conn):  # as time would: nobody notes it
        contacts.save(conn, acts.replace(contacts.get(conn, town.project, ann), properties={"plan": plan}))
        changes.done(conn, changes.of(conn, [ann]))

    stored.write(changed)

    assert meet(stored, *[lambda conn: settle(conn, (), [ann], NOW)] * 2) == [1, 0]
    assert town.said[before:] == [("entry" if plan == "pro" else "exit", "ann")]
    assert town.held(segment) == ({"ann"} if plan == "pro" else set())
