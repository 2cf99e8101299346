"""The daily count of segments that are asked anew each time and not tracked: without it nobody would know how they grew."""

from __future__ import annotations

from relay.audience.grammars import read
from relay.store.audience import growth, segments
from relay.store.engine import JOBS, Store

TURN = 200  # segments counted in one turn; of a million contacts each takes a second of a reader


async def count(store: Store, now: float) -> None:
    """Count those that nobody has counted on this day (UTC), and forget what is older than a year."""
    for project, number in await store.read(growth.uncounted, now, TURN):
        segment = await store.read(segments.find, project, number)
        if segment is not None:
            await store.write(growth.note, number, await store.read(segments.counted, segment, now, read), now, lane=JOBS)
    await store.write(growth.prune, now, lane=JOBS)
