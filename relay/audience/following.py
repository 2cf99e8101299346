"""What the audience does behind the mail while a relay runs: take what the event log says of contacts, and follow who is in which tracked segment.

    event log ──► activity, last activity ──► changes ──► memberships, segment.<slug>.entry and .exit

On the node that leads, when the news say that there is something (relay.news); it passes over the segments that time changes once in
less than a minute; its writes go in the jobs lane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from relay import log
from relay.audience.membership import Membership
from relay.clock import Clock
from relay.errors import RelayError
from relay.events import NAMES
from relay.metrics import gauge
from relay.news import News
from relay.store import events
from relay.store.audience import activity, changes
from relay.store.engine import ASIDE, JOBS, Store

MINUTE = 60.0  # seconds within which what time changes is told
IDLE = 0.25  # seconds until a node asks again whether it leads, or for a store that was away
SPARE = 2.0  # seconds of it for a pass that takes longer than the one before
FAULT = 30.0  # seconds of rest after a fault of ours
COUNTED = ("email.sent", "email.delivered", "email.bounced", "email.complained", "email.opened", "email.clicked")

LOG = log.get("audience")
PASS = gauge("segment_pass_seconds", "How long the last look at what time changes in tracked segments took; below 20 seconds it is told within 60")


def pause(took: float) -> float:
    """Seconds to rest after a pass of this length: whatever comes to be true behind it is met by the next one within MINUTE, at half of the time at most."""
    return max(MINUTE - SPARE - 2 * took, took)


class Following:
    """`run` follows for ever.

    leading   whether this node is the one of several that does it
    occurred  tells the webhooks that there are new events
    """

    def __init__(self, store: Store, news: News, clock: Clock, occurred: Callable[[], None], leading: Callable[[], bool] = lambda: True):
        self.store, self.news, self.clock, self.leading = store, news, clock, leading
        self.membership = Membership(store, clock.now, occurred)
        self._seen = ""  # the newest cursor of the log that has been looked at
        self._skipped = -MINUTE  # monotonic seconds when that was last written down without a contact to look for

    async def run(self) -> None:
        """Until cancelled. What time changes is looked at beside all else, which may be as much as an import of a million."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ever(self._look))
            group.create_task(self._ever(self._pass))

    async def _ever(self, act: Callable[[], Awaitable[float]]) -> None:
        """Act again and again, with the rest between that it asks for; a fault of ours rests it and touches nothing else."""
        while True:
            rest = IDLE
            try:
                if self.leading():
                    rest = await act()
            except RelayError as error:
                LOG.warning("the store is away, the audience waits", error=error.text)
            except Exception:
                LOG.exception("the audience could not be followed")
                rest = FAULT
            await asyncio.sleep(rest)

    async def _look(self) -> float:
        sight = await self.news.look()
        if sight.last != self._seen or sight.changed or sight.unsettled:
            await self.turn()
        return 0.0

    async def _pass(self) -> float:
        began = time.monotonic()
        await self.membership.pass_time()
        took = time.monotonic() - began
        PASS.set(took)
        return pause(took)

    async def turn(self) -> None:
        """All there is to do now, but for what time changes."""
        while await self.listen():
            pass
        await self.membership.begin()
        while await self.store.point(changes.waiting) and await self.membership.follow():
            pass

    async def listen(self) -> bool:
        """Take what the next page of the log says of contacts; whether there may be more."""
        latest = await self.store.point(events.last)
        if latest == self._seen:
            return False
        before = await self.store.point(activity.cursor)
        if not await self.store.point(activity.anybody):
            await self._skip(before, latest)
            return False
        acts, after = await self.store.read(activity.heard, before or events.START, COUNTED, NAMES)
        if after == (before or events.START):
            self._seen = latest
            return False
        await self.store.write(activity.record, acts, before, after, lane=ASIDE)
        return True

    async def _skip(self, before: str | None, latest: str) -> None:
        """There is nobody whom the log could be about; that is written down now and then, so that a first contact does not begin with all of it."""
        self._seen = latest
        if time.monotonic() - self._skipped >= MINUTE:
            self._skipped = time.monotonic()
            await self.store.write(activity.skip, before, latest, lane=JOBS)
