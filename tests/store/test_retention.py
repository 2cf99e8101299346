"""Retention: what goes and when, and that its space goes back."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from sqlalchemy import update

from relay.errors import NotFound
from relay.mail.ids import EPOCH
from relay.mail.message import replace
from relay.mail.reply import Reply
from relay.store import bodies, bulk, events, messages, queue, retention, schema, segments
from relay.store.queue import Settlement
from relay.store.retention import Keep, Pruned
from tests.store.conftest import NOW, PROJECT, made

DAY = 86_400.0
KEEP = Keep(bodies=7 * DAY, attempts=30 * DAY, events=30 * DAY, messages=90 * DAY)

NUMBERS = itertools.count(1)


def aged(message, days):
    """The message as if accepted so many days before NOW: ids begin with their time."""
    made_at = ((int((NOW - days * DAY) * 1000) - EPOCH) << 21) + next(NUMBERS)
    return replace(message, id=made_at, received_at=NOW - days * DAY)


async def add(store, message, ended_days_ago=None):
    await store.write_many(messages.add_many, message)
    if ended_days_ago is not None:
        for r in message.recipients:
            done = Settlement(r.id, message.id, PROJECT, "delivered", Reply(250, "2.0.0", "ok"), NOW - ended_days_ago * DAY)
            await store.write_many(queue.settle_many, done)
    return message


async def octets_kept(store, message):
    try:
        return bool(await store.read(bodies.get, message.id))
    except NotFound:
        return False


CASES = {  # accepted days ago, ended days ago -> octets kept, message kept
    "fresh": (1, 1, True, True), "ended long ago": (20, 8, False, True), "ended lately": (20, 6, True, True),
    "still waiting": (100, None, True, True), "past all": (100, 95, False, False),
}


@pytest.mark.parametrize("case", CASES)
async def test_octets_and_messages_go_when_their_time_is_over(store, case):
    accepted, ended, octets, row = CASES[case]
    message = await add(store, aged(made(body=b"x" * 20_000), accepted), ended)
    await retention.sweep(store, KEEP, NOW)
    assert await octets_kept(store, message) is octets
    assert await store.read(messages.have, message.id) is row
    assert bool(await store.read(messages.load_many, [message.id])) is octets
    assert await retention.sweep(store, KEEP, NOW) == Pruned()


async def test_one_open_recipient_keeps_the_octets_for_all(store):
    message = aged(made("a@example.net", "b@example.net"), 30)
    await store.write_many(messages.add_many, message)
    done = Settlement(message.recipients[0].id, message.id, PROJECT, "delivered", Reply(250), NOW - 20 * DAY)
    await store.write_many(queue.settle_many, done)
    await retention.sweep(store, KEEP, NOW)
    assert await octets_kept(store, message)


async def test_a_shared_body_stays_while_one_of_its_messages_is_open(store):
    first = await add(store, aged(made(body=b"shared"), 100), 95)
    second = await add(store, aged(made(), 50))
    await store.write(lambda conn: conn.execute(update(schema.messages).where(schema.messages.c.id == second.id).values(body_id=first.id)) and None)
    await retention.sweep(store, KEEP, NOW)
    assert not await store.read(messages.have, first.id)
    assert (await store.read(messages.load, second.id)).body == b"shared"


async def test_events_and_attempts_go_by_their_age(store):
    old = ((int((NOW - 40 * DAY) * 1000) - EPOCH) << 21)
    row = (old, PROJECT, None, None, None, "old", NOW - 40 * DAY, "{}")
    await store.write(lambda conn: bulk.insert(conn, schema.events, [row]))
    await store.write(events.append, [events.Event(PROJECT, "new", NOW)])
    gone = await retention.sweep(store, KEEP, NOW)
    assert gone.events == 1
    assert [e.type for e in await store.read(events.newest, PROJECT)] == ["new"]


async def test_pruning_goes_in_slices(store):
    for _ in range(7):
        await add(store, aged(made(), 20), 10)
    first = await store.write(retention.prune, KEEP, NOW, 3)
    assert first.bodies == 3
    assert (await retention.sweep(store, KEEP, NOW)).bodies == 4


async def test_the_database_file_gets_smaller(sqlite, tmp_path):
    """Once there is a quiet moment: a checkpoint of the log is what cuts the file off."""
    def octets() -> int:
        return sum(path.stat().st_size for path in tmp_path.rglob("*.db*"))

    for _ in range(10):
        await sqlite.write(messages.add_many, [aged(made(body=b"x" * 15_000), 20) for _ in range(50)])
    await sqlite.write(lambda conn: conn.exec_driver_sql(f"UPDATE recipients SET ended_at = {NOW - 10 * DAY}") and None)
    before = octets()
    assert before > 500 * 15_000
    gone = await retention.sweep(sqlite, KEEP, NOW)
    assert gone.bodies == 500
    async with asyncio.timeout(60):
        while octets() > before / 4:
            await asyncio.sleep(0.02)


async def test_segments_without_survivors_are_unlinked_and_sparse_ones_moved(sqlite, monkeypatch):
    monkeypatch.setattr(segments, "LENGTH", 100_000)
    gone = [aged(made(body=b"g" * 30_000), 20) for _ in range(11)]
    kept = aged(made(body=b"k" * 20_000), 20)
    for message in (*gone[:5], kept, *gone[5:]):
        await add(sqlite, message, None if message is kept else 10)
    last = await add(sqlite, made(body=b"l" * 30_000))
    before = sqlite.segments.numbers()
    assert len(before) >= 3
    swept = await retention.sweep(sqlite, KEEP, NOW)
    assert swept.bytes > 200_000
    assert len(sqlite.segments.numbers()) < len(before)
    for message in (kept, last):
        assert (await sqlite.read(messages.load, message.id)).body == message.body
