"""News: who follows the store waits here for the next look at it, one for all, instead of asking again and again himself.

    sight = await news.look()     what there is, seen after this was called, within LOOK seconds

Webhooks, the audience, figures of broadcasts and workflows follow the event log and what waits for them. Other nodes write too, so somebody has to look; where
nobody waits nobody does.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from relay.store import news
from relay.store.engine import Store
from relay.store.news import Sight

LOOK = 0.25  # seconds between two looks when nobody says that there is something new
PACE = 0.05  # seconds between two looks however often that is said: mail may happen a thousand times a second


class News:
    """`run` looks for ever; `tell` that there is something new, and it looks soon. One event loop owns it."""

    def __init__(self, store: Store):
        self._store = store
        self._told, self._asked = asyncio.Event(), asyncio.Event()
        self._next: asyncio.Future[Sight] | None = None

    def tell(self) -> None:
        self._told.set()

    async def look(self) -> Sight:
        """What the next look sees; raises StoreError when the store is away."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._asked.set()
        return await asyncio.shield(self._next)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PACE)
            await self._asked.wait()
            told = await self._pause()
            waited, self._next = self._next, None
            self._asked.clear()
            try:
                sight = await self._store.point(news.look)
            except Exception as error:  # for those who wait, each of whom knows how long it then rests
                waited.set_exception(error)
                waited.exception()  # heard, even if nobody waits any more
            else:
                waited.set_result(replace(sight, told=told))

    async def _pause(self) -> bool:
        """Whether somebody said that there is something new, after LOOK seconds at the latest."""
        try:
            async with asyncio.timeout(LOOK - PACE):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True


__all__ = ["LOOK", "News", "Sight"]
