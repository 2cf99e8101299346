"""The queue: one small row for each recipient that still waits, deleted when it ends. `settle_many` is the only way on from an attempt.

Every recipient is in exactly one place: while `recipients.state` is scheduled, queued or deferred it has a row here; with an end state it has none. Both change
in one transaction, so a crash leaves (times are those of one message, in order):

    the process dies ...                            on disk                               after the restart
    --------------------------------------------    ----------------------------------    -------------------------------------------------------
    before the commit of add_many                   nothing (octets in a segment that     the client has no 250 and sends again
                                                    no row names: dead space)
    after it, before the 250                        message, queue rows                   it is delivered; the client, which heard nothing, sends
                                                                                          again: a duplicate that an idempotency key prevents
    the same, main process gone, a worker waits     the one or the other                  the worker asks its successor, and says 250 or 451 (handover)
    the same, a worker gone                         the one or the other                  what it had handed over is committed and delivered
    before MAIL, or before the final dot            queue row as before                   tried again; nothing had left
    after the final dot, before the remote's 250    queue row as before                   tried again: a duplicate if the remote took it (same Message-ID)
    after the remote's 250, before settle_many      queue row as before                   tried again: a duplicate (same Message-ID)
    inside settle_many                              queue row as before                   as above
    after its commit, before the report is sent     end state, event, attempt, report     the report is made from its row, once (key dsn:<recipient>:<kind>)
    after its commit, before the runner hears       end state, no queue row               nothing is sent again
    while cancel, hold, release or retry commits    all of its slice or nothing           the operator sees which, and repeats it

tests/crash kills a relay in these places (the points of relay.store.faults, and at random), and compares what arrived. A duplicate is at most what was not yet
recorded: relay.queue.recorder.UNWRITTEN outcomes, and what was on the wire.

Nothing is claimed in the table. On SQLite the one process that holds data_dir delivers. On PostgreSQL the node that holds the lease `delivery` does; the
others accept and NOTIFY, and take over when it is gone for 60 s (A12). A settle that comes late, for a recipient that was cancelled meanwhile or ended
by the next holder of the lease, adds its attempt to the record and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, not_, select, true, update
from sqlalchemy.dialects.postgresql import JSONB

from relay.mail.message import MARKETING, TRANSACTIONAL
from relay.mail.reply import Reply
from relay.store import attempts as attempts_
from relay.store import bulk, events, reports
from relay.store.attempts import WORDS, Attempt
from relay.store.bulk import clean, json
from relay.store.messages import CANCELLED, DEFERRED, ENDS
from relay.store.schema import attempts, messages, queue, recipients

REFILL = 1_000  # rows of one refill: a read transaction stays short
PER_DOMAIN = 200  # rows of one domain in a refill (B3)
SLICE = 1_000  # recipients of one cancel, hold, release or retry
DOMAINS = 5_000  # domains looked at in one refill


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a recipient, for the record.

    state     "deferred", or an end: delivered bounced failed suppressed cancelled
    reply     the words that go on the recipient
    at        UTC seconds
    attempt   the try that led here, or None when none was made
    due       for "deferred": UTC seconds of the next attempt; and with it `attempts`, `retry`, `warned` as relay.schedule counts them
    events    (type, data) pairs to append, in order
    report    kind of DSN to send: failed | delayed | delivered | relayed, or ""
    category  what the refusal says of the address itself, "hard" or "soft", and the `rule` that said so; "" when it says nothing of it
    """

    recipient_id: int
    message_id: int
    project_id: int
    state: str
    reply: Reply
    at: float
    attempt: Attempt | None = None
    due: float = 0.0
    attempts: int = 0
    retry: str = "standard"
    warned: bool = False
    events: tuple[tuple[str, dict[str, Any]], ...] = ()
    report: str = ""
    category: str = ""
    rule: str = ""

    @property
    def id(self) -> int:
        """For the log line of a write that failed."""
        return self.recipient_id


