"""Webhooks: endpoints that want a project's events, how far each has come in the event log, and what was delivered.

An endpoint has a cursor in the log, so one that is down costs nothing but its place there. `webhook_deliveries` has rows for what failed and waits for its
next attempt, for what was given up in the last 30 days, and for the last KEPT that were delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import events, pages
from relay.store.pages import Found, Page
from relay.store.schema import events as happened
from relay.store.schema import webhook_deliveries as rows
from relay.store.schema import webhooks as table

KEPT = 1_000  # delivered rows of an endpoint
GIVEN_UP = 30 * 86_400.0  # seconds that a delivery which was given up can be replayed
PRUNED = 500  # rows that one pruning removes at most


@dataclass(frozen=True, slots=True)
class Webhook:
    """`secret` and `previous_secret` are sealed; `cursor` of relay.store.events; times in UTC seconds; `failures` since the last success."""

    id: int
    project_id: int
    url: str
    events: list[str]
    description: str
    enabled: bool
    secret: str
    previous_secret: str
    previous_until: float | None
    rotated_at: float | None
    cursor: str
    failures: int
    failing_since: float | None
    disabled_at: float | None
    disabled_reason: str | None
    delivered_at: float | None
    delivered_status: int | None
    created_at: float

    @property
    def public_id(self) -> str:
        return ids.public("wh", self.id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `next_at` None once it is delivered or given up; `answer` is what the endpoint said, or why there was no answer."""

    id: int
    webhook_id: int
    event_id: int
    message_id: int | None
    type: str
    payload: str
    status: int | None
    answer: str
    attempts: int
    next_at: float | None
    delivered_at: float | None
    created_at: float

    @property
    def public_id(self) -> str:
        return ids.public("whd", self.id)


_COLUMNS = tuple(table.c[name] for name in Webhook.__slots__)
_ROWS = tuple(rows.c[name] for name in Delivery.__slots__)


def add(conn: Connection, webhook: Webhook) -> Webhook:
    """The endpoint; it gets what happens from now on."""
    values = {name: getattr(webhook, name) for name in Webhook.__slots__} | {"cursor": events.latest(conn)}
    conn.execute(insert(table), values)
    return get(conn, webhook.project_id, webhook.id)


def get(conn: Connection, project: int, number: int) -> Webhook:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.id == number, table.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound("Webhook not found")
    return Webhook(*row)


def by_project(conn: Connection, project: int) -> list[Webhook]:
    """Oldest first."""
    return [Webhook(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project).order_by(table.c.id))]


def enabled(conn: Connection) -> list[Webhook]:
    """Every endpoint of every project that wants events."""
    return [Webhook(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.enabled).order_by(table.c.id))]


def change(conn: Connection, project: int, number: int, values: dict[str, Any]) -> Webhook:
    """The endpoint with these columns changed. One that is switched on again gets what happens from now on."""
    webhook = get(conn, project, number)
    if values.get("enabled") and not webhook.enabled:
        values = {**values, "cursor": events.latest(conn), "failures": 0, "failing_since": None, "disabled_at": None, "disabled_reason": None}
    conn.execute(update(table).where(table.c.id == number).values(values))
    return get(conn, project, number)


def remove(conn: Connection, project: int, number: int) -> None:
    """Gone, with its deliveries; raises NotFound."""
    get(conn, project, number)
    conn.execute(delete(rows).where(rows.c.webhook_id == number))
    conn.execute(delete(table).where(table.c.id == number))


def record(conn: Connection, webhook: Webhook, deliveries: Sequence[Delivery], changes: dict[str, Any]) -> None:
    """What became of some events for an endpoint, and what that changes of the endpoint (cursor, failures, ...): in one transaction.

    A delivery that was there already is replaced. When one is done, later events of the same email that waited for it are due.
    """
    if deliveries:
        conn.execute(delete(rows).where(rows.c.id.in_([delivery.id for delivery in deliveries])))
        conn.execute(insert(rows), [{name: getattr(delivery, name) for name in Delivery.__slots__} for delivery in deliveries])
    if changes:
        conn.execute(update(table).where(table.c.id == webhook.id).values(changes))


