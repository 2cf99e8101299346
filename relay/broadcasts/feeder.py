"""The feeder: brings the audiences of broadcasts into the ledger and their copies into the queue, as fast as their sites have room.

    begin ──► gather a slice of contacts ──► copies of those whose turn it is (relay.broadcasts.slices) ──► finish

It runs where the mail is delivered, since only there the room of the sites is known, and takes the broadcasts in turns, a slice each, so that a large one
holds up no small one. Writes go in the lane of jobs, behind the mail.

Nothing here must be right for a contact to get one mail: the ledger's transactions see to that (relay.store.broadcasts.ledger).
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from relay import log
from relay.audience.grammars import read
from relay.broadcasts import contest, start
from relay.broadcasts.slices import COPIES, LONGEST, STOPPED, Progress, Room, Slices, stop
from relay.clock import Clock
from relay.errors import Defer, RelayError, StoreError
from relay.mail.ids import Maker
from relay.metrics import gauge
from relay.store.broadcasts import broadcasts, counts, ledger
from relay.store.broadcasts.broadcasts import SENDING, SENT, Broadcast
from relay.store.broadcasts.ledger import RESERVED, TURN
from relay.store.engine import JOBS, Store

if TYPE_CHECKING:
    from relay.submission import Door

LOOK = 1.0  # seconds between two looks at what is due, when nobody says that there is something
FULL = 0.1  # seconds until rooms are looked at again

LOG = log.get("broadcasts")
SENDING_NOW = gauge("broadcasts_sending", "Broadcasts under way")
STALLED = gauge("broadcast_stalled_seconds", "Since the last copy of the broadcast that has waited longest for its next one, though contacts wait for theirs")


class Feeder:
    """`run` for ever; `wake` when a broadcast has changed."""

    def __init__(self, store: Store, door: Callable[[], Door], room: Room, clock: Clock, maker: Maker, occurred: Callable[[], None]):
        self._store, self._door, self._clock, self._maker, self._occurred = store, door, clock, maker, occurred
        self._slices = Slices(store, door, room, clock)
        self._event = asyncio.Event()
        self._under_way: dict[int, Progress] = {}

    def wake(self) -> None:
        self._event.set()

    @property
    def processes(self) -> list[int]:
        """The process ids of its renderer, while there is one."""
        return self._slices.processes

    async def run(self) -> None:
        """Begin, gather, feed and finish, for ever; a store that is away is asked again."""
        self._store.listen("broadcasts", lambda _: self.wake())
        try:
            await self._clear_up()
            while True:
                wait = await self._turn_safely()
                if wait:
                    await self._sleep(wait)
        finally:
            self.close()

    def close(self) -> None:
        """Give up what is being rendered; it is rendered again when the broadcast goes on."""
        STALLED.set(0)
        for progress in self._under_way.values():
            stop(progress)
        self._slices.close()

    async def _sleep(self, wait: float) -> None:
        try:
            async with asyncio.timeout(wait):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()

    async def _turn_safely(self) -> float:
        try:
            return await self.turn()
        except RelayError as error:
            LOG.warning("broadcasts postponed", error=error.text)
            return LOOK

    async def turn(self) -> float:
        """A slice of every broadcast that is under way; seconds until the next turn is worth it."""
        for each in await self._store.read(broadcasts.due, self._clock.now()):
            await self._begin(each)
        under_way = await self._store.read(broadcasts.sending)
        SENDING_NOW.set(len(under_way))
        for number in self._under_way.keys() - {each.id for each in under_way}:
            stop(self._under_way.pop(number))
        moved = [await self._safely(each, self._under_way.setdefault(each.id, self._fresh())) for each in under_way]
        now = self._clock.elapsed()
        STALLED.set(max([0.0, *(now - each.moved for each in self._under_way.values())]))
        return 0.0 if any(moved) else FULL if under_way else LOOK

    def _fresh(self) -> Progress:
        now = self._clock.elapsed()
        return Progress(since=now, moved=now)

    # begin and end

    async def _begin(self, each: Broadcast) -> None:
        """Check and freeze; a broadcast that may not be sent fails with the reason."""
        now = self._clock.now()
        try:
            given = await start.final(self._store, self._door(), each, self._maker.next())
            begun = await self._store.write(start.begin, each, given, self._maker.next(), now, lane=JOBS)
        except Defer as later:
            LOG.warning("broadcast waits", id=each.public_id, reason=later.text)
            return
        except StoreError:
            raise
        except RelayError as refusal:
            await self._store.write(broadcasts.fail, each.id, refusal.text, now, lane=JOBS)
            STOPPED.labels("failed").inc()
            LOG.warning("broadcast refused", id=each.public_id, project=each.project_id, reason=refusal.text)
            return
        if begun:
            LOG.info("broadcast started", id=each.public_id, project=each.project_id)
            self._occurred()

    async def _finish(self, each: Broadcast) -> None:
        now = self._clock.now()
        if await self._store.write(finish, each, now, lane=JOBS):
            LOG.info("broadcast sent", id=each.public_id, project=each.project_id, seconds=round(now - (each.started_at or now)))
            self._occurred()

    async def _clear_up(self) -> None:
        """End what a cancel that was cut short has left."""
        for each in await self._store.read(broadcasts.cancelled_since, self._clock.now() - 7 * 86_400.0):
            while await self._store.write(ledger.cancel, each, self._clock.now(), lane=JOBS):
                pass

    # one broadcast

    async def _safely(self, each: Broadcast, progress: Progress) -> bool:
        """As `_advance`; what is wrong with one broadcast pauses it and stops neither the mail nor the others."""
        try:
            return await self._advance(each, progress)
        except StoreError:
            raise
        except Defer as later:
            progress.rest = self._clock.elapsed() + min(later.retry_after, LONGEST)
            return False
        except RelayError as error:
            await self._pause(each, error.text)
        except Exception as fault:
            LOG.error("broadcast fault", id=each.public_id, exception="".join(traceback.format_exception(fault)))
            await self._pause(each, "something went wrong here; the log says more")
        return False

    async def _pause(self, each: Broadcast, why: str) -> None:
        await self._store.write(broadcasts.pause, each.id, why, self._clock.now(), lane=JOBS)
        STOPPED.labels("paused").inc()
        LOG.warning("broadcast paused", id=each.public_id, project=each.project_id, reason=why)

    async def _advance(self, each: Broadcast, progress: Progress) -> bool:
        """Whether anything moved."""
        if progress.rest > self._clock.elapsed():
            return False
        gathered, fed = await _both(self._gather(each), self._slices.feed(each, progress))
        if gathered or fed:
            progress.moved = self._clock.elapsed()
        if gathered or fed or not each.gathered:
            return gathered or fed
        left = await self._store.read(ledger.left, each.id)
        if not left:
            await self._finish(each)
        elif TURN not in left:
            progress.moved = self._clock.elapsed() + LOOK
            if each.testing and RESERVED in left:
                return await self._test(each)
            progress.rest = progress.moved  # only answers of remote servers are awaited
        return False

    async def _gather(self, each: Broadcast) -> bool:
        """The next contacts into the ledger; whether there were any."""
        if each.gathered:
            return False
        found = await self._store.read(ledger.audience, each, read)
        weights = [v.weight for v in await self._store.read(broadcasts.variants, each.id)] if each.ab_test is not None else []
        rows, position = [], each.seen
        for contact in found:
            if contact.reason:
                rows.append((self._maker.next(), contact, 0, None))
                continue
            rows.append((self._maker.next(), contact, *placed(each, position, weights)))
            position += 1
        last = found[-1].contact_id if found else each.until
        done = await self._store.write(ledger.gather, each, rows, last, len(found) < ledger.SLICE, self._clock.now(), lane=JOBS)
        if done:
            COPIES.labels("skipped").inc(len(found) - (position - each.seen))
        return done

    async def _test(self, each: Broadcast) -> bool:
        """The sample is queued: begin the window of an A/B test, or decide at its end."""
        now = self._clock.now()
        if each.test_ends_at is None:
            ends = now + each.ab_test["minutes"] * 60.0
            return await self._store.write(broadcasts.set_window, each.id, ends, lane=JOBS)
        if now < each.test_ends_at:
            return False
        return await self._store.write(decide, each, lane=JOBS)


async def _both(one: Awaitable[bool], other: Awaitable[bool]) -> tuple[bool, bool]:
    """The answers of two that run side by side, once both have ended; raises what one of them raised."""
    answers = await asyncio.gather(one, other, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return bool(answers[0]), bool(answers[1])


def placed(each: Broadcast, position: int, weights: Sequence[int]) -> tuple[int, int]:
    """Variant and `waiting` of the contact at this position of the audience."""
    if each.ab_test is None:
        return 1, TURN
    if each.winner is not None or not contest.in_sample(position, each.ab_test["sample"]):
        return 0, RESERVED
    return contest.variant(contest.sampled(position, each.ab_test["sample"]), weights), TURN


def finish(conn: Any, each: Broadcast, now: float) -> bool:
    """Whether it is sent by this; its event says what became of everybody so far."""
    if ledger.left(conn, each.id) or not broadcasts.move(conn, each.id, (SENDING,), SENT, ended_at=now, updated_at=now):
        return False
    start.told(conn, each, "broadcast.completed", now, {"counts": dict(counts.whole(counts.of(conn, each.id)))})
    return True


def decide(conn: Any, each: Broadcast) -> bool:
    """Whether the test was decided by this: the rest of the audience gets the variant with the best rate."""
    numbers = [v.number for v in broadcasts.variants(conn, each.id)]
    return broadcasts.set_winner(conn, each.id, contest.standing(each.ab_test, numbers, counts.of(conn, each.id)).winner)
