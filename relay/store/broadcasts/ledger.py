"""The ledger: one row for each contact of a broadcast's audience, and exactly one outcome on each.

    looked at ──► pending ──► queued ──► delivered | bounced | failed | suppressed | cancelled
             └──► skipped         └ (relay.store.broadcasts.tally)
             pending ──► skipped | failed | cancelled
             skipped: unsubscribed, suppressed, opted_out or deleted, when it was looked at or when its copy was to be queued

`audience` and `gather` put contacts in, a slice at a time behind a cursor that moves in the same transaction; `turn` gives those whose turn it is; `queue`
takes them out of waiting and writes their messages, in one transaction that asks again whether the broadcast goes on and whether the person still wants it.
So at whatever point a process dies, a contact is in the ledger once, and is either still waiting or has its message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, bindparam, case, exists, false, func, literal, or_, select, update

from relay.mail.message import TRANSACTIONAL, Message
from relay.mail.reply import Reply
from relay.store import bulk, faults, messages, suppression_rules
from relay.store import queue as waiting_mail
from relay.store.audience import contacts, segments, topics
from relay.store.audience.contacts import Contact
from relay.store.audience.rules import Rule
from relay.store.audience.schema import audience_members, subscriptions
from relay.store.audience.schema import contacts as people
from relay.store.audience.schema import segments as segments_table
from relay.store.broadcasts import counts
from relay.store.broadcasts.broadcasts import SENDING, Broadcast
from relay.store.broadcasts.schema import broadcasts as table
from relay.store.broadcasts.schema import ledger
from relay.store.hot import Packed
from relay.store.schema import suppressions

PENDING, QUEUED, SKIPPED, CANCELLED = "pending", "queued", "skipped", "cancelled"
RESERVED, TURN, LEFT = 0, 1, 2  # of `waiting`
SLICE = 1_000  # rows of one write
REASONS = ("unsubscribed", "suppressed", "opted_out", "deleted")

Read = Callable[[Any], Rule]


@dataclass(frozen=True, slots=True)
class Found:
    """A contact of the audience as the walk meets it; `reason` why it gets nothing, "" if it may."""

    contact_id: int
    domain: str
    reason: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is: the row's id, the contact as it is now (None = deleted), its variant and domain."""

    id: int
    contact_id: int
    variant: int
    domain: str
    contact: Contact | None


@dataclass(frozen=True, slots=True)
class Copy:
    """What is to become of a row: its message, or why there is none. `variant` is the one it was rendered from."""

    id: int
    contact_id: int
    variant: int
    message: Message | None
    state: str = QUEUED
    reason: str = ""


# Who is in it.


def question(conn: Connection, broadcast: Broadcast, now: float) -> dict[str, Any]:
    """The audience as it is asked for from now on: what the segment asks at this moment, and the moment."""
    asked: dict[str, Any] = {"now": now, "audience": broadcast.audience_id, "rules": broadcast.rules}
    if broadcast.segment_id is not None:
        segment = segments.get(conn, broadcast.project_id, broadcast.segment_id)
        asked["segment"] = {"id": segment.id, "rules": segment.rules, "audience": segment.audience_id}
    return asked


def _asked(conn: Connection, broadcast: Broadcast, asked: dict[str, Any], read: Read) -> ColumnElement[bool]:
    """The audience as a condition on contacts."""
    parts = [people.c.project_id == broadcast.project_id]
    if asked.get("audience") is not None:
        parts.append(exists().where(audience_members.c.audience_id == asked["audience"], audience_members.c.contact_id == people.c.id))
    if asked.get("rules") is not None:
        parts.append(segments.where(conn, broadcast.project_id, read(asked["rules"]), asked["now"], read))
    if (segment := asked.get("segment")) is not None:
        kept = select(segments_table.c.id).where(segments_table.c.id == segment["id"]).exists()
        as_it_was = segments.Segment(segment["id"], broadcast.project_id, "", "", segment["rules"], segment["audience"], False, 0.0, 0.0)
        parts.append(segments.condition(conn, as_it_was, asked["now"], read) if segment["rules"] is not None else
                     and_(kept, segments.condition(conn, as_it_was, asked["now"], read)))
    return and_(*parts)


def refusal(broadcast: Broadcast) -> ColumnElement[str]:
    """Why a contact gets no copy of it, "" if it may."""
    return refused(broadcast.project_id, broadcast.stream, broadcast.topic_id)


