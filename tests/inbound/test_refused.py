"""Refusals at delivery: only what a server says of the recipient suppresses, in the transaction that records it; soft ones when they come again and again."""

import time

import pytest
from sqlalchemy import update

from relay import housekeeping
from relay.control import suppress
from relay.control.explain import explain
from relay.store import suppressions as stored
from relay.store.schema import recipients, suppressions
from tests.support.served import email
from tests.support.sink import Script

DAY = 86_400.0


@pytest.fixture(autouse=True)
def friendly(served):
    """The far side refuses nobody when a test is over."""
    yield
    served.sink.script.rcpt.clear()
    served.sink.script.dot = Script().dot


def refused(tenant, to, words, status="bounced", **given):
    """The id of a message to this address, which the far side refuses with these words at RCPT."""
    tenant.served.sink.script.rcpt[to] = words
    sent = tenant.send(to=[to], **given)
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == status)
    return sent["id"]


def listed(tenant):
    return [(each["email"], each["reason"], each["evidence"].get("rule")) for each in tenant.get("/suppressions")["suppressions"]]


@pytest.mark.parametrize(("words", "rule"), [
    pytest.param("550 5.1.1 <%s>: Recipient address rejected: User unknown in virtual mailbox table", "no-such-user", id="no-such-user"),
    pytest.param("550 5.1.1 oops", "status-bad-mailbox", id="status-alone"),
    pytest.param("550 5.2.1 The email account that you tried to reach is disabled", "mailbox-disabled", id="disabled"),
])
def test_a_hard_refusal_suppresses_with_its_evidence(tenant, words, rule):
    contact = tenant.post("/contacts", {"email": "gone@example.com"}, 201)
    number = refused(tenant, "gone@example.com", words.replace("%s", "gone@example.com"))
    assert listed(tenant) == [("gone@example.com", "hard_bounce", rule)]
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["evidence"]["source"], entry["evidence"]["phase"], entry["expires_at"]) == ("delivery", "rcpt", None)
    assert entry["evidence"]["reply"] == words.replace("%s", "gone@example.com")
    assert tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is True
    events = {each["type"]: each["data"] for each in tenant.get("/events")["events"]}
    assert (events["email.bounced"]["category"], events["email.bounced"]["rule"]) == ("hard", rule)
    assert events["contact.bounced"] == {"contact_id": contact["id"], "email_id": number, "email": "gone@example.com", "source": "delivery", "rule": rule}
    assert events["contact.unsubscribed"]["reason"] == "bounce"
    told = tenant.served.act(explain, "gone@example.com", project=tenant.project)
    assert told["suppressions"][0]["evidence"]["rule"] == rule


@pytest.mark.parametrize("words", [
    pytest.param("550 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", id="reputation"),
    pytest.param("554 5.7.1 Message rejected as spam by content filtering", id="content"),
    pytest.param("550 5.7.26 This mail is unauthenticated, which poses a security risk: SPF and DKIM did not pass", id="policy"),
    pytest.param("550 5.1.1 user unknown: your IP has a poor reputation", id="reputation-under-the-status-of-an-unknown-user"),
    pytest.param("550 Administrative prohibition", id="bare-550"),
    pytest.param("550", id="bare-550-without-a-word"),
    pytest.param("554 5.2.2 mailbox full", id="full"),
    pytest.param("550 5.4.1 Recipient address rejected: too many sessions", id="rate"),
])
def test_nothing_else_suppresses(tenant, words):
    contact = tenant.post("/contacts", {"email": "fine@example.com"}, 201)
    refused(tenant, "fine@example.com", words)
    assert listed(tenant) == []
    assert tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is False


def test_what_waits_for_the_address_stops_and_the_neighbour_goes_on(served, tenant):
    """Two projects, one dead address: it is dead for the one that has the evidence."""
    other = served.tenant()
    later = {who: who.send(to=["dead@example.com"], scheduled_at="2027-06-01T09:00:00Z")["id"] for who in (tenant, other)}
    refused(tenant, "dead@example.com", "550 5.1.1 no such user")
    assert tenant.get(f"/emails/{later[tenant]}")["status"] == "suppressed"
    assert other.get(f"/emails/{later[other]}")["status"] == "scheduled"
    assert listed(other) == []


