"""Deaths in the middle of a broadcast, and two nodes: each contact has one row and one submission, none is missed, whatever the point."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from relay.mail.ids import Maker
from relay.store.audience.contacts import Contact
from relay.store.broadcasts import broadcasts, counts
from relay.store.broadcasts.broadcasts import DRAFT, QUEUED, SENT, Broadcast
from relay.store.broadcasts.schema import ledger
from relay.store.engine import Store
from relay.store.projects import Project
from relay.store.schema import leases
from tests.support.deaths import NOW, arrived, die, opened, prepare, relay, submissions, until
from tests.support.sink import Sink

PEOPLE = 250
UNWRITTEN = 200  # outcomes that may not be on the disk yet
DEATHS = ("broadcast.gathered:1", "broadcast.queued:1", "broadcast.committed:1")


async def broadcast(store: Store, maker: Maker, project: Project, _people: Sequence[Contact], status: str = QUEUED) -> int:
    """A broadcast to everybody that is to begin, unless its status says otherwise."""
    made = Broadcast(maker.next(), project.id, "", status, "News <news@sender.example>", [], "Hello {{ first_name }}", None, "Hi\n", None, None, None,
                     None, True, None, None, {}, None, "native", {}, NOW, NOW)
    await store.write(broadcasts.add, made)
    return made.id


async def sent(number: int, store: Store) -> bool:
    return (await store.read(broadcasts.find, number)).status == SENT


async def check(url: str, data: Path, number: int, sink: Sink, people: int = PEOPLE) -> None:
    """One row, one submission and one mail for each contact, and the figures agree with the rows."""
    async with opened(url, data, read_only=True) as store:
        rows = await store.read(lambda conn: conn.execute(select(ledger.c.contact_id, ledger.c.state).where(ledger.c.broadcast_id == number)).all())
        states, by_contact = Counter(row.state for row in rows), Counter(row.contact_id for row in rows)
        assert (len(by_contact), set(by_contact.values())) == (people, {1})
        assert states == {"delivered": people}
        assert +counts.whole(await store.read(counts.of, number)) == states, "the figures are the ledger's"
        submitted = await submissions(store)
    assert (len(submitted), set(submitted.values())) == (people, {1}), "one submission each"
    assert arrived(sink, people) == people, "one mail each, as many as there are contacts"


@pytest.mark.limit(400)
def test_deaths_in_the_middle_leave_each_contact_one_mail(store_url: str, tmp_path: Path) -> None:
    number = asyncio.run(prepare(store_url, tmp_path, PEOPLE, broadcast))
    with Sink() as sink:
        mortal = relay(tmp_path, store_url, sink)
        die(mortal, DEATHS)
        with mortal:
            asyncio.run(until(store_url, tmp_path, partial(sent, number)))
        asyncio.run(check(store_url, tmp_path, number, sink))


@pytest.mark.limit(400)
def test_two_nodes_send_it_once(postgres_url: str, tmp_path: Path) -> None:
    """Both are there from the start, and one of them delivers."""
    data = tmp_path / "data"
    number = asyncio.run(prepare(postgres_url, data, PEOPLE, broadcast))
    with Sink() as sink:
        with relay(tmp_path / "a", postgres_url, sink), relay(tmp_path / "b", postgres_url, sink):
            asyncio.run(until(postgres_url, data, partial(sent, number)))
        asyncio.run(check(postgres_url, data, number, sink))


async def write(url: str, data: Path, act: Callable[..., object], *args: object) -> None:
    """One write beside the relays, as another node would make it."""
    async with opened(url, data) as store:
        await store.write(act, *args)
        store.notify("broadcasts")


def spent(conn: Connection) -> None:
    """The minute of the lease is over, without a minute of waiting."""
    conn.execute(update(leases).where(leases.c.name == "delivery").values(until=0.0))


@pytest.mark.limit(400)
def test_another_node_goes_on_when_the_one_that_delivers_is_killed(postgres_url: str, tmp_path: Path) -> None:
    """In the middle of the mailing: nobody is left out, and who gets it twice was on the wire at the kill (UNWRITTEN at most), with one and the same mail."""
    data, people = tmp_path / "data", 600
    number = asyncio.run(prepare(postgres_url, data, people, partial(broadcast, status=DRAFT)))
    with Sink() as sink, ExitStack() as nodes:
        first = nodes.enter_context(relay(tmp_path / "a", postgres_url, sink))
        nodes.enter_context(relay(tmp_path / "b", postgres_url, sink))
        sink.on_message = lambda _message: first.process.kill() if sink.count == people // 10 else None
        asyncio.run(write(postgres_url, data, broadcasts.move_to, number, (DRAFT,), QUEUED, {}))
        assert first.process.wait(150) == -9
        assert sink.count < people, "it dies in the middle"
        asyncio.run(write(postgres_url, data, spent))
        asyncio.run(until(postgres_url, data, partial(sent, number)))
        asyncio.run(check(postgres_url, data, number, sink, people))
        assert people <= sink.count <= people + UNWRITTEN
