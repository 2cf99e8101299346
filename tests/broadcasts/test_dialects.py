"""Broadcasts in the other platforms' words: Plunk's campaigns by plain HTTP, PostStack's by its official SDK, whose models take every answer."""

from __future__ import annotations

import pytest
from poststack import PostStack
from poststack.types import Broadcast, BroadcastVariantStats

from tests.broadcasts.test_sending import addresses, expected


class Plunk:
    """Calls whose status must be the one named."""

    def __init__(self, mailing):
        self.mailing = mailing

    def ask(self, method, path, body=None, status=200):
        answer = self.mailing.http.request(method, f"/plunk{path}", json=body)
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def campaign(self, status=201, **given):
        sender = f"news@{self.mailing.domain}"
        body = {"name": "Launch", "subject": "Hello {{ first_name ?? 'friend' }}", "body": "<p>{{ data.plan }}</p>", "from": sender, **given}
        return self.ask("POST", "/campaigns", body, status)


@pytest.fixture
def plunk(tenant):
    return Plunk(tenant)


def test_a_campaign_reaches_subscribed_contacts_of_a_segment(tenant, plunk):
    people, others = tenant.people(3, properties={"plan": "pro"}), tenant.people(2, properties={"plan": "free"})
    condition = {"logic": "AND", "groups": [{"filters": [{"field": "data.plan", "operator": "equals", "value": "pro"}]}]}
    segment = plunk.ask("POST", "/segments", {"name": "Pro", "condition": condition}, 201)["id"]
    plunk.ask("PATCH", f"/contacts/{people[0].public_id}", {"subscribed": False})
    made = plunk.campaign(audienceType="SEGMENT", segmentId=segment)["data"]
    assert (made["status"], made["audienceType"], made["segmentId"]) == ("DRAFT", "SEGMENT", segment)
    plunk.ask("DELETE", f"/segments/{segment}", status=409)
    assert plunk.ask("POST", f"/campaigns/{made['id']}/send", {})["data"]["status"] == "SENDING"
    tenant.sent(made["id"])
    mail = tenant.mail(2)
    assert addresses(mail) == expected(people[1:])
    assert mail[0].get_body(("html",)).get_content().startswith("<p>pro</p>")
    stats = plunk.ask("GET", f"/campaigns/{made['id']}/stats")["data"]
    assert (stats["totalRecipients"], stats["sentCount"], stats["deliveredCount"], stats["deliveryRate"]) == (2, 2, 2, 100.0)
    assert plunk.ask("GET", f"/campaigns/{made['id']}")["status"] == "SENT"
    assert len(others) == 2


