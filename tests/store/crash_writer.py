"""A process for test_crash: writes messages and settles half of them, says on stdout what was acknowledged, and dies where RELAY_FAULT says."""

from __future__ import annotations

import asyncio
import os
import sys

from relay.mail.reply import Reply
from relay.store import messages, projects, queue
from relay.store.engine import OUTCOMES, Store
from relay.store.queue import Settlement
from tests.store.conftest import NOW, PROJECT, made

CLIENTS = 8


def say(word: str, number: int) -> None:
    """One line, whole or not at all."""
    os.write(1, f"{word} {number}\n".encode())


async def client(store: Store, number: int) -> None:
    while True:
        message = made("ann@example.net", "bob@example.net", body=b"x" * (100 if number % 2 else 30_000), key=f"k{number}")
        await store.write_many(messages.add_many, message)
        say("accepted", message.id)
        ann = message.recipients[0]
        done = Settlement(ann.id, message.id, PROJECT, "delivered", Reply(250), NOW, events=(("email.delivered", {"to": ann.address}),), report="relayed")
        await store.write_many(queue.settle_many, done, lane=OUTCOMES)
        say("settled", ann.id)
        if number == 0:
            await store.write(queue.cancel, queue.Filter(message=message.id), NOW)
            say("cancelled", message.recipients[1].id)


async def main(url: str, data: str) -> None:
    store = await Store.open(url, data, min_free=0, reserve=0)
    await store.write(projects.ensure, projects.Project(PROJECT, "default", {}, NOW))
    say("ready", 0)
    await asyncio.gather(*(client(store, number) for number in range(CLIENTS)))


asyncio.run(main(*sys.argv[1:]))
