"""Broadcasts: how many personalised copies a second come into the queue, how many leave it, signed and unsigned, and what five pauses and three deaths do.

    python -m bench.broadcasts [CONTACTS]             figures: queued with room everywhere, then delivered to a sink, each without and with a DKIM key
    python -m bench.broadcasts endurance [CONTACTS]   five pauses, three kill -9 and a changed segment in the middle; then the books

Copies have 4 kB of HTML and text with six variables. "Queued" is ledger, message, body and queue row on the disk, durable; the feeder, the door and the store
are a relay's, what would take the copies away stands still, and the log says errors only (by default a relay writes a line for each copy). Memory is what the
process has of its own (RssAnon), halfway and at the end. The client of `endurance` is this process; the relay is one as users run it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

CONTACTS = 30_000
DELIVERED = 6_000
LINE = "The quick brown fox jumps over the lazy dog. "
HTML = ("<html><body><h1>Hello {{ first_name | default: 'friend' }}</h1><p>" + LINE * 50 + "</p><p>You are on {{ properties.plan }}"
        "{% if plan == 'pro' %}, thank you{% endif %}.</p><a href='https://example.com/?u={{ email | url_encode }}'>more</a></body></html>")
TEXT = "Hello {{ first_name | default: 'friend' }}\n\n" + (LINE + "\n") * 20 + "You are on {{ plan }}.\n"
SENDER = "News <news@bench.example>"


@dataclass
class Everywhere:
    """A queue with room for all, that forgets what it is given: what is measured is the way into it."""

    held: bool = False
    known: dict[int, Any] = field(default_factory=dict)

    def full(self, _ahead: int) -> list[str]:
        return []

    def accepted(self, _message: Any) -> None:
        pass


def memory(pid: int | str = "self") -> float:
    """Megabytes of a process that are its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


def draft(maker: Any, project: int, now: float, **given: Any) -> Any:
    from relay.store.broadcasts.broadcasts import QUEUED, Broadcast

    return Broadcast(maker.next(), project, "", QUEUED, SENDER, [], "Hello {{ first_name }}", HTML, TEXT, None, given.get("segment"), None, None,
                     "segment" not in given, None, None, {}, None, "native", {}, now, now)


async def people(store: Any, maker: Any, project: int, count: int, domains: int, now: float) -> None:
    from relay.store.audience import contacts
    from relay.store.audience.contacts import Contact

    made = []
    for n in range(count):
        email = f"p{n}@d{n % domains}.example"
        made.append(Contact(maker.next(), project, email, email, f"Ann{n}", "Lee", {"plan": "pro" if n % 2 else "free"}, [], False, None, None, now, now))
        if len(made) == 1_000 or n == count - 1:
            await store.write(contacts.add_many, made)
            made = []


def spent(pid: int | str = "self") -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def queued(relay: Any, project: int, count: int) -> tuple[float, float, float, float, float]:
    """Copies a second into the queue, microseconds of CPU a copy of the relay and of its renderer, and megabytes halfway and at the end."""
    from relay.broadcasts.feeder import Feeder
    from relay.store.broadcasts import broadcasts, counts

    store, now = relay.store, relay.clock.now()
    await people(store, relay.maker, project, count, 1_000, now)
    broadcast = draft(relay.maker, project, now)
    await store.write(broadcasts.add, broadcast)
    feeder = Feeder(store, lambda: relay.door, Everywhere(), relay.clock, relay.maker, lambda: None)
    halfway, done, begun, cpu = 0.0, 0, time.perf_counter(), spent()
    while done < count:
        await feeder.turn()
        done = counts.whole(await store.read(counts.of, broadcast.id))["queued"]
        if not halfway and done >= count / 2:
            halfway = memory()
    took, cpu = time.perf_counter() - begun, spent() - cpu
    renderer = sum(spent(pid) for pid in feeder.processes)
    feeder.close()
    return count / took, cpu / count * 1e6, renderer / count * 1e6, halfway, memory()


def figures(count: int) -> None:
    from relay import heap
    from relay.control import domains
    from tests.support.served import Served

    for signed in (False, True):
        name = "signed" if signed else "without a DKIM key"
        with tempfile.TemporaryDirectory() as directory, Served(Path(directory), "", RELAY_LOG__LEVEL="error") as served:
            tenant = served.tenant()
            if signed:
                served.act(domains.add, name="bench.example", project=tenant.project)
            served.call(_still(served.relay), 30)
            heap.settle()  # as a relay does when it serves
            rate, cpu, renderer, halfway, end = served.call(queued(served.relay, tenant.number, count), 3_600)
            print(f"queued, {name:20} {rate:8.0f} copies/s   CPU a copy {cpu:.0f} us here and {renderer:.0f} us beside, so at most "
                  f"{1e6 / max(cpu, renderer):.0f}/s on two free cores   memory {halfway:.0f} MB halfway, {end:.0f} MB at the end", flush=True)
        with tempfile.TemporaryDirectory() as directory, Served(Path(directory), "", RELAY_LOG__LEVEL="error") as served:
            tenant = served.tenant()
            if signed:
                served.act(domains.add, name="bench.example", project=tenant.project)
            served.call(people(served.relay.store, served.relay.maker, tenant.number, DELIVERED, 20, served.relay.clock.now()), 60)
            said = {"from": SENDER, "subject": "Hello {{ first_name }}", "html": HTML, "text": TEXT, "all_contacts": True}
            number = tenant.post("/broadcasts", said, 201)["id"]
            begun = time.perf_counter()
            tenant.post(f"/broadcasts/{number}/send")
            served.sink.wait(DELIVERED, 600)
            print(f"delivered, {name:17} {DELIVERED / (time.perf_counter() - begun):8.0f} copies/s   sink in the same process", flush=True)


