"""Acts on many contacts: they run to their end, go on after a crash where they were, and touch no other project's contacts."""

import asyncio

import pytest

from relay.audience import contacts as acts
from relay.audience.bulk import AT_ONCE, OF_ONE, STALE, SUBSCRIBE, Bulk
from relay.audience.contacts import By
from relay.clock import Clock
from relay.consent import Act
from relay.errors import Conflict, Defer, NotFound
from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import bulk_acts, contacts, properties, segments
from relay.store.audience.contacts import Filter
from relay.store.pages import Page
from tests.audience.conftest import NOW

SECRETS = ("a secret of thirty-two characters",)
MAKER = Maker()


@pytest.fixture
def project(stored):
    number = MAKER.next()
    stored.write(projects.add, projects.Project(number, f"bulk-{number}", {}, NOW))
    return number


def many(stored, project, count, **given):
    by = By(project, Act("api", at=NOW), MAKER, SECRETS)

    def make(conn):
        return [acts.create(conn, {"email": f"c{number}@example.com", **given}, by).contact.id for number in range(count)]

    return stored.write(make)


def ended(stored, project, act):
    """The act once it has ended."""
    async def wait():
        while (found := await stored.store.read(bulk_acts.get, project, act)).state == bulk_acts.RUNNING:  # each slice is a commit, none takes long
            await asyncio.sleep(0.01)
        return found

    return stored.call(wait())


def left(stored, project):
    return stored.read(contacts.count, project, Filter(unsubscribed=True))


def test_an_act_of_several_slices_runs_to_its_end(stored, project):
    many(stored, project, 5)
    told = []
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS, told.append, 3)
    begun = stored.call(bulk.begin(project, acts.UNSUBSCRIBE, {"search": None, "unsubscribed": None, "without": []}, 5))
    found = ended(stored, project, begun.id)
    assert (found.state, found.done, left(stored, project), len(told)) == (bulk_acts.COMPLETED, 5, 5, 2)
    begun = stored.call(bulk.begin(project, SUBSCRIBE, {"search": None, "unsubscribed": True, "without": []}, 5))
    assert (ended(stored, project, begun.id).done, left(stored, project)) == (5, 0)


def test_what_a_crash_left_goes_on_where_it_was(stored, project):
    numbers = many(stored, project, 10)
    now = [NOW]
    by = By(project, Act("api", at=NOW), MAKER, SECRETS)
    act = bulk_acts.BulkAct(MAKER.next(), project, acts.UNSUBSCRIBE, bulk_acts.RUNNING, {"ids": numbers}, numbers[3], 10, 4, NOW, NOW)
    stored.write(bulk_acts.add, act)
    stored.write(acts.many, numbers[:4], acts.UNSUBSCRIBE, (), by)
    bulk = Bulk(stored.store, Clock(now=lambda: now[0]), MAKER, SECRETS, size=2)
    stored.call(bulk.resume())
    assert stored.read(bulk_acts.get, project, act.id).done == 4  # somebody may still be at it
    now[0] += STALE + 1
    stored.call(bulk.resume())
    found = ended(stored, project, act.id)
    assert (found.state, found.done, left(stored, project)) == (bulk_acts.COMPLETED, 10, 10)


def test_two_nodes_do_not_both_go_on(stored, project):
    numbers = many(stored, project, 3)
    act = bulk_acts.BulkAct(MAKER.next(), project, acts.UNSUBSCRIBE, bulk_acts.RUNNING, {"ids": numbers}, 0, 3, 0, NOW, NOW)
    stored.write(bulk_acts.add, act)
    assert stored.write(bulk_acts.advance, act, numbers[0], 1, NOW) is True
    assert stored.write(bulk_acts.advance, act, numbers[1], 2, NOW) is False


def test_another_projects_contacts_are_not_touched(stored, project):
    other = MAKER.next()
    stored.write(projects.add, projects.Project(other, f"bulk-{other}", {}, NOW))
    theirs = many(stored, other, 3)
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS)
    begun = stored.call(bulk.begin(project, acts.DELETE, {"ids": theirs}, 3))
    assert ended(stored, project, begun.id).done == 0
    assert stored.read(contacts.count, other, Filter()) == 3


