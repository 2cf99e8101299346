"""The queue runner: what is due goes to its site, couriers carry it, outcomes are recorded.

    accepted(message)     after its commit, the message still in memory: its delivery needs no read
    Memory                who is due and in memory; its Loader brings the rest from disk as it comes due and as there is room
    Routing               from a domain's Place to its Site, by the Router; a Site decides whose turn it is and how many connections it can take
    Paces                 keeps over a restart how fast a site may be served
    Dispatch              starts a Courier, a connection and its life, when turns wait and the site and the total allow it
    Outcomes              what came of it; its Recorder commits, at most 200 outcomes are unwritten, and without a store nothing leaves

These are parts of one thing and call each other; the runner holds them together and is what everybody else talks to.

A site that is unreachable or suspended keeps nothing in memory: its mail stays on disk, its couriers end, and one look is planned for the time when it may be
tried again. So a dead site costs a timer, and a slow one its own connections, of which it never holds more than a quarter.

State changes are plain functions between awaits; times of sites are monotonic, due times are UTC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from relay import bounces, log, shaping
from relay.clock import Clock
from relay.consent import Terms
from relay.delivery.connect import Connector
from relay.delivery.route import Router
from relay.mail.message import Message
from relay.metrics import OTHER
from relay.policy import Chain
from relay.queue import figures
from relay.queue.dispatch import FOREVER, Dispatch
from relay.queue.memory import Memory
from relay.queue.outcomes import Outcomes
from relay.queue.pace import Paces
from relay.queue.routing import Routing
from relay.queue.site import Site
from relay.queue.waiting import Waiting
from relay.settings import Settings
from relay.store import sites as stored
from relay.store.engine import Store

REMEMBERED = 20_000  # domains and sites kept though nothing waits there, for their routes and windows
SECONDS = 0.5  # that a message takes on a connection that stands, as a forecast has it
CUT = 5.0  # seconds that cut couriers and the last outcomes get at the end

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
        self.memory = Memory(self)
        self.paces = Paces(self)
        self.dispatch = Dispatch(self, config.delivery.connections)
        self.outcomes = Outcomes(self, rules or bounces.read(config.suppress.rules), Terms.of(config.suppress), config.dsn.delay_after)
        self.routing = Routing(self)
        self.known, self.places, self.bodies, self.loader = self.memory.known, self.memory.places, self.memory.bodies, self.memory.loader
        self.sites, self.couriers = self.dispatch.sites, self.dispatch.couriers
        self.hold, self.drop = self.memory.hold, self.memory.drop
        self._tasks: set[asyncio.Task[Any]] = set()

    # in

    def accepted(self, message: Message) -> None:
        """A message that has just been committed; taken into memory if it is due and there is room, else the loader finds it.

        The loader may have found it before us: its walk sees the row as soon as it is committed.
        """
        figures.INSERTED.counts[()] += len(message.envelope.recipients)
        now, wishes = self.clock.now(), message.wishes
        if wishes.send_at is not None and wishes.send_at > now:
            self.loader.sooner(wishes.send_at)
            return
        if message.principal.mode == "test":
            self._simulate(message)
            return
        project, stream, received, retry = message.principal.project, wishes.stream, message.received_at, wishes.retry
        entering = []
        for each in message.envelope.recipients:
            if each.id in self.known:
                continue
            place = self.places.get(each.domain) or self.memory.place(each.domain)
            if not self.memory.room(place, 0, len(entering)):
                self.memory.shortage(place)
                continue
            entering.append(Waiting(each.id, message.id, project, each.domain, stream, received, 0, retry))
        if entering:
            self.bodies.keep(message)
            self.memory.enter(entering)

    def _simulate(self, message: Message) -> None:
        for each in message.envelope.recipients:
            if each.id not in self.known:
                waiting = Waiting(each.id, message.id, message.principal.project, each.domain, message.wishes.stream, message.received_at)
                self.hold(waiting)
                self.outcomes.simulated(waiting, each)

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

    def reroute(self, router: Router) -> None:
        """Routes may lead elsewhere now (SIGHUP): every domain is looked up anew, those with mail on the wire when their couriers next connect."""
        self.router = router
        for place in self.places.values():
            if place.site is not None and not place.count:
                place.site.places.pop(place.domain, None)
                place.site.short.pop(place.domain, None)
                place.site = None
        for courier in self.couriers:
            courier.stale = True
        self.loader.again()

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
            self.dispatch.suspended[name] = (ends, reason)
            return
        site.suspend(ends, reason)
        self.dispatch.park(site)

    def resume(self, name: str) -> None:
        """Attempts go on at once, and what slowed the site is forgotten."""
        self.dispatch.suspended.pop(name, None)
        self.paces.known.pop(name, None)
        site = self.sites.get(name)
        if site is not None:
            site.resume()
            self.dispatch.unpark(site)

    def suspended(self) -> list[str]:
        """The sites that get no mail just now because somebody, or their own answer, said so."""
        now = self.clock.elapsed()
        return [*self.dispatch.suspended, *(name for name, site in self.sites.items() if site.suspended > now)]

    def limit(self, recipient_id: int, domain: str, due: float = 0.0) -> tuple[str, float | None]:
        """What holds a recipient back just now, and until when (UTC seconds), for `relay explain`; "" when nothing does, or only that it is not due yet."""
        if self.held:
            return "the queue is held until `relay queue release --all`", None
        place = self.places.get(domain)
        if place is None or place.site is None:
            return ("looking up its route", None) if place is not None and place.routing else ("", None)
        why, until = place.site.limit(self.clock.elapsed())
        if not why and due <= self.clock.now() and recipient_id not in self.known:
            return "waits on disk for room in memory", None
        return why, None if until is None or until == FOREVER else self.clock.now() + until - self.clock.elapsed()

    def pace(self, name: str) -> tuple[float, float]:
        """Messages a second that the site may get at most just now, and the seconds until the first: `relay.broadcasts.forecast`."""
        now = self.clock.elapsed()
        site = self.sites.get(name) or Site(name, self.shaping.limits(name), OTHER)
        rate, blocked = site.rate(now), site.blocked(now)
        most = site.connections(now) / SECONDS
        return (most if rate is None else min(most, 1.0 / rate.gap)), max(0.0, blocked - now) if blocked and blocked != FOREVER else 0.0

    # life

    async def run(self) -> None:
        """Deliver, for ever."""
        now = self.clock.now()
        found = await self.store.read(stored.remembered, now)
        self.paces.remember(found, now)
        for each in found:
            if each.suspended(now):
                self.suspend(each.name, each.suspended_until, each.reason)
        self.routing.begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.outcomes.recorder.run())
            group.create_task(self.loader.run())
            group.create_task(self.paces.run())
            group.create_task(figures.watch(self))

    async def drain(self, timeout: float) -> None:
        """Start nothing more, let transactions end, cut those that take longer (ambiguous after the final dot), record all of it."""
        self.stopping = True
        for courier in list(self.dispatch.resting):
            courier.give(None)
        await self._ended(timeout)
        for courier in list(self.couriers):
            if courier.connection is not None:
                courier.connection.abort()
            elif courier.task is not None:
                courier.task.cancel()
        await self._ended(CUT)
        await self.outcomes.recorder.flushed(CUT)
        await self.paces.keep()

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

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("queue task failed", exception=repr(task.exception()), exc_info=task.exception())
