"""Segments, audiences and topics over HTTP: saved questions that are asked anew, lists kept by hand, groups, and streams to leave one by one."""

from __future__ import annotations

import pytest

from tests.support.served import email

ENTERPRISE = {"name": "Enterprise Users", "type": "dynamic", "rules": [{"field": "properties.plan", "operator": "equals", "value": "enterprise"}]}
TREE = {"operator": "or", "conditions": [{"field": "plan", "comparator": "equals", "value": "enterprise"},
                                         {"field": "email", "comparator": "contains", "value": "cid"}]}
GROUPS = {"logic": "AND", "groups": [{"filters": [{"field": "data.plan", "operator": "equals", "value": "pro"},
                                                  {"field": "createdAt", "operator": "within", "value": 30, "unit": "days"}]}]}


@pytest.fixture
def people(tenant):
    """Their ids by name."""
    plans = {"ann": "enterprise", "bob": "pro", "cid": "free"}
    return {name: tenant.post("/contacts", {"email": f"{name}@example.com", "properties": {"plan": plan}}, 201)["id"] for name, plan in plans.items()}


def members(tenant, segment):
    return [each["email"].partition("@")[0] for each in tenant.get(f"/segments/{segment['id']}/members")["contacts"]]


@pytest.mark.parametrize(("body", "found", "summary"), [
    pytest.param(ENTERPRISE, ["ann"], "contacts whose plan is enterprise", id="a list of rules"),
    pytest.param({"name": "t", "rules": TREE}, ["cid", "ann"], "contacts whose plan is enterprise or whose address contains cid", id="a tree"),
    pytest.param({"name": "g", "rules": GROUPS}, ["bob"], "contacts whose plan is pro and who joined in the last 30 days", id="nested groups"),
])
def test_a_dynamic_segment(tenant, people, body, found, summary):
    made = tenant.post("/segments", body, 201)
    assert (made["name"], made["type"], made["rules"], made["contact_count"], made["summary"]) == (body["name"], "dynamic", body["rules"], len(found), summary)
    assert members(tenant, made) == found
    assert [each["email"][:3] for each in tenant.get("/contacts", segment_id=made["id"])["contacts"]] == found
    assert tenant.post("/segments/preview", {"rules": body["rules"]}) == {"count": len(found), "summary": summary}
    assert [each["email"][:3] for each in tenant.get(f"/segments/{made['id']}")["contacts"]] == found[::-1]
    assert {day["members"] for day in tenant.get(f"/segments/{made['id']}/growth")["daily"]} <= {len(found)}, "empty until the chore has counted"


def test_a_segment_follows_its_contacts(tenant, people):
    made = tenant.post("/segments", ENTERPRISE, 201)
    tenant.patch(f"/contacts/{people['bob']}", {"properties": {"plan": "enterprise"}})
    assert members(tenant, made) == ["bob", "ann"]
    tenant.delete(f"/contacts/{people['ann']}")
    assert members(tenant, made) == ["bob"]


def test_a_static_segment_is_kept_by_hand(tenant, people):
    made = tenant.post("/segments", {"name": "Beta Testers", "trackMembership": True}, 201)
    path = f"/segments/{made['id']}"
    assert (made["type"], made["rules"]) == ("static", None)
    assert tenant.post(f"{path}/contacts", {"contact_ids": [people["ann"], people["bob"]]}) == {"added": 2, "not_found": []}
    assert tenant.post(f"{path}/members", {"emails": ["ANN@example.com", "Nobody@example.com"]}) == {"added": 0, "not_found": ["Nobody@example.com"]}
    assert tenant.delete(f"{path}/contacts/{people['ann']}") == {"deleted": True}
    assert members(tenant, made) == ["bob"]
    assert tenant.http.request("DELETE", f"{path}/members", json={"emails": ["bob@example.com"]}).json() == {"removed": 1, "not_found": []}
    assert members(tenant, made) == []
    found = [event["type"] for event in tenant.get("/events", per_page=5)["events"] if event["type"].startswith("segment.")]
    assert found == ["segment.beta-testers.exit"] * 2 + ["segment.beta-testers.entry"] * 2
    assert [day["members"] for day in tenant.get(f"{path}/growth", days=2)["daily"]] == [0, 0]
    assert tenant.delete(path) == {"deleted": True}
    assert tenant.http.get(path).status_code == 404


