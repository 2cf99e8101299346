"""Emails as the API shows them: the ledger's messages with their recipients summed up, listed by filters, one at a time with octets and events.

The state of an email with several recipients is the first of messages.STATUS that any of them has (B18); a filter by status says the same in SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, false, func, not_, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from relay.errors import NotFound
from relay.store import bodies, events, pages
from relay.store.events import Event
from relay.store.messages import STATUS, SUPPRESSED
from relay.store.pages import Found, Page
from relay.store.schema import messages, recipients

RECIPIENTS = 1_000  # of one email that are shown


@dataclass(frozen=True, slots=True)
class Filter:
    """Which emails; None does not restrict. `to` an address in normal form, `domain` an A-label whose sub-domains count too, times in UTC seconds.

    `among` these ids only: what is on the wire is known to the runner, not to the ledger.
    """

    status: str | None = None
    domain: str | None = None
    to: str | None = None
    tag: str | None = None
    since: float | None = None
    until: float | None = None
    among: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Email:
    """A message's row, and its recipients' in the order in which they were given."""

    row: Row[Any]
    recipients: tuple[Row[Any], ...]

    @property
    def status(self) -> str:
        states = {recipient.state for recipient in self.recipients}
        return next((state for state in STATUS if state in states), SUPPRESSED)


@dataclass(frozen=True, slots=True)
class Whole:
    """An email with its octets (None once retention has dropped them) and its events, oldest first."""

    email: Email
    octets: bytes | None
    events: list[Event]


_LISTED = (messages.c.id, messages.c.header_from, messages.c.sender, messages.c.domain, messages.c.subject, messages.c.tags, messages.c.facts,
           messages.c.created_at, messages.c.send_at)


def page(conn: Connection, project: int, wanted: Filter, which: Page) -> Found:
    """Emails of the project, newest first, as Email."""
    query = select(*_LISTED).where(messages.c.project_id == project, *_where(conn, project, wanted))
    found = pages.take(conn, query, messages.c.id, which)
    people = _people(conn, [row.id for row in found.rows])
    return Found([Email(row, tuple(people.get(row.id, ()))) for row in found.rows], found.total, found.last)


def _people(conn: Connection, numbers: Sequence[int]) -> dict[int, list[Row[Any]]]:
    people: dict[int, list[Row[Any]]] = {}
    if numbers:
        statement = select(recipients).where(recipients.c.message_id.in_(numbers)).order_by(recipients.c.id).limit(RECIPIENTS * len(numbers))
        for row in conn.execute(statement):
            people.setdefault(row.message_id, []).append(row)
    return people


def _where(conn: Connection, project: int, wanted: Filter) -> list[ColumnElement[bool]]:
    parts: list[ColumnElement[bool]] = []
    if wanted.status is not None:
        parts.append(_status(wanted.status))
    if wanted.domain is not None:
        parts.append(or_(messages.c.domain == wanted.domain, messages.c.domain.endswith(f".{wanted.domain}", autoescape=True)))
    if wanted.to is not None:
        parts.append(messages.c.id.in_(select(recipients.c.message_id).where(recipients.c.project_id == project, recipients.c.key == wanted.to)))
    if wanted.tag is not None:
        parts.append(_tagged(conn, wanted.tag))
    if wanted.among is not None:
        parts.append(messages.c.id.in_(sorted(wanted.among)))
    if wanted.since is not None:
        parts.append(messages.c.created_at >= wanted.since)
    if wanted.until is not None:
        parts.append(messages.c.created_at < wanted.until)
    return parts


def _status(status: str) -> ColumnElement[bool]:
    """That some recipient has the state, and none has one that comes before it in STATUS."""
    if status not in STATUS:
        return false()
    before = STATUS[:STATUS.index(status)]
    return and_(_any_in((status,)), not_(_any_in(before))) if before else _any_in((status,))


def _any_in(states: Sequence[str]) -> ColumnElement[bool]:
    return select(recipients.c.id).where(recipients.c.message_id == messages.c.id, recipients.c.state.in_(states)).exists()


def _tagged(conn: Connection, tag: str) -> ColumnElement[bool]:
    if conn.dialect.name == "postgresql":
        return messages.c.tags.cast(JSONB).contains([tag])
    tags = func.json_each(messages.c.tags).table_valued("value")
    return select(tags.c.value).where(tags.c.value == tag).exists()


def get(conn: Connection, project: int, number: int) -> Email:
    """Raises NotFound, for another project's too."""
    row = conn.execute(select(messages).where(messages.c.id == number, messages.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound("Email not found")
    return Email(row, tuple(_people(conn, [number]).get(number, ())))


def whole(conn: Connection, project: int, number: int) -> Whole:
    """Raises NotFound, for another project's too."""
    email = get(conn, project, number)
    try:
        octets = bodies.get(conn, email.row.body_id)
    except NotFound:
        octets = None
    return Whole(email, octets, events.of_message(conn, number))


def history(conn: Connection, project: int, number: int) -> list[Event]:
    """The events of an email, oldest first; raises NotFound."""
    get(conn, project, number)
    return events.of_message(conn, number)
