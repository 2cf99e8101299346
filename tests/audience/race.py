"""Two transactions that meet, on PostgreSQL: one beside the other, as an import or another node would be."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.util import await_only

from relay.store.engine import ASIDE

_BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def meet(stored, first, then):
    """What `first(conn)` and `then(conn)` give, when the second comes to where it has to wait for the first; skips on SQLite, where they follow each other."""
    if stored.store.dialect == "sqlite":
        pytest.skip("there is one transaction at a time")

    async def race():
        begun, goes_on = asyncio.Event(), asyncio.Event()

        def slow(conn):
            made = first(conn)
            begun.set()
            await_only(goes_on.wait())
            return made

        one = asyncio.create_task(stored.store.write(slow, lane=ASIDE))
        await begun.wait()
        other = asyncio.create_task(stored.store.write(then))
        while not await stored.store.read(lambda conn: conn.exec_driver_sql(_BLOCKED).first()):
            assert not other.done()
        goes_on.set()
        return await asyncio.gather(one, other)

    return stored.call(race())
