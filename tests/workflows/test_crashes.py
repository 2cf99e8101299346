"""Deaths in the middle of workflows, and two nodes: each contact has one run, each step is made once, each mail is one submission.

Contacts are made while no relay runs, with the event that begins their runs; so a relay's first act is to hear of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from relay.mail.ids import Maker
from relay.store import events
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.engine import Store
from relay.store.events import Event
from relay.store.projects import Project
from relay.store.workflows import counts, hearing, workflows
from relay.store.workflows.schema import runs, steps
from relay.store.workflows.workflows import ACTIVE, ONCE, Workflow
from tests.support.deaths import NOW, arrived, die, opened, prepare, relay, submissions, until
from tests.support.sink import Sink
from tests.workflows.flowing import letter, line, node

PEOPLE = 60
DEATHS = ("workflow.heard:1", "workflow.taken:1", "workflow.committed:1", "workflow.taken:1")


async def workflow(store: Store, maker: Maker, project: Project, people: Sequence[Contact]) -> int:
    """An active workflow, and the events that begin its runs."""
    flow = Workflow(maker.next(), project.id, "Hello", ACTIVE, "contact.created", {}, ONCE, "native", {}, NOW, NOW, since="0.0", activated_at=NOW)
    nodes = [node("trigger", "trigger"), letter("one", "First", "News <news@sender.example>"), node("grow", "update_contact", add_tags=["seen"]),
             letter("two", "Second", "News <news@sender.example>")]
    await store.write(hearing.begin)
    await store.write(workflows.add, flow, nodes, line("trigger", "one", "grow", "two"))
    await store.write(events.append, [Event(project.id, "contact.created", NOW, contact_id=each.id, data={"email": each.email}) for each in people])
    return flow.id


async def done(number: int, store: Store) -> bool:
    """Whether the last run has ended."""
    return (await store.read(counts.of_many, [number])).get(number, Counter())["completed"] >= PEOPLE


async def check(url: str, data: Path, number: int, sink: Sink) -> None:
    """One run and each step once for each contact, one submission and one mail for each of two letters, and the figures agree with the runs."""
    async with opened(url, data, read_only=True) as store:
        states = Counter(await store.read(lambda conn: conn.scalars(select(runs.c.status).where(runs.c.workflow_id == number)).all()))
        made = Counter((row.node, row.outcome) for row in await store.read(lambda conn: conn.execute(select(steps.c.node, steps.c.outcome)).all()))
        tags = Counter(str(each) for each in await store.read(lambda conn: conn.scalars(select(contacts.contacts.c.tags)).all()))
        assert +(await store.read(counts.of_many, [number]))[number] == states, "the figures are those of the runs"
        submitted = await submissions(store)
    assert states == {"completed": PEOPLE}
    assert made == {("trigger", "began"): PEOPLE, ("one", "sent"): PEOPLE, ("grow", "changed"): PEOPLE, ("two", "sent"): PEOPLE}
    assert (len(submitted), set(submitted.values())) == (PEOPLE, {2}), "one submission for each of the two emails"
    assert tags == {"['seen']": PEOPLE}
    assert arrived(sink, 2 * PEOPLE) == 2 * PEOPLE, "two mails each"


@pytest.mark.limit(400)
def test_deaths_in_the_middle_leave_each_contact_one_run_and_each_step_once(store_url: str, tmp_path: Path) -> None:
    number = asyncio.run(prepare(store_url, tmp_path, PEOPLE, workflow))
    with Sink() as sink:
        mortal = relay(tmp_path, store_url, sink)
        die(mortal, DEATHS)
        with mortal:
            asyncio.run(until(store_url, tmp_path, partial(done, number)))
            asyncio.run(check(store_url, tmp_path, number, sink))


@pytest.mark.limit(400)
def test_two_nodes_take_each_step_once(postgres_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    number = asyncio.run(prepare(postgres_url, data, PEOPLE, workflow))
    with Sink() as sink, relay(tmp_path / "a", postgres_url, sink), relay(tmp_path / "b", postgres_url, sink):
        asyncio.run(until(postgres_url, data, partial(done, number)))
        asyncio.run(check(postgres_url, data, number, sink))