def refused(project: int, stream: str, topic: int | None) -> ColumnElement[str]:
    """Why a contact gets no mail of this stream and topic, "" if it may: read where it is asked, never remembered. Transactional mail is stopped by what stops
    all mail."""
    plain = stream == TRANSACTIONAL
    entry = and_(suppressions.c.project_id == project, suppressions.c.key == people.c.key,
                 suppressions.c.scope.in_(("all",) if plain else ("all", "marketing")))
    left = exists().where(entry, suppressions.c.reason == "unsubscribe")
    stopped = or_(exists().where(entry, suppressions.c.reason != "unsubscribe"), suppression_rules.matching(project, people.c.key))
    out: ColumnElement[bool] = false()
    if topic is not None and not plain:
        entry = and_(suppressions.c.project_id == project, suppressions.c.key == people.c.key)
        out = or_(exists().where(entry, suppressions.c.scope == topics.scope(topic)),
                  exists().where(subscriptions.c.topic_id == topic, subscriptions.c.contact_id == people.c.id, subscriptions.c.subscribed.is_(False)))
    gone = left if plain else or_(people.c.unsubscribed.is_(True), left)
    return case((stopped, literal("suppressed")), (gone, literal("unsubscribed")), (out, literal("opted_out")), else_=literal(""))


def audience(conn: Connection, broadcast: Broadcast, read: Read, limit: int = SLICE) -> list[Found]:
    """The next contacts of the audience after the cursor, by id."""
    query = select(people.c.id, people.c.key, refusal(broadcast)).where(
        people.c.id > broadcast.cursor, people.c.id <= broadcast.until, _asked(conn, broadcast, broadcast.asked, read))
    return [Found(number, key.rpartition("@")[2], reason) for number, key, reason in Packed(query.order_by(people.c.id).limit(limit))(conn)]


def sizes(conn: Connection, broadcast: Broadcast, now: float, read: Read, limit: int = 200) -> tuple[dict[str, int], Counter[str]]:
    """Before it is sent: how many may get it by domain, the largest `limit` and "" for the rest, and how many do not, by reason."""
    domain = _domain(conn)
    asked = _asked(conn, broadcast, question(conn, broadcast, now), read)
    inner = select(refusal(broadcast).label("reason"), domain.label("domain")).where(asked).subquery()
    by_reason = Counter({row[0]: row[1] for row in conn.execute(select(inner.c.reason, func.count()).group_by(inner.c.reason))})
    able = by_reason.pop("", 0)
    rows = conn.execute(select(inner.c.domain, func.count()).where(inner.c.reason == "").group_by(inner.c.domain).order_by(func.count().desc()).limit(limit))
    by_domain = {row[0]: row[1] for row in rows}
    rest = able - sum(by_domain.values())
    return ({**by_domain, "": rest} if rest else by_domain), by_reason


def _domain(conn: Connection) -> ColumnElement[str]:
    """What follows the last @ of a key."""
    key = people.c.key
    if conn.dialect.name == "postgresql":
        return func.substring(key, "@([^@]*)$")
    return func.replace(key, func.rtrim(key, func.replace(key, "@", "")), "")


def gather(conn: Connection, broadcast: Broadcast, rows: Sequence[tuple[int, Found, int, int | None]], last: int, whole: bool, now: float) -> bool:
    """Put a slice of the audience in the ledger; False, and nothing changed, when the broadcast does not go on from where it was.

    rows   an id, the contact, its variant, and TURN, RESERVED or None for one that is skipped
    last   the contact that the walk has come to
    whole  whether that was all of it
    """
    able = sum(waiting is not None for *_, waiting in rows)
    moved = update(table).where(table.c.id == broadcast.id, table.c.status == SENDING, table.c.cursor == broadcast.cursor, table.c.gathered.is_(False))
    if conn.execute(moved.values(cursor=last, gathered=whole, seen=table.c.seen + able)).rowcount == 0:
        return False
    added, figures = [], Counter()
    for number, found, variant, waiting in rows:
        state = SKIPPED if waiting is None else PENDING
        added.append((number, broadcast.id, found.contact_id, variant, found.domain, waiting, state, found.reason, now, None, None, None, None))
        figures[broadcast.id, variant, _name(state, found.reason)] += 1
    bulk.insert(conn, ledger, added)
    counts.add(conn, figures)
    faults.point("broadcast.gathered")
    return True


