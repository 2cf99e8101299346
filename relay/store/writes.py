"""Writes on their way into a group commit, and how a batch of them runs inside one transaction.

A batch runs in lanes: outcomes of deliveries first, because what has left must be recorded (A4), then mail, then at most a slice of jobs. What goes aside is a
batch of its own, and lets those go first. Writes of one function that takes many items become one call. When anything in the batch fails, it is rolled back to
its start and replayed one write at a time, each under a savepoint, so that a bad message fails alone and never its neighbours (A5). Only a fault of the
database itself fails them all.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError

from relay import log
from relay.errors import Defer, Refuse, RelayError, StoreError
from relay.mail.reply import Reply
from relay.store import bulk, gauges

OUTCOMES, MAIL, JOBS = "outcomes", "mail", "jobs"
ASIDE = "aside"  # slices of a job that goes on for minutes, each safe to repeat: PostgreSQL has them in transactions of their own, beside those of mail
LANES = {OUTCOMES: 0, MAIL: 1, JOBS: 2, ASIDE: 3}

BATCH = 500  # writes of one commit
BATCH_BYTES = 16_000_000  # octets of mail in one commit
SLICE = 1  # jobs of one commit: a job is a slice of 1,000 rows or less, and mail waits at most for one
PASSES = 3  # batches that go before what waits aside, which then has its turn: what mail at full speed leaves of an import is 100 rows of 50 ms
WAITING = 5_000  # writes that may wait; beyond, new mail hears 452
WAITING_BYTES = 256_000_000
LARGEST = WAITING_BYTES // 2  # as which a larger one counts: ten attachments of 25 MB are more than all the room, and must not wait for an idle store

BUSY = Reply(452, "4.3.1", "too much mail is waiting for the disk, try again later")
CANNOT = Reply(554, "5.6.0", "the message cannot be stored")

# SQLite: the disk or the file failed, not the statement. PostgreSQL: connection, deadlock, resources, operator, system (SQLSTATE classes).
_SQLITE = frozenset({"SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY",
                     "SQLITE_CANTOPEN", "SQLITE_PROTOCOL", "SQLITE_NOMEM"})
_POSTGRES = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})
_DATA = frozenset({"22", "23"})  # data exceptions, integrity violations
_UNFIT = frozenset({"IntegrityError", "DataError"})  # the same by the names of PEP 249, whichever driver, with or without SQLAlchemy around it

LOG = log.get("store")


class Write:
    """One function call that waits for its commit. `await write` gives its result; cancelling the one who waits does not undo it.

    many  `args` is an item of a function that takes many; with `each` it is a sequence of them that came together, and the result a list in which
          an item that failed alone has its error
    size  octets of mail, LARGEST at most
    rows  messages or outcomes that it writes, where their number bounds what it costs; 0 = nobody knows
    """

    __slots__ = ("args", "count", "each", "error", "fn", "future", "lane", "many", "result", "rows", "size", "taken")

    def __init__(self, fn: Callable[..., Any], args: Any, many: bool, lane: int, size: int, future: asyncio.Future[Any],
                 each: bool = False, rows: int = 0):
        self.fn, self.args, self.many, self.lane, self.size, self.future, self.each = fn, args, many, lane, min(size, LARGEST), future, each
        self.rows = rows
        self.count = len(args) if each else 1
        self.taken = False  # by the writer, or withdrawn: whoever sets it first has it
        self.result: Any = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        """Tell who waits; on the event loop."""
        self.args = ()  # who still looks at the write itself, such as a thread that has nothing else to do, keeps no large message alive
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Room:
    """Where writes wait, in their lanes: what is there is counted, so that it never grows without bound. Of the event loop alone."""

    __slots__ = ("_aside", "_lanes", "_passed", "bytes", "count")

    def __init__(self) -> None:
        self._lanes: tuple[deque[Write], ...] = tuple(deque() for _ in LANES)
        self._aside = self._lanes[LANES[ASIDE]]
        self._passed = 0  # batches that went past what goes aside
        self.count, self.bytes = 0, 0  # of those that wait and of those on their way

    def __bool__(self) -> bool:
        """Whether any wait."""
        return any(self._lanes)

    def enter(self, write: Write) -> None:
        """Raises Defer when there is no room; outcomes always enter, their number is bounded by who sends them."""
        self.count_in(write)
        self._lanes[write.lane].append(write)

    def count_in(self, write: Write) -> None:
        """As `enter`, of one that goes another way than by a lane."""
        if write.lane and (self.count >= WAITING or self.bytes + write.size > WAITING_BYTES):
            gauges.SHED.labels("store").set(1)
            raise Defer(BUSY)
        self.count += write.count
        self.bytes += write.size

    @property
    def aside_next(self) -> bool:
        """Whether it is the turn of what goes aside."""
        return bool(self._aside) and (self._passed >= PASSES or not any(self._lanes[:LANES[ASIDE]]))

    def take(self) -> list[Write]:
        """The next batch; from now on these cannot be withdrawn."""
        if self.aside_next:
            self._passed = 0
            return self._from(self._aside, SLICE)
        self._passed += bool(self._aside)
        batch: list[Write] = []
        for number, lane in enumerate(self._lanes[:LANES[ASIDE]]):
            batch += self._from(lane, SLICE if number == LANES[JOBS] else BATCH, batch)
        return batch

    @staticmethod
    def _from(lane: deque[Write], most: int, before: Sequence[Write] = ()) -> list[Write]:
        """Up to `most` writes of a lane, as many as a batch may have beside those `before`."""
        count, size = sum(write.count for write in before), sum(write.size for write in before)
        taken: list[Write] = []
        while lane and count < BATCH and len(taken) < most and size < BATCH_BYTES:
            write = lane.popleft()
            if not write.taken:
                write.taken = True
                count, size = count + write.count, size + write.size
                taken.append(write)
        return taken

    def withdraw(self, write: Write) -> bool:
        """Whether the write was taken back before its batch began; it then never happens."""
        if write.taken:
            return False
        write.taken = True
        write.future.cancel()
        self.leave((write,))
        return True

    def leave(self, writes: Iterable[Write]) -> None:
        """They are committed, failed or withdrawn; tell those who wait."""
        for write in writes:
            self.count -= write.count
            self.bytes -= write.size
            write.resolve()
        gauges.WAITING.set(self.count)
        gauges.SHED.labels("store").set(0)


def perform(conn: Connection, writes: list[Write]) -> None:
    """Run the batch in the open transaction: each write has its result or its own error afterwards. Raises what is a fault of the database."""
    bulk.run(conn, "SAVEPOINT batch")
    try:
        _together(conn, writes)
    except Exception as error:
        if fault(error):
            raise
        if len(writes) > 1:
            gauges.REPLAYS.inc()
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT batch")
        for write in writes:
            _alone(conn, write)


def _together(conn: Connection, writes: list[Write]) -> None:
    for fn, group in _grouped(writes):
        if not group[0].many:
            group[0].result = fn(conn, *group[0].args)
            continue
        results = fn(conn, [item for write in group for item in (write.args if write.each else (write.args,))])
        if len(results) != sum(write.count for write in group):
            raise ValueError(f"{fn.__name__} gave {len(results)} results")
        following = iter(results)
        for write in group:
            write.result = [next(following) for _ in write.args] if write.each else next(following)


def _grouped(writes: list[Write]) -> Iterable[tuple[Callable[..., Any], list[Write]]]:
    """By lane, then as they came; the many of one function are one group."""
    groups: dict[Any, list[Write]] = {}
    for write in writes:
        groups.setdefault((write.lane, write.fn) if write.many else (write.lane, id(write)), []).append(write)
    return [(group[0].fn, group) for _, group in sorted(groups.items(), key=lambda each: each[0][0])]


def _alone(conn: Connection, write: Write) -> None:
    if write.each:
        singles = [Write(write.fn, item, True, write.lane, 0, write.future) for item in write.args]
        for single in singles:
            _alone(conn, single)
        write.result = [single.result if single.error is None else single.error for single in singles]
        return
    conn.exec_driver_sql("SAVEPOINT alone")
    try:
        _together(conn, [write])
    except Exception as error:
        if fault(error):
            raise
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT alone")
        write.error = _own(write, error)
    conn.exec_driver_sql("RELEASE SAVEPOINT alone")


def _own(write: Write, error: Exception) -> Exception:
    """What the sender of this write hears: its own refusal, or a permanent one for data that no database takes, or that it is our fault."""
    if isinstance(error, RelayError) or not write.many:
        return error
    LOG.error("write failed", fn=write.fn.__name__, item=str(getattr(write.args, "id", "")), **_told(error))
    cause = getattr(error, "orig", error)
    state = getattr(cause, "sqlstate", None) or ""
    if isinstance(error, (OverflowError, UnicodeError)) or type(cause).__name__ in _UNFIT or state[:2] in _DATA:
        return Refuse(CANNOT)
    return StoreError()


def _told(error: Exception) -> dict[str, str]:
    """What the log says of an error: its kind and its place. Its text may quote the mail."""
    cause = getattr(error, "orig", error)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or ""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": f"{type(error).__name__} {state}".strip(), "at": f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"}


def fault(error: BaseException) -> bool:
    """Whether the database, the disk or the connection failed, not the statement or its data."""
    if isinstance(error, (OSError, MemoryError)) or getattr(error, "connection_invalidated", False):
        return True
    cause = getattr(error, "orig", error)
    name = getattr(cause, "sqlite_errorname", None)
    if name is not None:
        return any(name == bad or name.startswith(f"{bad}_") for bad in _SQLITE)
    state = getattr(cause, "sqlstate", None)  # of asyncpg's errors, with or without SQLAlchemy around them
    return isinstance(error, (DBAPIError, InterfaceError)) if state is None else state[:2] in _POSTGRES


def fail(writes: Iterable[Write], text: str) -> None:
    """Each of them failed with the store."""
    for write in writes:
        write.result, write.error = None, StoreError(text)
