"""Deaths in the middle of workflows, and two nodes: each contact has one run, each step is made once, each mail is one submission.

Contacts are made while no relay runs, with the event that begins their runs; so a relay's first act is to hear of them. A copy that was on the wire at a kill
may arrive twice (the table of relay.store.queue), always from one and the same submission: arrivals are counted by Message-ID.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from email import message_from_bytes
from pathlib import Path

import pytest
from sqlalchemy import select

from relay.mail.ids import Maker
from relay.store import events, projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.engine import Store
from relay.store.events import Event
from relay.store.schema import recipients
from relay.store.workflows import counts, hearing, workflows
from relay.store.workflows.schema import runs, steps
from relay.store.workflows.workflows import ACTIVE, ONCE, Workflow
from tests.support.running import OPEN, Running, routed
from tests.support.sink import Sink
from tests.workflows.flowing import letter, line, node

NOW = 1_790_000_000.0
PEOPLE = 60
SECRET = {"RELAY_SECRET_KEY": "a secret of thirty-two characters"}
DEATHS = ("workflow.heard:1", "workflow.taken:1", "workflow.committed:1", "workflow.taken:1")


async def prepare(url: str, data: Path) -> int:
    """A store with an active workflow and the events that begin its runs; its id."""
    store, maker = await Store.open(url, data, min_free=0, reserve=0), Maker(1000)
    project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, NOW))
    flow = Workflow(maker.next(), project.id, "Hello", ACTIVE, "contact.created", {}, ONCE, "native", {}, NOW, NOW, since="0.0", activated_at=NOW)
    nodes = [node("trigger", "trigger"), letter("one", "First", "News <news@sender.example>"), node("grow", "update_contact", add_tags=["seen"]),
             letter("two", "Second", "News <news@sender.example>")]
    await store.write(hearing.begin)
    await store.write(workflows.add, flow, nodes, line("trigger", "one", "grow", "two"))
    made = [Contact(maker.next(), project.id, f"p{n}@d{n % 3}.example", f"p{n}@d{n % 3}.example", f"Ann{n}", None, {}, [], False, None, None, NOW, NOW)
            for n in range(PEOPLE)]
    await store.write(contacts.add_many, made)
    await store.write(events.append, [Event(project.id, "contact.created", NOW, contact_id=each.id, data={"email": each.email}) for each in made])
    await store.close()
    return flow.id


async def books(url: str, data: Path, number: int) -> tuple[Counter, Counter, Counter, Counter]:
    """Runs by status, steps by node and outcome, submissions by address, tags of contacts; and the figures agree with the rows."""
    store = await Store.open(url, data, read_only=True, min_free=0, reserve=0)
    states = Counter(await store.read(lambda conn: conn.scalars(select(runs.c.status).where(runs.c.workflow_id == number)).all()))
    made = Counter((row.node, row.outcome) for row in await store.read(lambda conn: conn.execute(select(steps.c.node, steps.c.outcome)).all()))
    sent = Counter(await store.read(lambda conn: conn.scalars(select(recipients.c.key)).all()))
    tags = Counter(str(each) for each in await store.read(lambda conn: conn.scalars(select(contacts.contacts.c.tags)).all()))
    assert +(await store.read(counts.of_many, [number]))[number] == states, "the figures are those of the runs"
    await store.close()
    return states, made, sent, tags


async def until_done(url: str, data: Path, number: int) -> None:
    """Wait for the last run's end, looking at the database as another program would."""
    while True:
        store = await Store.open(url, data, read_only=True, min_free=0, reserve=0)
        done = (await store.read(counts.of_many, [number])).get(number, Counter())["completed"]
        await store.close()
        if done >= PEOPLE:
            return
        await asyncio.sleep(0.3)


def check(sink: Sink, found: tuple[Counter, Counter, Counter, Counter]) -> None:
    states, made, sent, tags = found
    assert states == {"completed": PEOPLE}
    assert made == {("trigger", "began"): PEOPLE, ("one", "sent"): PEOPLE, ("grow", "changed"): PEOPLE, ("two", "sent"): PEOPLE}
    assert (len(sent), set(sent.values())) == (PEOPLE, {2}), "one submission for each of the two emails"
    assert tags == {"['seen']": PEOPLE}
    assert len(arrived(sink)) == 2 * PEOPLE, "two mails each"


def arrived(sink: Sink) -> set[tuple[str, str]]:
    """Who got which message, once it is as many as there shall be; what was on the wire at a kill may have come twice."""
    while True:
        count = len(sink.messages)
        found = {(m.recipients[0], message_from_bytes(m.content)["message-id"]) for m in sink.messages}
        if len(found) >= 2 * PEOPLE:
            return found
        sink.wait(count + 1, 30)


def relay(directory: Path, url: str, sink: Sink) -> Running:
    return Running(directory, {**OPEN, **SECRET, **routed(sink.address), "RELAY_STORE__URL": url})


@pytest.mark.limit(180)
def test_deaths_in_the_middle_leave_each_contact_one_run_and_each_step_once(store_url: str, tmp_path: Path) -> None:
    number = asyncio.run(prepare(store_url, tmp_path))
    with Sink() as sink:
        mortal = relay(tmp_path, store_url, sink)
        for death in DEATHS:
            with suppress(RuntimeError):  # it may die before it is up
                mortal.start(RELAY_FAULT=death)
            assert mortal.process.wait(60) == -9, death
        with mortal:
            asyncio.run(until_done(store_url, tmp_path, number))
            check(sink, asyncio.run(books(store_url, tmp_path, number)))


@pytest.mark.limit(180)
def test_two_nodes_take_each_step_once(postgres_url: str, tmp_path: Path) -> None:
    number = asyncio.run(prepare(postgres_url, tmp_path / "data"))
    with Sink() as sink, relay(tmp_path / "a", postgres_url, sink), relay(tmp_path / "b", postgres_url, sink):
        asyncio.run(until_done(postgres_url, tmp_path / "data", number))
        check(sink, asyncio.run(books(postgres_url, tmp_path / "data", number)))
