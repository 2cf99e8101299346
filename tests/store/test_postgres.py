"""PostgreSQL's own promises: a connection that breaks, a server that goes away, a commit whose answer is lost, wake-ups between nodes."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from relay.errors import NotFound, StoreError
from relay.store import messages, pieces, projects
from relay.store.engine import ASIDE, Store
from relay.store.writes import fault
from tests.store.conftest import made
from tests.store.test_engine import keys, put
from tests.support import postgres


@pytest.fixture
async def store(postgres_url, tmp_path):
    opened = await Store.open(postgres_url, tmp_path / "data", min_free=0, reserve=0)
    yield opened
    await opened.close()


async def kill_connections(url: str) -> None:
    """End every connection to the database but our own; they have ended."""
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    await connection.close()


async def until_it_works(store, key):
    """Write until the store has reconnected; how often it was refused."""
    for tries in range(200):
        try:
            await store.write(put, key)
        except StoreError:
            await asyncio.sleep(0.02)
        else:
            return tries
    pytest.fail("the store did not come back")


async def test_a_broken_connection_is_replaced(store, postgres_url):
    await store.write(put, "before")
    await kill_connections(postgres_url)
    await until_it_works(store, "after")
    assert store.healthy
    async with asyncio.timeout(60):
        while True:
            try:
                assert await store.read(keys) == {"before", "after"}
                break
            except StoreError:  # one of the pool's that was killed
                continue


async def test_one_statement_is_read_alone_and_more_in_a_transaction(store):
    """A function is asked anew when it wants a second statement, once; from then on it begins in a transaction."""
    calls = []

    def level(conn):
        return conn.exec_driver_sql("SHOW transaction_isolation").scalar_one()

    def twice(conn):
        calls.append("twice")
        return [level(conn), level(conn)]

    assert await store.read(level) == "read committed"
    assert await store.read(twice) == await store.read(twice) == ["repeatable read", "repeatable read"]
    assert len(calls) == 3
    assert await store.read(level) == "read committed"


async def test_a_commit_whose_answer_is_lost_is_asked_for(store, postgres_url):
    """The connection ends after the server has committed and before we hear so: the writes are in, and their callers hear that they are."""
    await store.write(put, "before")
    backend = store._backend
    connection = await backend._connection()
    original = connection.sync_connection.dialect.do_commit

    def commit_and_lose(raw):
        original(raw)
        connection.sync_connection.dialect.do_commit = original
        raise asyncpg.InterfaceError("connection is closed")

    connection.sync_connection.dialect.do_commit = commit_and_lose
    try:
        assert await store.write(put, "in doubt") == "in doubt"
    finally:
        connection.sync_connection.dialect.do_commit = original
    assert "in doubt" in await store.read(keys)


@pytest.mark.limit(400)
async def test_mail_does_not_wait_for_what_goes_aside(store):
    begun, goes_on = asyncio.Event(), asyncio.Event()

    def long(conn, key):
        put(conn, key)
        begun.set()
        await_only(goes_on.wait())

    aside = asyncio.create_task(store.write(long, "aside", lane=ASIDE))
    await begun.wait()
    await store.write(put, "mail")
    assert await store.read(keys) == {"mail"}
    goes_on.set()
    await aside
    assert await store.read(keys) == {"mail", "aside"}


async def test_what_goes_aside_gives_up_where_others_want_the_same(store, postgres_url):
    await store.write(put, "row")
    other = await asyncpg.connect(postgres_url)
    await other.execute("BEGIN; LOCK TABLE meta")
    with pytest.raises(StoreError):
        await store.write(put, "aside", lane=ASIDE)
    await other.close()
    await store.write(put, "aside", lane=ASIDE)
    assert await store.read(keys) == {"row", "aside"}
    assert store.healthy


class Held:
    """A write that is under way until it is let go on."""

    def __init__(self):
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    def __call__(self, conn, key):
        put(conn, key)
        self.begun.set()
        await_only(self.goes_on.wait())


@pytest.mark.limit(400)
async def test_mail_does_not_wait_for_a_large_message_of_another_project(store):
    large, held = made("ann@example.net", body=bytes(pieces.LARGE), project=1), Held()

    def accept(conn, submission):
        answers = messages.accept_many(conn, [submission])
        held(conn, "large")
        return answers

    for project in (1, 2):
        await store.write(projects.add, projects.Project(project, f"p{project}", {}, 0.0))
    writing = store.begin(accept, ((large,),), many=False, size=large.size)
    await held.begun.wait()
    small = made("bob@example.net", project=2)
    assert await store.write_many(messages.accept_many, (small,), size=small.size) == small.id
    with pytest.raises(NotFound):
        await store.read(messages.load, large.id)
    held.goes_on.set()
    assert await writing.future == [large.id]
    assert (await store.read(messages.load, large.id)).body == large.body
    assert store._backend._room.count == 0


@pytest.mark.limit(400)
async def test_a_large_message_may_be_taken_back_until_it_is_its_turn(store):
    first, second = Held(), Held()
    under_way = store.begin(first, ("first",), many=False, size=pieces.LARGE)
    await first.begun.wait()
    waiting = store.begin(second, ("second",), many=False, size=pieces.LARGE)
    assert not store.withdraw(under_way)
    assert store.withdraw(waiting)
    first.goes_on.set()
    await under_way.future
    await store.close()  # awaits what is still on its way
    assert waiting.future.cancelled()
    assert not second.begun.is_set()
    assert store._backend._room.count == 0


async def test_a_large_message_whose_commit_was_answered_to_nobody_is_asked_for(store):
    dialect = store._backend._engine.sync_engine.dialect
    original = dialect.do_commit
    wanted = Held()
    wanted.goes_on.set()

    def commit_and_lose(raw):
        original(raw)
        if wanted.begun.is_set():
            dialect.do_commit = original
            raise asyncpg.InterfaceError("connection is closed")

    dialect.do_commit = commit_and_lose
    try:
        await store.begin(wanted, ("in doubt",), many=False, size=pieces.LARGE).future
    finally:
        dialect.do_commit = original
    assert await store.read(keys) == {"in doubt"}


async def test_a_large_message_whose_connection_breaks_is_refused_for_now_and_not_kept(store, postgres_url):
    held = Held()
    writing = store.begin(held, ("lost",), many=False, size=pieces.LARGE)
    await held.begun.wait()
    await kill_connections(postgres_url)
    held.goes_on.set()
    with pytest.raises(StoreError) as refused:
        await writing.future
    assert refused.value.reply.transient
    await until_it_works(store, "after")
    connection = await asyncpg.connect(postgres_url)
    assert [row["key"] for row in await connection.fetch("SELECT key FROM meta WHERE key IN ('lost', 'after')")] == ["after"]
    await connection.close()


async def test_a_server_that_goes_away_and_comes_back(tmp_path):
    with tempfile.TemporaryDirectory(prefix="relay-pg-") as name, postgres.cluster(Path(name)) as server:  # tmp_path is closed to the server's user
        directory = Path(name)
        url = await server.create()
        store = await Store.open(url, tmp_path / "data", min_free=0, reserve=0)
        heard: asyncio.Queue[str] = asyncio.Queue()
        store.listen("queue", heard.put_nowait)
        await heard.get()
        await store.write(put, "before")
        _control(directory, "stop", "-m", "immediate")
        with pytest.raises(StoreError) as refused:
            await store.write(put, "away")
        assert refused.value.reply.transient
        assert not store.healthy
        assert store.intake_open().code == 451
        assert not store.departures_open()
        port = url.rpartition(":")[2].partition("/")[0]
        _control(directory, "start", "-w", "-l", "log2", "-o", f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=")
        try:
            async with asyncio.timeout(60):
                while not store.healthy:  # it looks by itself, nobody has to write
                    await asyncio.sleep(0.05)
            await store.write(put, "after")
            assert {"before", "after"} <= await store.read(keys)
            assert await heard.get() == ""  # it may have missed something
            store.notify("queue", "again")
            assert await heard.get() == "again"
            await store.close()
        finally:
            _control(directory, "stop", "-m", "immediate")


def _control(directory: Path, *words: str) -> None:
    command = [*postgres._as_user(), postgres.need("pg_ctl"), "-D", str(directory / "data"), *words]
    subprocess.run(command, check=True, timeout=150, cwd=directory, stdout=subprocess.DEVNULL)


async def test_nodes_hear_each_other(store, postgres_url, tmp_path):
    other = await Store.open(postgres_url, tmp_path / "other", min_free=0, reserve=0)
    heard: asyncio.Queue[str] = asyncio.Queue()
    store.listen("queue", heard.put_nowait)
    assert await heard.get() == ""
    other.notify("queue", "example.net")
    assert await heard.get() == "example.net"
    await other.close()


async def test_two_nodes_accept_at_the_same_time(store, postgres_url, tmp_path):
    other = await Store.open(postgres_url, tmp_path / "other", min_free=0, reserve=0)
    await store.write(lambda conn: conn.exec_driver_sql("INSERT INTO projects VALUES (1, 'default', '{}', 1.0)") and None)
    given = [made() for _ in range(60)]
    await asyncio.gather(*((store, other)[n % 2].write_many(messages.add_many, m) for n, m in enumerate(given)))
    assert await other.read(messages.count) == 60
    await other.close()


@pytest.mark.parametrize(("error", "failed"), [
    (asyncpg.ConnectionDoesNotExistError(), True), (asyncpg.AdminShutdownError(), True), (asyncpg.DiskFullError(), True),
    (asyncpg.LockNotAvailableError(), True), (asyncpg.CharacterNotInRepertoireError(), False), (asyncpg.UniqueViolationError(), False),
    (asyncpg.UndefinedTableError(), False),
], ids=lambda each: type(each).__name__)
def test_an_error_of_the_driver_counts_as_one_of_sqlalchemy_s_does(error, failed):
    """COPY goes to the driver itself."""
    assert fault(error) is failed
    assert fault(DBAPIError("COPY", {}, error)) is failed