async def _still(relay: Any) -> None:
    """Nothing else works on broadcasts or delivers."""
    for task in list(relay._tasks):
        if task.get_name() == "runner":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def endurance(count: int) -> None:
    from relay.store.engine import Store
    from tests.support.running import OPEN, Running, routed
    from tests.support.sink import Sink

    with tempfile.TemporaryDirectory() as name, Sink() as sink:
        directory = Path(name)
        settings = {**OPEN, **routed(sink.address), "RELAY_SECRET_KEY": "a secret of thirty-two characters", "RELAY_LOG__LEVEL": "warning"}
        relay = Running(directory, settings, cold=True)
        number, segment, key = asyncio.run(_prepared(directory, count))
        relay.start()
        client = _client(relay, key)
        client.post(f"/broadcasts/{number}/send").raise_for_status()
        for step in range(8):
            _arrived(sink, count * (step + 1) // 10)
            if step == 1:
                rules = [{"field": "properties.plan", "operator": "equals", "value": "nobody"}]
                client.patch(f"/segments/{segment}", json={"rules": rules}).raise_for_status()
                print("the segment asks for nobody from now on")
            if step in (2, 4, 6):
                relay.kill()
                wal = (directory / "relay.db-wal").stat().st_size / 1e6
                print(f"killed at {len(sink.messages)}, up again after {_up(relay):.1f} s, with {wal:.0f} MB of WAL", flush=True)
            else:
                client.post(f"/broadcasts/{number}/pause").raise_for_status()
                at = len(sink.messages)
                time.sleep(2.0)
                print(f"paused at {at}, {len(sink.messages) - at} were on the wire", flush=True)
                client.post(f"/broadcasts/{number}/resume").raise_for_status()
        while client.get(f"/broadcasts/{number}").json()["status"] != "sent":
            time.sleep(1.0)
        pid = relay.process.pid
        print(f"memory of the relay {memory(pid):.0f} MB")
        relay.stop()
        asyncio.run(_books(Store, directory, sink, count))


async def _prepared(directory: Path, count: int) -> tuple[str, str, str]:
    """A store with contacts, a segment of them all, a draft to it and a key: their public ids and its text."""
    from dataclasses import replace

    from relay.mail.ids import Maker
    from relay.store import keys, projects
    from relay.store.audience import segments
    from relay.store.audience.segments import Segment
    from relay.store.broadcasts import broadcasts
    from relay.store.engine import Store

    store, maker, now = await Store.open("", directory), Maker(1000), time.time()
    project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, now))
    await people(store, maker, project.id, count, 50, now)
    rules = [{"field": "email", "operator": "contains", "value": "@"}]
    segment = await store.write(segments.add, Segment(maker.next(), project.id, "everybody", "", rules, None, False, now, now))
    broadcast = await store.write(broadcasts.add, replace(draft(maker, project.id, now, segment=segment.id), status="draft"))
    key, text = keys.mint(maker.next(), project.id, "bench", "full_access", "live", "", now)
    await store.write(keys.add, key, keys.fingerprint(text))
    await store.close()
    return broadcast.public_id, segment.public_id, text


def _client(relay: Any, key: str) -> Any:
    import httpx2 as httpx

    return httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _up(relay: Any) -> float:
    """Seconds until a relay that was killed is up again, however busy the machine is."""
    begun = time.monotonic()
    try:
        relay.start()
    except RuntimeError:
        if relay.process.poll() is not None:
            raise
        while not relay.up():
            time.sleep(1.0)
    return time.monotonic() - begun


def _arrived(sink: Any, count: int) -> None:
    while len(sink.messages) < count:
        sink.wait(min(count, len(sink.messages) + 1_000), 120)


async def _books(opened: Any, directory: Path, sink: Any, count: int) -> None:
    from sqlalchemy import func, select

    from relay.store.broadcasts.schema import ledger
    from relay.store.schema import recipients

    store = await opened.open("", directory, read_only=True)
    states = await store.read(lambda conn: Counter({row[0]: row[1] for row in conn.execute(select(ledger.c.state, func.count()).group_by(ledger.c.state))}))
    submissions = await store.read(lambda conn: conn.execute(select(func.count(), func.count(recipients.c.key.distinct()))).one())
    await store.close()
    arrived = Counter((m.recipients[0], message_from_bytes(m.content)["message-id"]) for m in sink.messages)
    people_reached = {address for address, _ in arrived}
    print(f"contacts {count}, ledger {dict(states)}, submissions {submissions[0]} to {submissions[1]} addresses, reached {len(people_reached)}, "
          f"different mails {len(arrived)}, arrived twice by a kill {sum(arrived.values()) - len(arrived)}")
    whole = states["delivered"] == count == submissions[0] == submissions[1] == len(people_reached) == len(arrived)
    print("the books balance" if whole else "THE BOOKS DO NOT BALANCE")
    if not whole:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["endurance"]:
        endurance(int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
    else:
        figures(int(sys.argv[1]) if len(sys.argv) > 1 else CONTACTS)
