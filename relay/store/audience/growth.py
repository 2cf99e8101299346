"""The growth of segments, kept apart from who is in them, so that it outlives people.

Of lists and tracked segments each coming and going is counted on its day. A segment that is asked anew each time and not tracked is counted once a day, by a
chore: `uncounted` are those whose turn it is, `note` keeps the figure. When tracking ends, `fix` makes such figures of what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, Text, cast, delete, exists, func, not_, select

from relay.store.audience.rules import DAY
from relay.store.audience.schema import segment_days, segment_members, segment_sizes, segments
from relay.store.upsert import insert

KEPT = 400  # days: a year and something, as far as anybody may ask


def count(conn: Connection, number: int, came: int, went: int, at: float) -> None:
    """So many contacts came to the segment and went from it, at this time (UTC seconds)."""
    if came or went:
        row = insert(conn, segment_days).values(segment_id=number, day=math.floor(at / DAY), came=came, went=went)
        more = {"came": segment_days.c.came + row.excluded.came, "went": segment_days.c.went + row.excluded.went}
        conn.execute(row.on_conflict_do_update(index_elements=["segment_id", "day"], set_=more))


def erased(conn: Connection, contact_ids: Sequence[int], at: float) -> None:
    """These contacts are about to go, from every list that they are on."""
    listed = select(segment_members.c.segment_id, func.count()).where(segment_members.c.contact_id.in_(list(contact_ids)))
    for number, went in conn.execute(listed.group_by(segment_members.c.segment_id).order_by(segment_members.c.segment_id)).all():
        count(conn, number, 0, went, at)


def daily(conn: Connection, number: int, members: int, days: int, now: float) -> list[tuple[float, int]]:
    """Members at the end of each of the last days, oldest first, when there are so many now: (start of the day in UTC seconds, members)."""
    today = math.floor(now / DAY)
    query = select(segment_days.c.day, segment_days.c.came - segment_days.c.went).where(segment_days.c.segment_id == number, segment_days.c.day > today - days)
    change = {row[0]: row[1] for row in conn.execute(query)}
    found = []
    for day in range(today, today - days, -1):
        found.append((day * DAY, members))
        members -= change.get(day, 0)
    return found[::-1]


def fix(conn: Connection, number: int, members: int, now: float) -> None:
    """Nobody follows the segment any more, which has so many members now: what came and went each day is kept as what it had on each."""
    first = conn.scalar(select(func.min(segment_days.c.day)).where(segment_days.c.segment_id == number))
    if first is not None:
        for at, size in daily(conn, number, members, min(KEPT, math.floor(now / DAY) - first + 1), now):
            note(conn, number, size, at)
        conn.execute(delete(segment_days).where(segment_days.c.segment_id == number))


def uncounted(conn: Connection, now: float, limit: int) -> list[tuple[int, int]]:
    """Segments with rules, not tracked, that nobody has counted today: (project, segment)."""
    today = exists().where(segment_sizes.c.segment_id == segments.c.id, segment_sizes.c.day == math.floor(now / DAY))
    wanted = cast(segments.c.rules, Text) != "null", segments.c.rules.is_not(None), not_(segments.c.tracked), not_(today)
    return [tuple(row) for row in conn.execute(select(segments.c.project_id, segments.c.id).where(*wanted).order_by(segments.c.id).limit(limit))]


def note(conn: Connection, number: int, members: int, now: float) -> None:
    """So many contacts are in the segment today; does nothing for one that is gone, or was counted by another node."""
    if conn.scalar(select(segments.c.id).where(segments.c.id == number)) is not None:
        row = insert(conn, segment_sizes).values(segment_id=number, day=math.floor(now / DAY), members=members)
        conn.execute(row.on_conflict_do_nothing(index_elements=["segment_id", "day"]))


def sizes(conn: Connection, number: int, days: int, now: float) -> list[tuple[float, int]]:
    """The days of the last that were counted, oldest first: (start of the day in UTC seconds, members)."""
    query = select(segment_sizes.c.day, segment_sizes.c.members).where(segment_sizes.c.segment_id == number)
    return [(row[0] * DAY, row[1]) for row in conn.execute(query.where(segment_sizes.c.day > math.floor(now / DAY) - days).order_by(segment_sizes.c.day))]


def latest(conn: Connection, numbers: Sequence[int]) -> dict[int, int]:
    """The last counts of these segments, without those that were never counted."""
    mine = segment_sizes.c.segment_id.in_(list(numbers))
    last = select(segment_sizes.c.segment_id, func.max(segment_sizes.c.day).label("day")).where(mine).group_by(segment_sizes.c.segment_id).subquery()
    same = (segment_sizes.c.segment_id == last.c.segment_id) & (segment_sizes.c.day == last.c.day)
    return {row[0]: row[1] for row in conn.execute(select(segment_sizes.c.segment_id, segment_sizes.c.members).join(last, same))}


def prune(conn: Connection, now: float) -> int:
    """Drop what is older than KEPT days; how many."""
    return conn.execute(delete(segment_sizes).where(segment_sizes.c.day < math.floor(now / DAY) - KEPT)).rowcount


def forget(conn: Connection, number: int) -> None:
    """The segment is of another kind now: what it grew by before says nothing of it."""
    conn.execute(delete(segment_days).where(segment_days.c.segment_id == number))
    conn.execute(delete(segment_sizes).where(segment_sizes.c.segment_id == number))