def test_who_is_named_and_is_nobody_is_told_and_keeps_nobody_else_out(served, tenant, people):
    theirs = served.tenant().post("/contacts", {"email": "theirs@example.com"}, 201)["id"]
    given = {"contact_ids": [people["ann"], "ct_0000000000001", theirs, "ct_x"], "emails": ["bob@example.com", "nobody@example.com"]}
    for path in (f"/segments/{tenant.post('/segments', {'name': 'l'}, 201)['id']}", f"/audiences/{tenant.post('/audiences', {'name': 'a'}, 201)['id']}"):
        assert tenant.post(f"{path}/contacts", given) == {"added": 2, "not_found": ["ct_0000000000001", theirs, "ct_x", "nobody@example.com"]}
        for nobody in ({"contact_ids": [theirs, "ct_x"]}, {"emails": ["nobody@example.com"]}):
            assert tenant.post(f"{path}/contacts", nobody, 404)["error"] == "None of these contacts exists"
        assert tenant.post(f"{path}/contacts", {}, 422)["field"] == "contact_ids"
    wrong = tenant.post("/contacts/bulk", {"action": "delete", "contact_ids": [people["ann"], "ct_x"]}, 422)
    assert (wrong["field"], wrong["error"]) == ("contact_ids[1]", "contact_ids[1]: 'ct_x' is not the id of a contact")
    assert tenant.get(f"/contacts/{people['ann']}")["email"] == "ann@example.com"


@pytest.mark.parametrize(("body", "field"), [
    pytest.param({"name": "x", "type": "dynamic"}, "rules", id="dynamic without rules"),
    pytest.param({"name": "", "rules": []}, "name", id="no name"),
    pytest.param({"name": "x", "rules": []}, "rules", id="no rules"),
    pytest.param({"name": "x", "rules": [{"field": "plan", "operator": "is like", "value": "x"}]}, "rules[0].operator", id="no operator"),
    pytest.param({"name": "x", "rules": [{"field": "segment", "operator": "equals", "value": "seg_0000000000001"}]}, "rules", id="no such segment"),
    pytest.param({"name": "x", "audience_id": "aud_x"}, "audience_id", id="no audience"),
])
def test_a_segment_that_asks_nothing(tenant, body, field):
    assert tenant.post("/segments", body, 422)["field"] == field


def test_a_segment_cannot_ask_about_itself(tenant):
    one = tenant.post("/segments", ENTERPRISE, 201)
    asks = [{"field": "segment", "operator": "not_equals", "value": one["id"]}]
    two = tenant.post("/segments", {"name": "two", "rules": asks}, 201)
    assert tenant.patch(f"/segments/{two['id']}", {"rules": [{**asks[0], "value": two["id"]}]}, 422)["field"] == "rules"
    assert tenant.patch(f"/segments/{one['id']}", {"rules": [{**asks[0], "value": two["id"]}]}, 422)["field"] == "rules"


def test_segments_ask_about_segments_ten_deep(tenant, people):
    chain = [tenant.post("/segments", ENTERPRISE, 201)]

    def asks(about):
        return [{"field": f"segment.{about['id']}", "operator": "is_set"}]

    for depth in range(10):
        chain.append(tenant.post("/segments", {"name": f"depth {depth}", "rules": asks(chain[-1])}, 201))
    assert members(tenant, chain[-1]) == ["ann"]
    assert tenant.post("/segments", {"name": "too deep", "rules": asks(chain[-1])}, 422)["field"] == "rules"
    below = tenant.post("/segments", {"name": "below", "rules": ENTERPRISE["rules"]}, 201)
    assert tenant.patch(f"/segments/{chain[0]['id']}", {"rules": asks(below)}, 422)["field"] == "rules"
    assert tenant.patch(f"/segments/{chain[0]['id']}", {"rules": asks(chain[-1])}, 422)["field"] == "rules"


