"""Signup forms: what a project asks of those who want its mail, and where they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import pages
from relay.store.audience.schema import signup_forms as table
from relay.store.pages import Found, Page

MOST = 200  # forms of a project


@dataclass(frozen=True, slots=True)
class Form:
    """`fields` as {name, type, label, required, placeholder, options}; `redirect_url` and `sender` "" where there is none; times in UTC seconds."""

    id: int
    project_id: int
    name: str
    active: bool
    segment_id: int | None
    topic_id: int | None
    fields: list[dict[str, Any]]
    success_message: str
    redirect_url: str
    double_opt_in: bool
    sender: str
    created_at: float
    updated_at: float
    submissions: int = 0

    @property
    def public_id(self) -> str:
        return ids.public("sf", self.id)


_COLUMNS = tuple(table.c[name] for name in Form.__slots__)


def add(conn: Connection, form: Form) -> Form:
    """Raises Conflict when the project has MOST."""
    if (conn.scalar(select(func.count()).where(table.c.project_id == form.project_id)) or 0) >= MOST:
        raise Conflict(f"a project has at most {MOST} signup forms")
    conn.execute(table.insert().values({name: getattr(form, name) for name in Form.__slots__}))
    return form


def get(conn: Connection, project: int, number: int) -> Form:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Signup form not found")
    return Form(*row)


def living(conn: Connection, number: int) -> Form:
    """The form of whatever project, for visitors; raises NotFound where there is none, or it is not active."""
    row = conn.execute(select(*_COLUMNS).where(table.c.id == number, table.c.active)).one_or_none()
    if row is None:
        raise NotFound("Signup form not found")
    return Form(*row)


def paged(conn: Connection, project: int, which: Page) -> Found:
    """Newest first."""
    found = pages.take(conn, select(*_COLUMNS).where(table.c.project_id == project), table.c.id, which)
    return Found([Form(*row) for row in found.rows], found.total, found.last)


def every(conn: Connection, project: int) -> list[Form]:
    """All forms of a project, newest first."""
    return [Form(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project).order_by(table.c.id.desc()))]


def change(conn: Connection, project: int, number: int, changes: dict[str, Any]) -> Form:
    get(conn, project, number)
    conn.execute(update(table).where(table.c.id == number).values(changes))
    return get(conn, project, number)


def count(conn: Connection, number: int) -> None:
    """One more has signed up by the form."""
    conn.execute(update(table).where(table.c.id == number).values(submissions=table.c.submissions + 1))


def remove(conn: Connection, project: int, number: int) -> None:
    """The form takes nobody any more; its contacts stay, and letters that wait for a confirmation lead nowhere."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))
