"""Event readers: in order, in pages, and without losing one that commits late."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from relay.errors import Invalid
from relay.mail.ids import Maker
from relay.store import events, projects
from relay.store.events import START, Event
from tests.store.conftest import NOW, PROJECT


def event(name, project=PROJECT, **given):
    return Event(project, name, NOW, **given)


async def test_a_reader_walks_to_the_end_and_waits_there(store):
    await store.write(events.append, [event(f"t{n}") for n in range(5)])
    seen, cursor = [], START
    while True:
        found, cursor = await store.read(lambda conn, at=cursor: events.since(conn, at, limit=2))
        if not found:
            break
        seen += [e.type for e in found]
    assert seen == ["t0", "t1", "t2", "t3", "t4"]
    await store.write(events.append, [event("later")])
    found, _ = await store.read(events.since, cursor)
    assert [e.type for e in found] == ["later"]


async def test_latest_skips_what_has_been(store):
    await store.write(events.append, [event("old")])
    cursor = await store.read(events.latest)
    await store.write(events.append, [event("new")])
    found, _ = await store.read(events.since, cursor)
    assert [e.type for e in found] == ["new"]


async def test_data_comes_back(store):
    await store.write(events.append, [event("t", message_id=3, recipient_id=4, contact_id=5, data={"to": "ä@b.example", "n": [1, None]})])
    found, _ = await store.read(events.since)
    assert (found[0].message_id, found[0].recipient_id, found[0].contact_id, found[0].data) == (3, 4, 5, {"to": "ä@b.example", "n": [1, None]})
    assert found[0].public_id.startswith("evt_")


async def test_projects_and_types_are_apart(store):
    await store.write(projects.add, projects.Project(2, "shop", {}, NOW))
    await store.write(events.append, [event("a"), event("b", 2), event("b"), event("a", 2)])
    found, _ = await store.read(lambda conn: events.since(conn, project=2))
    assert [e.type for e in found] == ["b", "a"]
    found, _ = await store.read(lambda conn: events.since(conn, types=["b"]))
    assert [e.project_id for e in found] == [2, PROJECT]
    assert [e.type for e in await store.read(events.newest, PROJECT)] == ["b", "a"]


@pytest.mark.parametrize("cursor", ["", "1", "x.y", "1.2.3", "-1.0", "9" * 50 + ".0"])
async def test_a_cursor_that_is_none_is_refused(store, cursor):
    with pytest.raises(Invalid):
        await store.read(events.since, cursor)


async def test_an_event_that_commits_late_is_not_lost(store, store_url):
    """Another node began its transaction first and commits it after ours: a reader that passed ours must still see it (A13)."""
    if store.dialect == "sqlite":
        pytest.skip("one writer: ids are made in the order of commits")
    other = create_async_engine(store_url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with other.connect() as slow:
            slow_events = await slow.run_sync(lambda conn: conn.info.update({"ids": Maker(5)}) or events.append(conn, [event("slow")]))
            assert slow_events is None
            await store.write(events.append, [event("fast")])
            found, cursor = await store.read(events.since)
            assert found == []
            await slow.commit()
        found, cursor = await store.read(events.since, cursor)
        assert {e.type for e in found} == {"slow", "fast"}
        assert (await store.read(events.since, cursor))[0] == []
    finally:
        await other.dispose()


async def test_readers_beside_writers_see_every_event_once(store):
    total, seen, cursor = 200, [], START

    async def write(part):
        for n in range(0, total, 4):
            await store.write(events.append, [event(f"t{n + part}")])

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write(part)) for part in range(4)]
        while not (all(w.done() for w in writers) and len(seen) == total):
            found, cursor = await store.read(events.since, cursor)
            seen += [e.type for e in found]
            assert len(seen) <= total
    assert sorted(seen) == sorted(f"t{n}" for n in range(total))
