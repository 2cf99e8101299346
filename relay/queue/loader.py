"""Recipients that wait on disk, brought into memory as they come due and as there is room.

A walk over the queue in order of due time sees every recipient once: it is taken into memory, or its domain is marked as having more on disk. The walk sleeps
until the next due time. A marked domain is read again when its recipients in memory have gone. So memory stays bounded however long the queue is, a domain
with a million rows leaves room for the others, and a restart delivers its first message after the first page.

What the runner holds or has just settled is left out: a page may have been read before a settlement committed (`shadow`). Every CATCH_UP seconds the walk goes
over the last stretch again, for rows that nobody told us of: those of other nodes, and those whose client left between commit and hand-over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from relay import log
from relay.clock import Clock
from relay.errors import StoreError
from relay.mail.message import MARKETING, TRANSACTIONAL
from relay.queue.figures import LOOP
from relay.queue.waiting import Place, Waiting
from relay.schedule import OTP, STANDARD, deadline
from relay.store import arrivals
from relay.store import queue as rows
from relay.store.engine import Store

CAPACITY = 50_000  # recipients in memory
SHARE = 0.25  # of the free room that one site may fill: one slow site holds a fifth of all, a thousand of them still leave room for the next
PAGE = 500  # rows of one read: taking them holds the loop for a millisecond or two
LOW = 50  # recipients left of a domain or site when more of it is read
HELPING = 20  # rows of each domain that are read before the walk begins: it may have to pass a million rows of a dead one first
CATCH_UP = 60.0  # seconds between two looks back
SLACK = 15.0  # seconds that a look back goes beyond the last one; clocks of nodes differ and commits take time
DOMAIN = 3  # where the domain is in a row, beside the recipient's id in front; names cost a look-up each on a page of refused rows
STEP = 5.0  # seconds that the clock may go back before the whole queue is walked again

LOG = log.get("queue")


class Holds(Protocol):
    """What the loader needs of the runner."""

    known: dict[int, Waiting]
    stopping: bool

    def place(self, domain: str) -> Place: ...
    def room(self, place: Place, extra: int, entering: int) -> bool: ...
    def blocked(self, place: Place) -> bool: ...
    def enter(self, waiting: Sequence[Waiting]) -> None: ...
    def shortage(self, place: Place) -> None: ...


class Loader:
    """Walks and refills, one read at a time; `sooner`, `want` and `again` say what is new and cost nothing."""

    def __init__(self, store: Store, clock: Clock, runner: Holds, capacity: int = CAPACITY):
        self._store, self._clock, self._runner = store, clock, runner
        self.capacity = capacity
        self._shadows: list[set[int]] = []  # for each read under way, who was settled meanwhile
        self.wanted: OrderedDict[str, Place] = OrderedDict()
        self.cursor = (0.0, 0)  # due time and recipient id up to which the walk has come
        self._walked = 0.0  # when the walk before last began
        self.wake_at: float | None = 0.0  # UTC seconds of the next walk
        self._event = asyncio.Event()
        self._next_catch_up = 0.0
        self._helped = False

    # what others tell

    def sooner(self, due: float) -> None:
        """Somebody comes due at this UTC time."""
        if self.wake_at is None or due < self.wake_at:
            self.wake_at = due
            self._event.set()

    def want(self, place: Place) -> None:
        """This domain has room again."""
        self.wanted[place.domain] = place
        self._event.set()

    def again(self) -> None:
        """Walk the whole queue: rows have changed behind the walk."""
        self._helped = False
        self.cursor = (0.0, 0)
        self.wake_at = 0.0
        self._event.set()

    def wake(self) -> None:
        """Rows have come in that nobody brought: look at the last stretch."""
        self._look_back(self._clock.now())
        self._event.set()

    def settled(self, recipient_id: int) -> None:
        for shadow in self._shadows:
            shadow.add(recipient_id)

    # the loop

    async def run(self) -> None:
        """For ever; a store that fails is asked again."""
        while True:
            try:
                await self._turn()
            except StoreError as error:
                LOG.warning("queue cannot be read", error=error.text)
                await asyncio.sleep(1.0)

    async def _turn(self) -> None:
        """One read, or a wait for a reason to read."""
        now = self._clock.now()
        if now < self.cursor[0] - STEP:
            LOG.warning("clock stepped back", seconds=self.cursor[0] - now)
            self.again()
        if self._clock.elapsed() >= self._next_catch_up:
            self._next_catch_up = self._clock.elapsed() + CATCH_UP
            self._look_back(now)
        if not self._helped:
            await self._help(now)
        full = self._runner.stopping or len(self._runner.known) >= self.capacity
        if not full and self.wanted:
            _, place = self.wanted.popitem(last=False)
            with LOOP.time():
                await self._refill(place, now)
        elif not full and self.wake_at is not None and self.wake_at <= now:
            with LOOP.time():
                await self._walk(now)
        else:
            await self._sleep(now, full)

    async def _sleep(self, now: float, full: bool) -> None:
        self._event.clear()
        wait = CATCH_UP if self.wake_at is None else min(CATCH_UP, self.wake_at - now)
        if full:
            wait = 0.25  # room appears with deliveries, which are many; a look costs nothing
        try:
            async with asyncio.timeout(max(wait, 0.01)):
                await self._event.wait()
        except TimeoutError:
            pass

    def _look_back(self, now: float) -> None:
        back = min(self.cursor[0], self._walked) - SLACK
        self._walked = now
        self.cursor = max(0.0, back), 0
        self.wake_at = 0.0

    async def _help(self, now: float) -> None:
        """A helping of many domains, so that mail leaves at once however long the walk is."""
        _, fresh = await self._read(_helping, now)
        self._helped = True
        self._take(fresh)

    async def _walk(self, now: float) -> None:
        """The next page of what has come due; whoever says `sooner` or `wake` meanwhile is heard afterwards."""
        start, self.wake_at = self.cursor, None
        try:
            found, fresh = await self._read(arrivals.arrived, *start, now, PAGE)
        except StoreError:
            self.sooner(now)
            raise
        if found and self.cursor == start:
            self.cursor = found[-1].due, found[-1].recipient_id
        self._take(fresh)
        upcoming = now if len(found) >= PAGE else await self._store.read(rows.next_due, now)
        if upcoming is not None:
            self.sooner(upcoming)

    async def _refill(self, place: Place, now: float) -> None:
        """More of one domain, transactional mail first."""
        if not place.more or self._runner.blocked(place):
            return
        if not self._runner.room(place, 0, 0):
            self._runner.shortage(place)
            return
        limit = place.count + PAGE
        place.more = False
        try:
            found, fresh = await self._read(_due_of, place.domain, now, limit)
        except StoreError:
            place.more = True
            self.want(place)
            raise
        place.more = place.more or len(found) >= limit
        self._take(fresh)

    async def overdue(self, place: Place) -> list[Waiting]:
        """Recipients of a domain who are past their deadline and on disk, a page of them."""
        now = self._clock.now()
        cuts = tuple(now - life for life in (deadline(STANDARD, MARKETING), deadline(STANDARD, TRANSACTIONAL), deadline(OTP, TRANSACTIONAL)))
        _, fresh = await self._read(arrivals.overdue, place.domain, cuts, now, PAGE)
        return [_waiting(row) for row in fresh]

    async def _read(self, fn: Callable[..., Any], *args: Any) -> tuple[Sequence[Any], list[Any]]:
        """The rows, and those of them that nobody holds and that were not settled while they were read."""
        shadow: set[int] = set()
        self._shadows.append(shadow)
        try:
            found = await self._store.read(fn, *args)
        finally:
            self._shadows = [each for each in self._shadows if each is not shadow]
        known = self._runner.known
        return found, [row for row in found if row[0] not in known and row[0] not in shadow]

    def _take(self, fresh: Sequence[Any]) -> None:
        """Take rows into memory as far as there is room; a domain that has none keeps the rest on disk."""
        runner, entering = self._runner, []
        counts: dict[str, int] = {}
        short: dict[str, Place] = {}
        full: set[int] = set()  # sites that have no room, so that a page of their mail costs little
        for row in fresh:
            domain = row[DOMAIN]
            if domain in short:
                continue
            place, extra = runner.place(domain), counts.get(domain, 0)
            if id(place.site) in full or not runner.room(place, extra, len(entering)):
                short[domain] = place
                if place.site is not None:
                    full.add(id(place.site))
                continue
            counts[domain] = extra + 1
            entering.append(_waiting(row))
        if entering:
            runner.enter(entering)
        for place in short.values():
            runner.shortage(place)


def _waiting(row: Any) -> Waiting:
    return Waiting(row.recipient_id, row.message_id, row.project_id, row.domain, row.stream, row.first_due, row.attempts, row.retry, bool(row.warned),
                   row.due > row.first_due)


def _due_of(conn: Any, domain: str, now: float, limit: int) -> list[Any]:
    return rows.due(conn, now, limit, domain=domain)


def _helping(conn: Any, now: float) -> list[Any]:
    return rows.due(conn, now, PAGE, per_domain=HELPING)
