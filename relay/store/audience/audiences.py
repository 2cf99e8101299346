"""Audiences: named groups of contacts. A contact may be in many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import pages
from relay.store.audience import changes
from relay.store.audience.schema import audience_members as members
from relay.store.audience.schema import audiences as table
from relay.store.pages import Found, Page
from relay.store.upsert import insert


@dataclass(frozen=True, slots=True)
class Audience:
    id: int
    project_id: int
    name: str
    description: str
    created_at: float
    updated_at: float

    @property
    def public_id(self) -> str:
        return ids.public("aud", self.id)


_COLUMNS = tuple(table.c[name] for name in Audience.__slots__)


def add(conn: Connection, audience: Audience) -> Audience:
    """Raises Conflict when the name is taken."""
    row = insert(conn, table).values({name: getattr(audience, name) for name in Audience.__slots__})
    if conn.execute(row.on_conflict_do_nothing(index_elements=["project_id", "name"])).rowcount == 0:
        raise Conflict(f"the audience {audience.name} exists already")
    return audience


def get(conn: Connection, project: int, number: int) -> Audience:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Audience not found")
    return Audience(*row)


def paged(conn: Connection, project: int, which: Page) -> Found:
    found = pages.take(conn, select(*_COLUMNS).where(table.c.project_id == project), table.c.id, which)
    return Found([Audience(*row) for row in found.rows], found.total, found.last)


def of_contact(conn: Connection, contact: int) -> list[Audience]:
    query = select(*_COLUMNS).join(members, members.c.audience_id == table.c.id).where(members.c.contact_id == contact).order_by(table.c.id)
    return [Audience(*row) for row in conn.execute(query)]


def change(conn: Connection, project: int, number: int, changes: dict[str, Any]) -> Audience:
    """The audience with another name or description; raises Conflict when the name is another's."""
    get(conn, project, number)
    taken = select(table.c.id).where(table.c.project_id == project, table.c.name == changes.get("name"), table.c.id != number)
    if conn.execute(taken).first() is not None:
        raise Conflict(f"the audience {changes['name']} exists already")
    conn.execute(update(table).where(table.c.id == number).values(changes))
    return get(conn, project, number)


def empty(conn: Connection, number: int, limit: int) -> int:
    """Drop up to so many rows of an audience that is about to be deleted, and tell nobody; how many. Repeat until it is none."""
    some = select(members.c.contact_id).where(members.c.audience_id == number).limit(limit)
    return conn.execute(delete(members).where(members.c.audience_id == number, members.c.contact_id.in_(some))).rowcount


def remove(conn: Connection, project: int, number: int) -> None:
    """Delete the audience; its contacts stay, and its segments lose it."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))


def put(conn: Connection, number: int, contacts: Sequence[int], at: float) -> int:
    """How many of these contacts were not in the audience before."""
    row = insert(conn, members).on_conflict_do_nothing(index_elements=["audience_id", "contact_id"])
    new = [each for each in contacts if conn.execute(row, {"audience_id": number, "contact_id": each, "added_at": at}).rowcount]
    changes.note(conn, new)
    return len(new)


def take(conn: Connection, number: int, contacts: Sequence[int]) -> int:
    """How many of these contacts were in the audience and no longer are."""
    off = delete(members).where(members.c.audience_id == number, members.c.contact_id.in_(list(contacts)))
    gone = list(conn.scalars(off.returning(members.c.contact_id)))
    changes.note(conn, gone)
    return len(gone)


def size(conn: Connection, number: int) -> int:
    return conn.scalar(select(func.count()).where(members.c.audience_id == number)) or 0
