"""Who delivers where several relays share a PostgreSQL: one at a time, and nobody who is not sure of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import update

from relay import leader
from relay.errors import Defer, StoreError
from relay.leader import Leader
from relay.store import leases, sites
from relay.store.engine import JOBS
from relay.store.schema import leases as table
from tests.queue.conftest import Bench, running, settings, until

OTHER = "the other node"


@pytest.fixture
async def bench(postgres_url, tmp_path, monkeypatch) -> AsyncIterator[Bench]:
    """A node on whose clock seconds are tenths."""
    monkeypatch.setattr(leader, "RENEW", 0.2)
    monkeypatch.setattr(leader, "DOUBT", 0.4)
    async with running(postgres_url, tmp_path, settings(), held=True) as made:
        yield made


@contextlib.asynccontextmanager
async def leading(bench: Bench) -> AsyncIterator[tuple[Leader, asyncio.Task[None]]]:
    """A node that has joined, and its wish to deliver."""
    node, begun = Leader(bench.store, bench.runner), asyncio.Event()
    await node.join()
    task = asyncio.create_task(node.run(begun.wait))
    try:
        yield node, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bench.runner.stopping = False


async def ended(task: asyncio.Task[None]) -> None:
    """It gave up by itself, long before a statement of a silent database does (30 s)."""
    done, _ = await asyncio.wait([task], timeout=20.0)
    assert done
    assert task.exception().subgroup(StoreError), "the lease to deliver"


async def test_one_waits_until_the_other_is_gone(bench):
    assert await bench.store.write(leases.take, "delivery", OTHER)
    async with leading(bench) as (node, _):
        refused = [await node._take() for _ in range(3)]
        assert (refused, node.leading) == ([False] * 3, False)
        await bench.store.write(leases.release, "delivery", OTHER)
        await until(lambda: node.leading)
        assert await bench.store.read(leases.holder, "delivery") != OTHER


async def test_one_that_another_has_replaced_stops(bench):
    async with leading(bench) as (node, task):
        await until(lambda: node.leading)
        await bench.store.write(lambda conn: conn.execute(update(table).where(table.c.name == "delivery").values(node=OTHER)))
        await ended(task)
        assert bench.runner.stopping


async def test_one_whose_store_takes_no_more_mail_keeps_its_lease(bench):
    async with leading(bench) as (node, task):
        await until(lambda: node.leading)
        bench.store._backend._room.bytes += 1 << 62
        try:
            with pytest.raises(Defer):
                await bench.store.write(leases.take, "another", OTHER)
            assert await node._take()
            assert not task.done()
        finally:
            bench.store._backend._room.bytes -= 1 << 62


async def test_one_whose_database_keeps_silent_stops_before_its_lease_ends(bench, postgres_url):
    async with leading(bench) as (node, task):
        await until(lambda: node.leading)
        line = await asyncpg.connect(postgres_url)
        try:
            async with line.transaction():
                await line.execute("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
                await ended(task)
                assert bench.runner.stopping
        finally:
            await line.close()


async def test_one_whose_number_another_has_taken_makes_no_more_ids(bench):
    node = Leader(bench.store, bench.runner)
    await node.join()
    keeping = asyncio.create_task(node.keep_slot())
    await bench.store.write(lambda conn: conn.execute(update(table).where(table.c.name == f"node:{node.slot}").values(node=OTHER)))
    done, _ = await asyncio.wait([keeping], timeout=20.0)
    assert done
    assert isinstance(keeping.exception(), StoreError)
    again = Leader(bench.store, bench.runner)
    await again.join()
    assert again.slot != node.slot


async def test_a_suspension_whose_notice_was_lost_is_found_with_the_line(bench):
    """Another node suspended a site while this one was not listening: it learns so when it listens again."""
    async with leading(bench) as (node, _):
        await until(lambda: node.leading)
        await bench.store.write(sites.suspend, "far.test", None, "by hand", True, bench.clock.now())
        bench.store.listen("anything", lambda _: None)  # which opens the line anew
        assert (await until(lambda: bench.runner.dispatch.suspended.get("far.test")))[1] == "by hand"
        assert "near.test" not in bench.runner.dispatch.suspended


async def test_a_resumption_whose_notice_was_lost_is_found_with_the_line(bench):
    """What another node resumed meanwhile gets mail again; what this one suspended a moment ago stays suspended, though its row may be on its way."""
    async with leading(bench) as (node, _):
        await until(lambda: node.leading)
        now = bench.clock.now()
        bench.runner.suspend("far.test")
        own = asyncio.ensure_future(bench.store.write(sites.suspend, "near.test", now + 60.0, "busy", False, now, lane=JOBS))
        bench.runner.suspend("near.test", now + 60.0, "busy")
        bench.store.listen("anything", lambda _: None)  # which opens the line anew
        await until(lambda: "far.test" not in bench.runner.dispatch.suspended)
        assert list(bench.runner.suspended()) == ["near.test"]
        await own
