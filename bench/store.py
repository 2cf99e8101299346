"""What the store costs alone: messages accepted and recipients settled a second, and CPU of the writing thread for each.

    python -m bench.store [--url URL] [--clients 20] [--size 4000] [--messages 8000]

Without a URL: SQLite in a temporary directory of the present one, so that the disk is the one that counts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from relay.mail import header
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient
from relay.mail.reply import Reply
from relay.store import messages, projects, queue
from relay.store.attempts import Attempt
from relay.store.engine import OUTCOMES, Store
from relay.store.queue import Settlement

MAKER = Maker()
OK = Reply(250, "2.0.0", "Ok: queued as 4bXyZ12345")


def made(number: int, size: int) -> Message:
    to = f"user{number * 7919 % 1_000_003}@d{number % 50}.example.net"
    fields = (header.make("From", "shop@example.com"), header.make("Subject", "Your order"), header.make("Message-ID", f"<{hash(to)}@example.com>"))
    return Message(MAKER.next(), Principal("key", 1, 9, "app"), Envelope("bounce@example.com", (Recipient(MAKER.next(), to, to, to.partition("@")[2]),)),
                   header.Header(fields), b"x" * size, Origin("smtp", "192.0.2.1", "app.example.com", "ESMTPSA", "TLSv1.3"), received_at=time.time())


def settled(message: Message) -> Settlement:
    r = message.recipients[0]
    attempt = Attempt(time.time(), 0.05, r.domain, f"mx.{r.domain}", "192.0.2.25", "", "TLSv1.3", "dot", "delivered", OK)
    events = (("email.sent", {"to": r.address}), ("email.delivered", {"to": r.address, "code": 250}))
    return Settlement(r.id, message.id, 1, "delivered", OK, time.time(), attempt, events=events)


def writer_cpu() -> float:
    """CPU seconds of the writing thread so far; of the process where there is none."""
    for thread in threading.enumerate():
        if thread.name == "store-write":
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return time.process_time()


async def measure(name: str, clients: int, given: list, act: Callable[[object], Awaitable[object]]) -> None:
    async def client(left: Iterator) -> None:
        for each in left:
            await act(each)

    left, cpu, start = iter(given), writer_cpu(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(left))
    seconds, cpu = time.perf_counter() - start, writer_cpu() - cpu
    print(f"{name:8} {len(given) / seconds:8,.0f}/s   writer {cpu / len(given) * 1e6:6.1f} us each")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="")
    for name, default in (("clients", 20), ("size", 4_000), ("messages", 8_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        store = await Store.open(asked.url, directory, min_free=0, reserve=0)
        await store.write(projects.ensure, projects.Project(1, "default", {}, time.time()))
        given = [made(n, asked.size) for n in range(asked.messages)]
        await measure("accept", asked.clients, given, lambda m: store.write_many(messages.add_many, m))
        await measure("settle", asked.clients, [settled(m) for m in given], lambda s: store.write_many(queue.settle_many, s, lane=OUTCOMES))
        await store.close()


if __name__ == "__main__":
    uvloop.run(main())