def test_a_dynamic_segment_has_no_list(tenant, people):
    made = tenant.post("/segments", ENTERPRISE, 201)
    assert tenant.post(f"/segments/{made['id']}/contacts", {"contact_ids": [people["bob"]]}, 409)["code"] == "conflict"
    assert tenant.patch(f"/segments/{made['id']}", {"rules": None, "name": "By hand"})["type"] == "static"
    assert tenant.post(f"/segments/{made['id']}/contacts", {"contact_ids": [people["bob"]]})["added"] == 1
    assert members(tenant, made) == ["bob"]


def test_a_bulk_action_takes_a_segment(tenant, people):
    made = tenant.post("/segments", ENTERPRISE, 201)
    body = {"action": "tag", "tags": ["big"], "segment_id": made["id"]}
    assert tenant.post("/contacts/bulk", body) == {"action": "tag", "changed": 1}
    assert tenant.get(f"/contacts/{people['ann']}")["tags"] == ["big"]
    assert tenant.post("/contacts/bulk", body) == {"action": "tag", "changed": 0}


@pytest.mark.parametrize(("body", "status", "field"), [
    pytest.param({"action": "tag", "tags": ["x"], "contact_ids": []}, 422, "contact_ids", id="both"),
    pytest.param({"action": "untag"}, 422, "tags", id="no tags"),
    pytest.param({"action": "tag", "tags": ["x" * 65]}, 422, "tags", id="a long tag"),
    pytest.param({"action": "delete", "segment_id": "seg_0000000000001"}, 404, None, id="no such segment"),
    pytest.param({"action": "delete", "segment_id": "ct_0000000000001"}, 404, None, id="no segment"),
])
def test_a_bulk_action_that_takes_no_segment(tenant, people, body, status, field):
    made = tenant.post("/segments", ENTERPRISE, 201)
    assert tenant.post("/contacts/bulk", {"segment_id": made["id"], **body}, status).get("field") == field
    assert len(tenant.get("/contacts")["contacts"]) == len(people)


def test_who_unsubscribes_a_segment_is_in_the_history(tenant, people):
    made = tenant.post("/segments", ENTERPRISE, 201)
    headers = {"User-Agent": "sync/1"}
    answer = tenant.http.post("/contacts/bulk", json={"action": "unsubscribe", "segment_id": made["id"]}, headers=headers)
    assert answer.json() == {"action": "unsubscribe", "changed": 1}
    (left,) = [each for each in tenant.get(f"/contacts/{people['ann']}/history")["history"] if each["type"] == "unsubscribed"]
    assert (left["source"], left["evidence"]["agent"], "key" in left["evidence"]) == ("api", "sync/1", True)


# Audiences.


def test_an_audience_and_its_segment(tenant, people):
    made = tenant.post("/audiences", {"name": "paid_customers"}, 201)
    path = f"/audiences/{made['id']}"
    assert tenant.post("/audiences", {"name": "paid_customers"}, 409)["code"] == "conflict"
    assert tenant.post(f"{path}/contacts", {"emails": ["ann@example.com"], "contactIds": [people["bob"]]}) == {"added": 2, "not_found": []}
    assert tenant.post(f"{path}/contacts", {"emails": ["ann@example.com"]})["added"] == 0
    assert tenant.get(path)["contact_count"] == 2
    assert [each["email"] for each in tenant.get(f"{path}/contacts")["contacts"]] == ["bob@example.com", "ann@example.com"]
    rules = [{"field": "plan", "operator": "not_equals", "value": "pro"}]
    segment = tenant.post("/segments", {"name": "s", "rules": rules, "audience_id": made["id"]}, 201)
    assert (segment["contact_count"], members(tenant, segment)) == (1, ["ann"])
    assert tenant.get("/segments", audience_id=made["id"])["segments"][0]["id"] == segment["id"]
    assert [each["name"] for each in tenant.get(f"/contacts/{people['ann']}/audiences")["audiences"]] == ["paid_customers"]
    assert tenant.delete(f"{path}/contacts/{people['ann']}") == {"deleted": True}
    assert tenant.get("/contacts", audience_id=made["id"])["pagination"]["total"] == 1
    assert tenant.patch(path, {"name": "customers"})["name"] == "customers"
    assert tenant.delete(path) == {"deleted": True}
    assert tenant.get("/audiences")["audiences"] == []


