"""The last time that the clock of a relay's machine was set, for `relay check` to tell of (B23)."""

from __future__ import annotations

from sqlalchemy import Connection, select

from relay.store.schema import meta
from relay.store.upsert import insert

KEY = "clock_step"


def note(conn: Connection, at: float, seconds: float) -> None:
    """At `at` (UTC seconds, by the clock as it is now) it was found set forward by so many seconds, back if negative."""
    value = f"{at:.0f} {seconds:.0f}"
    conn.execute(insert(conn, meta).values(key=KEY, value=value).on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def last(conn: Connection) -> tuple[float, float] | None:
    """(at, seconds) as noted last, None where it never was."""
    value = conn.scalar(select(meta.c.value).where(meta.c.key == KEY))
    if value is None:
        return None
    at, _, seconds = value.partition(" ")
    return float(at), float(seconds)
