"""SQLite: one thread that writes in group commits, a few that read, and point reads on the event loop itself.

Only the writer's connection writes and checkpoints; readers are `query_only` with automatic checkpoints off, which keeps clear of the WAL-reset bug of
SQLite before 3.51.3 in any case. A commit is durable (WAL, synchronous=FULL) before anyone is told.

Everything that waits, up to a bound, is one transaction, and while it is being flushed the next batch gathers: that is all there is to group commit, and no
write waits for a timer. The statements of a small batch (QUICK rows, as mail makes them) run on the event loop, and only the commit, which waits for the disk,
on the writer's thread: the driver lets go of the interpreter at every step, and a thread beside a busy loop waits at each until it comes back (measured: 970 us
of CPU a message between the two, 620 us this way). Larger batches, jobs, and whatever may take long run on the thread as a whole. The writing connection is
lent: to the thread from `_lend` to `_return`, to the loop otherwise.

When a commit fails, its batch hears 451, the database is opened anew and compared: `user_version` counts batches inside their own transaction, so it says
whether this one is there after all; a checkpoint then carries it to the disk before anybody hears 250 (a second fsync of the same pages may lie, fsyncgate).
A second failure in a row sets `failed`, and the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from relay import log
from relay.errors import StoreError
from relay.mail.ids import Maker
from relay.store import faults, gauges, sieve
from relay.store.pages import Samples
from relay.store.segments import Segments
from relay.store.sqlite_file import connect, driver
from relay.store.turns import Turns
from relay.store.writes import JOBS, LANES, Room, Write, fail, fault, perform

READERS = 4  # threads that read
QUICK = 128  # rows of a batch whose statements run on the event loop: 6 ms at most
QUICK_BYTES = 4_000_000  # octets of mail in it
QUIET = 1.0  # seconds without a write after which the WAL is emptied

LOG = log.get("store")


class Sqlite:
    """The embedded backend; see relay.store.engine.Store, which gives it to everybody else."""

    dialect = "sqlite"

    def __init__(self, path: Path, segments: Segments, *, read_only: bool, failed: asyncio.Event):
        self.path, self.segments, self.failed, self.read_only = path, segments, failed, read_only
        self.healthy = True
        self._context = {"ids": Maker(), "segments": segments, "samples": Samples()}
        self._loop = asyncio.get_running_loop()
        self._room = Room()
        self._work: queue.SimpleQueue[tuple[list[Write], Callable[[], None]] | None] = queue.SimpleQueue()
        self._lent, self._scheduled = False, False  # the connection is with the thread; `_begin` will be called
        self._turns = Turns()
        self._pausing: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._failures, self._batch, self._unchecked = 0, 0, False
        self._local, self._opened = threading.local(), []
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self._sieve: sieve.Sieve | None = None
        self._filling: asyncio.Task[None] | None = None

    async def start(self, prepare: Callable[[Connection], None] | None) -> None:
        """Open the file; `prepare` makes or checks the schema on the writing connection."""
        self._readers = ThreadPoolExecutor(READERS, "store-read")
        self._thread = None
        if not self.read_only:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._loop.run_in_executor(self._readers, self._open, prepare)
            self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
            self._thread.start()
        try:
            self._peeking = connect(self.path, self._context, writer=False)
            self._opened.append(self._peeking)
        except DBAPIError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.orig}") from error
        if self.read_only:
            self._sieve = sieve.Sieve.of(self.path)
        elif self._sieve is not None:
            self._filling = self._loop.create_task(self._fill(self._sieve))

    async def close(self) -> None:
        """Commit what waits, empty the WAL, close everything."""
        if self._filling is not None:
            self._filling.cancel()
        if self._thread is not None:
            while self._lent or self._room:
                self._drained = self._loop.create_future()
                await self._drained
            if self._rest is not None:
                self._rest.cancel()
            self._work.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
        self._readers.shutdown(wait=True)
        for conn in self._opened:
            conn.close()
            conn.engine.dispose()
        if self._thread is not None:
            self._conn.close()
        self.segments.close()

    # Reading.

    def peek(self, fn: Callable[..., Any], *args: Any) -> Any:
        """The result of a short indexed read, here and now: 10 us, where the way to a thread and back costs 70."""
        try:
            return fn(self._peeking, *args)
        except DBAPIError as error:
            raise _readable(error) from error

    def unsuppressed(self, project: int, key: str) -> bool:
        return self._sieve is not None and self._sieve.passes(project, key)

    async def _fill(self, empty: sieve.Sieve) -> None:
        """Mark the suppressions that were there before; a fault leaves the sieve incomplete, which only costs reads."""
        last: int | None = 0
        try:
            while last is not None:
                last = await self.read(sieve.fill, empty, last)
        except (StoreError, DBAPIError) as error:
            LOG.warning("every suppression is looked up: the sieve could not be filled", error=str(error))
        else:
            empty.complete()

    async def point(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.peek(fn, *args)

    async def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        try:
            return await self._loop.run_in_executor(self._readers, self._read, fn, args)
        except DBAPIError as error:
            raise _readable(error) from error

    def _read(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        conn = getattr(self._local, "conn", None)
        if conn is None:
            conn = self._local.conn = connect(self.path, self._context, writer=False)
            self._opened.append(conn)
        conn.exec_driver_sql("BEGIN")  # one snapshot for all that fn reads
        try:
            return fn(conn, *args)
        finally:
            conn.exec_driver_sql("COMMIT")

    # Writing.

    def enqueue(self, write: Write) -> None:
        self._room.enter(write)
        self._soon()

    def withdraw(self, write: Write) -> bool:
        return self._room.withdraw(write)

    def _soon(self) -> None:
        """Begin a batch in the turn of the loop after the next, when all that both bring has gathered."""
        if not (self._lent or self._scheduled):
            self._scheduled = True
            self._loop.call_soon(self._loop.call_soon, self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._room.aside_next:
            self._aside(self._loop.time())
        else:
            self._write(self._room.take())

    def _aside(self, now: float) -> None:
        """The next slice, or the checkpoint after some; not before a pause, in which mail finds the connection free."""
        if pause := self._turns.pause(now):
            if self._pausing is None:
                self._pausing = self._loop.call_later(pause, self._paused)
        elif self._turns.copies(now):
            self._lend([], self._copy)
        else:
            self._write(self._room.take())

    def _paused(self) -> None:
        self._pausing = None
        self._soon()

    def _write(self, batch: list[Write]) -> None:
        if not batch:  # all that waited was withdrawn
            self._go_on()
            return
        if any(write.lane < LANES[JOBS] for write in batch):
            self._turns.mailed(self._loop.time())
        self._lend(batch, partial(self._commit, batch, self.healthy and _quick(batch) and self._staged(batch)))

    def _staged(self, batch: list[Write]) -> bool:
        """Whether the batch is in an open transaction; what cannot be done here is done anew, and answered, by the thread."""
        try:
            self._execute(batch)
        except Exception as error:
            LOG.warning("batch begun again", writes=len(batch), error=str(error))
            self.segments.rewind()
            with contextlib.suppress(driver.Error):  # the thread finds the connection as it is
                self._rollback()
            return False
        return True

    def _lend(self, batch: list[Write], act: Callable[[], None]) -> None:
        self._lent = True
        self._work.put((batch, act))

    def _return(self, batch: list[Write]) -> None:
        """The thread is done with this batch."""
        self._lent = False
        self._turns.over(self._loop.time())
        self._room.leave(batch)
        self._go_on()

    def _go_on(self) -> None:
        if self._room:
            self._soon()
        else:
            self._idle()

    def _idle(self) -> None:
        """Nothing waits and nothing is under way."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = self._loop.call_later(QUIET, self._settle_down)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _settle_down(self) -> None:
        """After QUIET without a write: empty the WAL, or try whether the disk takes writes again."""
        if (self._unchecked or not self.healthy) and not (self._lent or self._scheduled):
            self._lend([], self._checkpoint if self.healthy else partial(self._commit, [], False))  # an empty commit tries the disk

    def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        self._listeners.setdefault(channel, []).append(callback)

    def notify(self, channel: str, payload: str = "") -> None:
        for callback in self._listeners.get(channel, ()):
            self._loop.call_soon(callback, payload)

    def measure(self) -> None:
        """Set the size gauges."""
        wal = _size(f"{self.path}-wal")
        gauges.WAL_BYTES.set(wal)
        gauges.BYTES.set(_size(self.path) + wal + self.segments.size())
        gauges.READS_WAITING.labels("store-read").set(self._readers._work_queue.qsize())

    def _open(self, prepare: Callable[[Connection], None] | None) -> None:
        try:
            self._conn = connect(self.path, self._context, writer=True)
            self._raw = self._conn.connection.dbapi_connection
            if prepare is not None:
                prepare(self._conn)
            last = self._raw.execute("SELECT max(id) FROM events").fetchone()[0] if prepare is not None else 0
        except DBAPIError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.orig}") from error
        self._sieve = sieve.watched(self._conn, self.path, self._sieve)
        if last:
            self._context["ids"] = self._conn.info["ids"] = Maker(last=last)
        self._batch = self._raw.execute("PRAGMA user_version").fetchone()[0]

    def _run(self) -> None:
        """The writer's thread."""
        while (given := self._work.get()) is not None:
            batch, act = given
            act()
            self._loop.call_soon_threadsafe(self._return, batch)
        self._checkpoint()

    def _commit(self, batch: list[Write], staged: bool) -> None:
        started = time.perf_counter()
        try:
            self._transact(batch, staged)
        except Exception as error:
            self._recover(batch, error)
        else:
            self.healthy, self._failures = True, 0
        gauges.COMMIT_SECONDS.observe(time.perf_counter() - started)
        gauges.BATCH.observe(len(batch))
        gauges.HEALTHY.set(self.healthy)

    def _execute(self, batch: list[Write]) -> None:
        """Everything of a batch but its commit."""
        self._raw.execute("BEGIN IMMEDIATE")
        faults.point("store.begun")
        perform(self._conn, batch)
        self._raw.execute(f"PRAGMA user_version={_after(self._batch)}")

    def _transact(self, batch: list[Write], staged: bool) -> None:
        if not staged:
            self._execute(batch)
        with gauges.FSYNC_SECONDS.time():
            self.segments.flush()
            faults.point("store.before-commit")
            self._raw.execute("COMMIT")
        self._batch, self._unchecked = _after(self._batch), True
        faults.point("store.committed")

    def _recover(self, batch: list[Write], error: Exception) -> None:
        """Answer a batch whose commit failed, and have a connection that works again or say that there is none."""
        LOG.error("commit failed", writes=len(batch), error=str(error))
        self.healthy = False
        self.segments.rewind()
        if _disk_full(error):
            fail(batch, "the disk is full, try again later")
            self._rollback()
            return
        if fault(error):
            gauges.FSYNC_ERRORS.inc()
            self._failures += 1
        if self._failures > 1 or not self._reopened(_after(self._batch)):
            fail(batch, "the message store is not available, try again later")
        if self._failures > 1:
            self._loop.call_soon_threadsafe(self.failed.set)

    def _reopened(self, batch: int) -> bool:
        """Open the database anew; whether the batch of this number is in it, durable."""
        try:
            self._conn.invalidate()
            self._conn.close()
            self._open(None)
            if self._batch != batch:
                return False
            busy, _, _ = self._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        except (DBAPIError, driver.Error, StoreError, OSError) as error:
            LOG.error("database cannot be opened again", error=str(error))
            self._failures += 1
            return False

    def _rollback(self) -> None:
        if self._raw.in_transaction:  # SQLite rolls back by itself after some errors
            self._raw.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        """Empty the WAL; a reader in the way leaves that to the next quiet moment."""
        self._unchecked = False
        self._checkpointed("TRUNCATE")

    def _copy(self) -> None:
        """Copy what slices left in the WAL, without waiting for readers."""
        self._checkpointed("PASSIVE")

    def _checkpointed(self, how: str) -> None:
        try:
            self._raw.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except driver.Error as error:
            LOG.warning("checkpoint failed", error=str(error))


def _quick(batch: list[Write]) -> bool:
    """Whether the batch's statements are few."""
    return all(write.rows for write in batch) and sum(write.rows for write in batch) <= QUICK and sum(write.size for write in batch) <= QUICK_BYTES


def _after(batch: int) -> int:
    return (batch + 1) & 0x7FFFFFFF  # user_version is a signed 32-bit number


def _disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(getattr(error, "orig", error), "sqlite_errorname", "") == "SQLITE_FULL"


def _readable(error: DBAPIError) -> Exception:
    return StoreError() if fault(error) else error


def _size(path: Path | str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
