"""The crash suite: clients submit without pause, the relay is killed without warning, and afterwards the books must balance.

    lost        acknowledged and never arrived (or never refused, where the sink refuses it), or arrived damaged: none, ever
    repeated    in the ledger more than once, though a client sends a message again only under its idempotency key; or sent twice in one life: none
    doubled     arrived in one life and again in a later one: only what was in flight at the kill, at most UNWRITTEN and what was on the wire for each
                (the table of relay.store.queue)
    undecided   without exactly one end, or with more or less than one event of it and one report where one is owed: none

Kills come at random moments, to the main process or to a worker, and at every fault point (relay.store.faults), where the process kills itself. Each life of
the relay says its number in EHLO, so what arrives tells in which life it left. The seed is printed: it repeats a run as far as timing allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import smtplib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from relay.queue.recorder import UNWRITTEN
from relay.settings import Delivery
from relay.store import messages
from relay.store.engine import Store
from relay.store.faults import POINTS
from relay.store.schema import events, queue, recipients, reports
from relay.store.schema import messages as letters
from tests.support.running import OPEN, Running, routed
from tests.support.sink import Script, Sink

CLIENTS = 4  # threads that submit; every other one sends again what was not acknowledged
SETTLED = 240.0  # seconds in which everything must have an end after the last start
LINES = (1, 10, 50, 400, 2_000)  # of 72 octets: the last two are beyond what is kept in a row (relay.store.bodies.INLINE)
WEIGHTS = (8, 8, 4, 2, 1)
PEOPLE = 3  # recipients of one message at most
IN_FLIGHT = UNWRITTEN + 10 * PEOPLE  # outcomes that a kill can repeat: not written, or on one of a site's ten connections
SENDER = "app@crash.example"
GONE = "nobody"  # the local part that the sink refuses

PASSINGS = {"store": 15, "body": 4, "settle": 10, "report": 1, "handover": 10}  # of a fault point before it kills, at most, by room
PATIENCE = {"report": 3.0}  # seconds that a life with a fault point may last, by room; a report is due after two
SHORT = 1.0  # the others
LONG = 60.0  # seconds that a life may take to acknowledge a little

MAIN, WORKER = "main", "worker"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client submitted: recipients, sha256 of the body."""

    people: tuple[str, ...]
    digest: str


@dataclass
class Ledger:
    """What clients were told. `sent` may or may not exist; `acknowledged` must."""

    sent: dict[str, Sent] = field(default_factory=dict)
    acknowledged: list[Sent] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def client(self, port: int, key: str, number: int) -> None:
        """Submit messages of all kinds until told to stop. What fails is forgotten by one half of the clients and sent again by the other, under its key."""
        chance, again = random.Random(number), number % 2 == 0
        made = self._letters(chance, number)
        name, sent, content = next(made)
        while not self.stop.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
                smtp.login("app", key)
                while not self.stop.is_set():
                    self.sent[name] = sent
                    smtp.sendmail(SENDER, sent.people, content)
                    self.acknowledged.append(sent)
                    name, sent, content = next(made)
            if not again:
                name, sent, content = next(made)
            self.stop.wait(0.02)

    def _letters(self, chance: random.Random, number: int) -> Iterator[tuple[str, Sent, bytes]]:
        """Message after message: small and large, to one, to several, to nobody."""
        count = 0
        while True:
            count += 1
            name = f"m{number}-{count}"
            body = (name.ljust(70, "x") + "\r\n") * chance.choices(LINES, WEIGHTS)[0]
            people = tuple(f"{name}-{n}@dest{n % 2}.example" for n in range(chance.choice((1, 1, 1, PEOPLE)))) if count % 9 else (f"{GONE}@{name}.example",)
            headers = f"Subject: {name}\r\nX-Relay-Idempotency-Key: {name}\r\n\r\n"
            yield name, Sent(people, sha256(body.encode()).hexdigest()), (headers + body).encode()


