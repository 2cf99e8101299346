"""A broadcast reaches everybody in its audience who may get it, once, in their own words, with the way out always there."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape

import pytest


def addresses(mail):
    return Counter(str(m["to"]) for m in mail)


def expected(people):
    return Counter(p.email for p in people)


def test_each_contact_gets_one_mail_of_their_own(tenant):
    people = tenant.people(30)
    number = tenant.draft()
    assert tenant.post(f"/broadcasts/{number}/send")["status"] == "queued"
    done = tenant.sent(number)
    mail = tenant.mail(30)
    assert addresses(mail) == expected(people)
    assert (done["total_recipients"], done["delivered"], done["skipped"]) == (30, 30, 0)
    first = {str(m["to"]): m for m in mail}[people[1].email]
    assert first["subject"] == "Hello Ann1"
    assert "Your plan is pro." in first.get_body(("plain",)).get_content()
    assert "Dear Ann1, you are on pro." in first.get_body(("html",)).get_content()
    rows = tenant.ledger(number)
    assert sorted(row["contact_id"] for row in rows) == sorted(p.public_id for p in people)
    assert {row["state"] for row in rows} == {"delivered"}
    events = tenant.get("/events", type="broadcast.completed")["events"]
    assert [e["data"]["broadcast_id"] for e in events] == [number]
    assert tenant.get("/events", type="broadcast.started")["events"]


def test_many_contacts_are_rendered_in_a_process_of_their_own(tenant):
    people = tenant.people(240, domains=7)
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    assert tenant.sent(number, within=40)["delivered"] == 240
    assert addresses(tenant.mail(240)) == expected(people)
    page = tenant.get(f"/broadcasts/{number}/recipients", limit=200)
    rest = tenant.get(f"/broadcasts/{number}/recipients", limit=200, cursor=page["next_cursor"])
    assert {row["contact_id"] for row in page["recipients"] + rest["recipients"]} == {p.public_id for p in people}


AUDIENCES = [
    pytest.param("segment", id="dynamic segment"),
    pytest.param("list", id="static segment"),
    pytest.param("audience", id="audience"),
    pytest.param("rules", id="rules of its own"),
    pytest.param("topic", id="topic"),
    pytest.param("all", id="all contacts"),
]


def aimed(tenant, kind, some, others):
    """What names the audience `some` in a draft, and who that is."""
    rules = [{"field": "properties.plan", "operator": "equals", "value": "vip"}]
    emails = [p.email for p in some]
    if kind == "segment":
        return {"segment_id": tenant.post("/segments", {"name": "VIP", "rules": rules}, 201)["id"]}, some
    if kind == "rules":
        return {"rules": rules}, some
    if kind == "list":
        made = tenant.post("/segments", {"name": "Hand picked"}, 201)["id"]
        tenant.post(f"/segments/{made}/members", {"emails": emails})
        return {"segment_id": made}, some
    if kind == "audience":
        made = tenant.post("/audiences", {"name": "Readers"}, 201)["id"]
        tenant.post(f"/audiences/{made}/contacts", {"contact_ids": [p.public_id for p in some]})
        return {"audience_id": made}, some
    if kind == "topic":
        return {"topic_id": tenant.post("/subscription-topics", {"name": "Changelog"}, 201)["id"]}, [*some, *others]
    return {"all_contacts": True}, [*some, *others]


@pytest.mark.parametrize("kind", AUDIENCES)
def test_an_audience_is_who_is_named_and_nobody_else(tenant, other, kind):
    other.people(3, properties={"plan": "vip"})
    some, others = tenant.people(4, properties={"plan": "vip"}), tenant.people(3, properties={"plan": "free"})
    named, wanted = aimed(tenant, kind, some, others)
    number = tenant.draft(**named)
    tenant.post(f"/broadcasts/{number}/send")
    assert tenant.sent(number)["total_recipients"] == len(wanted)
    assert addresses(tenant.mail(len(wanted))) == expected(wanted)
    assert other.mail(0) == []


def test_who_must_not_be_mailed_is_skipped_and_counted(tenant):
    people = tenant.people(6)
    topic = tenant.post("/subscription-topics", {"name": "Offers"}, 201)["id"]
    tenant.post(f"/contacts/{people[0].public_id}/unsubscribe")
    tenant.post("/suppressions", {"email": people[1].email, "reason": "manual"}, 201)
    tenant.delete(f"/subscription-topics/contacts/{people[2].public_id}/subscriptions/{topic}")
    number = tenant.draft(topic_id=topic)
    tenant.post(f"/broadcasts/{number}/send")
    done = tenant.sent(number)
    assert done["skipped_by_reason"] == {"opted_out": 1, "suppressed": 1, "unsubscribed": 1}
    assert addresses(tenant.mail(3)) == expected(people[3:])
    by_state = Counter((row["state"], row["reason"]) for row in tenant.ledger(number))
    assert by_state == {("delivered", None): 3, ("skipped", "unsubscribed"): 1, ("skipped", "suppressed"): 1, ("skipped", "opted_out"): 1}
    elsewhere = tenant.draft(name="no topic")
    tenant.post(f"/broadcasts/{elsewhere}/send")
    assert tenant.sent(elsewhere)["delivered"] == 4, "an opt-out of a topic is one of that topic"


def test_an_unsubscribe_while_it_is_sent_is_respected(tenant):
    people = tenant.people(5)
    number = tenant.draft(per_minute=1)
    tenant.post(f"/broadcasts/{number}/send")
    first = tenant.mail(1)[0]
    waiting = [p for p in people if p.email != str(first["to"])]
    tenant.post(f"/contacts/{waiting[0].public_id}/unsubscribe")
    tenant.delete(f"/contacts/{waiting[1].public_id}")
    tenant.patch(f"/broadcasts/{number}", {"per_minute": None})
    done = tenant.sent(number)
    assert (done["delivered"], done["skipped_by_reason"]) == (3, {"deleted": 1, "unsubscribed": 1})
    assert waiting[0].email not in addresses(tenant.mail(3))


def test_the_way_out_is_always_there(tenant):
    tenant.patch("/project", {"name": "Acme", "postal_address": "1 Main St\nSpringfield", "language": "de"})
    contact, = tenant.people(1)
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    mail, = tenant.mail(1)
    link = re.search(r"<(http[^>]+/u/[^>]+)>", str(mail["list-unsubscribe"]))[1]
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert mail["precedence"] == "bulk"
    for kind in ("plain", "html"):
        text = mail.get_body((kind,)).get_content()
        assert link in text
        assert [words for words in ("Acme", "1 Main St", "Springfield", "Abmelden") if words not in text] == [], text
    tenant.sent(number)
    assert tenant.http.post(link.replace(tenant.served.public, tenant.served.base), data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert tenant.get(f"/contacts/{contact.public_id}")["unsubscribed"] is True
    assert [s["email"] for s in tenant.get("/suppressions")["suppressions"]] == [contact.email]
    tenant.until(f"/broadcasts/{number}", lambda b: b["unsubscribed"] == 1)
    again = tenant.draft()
    tenant.post(f"/broadcasts/{again}/send")
    assert tenant.sent(again)["skipped_by_reason"] == {"unsubscribed": 1}


def test_a_template_is_sent_as_it_was_at_the_start(tenant):
    tenant.people(2)
    made = tenant.post("/templates", {"name": "News", "subject": "From a template", "html": "<p>Hi {{ first_name }}</p>"}, 201)["id"]
    number = tenant.draft(template_id=made, subject=None, html=None, text=None)
    assert tenant.post(f"/broadcasts/{number}/send", status=422)["code"] == "template_not_published"
    tenant.post(f"/templates/{made}/publish")
    tenant.post(f"/broadcasts/{number}/send")
    tenant.sent(number)
    assert {m["subject"] for m in tenant.mail(2)} == {"From a template"}


def test_properties_never_break_a_header_or_the_markup(tenant):
    tenant.people(1, first_name="Eve\r\nBcc: all@x.test", properties={"plan": "<script>1</script>"})
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    mail, = tenant.mail(1)
    assert mail["bcc"] is None
    assert mail["subject"] == "Hello Eve Bcc: all@x.test"
    assert "&lt;script&gt;" in mail.get_body(("html",)).get_content()


def test_a_copy_is_an_email_like_any_other(tenant):
    contact, = tenant.people(1)
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    tenant.sent(number)
    email, = tenant.get("/emails", tag=number)["emails"]
    assert (email["to"], email["subject"], email["status"]) == ([contact.email], "Hello Ann0", "delivered")
    assert [e["type"] for e in tenant.get(f"/emails/{email['id']}/events")["events"]][-1] == "delivered"


def test_a_second_project_sees_nothing(tenant, other):
    tenant.people(1)
    number = tenant.draft()
    for call in (other.http.get, other.http.delete):
        assert call(f"/broadcasts/{number}").status_code == 404
    for act in ("send", "pause", "resume", "cancel", "duplicate", "resend", "end-ab-test"):
        assert other.http.post(f"/broadcasts/{number}/{act}").status_code == 404, act
    assert other.http.get(f"/broadcasts/{number}/recipients").status_code == 404
    assert other.get("/broadcasts")["broadcasts"] == []
    segment = tenant.post("/segments", {"name": "Mine"}, 201)["id"]
    assert other.http.post("/broadcasts", json={"from": other.sender, "segment_id": segment}).status_code == 404


@pytest.mark.parametrize(("locale", "word"), [pytest.param("fr", "Se désabonner", id="of the contact"), pytest.param("xx", "Abmelden", id="of the project")])
def test_the_footer_is_in_the_readers_language(tenant, locale, word):
    tenant.patch("/project", {"language": "de"})
    tenant.people(1, properties={"locale": locale})
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    assert word in unescape(tenant.mail(1)[0].get_body(("html",)).get_content())
