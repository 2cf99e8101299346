"""The composition root: builds every part of a relay from its settings, hands them to each other, runs until told to stop, and takes all down in order.

    serve(settings, workers, hold)    what `relay serve` calls; returns the exit code

Start: lock data_dir, open and migrate the store, create project `default`, take back our leases, then listen; nothing is accepted before delivery could begin.
Stop (SIGTERM): stop accepting, finish the transactions in flight within shutdown_timeout, drain deliveries, record what was cut after the final dot
as ambiguous, close the store last. SIGHUP: the whole new configuration is checked first; on an error the old one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Sequence
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from relay import entrance, heap, housekeeping, log, metrics, policy, reloading, systemd, worker
from relay.audience.bulk import Bulk
from relay.audience.following import Following
from relay.audience.imports import Imports
from relay.broadcasts import tally
from relay.broadcasts.feeder import Feeder
from relay.capture import Capture
from relay.clock import Clock
from relay.control import Control, place
from relay.control.server import Server as ControlServer
from relay.delivery.connect import Connector
from relay.delivery.dns import Resolver
from relay.delivery.route import Router
from relay.desks import LocalDesk, SubmissionDesk
from relay.errors import ConfigError, RelayError
from relay.fetch import Fetch
from relay.fleet import Fleet
from relay.handover import Hub
from relay.housekeeping import House
from relay.inbound.authentication import Checks
from relay.inbound.carrying import Carrying
from relay.intake import Intake
from relay.leader import PROCESSES, Leader
from relay.mail.ids import Maker
from relay.maildrop import Pickup
from relay.news import News
from relay.nursery import Nursery
from relay.queue.reports import Reports
from relay.queue.runner import Runner
from relay.services import StoredCounters
from relay.settings import Settings
from relay.shaping import Shaping
from relay.smtp.auth import Guard
from relay.smtp.server import Listener, ListenerOptions
from relay.smtp.tls import Certificate
from relay.store import lock, projects
from relay.store.engine import Store
from relay.store.projects import Project
from relay.store.secrets import agree, ensure, fingerprints, vault
from relay.web import front, health
from relay.web.fresh import Fresh
from relay.web.people import People
from relay.web.preferences import Preferences
from relay.web.server import HttpServer
from relay.web.signup import Signup
from relay.web.tracking import Tracking
from relay.web.unsubscribe import Leaving
from relay.webhooks import Webhooks
from relay.welcome import greet
from relay.workflows.engine import Engine

LOG = log.get("app")
CAPTURE = "capture.localhost"  # not our own hostname, which delivery would take for a loop


class Relay:
    """One running relay. `start`, then wait on `stopping`, then `stop`."""

    def __init__(self, config: Settings, path: str | None, workers: int, hold: bool, nursery: Nursery | None = None):
        self.config, self.path, self.workers, self.hold, self.nursery = config, path, workers, hold, nursery
        self.started_with = config
        self.clock = Clock()
        self.stopping = asyncio.Event()
        self.draining = False
        self._stack = contextlib.AsyncExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.capture: Capture | None = None
        self.api: Any = None
        self.failed = False

    async def start(self) -> None:
        """Listening and delivering; raises RelayError or OSError with the way out."""
        config = self.config
        self._stack.enter_context(lock.hold(config.data_dir, 0o711))
        self.secrets = ensure(config.data_dir, config.secret_key, shared=config.store.url.startswith("postgresql"))
        await self._open_store()
        self.news = News(self.store)
        self.resolver = Resolver(config.dns.nameservers)
        self.tools = entrance.tools(config, self.store, self.secrets, self.clock, StoredCounters(self.store, self.clock))
        self._stack.push_async_callback(self.tools.services.fetch.close)
        self._stack.push_async_callback(self._stop_tasks)
        await self._start_delivery()
        self._stack.push_async_callback(self._stop_runner)
        self.leader = Leader(self.store, self.runner)
        await self.leader.join()
        self._stack.push_async_callback(self.leader.leave)
        self.maker = self.leader.maker()
        self.intake = Intake(self.store, self.leader, self.clock)
        self.door = entrance.door(config, self.tools, self.intake.commit, self.maker, self.intake.commit_each)
        self.imports = Imports(self.store, self.resolver, self.clock, self.maker, self.secrets, lambda: self.hooks.occurred())
        self._stack.push_async_callback(self.imports.close)
        self.bulk = Bulk(self.store, self.clock, self.maker, self.secrets, self._left)
        self._stack.push_async_callback(self.bulk.close)
        self.control = Control(
            self.store, config, vault(self.secrets, "dkim"), self.resolver, self.leader, self.clock, self.maker, self.changed, self.status,
            self.imports, self.bulk, tokens=self.tools.services.tokens, door=lambda: self.door, rules=self.runner.outcomes.rules)
        await self._start_listeners()
        await self._start_local()
        await self._start_http()
        self._stack.push_async_callback((await ControlServer.start(self.control, config.data_dir)).close)
        self.spawn(self.intake.run(), "intake")
        self.spawn(self.leader.run(self._deliver), "runner")
        self.spawn(self.leader.keep_slot(), "slot")
        self.spawn(housekeeping.run(House(self.store, config, self.clock, self.control, self.tools.keeper, self.connector, self._certificate())), "chores")
        self.spawn(metrics.watch_loop(), "loop")
        if (interval := systemd.watchdog_interval()) is not None:
            self.spawn(systemd.watchdog(interval), "watchdog")

    async def _open_store(self) -> None:
        config = self.config
        self.store = await Store.open(config.store.url, config.data_dir, clock=self.clock, min_free=config.store.min_free, reserve=config.store.reserve,
                                      accept_old_sqlite=config.store.accept_old_sqlite)
        self._stack.push_async_callback(self.store.close)
        await self.store.write(agree, fingerprints(self.secrets))
        default = Project(Maker().next(), projects.DEFAULT, {}, self.clock.now())
        await self.store.write(projects.ensure, default)

    async def _start_delivery(self) -> None:
        config, services = self.config, self.tools.services
        shaping = Shaping.load(config.delivery.connections, sources=sum(":" not in each for each in config.delivery.sources))
        router = Router(config, self.resolver, shaping.provider)
        self.connector = Connector(config, self.resolver)
        self.runner = Runner(
            self.store, router, self.connector, shaping, config, self.clock,
            copy=policy.load("policies.copy", config.policies.copy, services),
            depart=policy.load("policies.attempt", config.policies.attempt, services), held=self.hold or self.store.restored,
        )

    async def _deliver(self) -> None:
        """Deliver and report, for ever; runs where this node's turn is."""
        principal = await self.tools.keeper.local("system")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.runner.run())
            group.create_task(Feeder(self.store, lambda: self.door, self.leader, self.clock, self.maker, self.hooks.occurred).run())
            group.create_task(tally.run(self.store, self.news, self.clock))
            group.create_task(Engine(self.store, self.news, lambda: self.door, self.leader, self.calls, self.clock, self.maker,
                                     tuple(self.tools.services.tokens.secrets), self.hooks.occurred).run())
            group.create_task(Reports(self.store, self.door.submit, self.config, self.clock, self.maker, principal).run())

    def _certificate(self) -> Certificate | None:
        return next((each.options.certificate for each in self.listeners.values() if each.options.certificate is not None), None)

    async def _start_listeners(self) -> None:
        config = self.config
        names = (*entrance.NAMES, entrance.INBOUND)
        inherited = {name: each.socket for each in systemd.inherited() for name in names if each.serves(name, _port(getattr(config.smtp, name)))}
        places = entrance.sockets(config, max(1, self.workers), inherited)
        desk = await entrance.desk(self.door, self.tools.keeper, self.store)
        self.desks: list[SubmissionDesk | LocalDesk] = [desk]
        self.listeners = entrance.listeners(config, desk, self.maker, Guard(self.clock))
        acts = {act: getattr(self.tools.services.counters, act) for act in ("take", "give_back")}
        self.hub = Hub(self.intake.commit, self.intake.have, lambda act, *question: acts[act](*question), metrics.absorb, metrics.forget)
        self.fleet = Fleet(self.path, places if self.workers else (), self.leader.slot * PROCESSES, self.hub.stop_worker, self.nursery)
        self._stack.push_async_callback(self._stop_listeners)
        if config.smtp.inbound:
            await self._start_inbound(inherited.get(entrance.INBOUND))
        if self.workers:
            await self.hub.start(config.data_dir / "handover.sock")
            self.fleet.start()
            return
        for name, opened in places[0].items():
            await self.listeners[name].start(opened)

    async def _start_inbound(self, inherited: socket.socket | None) -> None:
        """Mail to us; always in this process, since what comes back is written to the store."""
        self.checks = Checks(self.resolver)
        self._stack.callback(self.checks.close)
        listener = entrance.inbound(self.config, self.tools, self.store, self.leader.forget, self.maker, self.listeners, self.checks)
        await listener.start(inherited or entrance.named("smtp.inbound", self.config.smtp.inbound))
        self.listeners[entrance.INBOUND] = listener

    async def _start_local(self) -> None:
        """sendmail's socket and maildrop, and the laptop's capture server."""
        config = self.config
        desk = LocalDesk(self.door, self.tools.keeper, config.sendmail.users, config.hostname, self.maker)
        self.desks.append(desk)
        options = ListenerOptions("local", config.hostname, max_size=config.smtp.max_size, ids=self.maker)
        self.listeners["local"] = Listener(desk, options)
        await self.listeners["local"].start(place.listener(config.data_dir / "submit.sock", 0o666))
        pickup = Pickup(config.data_dir, config.hostname, desk.pick_up, config.smtp.max_size)
        pickup.prepare()
        self.spawn(pickup.run(), "maildrop")
        if config.capture.listen:
            self.capture = Capture(self.clock, config.capture.keep)
            self.listeners["capture"] = Listener(self.capture, ListenerOptions("inbound", CAPTURE, max_size=config.smtp.max_size))
            await self.listeners["capture"].start(entrance.named("capture.listen", config.capture.listen))

    async def _start_http(self) -> None:
        """API, probes, metrics, capture pages."""
        config = self.config
        routes = health.routes(self.problems, lambda: config.http.metrics_token) + front.routes("/dashboard")
        fetch = self.calls = Fetch(config.webhooks.allow_private)
        self.hooks = Webhooks(
            self.store, self.news, fetch, vault(self.secrets, "webhooks"), self.clock, self.maker, config.webhooks.timeout, lambda: self.leader.leading,
            Carrying(self.store, config.inbound.attachments))
        self._stack.push_async_callback(self.hooks.close)
        self.spawn(self.news.run(), "news")
        self.spawn(self.hooks.run(), "webhooks")
        self.spawn(Following(self.store, self.news, self.clock, self.hooks.occurred, lambda: self.leader.leading).run(), "audience")
        people = self._for_people()
        if config.http.listen:
            await self._http(self._api([*routes, *people]), "http.listen", config.http.listen)
        if config.http.public_listen:
            await self._http(Starlette(routes=[*health.public_routes(), *people]), "http.public_listen", config.http.public_listen)

    def _for_people(self) -> list[BaseRoute]:
        """What mail readers follow: unsubscribe links and preferences, signup forms, tracked links, pixels."""
        services = self.tools.services
        self.people = people = People(self.store, services, self.maker, lambda: self.door, self.leader.forget, self.hooks.occurred)
        pages = (Leaving(people), Fresh(people), Preferences(people), Signup(people), Tracking(self.store, services.tokens, self.clock, self.hooks.occurred))
        return [route for page in pages for route in page.routes()]

    def _api(self, routes: Sequence[BaseRoute]) -> Any:
        """The API's application, with these routes and the dashboard beside it."""
        from relay.api import app, core  # FastAPI takes a third of a second, which only who serves HTTP should wait for
        from relay.dashboard import house

        self.api = core.Relay(self.control, self.door, self.tools.keeper, self.tools.services, vault(self.secrets, "webhooks"), self.hooks)
        pages = house.routes(house.House(self.api, self.tools.services.tokens, Guard(self.clock), self.capture))
        return app.application(self.api, [*routes, *pages])

    async def _http(self, application: Any, key: str, address: str) -> None:
        server = HttpServer(application, [entrance.named(key, address)], self.config.http.max_body, self.config.http.trusted_proxies)
        await server.start()
        self._stack.push_async_callback(server.stop, 5.0)

    async def problems(self) -> list[str]:
        """Why no mail should be sent here now; empty when ready."""
        refusal = self.store.intake_open()
        return [*(["draining"] if self.draining else []), *([refusal.text] if refusal else [])]

    def listening(self) -> dict[str, str]:
        """Where this relay can be reached, by listener."""
        smtp, http = self.config.smtp, self.config.http
        where = {"submission": smtp.submission, "submissions": smtp.submissions, "inbound": smtp.inbound, "http": http.listen, "public": http.public_listen}
        return {name: address for name, address in where.items() if address}

    def _left(self, stopped: tuple[int, ...]) -> None:
        """Contacts changed behind the API's back, and these recipients' copies no longer wait."""
        if stopped:
            self.leader.forget(stopped)
        self.hooks.occurred()

    def changed(self, kind: str) -> None:
        """A change of this kind has committed: nobody may go on with what he remembers."""
        self.tools.changed(kind)
        self.hub.changed(kind)

    def status(self) -> dict[str, Any]:
        return {"draining": self.draining, "workers": self.fleet.pids, "store_failed": self.store.failed}

    def spawn(self, coroutine: Awaitable[Any], name: str) -> None:
        """A task of the relay's own; one that ends in an error stops the relay, which its supervisor starts again."""
        task = asyncio.ensure_future(coroutine)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("task failed", task=task.get_name(), exception="".join(traceback.format_exception(task.exception())))
            self.failed = True
            self.stopping.set()

    async def stop(self) -> None:
        """Accept nothing more, finish what is open, close the store last; takes down as much as was started."""
        self.draining = True
        systemd.notify("STOPPING=1")
        await self._stack.aclose()

    async def _stop_listeners(self) -> None:
        timeout = self.config.shutdown_timeout
        self.hub.stop_worker()
        await asyncio.gather(self.fleet.stop(timeout), *(listener.drain(timeout) for listener in self.listeners.values()))
        await self.hub.close()

    async def _stop_runner(self) -> None:
        await self.runner.drain(min(self.config.shutdown_timeout, self.config.delivery.drain))

    async def _stop_tasks(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def serve(config: Settings, path: str | None = None, workers: int = 0, hold: bool = False) -> int:
    """Run a relay until SIGTERM or SIGINT; gives the exit code: 0, 2 where a setting is wrong, 1 for what else fails.

    path     the configuration file, read again on SIGHUP and by workers; None for the environment alone
    workers  submission processes beside the main one; 0 = the main process accepts itself
    hold     start with the queue held (a restored backup): nothing leaves until `relay queue release --all`
    """
    heap.fix()
    os.umask(0o077)
    nursery = Nursery.split(worker.begin) if workers else None  # before the first thread
    log.start(config.log.level, config.log.format)
    try:
        return uvloop.run(_serve(Relay(config, path, workers, hold, nursery)))
    except (RelayError, OSError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror and error.filename is None else error
        sys.stderr.write(f"relay: {words}\n")
        return 2 if isinstance(error, ConfigError) else 1
    finally:
        log.stop()


async def _serve(relay: Relay) -> int:
    started, loop = False, asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, relay.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: relay.spawn(reloading.reload(relay), "reload"))
    try:
        await relay.start()
        heap.settle()
        heap.watch()
        systemd.notify("READY=1")
        started = True
        LOG.info("started", **relay.listening(), workers=relay.workers, store=relay.store.dialect, version=metrics.release(), held=relay.runner.held)
        await greet(relay)
        failed = asyncio.create_task(relay.store.failed.wait())
        await asyncio.wait([failed, asyncio.create_task(relay.stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await relay.stop()
        if started:
            LOG.info("stopped", failed=relay.failed)
    return 1 if relay.failed or relay.store.failed.is_set() else 0


def _port(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)
