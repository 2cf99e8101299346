"""Sending limits that hold across processes and nodes: never more than `limit` in any stretch of `period` seconds.

A period is cut into 20 slots, each a row `name/slot`; what counts is the slot of now and the 20 before it, which together cover at least one period, so the
bound is strict, and room comes back in small steps instead of all at once. The row `name` itself remembers the newest slot, for `give_back`.
"""

from __future__ import annotations

from sqlalchemy import Connection, case, delete, func, select, update

from relay.store.schema import counters
from relay.store.upsert import insert

SLOTS = 20
KEPT = 2 * 86_400.0  # seconds; the longest period is a day


def take(conn: Connection, name: str, limit: int, period: float, amount: int, now: float) -> float:
    """0.0 and `amount` counted, or the seconds until there is room and nothing counted.

    name    what is limited, such as "key:17:hour"; one name has one period
    amount  how many at once; one above `limit` never fits and is told to wait a period
    """
    _alone(conn, name)
    width = period / SLOTS
    slot = int(now // width)
    rows = conn.execute(select(counters.c.window, counters.c.used).where(counters.c.name.in_([f"{name}/{n}" for n in range(slot - SLOTS, slot + 1)]))).all()
    if sum(used for _, used in rows) + amount > limit:
        return max(_wait(sorted(tuple(row) for row in rows), limit - amount, width, now), 0.001)
    _count(conn, f"{name}/{slot}", slot * width, amount)
    _count(conn, name, slot * width, 0, slot)
    return 0.0


def used(conn: Connection, name: str, period: float, now: float) -> int:
    """How many count now."""
    width = period / SLOTS
    slot = int(now // width)
    names = [f"{name}/{n}" for n in range(slot - SLOTS, slot + 1)]
    return int(conn.scalar(select(func.coalesce(func.sum(counters.c.used), 0)).where(counters.c.name.in_(names))) or 0)


def _wait(rows: list[tuple[float, int]], room: int, width: float, now: float) -> float:
    """Seconds until enough of the oldest slots have left the period for the total to be within `room`."""
    total = sum(used for _, used in rows)
    for start, used in rows:
        total -= used
        if total <= room:
            return start + (SLOTS + 1) * width - now
    return width * SLOTS


def _count(conn: Connection, name: str, window: float, amount: int, newest: int | None = None) -> None:
    statement = insert(conn, counters).values(name=name, window=window, used=amount if newest is None else newest)
    change = counters.c.used + amount if newest is None else newest
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"window": window, "used": change}))


def _alone(conn: Connection, name: str) -> None:
    """On PostgreSQL two nodes must not both see the last free place; SQLite has one writer."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def give_back(conn: Connection, name: str, amount: int) -> None:
    """Undo a take of mail that was refused, replayed or suppressed; from the newest slot, which is where it nearly always was."""
    slot = conn.scalar(select(counters.c.used).where(counters.c.name == name))
    if slot is not None:
        left = case((counters.c.used > amount, counters.c.used - amount), else_=0)
        conn.execute(update(counters).where(counters.c.name == f"{name}/{slot}").values(used=left))


def prune(conn: Connection, now: float) -> int:
    """Drop slots that no period reaches any more; how many."""
    return conn.execute(delete(counters).where(counters.c.window < now - KEPT)).rowcount
