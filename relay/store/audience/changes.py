"""Changes: contacts of whom something is new since membership was last looked at, in the order in which it became so.

Whatever a segment can ask about is written by a few functions of this room; each of them notes the contact here, in its own transaction, so nothing is
forgotten by a crash. A project that tracks no segment has no notes. relay.audience.membership takes them, and deletes them in the transaction that says what
became of them.

A quiet note changes memberships without an event: an import tells of itself, not of everybody in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, literal, literal_column, select

from relay.store.audience.schema import changes as table
from relay.store.audience.schema import contacts, segments
from relay.store.hot import Hot

KEYS = 500  # ids or addresses of one statement
_QUIET = "quiet changes"  # in a connection's info, while they are

_ANYWHERE = select(segments.c.id).where(segments.c.tracked).exists()  # asked once a statement, and mostly the whole answer
_HERE = exists().where(segments.c.project_id == contacts.c.project_id, segments.c.tracked)


@dataclass(frozen=True, slots=True)
class Change:
    id: int
    project_id: int
    contact_id: int
    quiet: bool


_ANY = Hot(select(table.c.id).limit(literal_column("1")))  # asked several times a second
_ALL = select(*(table.c[name] for name in Change.__slots__))


@contextmanager
def quietly(conn: Connection) -> Iterator[None]:
    """What is noted on this connection meanwhile is quiet."""
    conn.info[_QUIET] = True
    try:
        yield
    finally:
        del conn.info[_QUIET]


def note(conn: Connection, numbers: Sequence[int]) -> None:
    """Something is new of these contacts, if there are such."""
    for start in range(0, len(numbers), KEYS):
        _note(conn, contacts.c.id.in_(list(numbers[start:start + KEYS])))


def note_keys(conn: Connection, project: int, keys: Sequence[str]) -> None:
    """Something is new of a project's contacts with these addresses, in normal form."""
    for start in range(0, len(keys), KEYS):
        _note(conn, (contacts.c.project_id == project) & contacts.c.key.in_(list(keys[start:start + KEYS])))


def _note(conn: Connection, which: ColumnElement[bool]) -> None:
    found = select(contacts.c.project_id, contacts.c.id, literal(bool(conn.info.get(_QUIET)))).where(_ANYWHERE, which, _HERE)
    conn.execute(table.insert().from_select(["project_id", "contact_id", "quiet"], found))


def first(conn: Connection, limit: int) -> list[Change]:
    """The oldest changes that nobody has looked at."""
    return [Change(*row) for row in conn.execute(_ALL.order_by(table.c.id).limit(limit))]


def of(conn: Connection, numbers: Sequence[int]) -> list[Change]:
    """Those of some contacts."""
    return [Change(*row) for row in conn.execute(_ALL.where(table.c.contact_id.in_(list(numbers))))]


def waiting(conn: Connection) -> bool:
    return bool(_ANY(conn))


def done(conn: Connection, taken: Sequence[Change]) -> None:
    """These have been looked at."""
    conn.execute(delete(table).where(table.c.id.in_([each.id for each in taken])))