# Topics.


def test_a_contact_leaves_one_topic_and_keeps_the_others(tenant, people):
    updates, marketing = (tenant.post("/subscription-topics", {"name": name}, 201) for name in ("product_updates", "marketing"))
    path = f"/subscription-topics/contacts/{people['ann']}/subscriptions"
    assert [each["subscribed"] for each in tenant.get(path)["subscriptions"]] == [True, True]
    assert tenant.delete(f"{path}/{marketing['id']}")["subscribed"] is False
    assert {each["topic"]["name"]: each["subscribed"] for each in tenant.get(path)["subscriptions"]} == {"product_updates": True, "marketing": False}
    shown = tenant.get(f"/subscription-topics/{marketing['id']}")
    assert (shown["subscriber_count"], shown["unsubscribed_count"]) == (2, 1)
    assert [each["email"][:3] for each in tenant.get(f"/subscription-topics/{marketing['id']}/subscribers")["subscribers"]] == ["cid", "bob"]
    gone = tenant.get(f"/subscription-topics/{marketing['id']}/subscribers", subscribed="false")["subscribers"]
    assert [each["contact_id"] for each in gone] == [people["ann"]]
    to = {"to": ["ann@example.com"]}
    assert tenant.http.post("/emails", json=email(**to, topic_id=marketing["id"])).json()["code"] == "recipient_suppressed"
    assert tenant.http.post("/emails", json=email(**to, topic_id=updates["id"])).status_code == 202
    assert tenant.post(path, {"topic_id": marketing["id"]}, 201)["subscribed"] is True
    assert tenant.http.post("/emails", json=email(**to, topic_id=marketing["id"])).status_code == 202
    history = tenant.get(f"/contacts/{people['ann']}/history")["history"]
    assert [entry["type"] for entry in history] == ["topic_subscribed", "topic_unsubscribed", "created"]
    assert history[0]["evidence"]["topic_id"] == marketing["id"]


def test_a_topic_s_life(tenant):
    made = tenant.post("/subscription-topics", {"name": "news", "description": "Weekly"}, 201)
    assert tenant.post("/subscription-topics", {"name": "news"}, 409)["code"] == "conflict"
    assert tenant.patch(f"/subscription-topics/{made['id']}", {"description": None}) == {**made, "description": ""}
    assert [each["name"] for each in tenant.get("/subscription-topics")["topics"]] == ["news"]
    assert tenant.delete(f"/subscription-topics/{made['id']}") == {"deleted": True}
    assert tenant.http.get(f"/subscription-topics/{made['id']}").status_code == 404


def test_the_summary_names_what_the_rules_ask_about_and_nothing_of_another_project(served, tenant, people):
    beta = tenant.post("/segments", {"name": "Beta"}, 201)["id"]
    news = tenant.post("/subscription-topics", {"name": "News"}, 201)["id"]
    stranger = served.tenant().post("/audiences", {"name": "Theirs"}, 201)["id"]
    rules = [{"field": field, "operator": "equals", "value": value} for field, value in (("segment", beta), ("topic", news), ("audience", stranger))]
    said = f'contacts who are in the segment "Beta" and who get the topic "News" and who are in the audience {stranger}'
    made = tenant.post("/segments", {"name": "Some", "rules": rules}, 201)
    assert made["summary"] == tenant.post("/segments/preview", {"rules": rules})["summary"] == tenant.get("/segments")["segments"][0]["summary"] == said
