"""The queue runner: what is due goes to its site, couriers carry it, outcomes are recorded.

    accepted(message)     after its commit, the message still in memory: its delivery needs no read
    Loader                brings the rest from disk as it comes due and as there is room
    Place -> Site         by the Router; a Site decides whose turn it is and how many connections it can take
    Courier               a connection and its life; the runner starts one when turns wait and the site and the total allow it
    Recorder              commits what came of it; at most 200 outcomes are unwritten, and without a store nothing leaves

A site that is unreachable or suspended keeps nothing in memory: its mail stays on disk, its couriers end, and one look is planned for the time when it may be
tried again. So a dead site costs a timer, and a slow one its own connections, of which it never holds more than a quarter.

State changes are plain functions between awaits; times of sites are monotonic, due times are UTC.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from relay import bounces, log, shaping
from relay.bounces import Classification
from relay.clock import Clock
from relay.delivery.connect import Connector
from relay.delivery.outcome import CONN_ERROR, DELIVERED, PERMFAIL, Outcome
from relay.delivery.route import Route, Router
from relay.errors import ConnectFailed, NoRoute
from relay.mail import ids
from relay.mail.message import Message, Recipient
from relay.mail.reply import Reply
from relay.policy import Chain
from relay.queue import figures, settle
from relay.queue.bodies import Bodies
from relay.queue.courier import Courier
from relay.queue.loader import LOW, SHARE, Loader
from relay.queue.recorder import Recorder
from relay.queue.site import FAILS, RUN, Site
from relay.queue.waiting import Place, Turn, Waiting
from relay.settings import Settings
from relay.store import sites as stored
from relay.store.engine import Store
from relay.store.queue import Settlement
from relay.store.writes import JOBS

GROW = 0.02  # seconds that turns wait for one of the couriers at work before another is started
ROUTERS = 100  # domains whose route is looked up at once
REMEMBERED = 20_000  # domains and sites kept though nothing waits there, for their routes and windows
FLUSH = 60.0  # seconds that a page of expired recipients waits for its commit
CUT = 5.0  # seconds that cut couriers and the last outcomes get at the end
FOREVER = float("inf")

LOG = log.get("queue")


class Runner:
    """Delivers. `copy` and `depart` may be replaced while it runs; `stopping` lets nothing start."""

    def __init__(
        self, store: Store, router: Router, connector: Connector, shape: shaping.Shaping, config: Settings, clock: Clock, *,
        copy: Chain, depart: Chain, rules: bounces.Rules | None = None, held: bool = False,
    ):
        self.store, self.router, self.connector, self.shaping, self.clock = store, router, connector, shape, clock
        self.copy, self.depart = copy, depart
        self.held = held
        self.stopping = False
        self.total = config.delivery.connections
        self.delay_after = config.dsn.delay_after
        self.rules = rules or bounces.read()
        self.known: dict[int, Waiting] = {}
        self.bodies = Bodies(store, self.known)
        self.recorder = Recorder(store, self._committed)
        self.loader = Loader(store, clock, self)
        self.places: dict[str, Place] = {}
        self.sites: dict[str, Site] = {}
        self.couriers: set[Courier] = set()
        self.resting: OrderedDict[Courier, None] = OrderedDict()
        self.hungry: OrderedDict[str, Site] = OrderedDict()
        self.short: OrderedDict[str, Place] = OrderedDict()  # domains with mail on disk only, for want of room
        self._routing: OrderedDict[str, Place] = OrderedDict()
        self._suspended: dict[str, tuple[float, str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._routers = 0
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    # in

    def accepted(self, message: Message) -> None:
        """A message that has just been committed; taken into memory if it is due and there is room, else the loader finds it."""
        now, wishes = self.clock.now(), message.wishes
        if wishes.send_at is not None and wishes.send_at > now:
            self.loader.sooner(wishes.send_at)
            return
        if message.principal.mode == "test":
            self._simulate(message)
            return
        project, stream, received = message.principal.project, wishes.stream, message.received_at
        entering = []
        for each in message.envelope.recipients:
            place = self.places.get(each.domain) or self.place(each.domain)
            if not self.room(place, 0, len(entering)):
                self.shortage(place)
                continue
            entering.append(Waiting(each.id, message.id, project, each.domain, stream, received))
        if entering:
            self.bodies.keep(message)
            self.enter(entering)

    def _simulate(self, message: Message) -> None:
        for each in message.envelope.recipients:
            waiting = Waiting(each.id, message.id, message.principal.project, each.domain, message.wishes.stream, message.received_at)
            self.hold(waiting)
            self.simulated(waiting, each)

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
                self._route(place)
            elif place.site.add(waiting, place.key, now) is not None and place not in touched:
                touched.append(place)
        for place in touched:
            place.site.seal()
        for place in touched:
            self._offer(place.site, place.key)

    def place(self, domain: str) -> Place:
        found = self.places.get(domain)
        if found is None:
            found = self.places[domain] = Place(domain)
        return found

    def room(self, place: Place, extra: int, entering: int) -> bool:
        """Whether another recipient of this domain may be in memory: its site has not filled its share of what is free, and may be sent to."""
        free = self.loader.capacity - len(self.known) - entering
        if free <= 0 or self.held or self.stopping:
            return False
        site = place.site
        if site is None:
            return place.count + extra < free * SHARE
        return site.count + extra < free * SHARE and not site.blocked(self.clock.elapsed())

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

    # where it goes

    def _route(self, place: Place) -> None:
        """Find out where a domain's mail goes; at most ROUTERS at once."""
        if place.routing:
            return
        place.routing = True
        self._routing[place.domain] = place
        if self._routers < ROUTERS:
            self._routers += 1
            self._spawn(self._find_routes())

    async def _find_routes(self) -> None:
        try:
            while self._routing:
                _, place = self._routing.popitem(last=False)
                try:
                    self._routed(place, await self.router.route(place.domain))
                except NoRoute as none:
                    await self._nowhere(place, none.reply)
                finally:
                    place.routing = False
        finally:
            self._routers -= 1

    def _routed(self, place: Place, route: Route) -> None:
        site = self.sites.get(route.site)
        if site is None:
            site = self._new_site(route)
        place.site, place.key = site, route.key
        site.places[place.domain] = place
        waiting, place.unrouted = place.unrouted, []
        if self.blocked(place):
            for each in waiting:
                self._back_to_disk(each)
            self._look_later(site)
            return
        now = self.clock.elapsed()
        for each in waiting:
            site.add(each, place.key, now)
        if waiting:
            site.seal()
            self._offer(site, place.key)

    def _new_site(self, route: Route) -> Site:
        site = self.sites[route.site] = Site(route.site, self.shaping.limits(route.site), route.provider)
        until, reason = self._suspended.pop(route.site, (0.0, ""))
        site.suspend(until, reason)
        return site

    async def _nowhere(self, place: Place, reply: Reply) -> None:
        """The domain has no route, for ever or for now: that is the outcome for all who wait for it."""
        waiting, place.unrouted = place.unrouted, []
        await self._settle_all([each for each in waiting if not each.gone], Outcome(0, PERMFAIL if reply.permanent else CONN_ERROR, reply, "dns"))

    async def _settle_all(self, waiting: Iterable[Waiting], outcome: Outcome) -> None:
        """One outcome for many recipients, none of whom a courier has."""
        for each in waiting:
            each.out = True
            message = self.bodies.get(each.message_id) or await self.bodies.load(each.message_id)
            recipient = next((r for r in message.envelope.recipients if r.id == each.recipient_id), None) if message is not None else None
            if recipient is None:
                self.drop(each)
            elif message.principal.mode == "test":
                self.simulated(each, recipient)
            else:
                await self.recorder_room()
                self._refused(each, message, recipient, outcome, "other")

    def unroutable(self, waiting: Waiting, message: Message, recipient: Recipient, reply: Reply) -> None:
        """The route went away between two connections."""
        outcome = Outcome(waiting.recipient_id, PERMFAIL if reply.permanent else CONN_ERROR, reply, "dns")
        self._refused(waiting, message, recipient, outcome, "other")

    def moved(self, turn: Turn) -> None:
        """A domain's MX records lead elsewhere now: its turns start anew, those in line as their couriers come to them."""
        place = self.place(turn.domain)
        if place.site is not None:
            place.site.places.pop(place.domain, None)
            place.site.short.pop(place.domain, None)
        place.site = None
        for each in self._returned(turn):
            if each.site is not None:
                each.site.leaves(each)
            place.unrouted.append(each)
        self._route(place)

    # couriers

    def _offer(self, site: Site, key: str) -> None:
        """A turn has come to a place of this site: give it to a courier that waits, or see that one comes."""
        resting = site.idle.get(key)
        if resting:
            taken = site.take(key)
            if taken is not None:
                resting[-1].give(taken[1])
        elif site.open == 0:
            self._start(site)
        elif site.timer is None:
            site.timer = asyncio.get_running_loop().call_later(GROW, self._look, site)

    def _look(self, site: Site) -> None:
        """Start couriers for the turns that wait."""
        site.timer = None
        while site.size and self._start(site):
            pass

    def _start(self, site: Site) -> bool:
        """One more courier for this site, if it and the total allow it."""
        now = self.clock.elapsed()
        if site.blocked(now):
            self._park(site)
            return False
        if self.stopping or site.open >= site.allowed(now):
            figures.DELAYED_CONCURRENCY()
            self._look_later(site)
            return False
        if len(self.couriers) >= self.total and not self._send_home():
            self.hungry[site.name] = site
            return False
        taken = site.take()
        if taken is None:
            return False
        courier = Courier(self, site, taken[0])
        site.open += 1
        self.couriers.add(courier)
        courier.task = self._spawn(courier.run(taken[1]))
        return True

    def _send_home(self) -> bool:
        """Close the connection that has been quiet the longest; its place in the total is free in a moment."""
        if self.resting:
            next(iter(self.resting)).give(None)
        return False

    def _look_later(self, site: Site) -> None:
        """Plan a look at a site for when something that holds it back ends."""
        now = self.clock.elapsed()
        ends = [at for at in (site.blocked(now), site.paused_until, site.next_at) if now < at < FOREVER]
        if ends and site.timer is None:
            site.timer = asyncio.get_running_loop().call_later(min(ends) - now + 0.001, self._unpark, site)

    def _park(self, site: Site) -> None:
        """Nothing may go there for now: what waits in memory goes back to disk."""
        while (taken := site.take()) is not None:
            for each in taken[1].live():
                self._back_to_disk(each)
        for resting in list(site.idle.values()):
            for courier in list(resting):
                courier.give(None)
        self._look_later(site)
        for place in [each for each, _ in zip(self.short.values(), range(ROUTERS), strict=False)]:  # what has left makes room for others
            self.short.pop(place.domain)
            self.loader.want(place)

    def _back_to_disk(self, waiting: Waiting) -> None:
        self.known.pop(waiting.recipient_id, None)
        place = self.place(waiting.domain)
        place.count -= 1
        place.more = True
        if waiting.site is not None:
            waiting.site.leaves(waiting)
        self.bodies.leave(waiting.message_id)

    def _unpark(self, site: Site) -> None:
        """Its time has come: read its mail again, of one domain only as long as it is not known to be reachable."""
        site.timer = None
        if site.blocked(self.clock.elapsed()):
            self._look_later(site)
            return
        for domain, place in list(site.places.items()):
            if place.more:
                self.loader.want(place)
                if site.failures >= FAILS:
                    site.places.move_to_end(domain)
                    break
        self._look(site)

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
            site.timer = asyncio.get_running_loop().call_later(GROW, self._look, site)
        return taken[1]

    def lingers(self, courier: Courier) -> bool:
        """Whether a courier without a turn may wait for one."""
        return self._stays(courier) and not courier.site.size and courier.connection is not None and courier.connection.usable

    def _stays(self, courier: Courier) -> bool:
        site = courier.site
        if self.stopping or (self.hungry and site.open > 1):
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
                self._start(hungry)
        if site.size:
            self._look(site)

    def put_back(self, courier: Courier, turn: Turn) -> None:
        """A turn that its courier could not carry; it is the next one of its place."""
        if self._returned(turn):
            courier.site.put_back(courier.key, turn)

    def _returned(self, turn: Turn) -> list[Waiting]:
        """Those of a turn that its courier gives back who still wait."""
        for each in turn.waiting:
            each.out = False
            if each.gone:
                self.drop(each)
        turn.waiting = turn.live()
        return turn.waiting

    # what came of it

    async def recorder_room(self) -> None:
        if not self.recorder.ready:
            await self.recorder.room()

    def starts(self, turn: Turn) -> None:
        """An attempt begins."""
        figures.DUE_LAG.observe(self.clock.elapsed() - turn.since)

    def delayed(self, reason: str) -> None:
        figures.DELAYED.labels(reason).inc()

    def connected(self, courier: Courier) -> None:
        """A connection stands. A site that was unreachable gets all its mail back into view."""
        site = courier.site
        if site.failures >= FAILS:
            LOG.info("site reachable again", site=site.name)
            site.connected()
            for place in site.places.values():
                if place.more:
                    self.loader.want(place)
        site.connected()

    def connect_failed(self, courier: Courier, turn: Turn, message: Message, left: dict[int, Waiting], failure: ConnectFailed) -> None:
        """No connection. While others to the site stand it is only too many; else it is the outcome for this turn, and perhaps the site is unreachable."""
        site, now = courier.site, self.clock.elapsed()
        if site.open > 1 and failure.reply.transient and any(c.connection is not None for c in self.couriers if c.site is site):
            site.refused(now)
            self.put_back(courier, turn)
            return
        found = self._classify(site, failure.reply, failure.mx, failure.phase)
        outcome = Outcome(0, PERMFAIL if failure.reply.permanent else CONN_ERROR, failure.reply, failure.phase, site.name, failure.mx, failure.address,
                          failure.source, failure.tls, failure.seconds)
        for recipient in message.recipients:
            self._record_refusal(left.pop(recipient.id), message, recipient, outcome, found, site.provider)
        if failure.reply.permanent:
            return
        if found.slows:
            self._slow(site, failure.reply, found)
        if site.failed(now):
            LOG.warning("site unreachable", site=site.name, reply=str(failure.reply), next_probe=round(site.probe_at - now))
            self._spawn(self._expire(site, outcome))
            self._park(site)

    async def _expire(self, site: Site, outcome: Outcome) -> None:
        """A failed probe is an attempt for all who wait there: those past their deadline end by it."""
        for place in list(site.places.values()):
            if place.more:
                while waiting := await self.loader.overdue(place):
                    for each in waiting:
                        self.hold(each)
                    await self._settle_all(waiting, outcome)
                    await self.recorder.flushed(FLUSH)

    def settled(self, courier: Courier, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome) -> None:
        """One recipient of a transaction."""
        site = courier.site
        if outcome.result == DELIVERED:
            now = self.clock.now()
            site.delivered()
            figures.delivered(site.provider, waiting.stream, outcome.reply, now - max(message.received_at, message.wishes.send_at or 0.0))
            LOG.info("delivered", id=ids.public("em", message.id), to=recipient.address, mx=outcome.mx, reply=str(outcome.reply))
            self._record(waiting, settle.delivered(waiting, message, recipient, outcome, now))
            return
        found = self._classify(site, outcome.reply, outcome.mx, outcome.phase)
        if outcome.reply.code == 421 or found.slows:
            self._slow(site, outcome.reply, found)
        else:
            self._react(site, outcome.reply, found)
        self._record_refusal(waiting, message, recipient, outcome, found, site.provider)

    def _refused(self, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, provider: str) -> None:
        self._record_refusal(waiting, message, recipient, outcome, self.rules.classify(outcome.reply, outcome.mx, outcome.phase), provider)

    def _classify(self, site: Site, reply: Reply, mx: str, phase: str) -> Classification:
        return self.rules.classify(reply, mx, phase)

    def _record_refusal(self, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, found: Classification, provider: str) -> None:
        now = self.clock.now()
        settlement = settle.refused(waiting, message, recipient, outcome, found, now, chance=self._random.random(), delay_after=self.delay_after)
        figures.refused(provider, outcome.reply, found.category, settlement.state)
        LOG.info(settlement.state, id=ids.public("em", message.id), to=recipient.address, mx=outcome.mx, reply=str(outcome.reply), category=found.category,
                 next=round(settlement.due - now) if settlement.state == "deferred" else None)
        self._record(waiting, settlement)

    def _slow(self, site: Site, reply: Reply, found: Classification) -> None:
        """The site says that it is too much."""
        site.refused(self.clock.elapsed())
        self._react(site, reply, found)

    def _react(self, site: Site, reply: Reply, found: Classification) -> None:
        now = self.clock.elapsed()
        for reaction in self.shaping.reactions(site.name, reply, found.category):
            if site.react(reaction, now):
                self._remember(site, site.suspended - now, f"said {reply}"[:500])

    def _remember(self, site: Site, seconds: float, reason: str) -> None:
        """Keep a suspension over a restart."""
        now = self.clock.now()
        site.reason = reason
        LOG.warning("site suspended", site=site.name, seconds=round(seconds), reason=reason)
        self._spawn(self.store.write(stored.suspend, site.name, now + seconds, reason, False, now, lane=JOBS))
        self._park(site)

    def suppressed(self, waiting: Waiting, recipient: Recipient, reply: Reply) -> None:
        LOG.info("suppressed", id=ids.public("em", waiting.message_id), to=recipient.address, reply=str(reply))
        self._record(waiting, settle.suppressed(waiting, recipient, reply, self.clock.now()))

    def stopped(self, waiting: Waiting, message: Message, recipient: Recipient, reply: Reply) -> None:
        LOG.info("failed", id=ids.public("em", message.id), to=recipient.address, reply=str(reply))
        self._record(waiting, settle.stopped(waiting, message, recipient, reply, self.clock.now()))

    def postpone(self, waiting: Waiting, reply: Reply) -> None:
        self._record(waiting, settle.postponed(waiting, reply, self.clock.now(), self._random.random()))

    def simulated(self, waiting: Waiting, recipient: Recipient) -> None:
        self._record(waiting, settle.simulated(waiting, recipient, self.clock.now()))

    def drop(self, waiting: Waiting) -> None:
        """It does not wait any more; the store knows."""
        waiting.gone = True
        self._release(waiting)
        self.known.pop(waiting.recipient_id, None)
        self.loader.settled(waiting.recipient_id)

    def _record(self, waiting: Waiting, settlement: Settlement) -> None:
        """On its way to disk; until it is there the loader must not take it for waiting."""
        self._release(waiting)
        self.recorder.add(settlement)
        if settlement.due:
            self.loader.sooner(settlement.due)

    def _release(self, waiting: Waiting) -> None:
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

    def _committed(self, settlements: Sequence[Settlement]) -> None:
        now = self.clock.now()
        for each in settlements:
            waiting = self.known.pop(each.recipient_id, None)
            self.loader.settled(each.recipient_id)
            if each.due and each.due <= now and waiting is not None:  # the store was slower than the wait
                place = self.place(waiting.domain)
                place.more = True
                self.loader.want(place)

    # what operators do; the store has been changed already

    def forget(self, recipient_ids: Iterable[int]) -> None:
        """These were cancelled, held or suppressed: they are not sent unless their MAIL is on the wire."""
        for number in recipient_ids:
            waiting = self.known.get(number)
            if waiting is None:
                continue
            waiting.gone = True
            if not waiting.out:
                self.drop(waiting)

    def wake(self) -> None:
        """Rows have come in, or were made due (`retry`, another node's mail)."""
        self.loader.wake()

    def rescan(self) -> None:
        """Rows have become free whose time had passed (`release`)."""
        self.held = False
        self.loader.again()

    def suspend(self, name: str, until: float | None = None, reason: str = "by hand") -> None:
        """No attempts to this site until then (UTC seconds, None = until `resume`); transactions under way are finished."""
        now = self.clock.now()
        ends = FOREVER if until is None else self.clock.elapsed() + until - now
        site = self.sites.get(name)
        if site is None:
            self._suspended[name] = (ends, reason)
            return
        site.suspend(ends, reason)
        self._park(site)

    def resume(self, name: str) -> None:
        """Attempts go on at once, and what slowed the site is forgotten."""
        self._suspended.pop(name, None)
        site = self.sites.get(name)
        if site is not None:
            site.resume()
            self._unpark(site)

    def limit(self, recipient_id: int, domain: str) -> tuple[str, float | None]:
        """What holds a due recipient back just now, and until when (UTC seconds), for `relay explain`; "" when nothing does."""
        if self.held:
            return "the queue is held until `relay queue release --all`", None
        place = self.places.get(domain)
        if place is None or place.site is None:
            return ("looking up its route", None) if place is not None and place.routing else ("", None)
        why, until = place.site.limit(self.clock.elapsed())
        if not why and recipient_id not in self.known:
            return "waits on disk for room in memory", None
        return why, None if until is None or until == FOREVER else self.clock.now() + until - self.clock.elapsed()

    # life

    async def run(self) -> None:
        """Deliver, for ever."""
        now = self.clock.now()
        for each in await self.store.read(stored.remembered, now):
            if each.suspended(now):
                self.suspend(each.name, each.suspended_until, each.reason)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.recorder.run())
            group.create_task(self.loader.run())
            group.create_task(figures.watch(self))

    async def drain(self, timeout: float) -> None:
        """Start nothing more, let transactions end, cut those that take longer (ambiguous after the final dot), record all of it."""
        self.stopping = True
        for courier in list(self.resting):
            courier.give(None)
        await self._ended(timeout)
        for courier in list(self.couriers):
            if courier.connection is not None:
                courier.connection.abort()
            elif courier.task is not None:
                courier.task.cancel()
        await self._ended(CUT)
        await self.recorder.flushed(CUT)

    async def _ended(self, timeout: float) -> None:
        tasks = [courier.task for courier in self.couriers if courier.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def tidy(self) -> None:
        """Forget domains and sites where nothing waits and nothing is remembered, when they have become many."""
        if len(self.places) > REMEMBERED:
            for domain in [d for d, p in self.places.items() if not (p.count or p.more or p.routing or p.unrouted)]:
                place = self.places.pop(domain)
                if place.site is not None:
                    place.site.places.pop(domain, None)
        if len(self.sites) > REMEMBERED:
            now = self.clock.elapsed()
            for name in [n for n, s in self.sites.items() if not (s.open or s.size or s.places or s.slowed or s.blocked(now))]:
                del self.sites[name]

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("queue task failed", exception=repr(task.exception()), exc_info=task.exception())