@dataclass(frozen=True)
class Books:
    """What a run came to."""

    kills: Counter[str]
    acknowledged: int
    lost: Sequence[str]
    repeated: Sequence[str]
    doubled: Counter[int]  # by the life in which it left first
    undecided: Sequence[str]

    def check(self) -> None:
        assert self.acknowledged > self.kills.total(), f"hardly anything was accepted: {self}"
        assert not self.lost, f"acknowledged and lost: {self.lost[:10]}"
        assert not self.repeated, f"twice without a kill: {self.repeated[:10]}"
        assert not self.undecided, f"without exactly one end: {self.undecided[:10]}"
        assert max(self.doubled.values(), default=0) <= IN_FLIGHT, f"too many arrived twice: {self.doubled}"
        assert max(self.doubled, default=0) <= self.kills.total(), f"twice though nobody was killed: {self.doubled}"

    def __str__(self) -> str:
        killed = ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items()))
        return (f"{self.acknowledged} acknowledged, {len(self.lost)} lost, {len(self.undecided)} undecided, {len(self.repeated)} repeated, "
                f"{self.doubled.total()} doubled by kills of: {killed}")


class Run:
    """One relay, its clients and the far side of its mail."""

    def __init__(self, directory: Path, sink: Sink, seed: int, workers: int, store_url: str):
        self.sink, self.chance, self.workers = sink, random.Random(seed), workers
        store = {"RELAY_STORE__URL": store_url, "RELAY_SECRET_KEY": "crash suite " * 4}
        self.relay = Running(directory, {**OPEN, **routed(sink.address), **store}, workers)
        self.ledger, self.kills, self.life = Ledger(), Counter[str](), 0
        self.threads: list[threading.Thread] = []

    def run(self, kills: int) -> Books:
        """So many lives under load, each with its death, then peace, then the books."""
        key = self.relay.key()
        turns = self._turns()
        self._clients(key)
        try:
            while self.life < kills:
                self._die("" if self.life % 2 else turns[self.life // 2 % len(turns)])
            self._start("")
            self.ledger.stop.wait(0.5)
        finally:
            self.ledger.stop.set()
            for thread in self.threads:
                thread.join()
        try:
            asyncio.run(self._settled())
            return asyncio.run(self._books())
        finally:
            self.relay.stop()

    def _turns(self) -> list[str]:
        """The fault points in the order of their lives: with workers those of the handover first, without them all others.

        Those of broadcasts and workflows are gone through in their own test_crashes.py.
        """
        elsewhere = ("broadcast", "workflow") if self.workers else ("broadcast", "workflow", "handover")
        turns = [point for point in POINTS if not point.startswith(elsewhere)]
        self.chance.shuffle(turns)
        return sorted(turns, key=lambda point: not point.startswith("handover"))

    def _clients(self, key: str) -> None:
        self.threads = [threading.Thread(target=self.ledger.client, args=(self.relay.smtp, key, number), daemon=True) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _start(self, point: str) -> None:
        """Another life, which may end before it has greeted anybody."""
        self.life += 1
        environ = {"RELAY_HOSTNAME": f"life{self.life}.relay.test", "RELAY_HTTP__LISTEN": ""}  # a start without HTTP takes two thirds of the time
        if point:
            environ["RELAY_FAULT"] = f"{point}:{self.chance.randint(1, PASSINGS[point.partition('.')[0]])}"
        with contextlib.suppress(RuntimeError):
            self.relay.start(**environ)

    def _die(self, point: str) -> None:
        """One life and its end: at the point on its nth passing, else by kill -9 after a random while; now and then a worker has died before."""
        self._start(point)
        process = self.relay.process
        assert process
        if not point and self.life % 4 == 2:
            self._taken()
        with contextlib.suppress(Exception):
            process.wait(PATIENCE.get(point.partition(".")[0], SHORT) if point else self.chance.uniform(0.0, 0.5))
        if process.poll() is not None:
            self.kills[point or "startup"] += 1
            return
        if not point and self.workers and self.chance.random() < 0.5:
            self._kill_worker()
        self.relay.kill()
        self.kills[MAIN] += 1

    def _taken(self) -> None:
        """Until this life has acknowledged a little, so that a slow machine sees kills under load too, and not of relays that are starting alone."""
        enough, end = len(self.ledger.acknowledged) + 2 * CLIENTS, time.monotonic() + LONG
        while len(self.ledger.acknowledged) < enough and time.monotonic() < end:
            self.ledger.stop.wait(0.01)

    def _kill_worker(self) -> None:
        """One worker only: what it handed over is delivered, and another takes its place."""
        found = self.relay.workers_now()
        if not found:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.chance.choice(found), signal.SIGKILL)
            self.kills[WORKER] += 1
        self.ledger.stop.wait(self.chance.uniform(0.1, 0.4))

    # the books

    @contextlib.asynccontextmanager
    async def _store(self):
        store = await Store.open(self.relay.store_url, self.relay.data, read_only=True)
        try:
            yield store
        finally:
            await store.close()

    async def _settled(self) -> None:
        """Until nothing waits any more, no report is owed and the sink has seen the last."""
        self.relay.text("queue", "retry", "--all")
        async with self._store() as store, asyncio.timeout(SETTLED):
            while left := [await store.read(lambda conn, t=table: conn.scalar(select(func.count()).select_from(t))) for table in (queue, reports)]:
                if not any(left):
                    return
                await asyncio.sleep(0.1)

    async def _books(self) -> Books:
        async with self._store() as store:
            people = await store.read(lambda conn: conn.execute(
                select(recipients.c.id, recipients.c.address, recipients.c.state, recipients.c.ended_at, letters.c.protocol)
                .join(letters, letters.c.id == recipients.c.message_id)).all())
            told = Counter(await store.read(lambda conn: [tuple(row) for row in conn.execute(select(events.c.recipient_id, events.c.type))]))
        arrivals, damaged = self._arrived()
        mail = [each for each in people if each.protocol == "smtp"]
        reported = sum(each.protocol == "dsn" for each in people)
        ends = {each.address: each.state for each in mail}
        owed = {address for sent in self.ledger.acknowledged for address in sent.people}
        lost = {a for a in owed if ends.get(a) is None or not (_refused(a) or a in arrivals)} | damaged
        told_of = {a for a in ends if _refused(a)}
        lost |= {f"report for {a}" for a in told_of if a not in arrivals}
        repeated = {a for a, count in Counter(each.address for each in mail).items() if count > 1}
        repeated |= {f"{a} in one life" for a, lives in arrivals.items() if len(lives) != len(set(lives))}
        undecided = {each.address for each in people if not _decided(each, told)}
        undecided |= {f"{reported} reports for {len(told_of)} refusals"} if reported != len(told_of) else set()
        doubled = Counter(life for lives in arrivals.values() for life in sorted(lives)[:-1])
        return Books(self.kills, len(self.ledger.acknowledged), sorted(lost), sorted(repeated), doubled, sorted(undecided))

    def _arrived(self) -> tuple[dict[str, list[int]], set[str]]:
        """The lives in which mail to each address came (for one that is refused: its report), and what came damaged."""
        arrivals: dict[str, list[int]] = defaultdict(list)
        damaged = set()
        for each in self.sink.messages:
            life = int(re.match(r"life(\d+)\.", each.helo)[1])
            header, _, body = each.content.partition(b"\r\n\r\n")
            if not each.sender:
                arrivals[re.search(rb"Final-Recipient: rfc822; *(\S+)", each.content)[1].decode()].append(life)
                continue
            name = re.search(rb"^Subject: (\S+)", header, re.MULTILINE)[1].decode()
            if self.ledger.sent[name].digest != sha256(body).hexdigest():
                damaged.add(f"{name} damaged")
            for address in each.recipients:
                arrivals[address].append(life)
        return arrivals, damaged


def _refused(address: str) -> bool:
    return address.startswith(GONE)


def _decided(row: Any, told: Counter) -> bool:
    """Whether a recipient has the one end it should have, and the events say so once."""
    end = messages.BOUNCED if _refused(row.address) else messages.DELIVERED
    ends = {kind: told[row.id, f"email.{kind}"] for kind in messages.ENDS if told[row.id, f"email.{kind}"]}
    return row.state == end and row.ended_at is not None and ends == {end: 1} and told[row.id, "email.queued"] == 1


def run(directory: Path, kills: int, seed: int, *, workers: int = 0, store_url: str = "") -> Books:
    """The books after so many kills of one relay."""
    with Sink(Script(rcpt={GONE: "550 5.1.1 no such user"})) as sink:
        books = Run(directory, sink, seed, workers, store_url).run(kills)
    print(f"seed {seed}, {'PostgreSQL' if store_url else 'SQLite'}, {workers} workers: {books}", flush=True)
    return books


def together(relays: Sequence[tuple[Path, int, str, int]], seed: int) -> list[Books]:
    """`run` for each of these relays (directory, workers, store url, kills), side by side."""
    print(f"crash suite: seed {seed}, {', '.join(str(kills) for *_, kills in relays)} kills", flush=True)
    with ThreadPoolExecutor(len(relays)) as threads:
        running = [threads.submit(run, directory, kills, seed, workers=workers, store_url=url) for directory, workers, url, kills in relays]
    return [each.result() for each in running]


assert Delivery().connections >= 40  # a site's quarter is then ten connections, as IN_FLIGHT counts
