"""Which site gets how many couriers, and which courier what turn.

Couriers are started when turns wait and the site and the total allow it. A site that is unreachable or suspended keeps nothing in memory: its couriers end,
and one look is planned for the time when it may be tried again. So a dead site costs a timer, and a slow one its own connections.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from relay.delivery.route import Route
from relay.queue import figures
from relay.queue.courier import Courier
from relay.queue.site import FAILS, RUN, Site
from relay.queue.waiting import Turn, Waiting

if TYPE_CHECKING:
    from relay.queue.runner import Runner

GROW = 0.02  # seconds that turns wait for one of the couriers at work before another is started
FREED = 100  # domains that are offered the room which a parked site leaves
FOREVER = float("inf")


class Dispatch:
    """The sites, and the couriers at work.

    total      connections that may stand at once, to all sites
    resting    couriers that wait with an open connection, the longest first
    hungry     sites with turns and no courier, because the total is reached
    suspended  by name, of sites that no mail has led to yet: until when, and why
    """

    def __init__(self, runner: Runner, total: int):
        self.runner, self.memory, self.clock, self.total = runner, runner.memory, runner.clock, total
        self.sites: dict[str, Site] = {}
        self.couriers: set[Courier] = set()
        self.resting: OrderedDict[Courier, None] = OrderedDict()
        self.hungry: OrderedDict[str, Site] = OrderedDict()
        self.suspended: dict[str, tuple[float, str]] = {}

    def new_site(self, route: Route) -> Site:
        site = self.sites[route.site] = Site(route.site, self.runner.shaping.limits(route.site), route.provider)
        until, reason = self.suspended.pop(route.site, (0.0, ""))
        site.suspend(until, reason)
        self.runner.paces.begin(site)
        return site

    def offer(self, site: Site, key: str) -> None:
        """A turn has come to a place of this site: give it to a courier that waits, or see that one comes."""
        resting = site.idle.get(key)
        if resting:
            taken = site.take(key)
            if taken is not None:
                resting[-1].give(taken[1])
        elif site.open == 0:
            self.start(site)
        elif site.timer is None:
            site.timer = asyncio.get_running_loop().call_later(GROW, self.look, site)

    def look(self, site: Site) -> None:
        """Start couriers for the turns that wait."""
        site.timer = None
        while site.size and self.start(site):
            pass

    def start(self, site: Site) -> bool:
        """One more courier for this site, if it and the total allow it."""
        now = self.clock.elapsed()
        if site.blocked(now):
            self.park(site)
            return False
        if self.runner.stopping or site.open >= site.allowed(now):
            figures.DELAYED_CONCURRENCY()
            self.look_later(site)
            return False
        if len(self.couriers) >= self.total and not self._send_home():
            self.hungry[site.name] = site
            return False
        taken = site.take()
        if taken is None:
            return False
        courier = Courier(self.runner, site, taken[0])
        site.open += 1
        self.couriers.add(courier)
        courier.task = self.runner.spawn(courier.run(taken[1]))
        return True

    def _send_home(self) -> bool:
        """Close the connection that has been quiet the longest; its place in the total is free in a moment."""
        if self.resting:
            next(iter(self.resting)).give(None)
        return False

    def look_later(self, site: Site) -> None:
        """Plan a look at a site for when something that holds it back ends."""
        now = self.clock.elapsed()
        ends = [at for at in (site.blocked(now), site.paused_until, site.next_at) if now < at < FOREVER]
        if ends and site.timer is None:
            site.timer = asyncio.get_running_loop().call_later(min(ends) - now + 0.001, self.unpark, site)

    def park(self, site: Site) -> None:
        """Nothing may go there for now: what waits in memory goes back to disk."""
        while (taken := site.take()) is not None:
            for each in taken[1].live():
                self.memory.back_to_disk(each)
        for resting in list(site.idle.values()):
            for courier in list(resting):
                courier.give(None)
        self.look_later(site)
        for place in [each for each, _ in zip(self.memory.short.values(), range(FREED), strict=False)]:  # what has left makes room for others
            self.memory.short.pop(place.domain)
            self.memory.loader.want(place)

    def unpark(self, site: Site) -> None:
        """Its time has come: read its mail again, of one domain only as long as it is not known to be reachable."""
        site.timer = None
        if site.blocked(self.clock.elapsed()):
            self.look_later(site)
            return
        for domain, place in list(site.places.items()):
            if place.more:
                self.memory.loader.want(place)
                if site.failures >= FAILS:
                    site.places.move_to_end(domain)
                    break
        self.look(site)

    # what couriers ask

    def following(self, courier: Courier) -> Turn | None:
        """The next turn for a courier that has finished one; None: it waits or ends."""
        site = courier.site
        if not self._stays(courier):
            return None
        if courier.run_length >= RUN and self._others_wait(site, courier.key):
            return None
        taken = site.take(courier.key)
        if taken is None:
            return None
        if site.size and site.timer is None and site.open < site.window:
            site.timer = asyncio.get_running_loop().call_later(GROW, self.look, site)
        return taken[1]

    def lingers(self, courier: Courier) -> bool:
        """Whether a courier without a turn may wait for one."""
        return self._stays(courier) and not courier.site.size and courier.connection is not None and courier.connection.usable

    def _stays(self, courier: Courier) -> bool:
        site = courier.site
        if self.runner.stopping or (self.hungry and site.open > 1):
            return False
        now = self.clock.elapsed()
        if site.suspended > now or courier.carried >= site.messages(now):
            return False
        return not site.slowed or site.open <= site.allowed(now)

    def _others_wait(self, site: Site, key: str) -> bool:
        """Whether another place of the site has turns and no room for a courier of its own."""
        if site.open < site.allowed(self.clock.elapsed()):
            return False
        fairs = (site.urgent, site.other)
        return any(place != key for fair in fairs for places in fair.projects.values() for place in places)

    def rests(self, courier: Courier) -> None:
        self.resting[courier] = None
        courier.site.idle.setdefault(courier.key, []).append(courier)
        if self.hungry:
            courier.give(None)

    def wakes(self, courier: Courier) -> None:
        if courier not in self.resting:
            return
        del self.resting[courier]
        resting = courier.site.idle[courier.key]
        resting.remove(courier)
        if not resting:
            del courier.site.idle[courier.key]

    def left(self, courier: Courier) -> None:
        """A courier has ended: its place goes to a site that waits for one, else to its own."""
        site = courier.site
        site.open -= 1
        self.couriers.discard(courier)
        while self.hungry and len(self.couriers) < self.total:
            _, hungry = self.hungry.popitem(last=False)
            if hungry.size:
                self.start(hungry)
        if site.size:
            self.look(site)

    def put_back(self, courier: Courier, turn: Turn) -> None:
        """A turn that its courier could not carry; it is the next one of its place."""
        if self.returned(turn):
            courier.site.put_back(courier.key, turn)

    def returned(self, turn: Turn) -> list[Waiting]:
        """Those of a turn that its courier gives back who still wait."""
        for each in turn.waiting:
            each.out = False
            if each.gone:
                self.memory.drop(each)
        turn.waiting = turn.live()
        return turn.waiting
