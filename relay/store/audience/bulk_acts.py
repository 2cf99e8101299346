"""Acts on many contacts that take longer than a request: what was asked for, how far each is, and what it needs to go on after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import pages
from relay.store.audience import contacts as people
from relay.store.audience import properties, segments
from relay.store.audience.contacts import Filter
from relay.store.audience.schema import bulk_acts as table
from relay.store.audience.schema import contacts
from relay.store.audience.segments import Read
from relay.store.pages import Found, Page

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"


@dataclass(frozen=True, slots=True)
class BulkAct:
    """`act` subscribe | unsubscribe | delete | tag | untag | strip.

    wanted   {"ids": [...]}, {"segment": number}, {"property": name}, or {"search", "unsubscribed", "without": [...]}; with "tags", and "evidence" of who asked
    reached  the last contact that is done: they go by id
    total    contacts that it will come to, 0 until those of a segment or with a property are counted; `seen` those it came to, `done` those that it changed
    """

    id: int
    project_id: int
    act: str
    state: str
    wanted: dict[str, Any]
    reached: int
    total: int
    done: int
    touched_at: float
    created_at: float
    finished_at: float | None = None
    seen: int = 0

    @property
    def public_id(self) -> str:
        return ids.public("job", self.id)


_COLUMNS = tuple(table.c[name] for name in BulkAct.__slots__)


def add(conn: Connection, made: BulkAct) -> BulkAct:
    conn.execute(table.insert(), {name: getattr(made, name) for name in BulkAct.__slots__})
    return made


def get(conn: Connection, project: int, number: int) -> BulkAct:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Job not found")
    return BulkAct(*row)


def paged(conn: Connection, project: int, which: Page) -> Found:
    """A project's acts, newest first."""
    found = pages.take(conn, select(*_COLUMNS).where(table.c.project_id == project), table.c.id, which)
    return Found([BulkAct(*row) for row in found.rows], found.total, found.last, found.exact)


def left(conn: Connection, since: float, limit: int = 10) -> list[BulkAct]:
    """Running acts that nobody has worked on since then."""
    query = select(*_COLUMNS).where(table.c.state == RUNNING, table.c.touched_at < since).order_by(table.c.id).limit(limit)
    return [BulkAct(*row) for row in conn.execute(query)]


def size(conn: Connection, act: BulkAct, read: Read) -> int:
    """How many contacts an act on a segment or on a property will come to; raises NotFound when there is no such segment."""
    if "property" in act.wanted:
        return properties.held(conn, act.project_id, act.wanted["property"])
    return segments.counted(conn, segments.get(conn, act.project_id, act.wanted["segment"]), act.created_at, read)


def counted(conn: Connection, number: int, total: int) -> None:
    """Write down how many contacts the act will come to."""
    conn.execute(update(table).where(table.c.id == number).values(total=total))


def following(conn: Connection, act: BulkAct, limit: int, read: Read) -> list[int]:
    """The next contacts of an act by id, of those that were there when it was asked for; raises NotFound when its segment is gone."""
    if "ids" in act.wanted:
        return [each for each in act.wanted["ids"] if each > act.reached][:limit]
    if "segment" in act.wanted:
        some = segments.members_after(conn, act.project_id, act.wanted["segment"], act.reached, limit, act.created_at, read)
        return [each.id for each in some if each.id < act.id]
    if "property" in act.wanted:
        whom = and_(contacts.c.project_id == act.project_id, properties.value(conn, act.wanted["property"]).is_not(None))
    else:
        whom = people.where(act.project_id, Filter(act.wanted.get("search"), act.wanted.get("unsubscribed")))
    query = select(contacts.c.id).where(whom, contacts.c.id > act.reached, contacts.c.id < act.id)
    return list(conn.scalars(query.order_by(contacts.c.id).limit(limit)))


def advance(conn: Connection, act: BulkAct, reached: int, done: int, at: float, seen: int = 0) -> bool:
    """Whether the act is this far now, having come to `seen` more contacts: false when somebody else has gone on with it."""
    here = update(table).where(table.c.id == act.id, table.c.reached == act.reached, table.c.state == RUNNING)
    return conn.execute(here.values(reached=reached, done=table.c.done + done, seen=table.c.seen + seen, touched_at=at)).rowcount == 1


def end(conn: Connection, number: int, state: str, at: float) -> None:
    conn.execute(update(table).where(table.c.id == number, table.c.state == RUNNING).values(state=state, finished_at=at, touched_at=at))


def prune(conn: Connection, before: float) -> int:
    """Forget the acts that ended before then."""
    return conn.execute(table.delete().where(table.c.finished_at < before)).rowcount
