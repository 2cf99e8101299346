"""The store as a whole: what a write promises, and what everybody hears when one of them fails."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from sqlalchemy import select
from sqlalchemy.util import await_only

from relay.errors import ConfigError, Conflict, Defer, Refuse, StoreError
from relay.store import engine, projects, writes
from relay.store.engine import ASIDE, JOBS, OUTCOMES, Store
from relay.store.projects import Project
from relay.store.schema import meta, metadata
from tests.store.conftest import NOW


def put(conn, key, value="x"):
    conn.execute(meta.insert().values(key=key, value=value))
    return key


def put_many(conn, keys):
    conn.execute(meta.insert(), [{"key": key, "value": "many"} for key in keys])
    return [key.upper() for key in keys]


def keys(conn):
    return set(conn.scalars(select(meta.c.key).where(meta.c.key != "epoch")))


async def test_a_write_is_read_back(store):
    assert await store.write(put, "one") == "one"
    assert await store.read(keys) == {"one"}
    assert await store.point(keys) == {"one"}


async def test_waiting_items_of_a_function_are_one_call(store):
    calls = []

    def counted(conn, items):
        calls.append(len(items))
        return put_many(conn, items)

    results = await asyncio.gather(*(store.write_many(counted, f"k{n}") for n in range(50)))
    assert results == [f"K{n}" for n in range(50)]
    assert sum(calls) == 50
    assert len(calls) <= 3
    assert await store.read(keys) == {f"k{n}" for n in range(50)}


async def test_a_bad_item_fails_alone(store):
    await store.write(put, "k3")
    results = await asyncio.gather(*(store.write_many(put_many, f"k{n}") for n in range(8)), return_exceptions=True)
    assert [type(r) for n, r in enumerate(results) if n != 3] == [str] * 7
    assert isinstance(results[3], Refuse)
    assert results[3].reply.code == 554
    assert await store.read(keys) == {f"k{n}" for n in range(8)}


async def test_items_that_came_together_are_answered_together_and_fail_alone(store):
    await store.write(put, "k3")
    results, other = await asyncio.gather(store.write_each(put_many, [f"k{n}" for n in range(8)]), store.write_many(put_many, "other"))
    assert [r for n, r in enumerate(results) if n != 3] == [f"K{n}" for n in range(8) if n != 3]
    assert isinstance(results[3], Refuse)
    assert other == "OTHER"
    assert await store.read(keys) == {"other", *(f"k{n}" for n in range(8))}


@pytest.mark.parametrize("poison", [pytest.param("\ud800", id="lone surrogate"), pytest.param(2**70, id="integer overflow")])
async def test_data_that_no_database_takes_is_refused_for_good(store, poison):
    def poisoned(conn, items):
        for item in items:
            if isinstance(item, int):
                conn.execute(select(metadata.tables["messages"].c.id).where(metadata.tables["messages"].c.id == item)).all()
            else:
                put(conn, item)
        return items

    bad, good = await asyncio.gather(store.write_many(poisoned, poison), store.write_many(poisoned, "good"), return_exceptions=True)
    assert isinstance(bad, Refuse)
    assert good == "good"
    assert await store.read(keys) == {"good"}


async def test_a_fault_of_ours_is_temporary(store):
    def broken(conn, items):
        raise KeyError("bug")

    with pytest.raises(StoreError) as raised:
        await store.write_many(broken, 1)
    assert raised.value.reply.transient


async def test_a_function_reads_one_snapshot(store):
    """What is committed while it reads belongs to the next read: an answer of several statements agrees with itself."""
    loop = asyncio.get_running_loop()

    def meanwhile(key):
        if store.dialect == "sqlite":  # in a thread
            asyncio.run_coroutine_threadsafe(store.write(put, key), loop).result()
        else:
            await_only(store.write(put, key))

    late = itertools.count()  # what reads may be asked anew

    def twice(conn):
        before = keys(conn)
        meanwhile(f"late {next(late)}")
        return before, keys(conn)

    await store.write(put, "early")
    for _ in range(2):
        before, after = await store.read(twice)
        assert "early" in before == after < await store.read(keys)


async def test_a_functions_own_error_reaches_its_caller_alone(store):
    first, second, third = await asyncio.gather(
        store.write(put, "a"), store.write(projects.add, Project(2, "default", {}, NOW)), store.write(put, "b"), return_exceptions=True)
    assert (first, third) == ("a", "b")
    assert isinstance(second, Conflict)
    assert await store.read(keys) == {"a", "b"}


async def test_what_a_failed_write_did_is_undone(store):
    def half(conn):
        put(conn, "half")
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.write(half)
    assert await store.read(keys) == set()


async def test_outcomes_run_before_mail_and_mail_before_jobs(store):
    order = []

    def note(conn, name):
        order.append(name)

    blocker = asyncio.create_task(store.write(put, "first"))
    await asyncio.sleep(0)
    await asyncio.gather(
        blocker, store.write(note, "job", lane=JOBS), store.write(note, "mail"), store.write(note, "outcome", lane=OUTCOMES), store.write(note, "mail 2"))
    assert order == ["outcome", "mail", "mail 2", "job"] or order[0] == "job"  # a job alone in the first batch may be ahead of all
    assert order.index("outcome") < order.index("mail") < order.index("mail 2")


async def test_jobs_go_one_a_batch(store):
    batches = []

    def job(conn, number):
        batches.append((number, conn.exec_driver_sql(_MARK[store.dialect]).scalar()))

    await asyncio.gather(*(store.write(job, n, lane=JOBS) for n in range(4)))
    assert [number for number, _ in batches] == [0, 1, 2, 3]
    assert len({mark for _, mark in batches}) == 4


async def test_mail_passes_what_goes_aside_until_that_has_its_turn(store):
    """On PostgreSQL it has a transaction of its own anyway."""
    order = []

    def note(conn, name):
        order.append((name, conn.exec_driver_sql(_MARK[store.dialect]).scalar()))

    async def mail():
        for number in range(writes.PASSES + 2):
            await store.write(note, number)

    await asyncio.gather(store.write(note, "aside", lane=ASIDE), mail())
    assert len({mark for _, mark in order}) == writes.PASSES + 3  # each in a transaction of its own
    if store.dialect == "sqlite":
        assert [name for name, _ in order] == [*range(writes.PASSES), "aside", writes.PASSES, writes.PASSES + 1]


_MARK = {"sqlite": "PRAGMA user_version", "postgresql": "SELECT pg_current_xact_id()::text"}


async def test_a_cancelled_caller_does_not_undo_the_commit(store):
    task = asyncio.create_task(store.write(put, "kept"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(put, "after")
    assert await store.read(keys) == {"kept", "after"}


async def test_a_write_can_be_withdrawn_only_before_it_begins(store):
    began, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    if store.dialect == "postgresql":
        waiting = store.begin(put, ("waits",), many=False)
        assert store.withdraw(waiting)
        assert waiting.future.cancelled()
        assert not store.withdraw(waiting)
    else:
        import threading

        release = threading.Event()

        def slow(conn):
            loop.call_soon_threadsafe(began.set)
            release.wait(10)

        running = store.begin(slow, (), many=False)
        await began.wait()
        waiting = store.begin(put, ("waits",), many=False)
        assert store.withdraw(waiting)
        assert not store.withdraw(running)
        release.set()
        await running.future
        go.set()
    await store.write(put, "end")
    assert await store.read(keys) == {"end"}


async def test_too_much_waiting_is_refused_for_now_but_outcomes_enter(sqlite, monkeypatch):
    monkeypatch.setattr(writes, "WAITING", 2)
    tasks = [asyncio.create_task(sqlite.write(put, f"k{n}")) for n in range(4)]
    outcome = asyncio.create_task(sqlite.write(put, "outcome", lane=OUTCOMES))
    results = await asyncio.gather(*tasks, outcome, return_exceptions=True)
    assert [isinstance(r, Defer) for r in results] == [False, False, True, True, False]
    assert results[2].reply.code == 452
    assert await sqlite.write(put, "room again") == "room again"


async def test_octets_waiting_are_bounded(sqlite):
    some = [asyncio.create_task(sqlite.write(put, name, size=writes.LARGEST)) for name in ("a", "b")]
    await asyncio.sleep(0)
    with pytest.raises(Defer):
        await sqlite.write(put, "c", size=1)
    await asyncio.gather(*some)
    await sqlite.write(put, "c", size=1)


async def test_one_larger_than_all_the_room_enters_beside_others(sqlite):
    one = asyncio.create_task(sqlite.write(put, "a", size=writes.LARGEST))
    await asyncio.sleep(0)
    assert await sqlite.write(put, "b", size=2 * writes.WAITING_BYTES) == "b"
    assert await one == "a"


async def test_intake_stops_below_min_free_and_departures_below_reserve(sqlite_url, tmp_path):
    huge = 1 << 62
    one = await Store.open(sqlite_url, tmp_path / "data", min_free=huge, reserve=0)
    assert one.intake_open().code == 452
    assert one.departures_open()
    assert await one.write(put, "settling goes on") == "settling goes on"
    one.space.reserve = huge
    assert not one.departures_open()
    await one.close()


@pytest.mark.parametrize("url", ["mysql://host/db", "nonsense", "sqlite://"])
async def test_a_url_that_is_none_names_its_key(url, tmp_path):
    with pytest.raises(ConfigError, match=r"store\.url"):
        await Store.open(url, tmp_path)


async def test_a_database_that_is_away_is_said_so(tmp_path, free_port):
    with pytest.raises(StoreError, match="cannot be opened"):
        await Store.open(f"postgresql://relay@127.0.0.1:{free_port()}/none", tmp_path)


async def test_a_read_only_store_sees_what_another_commits(sqlite, sqlite_url, tmp_path):
    reader = await Store.open(sqlite_url, tmp_path / "data", read_only=True)
    await sqlite.write(put, "seen")
    assert await reader.read(keys) == {"seen"}
    assert reader.peek(keys) == {"seen"}
    await reader.close()


async def test_listeners_hear_what_is_notified(store):
    heard: asyncio.Queue[str] = asyncio.Queue()
    store.listen("queue", heard.put_nowait)
    if store.dialect == "postgresql":
        assert await heard.get() == ""  # once when it began to listen
    store.notify("queue", "example.net")
    assert await heard.get() == "example.net"


async def test_close_commits_what_waits(store_url, tmp_path):
    one = await Store.open(store_url, tmp_path / "data")
    writes_ = [asyncio.create_task(one.write_many(put_many, f"k{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await one.close()
    await asyncio.gather(*writes_)
    two = await Store.open(store_url, tmp_path / "data")
    assert await two.read(keys) == {f"k{n}" for n in range(20)}
    await two.close()


async def test_an_sqlite_that_can_lose_pages_is_refused_unless_accepted(sqlite_url, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "VERSION", (3, 40, 1))
    with pytest.raises(ConfigError, match=r"store\.accept_old_sqlite.*3\.40\.1"):
        await Store.open(sqlite_url, tmp_path / "data")
    await (await Store.open(sqlite_url, tmp_path / "data", accept_old_sqlite=True)).close()
    await (await Store.open(sqlite_url, tmp_path / "data", read_only=True)).close()


async def test_a_failed_write_never_quotes_the_mail(store, capfd):
    def poisoned(conn, items):
        put(conn, items[0])
        put(conn, items[0])

    with pytest.raises(Refuse) as refused:
        await store.write_many(poisoned, "secret words")
    assert "secret" not in str(refused.value)
    assert "secret words" not in capfd.readouterr().err