def _name(state: str, reason: str) -> str:
    """What a row is counted as."""
    return f"skipped.{reason}" if state == SKIPPED else state


# Whose turn it is.

_TURN = (ledger.c.id, ledger.c.contact_id, ledger.c.variant, ledger.c.domain)


def turn(conn: Connection, broadcast: Broadcast, waiting: int, after: tuple[str, int], full: Sequence[str], limit: int) -> list[Turn]:
    """The next rows by domain and contact, without the domains that have no room.

    after  domain and contact of the last one; ("", 0) begins anew
    full   domains that are passed over, sorted
    """
    found: list[Any] = []
    low, contact = after
    gaps = [name for name in full if name > low]
    if low in full:
        contact = _LAST
    for high in (*gaps, None):
        found += _between(contact == _LAST, high is not None)(
            conn, number=broadcast.id, waiting=waiting, low=low, contact=contact, high=high, limit=limit - len(found))
        if len(found) >= limit or high is None:
            break
        low, contact = high, _LAST
    return _with_contacts(conn, broadcast.project_id, found)


_LAST = (1 << 63) - 1


@cache
def _between(passed: bool, bounded: bool) -> Packed:
    """Up to `limit` rows after (`low`, `contact`) by the index of turns; after all of `low` where it is `passed`, before `high` where they are `bounded`."""
    low, high = bindparam("low", type_=Text), bindparam("high", type_=Text)
    mine = [ledger.c.broadcast_id == bindparam("number"), ledger.c.waiting == bindparam("waiting")]
    if passed:
        mine.append(ledger.c.domain > low)
    else:
        mine += [ledger.c.domain >= low, or_(ledger.c.domain > low, ledger.c.contact_id > bindparam("contact"))]
    if bounded:
        mine.append(ledger.c.domain < high)
    return Packed(select(*_TURN).where(*mine).order_by(ledger.c.domain, ledger.c.contact_id).limit(bindparam("limit")))


def _with_contacts(conn: Connection, project: int, rows: Sequence[Any]) -> list[Turn]:
    known: dict[int, Contact] = {}
    for start in range(0, len(rows), contacts.KEYS):
        part = [contact for _, contact, *_ in rows[start:start + contacts.KEYS]]
        known |= {each.id: each for each in contacts.by_ids(conn, project, part)}
    return [Turn(*row, known.get(row[1])) for row in rows]


def left(conn: Connection, number: int) -> set[int]:
    """What the broadcast still has rows of: RESERVED, TURN, LEFT; empty when each has its outcome."""
    return {waiting for waiting in (RESERVED, TURN, LEFT)
            if conn.scalar(select(exists().where(ledger.c.broadcast_id == number, ledger.c.waiting == waiting)))}


def domains(conn: Connection, number: int, limit: int = 200) -> dict[str, int]:
    """Who waits, by domain: the largest `limit`, and "" for the rest."""
    mine = and_(ledger.c.broadcast_id == number, ledger.c.waiting < LEFT)
    total = conn.scalar(select(func.count()).select_from(ledger).where(mine)) or 0
    rows = conn.execute(select(ledger.c.domain, func.count()).where(mine).group_by(ledger.c.domain).order_by(func.count().desc()).limit(limit))
    found = {row[0]: row[1] for row in rows}
    rest = total - sum(found.values())
    return {**found, "": rest} if rest else found


# Out of waiting.


def queue(conn: Connection, broadcast: Broadcast, copies: Sequence[Copy], now: float) -> list[Message]:
    """Queue these copies; the messages that are in the queue now.

    None is queued unless the broadcast still sends; a row that waits no longer is left alone; a person who wants no more of it is skipped.
    """
    status = select(table.c.status).where(table.c.id == broadcast.id)
    if conn.scalar(status.with_for_update() if conn.dialect.name == "postgresql" else status) != SENDING:
        return []
    before = _waiting(conn, [copy.id for copy in copies])
    refused = _refused(conn, broadcast, [copy.contact_id for copy in copies])
    changed, accepted, figures = [], [], Counter()
    for copy in copies:
        if copy.id not in before:
            continue
        state, reason = copy.state, copy.reason
        if state in (QUEUED, SKIPPED) and (why := refused.get(copy.contact_id, "deleted")):
            state, reason = SKIPPED, why
        if state == QUEUED:
            accepted.append(copy.message)
        changed.append((copy.id, copy.variant, LEFT if state == QUEUED else None, state, bulk.clean(reason, 200), now))
        figures[broadcast.id, before[copy.id], PENDING] -= 1
        figures[broadcast.id, copy.variant, _name(state, reason)] += 1
    messages.add_many(conn, accepted)
    bulk.update(conn, ledger, "id", ("variant", "waiting", "state", "reason", "at"), changed)
    counts.add(conn, figures)
    faults.point("broadcast.queued")
    return accepted


