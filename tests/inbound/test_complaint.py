"""Complaints and reports that come to no token: found by our marks in what they return, on both databases."""

import quopri
import smtplib
import time

import pytest

from relay.control.explain import explain
from relay.store import domains
from relay.store.domains import VERIFIED, Domain
from tests.broadcasts.mailing import Mailing
from tests.inbound.samples import sample
from tests.inbound.test_bounce import add_domain

FEEDBACK = "feedback@relay.test"


def delivered(tenant, to=("user@example.com",), **given):
    """The id of a message that was delivered, and its octets as the far side got them."""
    sent = tenant.send(to=list(to), **given)
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    copies = [each.content for each in tenant.served.sink.messages if f"<{sent['id']}@relay.test>".encode() in each.content]
    return sent["id"], copies[0]


def filled(name, copy, **replaced):
    """A sample with the message that it returns, whole or its header quoted-printable."""
    header = copy.partition(b"\r\n\r\n")[0] + b"\r\n"
    quoted = quopri.encodestring(header.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    octets = sample(name).replace(b"RETURNED\r\n", copy).replace(b"HEADERS\r\n", quoted)
    for old, new in replaced.items():
        octets = octets.replace(old.encode(), new)
    return octets


def unmarked(copy):
    """The copy without any mark of ours."""
    lines = copy.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"relay-trace:"))


def state(tenant, number):
    types = [each["type"] for each in tenant.get(f"/emails/{number}/events")["events"]]
    return tenant.get(f"/emails/{number}")["status"], types[3:], [(e["email"], e["reason"]) for e in tenant.get("/suppressions")["suppressions"]]


COMPLAINED = ("complained", ["complained"], [("user@example.com", "complaint")])
QUIET = ("delivered", [], [])


@pytest.mark.parametrize(("name", "expected"), [
    pytest.param("arf", COMPLAINED, id="unredacted"),
    pytest.param("arf_redacted", COMPLAINED, id="redacted-headers-only-quoted-printable"),
    pytest.param("hotmail", COMPLAINED, id="hotmail"),
    pytest.param("arf_not_spam", QUIET, id="not-spam"),
    pytest.param("arf_authentication", QUIET, id="authentication-failure"),
    pytest.param("vacation", QUIET, id="no-report-at-all"),
])
@pytest.mark.parametrize("to", [FEEDBACK, "FBL@relay.test"])
def test_a_complaint_finds_its_recipient(tenant, name, expected, to):
    number, copy = delivered(tenant)
    assert tenant.served.post(to, filled(name, copy)) == (250, b"2.0.0 done")
    assert state(tenant, number) == expected


@pytest.mark.parametrize(("name", "strip", "expected"), [
    pytest.param("arf", False, COMPLAINED, id="marked"),
    pytest.param("arf", True, COMPLAINED, id="message-id-and-recipient"),
    pytest.param("hotmail", True, COMPLAINED, id="hotmail-message-id-and-recipient"),
    pytest.param("arf_redacted", True, QUIET, id="redacted-and-unmarked-is-nobody"),
])
def test_without_marks_the_recipient_and_the_message_id_must_agree(tenant, name, strip, expected):
    number, copy = delivered(tenant)
    tenant.served.post(FEEDBACK, filled(name, unmarked(copy) if strip else copy))
    assert state(tenant, number) == expected


def test_a_complaint_unsubscribes_stops_what_waits_and_is_told(served, tenant):
    contact = tenant.post("/contacts", {"email": "User@Example.com"}, 201)
    number, copy = delivered(tenant)
    waiting = tenant.send(to=["user@example.com"], scheduled_at="2027-06-01T09:00:00Z")["id"]
    for _ in range(3):
        served.post(FEEDBACK, filled("arf", copy))
    assert tenant.get(f"/emails/{waiting}")["status"] == "suppressed"
    assert tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is True
    assert [each["id"] for each in tenant.get("/emails", status="complained")["emails"]] == [number]
    events = tenant.get("/events")["events"]
    (told,) = [each["data"] for each in events if each["type"] == "email.complained"]
    assert (told["to"], told["feedback_type"], told["reporter"]) == ("user@example.com", "abuse", "SomeGenerator/1.0")
    (left,) = [each["data"] for each in events if each["type"] == "contact.unsubscribed"]
    assert left["reason"] == "complaint"
    found = served.act(explain, number)
    assert found["messages"][0]["recipients"][0]["state"] == "complained"
    (entry,) = served.act(explain, "user@example.com", project=tenant.project)["suppressions"]
    assert entry["evidence"]["feedback_type"] == "abuse"
    assert 'relay_complaints_total{provider="other"}' in tenant.http.get("/metrics").text


def test_where_recipients_share_a_copy_the_report_names_who_it_was(tenant):
    number, copy = delivered(tenant, ("user@example.com", "friend@example.com"))
    tenant.served.post(FEEDBACK, filled("arf_redacted", copy))
    assert state(tenant, number)[2] == []
    tenant.served.post(FEEDBACK, filled("arf", copy))
    assert state(tenant, number)[2] == [("user@example.com", "complaint")]
    states = {each["email"]: each["status"] for each in tenant.get(f"/emails/{number}")["recipients"]}
    assert states == {"user@example.com": "complained", "friend@example.com": "delivered"}


