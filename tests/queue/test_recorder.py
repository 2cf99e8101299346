"""Outcomes reach the disk: grouped, bounded, never lost while the store is away, and a bad one alone."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from relay.errors import StoreError
from relay.mail.reply import Reply
from relay.queue import recorder
from relay.queue.recorder import UNWRITTEN, Recorder
from relay.store.queue import Settlement, settle_many
from tests.queue.conftest import until


class Disk:
    """A store that commits when it is let, and fails as it is told."""

    def __init__(self):
        self.batches, self.fails, self.bad, self.gate = [], 0, set(), asyncio.Event()
        self.gate.set()

    def departures_open(self):
        return True

    async def write(self, _fn, batch, *, lane, rows):
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise StoreError("disk full")
        if self.bad & {each.recipient_id for each in batch}:
            raise ValueError("no database takes this")
        self.batches.append([each.recipient_id for each in batch])


def outcome(number):
    return Settlement(number, number, 1, "delivered", Reply(250, "2.0.0", "ok"), 0.0)


@contextlib.asynccontextmanager
async def recording():
    disk, written = Disk(), []
    made = Recorder(disk, lambda batch: written.extend(each.recipient_id for each in batch), settle_many, written.clear)
    task = asyncio.create_task(made.run())
    yield disk, made, written
    task.cancel()


async def test_what_gathers_during_a_commit_is_written_together():
    async with recording() as (disk, made, written):
        disk.gate.clear()
        made.add(outcome(0))
        await asyncio.sleep(0)
        await until(lambda: made._writing)
        for number in range(1, 50):
            made.add(outcome(number))
        disk.gate.set()
        assert await made.flushed(5.0)
    assert disk.batches == [[0], list(range(1, 50))]
    assert written == list(range(50))


async def test_nothing_starts_while_too_much_is_unwritten():
    async with recording() as (disk, made, _):
        disk.gate.clear()
        for number in range(UNWRITTEN):
            assert made.ready
            made.add(outcome(number))
        assert not made.ready
        waits = asyncio.create_task(made.room())
        await asyncio.sleep(0.01)
        assert not waits.done()
        disk.gate.set()
        await asyncio.wait_for(waits, 5.0)
        assert made.ready


async def test_a_store_that_is_away_loses_no_outcome_and_lets_nothing_start(monkeypatch):
    monkeypatch.setattr(recorder, "AGAIN", 0.05)
    async with recording() as (disk, made, written):
        disk.fails = 3
        made.add(outcome(1))
        await until(lambda: disk.fails < 3)
        assert not made.ready
        await asyncio.wait_for(made.room(), 5.0)
        assert written == [1]


async def test_a_bad_outcome_fails_alone_and_is_not_taken_for_written():
    async with recording() as (disk, made, written):
        disk.bad = {3}
        disk.gate.clear()
        for number in range(6):
            made.add(outcome(number))
        disk.gate.set()
        assert await made.flushed(5.0)
    assert written == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("patience", [0.01])
async def test_the_end_does_not_wait_for_ever_for_a_dead_store(patience):
    async with recording() as (disk, made, _):
        disk.gate.clear()
        made.add(outcome(1))
        assert not await made.flushed(patience)
        disk.gate.set()
