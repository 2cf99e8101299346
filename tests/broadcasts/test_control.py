"""What its owner does with a broadcast on its way: pause, resume, cancel, schedule, change its speed, try it, copy it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from relay.control import queue
from relay.mail import ids
from relay.metrics import REGISTRY
from relay.store import retention
from relay.store.broadcasts.schema import ledger
from relay.store.retention import Keep
from tests.broadcasts.test_sending import addresses, expected


def started(tenant, count=5, **given):
    """A broadcast of which exactly one copy has left."""
    people = tenant.people(count)
    number = tenant.draft(per_minute=1, **given)
    tenant.post(f"/broadcasts/{number}/send")
    tenant.mail(1)
    tenant.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 1)
    return number, people


def test_a_paused_broadcast_rests_and_goes_on_where_it_was(tenant):
    number, people = started(tenant)
    assert tenant.post(f"/broadcasts/{number}/pause")["status"] == "paused"
    tenant.patch(f"/broadcasts/{number}", {"per_minute": None})
    beside = tenant.draft(name="beside it")
    tenant.post(f"/broadcasts/{beside}/send")
    tenant.sent(beside)
    assert tenant.get(f"/broadcasts/{number}")["pending"] == 4, "another broadcast was sent meanwhile, and of this one nothing"
    assert tenant.post(f"/broadcasts/{number}/resume")["status"] == "sending"
    assert tenant.sent(number)["delivered"] == 5
    assert addresses(tenant.mail(10)) == Counter({p.email: 2 for p in people})


def waiting(tenant):
    """The states of what the project has in the queue."""
    return [each["state"] for each in tenant.served.act(queue.every, project=tenant.tenant.project)["recipients"]]


def deferred(tenant):
    """A broadcast whose one copy its site has put off."""
    contact, = tenant.people(1)
    tenant.served.sink.script.rcpt[contact.email] = "451 4.3.0 later"
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    tenant.until(f"/emails?tag={number}", lambda answer: [e["status"] for e in answer["emails"]] == ["deferred"])
    return number


def test_what_waits_in_the_queue_is_held_and_let_go(tenant):
    number = deferred(tenant)
    shown = tenant.get(f"/broadcasts/{number}")
    assert (shown["status"], shown["queued"]) == ("sending", 1), "it is not sent before each has an outcome"
    assert tenant.post(f"/broadcasts/{number}/pause")["status"] == "paused"
    assert waiting(tenant) == ["held"]
    tenant.post(f"/broadcasts/{number}/resume")
    assert waiting(tenant) == ["deferred"]


def test_a_cancel_ends_what_waits_in_the_queue(tenant):
    number = deferred(tenant)
    tenant.post(f"/broadcasts/{number}/cancel")
    done = tenant.sent(number, "cancelled")
    assert (done["cancelled"], waiting(tenant)) == (1, [])


def test_who_unsubscribes_while_a_copy_waits_does_not_get_it(tenant):
    number = deferred(tenant)
    email = tenant.ledger(number)[0]["email"]
    contact = tenant.get("/contacts", search=email)["contacts"][0]["id"]
    tenant.post(f"/contacts/{contact}/unsubscribe")
    done = tenant.sent(number)
    assert (done["suppressed"], done["delivered"], waiting(tenant)) == (1, 0, [])


def test_a_cancelled_broadcast_reaches_nobody_else(tenant):
    number, _ = started(tenant)
    assert tenant.post(f"/broadcasts/{number}/cancel")["status"] == "cancelled"
    done = tenant.sent(number, "cancelled")
    assert (done["delivered"], done["cancelled"]) == (1, 4)
    assert Counter(row["state"] for row in tenant.ledger(number)) == {"delivered": 1, "cancelled": 4}
    assert tenant.post(f"/broadcasts/{number}/resume", status=409)["code"] == "broadcast_state"
    assert len(tenant.mail(1)) == 1


def test_a_scheduled_broadcast_waits_for_its_time(tenant):
    people = tenant.people(2)
    number = tenant.draft()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert tenant.post(f"/broadcasts/{number}/schedule", {"scheduled_at": later})["status"] == "scheduled"
    late = tenant.people(1)
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    tenant.post(f"/broadcasts/{number}/schedule", {"scheduled_at": soon})
    tenant.sent(number)
    assert addresses(tenant.mail(3)) == expected([*people, *late]), "the audience is who is in it at the start"


def test_a_scheduled_broadcast_can_be_cancelled(tenant):
    tenant.people(1)
    number = tenant.draft(scheduled_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert tenant.post(f"/broadcasts/{number}/send")["status"] == "scheduled"
    assert tenant.post(f"/broadcasts/{number}/cancel")["status"] == "cancelled"


def test_a_test_copy_goes_to_one_address_and_is_not_in_the_ledger(tenant):
    contact, = tenant.people(1)
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/test", {"email": contact.email})
    mail, = tenant.mail(1)
    assert mail["subject"] == "[Test] Hello Ann0"
    assert "/u/" in str(mail["list-unsubscribe"])
    shown = tenant.get(f"/broadcasts/{number}")
    assert (shown["status"], shown["total_recipients"]) == ("draft", 0)
    stranger = f"boss@{tenant.domain}"
    tenant.post(f"/broadcasts/{number}/test", {"email": stranger})
    assert [str(m["to"]) for m in tenant.mail(2)] == [contact.email, stranger]
    assert tenant.post(f"/broadcasts/{number}/test", {"email": "nobody"}, 422)["field"] == "email"


def test_a_duplicate_is_a_new_draft(tenant):
    tenant.people(2)
    number = tenant.draft(tracking={"clicks": True}, per_minute=600)
    tenant.post(f"/broadcasts/{number}/send")
    tenant.sent(number)
    copy = tenant.post(f"/broadcasts/{number}/duplicate", status=201)
    assert (copy["status"], copy["name"], copy["total_recipients"], copy["started_at"]) == ("draft", "March (copy)", 0, None)
    first = tenant.get(f"/broadcasts/{number}")
    assert all(copy[name] == first[name] for name in ("subject", "from", "all_contacts", "per_minute", "tracking"))


REFUSED = [
    pytest.param({"from": "nobody"}, "from", id="no address"),
    pytest.param({"subject": ""}, "subject", id="no subject"),
    pytest.param({"html": None, "text": None}, "html", id="nothing to say"),
    pytest.param({"all_contacts": False}, "segment_id", id="nobody named"),
    pytest.param({"html": "{% if x %}"}, "html", id="broken template"),
    pytest.param({"per_minute": 0}, "per_minute", id="no speed"),
    pytest.param({"rules": [{"field": "nonsense.x", "operator": "never", "value": 1}]}, None, id="no rules"),
    pytest.param({"ab_test": {"variants": [{"subject": "a", "text": "a", "weight": 50}, {"subject": "b", "text": "b", "weight": 60}]}}, "ab_test.variants",
                 id="weights"),
]


@pytest.mark.parametrize(("given", "field"), REFUSED)
def test_what_cannot_be_sent_is_refused_with_the_field(tenant, given, field):
    answer = tenant.http.post("/broadcasts", json={"from": tenant.sender, "subject": "Hi", "text": "Hi", "all_contacts": True, **given})
    if answer.status_code == 201:
        answer = tenant.http.post(f"/broadcasts/{answer.json()['id']}/send")
    assert answer.status_code == 422, answer.text
    assert field is None or answer.json()["field"] == field


STATES = [
    pytest.param("pause", id="pause a draft"),
    pytest.param("resume", id="resume a draft"),
    pytest.param("cancel", id="cancel a draft"),
    pytest.param("end-ab-test", id="end a test that there is none of"),
    pytest.param("resend", id="resend what was not sent"),
]


@pytest.mark.parametrize("act", STATES)
def test_an_act_that_its_state_forbids_changes_nothing(tenant, act):
    number = tenant.draft()
    assert tenant.http.post(f"/broadcasts/{number}/{act}").status_code in (409, 422)
    assert tenant.get(f"/broadcasts/{number}")["status"] == "draft"


def test_a_broadcast_is_sent_once(tenant):
    tenant.people(2)
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    assert tenant.post(f"/broadcasts/{number}/send", status=409)["code"] == "broadcast_not_draft"
    assert tenant.http.patch(f"/broadcasts/{number}", json={"subject": "Other"}).status_code == 409
    tenant.sent(number)
    assert len(tenant.mail(2)) == 2


def test_a_broadcast_on_its_way_cannot_be_deleted(tenant):
    number, _ = started(tenant, 2)
    assert tenant.http.delete(f"/broadcasts/{number}").status_code == 409
    tenant.post(f"/broadcasts/{number}/cancel")
    assert tenant.delete(f"/broadcasts/{number}") == {"deleted": True}
    assert tenant.http.get(f"/broadcasts/{number}").status_code == 404


def test_a_test_key_simulates(tenant):
    tenant.people(3)
    number = tenant.draft()
    key = tenant.served.tenant(mode="test", project=tenant.tenant.project)
    key.post(f"/broadcasts/{number}/send")
    assert tenant.sent(number)["delivered"] == 3
    assert tenant.mail(0) == []


def test_lists_filter_by_status_and_words(tenant):
    numbers = [tenant.draft(name=name) for name in ("spring", "summer")]
    assert [b["id"] for b in tenant.get("/broadcasts")["broadcasts"]] == numbers[::-1]
    assert [b["id"] for b in tenant.get("/broadcasts", search="SPRING")["broadcasts"]] == numbers[:1]
    assert tenant.get("/broadcasts", status="sent")["pagination"]["total"] == 0
    assert tenant.http.get("/broadcasts", params={"status": "odd"}).status_code == 422


def test_a_broadcast_that_stalls_is_seen_by_its_metric(tenant):
    """The queue is held, as after a restore: contacts wait for their turn and none comes. What only waits for remote servers does not stall."""
    def stalled():
        return REGISTRY.get_sample_value("relay_broadcast_stalled_seconds")

    runner, people = tenant.served.relay.runner, tenant.people(2)
    tenant.served.sink.script.rcpt[people[0].email] = "451 4.3.0 later"
    runner.held = True
    try:
        number = tenant.draft()
        tenant.post(f"/broadcasts/{number}/send")
        tenant.until(f"/broadcasts/{number}", lambda _: stalled() > 0.2)
    finally:
        runner.held = False
    tenant.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 1)
    tenant.until(f"/broadcasts/{number}", lambda _: stalled() == 0)
    tenant.post(f"/broadcasts/{number}/cancel")


def test_who_got_it_is_forgotten_in_time_and_its_figures_are_not(tenant, other):
    """[retention] ledger; one that has not ended keeps its rows, and a broadcast that is deleted takes them along."""
    (number, _), (going, _) = started(tenant, 1), started(other, 3)
    tenant.sent(number)
    relay = tenant.served.relay
    kept = Keep(*[1e9] * 6, ledger=0.0)
    gone = tenant.served.call(retention.sweep(relay.store, kept, relay.clock.now() + 1), 60)
    assert gone.ledger >= 1
    assert tenant.ledger(number) == []
    assert tenant.get(f"/broadcasts/{number}")["delivered"] == 1
    assert len(other.ledger(going)) == 3
    other.post(f"/broadcasts/{going}/cancel")
    other.delete(f"/broadcasts/{going}")
    assert other.http.get(f"/broadcasts/{going}").status_code == 404
    left = select(func.count()).where(ledger.c.broadcast_id == ids.internal(going))
    assert tenant.served.call(relay.store.read(lambda conn: conn.scalar(left))) == 0