def settle_many(conn: Connection, settlements: Sequence[Settlement]) -> list[bool]:
    """Record what became of these recipients; False for one that no longer waits, of which only the attempt is recorded."""
    first = {s.recipient_id: s.state in ENDS for s in reversed(settlements)}  # a second settlement of the same recipient in one batch finds it gone
    waiting = bulk.take(conn, queue, "recipient_id", first)
    following = conn.info["ids"].next
    tries, deferred, told, happened, wanted, results = [], [], [], [], [], []
    for s in settlements:
        if s.attempt is not None:
            tries.append(attempts_.row(s.attempt, s.attempt.id or following(), s.recipient_id, s.message_id))
        live = s.recipient_id in waiting
        results.append(live)
        if not live:
            continue
        waiting.discard(s.recipient_id)
        reply = s.reply
        words = (reply.code, reply.enhanced[:12], clean(reply.text, WORDS))
        if s.state in ENDS:
            told.append((s.recipient_id, s.state, *words, s.at))
        else:
            deferred.append((s.recipient_id, s.due, s.attempts, s.retry, s.warned))
            told.append((s.recipient_id, DEFERRED, *words, None))
        for kind, data in s.events:
            happened.append((s.project_id, s.message_id, s.recipient_id, None, kind, s.at, json(data)))
        if s.report:
            wanted.append(reports.row(following(), s.message_id, s.recipient_id, s.report, s.at))
    bulk.insert_new(conn, attempts, tries)
    bulk.update(conn, queue, "recipient_id", ("due", "attempts", "retry", "warned"), deferred)
    bulk.update(conn, recipients, "id", ("state", "code", "enhanced", "text", "ended_at"), told)
    events.append_rows(conn, happened)
    reports.add_rows(conn, wanted)
    return results


# What is due. `held` rows are never due; partial indexes leave them out, so a million held rows cost a refill nothing.

_WAITING = (queue.c.recipient_id, queue.c.message_id, queue.c.project_id, queue.c.domain, queue.c.stream, queue.c.topic, queue.c.key, queue.c.due,
            queue.c.first_due, queue.c.attempts, queue.c.retry, queue.c.warned)
_DUE = select(*_WAITING).where(not_(queue.c.held))
# A loose index scan: one step for each domain, however many rows it has.
_STEP = select(func.min(queue.c.domain).label("domain")).where(not_(queue.c.held)).cte("d", recursive=True)
_WALK = _STEP.union_all(
    select(select(func.min(queue.c.domain)).where(not_(queue.c.held), queue.c.domain > _STEP.c.domain).correlate(_STEP).scalar_subquery())
    .where(_STEP.c.domain.is_not(None)))
_DOMAINS = select(_WALK.c.domain).where(_WALK.c.domain.is_not(None))


def due(
    conn: Connection, now: float, limit: int = REFILL, *, domain: str | None = None, per_domain: int = PER_DOMAIN, skip: Iterable[str] = (),
) -> list[Row[Any]]:
    """Recipients whose time has come, of one domain or of all in fair shares: transactional first, then those due longest.

    limit       rows at most
    per_domain  rows of one domain at most, so that a dead one with a million rows leaves room for the others
    skip        domains that have enough in memory

    The caller leaves out those that it holds already.
    """
    if domain is not None:
        return _due_of(conn, domain, now, limit)
    skipped, found = frozenset(skip), []
    for each in domains_waiting(conn):
        if each not in skipped:
            found.extend(_due_of(conn, each, now, min(per_domain, limit - len(found))))
            if len(found) >= limit:
                break
    return found


def _due_of(conn: Connection, domain: str, now: float, limit: int) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for stream in (TRANSACTIONAL, MARKETING):
        if len(found) < limit:
            statement = _DUE.where(queue.c.domain == domain, queue.c.stream == stream, queue.c.due <= now).order_by(queue.c.due)
            found.extend(conn.execute(statement.limit(limit - len(found))))
    return found


def domains_waiting(conn: Connection, limit: int = DOMAINS) -> list[str]:
    """The domains that have recipients waiting, in order of name."""
    return list(conn.scalars(_DOMAINS.limit(limit)))


def next_due(conn: Connection, after: float) -> float | None:
    """UTC seconds at which the next recipient is due after `after`, or None."""
    return conn.scalar(select(func.min(queue.c.due)).where(not_(queue.c.held), queue.c.due > after))


