"""Imports of contacts: how far each is, what it did, and which rows it could not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import bulk
from relay.store.audience.schema import contacts, import_errors
from relay.store.audience.schema import imports as table

RUNNING, COMPLETED, FAILED, UNDONE = "running", "completed", "failed", "undone"
ERRORS = 100_000  # rows of one import whose errors are kept


@dataclass(frozen=True, slots=True)
class Import:
    """`figures`: total, imported, updated, skipped, errors, and what more the import counts."""

    id: int
    project_id: int
    state: str
    figures: dict[str, Any]
    created_at: float
    finished_at: float | None

    @property
    def public_id(self) -> str:
        return ids.public("imp", self.id)


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that could not be taken."""

    row: int
    email: str
    error: str


_COLUMNS = tuple(table.c[name] for name in Import.__slots__)


def add(conn: Connection, made: Import) -> Import:
    conn.execute(insert(table), {name: getattr(made, name) for name in Import.__slots__})
    return made


def get(conn: Connection, project: int, number: int) -> Import:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Import not found")
    return Import(*row)


def note(conn: Connection, number: int, figures: dict[str, Any], faults: Sequence[Fault]) -> None:
    """How far an import is, and what of the last slice could not be taken."""
    bulk.insert_new(conn, import_errors, [(number, each.row, bulk.clean(each.email, 320), bulk.clean(each.error, 1_000)) for each in faults])
    conn.execute(update(table).where(table.c.id == number).values(figures=figures))


def end(conn: Connection, number: int, state: str, now: float) -> None:
    conn.execute(update(table).where(table.c.id == number).values(state=state, finished_at=now))


def faults(conn: Connection, number: int, after: int, limit: int) -> list[Fault]:
    """The rows that could not be taken, after a row's number."""
    query = select(import_errors.c.row, import_errors.c.email, import_errors.c.error).where(
        import_errors.c.import_id == number, import_errors.c.row > after).order_by(import_errors.c.row).limit(limit)
    return [Fault(*row) for row in conn.execute(query)]


def made(conn: Connection, project: int, number: int, limit: int) -> list[int]:
    """Contacts that an import made and that are there still."""
    return list(conn.scalars(select(contacts.c.id).where(contacts.c.import_id == number, contacts.c.project_id == project).limit(limit)))
