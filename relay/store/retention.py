"""Retention: octets, attempts, events and messages go when their time is over, a slice at a time behind the mail, and their space goes back to the file system.

    octets      `bodies` after the last recipient of the last message that has them ended
    attempts    `attempts` after they were made
    events      `events` after they happened
    messages    `messages` after their last recipient ended, with recipients and what is left of attempts
    inbound     mail to domains after it came, with its octets
    reports     DMARC and TLS reports after they came
    ledger      who got a broadcast, after it ended; its figures stay

Ids begin with their milliseconds, so "older than" is a range of the primary key and needs no index of its own. SQLite's free pages are cut off the file
(incremental vacuum). A segment that no row names is unlinked; one that is mostly dead has its survivors copied to the end first. PostgreSQL vacuums by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, exists, func, or_, select

from relay import log
from relay.clock import Clock
from relay.errors import RelayError, StoreError
from relay.mail.ids import EPOCH
from relay.store import bulk, idempotency, totals
from relay.store.broadcasts import ledger
from relay.store.engine import JOBS, Store
from relay.store.inbound import mail, reports
from relay.store.inbound.schema import inbound
from relay.store.schema import attempts, bodies, events, messages, recipients
from relay.store.segments import Segments

SLICE = 500  # rows of one write
INTERVAL = 300.0  # seconds between sweeps
PAGES = 2_000  # free pages (8 MB) given back in one write
SPARSE = 0.25  # live share of a segment below which its survivors are moved
MOVED = 8_000_000  # octets moved in one write

LOG = log.get("store")


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is kept, in seconds."""

    bodies: float = 7 * 86_400.0
    attempts: float = 90 * 86_400.0
    events: float = 90 * 86_400.0
    messages: float = 90 * 86_400.0
    inbound: float = 30 * 86_400.0
    reports: float = 180 * 86_400.0
    ledger: float = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many of each went, and bytes of segments."""

    bodies: int = 0
    attempts: int = 0
    events: int = 0
    messages: int = 0
    keys: int = 0
    inbound: int = 0
    reports: int = 0
    ledger: int = 0
    bytes: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


async def run(store: Store, keep: Keep, clock: Clock, interval: float = INTERVAL) -> None:
    """Sweep for ever; a store that is away is tried again at the next turn."""
    while True:
        try:
            gone = await sweep(store, keep, clock.now())
            if gone:
                LOG.info("pruned", **{name: getattr(gone, name) for name in gone.__slots__})
        except RelayError as error:
            LOG.warning("retention postponed", error=error.text)
        await asyncio.sleep(interval)


async def sweep(store: Store, keep: Keep, now: float) -> Pruned:
    """Drop all whose time is over, slice by slice, and give the space back."""
    total = Pruned()
    while True:
        gone = await store.write(prune, keep, now, lane=JOBS)
        total += gone
        if not gone:
            break
    if store.dialect == "sqlite" and store.segments is not None:
        while await store.write(compact, lane=JOBS):
            pass
        unused = await store.write(unused_segments, lane=JOBS)
        total += Pruned(bytes=sum(store.segments.drop(number) for number in unused))
        while await store.write(shrink, lane=JOBS):
            pass
    return total


def prune(conn: Connection, keep: Keep, now: float, limit: int = SLICE) -> Pruned:
    """Drop at most `limit` rows of each kind; nothing gone means that nothing is left to go."""
    return Pruned(
        _bodies(conn, now - keep.bodies, limit), _older(conn, attempts, now - keep.attempts, limit), _older(conn, events, now - keep.events, limit),
        _messages(conn, now - keep.messages, limit), idempotency.prune(conn, now, limit),
        mail.prune(conn, _first(now - keep.inbound), limit), reports.prune(conn, _first(now - keep.reports), limit),
        ledger.prune(conn, now - keep.ledger, limit),
    )


def _first(seconds: float) -> int:
    """The smallest id made at or after this time."""
    return max(0, int(seconds * 1000) - EPOCH) << 21


def _older(conn: Connection, table, cut: float, limit: int) -> int:
    old = conn.scalars(select(table.c.id).where(table.c.id < _first(cut)).order_by(table.c.id).limit(limit)).all()
    bulk.delete(conn, table, "id", old)
    return len(old)


def _open_since(message, cut: float):
    """Whether the message has a recipient that waits, or ended after the cut."""
    return exists().where(recipients.c.message_id == message, or_(recipients.c.ended_at.is_(None), recipients.c.ended_at >= cut))


def _bodies(conn: Connection, cut: float, limit: int) -> int:
    own = _open_since(bodies.c.id, cut)
    shared = exists().where(and_(messages.c.body_id == bodies.c.id, messages.c.body_id != messages.c.id), _open_since(messages.c.id, cut))
    received = exists().where(inbound.c.id == bodies.c.id)
    old = conn.scalars(select(bodies.c.id).where(bodies.c.id < _first(cut), ~own, ~shared, ~received).order_by(bodies.c.id).limit(limit)).all()
    bulk.delete(conn, bodies, "id", old)
    return len(old)


def _messages(conn: Connection, cut: float, limit: int) -> int:
    old = conn.scalars(
        select(messages.c.id).where(messages.c.id < _first(cut), ~_open_since(messages.c.id, cut)).order_by(messages.c.id).limit(limit)).all()
    if old:
        shared = set(conn.scalars(select(messages.c.body_id).where(messages.c.body_id.in_(old), messages.c.body_id != messages.c.id)))
        bulk.delete(conn, bodies, "id", set(old) - shared)
        bulk.delete(conn, attempts, "message_id", old)
        totals.forget(conn, old)
        bulk.delete(conn, messages, "id", old)  # recipients go with them (ON DELETE CASCADE)
    return len(old)


# SQLite's files. These run in the writer's thread, where no append is under way but those of the same transaction.


def unused_segments(conn: Connection) -> list[int]:
    """Full segments that no row names; they may be unlinked once this has committed."""
    segments: Segments = conn.info["segments"]
    used = set(conn.scalars(select(bodies.c.segment).where(bodies.c.segment.is_not(None)).distinct()))
    return [number for number in _full(segments) if number not in used]


def compact(conn: Connection) -> int:
    """Move some survivors of a mostly dead segment to the end of the last one; how many. Repeat until it is none."""
    segments: Segments = conn.info["segments"]
    live = dict(conn.execute(select(bodies.c.segment, func.sum(bodies.c.size)).where(bodies.c.segment.is_not(None)).group_by(bodies.c.segment)).all())
    sparse = [number for number in _full(segments) if 0 < live.get(number, 0) < SPARSE * segments.path(number).stat().st_size]
    if not sparse:
        return 0
    return _move(conn, segments, conn.execute(
        select(bodies.c.id, bodies.c.segment, bodies.c.offset, bodies.c.size, bodies.c.crc).where(bodies.c.segment == sparse[0]).limit(SLICE)))


def _move(conn: Connection, segments: Segments, rows: Iterable) -> int:
    moved, octets = [], 0
    for row in rows.all():
        if octets > MOVED:
            break
        try:
            data = segments.read(row.segment, row.offset, row.size, row.crc)
        except (StoreError, OSError) as error:
            LOG.error("body lost", id=row.id, segment=row.segment, error=str(error))
            conn.execute(delete(bodies).where(bodies.c.id == row.id))
            continue
        moved.append((row.id, *segments.append(data)))
        octets += row.size
    bulk.update(conn, bodies, "id", ("segment", "offset", "crc"), moved)
    return len(moved)


def _full(segments: Segments) -> list[int]:
    """The segments to which nothing is appended any more."""
    return segments.numbers()[:-1]


def shrink(conn: Connection) -> int:
    """Cut free pages off the database file; how many. Repeat until it is none."""
    before = conn.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    if before:
        conn.connection.dbapi_connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()  # gives back one page for each row fetched
    return before - conn.exec_driver_sql("PRAGMA freelist_count").scalar_one()