# What operators do. Each takes at most SLICE recipients and is repeated until it finds none.


@dataclass(frozen=True, slots=True)
class Filter:
    """Which waiting recipients; what is None does not restrict.

    domains     recipient domains (of a site, as the runner knows it)
    tag         whole tag of the message
    older_than  UTC seconds: first due before that
    held        only those held, or only those not held
    among       recipients by id, at most SLICE
    """

    project: int | None = None
    key_id: int | None = None
    domains: tuple[str, ...] | None = None
    tag: str | None = None
    older_than: float | None = None
    message: int | None = None
    recipient: int | None = None
    address: str | None = None
    topic: str | None = None
    stream: str | None = None
    held: bool | None = None
    among: tuple[int, ...] | None = None


EVERY = Filter()


def _where(conn: Connection, wanted: Filter) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [true()]
    for value, column in (
        (wanted.project, queue.c.project_id), (wanted.recipient, queue.c.recipient_id), (wanted.topic, queue.c.topic), (wanted.stream, queue.c.stream),
    ):
        if value is not None:
            parts.append(column == value)
    if wanted.message is not None:
        parts.append(queue.c.recipient_id.in_(select(recipients.c.id).where(recipients.c.message_id == wanted.message)))
    if wanted.address is not None:
        parts.append(_to_address(wanted))
    if wanted.among is not None:
        parts.append(queue.c.recipient_id.in_(wanted.among))
    if wanted.domains is not None:
        parts.append(queue.c.domain.in_(wanted.domains))
    if wanted.older_than is not None:
        parts.append(queue.c.first_due < wanted.older_than)
    if wanted.held is not None:
        parts.append(queue.c.held if wanted.held else not_(queue.c.held))
    if wanted.key_id is not None or wanted.tag is not None:
        parts.append(_of_message(conn, wanted))
    return and_(*parts)


def _to_address(wanted: Filter) -> ColumnElement[bool]:
    """By the index of the ledger when the project is known, as it is for every consent act."""
    if wanted.project is None:
        return queue.c.key == wanted.address
    whose = and_(recipients.c.project_id == wanted.project, recipients.c.key == wanted.address)
    return queue.c.recipient_id.in_(select(recipients.c.id).where(whose))


def _of_message(conn: Connection, wanted: Filter) -> ColumnElement[bool]:
    inner = select(messages.c.id).where(messages.c.id == queue.c.message_id).correlate(queue)
    if wanted.key_id is not None:
        inner = inner.where(messages.c.key_id == wanted.key_id)
    if wanted.tag is not None and conn.dialect.name == "postgresql":
        inner = inner.where(messages.c.tags.cast(JSONB).contains([wanted.tag]))
    elif wanted.tag is not None:
        tags = func.json_each(messages.c.tags).table_valued("value")
        inner = inner.where(select(tags.c.value).where(tags.c.value == wanted.tag).correlate(messages).exists())
    return inner.exists()


def listed(conn: Connection, wanted: Filter = EVERY, *, after: int = 0, limit: int = SLICE) -> list[Row[Any]]:
    """Waiting recipients in order of id, with their last reply and what their message is; `after` is the last id of the page before."""
    statement = (
        select(*_WAITING, queue.c.held, recipients.c.address, recipients.c.state, recipients.c.code, recipients.c.enhanced, recipients.c.text,
               messages.c.sender, messages.c.subject, messages.c.size, messages.c.key_id, messages.c.tags, messages.c.created_at)
        .join(recipients, recipients.c.id == queue.c.recipient_id).join(messages, messages.c.id == queue.c.message_id)
        .where(_where(conn, wanted), queue.c.recipient_id > after).order_by(queue.c.recipient_id).limit(limit)
    )
    return list(conn.execute(statement))


def count(conn: Connection, wanted: Filter = EVERY) -> int:
    """How many recipients wait."""
    return conn.scalar(select(func.count()).select_from(queue).where(_where(conn, wanted))) or 0


