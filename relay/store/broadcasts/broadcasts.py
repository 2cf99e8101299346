"""Broadcasts of a project: what is said to whom, and how far it has come.

    draft ──► scheduled ──► queued ──► sending ◄──► paused          sent: everybody in its audience has an outcome
                              │           │  └────────► sent        cancelled: nobody else gets it
                              └► failed   └► cancelled              failed: it was refused before anybody got it

Each change of status is one statement that names the status it comes from, so two nodes never both make it. What is asked of contacts is copied from the
segment at the start (`asked`), with the time: a segment that changes under way changes nothing for those not looked at yet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.mail.message import MARKETING, TRANSACTIONAL, Principal
from relay.mail.mime import Texts
from relay.store import bulk, pages
from relay.store.broadcasts.schema import broadcasts as table
from relay.store.broadcasts.schema import variants as versions
from relay.store.pages import Found, Page

DRAFT, SCHEDULED, QUEUED, SENDING, PAUSED = "draft", "scheduled", "queued", "sending", "paused"
SENT, CANCELLED, FAILED = "sent", "cancelled", "failed"
STATUSES = (DRAFT, SCHEDULED, QUEUED, SENDING, PAUSED, SENT, CANCELLED, FAILED)
OPEN = (SCHEDULED, QUEUED, SENDING, PAUSED)
HEADLESS = "headless"  # a kind beside MARKETING and TRANSACTIONAL: marketing mail whose way out is in its header alone
LIVE = frozenset({"per_minute", "updated_at"})  # columns that may be changed on the way


@dataclass(frozen=True, slots=True)
class Broadcast:
    """As the table has it; times in UTC seconds."""

    id: int
    project_id: int
    name: str
    status: str
    sender: str
    reply_to: list[str]
    subject: str
    html: str | None
    text: str | None
    template_id: int | None
    segment_id: int | None
    audience_id: int | None
    topic_id: int | None
    everyone: bool
    rules: Any
    per_minute: int | None
    tracking: dict[str, bool]
    ab_test: dict[str, Any] | None
    dialect: str
    origin: dict[str, Any]
    created_at: float
    updated_at: float
    error: str = ""
    scheduled_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    cursor: int = 0
    until: int = 0
    gathered: bool = False
    seen: int = 0
    test_ends_at: float | None = None
    winner: int | None = None
    description: str = ""
    kind: str = MARKETING

    @property
    def public_id(self) -> str:
        return ids.public("brd", self.id)

    @property
    def texts(self) -> Texts:
        return Texts(self.subject, self.html, self.text)

    @property
    def stream(self) -> str:
        """What its copies are: a TRANSACTIONAL one reaches contacts that have unsubscribed, and has no way out."""
        return TRANSACTIONAL if self.kind == TRANSACTIONAL else MARKETING

    @property
    def testing(self) -> bool:
        """Whether the rest of its audience waits for the winner of an A/B test."""
        return self.ab_test is not None and self.winner is None

    @property
    def principal(self) -> Principal:
        """Who sends it: the key that said so."""
        said = self.origin
        return Principal("key", self.project_id, said.get("key_id"), said.get("name", ""), mode=said.get("mode", "live"), domain=said.get("domain", ""))


@dataclass(frozen=True, slots=True)
class Variant:
    """One wording of a broadcast; a broadcast without an A/B test has number 1 alone, from its start."""

    number: int
    name: str
    subject: str
    html: str | None
    text: str | None
    weight: int = 100
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> Texts:
        return Texts(self.subject, self.html, self.text)


_COLUMNS = tuple(table.c[name] for name in Broadcast.__slots__)
_VARIANT = tuple(versions.c[name] for name in Variant.__slots__)


def add(conn: Connection, broadcast: Broadcast, given: Sequence[Variant] = ()) -> Broadcast:
    conn.execute(insert(table), {name: getattr(broadcast, name) for name in Broadcast.__slots__})
    put_variants(conn, broadcast.id, given)
    return broadcast


def find(conn: Connection, number: int) -> Broadcast | None:
    """The broadcast of any project, as the feeder knows it."""
    row = conn.execute(select(*_COLUMNS).where(table.c.id == number)).one_or_none()
    return None if row is None else Broadcast(*row)


def get(conn: Connection, project: int, number: int) -> Broadcast:
    """Raises NotFound."""
    found = find(conn, number)
    if found is None or found.project_id != project:
        raise NotFound("Broadcast not found")
    return found


def paged(conn: Connection, project: int, which: Page, status: str | None = None, search: str = "") -> Found:
    """Newest first; `search` is part of the subject or name."""
    query = select(*_COLUMNS).where(table.c.project_id == project)
    if status is not None:
        query = query.where(table.c.status == status)
    if search:
        query = query.where(or_(table.c.subject.icontains(search, autoescape=True), table.c.name.icontains(search, autoescape=True)))
    found = pages.take(conn, query, table.c.id, which)
    return Found([Broadcast(*row) for row in found.rows], found.total, found.last)


def sent_since(conn: Connection, project: int, since: float, limit: int = 1_000) -> list[Broadcast]:
    """Those that began after `since`, newest first."""
    query = select(*_COLUMNS).where(table.c.project_id == project, table.c.started_at >= since)
    return [Broadcast(*row) for row in conn.execute(query.order_by(table.c.id.desc()).limit(limit))]


def number_of(conn: Connection, project: int, status: str, since: float, until: float) -> int:
    """How many with this status were made between these times."""
    made = and_(table.c.created_at >= since, table.c.created_at < until)
    return conn.scalar(select(func.count()).where(table.c.project_id == project, table.c.status == status, made)) or 0


def change(conn: Connection, project: int, number: int, values: dict[str, Any], given: Sequence[Variant] | None = None) -> Broadcast:
    """A draft with these columns, and these variants where given; raises NotFound, and Conflict for what is no draft any more.

    Its speed may be changed until it ends.
    """
    before = get(conn, project, number)
    live = before.status in OPEN and values.keys() <= LIVE
    if not move(conn, number, (before.status,) if live else (DRAFT,), before.status if live else DRAFT, **values):
        raise Conflict(f"the broadcast is {before.status}; only a draft can be changed", code="broadcast_not_draft")
    if given is not None:
        drop_variants(conn, number)
        put_variants(conn, number, given)
    return get(conn, project, number)


def move(conn: Connection, number: int, origins: Collection[str], status: str, **values: Any) -> bool:
    """Whether the broadcast was in one of these statuses and has the new one now, with these columns."""
    moved = update(table).where(table.c.id == number, table.c.status.in_(list(origins))).values(status=status, **values)
    return conn.execute(moved).rowcount == 1


def move_to(conn: Connection, number: int, origins: Collection[str], status: str, values: dict[str, Any]) -> bool:
    """As `move`, for those who cannot name their columns."""
    return move(conn, number, origins, status, **values)


def remove(conn: Connection, project: int, number: int) -> None:
    """Gone, with its ledger; raises Conflict while it is on its way."""
    found = get(conn, project, number)
    gone = delete(table).where(table.c.id == number, table.c.status.not_in(list(OPEN)))
    if conn.execute(gone).rowcount == 0:
        raise Conflict(f"the broadcast is {found.status}; cancel it first")


_READY = or_(table.c.status == QUEUED, (table.c.status == SCHEDULED) & (table.c.scheduled_at <= bindparam("now")))
_DUE = select(*_COLUMNS).where(table.c.status.in_((SCHEDULED, QUEUED, SENDING)), _READY).order_by(table.c.scheduled_at, table.c.id).limit(100)
_SENDING = select(*_COLUMNS).where(table.c.status == SENDING).order_by(table.c.id).limit(1_000)  # both are asked for every slice


def due(conn: Connection, now: float) -> list[Broadcast]:
    """Those that are to begin, the longest waiting first."""
    return [Broadcast(*row) for row in conn.execute(_DUE, {"now": now})]


def sending(conn: Connection) -> list[Broadcast]:
    return [Broadcast(*row) for row in conn.execute(_SENDING)]


def cancelled_since(conn: Connection, cut: float) -> list[int]:
    """Those that were cancelled after the cut."""
    return list(conn.scalars(select(table.c.id).where(table.c.status == CANCELLED, table.c.ended_at >= cut)))


def fail(conn: Connection, number: int, error: str, now: float) -> bool:
    """Whether it ended by this before anybody got it."""
    return move(conn, number, (QUEUED, SCHEDULED), FAILED, error=error, ended_at=now, updated_at=now)


def pause(conn: Connection, number: int, error: str, now: float) -> bool:
    """Whether it rests by this; nothing of it is queued from this commit on."""
    return move(conn, number, (SENDING,), PAUSED, error=error, updated_at=now)


def set_window(conn: Connection, number: int, ends: float) -> bool:
    """Whether the window of its A/B test was begun by this."""
    return conn.execute(update(table).where(table.c.id == number, table.c.test_ends_at.is_(None)).values(test_ends_at=ends)).rowcount == 1


def set_winner(conn: Connection, number: int, variant: int) -> bool:
    """Whether its A/B test was decided by this."""
    return conn.execute(update(table).where(table.c.id == number, table.c.winner.is_(None)).values(winner=variant)).rowcount == 1


def any_since(conn: Connection, cut: float) -> bool:
    """Whether any broadcast of any project has begun after the cut: then events may be about one."""
    return bool(conn.scalar(select(exists().where(table.c.started_at >= cut))))


def to_segment(conn: Connection, project: int, segment: int, limit: int = 100) -> list[Broadcast]:
    """The newest that are for this segment."""
    query = select(*_COLUMNS).where(table.c.project_id == project, table.c.segment_id == segment)
    return [Broadcast(*row) for row in conn.execute(query.order_by(table.c.id.desc()).limit(limit))]


def uses_segment(conn: Connection, project: int, segment: int) -> bool:
    """Whether a broadcast that has not ended is for this segment."""
    return bool(conn.scalar(select(exists().where(
        table.c.project_id == project, table.c.segment_id == segment, table.c.status.in_((DRAFT, *OPEN))))))


def to_send(conn: Connection, project: int, template: int, limit: int = 100) -> list[Broadcast]:
    """The newest that have not ended and whose texts are this template's."""
    query = select(*_COLUMNS).where(table.c.project_id == project, table.c.template_id == template, table.c.status.in_((DRAFT, *OPEN)))
    return [Broadcast(*row) for row in conn.execute(query.order_by(table.c.id.desc()).limit(limit))]


def put_variants(conn: Connection, number: int, given: Sequence[Variant]) -> None:
    rows = [(number, v.number, v.name, v.subject, v.html, v.text, v.weight, bulk.json(v.facts)) for v in given]
    bulk.insert(conn, versions, rows)


def drop_variants(conn: Connection, number: int) -> None:
    conn.execute(delete(versions).where(versions.c.broadcast_id == number))


def variants(conn: Connection, number: int) -> list[Variant]:
    return [Variant(*row) for row in conn.execute(select(*_VARIANT).where(versions.c.broadcast_id == number).order_by(versions.c.number))]
