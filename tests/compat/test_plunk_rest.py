"""Forms, activity, analytics and configuration in the Plunk dialect."""

import pytest

from tests.compat.test_plunk_sending import SENDING

FORM = {"name": "News Letter", "fields": [{"key": "plan", "label": "Plan", "type": "select", "options": ["free", "pro"], "required": True},
                                          {"key": "company", "type": "url"}],
        "settings": {"successMessage": "Thanks!", "redirectUrl": "https://example.com/thanks", "emailPlaceholder": "you@example.com"}, "createSegment": True}


def test_a_form_takes_visitors_of_any_site(plunk, other):
    made = plunk.post("/forms", FORM, 201)
    assert (made["slug"], made["enabled"], made["segment"]["type"], made["settings"]["doubleOptIn"]) == ("news-letter", True, "STATIC", False)
    assert [(field["key"], field["type"], field["required"]) for field in made["fields"]] == [("plan", "select", True), ("company", "text", False)]
    path = f"/forms/public/{made['publicId']}"
    public = plunk.http.get(f"/plunk{path}", headers={"Authorization": ""})
    assert public.headers["access-control-allow-origin"] == "*"
    assert public.json() == {**{name: made[name] for name in ("publicId", "name", "fields", "settings")}, "language": "en"}
    assert plunk.http.options(f"/plunk{path}/submit", headers={"Authorization": ""}).status_code == 204
    filled = {"email": "Visitor@example.com", "data": {"plan": "pro", "unasked": 1}}
    answer = plunk.http.post(f"/plunk{path}/submit", json=filled, headers={"Authorization": ""})
    assert (answer.status_code, answer.json()) == (200, {"success": True, "redirectUrl": "https://example.com/thanks"})
    contact, = plunk.get("/contacts?search=visitor")["data"]
    assert (contact["subscribed"], contact["data"]) == (True, {"plan": "pro"})
    assert [each["email"] for each in plunk.get(f"/segments/{made['segmentId']}/contacts")["data"]] == ["Visitor@example.com"]
    assert plunk.post(f"{path}/submit", {"email": "robot@example.com", "hp": "x", "data": {"plan": "pro"}})["success"] is True
    assert plunk.get("/contacts?search=robot")["total"] == 0
    assert plunk.post(f"{path}/submit", {"email": "v@example.com", "data": {"plan": "gold"}}, 422)["error"]["errors"][0]["field"] == "plan"
    assert other.get("/forms") == []
    other.get(f"/forms/{made['id']}", 404)
    other.patch(f"/forms/{made['id']}", {"enabled": False}, 404)
    other.delete(f"/forms/{made['id']}", status=404)
    assert plunk.patch(f"/forms/{made['id']}", {"enabled": False, "settings": {"emailPlaceholder": "me"}})["fields"] == made["fields"]
    got = plunk.get("/forms")[0]
    assert (got["enabled"], got["settings"]["emailPlaceholder"], got["settings"]["successMessage"]) == (False, "me", "Thanks!")
    plunk.get(path, 404)
    plunk.delete(f"/forms/{made['id']}", status=204)
    assert plunk.get("/forms") == []


@pytest.mark.parametrize(("body", "status", "field"), [
    pytest.param({"name": "x", "settings": {"doubleOptIn": True}}, 422, "from", id="double opt-in without a sender"),
    pytest.param({"name": "x", "settings": {"redirectUrl": "javascript:alert(1)"}}, 422, "redirect_url", id="a redirect that is none"),
    pytest.param({"name": "x", "fields": [{"key": "email"}]}, 422, "fields[1].name", id="the email twice"),
    pytest.param({"fields": []}, 422, "name", id="no name"),
])
def test_forms_that_are_refused(plunk, body, status, field):
    assert plunk.post("/forms", body, status)["error"]["errors"][0]["field"] == field


