"""The store: the one way to the database, whichever it is.

    store = await Store.open("sqlite:///var/relay.db", data_dir, clock=clock)
    await store.write(projects.add, project)            durable when it returns
    await store.write_many(messages.add_many, message)  grouped: one call of add_many(conn, [message, ...]) for all that wait
    await store.write_each(messages.add_many, [a, b])   the same for items that came together; a list, with its error in the place of one that failed
    await store.read(messages.get, message_id)          in a thread (SQLite) or on a connection of the pool (PostgreSQL), all of it from one snapshot
    await store.point(suppressions.find, ...)           a short indexed read; on SQLite it never suspends

A noun's functions are plain functions of a SQLAlchemy Connection, the same for both databases; they neither commit nor know who called. A write returns after
the group commit that holds it is on the disk. Cancelling who waits does not undo it: only `withdraw` does, and only before the writer has begun it (A3).

What a caller can hear: the errors of the function itself, Defer (452) when too much waits, StoreError (451) when the database failed; then nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from relay.clock import Clock
from relay.errors import ConfigError
from relay.mail.reply import Reply
from relay.store import epoch, migrations
from relay.store.segments import Segments
from relay.store.space import Space
from relay.store.sqlite import Sqlite
from relay.store.sqlite_file import SAFE, VERSION
from relay.store.writes import ASIDE, JOBS, LANES, MAIL, OUTCOMES, Write

MIN_FREE = 512_000_000  # bytes
RESERVE = 64_000_000  # bytes
WATCH = 5.0  # seconds between looks at sizes, for the metrics

DOWN = Reply(451, "4.3.0", "the message store is not available, try again later")


class Store:
    """An open store. One event loop owns it; `write` and `read` are called on that loop."""

    def __init__(self, backend: Any, space: Space, clock: Clock, data_dir: Path, failed: asyncio.Event):
        self.space, self.clock, self.data_dir = space, clock, data_dir
        self.failed = failed  # set when the store cannot go on: the process must end
        self.restored = False  # from a backup: nothing may be delivered before `accept`
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self.read, self.point, self.peek = backend.read, backend.point, backend.peek
        self.listen, self.notify, self.withdraw = backend.listen, backend.notify, backend.withdraw
        self.unsuppressed = backend.unsuppressed  # (project, key) -> whether there is certainly no suppression of the address; False says nothing

    @classmethod
    async def open(
        cls, url: str, data_dir: Path | str, *, clock: Clock | None = None, read_only: bool = False, migrate: bool | None = None,
        min_free: int = MIN_FREE, reserve: int = RESERVE, accept_old_sqlite: bool = False,
    ) -> Store:
        """An open store with a schema of this version.

        url        "sqlite:///path" or "postgresql://user:password@host/database"; "" = relay.db in data_dir
        read_only  neither writes nor migrates, and may be opened beside a running relay
        migrate    True: bring an older schema up to date; None: on SQLite only (after a copy); a new database always gets its schema

        accept_old_sqlite  write with an SQLite older than 3.51.3, which can lose pages when a checkpoint meets a writer

        Raises ConfigError for a url that is none, StoreError for a database that is away, or whose schema is newer, or older and not to be migrated.
        """
        clock, data_dir, failed = clock or Clock(), Path(data_dir), asyncio.Event()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        backend = _backend(url, data_dir, read_only, failed)
        if backend.dialect == "sqlite" and VERSION < SAFE and not (read_only or accept_old_sqlite):
            raise ConfigError("store.accept_old_sqlite", f"this SQLite is {'.'.join(map(str, VERSION))}, and before {'.'.join(map(str, SAFE))} a "
                              "checkpoint that meets a writer can lose data; install pysqlite3 or a newer SQLite, or set it to true")
        restored = False

        def prepare(conn: Connection) -> None:
            nonlocal restored
            embedded = backend.dialect == "sqlite"
            migrations.prepare(conn, migrate=embedded if migrate is None else migrate)
            restored = embedded and epoch.restored(conn, data_dir)

        try:
            await backend.start(None if read_only else prepare)
            if read_only:
                await backend.read(migrations.check)
        except BaseException:
            await backend.close()
            raise
        store = cls(backend, Space(data_dir, clock, min_free, reserve), clock, data_dir, failed)
        store.restored = restored
        store._watch()
        return store

    async def accept(self) -> None:
        """An operator has looked at a restored store: it is the store of this directory from now on."""
        await self.write(epoch.accept, self.data_dir)
        self.restored = False

    @property
    def dialect(self) -> str:
        """ "sqlite" or "postgresql". """
        return self._backend.dialect

    @property
    def healthy(self) -> bool:
        """Whether the last commit worked."""
        return self._backend.healthy

    @property
    def path(self) -> Path | None:
        """The database file, on SQLite."""
        return getattr(self._backend, "path", None)

    @property
    def segments(self) -> Segments | None:
        """Where large bodies are, on SQLite."""
        return getattr(self._backend, "segments", None)

    async def write(self, fn: Callable[..., Any], *args: Any, lane: str = MAIL, size: int = 0, rows: int = 0) -> Any:
        """The result of fn(conn, *args), durable. `size` counts octets of mail against the bounds of what may wait."""
        return await self.begin(fn, args, many=False, lane=lane, size=size, rows=rows).future

    async def write_many(self, fn: Callable[..., Any], item: Any, lane: str = MAIL, size: int = 0) -> Any:
        """This item's result of fn(conn, items) -> results, called once for all items of fn that wait; durable."""
        return await self.begin(fn, item, many=True, lane=lane, size=size, rows=1).future

    async def write_each(self, fn: Callable[..., Any], items: Sequence[Any], lane: str = MAIL, size: int = 0) -> list[Any]:
        """As write_many for several items that came together: their results in one list, and in it the error of each that failed alone."""
        return await self.begin(fn, items, many=True, lane=lane, size=size, rows=len(items), each=True).future

    def begin(self, fn: Callable[..., Any], args: Any, *, many: bool, lane: str = MAIL, size: int = 0, rows: int = 0, each: bool = False) -> Write:
        """A write on its way, for who may want to `withdraw` it; its `future` gives the result.

        rows  messages or outcomes that it writes, where their number bounds what it costs; 0 = nobody knows
        """
        write = Write(fn, args, many, LANES[lane], size, self._loop.create_future(), each, rows)
        self._backend.enqueue(write)
        return write

    def intake_open(self) -> Reply | None:
        """The refusal of new mail, or None when it may come in: the last commit worked and there is room on the disk."""
        return self.space.intake() if self._backend.healthy else DOWN

    def departures_open(self) -> bool:
        """Whether a delivery may start: what leaves must be recorded (A4)."""
        return self._backend.healthy and self.space.departures()

    def _watch(self) -> None:
        """Set the gauges of sizes and free space, again every WATCH seconds."""
        self.space.intake()
        self._backend.measure()
        self._watching = self._loop.call_later(WATCH, self._watch)

    async def close(self) -> None:
        """Commit what waits and close; nothing may be written after."""
        self._watching.cancel()
        await self._backend.close()


def _backend(url: str, data_dir: Path, read_only: bool, failed: asyncio.Event) -> Any:
    try:
        parsed = make_url(url or f"sqlite:///{data_dir / 'relay.db'}")
    except ArgumentError:
        raise ConfigError("store.url", 'is not a URL such as "sqlite:////var/lib/relay/relay.db"') from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database:
        return Sqlite(Path(parsed.database).expanduser(), Segments(data_dir / "bodies"), read_only=read_only, failed=failed)
    if kind == "postgresql":
        from relay.store.postgres import Postgres

        return Postgres(parsed.render_as_string(hide_password=False), read_only=read_only, failed=failed)
    raise ConfigError("store.url", f'{kind} is not a database that Relay knows; use "sqlite:///path" or "postgresql://user:password@host/database"')


__all__ = ["ASIDE", "JOBS", "MAIL", "OUTCOMES", "SAFE", "VERSION", "Store"]
