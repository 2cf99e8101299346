"""Activity: what contacts did and what became of mail to them, by day, kept as long as the contact (retention takes events, and must not change segments).

`heard` reads the event log after a cursor and gives what of it is about contacts; `record` adds it up and moves the cursor, in one transaction, so each event
counts once. The log is followed a little behind the mail, which therefore pays nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Subquery, and_, bindparam, func, literal_column, select, text, tuple_, update

from relay.store import bulk, plans
from relay.store.audience import changes
from relay.store.audience.rules import DAY
from relay.store.audience.schema import activity as table
from relay.store.audience.schema import contacts, followers
from relay.store.hot import Hot
from relay.store.schema import events, recipients
from relay.store.upsert import insert

PAGE = 1_000  # events looked at in one read
ROWS = 5_000  # of a contact, beyond which names that are not ours get no new ones
NAME = "activity"  # among the followers
CHUNK = 100  # rows of one statement
PERSONAL = frozenset({"email.opened", "email.clicked"})  # events of mail that a person makes
OURS = ("email.", "segment.")  # what no event of a project's own begins with

OWN = select(contacts.c.id).where(contacts.c.id == events.c.contact_id, contacts.c.project_id == events.c.project_id).correlate(events).scalar_subquery()
"""The contact of an event that names one. Asked event by event, and not as a join, which PostgreSQL turns around while it believes that contacts are few."""
OF_MAIL = select(contacts.c.id).where(
    contacts.c.project_id == events.c.project_id,
    contacts.c.key == select(recipients.c.key).where(recipients.c.id == events.c.recipient_id).correlate(events).scalar_subquery(),
).correlate(events).scalar_subquery()
"""The contact who is the recipient that an event is about."""

_ANYBODY = Hot(select(contacts.c.id).limit(literal_column("1")))  # asked several times a second, as the cursor is
_CURSOR = Hot(select(followers.c.cursor).where(followers.c.name == bindparam("name")))
_CLOSED = text("events.xid < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")  # as relay.store.events reads


@dataclass(frozen=True, slots=True)
class Act:
    """`person`: somebody did it, which makes the contact active; `own`: the name is the project's, not ours."""

    contact_id: int
    name: str
    at: float
    person: bool
    own: bool


def anybody(conn: Connection) -> bool:
    """Whether there are contacts at all."""
    return bool(_ANYBODY(conn))


def cursor(conn: Connection) -> str | None:
    """Up to where the log has been read; None before the first time."""
    found = _CURSOR(conn, name=NAME)
    return found[0][0] if found else None


def heard(conn: Connection, after: str, email: Collection[str], ours: Collection[str]) -> tuple[list[Act], str]:
    """What the next PAGE events say of contacts, and the cursor after them; the same cursor when there is nothing new.

    email  events about a recipient that count, by name
    ours   names of events that are about a contact and that nobody did
    """
    last = last_of_page(conn, after)
    if last is None:
        return [], after
    plans.by_index(conn)
    mail, own = _about(conn.dialect.name == "sqlite", tuple(sorted(email)), tuple(sorted(ours)))
    place = span(after, last)
    found = [Act(row.contact, row.type, row.at, row.type in PERSONAL, False) for row in conn.execute(mail, place) if not row.data.get("machine")]
    found += [Act(row.contact, row.type, row.at, True, True) for row in conn.execute(own, place) if not row.type.startswith(OURS)]
    return found, last


@lru_cache(8)  # written anew they would cost more than reading a page, several times a second
def _about(embedded: bool, email: tuple[str, ...], ours: tuple[str, ...]) -> tuple[Select[Any], ...]:
    """Events within a span: about recipients who are contacts, and about contacts."""
    here = within(embedded)
    mail = said(OF_MAIL, *here, events.c.contact_id.is_(None), events.c.type.in_(email))
    own = said(OWN, *here, events.c.type.not_in(ours))
    return tuple(select(each).where(each.c.contact.is_not(None)) for each in (mail, own))


def said(contact: Any, *where: ColumnElement[bool]) -> Subquery:
    """Events with their `contact`, who may be none: OFFSET 0 has PostgreSQL look for each once, whatever is asked of these rows."""
    columns = (events.c.id, events.c.xid, events.c.project_id, events.c.type, events.c.at, events.c.data, contact.label("contact"))
    return select(*columns).where(*where).offset(0).subquery()


def last_of_page(conn: Connection, after: str) -> str | None:
    """The cursor of the last of the next PAGE events."""
    row = conn.execute(_page(conn.dialect.name == "sqlite"), span(after)).first()
    return None if row is None else f"{row.xid}.{row.id}"