def test_a_transactional_campaign_reaches_all_and_a_headless_one_has_no_footer(tenant, plunk):
    """Contract §24, §27: TRANSACTIONAL to everybody, HEADLESS as MARKETING without the footer; what stops all mail stops both."""
    reader, gone, stopped, ruled = tenant.people(4)
    plunk.ask("PATCH", f"/contacts/{gone.public_id}", {"subscribed": False})
    tenant.post("/suppressions", {"email": stopped.email, "reason": "manual"}, 201)
    plunk.ask("POST", "/suppressions", {"name": "Rule", "kind": "ADDRESS", "pattern": ruled.email}, 201)
    said = {"body": "<p>Terms.</p><a href='{{unsubscribeUrl}}'>out</a>", "description": "to all"}
    made = plunk.campaign(type="TRANSACTIONAL", **said)["data"]
    assert (made["type"], made["description"]) == ("TRANSACTIONAL", "to all")
    copy = plunk.ask("POST", f"/campaigns/{made['id']}/duplicate", status=201)["data"]
    assert (copy["type"], copy["description"]) == ("TRANSACTIONAL", "to all")
    plunk.ask("POST", f"/campaigns/{made['id']}/send")
    assert tenant.sent(made["id"])["skipped_by_reason"] == {"suppressed": 2}
    mail = tenant.mail(2)
    assert addresses(mail) == expected([reader, gone])
    assert all(each["list-unsubscribe"] is None and each["precedence"] is None for each in mail)
    assert mail[0].get_body(("html",)).get_content().strip() == "<p>Terms.</p><a href=''>out</a>"
    other = plunk.campaign(type="HEADLESS", body="<p>Bare {{manageUrl}}</p>")["data"]["id"]
    plunk.ask("POST", f"/campaigns/{other}/send")
    assert tenant.sent(other)["skipped_by_reason"] == {"unsubscribed": 1, "suppressed": 2}
    bare = next(each for each in tenant.mail(3) if "Bare" in each.get_body(("html",)).get_content())
    assert bare["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    text = bare.get_body(("html",)).get_content()
    assert "/p/" in text
    assert "/u/" not in text
    assert plunk.ask("PUT", f"/campaigns/{copy['id']}", {"type": "HEADLESS", "description": "new"})["type"] == "HEADLESS"


def test_its_way_out_stops_campaigns_and_not_the_rest(tenant, plunk):
    contact, = tenant.people(1)
    made = plunk.campaign()["data"]["id"]
    plunk.ask("POST", f"/campaigns/{made}/send")
    mail, = tenant.mail(1)
    link = str(mail["list-unsubscribe"]).split("<")[-1].rstrip("> \r\n")
    assert tenant.http.post(link.replace(tenant.served.public, tenant.served.base)).status_code == 200
    assert plunk.ask("GET", f"/contacts/{contact.public_id}")["subscribed"] is False
    tenant.tenant.send(to=[contact.email], **{"from": tenant.sender})
    again = plunk.campaign(name="again")["data"]["id"]
    plunk.ask("POST", f"/campaigns/{again}/send")
    assert tenant.sent(again)["skipped_by_reason"] == {"unsubscribed": 1}


def test_campaigns_are_changed_copied_listed_and_deleted(tenant, plunk):
    tenant.people(1)
    made = plunk.campaign(audienceType="FILTERED", audienceCondition={"logic": "AND", "groups": [{"filters": [
        {"field": "email", "operator": "contains", "value": "p0"}]}]})["data"]["id"]
    changed = plunk.ask("PUT", f"/campaigns/{made}", {"subject": "Other", "fromName": "Acme"})
    assert (changed["subject"], changed["fromName"], changed["audienceType"]) == ("Other", "Acme", "FILTERED")
    later = plunk.ask("POST", f"/campaigns/{made}/send", {"scheduledFor": "2027-01-01T00:00:00Z"})["data"]
    assert (later["status"], later["scheduledFor"]) == ("SCHEDULED", "2027-01-01T00:00:00.000Z")
    copy = plunk.ask("POST", f"/campaigns/{made}/duplicate", status=201)["data"]
    page = plunk.ask("GET", "/campaigns?pageSize=1")
    assert (page["total"], page["totalPages"], [c["id"] for c in page["data"]]) == (2, 2, [copy["id"]])
    assert [c["id"] for c in plunk.ask("GET", "/campaigns?status=SCHEDULED")["data"]] == [made]
    plunk.ask("POST", f"/campaigns/{copy['id']}/test", {"email": f"boss@{tenant.domain}"})
    assert len(tenant.mail(1)) == 1
    assert plunk.ask("POST", f"/campaigns/{made}/cancel")["data"]["status"] == "CANCELLED"
    plunk.ask("DELETE", f"/campaigns/{made}", status=204)
    assert plunk.ask("GET", f"/campaigns/{made}", status=404)["error"]["code"] == "CAMPAIGN_NOT_FOUND"


def test_what_is_wrong_with_a_campaign_is_said_in_their_words(tenant, other, plunk):
    assert plunk.campaign(422, type="URGENT")["error"]["errors"][0]["field"] == "type"
    assert plunk.campaign(400, audienceType="SEGMENT")["error"]["errors"][0]["field"] == "segmentId"
    assert plunk.campaign(400, body="{% if x %}")["error"]["errors"][0]["field"] == "body"
    assert plunk.campaign(422, subject=None)["success"] is False
    made = plunk.campaign()["data"]["id"]
    Plunk(other).ask("GET", f"/campaigns/{made}", status=404)
    Plunk(other).ask("POST", f"/campaigns/{made}/send", status=404)


def test_every_call_of_the_sdk(tenant):
    people = tenant.people(4)
    with PostStack(tenant.tenant.key, base_url=f"{tenant.served.base}/poststack", max_retries=0) as live:
        calls = live.broadcasts
        segment = live.segments.create({"name": "All", "rules": {"operator": "and", "conditions": [
            {"field": "email", "comparator": "contains", "value": "@"}]}})["segment"]["publicId"]
        test = {"variants": [{"name": "a", "subject": "One", "text": "1", "weight": 50}, {"name": "b", "subject": "Two", "text": "2", "weight": 50}],
                "test_sample_size": 50, "test_duration_minutes": 30}
        made = calls.create({"segment_id": segment, "from": tenant.sender, "subject": "Hi", "html": "<p>Hi</p>", "ab_test": test})["broadcast"]
        assert Broadcast.model_validate(made).status == "draft"
        number = made["publicId"]
        assert calls.update(number, {"name": "March"})["broadcast"]["name"] == "March"
        assert [Broadcast.model_validate(row).public_id for row in calls.list({"search": "hi"})["data"]] == [number]
        assert calls.send_test(number, {"email": f"boss@{tenant.domain}"})["success"] is True
        assert calls.send(number) == {"success": True}
        tenant.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 2)
        assert len(BroadcastVariantStats.model_validate(calls.get_variant_stats(number)).variants) == 2
        assert [v["deliveredCount"] for v in calls.get_variants(number)["variants"]] == [1, 1]
        assert calls.end_ab_test(number) == {"success": True}
        tenant.sent(number)
        assert Broadcast.model_validate(calls.get(number)["broadcast"]).delivered_count == 4
        assert calls.performance(number)["broadcast"]["delivered"] == 4
        assert [row["id"] for row in calls.list_performance({"metric": "delivered"})["broadcasts"]] == [number]
        assert (calls.non_openers(number, limit=2)["count"], calls.non_clickers(number)["count"]) == (4, 4)
        again = calls.resend(number, {"target": "non_openers", "subject": "Again"})
        assert (again["recipientCount"], again["broadcast"]["status"], again["broadcast"]["subject"]) == (4, "draft", "Again")
        tenant.post(f"/broadcasts/{again['broadcast']['publicId']}/schedule", {"scheduled_at": "2027-01-01T00:00:00Z"})
        assert calls.get(again["broadcast"]["publicId"])["broadcast"]["status"] == "queued", "the SDK has no word for scheduled"
        assert calls.cancel(again["broadcast"]["publicId"]) == {"success": True}
        assert Broadcast.model_validate(calls.get(again["broadcast"]["publicId"])["broadcast"]).status == "cancelled"
    assert addresses(tenant.mail(5)) - expected(people) == {f"boss@{tenant.domain}": 1}
