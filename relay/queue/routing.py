"""Where mail goes: the route of each domain that has some, and the site that it leads to.

At most ROUTERS lookups run at once, and a domain is looked up once for all its recipients. A domain without a route is the outcome for those who wait for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from relay.delivery.outcome import CONN_ERROR, PERMFAIL, Outcome
from relay.delivery.route import Route
from relay.errors import NoRoute
from relay.mail.reply import Reply
from relay.queue.waiting import Place, Turn

if TYPE_CHECKING:
    from relay.queue.runner import Runner

ROUTERS = 100  # domains whose route is looked up at once


class Routing:
    """Domains whose route is to be found, and what is done once it is."""

    def __init__(self, runner: Runner):
        self.runner, self.clock = runner, runner.clock
        self.memory, self.dispatch, self.outcomes = runner.memory, runner.dispatch, runner.outcomes
        self._routing: OrderedDict[str, Place] = OrderedDict()
        self._routers = 0
        self._begun = False

    def begin(self) -> None:
        """Look routes up from now on: not before the suspended sites are known, or mail would leave to one of them."""
        self._begun = True
        for _ in range(min(len(self._routing), ROUTERS)):
            self._start()

    def find(self, place: Place) -> None:
        """Find out where a domain's mail goes; at most ROUTERS at once."""
        if place.routing:
            return
        place.routing = True
        self._routing[place.domain] = place
        if self._begun and self._routers < ROUTERS:
            self._start()

    def _start(self) -> None:
        self._routers += 1
        self.runner.spawn(self._find_routes())

    async def _find_routes(self) -> None:
        try:
            while self._routing:
                _, place = self._routing.popitem(last=False)
                try:
                    self._routed(place, await self.runner.router.route(place.domain))
                except NoRoute as none:
                    await self._nowhere(place, none.reply)
                finally:
                    place.routing = False
        finally:
            self._routers -= 1

    def _routed(self, place: Place, route: Route) -> None:
        site = self.dispatch.sites.get(route.site)
        if site is None:
            site = self.dispatch.new_site(route)
        place.site, place.key = site, route.key
        site.places[place.domain] = place
        waiting, place.unrouted = place.unrouted, []
        if self.memory.blocked(place):
            for each in waiting:
                self.memory.back_to_disk(each)
            self.dispatch.look_later(site)
            return
        now = self.clock.elapsed()
        for each in waiting:
            site.add(each, place.key, now)
        if waiting:
            site.seal()
            self.dispatch.offer(site, place.key)

    async def _nowhere(self, place: Place, reply: Reply) -> None:
        """The domain has no route, for ever or for now: that is the outcome for all who wait for it."""
        waiting, place.unrouted = place.unrouted, []
        await self.outcomes.settle_all([each for each in waiting if not each.gone], Outcome(0, PERMFAIL if reply.permanent else CONN_ERROR, reply, "dns"))

    def moved(self, turn: Turn) -> None:
        """A domain's MX records lead elsewhere now: its turns start anew, those in line as their couriers come to them."""
        place = self.memory.place(turn.domain)
        if place.site is not None:
            place.site.places.pop(place.domain, None)
            place.site.short.pop(place.domain, None)
        place.site = None
        for each in self.dispatch.returned(turn):
            if each.site is not None:
                each.site.leaves(each)
            place.unrouted.append(each)
        self.find(place)
