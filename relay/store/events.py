"""Events: what became of messages, recipients and everything else that the outside may want to know, in the order in which it became true.

A reader (webhooks, workflows, `since=`) walks with a cursor and never loses one. On SQLite the one writer makes the ids, so ids are in the order of commits.
On PostgreSQL a transaction may commit after one that began later, so each row keeps the number of its transaction, the cursor is (transaction, id), and a
reader stops before the oldest transaction that is still open (A13).

`data` is small: an event about one recipient carries `to`. A policy's decisions are no events, they are the message's trace (B10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal_column, select, text, tuple_, update

from relay.errors import Invalid
from relay.mail import ids
from relay.store import bulk, pages
from relay.store.hot import Hot
from relay.store.pages import Found, Page
from relay.store.schema import events

LIMIT = 1_000  # events of one page: a read transaction stays short (B5)
START = "0.0"  # the cursor before the first event

_COLUMNS = (events.c.id, events.c.project_id, events.c.type, events.c.at, events.c.message_id, events.c.recipient_id, events.c.contact_id, events.c.data)
_ALL = select(*_COLUMNS, events.c.xid)
_CLOSED = text("events.xid < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")  # every transaction below has ended

_OPEN = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
_LAST = Hot(select(func.coalesce(func.max(events.c.id), literal_column("0"))))


@dataclass(frozen=True, slots=True)
class Event:
    """`type` such as "email.delivered"; `at` UTC seconds; `data` JSON-able. The id is given by the store."""

    project_id: int
    type: str
    at: float
    message_id: int | None = None
    recipient_id: int | None = None
    contact_id: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    id: int = 0

    @property
    def public_id(self) -> str:
        return ids.public("evt", self.id)


def append(conn: Connection, given: Sequence[Event]) -> None:
    """Write events at the end."""
    append_rows(conn, [(e.project_id, e.message_id, e.recipient_id, e.contact_id, e.type, e.at, bulk.json(e.data)) for e in given])


def append_rows(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write events that are tuples already: project, message, recipient, contact, type, at, data as JSON text."""
    following = conn.info["ids"].next
    bulk.insert(conn, events, [(following(), *row) for row in rows])


def forget_contacts(conn: Connection, contact_ids: Sequence[int]) -> None:
    """Take what names a person out of the events about these contacts; what happened stays."""
    conn.execute(update(events).where(events.c.contact_id.in_(list(contact_ids))).values(data={}))


def since(conn: Connection, cursor: str = START, *, project: int | None = None, types: Sequence[str] = (), limit: int = LIMIT) -> tuple[list[Event], str]:
    """The events after the cursor, oldest first, and the cursor after them; none means: ask again later with the same cursor.

    project  only this project's, or all
    types    only these, or all

    Raises Invalid for a cursor that we did not make.
    """
    xid, number = _parsed(cursor)
    statement = _ALL.order_by(events.c.xid, events.c.id).limit(min(limit, LIMIT))
    if conn.dialect.name == "postgresql":
        statement = statement.where(tuple_(events.c.xid, events.c.id) > tuple_(xid, number), _CLOSED)
    else:
        statement = _ALL.order_by(events.c.id).limit(min(limit, LIMIT)).where(events.c.id > number)
    if project is not None:
        statement = statement.where(events.c.project_id == project)
    if types:
        statement = statement.where(events.c.type.in_(types))
    rows = conn.execute(statement).all()
    return [_event(row) for row in rows], f"{rows[-1].xid}.{rows[-1].id}" if rows else cursor


def behind(conn: Connection, cursor: str, project: int, limit: int) -> int:
    """How many events of a project come after the cursor, counted up to `limit`."""
    xid, number = _parsed(cursor)
    after = tuple_(events.c.xid, events.c.id) > tuple_(xid, number) if conn.dialect.name == "postgresql" else events.c.id > number
    return conn.scalar(select(func.count()).select_from(select(events.c.id).where(events.c.project_id == project, after).limit(limit).subquery())) or 0


def latest(conn: Connection) -> str:
    """The cursor from which only what is still to come is read."""
    if conn.dialect.name == "postgresql":
        return f"{conn.scalar(_OPEN)}.0"
    return f"0.{_LAST(conn)[0][0]}"


def last(conn: Connection) -> str:
    """The cursor of the newest event that can be read: where it is as it was, a reader finds nothing new."""
    return _newest_cursor(conn.dialect.name == "sqlite")(conn)[0][0]


def newest_cursor(embedded: bool) -> ColumnElement[str]:
    """What `last` asks; `embedded` on SQLite."""
    if embedded:
        return select(literal_column("'0.'").concat(func.coalesce(func.max(events.c.id), literal_column("0")))).scalar_subquery()
    newest = select(func.concat(events.c.xid, literal_column("'.'"), events.c.id)).where(_CLOSED)
    newest = newest.order_by(events.c.xid.desc(), events.c.id.desc()).limit(literal_column("1"))
    return func.coalesce(newest.scalar_subquery(), literal_column(f"'{START}'"))


@cache
def _newest_cursor(embedded: bool) -> Hot:
    return Hot(select(newest_cursor(embedded)))


def of_message(conn: Connection, message_id: int) -> list[Event]:
    """The events of a message, oldest first."""
    return [_event(row) for row in conn.execute(_ALL.where(events.c.message_id == message_id).order_by(events.c.id).limit(LIMIT))]


def newest(
    conn: Connection, project: int, *, types: Sequence[str] = (), message_id: int | None = None, contact_id: int | None = None,
    after: float | None = None, before: int | None = None, limit: int = 100,
) -> list[Event]:
    """A project's events, newest first.

    after   only those not older than this, UTC seconds
    before  only those with an id below, the cursor of the next page
    """
    statement = _ALL.where(events.c.project_id == project).order_by(events.c.id.desc()).limit(min(limit, LIMIT))
    if types:
        statement = statement.where(events.c.type.in_(types))
    if message_id is not None:
        statement = statement.where(events.c.message_id == message_id)
    if contact_id is not None:
        statement = statement.where(events.c.contact_id == contact_id)
    if after is not None:
        statement = statement.where(events.c.at >= after)
    if before is not None:
        statement = statement.where(events.c.id < before)
    return [_event(row) for row in conn.execute(statement)]


def paged(
    conn: Connection, project: int, which: Page, types: Sequence[str] = (), message_id: int | None = None, contact_id: int | None = None,
    after: float | None = None,
) -> Found:
    """A page of a project's events, newest first; the filters are those of `newest`."""
    parts = [events.c.project_id == project]
    if types:
        parts.append(events.c.type.in_(types))
    if message_id is not None:
        parts.append(events.c.message_id == message_id)
    if contact_id is not None:
        parts.append(events.c.contact_id == contact_id)
    if after is not None:
        parts.append(events.c.at >= after)
    found = pages.take(conn, select(*_COLUMNS).where(*parts), events.c.id, which)
    return Found([_event(row) for row in found.rows], found.total, found.last)


def _parsed(cursor: str) -> tuple[int, int]:
    xid, dot, number = cursor.partition(".")
    if not (dot and xid.isdigit() and number.isdigit() and len(cursor) < 40):
        raise Invalid("cursor", "the cursor is not one of ours")
    return int(xid), int(number)


def _event(row: Any) -> Event:
    return Event(row.project_id, row.type, row.at, row.message_id, row.recipient_id, row.contact_id, row.data, row.id)
