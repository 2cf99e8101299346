"""What runs do while mail cannot: where the disk has no room emails wait and nothing else does, where the queue is held everything does."""

from __future__ import annotations

import pytest

from relay.clock import Clock, iso
from relay.control import queue
from relay.metrics import REGISTRY
from relay.store import gauges
from tests.support.databases import DATABASES
from tests.support.fixtures import serving
from tests.support.until import until
from tests.workflows.flowing import DAY, Flows, line, node

HUGE = 1 << 62  # octets that no disk has free


@pytest.fixture(scope="module", params=DATABASES)
def served(request, calendar):
    """A relay of this module's own, which is brought into a state that others could not work in."""
    with serving(request, clock=Clock(now=calendar.now)) as relay:
        yield relay


def set_min_free(served, size):
    async def act():
        served.relay.store.space.min_free = size

    served.call(act())


def test_where_the_disk_is_full_emails_wait_and_the_rest_goes_on(served, owner, other, calendar):
    mail = [owner.letter("mail", "Welcome {{ first_name }}"), node("end", "exit", reason="told")]
    letters = owner.active("contact.created", mail, line("mail", "end"))
    waits = owner.active("contact.created", [node("wait", "wait", delay="1d"), node("end", "exit", reason="waited")], line("wait", "end"))
    theirs = other.active("contact.created", [node("end", "exit")])
    set_min_free(served, HUGE)
    try:
        people = [owner.person(name) for name in ("ann", "bob")]
        other.person("cid")
        other.runs(theirs)
        owner.waiting(waits, 2)
        calendar.pass_(DAY + 1)
        assert len(owner.runs(waits, 2)) == 2, "a day has passed for runs that send nothing"
        held = owner.get(f"/workflows/{letters}/runs?status=running")["runs"]
        assert [each["current_node_id"] for each in held] == ["mail", "mail"]
        assert owner.mail(1, within=0.0) == []
    finally:
        set_min_free(served, 1)
    owner.runs(letters, 2)
    assert sorted(each["subject"] for each in owner.mail(2)) == ["Welcome Ann", "Welcome Bob"]
    assert sorted(each["to"] for each in owner.mail(2)) == sorted(each["email"] for each in people)


def set_waiting(served, size):
    """So many more octets are said to wait for the store than do."""
    async def act():
        served.relay.store._backend._room.bytes += size

    served.call(act())


def test_while_the_store_sheds_load_due_runs_wait_and_each_step_is_taken_once(served, owner, other, calendar):
    mail = [node("wait", "wait", delay="1d"), owner.letter("mail", "Welcome {{ first_name }}"), node("end", "exit", reason="told")]
    flow = owner.active("contact.created", mail, line("wait", "mail", "end"))
    theirs = other.active("contact.created", [node("wait", "wait", delay="1d"), node("end", "exit")], line("wait", "end"))
    for name in ("ann", "bob"):
        owner.person(name)
    other.person("cid")
    owner.waiting(flow, 2)
    other.waiting(theirs)
    set_waiting(served, HUGE)
    try:
        assert owner.http.post("/contacts", json={"email": f"dan@{owner.domain}"}).status_code in (429, 503), "nothing more is taken"
        calendar.pass_(DAY + 1)
        gauges.SHED.labels("store").set(0)
        until(lambda: REGISTRY.get_sample_value("relay_load_shed_active", {"reason": "store"}) == 1)
        for project, number in ((owner, flow), (other, theirs)):
            assert {each["current_node_id"] for each in project.get(f"/workflows/{number}/runs?status=running")["runs"]} == {"wait"}
    finally:
        set_waiting(served, -HUGE)
    taken = [("wait", "waiting"), ("wait", "waited"), ("mail", "sent"), ("end", "exit")]
    assert [owner.history(flow, run)[1:] for run in owner.runs(flow, 2)] == [taken, taken]
    assert sorted(str(each["subject"]) for each in owner.mail(2)) == ["Welcome Ann", "Welcome Bob"]
    other.runs(theirs)


@pytest.fixture(params=DATABASES)
def holding(request, calendar):
    """A project of a relay whose queue is held."""
    with serving(request, clock=Clock(now=calendar.now), hold=True) as relay:
        yield Flows(relay.tenant())


def test_a_queue_that_is_held_holds_runs_until_it_is_released(holding, calendar):
    mail = [holding.letter("mail", "Welcome"), node("end", "exit")]
    flow = holding.active("contact.created", mail, line("mail", "end"))
    person = holding.person("ann")
    calendar.pass_(3_600)
    released = iso(calendar.now())
    holding.served.act(queue.release, everything=True)
    run, = holding.runs(flow)
    assert (run["contact_id"], run["started_at"] >= released) == (person["id"], True), "nothing of it before the release"
    assert [each["subject"] for each in holding.mail(1)] == ["Welcome"]


def test_mail_to_a_site_that_is_suspended_waits_in_the_queue_and_the_run_goes_on(served, owner):
    served.act(queue.suspend, owner.domain)
    try:
        flow = owner.active("contact.created", [owner.letter("mail"), node("end", "exit")], line("mail", "end"))
        owner.person("ann")
        run, = owner.runs(flow)
        sent = owner.get(f"/workflows/{flow}/runs/{run['id']}")["steps"][1]["detail"]["email_id"]
        assert owner.get(f"/emails/{sent}")["status"] == "queued"
    finally:
        served.act(queue.resume, owner.domain)
    assert owner.until(f"/emails/{sent}", lambda got: got["status"] == "delivered")