def test_contacts_made_later_are_left_alone(stored, project):
    many(stored, project, 2)
    act = bulk_acts.BulkAct(MAKER.next(), project, acts.DELETE, bulk_acts.RUNNING, {"search": None, "unsubscribed": None, "without": []}, 0, 2, 0, NOW, NOW)
    stored.write(bulk_acts.add, act)
    by = By(project, Act("api", at=NOW), MAKER, SECRETS)
    stored.write(acts.create, {"email": "later@example.com"}, by)
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS)
    stored.call(bulk.resume())
    assert (ended(stored, project, act.id).done, stored.read(contacts.count, project, Filter())) == (2, 1)


def segment(stored, project, rules=None):
    number = MAKER.next()
    stored.write(segments.add, segments.Segment(number, project, f"s{number}", "", rules, None, False, NOW, NOW))
    return number


def test_an_act_on_a_segment_counts_it_and_tells_how_far_it_is(stored, project):
    pros = many(stored, project, 5, properties={"plan": "pro"})
    stored.write(acts.many, pros[:2], acts.TAG, ["vip"], By(project, Act("api", at=NOW), MAKER, SECRETS))
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS, size=2)
    wanted = {"segment": segment(stored, project, [{"field": "plan", "operator": "equals", "value": "pro"}]), "tags": ["vip"]}
    found = ended(stored, project, stored.call(bulk.begin(project, acts.TAG, wanted, 0)).id)
    assert (found.state, found.total, found.seen, found.done) == (bulk_acts.COMPLETED, 5, 5, 3)
    assert all(each.tags == ["vip"] for each in stored.read(contacts.by_ids, project, pros))


def test_an_act_that_changes_who_is_in_the_segment_comes_to_everybody_once(stored, project):
    many(stored, project, 5)
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS, size=2)
    wanted = {"segment": segment(stored, project, [{"field": "subscribed", "operator": "equals", "value": True}])}
    found = ended(stored, project, stored.call(bulk.begin(project, acts.UNSUBSCRIBE, wanted, 0)).id)
    assert (found.seen, found.done, left(stored, project)) == (5, 5, 5)


def test_an_act_that_changes_who_is_in_the_segment_goes_on_after_a_crash_and_comes_to_everybody_once(stored, project):
    numbers = many(stored, project, 5, tags=["fair"])
    wanted = {"segment": segment(stored, project, [{"field": "tags", "operator": "contains", "value": "fair"}]), "tags": ["fair"]}
    act = bulk_acts.BulkAct(MAKER.next(), project, acts.UNTAG, bulk_acts.RUNNING, wanted, numbers[1], 5, 2, NOW, NOW, seen=2)
    stored.write(bulk_acts.add, act)
    stored.write(acts.many, numbers[:2], acts.UNTAG, ["fair"], By(project, Act("api", at=NOW), MAKER, SECRETS))
    bulk = Bulk(stored.store, Clock(now=lambda: NOW + STALE + 1), MAKER, SECRETS, size=2)
    stored.call(bulk.resume())
    found = ended(stored, project, act.id)
    assert (found.state, found.total, found.seen, found.done) == (bulk_acts.COMPLETED, 5, 5, 5)
    assert not any(each.tags for each in stored.read(contacts.by_ids, project, numbers))


def test_who_is_out_of_patience_looks_again_while_the_act_goes_on(stored, project):
    numbers = many(stored, project, 3)
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS, size=1)

    async def act():
        begun = await bulk.begin(project, acts.UNSUBSCRIBE, {"ids": numbers}, 3)
        return await bulk.rest(begun, 0.0), await bulk.rest(begun), await bulk.rest(begun, 0.0)

    assert stored.call(act()) == (False, True, True)
    assert left(stored, project) == 3


