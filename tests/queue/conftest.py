"""A relay's delivering half for tests: a real store, router, connector and runner; mail goes to sinks on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from relay import shaping
from relay.clock import Clock
from relay.delivery.connect import Connector
from relay.delivery.dns import Resolver
from relay.delivery.route import Router
from relay.mail import header
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient, Wishes
from relay.policy import Chain
from relay.queue.runner import Runner
from relay.settings import Delivery, Dns, RouteRule, Settings
from relay.store import messages, projects
from relay.store.engine import Store
from relay.store.projects import Project
from tests.support.until import PATIENCE

CONTENT = b"From: app@example.com\r\nTo: you@example.net\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nHello.\r\n"
NONE = Chain()


@dataclass
class Bench:
    """Puts messages into the store and the runner, and looks at what became of them."""

    store: Store
    runner: Runner
    project: int
    clock: Clock
    maker: Maker = field(default_factory=lambda: Maker(7))

    def message(self, *to: str, sender: str = "app@example.com", mode: str = "live", protocol: str = "smtp", notify: str = "", stream: str = "transactional",
                send_at: float | None = None, retry: str = "standard", content: bytes = CONTENT, project: int | None = None, **envelope: Any) -> Message:
        fields, body = header.split(content)
        people = tuple(Recipient(self.maker.next(), each, each, each.rpartition("@")[2], notify) for each in to)
        return Message(
            id=self.maker.next(), principal=Principal("key", project or self.project, mode=mode), envelope=Envelope(sender, people, **envelope),
            header=fields, body=body, origin=Origin(protocol), wishes=Wishes(stream=stream, send_at=send_at, retry=retry), received_at=self.clock.now())

    async def send(self, *to: str, told: bool = True, **given: Any) -> Message:
        """A message accepted as the intake does it; with told=False the runner has to find it on disk."""
        message = self.message(*to, **given)
        await self.keep([message])
        if told:
            self.runner.accepted(message)
        return message

    async def keep(self, many: list[Message]) -> None:
        for start in range(0, len(many), 500):
            await self.store.write(messages.add_many, many[start:start + 500])

    async def states(self, message: Message) -> dict[str, str]:
        """State by address."""
        found = await self.store.read(messages.timeline, message.id)
        return {each.address: each.state for each in found.recipients}

    async def ended(self, message: Message, *states: str) -> Any:
        """The timeline once every recipient is in one of these states (any end without)."""
        wanted = set(states) or {"delivered", "bounced", "failed", "suppressed", "cancelled"}

        async def look() -> Any:
            found = await self.store.read(messages.timeline, message.id)
            return found if all(each.state in wanted for each in found.recipients) else None

        return await until(look)


async def until(look: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `look` gives once it gives something."""
    async with asyncio.timeout(patience):
        while True:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


def settings(**delivery: Any) -> Settings:
    routes = delivery.pop("routes", {})
    rules = tuple(RouteRule(domain, host) for domain, host in routes.items())
    dns = Dns(nameservers=tuple(delivery.pop("nameservers", ())))
    return replace(Settings(), hostname="relay.test", dns=dns, delivery=replace(Delivery(), route=rules, **delivery))


@contextlib.asynccontextmanager
async def running(url: str, path: Path, config: Settings, *, copy: Chain = NONE, depart: Chain = NONE, clock: Clock | None = None, held: bool = False,
                  before: Callable[[Bench], Any] | None = None) -> AsyncIterator[Bench]:
    """A runner that delivers while the block runs; `before` is awaited with the store open and nothing running."""
    clock = clock or Clock()
    store = await Store.open(url, path, clock=clock, accept_old_sqlite=True, min_free=0, reserve=0)
    project = await store.write(projects.ensure, Project(Maker(7).next(), "default", {}, clock.now()))
    resolver = Resolver(config.dns.nameservers)
    shape = shaping.Shaping.load(config.delivery.connections)
    runner = Runner(store, Router(config, resolver, shape.provider), Connector(config, resolver), shape, config, clock, copy=copy, depart=depart, held=held)
    bench = Bench(store, runner, project.id, clock)
    if before is not None:
        await before(bench)
    task = asyncio.create_task(runner.run())
    try:
        yield bench
        assert not task.done() or task.cancelled(), task.exception()
    finally:
        await runner.drain(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


@pytest.fixture
def relay(store_url, tmp_path):
    """running(config, ...) on a store of each database."""
    return lambda config, **given: running(store_url, tmp_path, config, **given)


@pytest.fixture
def quick(sqlite_url, tmp_path):
    """The same on SQLite alone, for what does not depend on the database."""
    return lambda config, **given: running(sqlite_url, tmp_path, config, **given)
