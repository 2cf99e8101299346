"""Who is due and in memory: recipients by id, their domains (Place), the messages that they wait for, and how much room there is for more.

A site that may not be sent to keeps nothing here: its mail stays on disk. One that may fills at most a share of what is free (relay.queue.loader.SHARE), so
that neither a slow site nor a thousand of them leave no room for the next. Whoever leaves makes room for a domain that had none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay.queue.bodies import Bodies
from relay.queue.loader import LOW, SHARE, Loader
from relay.queue.site import Site
from relay.queue.waiting import Place, Waiting

if TYPE_CHECKING:
    from relay.queue.runner import Runner


class Memory:
    """The recipients that are due, as far as there is room.

    known   by recipient id, until their outcome is on disk
    places  by domain
    short   domains with mail on disk only, for want of room
    """

    def __init__(self, runner: Runner):
        self.runner, self.clock = runner, runner.clock
        self.known: dict[int, Waiting] = {}
        self.bodies = Bodies(runner.store, self.known)
        self.loader = Loader(runner.store, runner.clock, self)
        self.places: dict[str, Place] = {}
        self.short: OrderedDict[str, Place] = OrderedDict()

    @property
    def stopping(self) -> bool:
        """Whether the loader is to bring nothing more."""
        return self.runner.stopping

    def hold(self, waiting: Waiting) -> None:
        """It is in memory now, so the loader leaves it alone."""
        self.known[waiting.recipient_id] = waiting
        self.bodies.enter(waiting.message_id)
        self.place(waiting.domain).count += 1

    def enter(self, entering: Sequence[Waiting]) -> None:
        """These are due: put them in line at their sites."""
        touched: list[Place] = []
        now = self.clock.elapsed()
        for waiting in entering:
            self.hold(waiting)
            place = self.places[waiting.domain]
            if place.site is None:
                place.unrouted.append(waiting)
                self.runner.routing.find(place)
            elif place.site.add(waiting, place.key, now) is not None and place not in touched:
                touched.append(place)
        for place in touched:
            place.site.seal()
        for place in touched:
            self.runner.dispatch.offer(place.site, place.key)

    def place(self, domain: str) -> Place:
        found = self.places.get(domain)
        if found is None:
            found = self.places[domain] = Place(domain)
        return found

    def room(self, place: Place, extra: int, entering: int) -> bool:
        """Whether another recipient of this domain may be in memory: its site has not filled its share of what is free, and may be sent to."""
        free = self.loader.capacity - len(self.known) - entering
        if free <= 0 or self.runner.held or self.runner.stopping:
            return False
        site = place.site
        if site is None:
            return place.count + extra < free * SHARE
        return site.count + extra < free * SHARE and not site.blocked(self.clock.elapsed())

    def full(self, ahead: int) -> list[str]:
        """Domains that bulk mail should not be added to: `ahead` recipients of their site are in memory, more are on disk, or nothing may go there."""
        now = self.clock.elapsed()
        return [place.domain for place in self.places.values()
                if place.more or (place.count if place.site is None else place.site.count) >= ahead
                or (place.site is not None and place.site.blocked(now) > 0)]

    def shortage(self, place: Place) -> None:
        """A domain has mail that there is no room for: it is read when its own recipients, those of its site or anybody's have made some."""
        place.more = True
        if place.count or self.blocked(place):
            return
        line = place.site.short if place.site is not None and place.site.count >= LOW else self.short
        line[place.domain] = place

    def _room_again(self, place: Place, site: Site | None) -> None:
        """Somebody has left: who is next to be read from disk."""
        if place.more and place.count < LOW:
            self.loader.want(place)
        if site is not None and site.short and site.count < LOW:
            self.loader.want(site.short.popitem(last=False)[1])
        if self.short and self.room(next(iter(self.short.values())), 0, 0):
            self.loader.want(self.short.popitem(last=False)[1])

    def blocked(self, place: Place) -> bool:
        """Whether nothing may go there now: suspended, or unreachable with the next probe later."""
        return place.site is not None and place.site.blocked(self.clock.elapsed()) > 0

    def back_to_disk(self, waiting: Waiting) -> None:
        self.known.pop(waiting.recipient_id, None)
        place = self.place(waiting.domain)
        place.count -= 1
        place.more = True
        if waiting.site is not None:
            waiting.site.leaves(waiting)
        self.bodies.leave(waiting.message_id)

    def drop(self, waiting: Waiting) -> None:
        """It does not wait any more; the store knows."""
        waiting.gone = True
        self.release(waiting)
        self.known.pop(waiting.recipient_id, None)
        self.loader.settled(waiting.recipient_id)

    def release(self, waiting: Waiting) -> None:
        if waiting.done:
            return
        waiting.done = True
        place, site = self.place(waiting.domain), waiting.site
        place.count -= 1
        if site is not None:
            site.leaves(waiting)
        self.bodies.leave(waiting.message_id)
        if place.more or self.short or (site is not None and site.short):
            self._room_again(place, site)
