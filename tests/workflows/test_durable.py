"""What lasts and what is bounded: a request that a kill cut off, a held queue, a limit that says not now, old runs, and a crowd beside a single contact."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select

from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.engine import Store
from relay.store.workflows import counts, runs, workflows
from relay.store.workflows.runs import OWN, Entry
from relay.store.workflows.schema import steps
from relay.store.workflows.workflows import ACTIVE, ALWAYS, ONCE, Workflow
from relay.workflows.graph import TRIGGER
from tests.support.running import OPEN, Running
from tests.workflows.flowing import DAY, Endpoint, line, node

NOW = 1_790_000_000.0
SECRET = {"RELAY_SECRET_KEY": "a secret of thirty-two characters"}


async def flow(store: Store, maker: Maker, nodes: list, edges: list, reentry: str = ONCE) -> Workflow:
    project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, NOW))
    made = Workflow(maker.next(), project.id, "Flow", ACTIVE, "manual", {}, reentry, "native", {}, NOW, NOW, since="0.0", activated_at=NOW)
    return await store.write(workflows.add, made, [node("t", TRIGGER), *nodes], edges)


async def people(store: Store, maker: Maker, project: int, count: int) -> list[int]:
    made = []
    for n in range(count):
        email = f"p{n}-{maker.next()}@reader.example"
        made.append(Contact(maker.next(), project, email, email, None, None, {}, [], False, None, None, NOW, NOW))
    await store.write(contacts.add_many, made)
    return [each.id for each in made]


async def begun(store: Store, made: Workflow, who: list[int], now: float = NOW) -> list[int]:
    entries = [Entry(each, f"manual:{each}:{now}", {"type": "manual", "at": now, "data": {}}) for each in who]
    return [run.id for run in (await store.write(runs.begin, made, entries, "end", "t", now))[0]]


@pytest.fixture
async def store(store_url, tmp_path):
    opened = await Store.open(store_url, tmp_path / "data", min_free=0, reserve=0)
    yield opened
    await opened.close()


@pytest.mark.limit(400)
def test_a_request_that_a_kill_cut_off_is_made_again_with_its_key(store_url: str, tmp_path: Path) -> None:
    """The table of relay.workflows: killed at workflow.called."""

    async def prepare(url: str) -> int:
        opened, maker = await Store.open(store_url, tmp_path, min_free=0, reserve=0), Maker(1000)
        made = await flow(opened, maker, [node("hook", "webhook", url=url)], line("t", "hook"))
        who = await people(opened, maker, made.project_id, 1)
        entry = [Entry(who[0], "manual:1", {"type": "manual", "at": NOW, "data": {}})]
        await opened.write(runs.begin, made, entry, "hook", "t", NOW)
        await opened.write(lambda conn: conn.execute(runs.table.update().values(lane=runs.ELSEWHERE)) and None)
        await opened.close()
        return made.id

    async def done(number: int) -> bool:
        opened = await Store.open(store_url, tmp_path, read_only=True, min_free=0, reserve=0)
        found = (await opened.read(counts.of_many, [number]))[number]["completed"] == 1
        await opened.close()
        return found

    async def until(number: int) -> None:
        while not await done(number):
            await asyncio.sleep(0.2)

    with Endpoint() as endpoint:
        number = asyncio.run(prepare(endpoint.url))
        mortal = Running(tmp_path, {**OPEN, **SECRET, "RELAY_STORE__URL": store_url, "RELAY_WEBHOOKS__ALLOW_PRIVATE": "true"})
        mortal.start(RELAY_FAULT="workflow.called:1")
        assert mortal.process.wait(150) == -9
        with mortal:
            asyncio.run(until(number))
    keys = {fields["Idempotency-Key"] for _, fields, _ in endpoint.asked}
    assert (len(endpoint.asked), len(keys)) == (2, 1)


async def test_turns_are_shared_between_workflows(store):
    maker = Maker(1000)
    crowd, single = [await flow(store, maker, [node("end", "exit")], line("t", "end"), ALWAYS) for _ in range(2)]
    who = await people(store, maker, crowd.project_id, 300)
    await begun(store, crowd, who, NOW)
    mine, = await begun(store, single, who[:1], NOW + 60)
    found = await store.read(runs.due, OWN, NOW + 120, 100)
    assert mine in {run.id for run in found}, "due last, and not behind 300 others"
    assert len(found) <= 100
    assert await store.read(runs.lateness, NOW + 120) == (301, 120.0)


async def test_old_runs_are_forgotten_and_who_passed_once_stays_known(store):
    maker = Maker(1000)
    once, again = await flow(store, maker, [node("end", "exit")], [], ONCE), await flow(store, maker, [node("end", "exit")], [], ALWAYS)
    who = await people(store, maker, once.project_id, 3)
    for each in (once, again):
        await begun(store, each, who)
        assert await store.write(runs.stop_all, each.id, "enough", NOW) == 3
    fresh = await begun(store, again, who[:1], NOW + DAY)
    assert await store.write(runs.prune, NOW + 1, 500) == 6
    assert await store.write(runs.prune, NOW + 1, 500) == 0
    by_workflow = select(runs.table.c.workflow_id, func.count()).group_by(runs.table.c.workflow_id)
    assert await store.read(lambda conn: {row[0]: row[1] for row in conn.execute(by_workflow)}) == {once.id: 3, again.id: 1}
    assert set(await store.read(lambda conn: conn.scalars(select(steps.c.run_id)).all())) == set(fresh)
    assert await begun(store, once, who, NOW + 2 * DAY) == [], "once is once"


async def test_a_deleted_workflow_goes_a_slice_at_a_time(store):
    maker = Maker(1000)
    made = await flow(store, maker, [node("end", "exit")], [], ALWAYS)
    await begun(store, made, await people(store, maker, made.project_id, 5))
    await store.write(workflows.remove, made.project_id, made.id, NOW)
    slices = []
    while gone := await store.write(workflows.sweep, 2):
        slices.append(gone)
    assert slices == [2, 2, 1, 1]
    assert await store.read(workflows.find, made.id) is None


def test_an_email_that_a_limit_holds_back_goes_later(served, owner, calendar):
    """What is for now is tried again, and the run says what holds it back."""
    template = owner.post("/templates", {"name": "Later", "subject": "Hello", "html": "<p>Hi</p>"}, 201)["id"]
    owner.post(f"/templates/{template}/publish")
    number = owner.active("contact.created", [node("mail", "send_email", template_id=template, **{"from": owner.sender})])
    owner.post(f"/templates/{template}/unpublish")
    owner.person("ann")
    held, = owner.waiting(number)
    assert held["waiting"]["why"] == "Template not published"
    owner.post(f"/templates/{template}/publish")
    calendar.pass_(15)
    assert owner.history(number, owner.runs(number)[0]) == [("trigger", "began"), ("mail", "sent")]
    owner.post(f"/templates/{template}/unpublish")
    owner.person("bob")
    owner.waiting(number)
    calendar.pass_(DAY + 60)
    failed, = owner.runs(number, 1, "failed")
    assert failed["reason"] == "Template not published"


def test_metrics_say_how_workflows_do(served, owner):
    owner.active("contact.created", [node("end", "exit")])
    owner.person("ann")
    owner.until("/workflows", lambda got: got["workflows"][0]["runs"]["completed"] == 1)
    text = owner.http.get("/metrics").text
    for name in ("relay_workflow_runs{state=", "relay_workflow_due_age_seconds", 'relay_workflow_steps_total{kind="exit",outcome="exit"}',
                 'relay_workflow_runs_begun_total{trigger="contact.created"}', 'relay_workflow_runs_ended_total{status="completed"}'):
        assert name in text, name
