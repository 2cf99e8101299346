"""Emails as the API shows them: the ledger's messages with their recipients summed up, listed by filters, one at a time with octets and events.

The state of an email with several recipients is the first of messages.STATUS that any of them has (B18); relay.store.search finds by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from relay.errors import NotFound
from relay.store import bodies, events, search
from relay.store.events import Event
from relay.store.messages import STATUS, SUPPRESSED
from relay.store.pages import Found, Page
from relay.store.schema import messages, recipients
from relay.store.search import Filter

BEGINNING = 32_000_000  # octets read of one to show it: all that SMTP brings; what the API makes larger has its texts before its files
RECIPIENTS = 1_000  # of one email that are shown


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
    """An email with the first BEGINNING of its octets (None once retention has dropped them) and its events, oldest first."""

    email: Email
    octets: bytes | None
    events: list[Event]


_LISTED = (messages.c.id, messages.c.header_from, messages.c.sender, messages.c.domain, messages.c.subject, messages.c.tags, messages.c.facts,
           messages.c.created_at, messages.c.send_at)


def page(conn: Connection, project: int, wanted: Filter, which: Page) -> Found:
    """Emails of the project that match, newest first, as Email."""
    hits = search.find(conn, project, wanted, which)
    rows = {row.id: row for row in conn.execute(select(*_LISTED).where(messages.c.id.in_(hits.ids)))}
    people = _people(conn, hits.ids)
    found = [Email(rows[number], tuple(people.get(number, ()))) for number in hits.ids if number in rows]
    return Found(found, hits.total, hits.ids[-1] if hits.more else None, hits.exact)


def _people(conn: Connection, numbers: Sequence[int]) -> dict[int, list[Row[Any]]]:
    people: dict[int, list[Row[Any]]] = {}
    if numbers:
        statement = select(recipients).where(recipients.c.message_id.in_(numbers)).order_by(recipients.c.id).limit(RECIPIENTS * len(numbers))
        for row in conn.execute(statement):
            people.setdefault(row.message_id, []).append(row)
    return people


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
        octets = bodies.beginning(conn, email.row.body_id, BEGINNING)
    except NotFound:
        octets = None
    return Whole(email, octets, events.of_message(conn, number))


def source(conn: Connection, project: int, number: int) -> bytes:
    """All octets of an email; raises NotFound, for another project's too and once retention has dropped them."""
    return bodies.get(conn, get(conn, project, number).row.body_id)


def history(conn: Connection, project: int, number: int) -> list[Event]:
    """The events of an email, oldest first; raises NotFound."""
    get(conn, project, number)
    return events.of_message(conn, number)
