"""Memberships: who is in a tracked segment, as far as entries and exits have been told.

`memberships` may lag behind the truth, which is what the rules say (relay.store.audience.segments). `entering`, `leaving` and `moved` find where they differ,
`settle` makes them agree; whoever calls it writes the events in the same transaction, so each entry and exit is told exactly once, whatever dies when.

A segment that is not `settled` gets its first memberships, or new ones for new rules, and nothing of that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, literal, literal_column, not_, select, update

from relay.errors import Conflict
from relay.store.audience import growth, segments
from relay.store.audience.schema import contacts, memberships, segment_members
from relay.store.audience.schema import segments as table
from relay.store.audience.segments import Read, Segment
from relay.store.hot import Hot
from relay.store.upsert import insert

MOST = 50  # tracked segments of a project: each change of a contact is held against all of them
SMALL = 2_000  # contacts of a project whose memberships are settled in the transaction that asks for it
SLICE = 500  # contacts of one transaction
TOGETHER = 10  # segments asked about in one statement

_UNSETTLED = Hot(select(table.c.id).where(table.c.tracked, not_(table.c.settled)).limit(literal_column("1")))  # asked several times a second


@dataclass(frozen=True, slots=True)
class Moved:
    """Contacts that came to a segment and that went from it."""

    came: Sequence[int]
    went: Sequence[int]


def tracked(conn: Connection, projects: Iterable[int] | None = None) -> list[Segment]:
    """The tracked segments of these projects, or of all."""
    query = select(*segments.COLUMNS).where(table.c.tracked)
    if projects is not None:
        query = query.where(table.c.project_id.in_(list(projects)))
    return [Segment(*row) for row in conn.execute(query.order_by(table.c.id))]


def unsettled(conn: Connection) -> list[Segment]:
    """Tracked segments that have no memberships yet from which to tell."""
    if not _UNSETTLED(conn):
        return []
    return [Segment(*row) for row in conn.execute(select(*segments.COLUMNS).where(table.c.tracked, not_(table.c.settled)))]


def locked(conn: Connection, projects: Iterable[int]) -> list[Segment]:
    """The same; on PostgreSQL nobody changes them before the end of the transaction."""
    query = select(*segments.COLUMNS).where(table.c.tracked, table.c.project_id.in_(list(projects))).order_by(table.c.id)
    return [Segment(*row) for row in conn.execute(query.with_for_update(read=True))]


def room(conn: Connection, project: int, number: int) -> None:
    """Raises Conflict when the project cannot track this segment beside those it does."""
    others = select(func.count()).select_from(table).where(table.c.project_id == project, table.c.tracked, table.c.id != number)
    if (conn.scalar(others) or 0) >= MOST:
        raise Conflict(f"a project tracks the membership of at most {MOST} segments")


def entering(conn: Connection, segment: Segment, after: int, now: float, read: Read) -> list[int]:
    """Up to SLICE contacts that are in and have no membership, by id, after an id."""
    held = exists().where(memberships.c.segment_id == segment.id, memberships.c.contact_id == contacts.c.id)
    query = select(contacts.c.id).where(contacts.c.project_id == segment.project_id, contacts.c.id > after, segments.condition(conn, segment, now, read))
    return list(conn.scalars(query.where(not_(held)).order_by(contacts.c.id).limit(SLICE)))


def leaving(conn: Connection, segment: Segment, after: int, now: float, read: Read) -> list[int]:
    """Up to SLICE contacts that have a membership and are not in, by id, after an id."""
    query = select(contacts.c.id).join(memberships, memberships.c.contact_id == contacts.c.id).where(
        memberships.c.segment_id == segment.id, memberships.c.contact_id > after, not_(segments.condition(conn, segment, now, read)))
    return list(conn.scalars(query.order_by(memberships.c.contact_id).limit(SLICE)))


def moved(conn: Connection, among: Sequence[Segment], numbers: Sequence[int], now: float, read: Read) -> dict[int, Moved]:
    """Of some contacts, up to SLICE, those whose membership of some segments is not as the rules say, by segment."""
    found: dict[int, Moved] = {}
    held: dict[int, set[int]] = {}
    query = select(memberships.c.segment_id, memberships.c.contact_id).where(memberships.c.contact_id.in_(list(numbers)))
    for number, contact in conn.execute(query):
        held.setdefault(number, set()).add(contact)
    for start in range(0, len(among), TOGETHER):
        some = among[start:start + TOGETHER]
        rows = conn.execute(select(contacts.c.id, contacts.c.project_id, *(
            segments.condition(conn, each, now, read).label(f"in_{each.id}") for each in some)).where(contacts.c.id.in_(list(numbers)))).all()
        for place, segment in enumerate(some, 2):
            here, were = {row[0] for row in rows if row[1] == segment.project_id}, held.get(segment.id, set())
            are = {row[0] for row in rows if row[0] in here and row[place]}
            if are != were & here:
                found[segment.id] = Moved(sorted(are - were), sorted((were & here) - are))
    return found


def settle(conn: Connection, among: Sequence[Segment], numbers: Sequence[int], now: float, read: Read) -> list[tuple[Segment, Moved]]:
    """As `moved`, and their memberships are now as the rules say. Where nodes settle the same at once, a contact moved for the one whose row it was."""
    found = moved(conn, among, numbers, now, read)
    given = [(segment, Moved(_put(conn, segment.id, each.came, now), _taken(conn, segment.id, each.went)))
             for segment in among if (each := found.get(segment.id)) is not None]
    for segment, each in given:
        if segment.rules is not None:
            growth.count(conn, segment.id, len(each.came), len(each.went), now)
    return given


def _put(conn: Connection, number: int, contact_ids: Sequence[int], now: float) -> list[int]:
    """Which of these contacts, of those that there are, had no membership and have one now."""
    if not contact_ids:
        return []
    some = select(literal(number), contacts.c.id, literal(now)).where(contacts.c.id.in_(list(contact_ids)))
    row = insert(conn, memberships).from_select(["segment_id", "contact_id", "since"], some).on_conflict_do_nothing(index_elements=["segment_id", "contact_id"])
    return sorted(conn.scalars(row.returning(memberships.c.contact_id)))


def _taken(conn: Connection, number: int, contact_ids: Sequence[int]) -> list[int]:
    """Which of these contacts had a membership and have none now."""
    if not contact_ids:
        return []
    off = delete(memberships).where(memberships.c.segment_id == number, memberships.c.contact_id.in_(list(contact_ids)))
    return sorted(conn.scalars(off.returning(memberships.c.contact_id)))


def begin(conn: Connection, segment: Segment, now: float, read: Read) -> None:
    """New memberships for a segment, of which nothing is told: at once in a small project or for a short list, else as somebody walks over the contacts."""
    if conn.dialect.name == "postgresql":  # a slice of an import, which runs beside this, has begun when nobody tracked the segment, and notes nobody
        conn.execute(select(func.pg_advisory_xact_lock(segment.project_id)))
    conn.execute(update(table).where(table.c.id == segment.id).values(settled=False))
    if (short := _short(conn, segment)) is not None:
        for start in range(0, len(short), SLICE):
            settle(conn, [segment], short[start:start + SLICE], now, read)
        end(conn, segment)
        return
    some = select(contacts.c.id).where(contacts.c.project_id == segment.project_id).limit(SMALL + 1).subquery()
    if (conn.scalar(select(func.count()).select_from(some)) or 0) > SMALL:
        return
    for find in (entering, leaving):
        while found := find(conn, segment, 0, now, read):
            settle(conn, [segment], found, now, read)
    end(conn, segment)


def _short(conn: Connection, segment: Segment) -> list[int] | None:
    """Whom alone a segment kept by hand can be about, of however many contacts; None for one with rules, in an audience, or of more than SMALL."""
    if segment.rules is not None or segment.audience_id is not None:
        return None
    listed = select(segment_members.c.contact_id).where(segment_members.c.segment_id == segment.id)
    held = select(memberships.c.contact_id).where(memberships.c.segment_id == segment.id)
    found = list(conn.scalars(listed.union(held).limit(SMALL + 1)))
    return found if len(found) <= SMALL else None


def end(conn: Connection, segment: Segment) -> bool:
    """Whether the segment is settled: unless it was changed meanwhile."""
    same = update(table).where(table.c.id == segment.id, table.c.updated_at == segment.updated_at, table.c.tracked)
    return conn.execute(same.values(settled=True)).rowcount == 1


def erased(conn: Connection, contact_ids: Sequence[int], now: float) -> list[tuple[Segment, list[int]]]:
    """Take the memberships of contacts that are about to go; the settled segments that they were in, and who was in each."""
    held = exists().where(memberships.c.segment_id == table.c.id, memberships.c.contact_id.in_(list(contact_ids)))
    found = []
    for row in conn.execute(select(*segments.COLUMNS).where(table.c.tracked, held).order_by(table.c.id)).all():
        segment = Segment(*row)
        gone = _taken(conn, segment.id, contact_ids)
        if segment.rules is not None:
            growth.count(conn, segment.id, 0, len(gone), now)
        if segment.settled:
            found.append((segment, gone))
    return found


def left(conn: Connection) -> int | None:
    """A segment that is no longer tracked and has memberships still."""
    any_ = exists().where(memberships.c.segment_id == table.c.id)
    return conn.scalar(select(table.c.id).where(not_(table.c.tracked), any_).limit(1))


def sweep(conn: Connection, number: int) -> None:
    """Delete memberships of such a segment, up to SLICE of them."""
    some = select(memberships.c.contact_id).where(memberships.c.segment_id == number, exists().where(table.c.id == number, not_(table.c.tracked))).limit(SLICE)
    conn.execute(delete(memberships).where(memberships.c.segment_id == number, memberships.c.contact_id.in_(some)))