def test_activity_and_analytics(plunk, other):
    """One mail that arrived, one tracked event, one campaign that waits; nothing of it is another project's."""
    plunk.post("/v1/track", {"event": "signed_up", "email": "jane.activity@example.com", "data": {"plan": "pro"}})
    plunk.post("/v1/send", {**SENDING, "to": "jane.activity@example.com"})
    plunk.tenant.until("/plunk/activity?types=email.delivered", lambda got: got["data"])
    tracked = next(row for row in plunk.get("/activity?types=event.triggered")["data"] if row["metadata"].get("eventName") == "signed_up")
    assert (tracked["type"], tracked["contactEmail"], tracked["metadata"]["eventData"]) == ("event.triggered", "jane.activity@example.com", {"plan": "pro"})
    delivered, = plunk.get("/activity?types=email.delivered,email.opened")["data"]
    assert delivered["metadata"]["emailId"].startswith("em_")
    first = plunk.get("/activity?limit=1")
    assert (len(first["data"]), first["hasMore"]) == (1, True)
    assert plunk.get(f"/activity?limit=1&cursor={first['cursor']}")["data"] != first["data"]
    assert [row["id"] for row in plunk.get(f"/activity?contactId={tracked['contactId']}&types=event.triggered")["data"]].count(tracked["id"]) == 1
    stats = plunk.get("/activity/stats")
    assert (stats["totalEmailsSent"], stats["totalEmailsOpened"], stats["openRate"]) == (1, 0, 0)
    assert plunk.get("/activity/recent-count?minutes=60") == {"count": stats["totalEvents"], "minutes": 60}
    assert "email.opened" in plunk.get("/activity/types")["types"]
    days = plunk.get("/analytics/timeseries")
    assert 30 <= len(days) <= 32
    assert (days[-1]["emails"], days[-1]["delivered"], days[0]["emails"]) == (1, 1, 0)
    assert {"name": "signed_up", "count": 1, "trend": 100} in plunk.get("/analytics/top-events?limit=20")
    made = plunk.post("/campaigns", {"name": "Later", "subject": "s", "body": "b", "from": SENDING["from"], "audienceType": "ALL"}, 201)["data"]["id"]
    plunk.post(f"/campaigns/{made}/send", {"scheduledFor": "2027-08-01T00:00:00Z"})
    assert [(row["id"], row["metadata"]["campaignName"]) for row in plunk.get("/activity/upcoming?daysAhead=366")["activities"]] == [(made, "Later")]
    assert plunk.get("/analytics/campaign-stats") == {"total": 1, "active": 1, "completed": 0, "averageOpenRate": 0, "averageClickRate": 0}
    assert plunk.get("/analytics/top-campaigns") == []
    assert other.get("/activity")["data"] == []
    assert (other.get("/activity/stats")["totalEvents"], other.get("/activity/upcoming")["activities"], other.get("/analytics/top-events")) == (0, [], [])
    other.get(f"/activity?contactId={tracked['contactId']}", 404)


def test_runs_are_told_beside_events(plunk, other):
    """Three contacts pass a workflow that ends at once; pages of two show each thing once, in order of time."""
    flow = plunk.post("/workflows", {"name": "Hello", "eventName": "said_hello"}, 201)
    gone = plunk.post(f"/workflows/{flow['id']}/steps", {"type": "EXIT", "name": "exit", "config": {"reason": "done"}}, 201)["id"]
    plunk.post(f"/workflows/{flow['id']}/transitions", {"fromStepId": flow["steps"][0]["id"], "toStepId": gone}, 201)
    plunk.patch(f"/workflows/{flow['id']}", {"enabled": True})
    for name in ("ann", "bob", "cleo"):
        plunk.post("/v1/track", {"event": "said_hello", "email": f"{name}.runs@example.com"})
    plunk.tenant.until("/plunk/activity?types=workflow.completed", lambda got: len(got["data"]) == 3)
    whole = plunk.get("/activity?limit=100")["data"]
    assert [row["timestamp"] for row in whole] == sorted((row["timestamp"] for row in whole), reverse=True)
    assert {row["type"] for row in whole} >= {"event.triggered", "workflow.started", "workflow.completed"}
    found, cursor = [], ""
    while cursor is not None:
        page = plunk.get(f"/activity?limit=2{cursor and '&cursor='}{cursor}")
        found, cursor = found + page["data"], page["cursor"]
    assert found == whole
    assert len({row["id"] for row in found}) == len(found)
    began = plunk.get("/activity?types=workflow.started")["data"]
    assert {row["contactEmail"] for row in began} == {"ann.runs@example.com", "bob.runs@example.com", "cleo.runs@example.com"}
    assert {(row["metadata"]["workflowId"], row["metadata"]["workflowName"]) for row in began} == {(flow["id"], "Hello")}
    one = plunk.get(f"/activity?types=workflow.started,workflow.completed&contactId={began[0]['contactId']}")["data"]
    assert [row["type"] for row in one] == ["workflow.completed", "workflow.started"]
    assert other.get("/activity")["data"] == []


@pytest.mark.parametrize("cursor", ["x", "MSwx", "MSwyLDMsbmFu", "LTEsMCwwLDA", "OTk5OTk5OTk5OTk5OTk5OTk5OTksMCwwLDA"])
def test_a_cursor_that_no_page_gave(plunk, cursor):
    plunk.get(f"/activity?cursor={cursor}", 400)


@pytest.mark.parametrize("query", ["startDate=2026-02-01T00:00:00Z&endDate=2026-01-01T00:00:00Z", "startDate=1e99", "endDate=tomorrow"])
def test_an_interval_that_is_none(plunk, query):
    assert plunk.http.get(f"/plunk/analytics/timeseries?{query}").status_code in (400, 422)


def test_the_configuration_needs_no_key(plunk):
    told = plunk.http.get("/plunk/config", headers={"Authorization": ""}).json()
    assert told["urls"]["api"].endswith("/plunk")
    assert told["features"]["smtp"]["domain"]