def counts(conn: Connection, now: float, limit: int = DOMAINS) -> list[Row[Any]]:
    """For metrics, by domain: (domain, ready, deferred, held, oldest first_due), the domains with the most first."""
    total = func.count()
    ready = func.count().filter(and_(not_(queue.c.held), queue.c.due <= now))
    held = func.count().filter(queue.c.held)
    statement = select(queue.c.domain, ready.label("ready"), (total - ready - held).label("deferred"), held.label("held"),
                       func.min(queue.c.first_due).label("oldest"))
    return list(conn.execute(statement.group_by(queue.c.domain).order_by(total.desc()).limit(limit)))


def oldest(conn: Connection, stream: str | None = None) -> float | None:
    """UTC seconds at which the recipient that waits longest was first due, or None."""
    statement = select(func.min(queue.c.first_due)).where(not_(queue.c.held))
    return conn.scalar(statement if stream is None else statement.where(queue.c.stream == stream))


def hold(conn: Connection, wanted: Filter = EVERY, limit: int = SLICE) -> list[int]:
    """Keep back up to `limit` recipients that match; their ids, so that the runner forgets them. Repeat until it gives none."""
    return _changed(conn, and_(_where(conn, wanted), not_(queue.c.held)), {"held": True}, limit)


def release(conn: Connection, wanted: Filter, now: float, limit: int = SLICE) -> list[int]:
    """Let up to `limit` held recipients go, scheduled ones not before their time; their ids. Repeat until it gives none."""
    return _changed(conn, and_(_where(conn, wanted), queue.c.held), {"held": False, "due": case((queue.c.due > now, queue.c.due), else_=now)}, limit)


def retry(conn: Connection, wanted: Filter, now: float, limit: int = SLICE) -> list[int]:
    """Make up to `limit` recipients due now that would be later; their ids. Repeat until it gives none."""
    return _changed(conn, and_(_where(conn, wanted), queue.c.due > now, not_(queue.c.held)), {"due": now}, limit)


def _changed(conn: Connection, which: ColumnElement[bool], values: dict[str, Any], limit: int) -> list[int]:
    picked = _pick(conn, which, limit)
    if picked:
        conn.execute(update(queue).where(queue.c.recipient_id.in_(picked)).values(values))
    return picked


def _pick(conn: Connection, which: ColumnElement[bool], limit: int) -> list[int]:
    statement = select(queue.c.recipient_id).where(which).order_by(queue.c.recipient_id).limit(limit)
    return list(conn.scalars(statement.with_for_update() if conn.dialect.name == "postgresql" else statement))


def cancel(conn: Connection, wanted: Filter, now: float, text: str = "cancelled", limit: int = SLICE) -> list[int]:
    """End up to `limit` recipients that match as cancelled; their ids. Repeat until it gives none.

    One whose DATA is under way may still be delivered: its settlement then finds no row and leaves only the attempt.
    """
    return end(conn, wanted, CANCELLED, Reply(250, "2.0.0", text), now, limit)


def end(conn: Connection, wanted: Filter, state: str, reply: Reply, now: float, limit: int = SLICE) -> list[int]:
    """End up to `limit` recipients that match, as `cancelled` or `suppressed`, with an event each; their ids."""
    picked = _pick(conn, _where(conn, wanted), limit)
    if picked:
        found = conn.execute(
            select(queue.c.recipient_id, queue.c.message_id, queue.c.project_id, recipients.c.address)
            .join(recipients, recipients.c.id == queue.c.recipient_id).where(queue.c.recipient_id.in_(picked))).all()
        settle_many(conn, [
            Settlement(r.recipient_id, r.message_id, r.project_id, state, reply, now, events=((f"email.{state}", {"to": r.address, "reason": reply.text}),))
            for r in found
        ])
    return picked


def reschedule(conn: Connection, message_id: int, send_at: float) -> int:
    """Move the first attempt of a message that was not tried yet; how many recipients that moved."""
    fresh = and_(queue.c.recipient_id.in_(select(recipients.c.id).where(recipients.c.message_id == message_id)), queue.c.attempts == 0)
    moved = conn.execute(update(queue).where(fresh).values(due=send_at, first_due=send_at)).rowcount
    if moved:
        conn.execute(update(messages).where(messages.c.id == message_id).values(send_at=send_at))
    return moved