def shift(tenant, to, days):
    """Let the ends of mail to this address be so many days older than they are."""
    def back(conn):
        whose = (recipients.c.project_id == tenant.number, recipients.c.key == to, recipients.c.ended_at.is_not(None))
        conn.execute(update(recipients).where(*whose).values(ended_at=recipients.c.ended_at - days * DAY))

    tenant.served.call(tenant.served.relay.store.write(back))


@pytest.mark.parametrize(("gaps", "delivery", "reason"), [
    pytest.param((1, 1, 1, 1), None, "soft_bounce", id="five-days-running"),
    pytest.param((7, 7, 7, 7), None, "soft_bounce", id="five-days-within-thirty"),
    pytest.param((8, 8, 8, 8), None, None, id="the-first-is-too-long-ago"),
    pytest.param((0, 0, 0, 0), None, None, id="five-on-one-day"),
    pytest.param((1, 1, 1, 1), 2, None, id="a-delivery-between"),
])
def test_soft_bounces_wear_an_address_out(tenant, gaps, delivery, reason):
    to = "worn@example.com"
    refused(tenant, to, "554 5.2.2 mailbox full")
    for number, days in enumerate(gaps):
        shift(tenant, to, days)
        if number == delivery:
            del tenant.served.sink.script.rcpt[to]
            sent = tenant.send(to=[to])
            tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
        refused(tenant, to, "554 5.2.2 mailbox full")
    found = tenant.get("/suppressions")["suppressions"]
    assert [each["reason"] for each in found] == ([reason] if reason else [])
    if reason:
        (row,) = tenant.served.call(tenant.served.relay.store.read(stored.of, tenant.number, to))
        assert row.expires_at - row.created_at == pytest.approx(14 * DAY)
        assert tenant.http.post("/emails", json=email(to=[to])).json()["code"] == "recipient_suppressed"


def age(tenant, **values):
    def write(conn):
        conn.execute(update(suppressions).where(suppressions.c.project_id == tenant.number).values(**values))

    tenant.served.call(tenant.served.relay.store.write(write))


def chore(served, which):
    relay = served.relay
    served.call(which(housekeeping.House(relay.store, relay.config, relay.clock, relay.control, relay.tools.keeper, relay.connector)))


def test_an_entry_ends_by_itself_and_gives_back_what_it_took(served, tenant):
    contact = tenant.post("/contacts", {"email": "back@example.com"}, 201)
    refused(tenant, "back@example.com", "550 5.1.1 no such user")
    age(tenant, expires_at=time.time() - 1)
    chore(served, housekeeping.lapse)
    assert listed(tenant) == []
    assert tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is False
    del served.sink.script.rcpt["back@example.com"]
    sent = tenant.send(to=["back@example.com"])
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")


def test_undo_of_a_rule_gives_back_its_own_and_nothing_else(served, tenant):
    people = {name: tenant.post("/contacts", {"email": f"{name}@example.com"}, 201)["id"] for name in ("a", "b", "left")}
    other = served.tenant()
    tenant.post(f"/contacts/{people['left']}/unsubscribe")
    for name, words in (("a", "550 5.1.1 no such user"), ("left", "550 5.1.1 no such user"), ("b", "550 5.2.1 account disabled")):
        refused(tenant, f"{name}@example.com", words)
    refused(other, "a@example.com", "550 5.1.1 no such user")
    assert served.act(suppress.undo, project=tenant.project, rule="no-such-user", since=time.time() + 60) == {"removed": 0}
    assert served.act(suppress.undo, project=tenant.project, rule="no-such-user", since=time.time() - 60) == {"removed": 2}
    assert sorted(listed(tenant)) == [("b@example.com", "hard_bounce", "mailbox-disabled"), ("left@example.com", "unsubscribe", None)]
    state = {name: tenant.get(f"/contacts/{number}")["unsubscribed"] for name, number in people.items()}
    assert state == {"a": False, "b": True, "left": True}
    assert listed(other) == [("a@example.com", "hard_bounce", "no-such-user")]


def test_a_refusal_of_several_at_once_is_nobodys(served, tenant):
    """After the DATA of one transaction for two, "no such user" does not say which."""
    served.sink.script.dot = "550 5.1.1 no such user"
    sent = tenant.send(to=["one@example.com", "two@example.com"])
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "bounced")
    assert listed(tenant) == []
    sent = tenant.send(to=["one@example.com"])
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "bounced")
    assert listed(tenant) == [("one@example.com", "hard_bounce", "no-such-user")]
