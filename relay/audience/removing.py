"""Deleting an audience or a segment that may be very large: its rows go a slice at a time behind the mail, then it goes itself.

One that dies on the way leaves a smaller list; deleting it again ends it.
"""

from __future__ import annotations

from relay.audience import audiences as audience_acts
from relay.audience import segments as segment_acts
from relay.store.audience import audiences, segments
from relay.store.engine import JOBS, Store

SLICE = 2_000  # rows of one transaction, which is as long as mail may wait


async def audience(store: Store, project: int, number: int, now: float) -> None:
    """Its contacts stay, and its segments lose it; raises NotFound."""
    await store.read(audiences.get, project, number)
    while await store.write(audiences.empty, number, SLICE, lane=JOBS):
        pass
    await store.write(audience_acts.remove, project, number, now)


async def segment(store: Store, project: int, number: int, now: float) -> None:
    """Its contacts stay; raises NotFound."""
    await store.read(segments.get, project, number)
    while await store.write(segments.empty, number, SLICE, lane=JOBS):
        pass
    await store.write(segment_acts.remove, project, number, now)
