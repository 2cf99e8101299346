"""Slices of copies: whose turn it is, their letters rendered, through the door, into ledger and queue in one commit, and on to the runner.

At most AHEAD copies of a site wait in memory: the rest of the audience is rows of the ledger, and memory and disk stay flat. While one slice is written the
next is at the door, and the one after it is rendered, each where it keeps nothing else from its work: the writer's thread, this one, another process. A slice
that was rendered in vain, because the broadcast was paused or another node was quicker, is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from relay import copies, log
from relay.broadcasts import start
from relay.broadcasts.render import Made, Renderer, content
from relay.clock import Clock
from relay.copies import Letter
from relay.errors import Defer, Invalid, Refuse
from relay.mail.message import Message, Principal
from relay.metrics import counter
from relay.store import bulk, faults
from relay.store.broadcasts import broadcasts, ledger
from relay.store.broadcasts.broadcasts import FAILED, Broadcast
from relay.store.broadcasts.ledger import RESERVED, TURN, Copy, Turn
from relay.store.engine import JOBS, Store

if TYPE_CHECKING:
    from relay.submission import Door

SLICE = 3 * bulk.WIDE  # copies of one commit, whole statements of each table: as long as mail may wait for a job
AHEAD = 500  # copies of a site that may wait in memory: some seconds of what a site takes
CROWD = 10_000  # recipients in memory beyond which nothing is added, whatever their sites
PATIENT = 3_600.0  # seconds after which a domain that has no room gets its copies all the same: they must come to an end
LANES = 20  # copies at the door at once; between two handfuls the loop serves others
LONGEST = 60.0  # seconds that a broadcast rests when a limit says "not now"
START = ("", 0)  # before the first row, in the order of domains and contacts
STOPS = frozenset({"domain_not_verified"})  # refusals that are about the broadcast, not about this copy

LOG = log.get("broadcasts")
COPIES = counter("broadcast_copies_total", "Contacts of broadcasts that left the ledger's waiting, by what became of them", "state")
STOPPED = counter("broadcasts_stopped_total", "Broadcasts that Relay itself stopped, with the reason in their `error`, by the status they have since", "status")


class Room(Protocol):
    """What the feeder asks of the queue: relay.leader.Leader."""

    held: bool
    known: Any

    def full(self, ahead: int) -> list[str]: ...
    def accepted(self, message: Message) -> None: ...


@dataclass(slots=True)
class Progress:
    """Where the feeder is with one broadcast, all of it forgotten by a restart without harm.

    after     domain and contact of the last row that was taken, of those whose turn it is and of those that were reserved
    lapped    there are no more rows after it: the next are looked for from the beginning
    ahead     the slice that is being rendered
    writing   the slice that is being written
    rest      elapsed() until which it rests
    granted   copies that its speed limit allows, as of `since`
    moved     elapsed() when something of it last went on, or nobody waited for a turn
    """

    letters: dict[int, tuple[Letter, dict[str, Any]]] = field(default_factory=dict)
    after: dict[int, tuple[str, int]] = field(default_factory=lambda: {TURN: START, RESERVED: START})
    lapped: bool = False
    ahead: asyncio.Task[list[tuple[Turn, Made]]] | None = None
    writing: asyncio.Task[None] | None = None
    rest: float = 0.0
    granted: float = 1.0
    since: float = 0.0
    moved: float = 0.0


class Slices:
    """`feed` queues one slice of a broadcast; one event loop owns it."""

    def __init__(self, store: Store, door: Callable[[], Door], room: Room, clock: Clock):
        self._store, self._door, self._room, self._clock = store, door, room, clock
        self._renderer = Renderer()
        self._writing: set[asyncio.Task[None]] = set()
        self._full_since: dict[str, float] = {}

    @property
    def processes(self) -> list[int]:
        """The process ids of the renderer, while there is one."""
        return self._renderer.processes

    def close(self) -> None:
        self._renderer.close()
        for task in self._writing:
            task.cancel()

    async def feed(self, each: Broadcast, progress: Progress) -> bool:
        """Queue one slice; whether there was one."""
        if self._room.held or len(self._room.known) >= CROWD:
            return False
        slice_ = progress.ahead or asyncio.create_task(self._slice(each, progress))
        progress.ahead = None
        try:
            made = await slice_
            if not made:
                await self._written(progress)
            if not made and progress.lapped:  # rows that are being written wait no more now, so none is taken twice
                progress.lapped, made = False, await self._slice(each, progress)
            if made:
                progress.ahead = asyncio.create_task(self._slice(each, progress))
                await self._queue(each, progress, made)
        except Defer as later:
            progress.rest = self._clock.elapsed() + min(later.retry_after, LONGEST)
            LOG.info("broadcast rests", id=each.public_id, seconds=round(min(later.retry_after, LONGEST)), reason=later.text)
            return False
        except Refuse as refusal:
            await self._store.write(broadcasts.pause, each.id, refusal.text, self._clock.now(), lane=JOBS)
            STOPPED.labels("paused").inc()
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
        """The next rows by domain."""
        after = progress.after[waiting]
        rows = await self._store.read(ledger.turn, each, waiting, after, full, limit)
        progress.lapped |= not rows and after != START
        progress.after[waiting] = (rows[-1].domain, rows[-1].contact_id) if rows else START
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
        """Through the door, and begin to write them; raises Defer, after as many as there was room for, and Refuse when it is not one copy's fault alone.

        What is raised may be about the slice before, whose writing ends here at the latest.
        """
        door, ready = self._door(), []
        later = await self._through(door, each, progress, made, ready)
        try:
            await self._written(progress)
        except BaseException:
            await self._let_go(door, ready, ())
            raise
        if ready:
            progress.writing = asyncio.create_task(self._keep(door, each, ready))
            self._writing.add(progress.writing)
            progress.writing.add_done_callback(self._forget)
        if later is not None:
            await self._written(progress)
            raise later

    async def _written(self, progress: Progress) -> None:
        """Nothing of it is being written any more; raises what came of that."""
        writing, progress.writing = progress.writing, None
        if writing is not None:
            await writing

    def _forget(self, writing: asyncio.Task[None]) -> None:
        """One whose broadcast was stopped meanwhile has nobody else who hears of its end."""
        self._writing.discard(writing)
        if not writing.cancelled() and isinstance(error := writing.exception(), Exception):
            LOG.debug("slice not written", error=str(error))

    async def _keep(self, door: Door, each: Broadcast, ready: Sequence[Copy]) -> None:
        """Into ledger and queue, and on to the runner."""
        accepted = await self._committed(door, each, ready)
        for message in accepted:
            door.told(message)
            self._room.accepted(message)
        COPIES.labels("queued").inc(len(accepted))
        COPIES.labels("left out").inc(len(ready) - len(accepted))

    async def _through(self, door: Door, each: Broadcast, progress: Progress, made: Sequence[tuple[Turn, Made]], ready: list[Copy]) -> Defer | None:
        """Those that pass, in `ready`; a limit that is reached, or a store that takes nothing, leaves the others for later."""
        try:
            who = each.principal
            for first in range(0, len(made), LANES):
                await self._handful(door, who, progress, made[first:first + LANES], ready)
        except Defer as limit:
            return limit
        except Refuse:
            await self._let_go(door, ready, ())
            raise
        return None

    async def _committed(self, door: Door, each: Broadcast, ready: Sequence[Copy]) -> list[Message]:
        """The messages that are in the queue now."""
        accepted: list[Message] = []
        try:
            if (refusal := self._store.intake_open()) is not None:
                raise Defer(refusal)
            size = sum(copy.message.size for copy in ready if copy.message is not None)
            accepted = await self._store.write(ledger.queue, each, ready, self._clock.now(), lane=JOBS, size=size)
            faults.point("broadcast.committed")
        finally:
            await self._let_go(door, ready, accepted)
        return accepted

    async def _handful(self, door: Door, who: Principal, progress: Progress, made: Sequence[tuple[Turn, Made]], ready: list[Copy]) -> None:
        """Bring these through the door, into `ready`; raises what stops them all."""
        if self._store.dialect == "sqlite":  # nothing waits on the way, so tasks would only cost
            for turn, each in made:
                ready.append(await self._copy(door, who, progress, turn, each))
            await asyncio.sleep(0)
            return
        answers = await asyncio.gather(*(self._copy(door, who, progress, turn, each) for turn, each in made), return_exceptions=True)
        ready += [answer for answer in answers if isinstance(answer, Copy)]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _let_go(self, door: Door, ready: Sequence[Copy], accepted: Sequence[Message]) -> None:
        """Policies take back what copies used up that were not kept."""
        kept = {message.id for message in accepted}
        await door.let_go([copy.message for copy in ready if copy.message is not None and copy.message.id not in kept])

    async def _copy(self, door: Door, who: Principal, progress: Progress, turn: Turn, made: Made) -> Copy:
        """What becomes of one row."""
        if turn.contact is None:
            return Copy(turn.id, turn.contact_id, turn.variant, None, ledger.SKIPPED, "deleted")
        if isinstance(made, str):
            return Copy(turn.id, turn.contact_id, turn.variant, None, FAILED, made)
        letter, facts = progress.letters[turn.variant]
        try:
            recipient = copies.reader(turn.id, turn.contact)
            message = await copies.judge(door, who, letter, recipient, content(made), "broadcast", facts, asked=True)
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


def stop(progress: Progress) -> None:
    """Give up what is being rendered; it is rendered again when the broadcast goes on."""
    if progress.ahead is not None:
        progress.ahead.cancel()
