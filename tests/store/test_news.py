"""News: one look for all who follow the store, and what it sees; of every project, since those who follow do it for all."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert

from relay.errors import StoreError
from relay.news import News
from relay.store import events, news, projects
from relay.store.audience.schema import changes, segments
from relay.store.events import Event
from relay.store.schema import webhooks
from relay.store.workflows.schema import workflows
from tests.store.conftest import NOW, PROJECT

OTHER = 2
DAY = 86_400.0


def endpoint(number, project, enabled):
    return insert(webhooks).values(
        id=number, project_id=project, url="https://a.example/", events=["*"], description="", enabled=enabled, secret="", previous_secret="", cursor="0.0",
        failures=0, disabled_reason="", created_at=NOW)


def workflow(number, status, trigger="event", **when):
    return insert(workflows).values(
        id=number, project_id=PROJECT, name=f"w{number}", status=status, trigger=trigger, config={}, reentry="once", dialect="", origin="", version=1,
        since="0.0", walk_after=0, walk_until=0, created_at=NOW, updated_at=NOW, **when)


def segment(number, tracked, settled):
    return insert(segments).values(
        id=number, project_id=PROJECT, name=f"s{number}", description="", tracked=tracked, settled=settled, created_at=NOW, updated_at=NOW)


def happened(conn, project=PROJECT):
    events.append(conn, [Event(project, "contact.created", NOW)])


SEEN = {
    "nothing": ([], {}),
    "an endpoint that is switched on": ([endpoint(7, PROJECT, True), endpoint(8, PROJECT, False)], {"endpoints": "7"}),
    "a contact of whom something is new": ([insert(changes).values(project_id=PROJECT, contact_id=3, quiet=False)], {"changed": True}),
    "a segment without memberships": ([segment(1, True, False)], {"unsettled": True}),
    "segments as they should be": ([segment(1, True, True), segment(2, False, False)], {}),
    "a draft": ([workflow(1, "draft")], {"workflows": True}),
    "a schedule": ([workflow(1, "active", "schedule", next_at=NOW + DAY)], {"workflows": True, "due": NOW + DAY}),
    "a schedule that is on its way": ([workflow(1, "active", "schedule", next_at=NOW + DAY, walk_at=NOW)], {"workflows": True, "due": 0.0}),
    "a schedule that pauses": ([workflow(1, "paused", "schedule", next_at=NOW + DAY)], {"workflows": True}),
    "what is to be taken away": ([workflow(1, "deleted"), workflow(2, "active", "schedule", next_at=NOW + DAY)], {"workflows": True, "due": 0.0}),
}


@pytest.mark.parametrize(("rows", "seen"), SEEN.values(), ids=SEEN)
async def test_a_look_sees(store, rows, seen):
    def write(conn):
        for row in rows:
            conn.execute(row)

    await store.write(write)
    nothing = {"last": events.START, "changed": False, "unsettled": False, "endpoints": "", "workflows": False, "due": None, "told": False}
    assert await store.read(news.look) == news.Sight(**{**nothing, **seen})


async def test_the_log_has_grown_when_a_reader_finds_more(store):
    """Whatever the project; and the cursor is one from which a reader goes on."""
    await store.write(projects.add, projects.Project(OTHER, "other", {}, NOW))
    for project in (PROJECT, OTHER):
        before = (await store.read(news.look)).last
        await store.write(happened, project)
        sight = await store.read(news.look)
        assert sight.last != before
        assert sight.last == await store.read(events.last)
        found, after = await store.read(events.since, before)
        assert ([each.project_id for each in found], after) == ([project], sight.last)
        assert await store.read(events.since, sight.last) == ([], sight.last)
    await store.write(projects.add, projects.Project(3, "quiet", {}, NOW))
    assert (await store.read(news.look)).last == sight.last, "what is no event is no news"


async def test_all_who_wait_share_a_look_that_comes_after_their_call(store):
    told = News(store)
    running = asyncio.create_task(told.run())
    waiting = [asyncio.create_task(told.look()) for _ in range(3)]
    await store.write(happened)
    told.tell()
    first, *others = await asyncio.gather(*waiting)
    assert all(each is first for each in others)
    assert first.told
    assert first.last != events.START
    later = await told.look()
    assert (later.last, later.told) == (first.last, False)
    running.cancel()


async def test_a_store_that_is_away_is_heard_by_those_who_wait_and_asked_again(store):
    answers = iter([StoreError(), ValueError("a fault of ours"), None])

    async def point(fn):
        error = next(answers)
        if error is not None:
            raise error
        return await store.read(fn)

    away = type("Away", (), {"point": staticmethod(point)})()
    told = News(away)
    running = asyncio.create_task(told.run())
    for error in (StoreError, ValueError):
        with pytest.raises(error):
            await told.look()
    assert (await told.look()).last == events.START
    running.cancel()
