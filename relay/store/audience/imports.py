"""Imports of contacts: how far each is, what it did, which rows it could not take, and what has to go when it is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import bulk, pages, suppressions
from relay.store.audience.schema import audience_members, contacts, import_changes, import_errors, segment_members
from relay.store.audience.schema import imports as table
from relay.store.pages import Found, Page

RUNNING, COMPLETED, FAILED, UNDONE = "running", "completed", "failed", "undone"
ERRORS = 100_000  # rows of one import whose errors are kept; more are counted only


@dataclass(frozen=True, slots=True)
class Import:
    """`figures`: total, imported, updated, skipped, errors, and what more the import counts; `reached` the last row of the file that is in.

    job     what relay.audience.imports needs to go on with it: the file's name and form, targets, who asked
    reason  why it failed, with the way on
    """

    id: int
    project_id: int
    state: str
    figures: dict[str, Any]
    created_at: float
    finished_at: float | None = None
    job: dict[str, Any] = field(default_factory=dict)
    reached: int = 0
    reason: str = ""

    @property
    def public_id(self) -> str:
        return public(self.id)


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that could not be taken."""

    row: int
    email: str
    error: str


_COLUMNS = tuple(table.c[name] for name in Import.__slots__)


def public(number: int) -> str:
    return ids.public("imp", number)


def add(conn: Connection, made: Import) -> Import:
    conn.execute(insert(table), {name: getattr(made, name) for name in Import.__slots__})
    return made


def get(conn: Connection, project: int, number: int) -> Import:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Import not found")
    return Import(*row)


def paged(conn: Connection, project: int, which: Page) -> Found:
    """A project's imports, newest first."""
    found = pages.take(conn, select(*_COLUMNS).where(table.c.project_id == project), table.c.id, which)
    return Found([Import(*row) for row in found.rows], found.total, found.last, found.exact)


def running(conn: Connection) -> list[Import]:
    """Those of all projects that are not over, oldest first."""
    return [Import(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.state == RUNNING).order_by(table.c.id))]


def note(conn: Connection, number: int, figures: dict[str, Any], faults: Sequence[Fault]) -> None:
    """What an import has done so far, and what of the last slice could not be taken."""
    if faults and figures.get("errors", 0) - len(faults) < ERRORS:
        bulk.insert_new(conn, import_errors, [(number, each.row, bulk.clean(each.email, 320), bulk.clean(each.error, 1_000)) for each in faults])
    bulk.update(conn, table, "id", ("figures",), [(number, bulk.json(figures))])


def end(conn: Connection, number: int, state: str, now: float, reason: str = "") -> bool:
    """Whether the import was running, and has this state now."""
    over = update(table).where(table.c.id == number, table.c.state == RUNNING)
    return conn.execute(over.values(state=state, finished_at=now, reason=reason)).rowcount == 1


def faults(conn: Connection, number: int, after: int, limit: int) -> list[Fault]:
    """The rows that could not be taken, after a row's number."""
    query = select(import_errors.c.row, import_errors.c.email, import_errors.c.error).where(
        import_errors.c.import_id == number, import_errors.c.row > after).order_by(import_errors.c.row).limit(limit)
    return [Fault(*row) for row in conn.execute(query)]


# Undoing.


def made(conn: Connection, project: int, number: int, limit: int) -> list[int]:
    """Contacts that an import made and that are there still."""
    return list(conn.scalars(select(contacts.c.id).where(contacts.c.import_id == number, contacts.c.project_id == project).limit(limit)))


def changed(conn: Connection, number: int, limit: int) -> list[tuple[int, dict[str, Any], bool]]:
    """Contacts that an import changed: id, what they were, and whether nobody changed them since."""
    query = select(import_changes.c.contact_id, import_changes.c.before, contacts.c.updated_at == table.c.created_at).join(
        contacts, contacts.c.id == import_changes.c.contact_id).join(table, table.c.id == import_changes.c.import_id)
    return [tuple(row) for row in conn.execute(query.where(import_changes.c.import_id == number).limit(limit))]


def settle(conn: Connection, number: int, contact_ids: Sequence[int]) -> None:
    """These contacts are as they were before the import, or are left as they are."""
    conn.execute(delete(import_changes).where(import_changes.c.import_id == number, import_changes.c.contact_id.in_(list(contact_ids))))


def leave_targets(conn: Connection, found: Import, limit: int) -> int:
    """Take up to `limit` of those whom the import put into its audience or segment out again; gives how many."""
    gone = 0
    for kind, members, column in (("audience", audience_members, audience_members.c.audience_id),
                                  ("segment", segment_members, segment_members.c.segment_id)):
        target = found.job.get(kind)
        if target is not None and gone < limit:
            some = select(members.c.contact_id).where(column == target, members.c.added_at == found.created_at).limit(limit)
            gone += conn.execute(delete(members).where(column == target, members.c.contact_id.in_(some.scalar_subquery()))).rowcount
    return gone


def lift(conn: Connection, found: Import, limit: int) -> int:
    """Take up to `limit` of the suppressions that the import wrote back; gives how many."""
    return suppressions.undo(conn, found.project_id, suppressions.Filter(batch=found.public_id), limit)


def undone(conn: Connection, number: int, now: float) -> None:
    conn.execute(update(table).where(table.c.id == number).values(state=UNDONE, finished_at=now))
