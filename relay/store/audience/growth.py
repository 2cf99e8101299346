"""The growth of segments: how many contacts came and went on each day, kept apart from who they were, so that it outlives them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select

from relay.store.audience.rules import DAY
from relay.store.audience.schema import memberships, segment_days, segment_members, segments
from relay.store.upsert import insert


def count(conn: Connection, number: int, came: int, went: int, at: float) -> None:
    """So many contacts came to the segment and went from it, at this time (UTC seconds)."""
    if came or went:
        row = insert(conn, segment_days).values(segment_id=number, day=math.floor(at / DAY), came=came, went=went)
        more = {"came": segment_days.c.came + row.excluded.came, "went": segment_days.c.went + row.excluded.went}
        conn.execute(row.on_conflict_do_update(index_elements=["segment_id", "day"], set_=more))


def erased(conn: Connection, contact_ids: Sequence[int], at: float) -> None:
    """These contacts are about to go, from every segment that they are in."""
    listed = select(segment_members.c.segment_id, func.count()).where(segment_members.c.contact_id.in_(list(contact_ids)))
    followed = select(memberships.c.segment_id, func.count()).where(memberships.c.contact_id.in_(list(contact_ids)))
    for number, went in conn.execute(listed.group_by(segment_members.c.segment_id)).all():
        count(conn, number, 0, went, at)
    for number, went in conn.execute(followed.group_by(memberships.c.segment_id)).all():
        if conn.scalar(select(segments.c.rules).where(segments.c.id == number)) is not None:  # a static one is counted by its list
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


def forget(conn: Connection, number: int) -> None:
    """The segment is of another kind now: what it grew by before says nothing of it."""
    conn.execute(delete(segment_days).where(segment_days.c.segment_id == number))
