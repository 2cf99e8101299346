"""What becomes of real mail makes a contact active, and moves it through segments: delivered, opened, clicked, bounced; one project's mail and no other's."""

from __future__ import annotations

import pytest

from relay.web.tracking import record
from tests.api.test_people import tracked, visitor  # noqa: F401  a fixture
from tests.support.served import arrived

READER = "user@example.com"  # to whom the smallest email goes


def segment(tenant, field, operator="is_set", value=None, **more):
    rule = {"field": field, "operator": operator, **({} if value is None else {"value": value})}
    return tenant.post("/segments", {"name": field, "rules": [rule], **more}, 201)["id"]


def members(tenant, number):
    return [each["email"] for each in tenant.get(f"/segments/{number}/members")["contacts"]]


def joined(tenant, number):
    """Wait until the reader is in the segment."""
    return tenant.until(f"/segments/{number}/members", lambda got: [each["email"] for each in got["contacts"]] == [READER])


@pytest.fixture
def neighbour(served):
    """Another project, which knows the same person."""
    other = served.tenant()
    other.post("/contacts", {"email": READER}, 201)
    return other


def test_mail_that_is_opened_and_clicked(served, tenant, neighbour, visitor):  # noqa: F811
    number = tenant.post("/contacts", {"email": READER}, 201)["id"]
    tenant.post("/contacts", {"email": "quiet@example.com"}, 201)
    opened, clicked, delivered, often = (segment(tenant, *asked) for asked in (
        ("email.opened",), ("email.clicked",), ("email.delivered",), ("emailsClicked", "greater_than_or_equal", 2)))
    active = segment(tenant, "last_active", "in_last_days", 1)
    _, link, pixel = tracked(served, tenant)
    joined(tenant, delivered)
    assert members(tenant, active) == []
    visitor.get(pixel)
    joined(tenant, opened)
    assert members(tenant, active) == [READER]
    visitor.get(link)
    joined(tenant, clicked)
    assert members(tenant, often) == []
    visitor.get(link)
    joined(tenant, often)
    assert members(neighbour, segment(neighbour, "email.delivered")) == members(neighbour, segment(neighbour, "last_active")) == []
    assert tenant.delete(f"/contacts/{number}") == {"deleted": True}
    assert members(tenant, opened) == []


def test_a_machine_is_nobody(served, tenant, visitor):  # noqa: F811
    tenant.post("/contacts", {"email": READER}, 201)
    opened, clicked = segment(tenant, "email.opened"), segment(tenant, "email.clicked")
    _, link, pixel = tracked(served, tenant)
    visitor.get(pixel, headers={"User-Agent": "GoogleImageProxy"})
    visitor.get(link)
    joined(tenant, clicked)  # which came after it in the log
    assert members(tenant, opened) == []


def test_a_bounce(served, tenant):
    tenant.post("/contacts", {"email": "gone@example.com"}, 201)
    bounced = segment(tenant, "email.bounced", track_membership=True)
    served.sink.script.rcpt["gone@example.com"] = "550 5.1.1 no such user"
    tenant.send(to=["gone@example.com"])
    tenant.until(f"/segments/{bounced}/members", lambda got: len(got["contacts"]) == 1)
    found = tenant.until("/events?per_page=50", lambda got: any(each["type"] == "segment.email.bounced.entry" for each in got["events"]))
    assert [each["data"]["email"] for each in found["events"] if each["type"].startswith("segment.")] == ["gone@example.com"]


def test_mail_to_nobody_we_know_is_not_kept(served, tenant):
    known = tenant.post("/contacts", {"email": READER}, 201)
    delivered = segment(tenant, "email.delivered")
    arrived(served, tenant, tenant.send(to=["stranger@example.com"]))
    tenant.send()
    joined(tenant, delivered)
    assert tenant.get("/contacts")["pagination"]["total"] == 1
    assert tenant.get(f"/contacts/{known['id']}")["email"] == READER


def test_an_event_that_is_recorded_while_the_contact_goes(served, tenant):
    """The log names somebody who is no more: nothing is counted and nobody stumbles."""
    number = tenant.post("/contacts", {"email": READER}, 201)["id"]
    delivered = segment(tenant, "email.delivered")
    sent = tenant.send()
    joined(tenant, delivered)
    recipient = served.call(served.relay.store.read(lambda conn: conn.exec_driver_sql("SELECT max(id) FROM recipients").scalar()))
    tenant.delete(f"/contacts/{number}")
    served.call(served.relay.store.write(record, recipient, "email.opened", {}, served.relay.clock.now()))
    tenant.post("/contacts", {"email": "next@example.com"}, 201)
    tenant.send(to=["next@example.com"])
    tenant.until(f"/segments/{delivered}/members", lambda got: [each["email"] for each in got["contacts"]] == ["next@example.com"])
    assert tenant.get(f"/emails/{sent['id']}/events")["events"][-1]["type"] == "opened"
