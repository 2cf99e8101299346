"""The feeder: brings the audiences of broadcasts into the ledger and their copies into the queue, as fast as their sites have room.

    begin ──► gather a slice of contacts ──► copies of those whose turn it is ──► door ──► ledger and queue, one commit ──► runner

It runs where the mail is delivered, since only there the room of the sites is known, and takes the broadcasts in turns, a slice each, so that a large one
holds up no small one. At most AHEAD copies of a site wait in memory: the rest of the audience is rows of the ledger, and memory and disk stay flat. While one
slice is at the door the next one is rendered. Writes go in the lane of jobs, behind the mail.

Nothing here must be right for a contact to get one mail: the ledger's transactions see to that (relay.store.broadcasts.ledger). A slice that was rendered in
vain, because the broadcast was paused or another node was quicker, is dropped.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from relay import copies, log
from relay.audience.grammars import read
from relay.broadcasts import contest, start
from relay.broadcasts.render import Made, Renderer
from relay.clock import Clock
from relay.copies import Letter
from relay.errors import Defer, Invalid, Refuse, RelayError, StoreError
from relay.mail.ids import Maker
from relay.mail.message import Message
from relay.metrics import counter, gauge
from relay.store import faults
from relay.store.broadcasts import broadcasts, counts, ledger
from relay.store.broadcasts.broadcasts import FAILED, SENDING, SENT, Broadcast
from relay.store.broadcasts.ledger import RESERVED, TURN, Copy, Turn
from relay.store.engine import JOBS, Store

if TYPE_CHECKING:
    from relay.submission import Door

SLICE = 200  # copies of one commit: a thousand rows, which is as long as mail may wait for a job
AHEAD = 500  # copies of a site that may wait in memory: some seconds of what a site takes
CROWD = 10_000  # recipients in memory beyond which nothing is added, whatever their sites
LOOK = 1.0  # seconds between two looks at what is due, when nobody says that there is something
FULL = 0.1  # seconds until rooms are looked at again
PATIENT = 3_600.0  # seconds after which a domain that has no room gets its copies all the same: they must come to an end
LANES = 20  # copies at the door at once; between two handfuls the loop serves others
LONGEST = 60.0  # seconds that a broadcast rests when a limit says "not now"
STOPS = frozenset({"domain_not_verified"})  # refusals that are about the broadcast, not about this copy

LOG = log.get("broadcasts")
COPIES = counter("broadcast_copies_total", "Contacts of broadcasts that left the ledger's waiting, by what became of them", "state")
SENDING_NOW = gauge("broadcasts_sending", "Broadcasts under way")


class Room(Protocol):
    """What the feeder asks of the queue: relay.leader.Leader."""

    held: bool
    known: Any

    def full(self, ahead: int) -> list[str]: ...
    def accepted(self, message: Message) -> None: ...


@dataclass(slots=True)
class Progress:
    """Where the feeder is with one broadcast, all of it forgotten by a restart without harm.

    after     domain and contact of the last row that was taken
    ahead     the slice that is being rendered
    rest      elapsed() until which it rests
    granted   copies that its speed limit allows, as of `since`
    """

    letters: dict[int, tuple[Letter, dict[str, Any]]] = field(default_factory=dict)
    after: tuple[str, int] = ("", 0)
    ahead: asyncio.Task[list[tuple[Turn, Made]]] | None = None
    rest: float = 0.0
    granted: float = 1.0
    since: float = 0.0


class Feeder:
    """`run` for ever; `wake` when a broadcast has changed."""

    def __init__(self, store: Store, door: Callable[[], Door], room: Room, clock: Clock, maker: Maker, occurred: Callable[[], None]):
        self._store, self._door, self._room, self._clock, self._maker, self._occurred = store, door, room, clock, maker, occurred
        self._renderer = Renderer()
        self._event = asyncio.Event()
        self._under_way: dict[int, Progress] = {}
        self._full_since: dict[str, float] = {}

    def wake(self) -> None:
        self._event.set()

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
            for progress in self._under_way.values():
                _stop(progress)
            self._renderer.close()

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
        except StoreError as error:
            LOG.warning("broadcasts postponed", error=error.text)
            return LOOK

    async def turn(self) -> float:
        """A slice of every broadcast that is under way; seconds until the next turn is worth it."""
        for each in await self._store.read(broadcasts.due, self._clock.now()):
            await self._begin(each)
        under_way = await self._store.read(broadcasts.sending)
        SENDING_NOW.set(len(under_way))
        for number in self._under_way.keys() - {each.id for each in under_way}:
            _stop(self._under_way.pop(number))
        moved = [await self._safely(each, self._under_way.setdefault(each.id, Progress(since=self._clock.elapsed()))) for each in under_way]
        return 0.0 if any(moved) else FULL if under_way else LOOK

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
        """As `_advance`; a fault of ours pauses this broadcast and stops neither the mail nor the others."""
        try:
            return await self._advance(each, progress)
        except RelayError:
            raise
        except Exception as fault:
            LOG.error("broadcast paused by a fault", id=each.public_id, exception="".join(traceback.format_exception(fault)))
            await self._store.write(broadcasts.pause, each.id, "something went wrong here; the log says more", self._clock.now(), lane=JOBS)
            return False

    async def _advance(self, each: Broadcast, progress: Progress) -> bool:
        """Whether anything moved."""
        if progress.rest > self._clock.elapsed():
            return False
        gathered = not each.gathered and await self._gather(each)
        fed = await self._feed(each, progress)
        if gathered or fed or not each.gathered:
            return gathered or fed
        left = await self._store.read(ledger.left, each.id)
        if not left:
            await self._finish(each)
        elif TURN not in left:
            if each.testing and RESERVED in left:
                return await self._test(each)
            progress.rest = self._clock.elapsed() + LOOK  # only answers of remote servers are awaited
        return False

    async def _gather(self, each: Broadcast) -> bool:
        """The next contacts into the ledger."""
        found = await self._store.read(ledger.audience, each, read)
        weights = [v.weight for v in await self._store.read(broadcasts.variants, each.id)]
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

    # copies

    async def _feed(self, each: Broadcast, progress: Progress) -> bool:
        """Queue one slice; whether there was one."""
        if self._room.held or len(self._room.known) >= CROWD:
            return False
        slice_ = progress.ahead or asyncio.create_task(self._slice(each, progress))
        progress.ahead = None
        try:
            made = await slice_
            if made:
                progress.ahead = asyncio.create_task(self._slice(each, progress))
                await self._queue(each, progress, made)
        except Defer as later:
            progress.rest = self._clock.elapsed() + min(later.retry_after, LONGEST)
            LOG.info("broadcast rests", id=each.public_id, seconds=round(min(later.retry_after, LONGEST)), reason=later.text)
            return False
        except Refuse as refusal:
            await self._store.write(broadcasts.pause, each.id, refusal.text, self._clock.now(), lane=JOBS)
            LOG.warning("broadcast paused", id=each.public_id, project=each.project_id, reason=refusal.text)
            return False
        return bool(made)

    async def _slice(self, each: Broadcast, progress: Progress) -> list[tuple[Turn, Made]]:
        """Those whose turn it is, and their copies."""
        limit = self._granted(each, progress)
        if limit == 0:
            return []
        full = self._full()
        waiting = TURN
        rows = await self._rows(each, progress, waiting, full, limit)
        if not rows and each.ab_test is not None and each.winner is not None:
            waiting = RESERVED
            rows = await self._rows(each, progress, waiting, full, limit)
        progress.granted -= len(rows)
        if not rows:
            return []
        if not progress.letters:
            progress.letters = {v.number: (start.letter(each, v), v.facts) for v in await self._store.read(broadcasts.variants, each.id)}
        rows = [row if row.variant else Turn(row.id, row.contact_id, each.winner or 1, row.domain, row.contact) for row in rows]
        made: dict[int, Made] = {}
        for number in {row.variant for row in rows}:
            mine = [row for row in rows if row.variant == number]
            people = [(row.contact.email, copies.values(row.contact)) if row.contact else ("", {}) for row in mine]
            made |= zip((row.id for row in mine), await self._renderer.make(progress.letters[number][0], people), strict=True)
        return [(row, made[row.id]) for row in rows]

    async def _rows(self, each: Broadcast, progress: Progress, waiting: int, full: Sequence[str], limit: int) -> list[Turn]:
        """The next rows by domain, from the beginning once the end is reached."""
        rows = await self._store.read(ledger.turn, each, waiting, progress.after, full, limit)
        if not rows and progress.after != ("", 0):
            rows = await self._store.read(ledger.turn, each, waiting, ("", 0), full, limit)
        progress.after = (rows[-1].domain, rows[-1].contact_id) if rows else ("", 0)
        return rows

    def _granted(self, each: Broadcast, progress: Progress) -> int:
        """Copies that may be queued now: a slice, or as many as the broadcast's speed limit allows."""
        if each.per_minute is None:
            return SLICE
        now = self._clock.elapsed()
        progress.granted = min(max(1.0, each.per_minute / 60.0), progress.granted + (now - progress.since) * each.per_minute / 60.0)
        progress.since = now
        return min(SLICE, int(progress.granted))

    def _full(self) -> list[str]:
        """The domains without room, sorted; those that have had none for very long are left out."""
        now, full = self._clock.elapsed(), self._room.full(AHEAD)
        self._full_since = {domain: self._full_since.get(domain, now) for domain in full}
        return sorted(domain for domain, since in self._full_since.items() if now - since < PATIENT)

    async def _queue(self, each: Broadcast, progress: Progress, made: Sequence[tuple[Turn, Made]]) -> None:
        """Through the door and into the queue; raises Defer and Refuse when it is not this copy's fault alone."""
        door, ready = self._door(), []
        try:
            for first in range(0, len(made), LANES):
                lane = (self._copy(door, each, progress, turn, octets) for turn, octets in made[first:first + LANES])
                answers = await asyncio.gather(*lane, return_exceptions=True)
                ready += [answer for answer in answers if isinstance(answer, Copy)]
                for answer in answers:
                    if isinstance(answer, BaseException):
                        raise answer
            if (refusal := self._store.intake_open()) is not None:
                raise Defer(refusal)
            size = sum(copy.message.size for copy in ready if copy.message is not None)
            accepted = await self._store.write(ledger.queue, each, ready, self._clock.now(), lane=JOBS, size=size)
        except RelayError:
            await self._let_go(door, ready, ())
            raise
        faults.point("broadcast.committed")
        await self._let_go(door, ready, accepted)
        for message in accepted:
            door.told(message)
            self._room.accepted(message)
        COPIES.labels("queued").inc(len(accepted))
        COPIES.labels("left out").inc(len(ready) - len(accepted))

    async def _let_go(self, door: Door, ready: Sequence[Copy], accepted: Sequence[Message]) -> None:
        """Policies take back what copies used up that were not kept."""
        kept = {message.id for message in accepted}
        await door.let_go([copy.message for copy in ready if copy.message is not None and copy.message.id not in kept])

    async def _copy(self, door: Door, each: Broadcast, progress: Progress, turn: Turn, octets: Made) -> Copy:
        """What becomes of one row."""
        if turn.contact is None:
            return Copy(turn.id, turn.contact_id, turn.variant, None, ledger.SKIPPED, "deleted")
        if isinstance(octets, str):
            return Copy(turn.id, turn.contact_id, turn.variant, None, FAILED, octets)
        letter, facts = progress.letters[turn.variant]
        try:
            recipient = copies.recipient(turn.id, turn.contact.email)
            message = await copies.judge(door, each.principal, letter, recipient, octets, "broadcast", facts)
        except Invalid as error:
            return Copy(turn.id, turn.contact_id, turn.variant, None, FAILED, error.text)
        except Refuse as refusal:
            if refusal.code in STOPS:
                raise
            return Copy(turn.id, turn.contact_id, turn.variant, None, FAILED, refusal.text)
        if not message.recipients:
            await door.let_go((message,))
            return Copy(turn.id, turn.contact_id, turn.variant, None, ledger.SKIPPED, "suppressed")
        return Copy(turn.id, turn.contact_id, turn.variant, message)


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
    return broadcasts.set_winner(conn, each.id, standing(conn, each).winner)


def standing(conn: Any, each: Broadcast) -> contest.Result:
    """Who leads, by what is known now."""
    figures = counts.of(conn, each.id)
    numbers = [v.number for v in broadcasts.variants(conn, each.id)]
    name = contest.METRICS[each.ab_test["metric"] if each.ab_test else "open_rate"]
    return contest.decided({n: figures.get(n, {}).get(name, 0) for n in numbers}, {n: figures.get(n, {}).get("delivered", 0) for n in numbers})


def _stop(progress: Progress) -> None:
    if progress.ahead is not None:
        progress.ahead.cancel()
