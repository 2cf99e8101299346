"""Unsubscribe by mail: the address in List-Unsubscribe acts as the link does, with any content, from anybody."""

import re

import pytest

from relay.metrics import REGISTRY
from tests.support.served import arrived
from tests.support.served import email as draft


def way_out(message):
    return re.search(r"<mailto:(unsub\+[a-z2-7]+@relay\.test)>", message["List-Unsubscribe"])[1]


def entries(tenant):
    return [(e["email"], e["reason"], e["scope"], e["evidence"]["source"]) for e in tenant.get("/suppressions")["suppressions"]]


@pytest.mark.parametrize(("sender", "content"), [
    pytest.param("", b"", id="null sender, nothing at all"),
    pytest.param("somebody@else.test", b"From: somebody@else.test\r\nSubject: unsubscribe\r\n\r\nplease\r\n", id="another person"),
    pytest.param("user@example.com", b"\xff\xfe not a message", id="octets"),
    pytest.param("user@example.com", b"Auto-Submitted: auto-generated\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b", id="a mail program by itself"),
])
def test_any_content_from_any_sender(served, tenant, sender, content):
    sent = tenant.send(unsubscribe=True)
    to = way_out(arrived(served, tenant, sent)[0])
    for _ in range(2):
        assert served.post(to, content, sender) == (250, b"2.0.0 done")
    assert entries(tenant) == [("user@example.com", "unsubscribe", "all", "mailto")]
    assert [each["type"] for each in tenant.get(f"/emails/{sent['id']}/events")["events"]] == ["queued", "sent", "delivered", "unsubscribed"]
    assert tenant.http.post("/emails", json=draft()).json()["code"] == "recipient_suppressed"


def test_letters_folded_by_a_mail_server_count_the_same(served, tenant):
    to = way_out(arrived(served, tenant, tenant.send(unsubscribe=True))[0])
    assert served.post(to.upper())[0] == 250
    assert len(entries(tenant)) == 1


def left(method):
    """How many have left by this way."""
    return REGISTRY.get_sample_value("relay_unsubscribe_events_total", {"method": method}) or 0.0


def test_each_who_leaves_is_counted_once_by_the_way(served, tenant):
    ways = ("mailto", "one-click", "page")
    before = [left(way) for way in ways]
    letters = [arrived(served, tenant, tenant.send(to=[f"{name}@example.com"], unsubscribe=True))[0] for name in ("one", "two", "three")]
    links = [re.search(r"<https?://[^/>]+(/u/[^>]+)>", letter["List-Unsubscribe"])[1] for letter in letters]
    for _ in range(2):
        served.post(way_out(letters[0]))
        assert tenant.http.post(links[1], data={"List-Unsubscribe": "One-Click"}).status_code == 200
        assert tenant.http.post(links[2]).status_code == 200
    assert [left(way) - count for way, count in zip(ways, before, strict=True)] == [1, 1, 1]


def test_a_topic_stops_its_own_mail_only(served, tenant):
    served.post(way_out(arrived(served, tenant, tenant.send(topic_id="top_news"))[0]))
    assert entries(tenant) == [("user@example.com", "unsubscribe", "topic:top_news", "mailto")]
    tenant.send()


def test_what_waits_is_stopped(served, tenant):
    to = way_out(arrived(served, tenant, tenant.send(unsubscribe=True))[0])
    waiting = tenant.send(scheduled_at="2027-06-01T09:00:00Z")
    served.post(to)
    assert tenant.get(f"/emails/{waiting['id']}")["status"] == "suppressed"


def test_several_at_once_and_nobody_elses(served, tenant):
    """One mail to the addresses of two people; a third of the same project and the same person in another project stay."""
    other = served.tenant()
    out = [way_out(arrived(served, who, who.send(to=[to], unsubscribe=True))[0]) for who, to in ((tenant, "one@example.com"), (tenant, "two@example.com"))]
    arrived(served, other, other.send(to=["one@example.com"], unsubscribe=True))
    assert served.post(out) == (250, b"2.0.0 done")
    assert sorted(e[0] for e in entries(tenant)) == ["one@example.com", "two@example.com"]
    assert entries(other) == []
    tenant.send(to=["three@example.com"])
