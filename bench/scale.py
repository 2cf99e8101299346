"""What a long queue costs: mail beside a tarpit, a restart, memory. Figures are printed, nothing is judged.

    python -m bench.scale [--stuck 100000] [--queued 200000] [--rounds 5] [--messages 1000]

    beside a tarpit   p50 and p99 from accepted to delivered of mail to another site, in turns on a relay without a queue and on one with `stuck` messages
                      queued to a site that never greets
    memory            resident octets more than the relay without a queue has, for each message queued
    restart           seconds from the start to the greeting, and to the first delivery, with `queued` messages waiting in a thousand domains beside the tarpit
    flat              resident octets while mail flows through
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import smtplib
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import select

from bench import peers
from bench.load import Load, fsync_latency, resident, run
from bench.load import Sink as FastSink
from relay.mail import header
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient
from relay.store import messages, projects
from relay.store.engine import Store
from relay.store.schema import messages as letters
from relay.store.schema import recipients
from tests.support.running import OPEN, TRUSTING, Running, routed
from tests.support.sink import Script, Sink

BATCH = 500  # messages of one write while a queue is made
RATE = 100.0  # messages a second while latency is measured: a relay with work, not one at its limit
PACE = 4  # clients
DOMAINS = 1_000
BODY = ("x" * 70 + "\r\n") * 28
FLAT = (8, 4_000)  # chunks of so many messages


def relay(directory: Path, pit: str, sink: str) -> Running:
    """All mail goes to the sink, that for slow.test to the tarpit."""
    return Running(directory, {**OPEN, **TRUSTING, **routed(sink, {"slow.test": pit}), "RELAY_HTTP__LISTEN": ""}, cold=True)


async def put(directory: Path, to: Iterable[str], maker: Maker) -> None:
    """Queue a message to each of these in the store of a relay that is down."""
    store = await Store.open("", directory, accept_old_sqlite=True)
    project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, time.time()))
    try:
        for batch in _batches(to):
            await store.write(messages.add_many, [_message(each, project.id, maker) for each in batch])
    finally:
        await store.close()


def _batches(to: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for each in to:
        batch.append(each)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _message(to: str, project: int, maker: Maker) -> Message:
    fields = (header.make("From", "shop@bench.example"), header.make("Subject", "Your order"), header.make("Message-ID", f"<{maker.next()}@bench.example>"))
    person = Recipient(maker.next(), to, to, to.partition("@")[2])
    return Message(maker.next(), Principal("key", project), Envelope("shop@bench.example", (person,)), header.Header(fields), BODY.encode(),
                   Origin("smtp"), received_at=time.time())


def latencies(where: Running, count: int, name: str) -> list[float]:
    """Seconds from accepted to recorded as delivered of `count` messages sent at RATE."""
    def client(number: int) -> None:
        chance = random.Random(number)
        with smtplib.SMTP("127.0.0.1", where.smtp, timeout=60) as smtp:
            for each in range(count // PACE):
                smtp.sendmail("shop@bench.example", [f"{name}-{number}-{each}@fast.test"], f"Subject: {each}\r\n\r\n{BODY}")
                time.sleep(chance.expovariate(RATE / PACE))

    with ThreadPoolExecutor(PACE) as threads:
        list(threads.map(client, range(PACE)))
    deadline = time.monotonic() + 60
    while len(found := asyncio.run(_taken(where.data, name))) < count // PACE * PACE:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(found)} of {count} messages were delivered in a minute")
        time.sleep(0.2)
    return sorted(found)


async def _taken(data: Path, name: str) -> list[float]:
    store = await Store.open("", data, read_only=True)
    statement = select(recipients.c.ended_at - letters.c.created_at).join(letters, letters.c.id == recipients.c.message_id)
    try:
        return list(await store.read(lambda conn: conn.scalars(
            statement.where(recipients.c.address.startswith(f"{name}-"), recipients.c.ended_at.is_not(None))).all()))
    finally:
        await store.close()


def beside(empty: Running, full: Running, rounds: int, count: int) -> None:
    """In turns, so that what else the machine does meets both."""
    found: dict[str, list[list[float]]] = {"alone": [], "beside": []}
    for number in range(rounds):
        for name, where in (("alone", empty), ("beside", full)):
            found[name].append(latencies(where, count, f"{name}{number}"))
    for name, runs in found.items():
        each = ", ".join(f"{_percentile(run_, 99) * 1e3:.1f}" for run_ in runs)
        print(f"  {name:7} p50 {_median(runs, 50):6.1f} ms   p99 {_median(runs, 99):6.1f} ms   (p99 of each round: {each})")
    for percent in (50, 99):
        print(f"  p{percent} grows by {_median(found['beside'], percent) / _median(found['alone'], percent) - 1:+.1%}")
    pooled = {name: _percentile(sorted(value for run_ in runs for value in run_), 99) for name, runs in found.items()}
    print(f"  p99 of all rounds together: {pooled['alone'] * 1e3:.1f} ms alone, {pooled['beside'] * 1e3:.1f} ms beside", flush=True)


def _percentile(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)]


def _median(runs: list[list[float]], percent: int) -> float:
    """Milliseconds."""
    return statistics.median(_percentile(run_, percent) for run_ in runs) * 1e3


def restart(where: Running, sink: Sink) -> None:
    before, started = sink.count, time.monotonic()
    where.start()
    ready = time.monotonic() - started
    sink.wait(before + 1, 60)
    first = time.monotonic() - started
    sink.wait(before + 1_000, 60)
    print(f"  greeting after {ready:.2f} s, first delivery after {first:.2f} s, a thousand after {time.monotonic() - started:.2f} s", flush=True)


def flat(folder: Path) -> None:
    chunks, count = FLAT
    sink = FastSink(peers.free_port())
    try:
        peers.wait_for(sink.port)
        with relay(folder, "127.0.0.1:9", f"127.0.0.1:{sink.port}") as where:
            sizes = []
            for _ in range(chunks):
                run(Load(count, 4_096), where.smtp, sink, where.process.pid)
                sizes.append(resident(where.process.pid))
    finally:
        sink.close()
    print(f"  after each {count} messages: {', '.join(f'{size / 1e6:.1f}' for size in sizes)} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("stuck", 100_000), ("queued", 200_000), ("rounds", 5), ("messages", 1_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    maker = Maker(900)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-scale-")))
        pit = stack.enter_context(Sink(Script(delays={"greeting": 1e6})))
        sink = stack.enter_context(Sink(Script(keep=False)))
        print(f"flush of 4 kB: {fsync_latency(folder) * 1e3:.2f} ms median; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        empty, full = (relay(folder / name, pit.address, sink.address) for name in ("empty", "full"))
        asyncio.run(put(full.data, (f"u{number}@slow.test" for number in range(asked.stuck)), maker))
        with empty, full:
            pit.call(_until_open(pit))
            print(f"beside a tarpit: {asked.stuck} messages queued to it, {asked.messages} to another site at {RATE:g} a second")
            beside(empty, full, asked.rounds, asked.messages)
            more = resident(full.process.pid) - resident(empty.process.pid)
            print(f"memory: {more / 1e6:.1f} MB more than without a queue, {more / asked.stuck:.0f} bytes for each message queued", flush=True)
        asyncio.run(put(full.data, (f"u{number}@d{number % DOMAINS}.fast.test" for number in range(asked.queued - asked.stuck)), maker))
        print(f"restart: {asked.queued} messages queued")
        try:
            restart(full, sink)
        finally:
            full.kill()
        print("flat:")
        flat(folder / "flat")


async def _until_open(pit: Sink) -> None:
    while not pit.open_now:
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