@cache
def _page(embedded: bool) -> Select[Any]:
    page = select(events.c.xid, events.c.id).where(_after(embedded)).order_by(*_order(embedded)).limit(PAGE).subquery()
    return select(page.c.xid, page.c.id).order_by(*(each.desc() for each in _order(embedded, page.c))).limit(1)


def _order(embedded: bool, columns: Any = events.c) -> list[Any]:
    return [columns.id] if embedded else [columns.xid, columns.id]


def span(after: str, last: str = "0.0") -> dict[str, int]:
    """What `within` asks for: after one cursor, and up to another."""
    values = (*map(int, after.split(".")), *map(int, last.split(".")))
    return dict(zip(("after_xid", "after_id", "last_xid", "last_id"), values, strict=True))


def _after(embedded: bool) -> ColumnElement[bool]:
    if embedded:
        return events.c.id > bindparam("after_id")
    return and_(tuple_(events.c.xid, events.c.id) > tuple_(bindparam("after_xid", type_=BigInteger), bindparam("after_id", type_=BigInteger)), _CLOSED)


def within(embedded: bool) -> list[ColumnElement[bool]]:
    """Events of a `span`, whose values are given when the statement runs; `embedded` on SQLite."""
    if embedded:
        return [_after(embedded), events.c.id <= bindparam("last_id")]
    last = tuple_(bindparam("last_xid", type_=BigInteger), bindparam("last_id", type_=BigInteger))
    return [_after(embedded), tuple_(events.c.xid, events.c.id) <= last]


def skip(conn: Connection, before: str | None, after: str) -> None:
    """Nothing up to there is about a contact."""
    _moved(conn, before, after)


def record(conn: Connection, acts: Sequence[Act], before: str | None, after: str) -> bool:
    """Whether these acts were added, and the cursor moved on; not when somebody else has moved it."""
    if not _moved(conn, before, after):
        return False
    present = set(conn.scalars(select(contacts.c.id).where(contacts.c.id.in_({act.contact_id for act in acts}))))
    full = _full(conn, {act.contact_id for act in acts if act.own})
    kept = [act for act in acts if act.contact_id in present and not (act.own and act.contact_id in full)]
    _add(conn, kept)
    _active(conn, kept)
    changes.note(conn, sorted({act.contact_id for act in kept}))
    return True


def _moved(conn: Connection, before: str | None, after: str) -> bool:
    if before is None:
        row = insert(conn, followers).values(name=NAME, cursor=after).on_conflict_do_nothing(index_elements=["name"])
        return conn.execute(row).rowcount == 1
    return conn.execute(update(followers).where(followers.c.name == NAME, followers.c.cursor == before).values(cursor=after)).rowcount == 1


def _full(conn: Connection, numbers: set[int]) -> set[int]:
    """Which of these contacts have as much as is kept of one."""
    if not numbers:
        return set()
    query = select(table.c.contact_id).where(table.c.contact_id.in_(sorted(numbers))).group_by(table.c.contact_id).having(func.count() >= ROWS)
    return set(conn.scalars(query))


def _add(conn: Connection, acts: Sequence[Act]) -> None:
    """Count each act on its day."""
    sums: dict[tuple[int, str, int], list[Any]] = {}
    for act in acts:
        found = sums.setdefault((act.contact_id, act.name, math.floor(act.at / DAY)), [0, act.at, act.at])
        found[:] = found[0] + 1, min(found[1], act.at), max(found[2], act.at)
    rows = [dict(zip(("contact_id", "name", "day", "count", "first_at", "last_at"), (*key, *sums[key]), strict=True)) for key in sorted(sums)]
    for start in range(0, len(rows), CHUNK):
        row = insert(conn, table).values(rows[start:start + CHUNK])
        least, most = (func.least, func.greatest) if conn.dialect.name == "postgresql" else (func.min, func.max)
        conn.execute(row.on_conflict_do_update(index_elements=["contact_id", "name", "day"], set_={
            "count": table.c.count + row.excluded.count, "first_at": least(table.c.first_at, row.excluded.first_at),
            "last_at": most(table.c.last_at, row.excluded.last_at)}))


def _active(conn: Connection, acts: Sequence[Act]) -> None:
    """Set when the contacts were last active."""
    last: dict[int, float] = {}
    for act in acts:
        if act.person:
            last[act.contact_id] = max(act.at, last.get(act.contact_id, 0.0))
    known = {row.id: row.last_active_at for row in conn.execute(select(contacts.c.id, contacts.c.last_active_at).where(contacts.c.id.in_(sorted(last))))}
    bulk.update(conn, contacts, "id", ("last_active_at",), [(each, at) for each, at in sorted(last.items()) if at > (known.get(each) or 0.0)])