def due(conn: Connection, number: int, now: float, limit: int) -> list[Delivery]:
    """What waits for an attempt that may be made now, oldest event first; of each email only the first."""
    earlier = rows.alias()
    first = ~select(earlier.c.id).where(
        earlier.c.webhook_id == number, earlier.c.message_id == rows.c.message_id, earlier.c.next_at.is_not(None),
        earlier.c.event_id < rows.c.event_id).exists()
    query = select(*_ROWS).where(rows.c.webhook_id == number, rows.c.next_at <= now, first).order_by(rows.c.event_id).limit(limit)
    return [Delivery(*row) for row in conn.execute(query)]


def next_at(conn: Connection, number: int) -> float | None:
    """When the endpoint's next attempt is due, in UTC seconds."""
    return conn.scalar(select(func.min(rows.c.next_at)).where(rows.c.webhook_id == number))


def held(conn: Connection, number: int, messages: Iterable[int]) -> set[int]:
    """Which of these emails have an event that waits, so that their later events wait too."""
    query = select(rows.c.message_id).where(rows.c.webhook_id == number, rows.c.next_at.is_not(None), rows.c.message_id.in_(list(messages)))
    return set(conn.scalars(query.distinct()))


def waiting(conn: Connection) -> dict[int, int]:
    """How many deliveries wait for their next attempt, by endpoint; endpoints for which none does are not in it."""
    query = select(rows.c.webhook_id, func.count()).where(rows.c.next_at.is_not(None)).group_by(rows.c.webhook_id)
    return {number: count for number, count in conn.execute(query)}


def page(conn: Connection, number: int, which: Page) -> Found:
    """An endpoint's deliveries, newest first."""
    found = pages.take(conn, select(*_ROWS).where(rows.c.webhook_id == number), rows.c.id, which)
    return Found([Delivery(*row) for row in found.rows], found.total, found.last)


def replay(conn: Connection, number: int, delivery_id: int, now: float) -> Delivery:
    """The delivery, due now whatever became of it; raises NotFound."""
    row = conn.execute(select(*_ROWS).where(rows.c.id == delivery_id, rows.c.webhook_id == number)).one_or_none()
    if row is None:
        raise NotFound("Delivery not found")
    conn.execute(update(rows).where(rows.c.id == delivery_id).values(next_at=now, attempts=0, created_at=now, delivered_at=None))
    return Delivery(*row)


def replay_failed(conn: Connection, number: int, now: float, since: float, kind: str | None, limit: int) -> tuple[int, int]:
    """Make up to `limit` deliveries that were given up due again, oldest first; how many, and how many remain."""
    failed = [rows.c.webhook_id == number, rows.c.next_at.is_(None), rows.c.delivered_at.is_(None), rows.c.created_at >= since]
    if kind is not None:
        failed.append(rows.c.type == kind)
    total = conn.scalar(select(func.count()).select_from(rows).where(*failed)) or 0
    picked = list(conn.scalars(select(rows.c.id).where(*failed).order_by(rows.c.id).limit(limit)))
    if picked:
        conn.execute(update(rows).where(rows.c.id.in_(picked)).values(next_at=now, attempts=0, created_at=now))
    return len(picked), total - len(picked)


def forget(conn: Connection, contact_ids: Sequence[int]) -> None:
    """Delete what endpoints were told of these contacts, and what they are still to be told."""
    told = select(happened.c.id).where(happened.c.contact_id.in_(list(contact_ids)))
    conn.execute(delete(rows).where(rows.c.event_id.in_(told)))


def prune(conn: Connection, number: int, now: float) -> int:
    """Drop delivered rows beyond the last KEPT, and those given up longer than GIVEN_UP ago; how many."""
    ended = (rows.c.webhook_id == number, rows.c.next_at.is_(None))
    gone = conn.execute(delete(rows).where(rows.c.id.in_(
        select(rows.c.id).where(*ended, rows.c.delivered_at.is_(None), rows.c.created_at < now - GIVEN_UP).limit(PRUNED)))).rowcount
    done = (*ended, rows.c.delivered_at.is_not(None))
    last = conn.scalar(select(rows.c.id).where(*done).order_by(rows.c.id.desc()).offset(KEPT).limit(1))
    if last is not None:
        gone += conn.execute(delete(rows).where(rows.c.id.in_(select(rows.c.id).where(*done, rows.c.id <= last).limit(PRUNED)))).rowcount
    return gone