def test_a_complaint_counts_though_the_ledger_says_that_nothing_arrived(served, tenant):
    """A later hop has sent a failure, and the reader has the message all the same."""
    name = f"{tenant.project}.example"
    add_domain(served, tenant, name)
    number, copy = delivered(tenant, **{"from": f"you@{name}"})
    (path,) = [each.sender for each in served.sink.messages if each.content == copy]
    served.post(path, sample("exchange_full"))
    assert state(tenant, number) == ("bounced", ["bounced"], [])
    for _ in range(2):
        served.post(FEEDBACK, filled("arf_redacted", copy))
    assert state(tenant, number) == ("bounced", ["bounced", "complained"], [("user@example.com", "complaint")])


def test_the_same_report_again_takes_nothing_that_was_given_back(served, tenant):
    number, copy = delivered(tenant)
    served.post(FEEDBACK, filled("arf", copy))
    tenant.delete("/suppressions/user@example.com")
    served.post(FEEDBACK, filled("arf", copy))
    assert state(tenant, number) == ("complained", ["complained"], [])


def test_two_projects_never_cross(served, tenant):
    """The same person has mail of both; a complaint about one's says nothing of the other's."""
    other = served.tenant()
    mine, copy = delivered(tenant)
    theirs, _ = delivered(other)
    served.post(FEEDBACK, filled("arf", copy))
    assert state(tenant, mine) == COMPLAINED
    assert state(other, theirs) == QUIET


def inbound(served, tenant):
    """A domain of the project that takes mail here."""
    name, now = f"{tenant.project}.example", time.time()
    row = Domain(served.relay.maker.next(), tenant.number, name, VERIFIED, {}, {"inbound_enabled": True}, now, now)
    served.call(served.relay.store.write(domains.add, row))
    served.relay.changed("domains")
    return name


@pytest.mark.parametrize(("name", "strip", "expected"), [
    pytest.param("postfix", False, ("bounced", ["bounced"], [("user@example.com", "hard_bounce")]), id="hard"),
    pytest.param("postfix", True, ("bounced", ["bounced"], [("user@example.com", "hard_bounce")]), id="hard-by-message-id-and-recipient"),
    pytest.param("postfix_delayed", False, ("delivered", ["deferred"], []), id="delayed"),
])
@pytest.mark.parametrize("where", ["feedback", "domain"])
def test_a_report_about_mail_with_the_senders_own_reverse_path(served, tenant, name, strip, expected, where):
    """It comes to the sender's own domain, or to the feedback address, and our mark in what it returns says whose it is."""
    to = FEEDBACK if where == "feedback" else f"you@{inbound(served, tenant)}"
    number, copy = delivered(tenant)
    copy = unmarked(copy) if strip else copy
    served.post(to, returned(name, copy))
    assert state(tenant, number) == expected


def returned(name, copy):
    """The sample with the header of this copy as what it returns."""
    header = copy.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    octets = sample(name)
    boundary = octets.partition(b'boundary="')[2].partition(b'"')[0]
    head, _, _ = octets.partition(b"--" + boundary + b"\r\nContent-Description: Undelivered") if b"Undelivered Message" in octets else (
        octets.rpartition(b"--" + boundary + b"--")[0], b"", b"")
    return b"".join((head, b"--", boundary, b"\r\nContent-Type: text/rfc822-headers\r\n\r\n", header, b"--", boundary, b"--\r\n"))


def test_a_report_at_a_domain_is_about_its_own_project_only(served, tenant):
    other = served.tenant()
    theirs, copy = delivered(other)
    served.post(f"you@{inbound(served, tenant)}", returned("postfix", copy))
    assert state(other, theirs) == QUIET
    with pytest.raises(smtplib.SMTPResponseException, match="relaying denied"):
        served.post(f"you@{other.project}.example", returned("postfix", copy))


def test_a_complaint_at_a_return_path_is_one_too(served, tenant):
    name = f"{tenant.project}.example"
    add_domain(served, tenant, name)
    sent = tenant.send(**{"from": f"you@{name}", "to": ["user@example.com"]})
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    (copy,) = [each for each in served.sink.messages if f"<{sent['id']}@relay.test>".encode() in each.content]
    served.post(copy.sender, filled("arf_redacted", unmarked(copy.content)))
    assert state(tenant, sent["id"]) == COMPLAINED


def test_a_complaint_counts_for_its_broadcast_and_leaves_others_alone(served):
    """The copy that one reader reports: in the figures and the ledger of its own broadcast, not in those of another project's."""
    mine, theirs = Mailing(served.tenant()), Mailing(served.tenant())
    people = {each: each.people(2) for each in (mine, theirs)}
    sent = {each: each.draft() for each in (mine, theirs)}
    for each, number in sent.items():
        each.post(f"/broadcasts/{number}/send")
        each.sent(number)
    who = people[mine][0].email
    (copy,) = [each.content for each in served.sink.messages if list(each.recipients) == [who]]
    for _ in range(2):
        served.post(FEEDBACK, filled("arf_redacted", copy))
    told = mine.until(f"/broadcasts/{sent[mine]}/performance", lambda p: p["broadcast"]["complained"])["broadcast"]
    assert (told["complained"], told["complaint_rate"]) == (1, 0.5)
    assert [row["email"] for row in mine.ledger(sent[mine]) if row["complained_at"]] == [who]
    assert theirs.get(f"/broadcasts/{sent[theirs]}/performance")["broadcast"]["complained"] == 0
    assert mine.get("/suppressions")["suppressions"][0]["evidence"]["feedback_type"] == "abuse"
    assert theirs.get("/suppressions")["suppressions"] == []
