"""What can be done to a broadcast. Each act changes its status in one statement, which the feeder of whichever node sees in its next transaction.

What is in the queue already when a broadcast is paused is held there, and let go when it is resumed; a cancelled one takes its waiting copies along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from relay import copies
from relay.broadcasts import feeder, start
from relay.clock import Clock
from relay.errors import Conflict, Invalid
from relay.mail import address as mail_address
from relay.mail.ids import Maker
from relay.mail.message import Principal
from relay.store.audience import contacts, segments
from relay.store.audience.segments import Segment
from relay.store.broadcasts import broadcasts, ledger, reach
from relay.store.broadcasts.broadcasts import CANCELLED, DRAFT, PAUSED, QUEUED, SCHEDULED, SENDING, Broadcast, Variant
from relay.store.engine import JOBS, Store
from relay.submission import Receipt

if TYPE_CHECKING:
    from relay.submission import Door

AHEAD = 366 * 86_400.0  # seconds that a broadcast may be scheduled ahead
MEMBERS = 500  # contacts that a resend moves in one write


class Queue(Protocol):
    """Whom to tell that rows of the queue changed: relay.leader.Leader."""

    def forget(self, recipient_ids: Any) -> None: ...
    def wake(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts, with what they need of a running relay."""

    store: Store
    door: Door
    clock: Clock
    maker: Maker
    queue: Queue | None
    occurred: Callable[[], None]

    async def send(self, who: Principal, number: int, at: float | None = None) -> Broadcast:
        """The broadcast, which begins now, or at `at` (UTC seconds); raises what would stop its first copy, Conflict unless it is a draft."""
        found, now = await self.store.read(broadcasts.get, who.project, number), self.clock.now()
        if found.status not in (DRAFT, SCHEDULED):
            raise Conflict(f"the broadcast is {found.status}; only a draft can be sent", code="broadcast_not_draft")
        if at is not None and at > now + AHEAD:
            raise Invalid("scheduled_at", "scheduled_at is more than a year ahead")
        if not (found.everyone or found.topic_id is not None or _aimed(found)):
            raise Invalid("segment_id", "say who gets it: segment_id, audience_id, topic_id, or all_contacts: true")
        origin = {"key_id": who.key_id, "name": who.name, "mode": who.mode, "domain": who.domain}
        found = replace(found, origin=origin)
        given = await start.checked(self.door, found, await start.wording(self.store, found), self.maker.next())
        await self.store.read(ledger.question, found, now)
        later = at is not None and at > now
        values = {"origin": origin, "scheduled_at": at if later else None, "error": "", "updated_at": now}
        if not await self.store.write(start.accept, number, SCHEDULED if later else QUEUED, values, given):
            raise Conflict("the broadcast is no draft any more", code="broadcast_not_draft")
        return await self._changed(who, number)

    async def pause(self, who: Principal, number: int) -> Broadcast:
        """Nothing more is queued, and what waits in the queue is held."""
        found, now = await self.store.read(broadcasts.get, who.project, number), self.clock.now()
        if not await self.store.write(broadcasts.move_to, number, (QUEUED, SENDING), PAUSED, {"updated_at": now, "error": ""}):
            raise _state(found, "paused", "queued or sending")
        await self._through_queue(number, ledger.hold)
        return await self._changed(who, number)

    async def resume(self, who: Principal, number: int) -> Broadcast:
        """It goes on where it was."""
        found, now = await self.store.read(broadcasts.get, who.project, number), self.clock.now()
        onward = QUEUED if found.started_at is None else SENDING
        if not await self.store.write(broadcasts.move_to, number, (PAUSED,), onward, {"updated_at": now, "error": ""}):
            raise _state(found, "resumed", "paused")
        await self._through_queue(number, ledger.release, now)
        if self.queue is not None:
            self.queue.wake()
        return await self._changed(who, number)

    async def cancel(self, who: Principal, number: int) -> Broadcast:
        """Nobody gets it from now on but those whose copy is on the wire."""
        found, now = await self.store.read(broadcasts.get, who.project, number), self.clock.now()
        values = {"updated_at": now, "ended_at": now}
        if not await self.store.write(broadcasts.move_to, number, broadcasts.OPEN, CANCELLED, values):
            raise _state(found, "cancelled", "scheduled, queued, sending or paused")
        while await self.store.write(ledger.cancel, number, now, lane=JOBS):
            pass
        await self._through_queue(number, ledger.stop, now)
        return await self._changed(who, number)

    async def _through_queue(self, number: int, change: Callable[..., Sequence[int]], *args: Any) -> None:
        """Change every copy that waits in the queue, a slice at a time; the runner forgets them, or finds them again."""
        after = 0
        while some := await self.store.read(ledger.in_queue, number, after):
            changed = await self.store.write(change, some, *args, lane=JOBS)
            if self.queue is not None and change is not ledger.release:
                self.queue.forget(changed)
            after = some[-1]

    async def remove(self, who: Principal, number: int) -> None:
        """Gone, with its ledger, a slice at a time; raises Conflict while it is on its way."""
        found = await self.store.read(broadcasts.get, who.project, number)
        while found.status not in broadcasts.OPEN and await self.store.write(ledger.empty, number, lane=JOBS):
            pass
        await self.store.write(broadcasts.remove, who.project, number)

    async def test(self, who: Principal, number: int, to: str, variant: int = 1) -> Receipt:
        """One copy to this address, as the contact with it would get it; not in the ledger."""
        found = replace(await self.store.read(broadcasts.get, who.project, number), origin={"key_id": who.key_id, "mode": who.mode, "domain": who.domain})
        versions = {v.number: v for v in await start.wording(self.store, found)}
        if variant not in versions:
            raise Invalid("variant", f"there is no variant {variant}")
        chosen = versions[variant]
        start.sound(chosen.texts)
        said = start.letter(found, replace(chosen, subject=f"[Test] {chosen.subject}"))
        recipient = copies.recipient(self.maker.next(), to, "email")
        contact = await self.store.read(contacts.by_key, who.project, mail_address.key(recipient.address))
        variables = {"email": recipient.address} if contact is None else copies.values(contact)
        return await copies.send(self.door, who, replace_tags(said), recipient, variables, "broadcast")

    async def duplicate(self, who: Principal, number: int) -> Broadcast:
        """A new draft that says the same to the same audience."""
        found = await self.store.read(broadcasts.get, who.project, number)
        return await self._copied(found, {"name": f"{found.name or found.subject}"[:190] + " (copy)"})

    async def _copied(self, found: Broadcast, changes: dict[str, Any]) -> Broadcast:
        now = self.clock.now()
        given = await self.store.read(broadcasts.variants, found.id) if found.ab_test is not None else []
        draft = Broadcast(
            self.maker.next(), found.project_id, found.name, DRAFT, found.sender, found.reply_to, found.subject, found.html, found.text, found.template_id,
            found.segment_id, found.audience_id, found.topic_id, found.everyone, found.rules, found.per_minute, found.tracking, found.ab_test, found.dialect,
            {}, now, now, description=found.description, kind=found.kind)
        draft = replace(draft, **changes)
        return await self.store.write(broadcasts.add, draft, [replace(v, facts={}) for v in given] if draft.ab_test is not None else [])

    async def resend(self, who: Principal, number: int, target: str, subject: str | None) -> tuple[Broadcast, Segment, int]:
        """A new draft for those who got it and did not open (or click), as a list of its own; gives both and how many they are.

        target  "non_openers" | "non_clickers"
        """
        found, now = await self.store.read(broadcasts.get, who.project, number), self.clock.now()
        if found.started_at is None:
            raise Conflict("the broadcast was not sent yet")
        words = target.replace("_", "-")
        segment = Segment(self.maker.next(), who.project, f"{words} of {found.name or found.subject}"[:128], f"Made by resending {found.public_id}", None, None,
                          False, now, now)
        await self.store.write(segments.add, segment)
        after, count = 0, 0
        while some := await self.store.read(reach.without, number, _COLUMN[target], after, MEMBERS):
            await self.store.write(segments.put, segment.id, [row.id for row in some], now, lane=JOBS)
            after, count = some[-1].id, count + len(some)
        wording = (await self.store.read(broadcasts.variants, number)) or [Variant(1, "", found.subject, found.html, found.text)]
        best = next((v for v in wording if v.number == found.winner), wording[0])
        draft = await self._copied(found, {
            "name": f"{found.name or best.subject}"[:180] + f" ({words})", "subject": (subject or f"Re: {best.subject}")[:998], "html": best.html,
            "text": best.text, "template_id": None, "segment_id": segment.id, "audience_id": None, "everyone": False, "rules": None, "ab_test": None})
        return draft, segment, count

    async def end_test(self, who: Principal, number: int) -> Broadcast:
        """Who leads an A/B test has won, and the rest of the audience gets it."""
        found = await self.store.read(broadcasts.get, who.project, number)
        if found.ab_test is None:
            raise Invalid("ab_test", "the broadcast has no A/B test")
        if found.started_at is None or found.status not in (SENDING, PAUSED) or not await self.store.write(feeder.decide, found):
            raise Conflict("the A/B test is not under way")
        return await self._changed(who, number)

    async def _changed(self, who: Principal, number: int) -> Broadcast:
        self.store.notify("broadcasts")
        self.occurred()
        return await self.store.read(broadcasts.get, who.project, number)


_COLUMN = {"non_openers": "opened_at", "non_clickers": "clicked_at"}


def replace_tags(said: copies.Letter) -> copies.Letter:
    """The letter of a test copy: it does not count among those of the broadcast."""
    return msgspec.structs.replace(said, tags=("test",))


def _aimed(found: Broadcast) -> bool:
    return found.segment_id is not None or found.audience_id is not None or found.rules is not None


def _state(found: Broadcast, act: str, needed: str) -> Conflict:
    return Conflict(f"the broadcast is {found.status}; one that is {needed} can be {act}", code="broadcast_state")
