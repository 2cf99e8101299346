"""Acts with nobody else on the store: what a command does when no relay runs.

Where SQLite is the store, data_dir's lock is held for as long as it is open, so a command and a relay never write at once. On PostgreSQL several may: the node
that delivers hears of a change in the queue by NOTIFY, and what nodes remember of domains and keys ends within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.audience.imports import Imports
from relay.clock import Clock
from relay.control import Control
from relay.delivery.dns import Resolver
from relay.delivery.route import Router
from relay.leader import Leader
from relay.mail.ids import Maker
from relay.mail.tokens import Tokens
from relay.settings import Settings
from relay.shaping import Shaping
from relay.store import lock, projects, secrets
from relay.store.engine import Store


def shared(settings: Settings) -> bool:
    """Whether other relays may use the store too."""
    return not settings.store.url.startswith("sqlite")


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[None]:
    """The lock of data_dir, where the store is SQLite; raises StoreError naming who has it."""
    with contextlib.nullcontext() if shared(settings) else lock.hold(settings.data_dir):
        yield


@dataclass(frozen=True, slots=True)
class _Idle:
    """What stands for the queue runner in a process that delivers nothing."""

    router: Router
    held: bool = False


def _elsewhere(settings: Settings, store: Store, resolver: Resolver) -> Leader | None:
    """The way to the node that delivers from the same database; on SQLite nobody does, or the lock would not be ours."""
    if not shared(settings):
        return None
    return Leader(store, _Idle(Router(settings, resolver, Shaping.load(settings.delivery.connections).provider)))


@contextlib.asynccontextmanager
async def control(settings: Settings, migrate: bool | None = None) -> AsyncIterator[Control]:
    """A Control of our own on a store that is fit for use: made, migrated (on PostgreSQL only with `migrate`), with its project `default`."""
    clock, maker = Clock(), Maker()
    with held(settings):
        found = secrets.ensure(settings.data_dir, settings.secret_key, shared(settings))
        store = await Store.open(settings.store.url, settings.data_dir, clock=clock, migrate=migrate, min_free=settings.store.min_free,
                                 reserve=settings.store.reserve, accept_old_sqlite=settings.store.accept_old_sqlite)
        try:
            await store.write(secrets.agree, secrets.fingerprints(found))
            await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, clock.now()))
            resolver = Resolver(settings.dns.nameservers)
            imports = Imports(store, resolver, clock, maker, found)
            try:
                yield Control(store, settings, secrets.vault(found, "dkim"), resolver, _elsewhere(settings, store, resolver), clock, maker,
                              status=lambda: {"running": False, "pid": None}, imports=imports, tokens=Tokens(tuple(found), clock))
            finally:
                await imports.close()
        finally:
            await store.close()


def act(settings: Settings, name: str, arguments: Mapping[str, Any]) -> Any:
    """The result of one act, run in this process."""
    async def run() -> Any:
        async with control(settings) as own:
            return await own.act(name, arguments)

    return asyncio.run(run())


def migrate(settings: Settings) -> str:
    """The version of the schema after bringing it up to date; the projects and secrets that a start needs are there too."""
    async def run() -> str:
        async with control(settings, migrate=True):
            from relay.store import migrations

            return migrations.HEAD

    return asyncio.run(run())
