"""The frame of tests in which relays die, or share a database, while they do what the store tells them to do.

The store is prepared without a relay, so that a relay's first act is the work. A copy that was on the wire at a kill may arrive twice (the table of
relay.store.queue), always from one and the same submission: arrivals are counted by Message-ID.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes
from pathlib import Path
from typing import Any

from sqlalchemy import select

from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.engine import Store
from relay.store.projects import Project
from relay.store.schema import recipients
from tests.support.running import OPEN, Running, routed
from tests.support.sink import Sink

NOW = 1_790_000_000.0
LOOK = 0.1  # seconds between two looks at the database
SECRET = {"RELAY_SECRET_KEY": "a secret of thirty-two characters"}


@asynccontextmanager
async def opened(url: str, data: Path, **how: Any) -> AsyncIterator[Store]:
    """The store as another program, or another node, would open it."""
    store = await Store.open(url, data, min_free=0, reserve=0, **how)
    try:
        yield store
    finally:
        await store.close()


async def prepare(url: str, data: Path, people: int, work: Callable[[Store, Maker, Project, Sequence[Contact]], Awaitable[int]]) -> int:
    """A store with a project and so many contacts, and what `work` makes for them; gives its id."""
    maker = Maker(1000)
    async with opened(url, data) as store:
        project = await store.write(projects.ensure, Project(maker.next(), projects.DEFAULT, {}, NOW))
        made = [Contact(maker.next(), project.id, f"p{n}@d{n % 3}.example", f"p{n}@d{n % 3}.example", f"Ann{n}", None, {}, [], False, None, None, NOW, NOW)
                for n in range(people)]
        for start in range(0, people, 500):
            await store.write(contacts.add_many, made[start:start + 500])
        return await work(store, maker, project, made)


async def until(url: str, data: Path, done: Callable[[Store], Awaitable[bool]]) -> None:
    """Wait until the database says that it is done; the test's limit is the patience."""
    async with opened(url, data, read_only=True) as store:
        while not await done(store):
            await asyncio.sleep(LOOK)


async def submissions(store: Store) -> Counter[str]:
    """How many there were for each address."""
    return Counter(await store.read(lambda conn: conn.scalars(select(recipients.c.key)).all()))


def relay(directory: Path, url: str, sink: Sink) -> Running:
    return Running(directory, {**OPEN, **SECRET, **routed(sink.address), "RELAY_STORE__URL": url})


def die(relay: Running, deaths: Sequence[str]) -> None:
    """One life of the relay after the other, each up to its fault point; it may be there before the relay is up."""
    for death in deaths:
        with suppress(RuntimeError):
            relay.start(RELAY_FAULT=death)
        assert relay.process.wait(150) == -9, death


def arrived(sink: Sink, count: int) -> int:
    """How many mails came, each counted once, when there are as many as there shall be; raises TimeoutError after half a minute without another."""
    while True:
        messages = list(sink.messages)
        found = {(each.recipients[0], message_from_bytes(each.content)["message-id"]) for each in messages}
        if len(found) >= count:
            return len(found)
        sink.wait(len(messages) + 1, 30)
