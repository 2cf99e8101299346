"""PostgreSQL: the same functions over asyncpg, the writes of a node grouped into one transaction at a time.

While a transaction commits, the next batch gathers, as on SQLite. A connection that breaks during COMMIT leaves open whether the batch is in: the next
connection asks for the fate of its transaction id and answers accordingly. While the server is away, every write hears 451 at once, and a new connection is
tried with growing pauses.

What goes aside has a transaction of its own, as another node's would be: mail does not wait for it, and where both want a row, it is the one that gives up.
So has a large message, one at a time: its hundreds of rows of a megabyte take seconds, for which the mail of others would wait. What others want too, such as
the counters of its project, it writes last.

A read of one statement is its own snapshot and costs one round trip; what asks for more gets a transaction, which costs two further ones.

Other nodes are woken with NOTIFY; a listener that had to reconnect calls everybody once, because it may have missed something.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import orjson
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from relay import log
from relay.errors import StoreError
from relay.mail.ids import Maker
from relay.store import faults, gauges
from relay.store.pages import Samples
from relay.store.pieces import LARGE
from relay.store.writes import ASIDE, JOBS, LANES, MAIL, Room, Write, fail, fault, perform

POOL = 8  # connections that read
CONNECT = 5.0  # seconds to connect
PATIENCE = 30.0  # seconds of one statement of a batch
ASIDES = 2  # transactions beside that of mail
YIELDS = 500  # milliseconds for which one of those waits for a row; a deadlock is looked for after 1,000
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds between tries to reconnect; the last one repeats

UNAVAILABLE = "the message store is not available, try again later"

LOG = log.get("store")

_STATUS = "SELECT pg_xact_status($1::text::xid8)"
_LOST = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError)


class Postgres:
    """The shared backend; see relay.store.engine.Store, which gives it to everybody else."""

    dialect = "postgresql"

    def __init__(self, url: str, *, read_only: bool, failed: asyncio.Event):
        self.failed, self.read_only = failed, read_only
        self.healthy = True
        self._dsn = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._context = {"ids": Maker(), "samples": Samples()}
        self._room, self._wake, self._closing = Room(), asyncio.Event(), False
        self._conn: AsyncConnection | None = None
        self._failures, self._retry_at = 0, 0.0
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self._listening: asyncpg.Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._beside: set[asyncio.Task[None]] = set()
        self._gate, self._large = asyncio.Semaphore(ASIDES), asyncio.Semaphore(1)
        self._listener_lost = asyncio.Event()
        self._measuring: asyncio.Task[None] | None = None
        self._engine = create_async_engine(
            self._dsn.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=POOL, max_overflow=2, pool_timeout=CONNECT, hide_parameters=True,
            connect_args={"timeout": CONNECT, "command_timeout": PATIENCE, "server_settings": {"application_name": "relay", "jit": "off"}},
            json_serializer=lambda value: orjson.dumps(value).decode(), json_deserializer=orjson.loads)
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ")  # one snapshot for all that a function reads, as on SQLite
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._longer: set[Any] = set()  # code of functions that have been seen to read more than one statement
        event.listen(self._single.sync_engine, "before_cursor_execute", _first_only)
        event.listen(self._engine.sync_engine, "connect", lambda _raw, record: record.info.update(self._context))

    async def start(self, prepare: Callable[[Connection], None] | None) -> None:
        """Connect; `prepare` makes or checks the schema."""
        try:
            async with self._engine.begin() as conn:
                if prepare is not None:
                    await conn.run_sync(prepare)
        except _LOST as error:
            raise StoreError(f"the database cannot be opened: {error}") from error
        if not self.read_only:
            self._tasks.append(asyncio.create_task(self._run(), name="store-write"))

    async def close(self) -> None:
        """Commit what waits, then disconnect."""
        self._closing = True
        self._wake.set()
        if self._tasks:
            await self._tasks[0]
        await asyncio.gather(*self._beside)
        if self._measuring is not None:
            self._tasks.append(self._measuring)
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        if self._conn is not None:
            with contextlib.suppress(*_LOST):
                await self._conn.close()
        await self._engine.dispose()

    # Reading.

    def unsuppressed(self, project: int, key: str) -> bool:
        """Nothing is known without asking: other nodes write too."""
        return False

    async def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        """fn(conn, *args), all of it from one snapshot: tried as a read of one statement, and asked anew in a transaction when it wants a second one."""
        code = getattr(fn, "__code__", fn)
        if code not in self._longer:
            try:
                return await self._read(self._single, fn, *args)
            except _Longer:
                self._longer.add(code)
        return await self._read(self._reading, fn, *args)

    async def _read(self, engine: AsyncEngine, fn: Callable[..., Any], *args: Any) -> Any:
        try:
            return await greenlet_spawn(_asked, engine.sync_engine, fn, *args)
        except _LOST as error:
            if isinstance(error, SQLAlchemyError) and not fault(error):
                raise
            raise StoreError() from error

    point = read

    def peek(self, fn: Callable[..., Any], *args: Any) -> Any:
        raise RuntimeError("there is no synchronous read on PostgreSQL; use point")

    # Writing.

    def enqueue(self, write: Write) -> None:
        if write.lane == LANES[ASIDE]:
            write.taken = True
            self._spawn(self._aside(write), "store-aside")
        elif write.lane == LANES[MAIL] and write.size >= LARGE:
            self._room.count_in(write)
            self._spawn(self._apart(write), "store-large")
        else:
            self._room.enter(write)
            self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _aside(self, write: Write) -> None:
        """One write in a transaction of its own; what becomes of it when the connection breaks in COMMIT nobody knows, so it is safe to repeat."""
        try:
            async with self._gate, self._engine.connect() as conn, conn.begin():
                faults.point("store.begun")
                await conn.exec_driver_sql(f"SET LOCAL lock_timeout = {YIELDS}")
                write.result = await conn.run_sync(write.fn, *write.args)
                faults.point("store.before-commit")
            faults.point("store.committed")
        except Exception as error:
            write.error = StoreError() if fault(error) or isinstance(error, asyncpg.InterfaceError) else error
        write.resolve()

    async def _apart(self, write: Write) -> None:
        """One large write of mail in a transaction of its own, when it is its turn; unless it was withdrawn while it waited."""
        async with self._large:
            if write.taken:
                return
            write.taken = True
            xid: list[str] = []
            try:
                async with self._engine.connect() as conn, conn.begin():
                    faults.point("store.begun")
                    await conn.run_sync(_perform, [write], xid)
                    faults.point("store.before-commit")
                faults.point("store.committed")
            except Exception as error:
                LOG.error("commit failed", writes=1, error=str(error))
                gauges.FSYNC_ERRORS.inc()
                if not (xid and await self._fate(xid[0])):
                    fail([write], UNAVAILABLE)
        self._room.leave([write])

    async def _fate(self, xid: str) -> bool:
        """Whether this transaction is in, asked on a connection of the pool; False where nobody can say."""
        with contextlib.suppress(*_LOST):
            async with self._engine.connect() as conn:
                return (await conn.exec_driver_sql(_STATUS, (xid,))).scalar_one() == "committed"
        return False

    def withdraw(self, write: Write) -> bool:
        return self._room.withdraw(write)

    def measure(self) -> None:
        """Ask for the size of the database, one question at a time; its server may be away, and other nodes' mail counts too."""
        if self.healthy and (self._measuring is None or self._measuring.done()):
            self._measuring = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        with contextlib.suppress(StoreError):
            gauges.BYTES.set(await self.read(_database_size))

    async def _run(self) -> None:
        while True:
            batch = self._room.take()
            if batch or (not self.healthy and not self._closing):
                await self._commit(batch)
                self._room.leave(batch)
                if batch and not self.healthy:
                    await asyncio.sleep(0)
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()
            if not self.healthy and not self._room and not self._closing:
                await self._pause()

    async def _pause(self) -> None:
        """Until the next try to reconnect, or a write that wants its 451."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, self._retry_at - time.monotonic())):
                await self._wake.wait()

    async def _commit(self, batch: list[Write]) -> None:
        started = time.perf_counter()
        xid: list[str] = []
        try:
            conn = await self._connection()
            async with conn.begin():
                faults.point("store.begun")
                await conn.run_sync(_perform, batch, xid)
                faults.point("store.before-commit")
                committing = time.perf_counter()
            gauges.FSYNC_SECONDS.observe(time.perf_counter() - committing)
            faults.point("store.committed")
        except Exception as error:
            await self._recover(batch, error, xid)
        else:
            self.healthy, self._failures = True, 0
        gauges.COMMIT_SECONDS.observe(time.perf_counter() - started)
        gauges.BATCH.observe(len(batch))
        gauges.HEALTHY.set(self.healthy)

    async def _connection(self) -> AsyncConnection:
        """The writing connection, opened anew when it is gone and the pause is over."""
        if self._conn is None:
            if time.monotonic() < self._retry_at:
                raise StoreError()
            self._conn = await self._engine.connect()
        return self._conn

    async def _recover(self, batch: list[Write], error: Exception, xid: list[str]) -> None:
        """Answer a batch whose commit failed: as it turns out after all, or 451."""
        waiting = isinstance(error, StoreError)
        if not waiting:
            LOG.error("commit failed", writes=len(batch), error=str(error))
            gauges.FSYNC_ERRORS.inc()
            await self._disconnect()
        if xid and await self._committed(xid[0]):
            self.healthy = True
            return
        self.healthy = False
        fail(batch, UNAVAILABLE)
        if not waiting:
            self._retry_at = time.monotonic() + PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1

    async def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(*_LOST):
                await conn.invalidate()
                await conn.close()

    async def _committed(self, xid: str) -> bool:
        """Whether the transaction is in, asked on a new connection."""
        try:
            self._conn = await self._engine.connect()
            status = (await self._conn.exec_driver_sql(_STATUS, (xid,))).scalar_one()
            await self._conn.rollback()
        except _LOST:
            await self._disconnect()
            return False
        return status == "committed"

    # Wake-ups between nodes.

    def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        self._listeners.setdefault(channel, []).append(callback)
        if not any(task.get_name() == "store-listen" for task in self._tasks):
            self._tasks.append(asyncio.create_task(self._listen(), name="store-listen"))
        elif self._listening is not None:
            self._listener_lost.set()  # reconnect with the new channel

    def notify(self, channel: str, payload: str = "") -> None:
        """Wake the listeners of every node soon; one that misses it finds the work when it next looks."""
        if not self._closing:
            self.enqueue(Write(_notify, (channel, payload), False, LANES[JOBS], 0, _unheard()))

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                self._listening = conn = await asyncpg.connect(self._dsn, timeout=CONNECT)
                self._listener_lost.clear()
                conn.add_termination_listener(lambda _: self._listener_lost.set())
                for channel in list(self._listeners):  # one may be added meanwhile
                    await conn.add_listener(channel, self._heard)
                failures = 0
                for channel in self._listeners:
                    self._heard(conn, 0, channel, "")
                await self._listener_lost.wait()
            except _LOST as error:
                LOG.warning("listening failed", error=str(error))
                failures += 1
            finally:
                if self._listening is not None:
                    self._listening.terminate()
                    self._listening = None
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)] if failures else 0)

    def _heard(self, _conn: Any, _pid: int, channel: str, payload: str) -> None:
        for callback in self._listeners.get(channel, ()):
            callback(payload)


class _Longer(Exception):
    """A function that reads a second statement, which would be of another snapshot."""


def _asked(engine: Engine, fn: Callable[..., Any], *args: Any) -> Any:
    """From checkout to return in one go: an AsyncConnection would take a task to close itself."""
    with engine.connect() as conn:
        conn.info["asked"] = False
        return fn(conn, *args)


def _first_only(conn: Connection, *_statement: Any) -> None:
    if conn.info["asked"]:
        raise _Longer
    conn.info["asked"] = True


def _perform(conn: Connection, batch: list[Write], xid: list[str]) -> None:
    xid.append(conn.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one())
    perform(conn, batch)


def _database_size(conn: Connection) -> int:
    return conn.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()


def _notify(conn: Connection, channel: str, payload: str) -> None:
    conn.exec_driver_sql("SELECT pg_notify($1::text, $2::text)", (channel, payload))


def _unheard() -> asyncio.Future[Any]:
    """A future whose failure nobody needs to know."""
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
