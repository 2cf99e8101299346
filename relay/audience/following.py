"""What the audience does behind the mail while a relay runs: take what the event log says of contacts, and follow who is in which tracked segment.

    event log ──► activity, last activity ──► changes ──► memberships, segment.<slug>.entry and .exit

One task on the node that delivers. It looks every LOOK seconds, which costs two short reads when there is nothing; its writes go in the jobs lane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from relay import log
from relay.audience.membership import Membership
from relay.clock import Clock
from relay.errors import RelayError
from relay.events import NAMES
from relay.metrics import gauge
from relay.store import events
from relay.store.audience import activity, changes
from relay.store.engine import JOBS, Store

LOOK = 0.25  # seconds between two looks at log and changes
MINUTE = 60.0  # seconds between two looks at what time changes
FAULT = 30.0  # seconds of rest after a fault of ours
COUNTED = ("email.sent", "email.delivered", "email.bounced", "email.complained", "email.opened", "email.clicked")

LOG = log.get("audience")
PASS = gauge("segment_pass_seconds", "How long the last look at what time changes in tracked segments took; it begins every 60 seconds")


class Following:
    """`run` follows for ever.

    leading   whether this node is the one of several that does it
    occurred  tells the webhooks that there are new events
    """

    def __init__(self, store: Store, clock: Clock, occurred: Callable[[], None], leading: Callable[[], bool] = lambda: True):
        self.store, self.clock, self.leading = store, clock, leading
        self.membership = Membership(store, clock.now, occurred)
        self._seen = ""  # the newest cursor of the log that has been looked at
        self._skipped = -MINUTE  # monotonic seconds when that was last written down without a contact to look for

    async def run(self) -> None:
        """Until cancelled; a fault of ours rests it and touches nothing else."""
        passed = time.monotonic()
        while True:
            try:
                if self.leading():
                    await self.turn()
                    if time.monotonic() - passed >= MINUTE:
                        passed = time.monotonic()
                        await self.membership.pass_time()
                        PASS.set(time.monotonic() - passed)
            except RelayError as error:
                LOG.warning("the store is away, the audience waits", error=error.text)
            except Exception:
                LOG.exception("the audience could not be followed")
                await asyncio.sleep(FAULT)
            await asyncio.sleep(LOOK)

    async def turn(self) -> None:
        """All there is to do now, but for what time changes."""
        while await self.listen():
            pass
        await self.membership.begin()
        while await self.store.point(changes.waiting) and await self.membership.follow():
            pass

    async def listen(self) -> bool:
        """Take what the next page of the log says of contacts; whether there may be more."""
        latest = await self.store.point(events.latest)
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
        await self.store.write(activity.record, acts, before, after, lane=JOBS)
        return True

    async def _skip(self, before: str | None, latest: str) -> None:
        """There is nobody whom the log could be about; that is written down now and then, so that a first contact does not begin with all of it."""
        self._seen = latest
        if time.monotonic() - self._skipped >= MINUTE:
            self._skipped = time.monotonic()
            await self.store.write(activity.skip, before, latest, lane=JOBS)
