"""How a project's mail has gone in the last minutes, from its newest events: no series is kept for it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, select, text

from relay.mail.ids import EPOCH
from relay.store.schema import events, queue, recipients

NEWEST = 20_000  # events that are looked at
SAMPLE = 10_000  # deferred recipients whose replies are counted
DOMAINS = 5_000  # of a project with waiting mail
_RARE = text("recipients.state NOT IN ('queued', 'delivered')")  # SQLite finds a partial index only by the very words of its condition
KINDS = ("email.delivered", "email.deferred", "email.bounced", "email.failed")


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of KINDS: its type, UTC seconds, and the seconds since its message was accepted."""

    type: str
    at: float
    waited: float


def recent(conn: Connection, project: int, since: float) -> list[Happened]:
    """The newest of what happened to mail since then, at most NEWEST; an id begins with its milliseconds, so the index of ids is one of time."""
    first = max(0, int(since * 1000) - EPOCH) << 21
    statement = select(events.c.type, events.c.at, events.c.message_id).where(events.c.project_id == project, events.c.id >= first)
    rows = conn.execute(statement.order_by(events.c.id.desc()).limit(NEWEST))
    return [Happened(kind, at, at - ((number >> 21) + EPOCH) / 1000) for kind, at, number in rows if kind in KINDS and number is not None]


def waiting(conn: Connection, project: int, now: float) -> list[Row]:
    """By domain: (domain, ready, deferred, scheduled, held, oldest first_due of those whose time had come), the domains with the most first."""
    free, total = ~queue.c.held, func.count()
    parts = (
        total.filter(free, queue.c.due <= now).label("ready"), total.filter(free, queue.c.due > now, queue.c.first_due <= now).label("deferred"),
        total.filter(free, queue.c.first_due > now).label("scheduled"), total.filter(queue.c.held).label("held"),
        func.min(queue.c.first_due).filter(queue.c.first_due <= now).label("oldest"))
    statement = select(queue.c.domain, *parts).where(queue.c.project_id == project)
    return list(conn.execute(statement.group_by(queue.c.domain).order_by(total.desc()).limit(DOMAINS)))


def reasons(conn: Connection, project: int) -> list[Row]:
    """(domain, code, enhanced, text, number) of the replies that recipients wait after, the most frequent first; of the newest SAMPLE."""
    newest = select(recipients.c.domain, recipients.c.code, recipients.c.enhanced, recipients.c.text).where(
        recipients.c.project_id == project, recipients.c.state == "deferred", _RARE).order_by(recipients.c.message_id.desc()).limit(SAMPLE).subquery()
    number = func.count()
    return list(conn.execute(select(*newest.c, number.label("number")).group_by(*newest.c).order_by(number.desc()).limit(200)))
