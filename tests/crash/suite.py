"""The crash suite: clients submit without pause, the relay is killed without warning, and afterwards the books must balance.

    lost        acknowledged and never arrived: none, ever
    doubled     arrived more than once: only recipients that were in flight at a kill, at most UNWRITTEN each (relay/store/queue.py has the table)
    undecided   a recipient without exactly one end once the queue is empty: none

Kills come at random moments (kill -9 from outside) and at the boundaries of a commit (the process kills itself at a fault point, relay.store.faults).
The seed is printed, so a failure can be run again.
"""

from __future__ import annotations

import asyncio
import random
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from relay.queue.recorder import UNWRITTEN
from relay.store import messages
from relay.store.engine import Store
from relay.store.schema import recipients
from tests.support.process import RelayProcess
from tests.support.sink import Sink

CLIENTS = 4  # threads that submit
SETTLED = 60.0  # seconds in which everything must have an end after the last start
POINTS = ("store.begun", "store.before-commit", "store.committed")


@dataclass
class Ledger:
    """What clients were told. `sent` may or may not exist; `acknowledged` must."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def client(self, port: int, name: int) -> None:
        """Submit messages of all sizes until told to stop; a lost connection is a new connection."""
        chance, number = random.Random(name), 0
        while not self.stop.is_set():
            with suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
                while not self.stop.is_set():
                    number += 1
                    subject = f"m{name}-{number}"
                    body = "x" * 70 + "\r\n"
                    self.sent.add(subject)
                    smtp.sendmail("app@crash.example", [f"{subject}@dest.example"], f"Subject: {subject}\r\n\r\n{body * chance.choice((1, 10, 50, 400))}")
                    self.acknowledged.add(subject)
            time.sleep(0.01)


@dataclass(frozen=True)
class Books:
    """What a run came to."""

    kills: int
    acknowledged: int
    lost: Sequence[str]
    doubled: Sequence[str]
    undecided: Sequence[str]

    def check(self) -> None:
        assert self.acknowledged > self.kills, f"hardly anything was accepted: {self}"
        assert not self.lost, f"acknowledged and lost: {self.lost[:10]}"
        assert not self.undecided, f"without exactly one end: {self.undecided[:10]}"
        assert len(self.doubled) <= self.kills * UNWRITTEN, f"too many arrived twice: {len(self.doubled)} after {self.kills} kills"


def run(directory: Path, kills: int, seed: int, *, workers: int = 0, store_url: str = "", points: Sequence[str] = ()) -> Books:
    """`kills` deaths under load, then peace, then the books. `points` are fault points where the process kills itself, taken in turns with kill -9."""
    chance, ledger = random.Random(seed), Ledger()
    print(f"crash suite: seed {seed}, {kills} kills, {workers} workers, {'PostgreSQL' if store_url else 'SQLite'}")
    with Sink() as sink:
        relay = RelayProcess(directory, route=sink.address, store_url=store_url, workers=workers, smtp='trusted_networks = ["127.0.0.0/8"]',
                             settings=f'secret_key = "{"crash suite " * 4}"')
        threads = [threading.Thread(target=ledger.client, args=(relay.submission, name), daemon=True) for name in range(CLIENTS)]
        relay.start()
        for thread in threads:
            thread.start()
        for number in range(kills):
            _die(relay, chance, points[number % len(points)] if points and number % 2 else "")
        relay.start()
        time.sleep(0.5)
        ledger.stop.set()
        for thread in threads:
            thread.join(20)
        try:
            _settle(relay)
            return _books(relay, sink, ledger, kills)
        finally:
            relay.stop()


def _die(relay: RelayProcess, chance: random.Random, point: str) -> None:
    """One death: at the fault point on its nth passing, or from outside after a random while; the relay is running when this begins, dead when it ends."""
    if point:
        relay.kill()
        with suppress(RuntimeError):  # it may die before it has greeted anybody
            relay.start(RELAY_FAULT=f"{point}:{chance.randint(1, 40)}")
        assert relay.process
        with suppress(Exception):
            relay.process.wait(chance.uniform(0.2, 1.0))
    else:
        if relay.process is None or relay.process.poll() is not None:
            relay.start()
        time.sleep(chance.uniform(0.0, 0.4))
    relay.kill()
    if not point:
        relay.start()


def _settle(relay: RelayProcess) -> None:
    """Until nothing waits any more."""
    deadline = time.monotonic() + SETTLED
    relay.cli("queue", "retry", "--all")
    while relay.json("queue", "list"):
        assert time.monotonic() < deadline, f"still waiting after {SETTLED:g} seconds: {relay.cli('queue', 'list')[:2000]}"
        time.sleep(0.2)


def _books(relay: RelayProcess, sink: Sink, ledger: Ledger, kills: int) -> Books:
    arrived = Counter(_name(message.recipients[0]) for message in sink.messages)
    ends = Counter[str]()
    undecided = set()
    for address, state in _recipients(relay):
        ends[_name(address)] += 1
        if state != messages.DELIVERED:
            undecided.add(_name(address))
    undecided |= {name for name, count in ends.items() if count > 1}
    lost = ledger.acknowledged - (arrived.keys() & ends.keys())
    return Books(kills, len(ledger.acknowledged), sorted(lost), sorted(name for name, count in arrived.items() if count > 1), sorted(undecided))


def _recipients(relay: RelayProcess) -> list[tuple[str, str]]:
    """Address and state of every recipient in the relay's own books."""
    async def read() -> list[tuple[str, str]]:
        store = await Store.open(relay.store_url, relay.data, read_only=True)
        try:
            return await store.read(lambda conn: [tuple(row) for row in conn.execute(select(recipients.c.address, recipients.c.state))])
        finally:
            await store.close()

    return asyncio.run(read())


def _name(address: str) -> str:
    return address.partition("@")[0]
