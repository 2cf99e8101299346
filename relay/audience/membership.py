"""Membership tracking: each entry to and exit from a tracked segment becomes one event, `segment.<slug>.entry` or `.exit`.

    somebody changes a contact, its lists or audiences ─► noted, and looked at in the same transaction (`follow`) ──┐
    what mail did, consent, imports, bulk acts ─► noted in the same transaction, looked at a moment later ─────────┼─► memberships and their events,
    time passes over a rule ("in the last 30 days") ─► looked at every minute ─────────────────────────────────────┘   in one transaction

What is noted survives a crash, and memberships change together with their event, so nothing is told twice and nothing is left out. What is looked at later
is looked at on a reader's connection; the writer only gets contacts that did move, a slice at a time behind the mail.

Making a segment tracked, or changing what is in it otherwise than by its contacts (its rules, its audience, a segment that it asks about), sets new
memberships of which nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from relay import log
from relay.audience.grammars import read
from relay.metrics import counter
from relay.store import events, plans
from relay.store.audience import changes, contacts, memberships, segments
from relay.store.audience.changes import Change
from relay.store.audience.rules import conditions, timed
from relay.store.audience.segments import Segment
from relay.store.engine import JOBS, Store
from relay.store.events import Event

ENTRY, EXIT = "entry", "exit"
SLUG = 48  # characters of a segment's name in the name of its events, which has 64

LOG = log.get("membership")
MOVED = counter("segment_moves_total", "Contacts that came to tracked segments or went from them and of whom that was told", "what")


def slug(name: str) -> str:
    """What a segment is called in the names of its events: lower case, spaces as hyphens."""
    return name.lower().replace(" ", "-")


def told(segment: Segment, what: str, contact: int, at: float, email: str = "") -> Event:
    """The event of an entry or exit."""
    data = {"segment_id": segment.public_id, "segment_name": segment.name, **({"email": email} if email else {})}
    return Event(segment.project_id, f"segment.{slug(segment.name)[:SLUG]}.{what}", at, contact_id=contact, data=data)


# Plain functions of a Connection.


def rebase(conn: Any, project: int, numbers: Iterable[int], now: float, gone: tuple[str, int] | None = None) -> None:
    """New memberships, of which nothing is told, for those of these segments that are tracked, and for all that ask about one of them or about what is gone.

    gone  an audience or topic that is no more: ("audience", its number)
    """
    wanted = {*(("segment", number) for number in numbers), gone}
    for segment in memberships.tracked(conn, [project]):
        rule = segments.whole(segment, read)
        rules = rule, *segments.needed(conn, project, rule, read).values()
        asked = {(each.subject.kind, *each.subject.path) for every in rules for each in conditions(every)}
        if ("segment", segment.id) in wanted or wanted & asked:
            memberships.begin(conn, segment, now, read)


def erased(conn: Any, numbers: Sequence[int], now: float) -> None:
    """Tell that these contacts, which are about to go, leave their segments."""
    gone = [told(segment, EXIT, contact, now) for segment, them in memberships.erased(conn, numbers, now) for contact in them]
    events.append(conn, gone)
    MOVED.labels(EXIT).inc(len(gone))


def follow(conn: Any, numbers: Sequence[int], now: float) -> None:
    """Look at what is new of these contacts here and now, in the transaction that changed them."""
    for start in range(0, len(numbers), memberships.SLICE):
        taken = changes.of(conn, numbers[start:start + memberships.SLICE])
        if taken:
            settle(conn, taken, [each.contact_id for each in taken], now)


def differing(conn: Any, taken: Sequence[Change], now: float) -> list[int]:
    """Which of the changed contacts came to a segment or went from one."""
    among = memberships.tracked(conn, {each.project_id for each in taken})
    found = memberships.moved(conn, among, sorted({each.contact_id for each in taken}), now, read)
    return sorted({number for each in found.values() for number in (*each.came, *each.went)})


def settle(conn: Any, taken: Sequence[Change], numbers: Sequence[int], now: float, only: int | None = None) -> int:
    """Make the memberships of these contacts as the rules say and tell it; the changes that led here are done. How many events that made.

    taken    changes that have been looked at; a contact all of whose changes are quiet moves without an event
    numbers  the contacts that may have moved
    only     a segment, if it is about one alone
    """
    loud = {each.contact_id for each in taken if not each.quiet}
    quiet = {each.contact_id for each in (*taken, *changes.of(conn, numbers)) if each.quiet}
    changes.done(conn, taken)
    projects = {each.project_id for each in contacts.among(conn, numbers)}
    segments_ = [each for each in memberships.locked(conn, projects) if only in (None, each.id)]
    happened: list[Event] = []
    for segment, moved in memberships.settle(conn, segments_, sorted(set(numbers)), now, read):
        if segment.settled:
            happened += _events(conn, segment, moved, quiet - loud, now)
    events.append(conn, happened)
    return len(happened)


def _events(conn: Any, segment: Segment, moved: memberships.Moved, hushed: set[int], now: float) -> Iterator[Event]:
    emails = {each.id: each.email for each in contacts.by_ids(conn, segment.project_id, [*moved.came, *moved.went])}
    for what, numbers in ((ENTRY, moved.came), (EXIT, moved.went)):
        heard = [each for each in numbers if each not in hushed]
        MOVED.labels(what).inc(len(heard))
        yield from (told(segment, what, each, now, emails.get(each, "")) for each in heard)


def on_time(conn: Any, project: int, rules: Any) -> bool:
    """Whether time alone changes who these rules are true of."""
    rule = read(rules)
    return timed(rule) or any(map(timed, segments.needed(conn, project, rule, read).values()))


def _walked(conn: Any, find: Callable[..., list[int]], segment: Segment, after: int, now: float) -> list[int]:
    """The next contacts of a walk through all."""
    plans.in_order(conn)
    return find(conn, segment, after, now, read)


# What goes on while a relay runs.


class Membership:
    """The tracked segments of all projects. `follow` looks at changed contacts, `pass_time` at what time changes; `occurred` is called after new events."""

    def __init__(self, store: Store, now: Callable[[], float], occurred: Callable[[], None]):
        self.store, self.now, self.occurred = store, now, occurred

    async def follow(self) -> bool:
        """Look at the oldest changes; whether there were any."""
        taken = await self.store.read(changes.first, memberships.SLICE)
        if taken:
            await self._settle(taken, await self.store.read(differing, taken, self.now()), None)
        return bool(taken)

    async def pass_time(self) -> None:
        """Look at every contact for the segments that time changes; then forget the memberships of segments that are no longer tracked."""
        for segment in await self.store.read(memberships.tracked):
            if segment.settled and segment.rules is not None and await self.store.read(on_time, segment.project_id, segment.rules):
                await self.walk(segment)
        while (number := await self.store.read(memberships.left)) is not None:
            await self.store.write(memberships.sweep, number, lane=JOBS)

    async def begin(self) -> bool:
        """Give the segments their first memberships that have none yet; whether there were any."""
        new = await self.store.point(memberships.unsettled)
        for segment in new:
            await self.walk(segment)
            if await self.store.write(memberships.end, segment, lane=JOBS):
                LOG.info("membership tracked", segment=segment.public_id, project=segment.project_id)
        return bool(new)

    async def walk(self, segment: Segment) -> None:
        """Make all memberships of a segment agree with its rules."""
        for find in (memberships.entering, memberships.leaving):
            last = 0
            while found := await self.store.read(_walked, find, segment, last, self.now()):
                last = found[-1]
                await self._settle((), found, segment.id)

    async def _settle(self, taken: Sequence[Change], numbers: Sequence[int], only: int | None) -> None:
        if await self.store.write(settle, taken, numbers, self.now(), only, lane=JOBS):
            self.occurred()