def test_a_project_does_not_take_every_place_however_many_acts_it_begins_at_once(stored, project):
    other = MAKER.next()
    stored.write(projects.add, projects.Project(other, f"bulk-{other}", {}, NOW))
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS)

    async def begun(whose, count):
        found = await asyncio.gather(*(bulk.begin(whose, acts.DELETE, {"ids": []}, 0) for _ in range(count)), return_exceptions=True)
        return [each for each in found if not isinstance(each, Defer)]

    async def all_at_once():
        some = [each for found in await asyncio.gather(*(begun(whose, AT_ONCE) for whose in (project, other))) for each in found]
        for each in some:
            await bulk.rest(each)
        return [sum(each.project_id == whose for each in some) for whose in (project, other)], await begun(project, 1)

    counts, again = stored.call(all_at_once())
    assert (counts, len(again)) == ([OF_ONE, AT_ONCE - OF_ONE], 1)
    stored.call(bulk.rest(again[0]))


def test_an_act_on_a_segment_that_is_gone_or_anothers_touches_nobody_and_ends(stored, project):
    other = MAKER.next()
    stored.write(projects.add, projects.Project(other, f"bulk-{other}", {}, NOW))
    many(stored, other, 2)
    theirs = segment(stored, other, [{"field": "subscribed", "operator": "equals", "value": True}])
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS)
    for number in (theirs, MAKER.next()):
        found = ended(stored, project, stored.call(bulk.begin(project, acts.DELETE, {"segment": number}, 0)).id)
        assert (found.state, found.done) == (bulk_acts.FAILED, 0)
    assert stored.read(contacts.count, other, Filter()) == 2


def plans(stored, project):
    """How many contacts have a plan, and how many have seats beside it."""
    return tuple(stored.read(properties.held, project, name) for name in ("plan", "seats"))


def test_the_values_of_a_deleted_property_go_slice_by_slice_and_no_others_do(stored, project):
    other = MAKER.next()
    stored.write(projects.add, projects.Project(other, f"bulk-{other}", {}, NOW))
    for owner in (project, other):
        many(stored, owner, 5, properties={"plan": "pro", "seats": 3})
        stored.write(acts.create, {"email": "none@example.com"}, By(owner, Act("api", at=NOW), MAKER, SECRETS))
    defined = properties.Property(MAKER.next(), project, "plan", "Plan", "text", [], False, NOW)
    stored.write(properties.add, defined)
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS, size=2)
    begun = stored.call(bulk.begin(project, properties.STRIP, {"property": "plan"}, 0, lambda conn: properties.remove(conn, project, defined.id)))
    stored.call(bulk.rest(begun))
    found = stored.read(bulk_acts.get, project, begun.id)
    assert (found.state, found.total, found.seen, found.done) == (bulk_acts.COMPLETED, 5, 5, 5)
    assert (plans(stored, project), plans(stored, other)) == ((0, 5), (5, 5))
    assert stored.read(properties.of, project) == {}


def test_a_property_is_not_defined_again_while_its_old_values_go(stored, project):
    number, = many(stored, project, 1, properties={"plan": "pro"})
    act = bulk_acts.BulkAct(MAKER.next(), project, properties.STRIP, bulk_acts.RUNNING, {"property": "plan"}, 0, 1, 0, NOW, NOW)
    stored.write(bulk_acts.add, act)
    again = properties.Property(MAKER.next(), project, "plan", "Plan", "text", [], False, NOW)
    with pytest.raises(Conflict, match="plan are still being taken away"):
        stored.write(properties.add, again)
    now = NOW + STALE + 1  # whoever was at it is gone
    bulk = Bulk(stored.store, Clock(now=lambda: now), MAKER, SECRETS)
    stored.call(bulk.resume())
    assert ended(stored, project, act.id).done == 1
    stored.write(properties.add, again)
    assert stored.read(contacts.get, project, number).properties == {}


def test_a_definition_stays_when_its_act_cannot_begin(stored, project):
    bulk = Bulk(stored.store, Clock(), MAKER, SECRETS)
    with pytest.raises(NotFound):
        stored.call(bulk.begin(project, properties.STRIP, {"property": "plan"}, 0, lambda conn: properties.remove(conn, project, 1)))
    assert stored.read(bulk_acts.paged, project, Page(1, 10)).rows == []
