"""What answers taught us of a site's pace, kept over a restart: a smaller window, a rate, fewer connections or messages on one (B24).

A relay that forgets it opens START connections again to a server that has just asked for fewer. What is kept counts for an hour after the last look at which
it was so; a slower rate until its own end. Kept as JSON, times in UTC seconds, since the monotonic clock begins anew with the machine:

    {"window": 2, "slowed": [[until, connections, messages, [messages, seconds]]]}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from relay import log
from relay.errors import RelayError
from relay.queue.site import START, Site, Slowed
from relay.schedule import HOUR
from relay.shaping import Rate
from relay.store import sites as stored
from relay.store.engine import JOBS

if TYPE_CHECKING:
    from relay.queue.runner import Runner

LOOK = 30.0  # seconds between two looks; what was learned since the last is lost in a crash
KEPT = HOUR  # that a smaller window counts
MOST = 20  # slower rates and the like of one site
ONCE = 1_000  # sites written at one look

LOG = log.get("queue")


def of(site: Site, now: float, offset: float) -> str:
    """The lessons of a site, "" for none; `offset` is UTC less monotonic time."""
    if site.window >= START and not site.slowed:
        return ""
    slowed = [[round(s.until + offset), s.connections, s.messages, s.rate and [s.rate.messages, s.rate.seconds]] for s in site.slowed if s.until > now]
    if site.window >= START and not slowed:
        return ""
    return json.dumps({"window": int(min(site.window, START)), "slowed": slowed[:MOST]})


def teach(site: Site, lessons: str, now: float, offset: float) -> None:
    """Give a site that mail leads to for the first time what was known of it; what has ended by now is left out."""
    told = json.loads(lessons)
    site.window = min(site.window, max(1.0, float(told["window"])))
    site.slowed += [Slowed(until - offset, rate and Rate(*rate), connections, messages) for until, connections, messages, rate in told["slowed"]
                    if until - offset > now]


class Paces:
    """`known` is what the store has, by name of site: the lessons, and the monotonic time until which a new look need not write them again."""

    def __init__(self, runner: Runner):
        self._runner = runner
        self.known: dict[str, tuple[str, float]] = {}

    def remember(self, found: Iterable[stored.Site], now: float) -> None:
        """What the store has, read at the start; the next look writes anew what is still so."""
        self.known = {site.name: (site.pace, 0.0) for site in found if site.pace and (site.pace_until or 0.0) > now}

    def begin(self, site: Site) -> None:
        """Mail leads to this site for the first time, or again."""
        lessons, _ = self.known.get(site.name, ("", 0.0))
        if lessons:
            teach(site, lessons, *self._times())

    async def run(self) -> None:
        """Keep what is new, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            await self.keep()

    async def keep(self) -> None:
        """Write what is new, or so old that it would soon count no more; a store that fails gets it at the next look."""
        now, offset = self._times()
        changed = self._changed(now, offset)
        if not changed:
            return
        try:
            await self._runner.store.write(stored.learn, changed, now + offset + KEPT, now + offset, lane=JOBS)
        except RelayError as error:
            LOG.warning("pace of sites not kept", sites=len(changed), error=error.text)
            return
        self.known.update((name, (lessons, now + KEPT / 2)) for name, lessons in changed.items() if lessons)
        for name in [name for name, lessons in changed.items() if not lessons]:
            self.known.pop(name, None)

    def _changed(self, now: float, offset: float) -> dict[str, str]:
        changed = {}
        for name, site in self._runner.sites.items():
            was, fresh = self.known.get(name, ("", 0.0))
            lessons = of(site, now, offset)
            if lessons != was or (lessons and fresh <= now):
                changed[name] = lessons
        return dict(islice(changed.items(), ONCE))

    def _times(self) -> tuple[float, float]:
        clock = self._runner.clock
        elapsed = clock.elapsed()
        return elapsed, clock.now() - elapsed