def _waiting(conn: Connection, numbers: Sequence[int]) -> dict[int, int]:
    """Which of these rows still wait, and their variants; locked on PostgreSQL."""
    embedded = conn.dialect.name == "sqlite"
    return dict(_those_waiting(embedded)(conn, numbers=bulk.listed(embedded, numbers)))


@cache
def _those_waiting(embedded: bool) -> Packed:
    query = select(ledger.c.id, ledger.c.variant).where(bulk.named(embedded, ledger.c.id, "numbers"), ledger.c.waiting < LEFT).order_by(ledger.c.id)
    return Packed(query if embedded else query.with_for_update())


def _refused(conn: Connection, broadcast: Broadcast, contact_ids: Sequence[int]) -> dict[int, str]:
    """Of those contacts that there still are: why not, or ""."""
    embedded = conn.dialect.name == "sqlite"
    return dict(_those_refused(embedded, broadcast.project_id, broadcast.stream, broadcast.topic_id)(conn, numbers=bulk.listed(embedded, contact_ids)))


@lru_cache(64)
def _those_refused(embedded: bool, project: int, stream: str, topic: int | None) -> Packed:
    query = select(people.c.id, refused(project, stream, topic))
    return Packed(query.where(people.c.project_id == project, bulk.named(embedded, people.c.id, "numbers")))


def cancel(conn: Connection, number: int, now: float, limit: int = SLICE) -> int:
    """End up to `limit` of those who wait as cancelled; how many. Repeat until it is none."""
    rows = conn.execute(select(ledger.c.id, ledger.c.variant).where(ledger.c.broadcast_id == number, ledger.c.waiting < LEFT).limit(limit)).all()
    bulk.update(conn, ledger, "id", ("waiting", "state", "at"), [(row.id, None, CANCELLED, now) for row in rows])
    figures: Counter[counts.Key] = Counter()
    for row in rows:
        figures[number, row.variant, PENDING] -= 1
        figures[number, row.variant, CANCELLED] += 1
    counts.add(conn, figures)
    return len(rows)


def prune(conn: Connection, cut: float, limit: int) -> int:
    """Drop up to so many rows of broadcasts that ended before the cut; how many. Their figures stay."""
    ended = select(table.c.id).where(table.c.ended_at < cut)
    return _drop(conn, ledger.c.broadcast_id.in_(ended), limit)


def empty(conn: Connection, number: int, limit: int = SLICE) -> int:
    """Drop up to so many rows of a broadcast that is about to be deleted; how many. Repeat until it is none."""
    return _drop(conn, ledger.c.broadcast_id == number, limit)


def _drop(conn: Connection, which: ColumnElement[bool], limit: int) -> int:
    old = list(conn.scalars(select(ledger.c.id).where(which).limit(limit)))
    bulk.delete(conn, ledger, "id", old)
    return len(old)


def in_queue(conn: Connection, number: int, after: int = 0, limit: int = 500) -> list[int]:
    """Recipients of the broadcast whose copies are in the queue, by id."""
    query = select(ledger.c.id).where(ledger.c.broadcast_id == number, ledger.c.waiting == LEFT, ledger.c.id > after)
    return list(conn.scalars(query.order_by(ledger.c.id).limit(limit)))


def hold(conn: Connection, recipients: Sequence[int]) -> list[int]:
    return waiting_mail.hold(conn, waiting_mail.Filter(among=tuple(recipients)), len(recipients))


def release(conn: Connection, recipients: Sequence[int], now: float) -> list[int]:
    return waiting_mail.release(conn, waiting_mail.Filter(among=tuple(recipients)), now, len(recipients))


def stop(conn: Connection, recipients: Sequence[int], now: float) -> list[int]:
    """End the queued copies to these recipients as cancelled."""
    return waiting_mail.end(conn, waiting_mail.Filter(among=tuple(recipients)), CANCELLED, Reply(250, "2.0.0", "the broadcast was cancelled"), now,
                            len(recipients))
