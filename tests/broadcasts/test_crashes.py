"""Deaths in the middle of a broadcast, and two nodes: each contact has one row and one submission, none is missed, whatever the point.

A copy that was on the wire at a kill may arrive twice (the table of relay.store.queue), always from one and the same submission: arrivals are counted by
Message-ID. The store is prepared without a relay, so that a relay's first act is the broadcast.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from email import message_from_bytes
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.broadcasts import broadcasts, counts
from relay.store.broadcasts.broadcasts import DRAFT, QUEUED, Broadcast
from relay.store.broadcasts.schema import ledger
from relay.store.engine import Store
from relay.store.schema import leases, recipients
from tests.support.running import OPEN, Running, routed
from tests.support.sink import Sink

NOW = 1_790_000_000.0
PEOPLE = 250
UNWRITTEN = 200  # outcomes that may not be on the disk yet
SECRET = {"RELAY_SECRET_KEY": "a secret of thirty-two characters"}
DEATHS = ("broadcast.gathered:1", "broadcast.queued:1", "broadcast.committed:1")


async def prepare(url: str, data: Path, people: int = PEOPLE, status: str = QUEUED) -> int:
    """A store with contacts and a broadcast to all of them that is to begin, unless its status says otherwise; its id."""
    store, maker = await Store.open(url, data, min_free=0, reserve=0), Maker(1000)
    project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, NOW))
    made = [Contact(maker.next(), project.id, f"p{n}@d{n % 3}.example", f"p{n}@d{n % 3}.example", f"Ann{n}", None, {}, [], False, None, None, NOW, NOW)
            for n in range(people)]
    for start in range(0, people, 500):
        await store.write(contacts.add_many, made[start:start + 500])
    broadcast = Broadcast(maker.next(), project.id, "", status, "News <news@sender.example>", [], "Hello {{ first_name }}", None, "Hi\n", None, None, None,
                          None, True, None, None, {}, None, "native", {}, NOW, NOW)
    await store.write(broadcasts.add, broadcast)
    await store.close()
    return broadcast.id


async def books(url: str, data: Path, number: int) -> tuple[str, Counter, Counter, Counter]:
    """Status, ledger rows by contact, ledger rows by state, submissions by address; and the figures agree with the rows."""
    store = await Store.open(url, data, read_only=True, min_free=0, reserve=0)
    rows = await store.read(lambda conn: conn.execute(select(ledger.c.contact_id, ledger.c.state).where(ledger.c.broadcast_id == number)).all())
    sent = await store.read(lambda conn: conn.scalars(select(recipients.c.key)).all())
    status = (await store.read(broadcasts.find, number)).status
    states = Counter(row.state for row in rows)
    assert +counts.whole(await store.read(counts.of, number)) == states, "the figures are the ledger's"
    await store.close()
    return status, Counter(row.contact_id for row in rows), states, Counter(sent)


async def until_sent(url: str, data: Path, number: int) -> None:
    """Wait for the broadcast's end, looking at the database as another program would."""
    while True:
        store = await Store.open(url, data, read_only=True, min_free=0, reserve=0)
        status = (await store.read(broadcasts.find, number)).status
        await store.close()
        if status == "sent":
            return
        await asyncio.sleep(0.3)


def check(sink: Sink, found: tuple[str, Counter, Counter, Counter], people: int = PEOPLE) -> None:
    status, by_contact, states, submissions = found
    assert status == "sent"
    assert (len(by_contact), set(by_contact.values())) == (people, {1})
    assert states == {"delivered": people}
    assert (len(submissions), set(submissions.values())) == (people, {1}), "one submission each"
    arrived = {(m.recipients[0], message_from_bytes(m.content)["message-id"]) for m in sink.messages}
    assert len(arrived) == people, "one mail each, as many as there are contacts"


def relay(directory: Path, url: str, sink: Sink) -> Running:
    return Running(directory, {**OPEN, **SECRET, **routed(sink.address), "RELAY_STORE__URL": url})


@pytest.mark.limit(180)
def test_deaths_in_the_middle_leave_each_contact_one_mail(store_url: str, tmp_path: Path) -> None:
    number = asyncio.run(prepare(store_url, tmp_path))
    with Sink() as sink:
        mortal = relay(tmp_path, store_url, sink)
        for death in DEATHS:
            with suppress(RuntimeError):  # it may die before it is up
                mortal.start(RELAY_FAULT=death)
            assert mortal.process.wait(60) == -9, death
        with mortal:
            asyncio.run(until_sent(store_url, tmp_path, number))
        check(sink, asyncio.run(books(store_url, tmp_path, number)))


@pytest.mark.limit(180)
def test_two_nodes_send_it_once(postgres_url: str, tmp_path: Path) -> None:
    """Both are there from the start, and one of them delivers."""
    number = asyncio.run(prepare(postgres_url, tmp_path / "data"))
    with Sink() as sink:
        with relay(tmp_path / "a", postgres_url, sink), relay(tmp_path / "b", postgres_url, sink):
            asyncio.run(until_sent(postgres_url, tmp_path / "data", number))
        check(sink, asyncio.run(books(postgres_url, tmp_path / "data", number)))


async def write(url: str, data: Path, act: Callable[..., object], *args: object) -> None:
    """One write beside the relays, as another node would make it."""
    store = await Store.open(url, data, min_free=0, reserve=0)
    await store.write(act, *args)
    store.notify("broadcasts")
    await store.close()


def spent(conn: Connection) -> None:
    """The minute of the lease is over, without a minute of waiting."""
    conn.execute(update(leases).where(leases.c.name == "delivery").values(until=0.0))


@pytest.mark.limit(180)
def test_another_node_goes_on_when_the_one_that_delivers_is_killed(postgres_url: str, tmp_path: Path) -> None:
    """In the middle of the mailing: nobody is left out, and who gets it twice was on the wire at the kill (UNWRITTEN at most), with one and the same mail."""
    data, people = tmp_path / "data", 600
    number = asyncio.run(prepare(postgres_url, data, people, DRAFT))
    with Sink() as sink, ExitStack() as nodes:
        first = nodes.enter_context(relay(tmp_path / "a", postgres_url, sink))
        nodes.enter_context(relay(tmp_path / "b", postgres_url, sink))
        asyncio.run(write(postgres_url, data, broadcasts.move_to, number, (DRAFT,), QUEUED, {}))
        sink.wait(people // 10, 60)
        first.kill()
        arrived = sink.count
        assert arrived < people, "it dies in the middle"
        asyncio.run(write(postgres_url, data, spent))
        asyncio.run(until_sent(postgres_url, data, number))
        check(sink, asyncio.run(books(postgres_url, data, number)), people)
        assert people <= sink.count <= people + UNWRITTEN
