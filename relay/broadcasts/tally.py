"""The tally: reads the events behind a cursor and writes on the ledger what became of each copy (relay.store.broadcasts.tally), where mail is delivered.

It reads only while a broadcast is young enough to be told of; its cursor begins where the first of them began.
"""

from __future__ import annotations

import asyncio

from relay import log
from relay.broadcasts.start import TOLD
from relay.clock import Clock
from relay.news import News
from relay.store import events
from relay.store.broadcasts import broadcasts
from relay.store.broadcasts import tally as stored
from relay.store.engine import JOBS, Store

FAILED = 10.0  # seconds until a store that failed is asked again

LOG = log.get("broadcasts")


async def run(store: Store, news: News, clock: Clock) -> None:
    """For ever."""
    seen = ""
    while True:
        try:
            latest = (await news.look()).last
            while latest != seen:
                if not await page(store, clock):
                    seen = latest
        except Exception as error:  # whatever is wrong with figures, it is no reason to stop the mail
            LOG.warning("figures of broadcasts postponed", error=getattr(error, "text", repr(error)))
            await asyncio.sleep(FAILED)


async def page(store: Store, clock: Clock) -> bool:
    """Whether there was a whole page of events, so that the next one is worth a look at once."""
    if not await store.read(broadcasts.any_since, clock.now() - TOLD):
        return False
    before = await store.read(stored.cursor)
    if before is None:
        return False
    found, after = await store.read(events.since, before)
    if not found:
        return False
    await store.write(stored.write, found, before, after, lane=JOBS)
    return len(found) >= events.LIMIT
