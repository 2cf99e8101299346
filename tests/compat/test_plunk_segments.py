"""Segments, templates and events in the Plunk dialect, with the examples of its documentation."""

import pytest

from tests.compat.conftest import Plunk
from tests.support.served import Served

PRO = {"logic": "AND", "groups": [{"filters": [
    {"field": "data.plan", "operator": "equals", "value": "pro"},
    {"field": "createdAt", "operator": "within", "value": 30, "unit": "days"},
]}]}


def one(field, operator, value=None, **more):
    return {"logic": "AND", "groups": [{"filters": [{"field": field, "operator": operator, **({} if value is None else {"value": value}), **more}]}]}


def members(plunk, segment):
    return sorted(each["email"] for each in plunk.get(f"/segments/{segment['id']}/contacts")["data"])


def told(plunk, name):
    """The events of this name, once there are any."""
    return plunk.tenant.until(f"/events?type={name}", lambda got: got["events"])["events"]


def test_the_example_of_the_documentation(plunk):
    plunk.contact("pro@example.com", data={"plan": "pro"})
    plunk.contact("free@example.com", data={"plan": "free"})
    made = plunk.post("/segments", {"name": "New pros", "description": "paying", "condition": PRO}, 201)
    assert (made["type"], made["condition"], made["trackMembership"], made["memberCount"], made["description"]) == ("DYNAMIC", PRO, False, 1, "paying")
    assert members(plunk, made) == ["pro@example.com"]
    assert plunk.get("/segments") == [plunk.get(f"/segments/{made['id']}")]
    assert plunk.post(f"/segments/{made['id']}/refresh") == {"memberCount": 1}
    changed = plunk.patch(f"/segments/{made['id']}", {"name": "All pros", "condition": one("data.plan", "exists")})
    assert (changed["name"], changed["memberCount"]) == ("All pros", 2)
    plunk.delete(f"/segments/{made['id']}", status=204)
    assert plunk.get(f"/segments/{made['id']}", 404)["error"]["code"] == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(("condition", "found"), [
    pytest.param(one("email", "contains", "JANE"), ["jane"], id="email in any case"),
    pytest.param(one("subscribed", "equals", True), ["jane", "lee"], id="subscribed"),
    pytest.param(one("subscribed", "notEquals", True), ["john"], id="not subscribed"),
    pytest.param(one("data.seats", "equals", 3), ["jane"], id="equality of JSON"),
    pytest.param(one("data.seats", "greaterThan", 3), ["lee"], id="numbers"),
    pytest.param(one("data.plan", "notEquals", "pro"), ["john"], id="a negation does not match what is missing"),
    pytest.param(one("data.plan", "notExists"), ["lee"], id="missing"),
    pytest.param(one("data.deep.x", "equals", "y"), ["lee"], id="nested data"),
    pytest.param(one("event.signed_up", "triggered"), ["jane"], id="event"),
    pytest.param(one("event.signed_up", "notTriggeredWithin", 7, unit="days"), ["john", "lee"], id="no event"),
    pytest.param({"logic": "OR", "groups": [*one("data.plan", "equals", "free")["groups"], {"conditions": one("data.seats", "equals", 3)}]},
                 ["jane", "john"], id="nested groups"),
])
def test_conditions(plunk, condition, found):
    plunk.contact("jane@example.com", data={"plan": "pro", "seats": 3})
    plunk.contact("john@example.com", subscribed=False, data={"plan": "free", "seats": "3"})
    plunk.contact("lee@example.com", data={"seats": 4, "deep": {"x": "y"}})
    plunk.post("/v1/track", {"event": "signed_up", "email": "jane@example.com"})
    made = plunk.post("/segments", {"name": "Some", "condition": condition}, 201)
    path = f"/plunk/segments/{made['id']}/contacts"
    wanted = [f"{name}@example.com" for name in found]
    plunk.tenant.until(path, lambda got: (sorted(each["email"] for each in got["data"]), got["total"]) == (wanted, len(found)))


@pytest.mark.parametrize(("body", "field"), [
    pytest.param({"name": "x"}, "condition", id="dynamic without a condition"),
    pytest.param({"name": "x", "type": "STATIC", "condition": PRO}, "condition", id="static with one"),
    pytest.param({"name": "x", "condition": {"conditions": []}}, "condition", id="another grammar"),
    pytest.param({"name": "x", "condition": {"logic": "AND", "groups": [{}]}}, "condition.groups[0]", id="an empty group"),
    pytest.param({"name": "x", "condition": one("data.a", "nonsense", 1)}, "condition.groups[0].filters[0].operator", id="no such operator"),
    pytest.param({"name": "x", "condition": one("purchase", "equals", 1)}, "condition.groups[0].filters[0].field", id="no such field"),
    pytest.param({"name": "x", "condition": one("createdAt", "within", 3)}, "condition.groups[0].filters[0].unit", id="no unit"),
    pytest.param({"name": "x", "condition": one("data.a", "equals")}, "condition.groups[0].filters[0].value", id="no value"),
    pytest.param({"name": "x", "condition": one("segment.seg_0000000000000", "memberOfSegment")}, "condition", id="no such segment"),
])
def test_conditions_that_are_refused(plunk, body, field):
    error = plunk.post("/segments", body, 400)["error"]
    assert error["errors"][0]["field"] == field
    assert plunk.get("/segments") == []


def test_a_segment_cannot_ask_about_itself(plunk):
    made = plunk.post("/segments", {"name": "A", "condition": PRO}, 201)
    plunk.patch(f"/segments/{made['id']}", {"condition": one(f"segment.{made['id']}", "memberOfSegment")}, 400)


def test_a_missing_name_is_told_in_the_words_of_old(plunk):
    assert plunk.post("/segments", {"condition": PRO}, 400)["error"] == "Name is required"


def test_members_of_a_static_segment(plunk):
    plunk.contact("jane@example.com")
    plunk.contact("john@example.com")
    made = plunk.post("/segments", {"name": "Beta testers", "type": "STATIC"}, 201)
    assert (made["condition"], made["memberCount"]) == (None, 0)
    path = f"/segments/{made['id']}/members"
    assert plunk.post(path, {"emails": ["JANE@example.com", "john@example.com", "new@example.com"]}) == {
        "added": 2, "created": 0, "notFound": ["new@example.com"]}
    assert plunk.post(path, {"emails": ["jane@example.com", "new@example.com"], "createMissing": True, "subscribed": False}) == {
        "added": 1, "created": 1, "notFound": []}
    assert members(plunk, made) == ["jane@example.com", "john@example.com", "new@example.com"]
    assert [each["email"] for each in plunk.get("/contacts?subscribed=false")["data"]] == ["new@example.com"]
    assert plunk.delete(path, {"emails": ["Jane@Example.com", "nobody@example.com"]}) == {"removed": 1}
    assert plunk.post(path, {"emails": ["jane@example.com"]})["added"] == 1
    page = plunk.get(f"/segments/{made['id']}/contacts?page=2&pageSize=2")
    assert (len(page["data"]), page["total"], page["page"], page["pageSize"], page["totalPages"]) == (1, 3, 2, 2, 2)
    plunk.post(path, {"emails": []}, 422)
    plunk.post(path, {"emails": ["a@example.com"] * 501}, 422)
    assert plunk.post(path, {"emails": ["nonsense"]}, 422)["error"]["errors"][0]["field"] == "emails"


def test_only_static_segments_have_members_to_keep(plunk):
    made = plunk.post("/segments", {"name": "Pros", "condition": PRO}, 201)
    for method in ("POST", "DELETE"):
        plunk.ask(method, f"/segments/{made['id']}/members", {"emails": ["jane@example.com"]}, 400)


@pytest.mark.parametrize("kind", ["DYNAMIC", "STATIC"])
def test_entries_and_exits_of_both_types_are_events(plunk, kind):
    jane = plunk.contact("jane@example.com")
    condition = {"condition": one("data.plan", "equals", "trial")} if kind == "DYNAMIC" else {}
    made = plunk.post("/segments", {"name": "Trial Users", "type": kind, "trackMembership": True, **condition}, 201)
    plunk.tenant.until(f"/plunk/segments/{made['id']}", lambda got: got["trackMembership"])

    def turn(there):
        if kind == "DYNAMIC":
            plunk.patch(f"/contacts/{jane['id']}", {"data": {"plan": "trial" if there else None}})
        else:
            plunk.ask("POST" if there else "DELETE", f"/segments/{made['id']}/members", {"emails": ["jane@example.com"]})

    turn(True)
    entry, = told(plunk, "segment.trial-users.entry")
    turn(False)
    exit_, = told(plunk, "segment.trial-users.exit")
    for event in (entry, exit_):
        assert (event["data"]["contact_id"], event["data"]["segment_id"], event["data"]["segment_name"]) == (jane["id"], made["id"], "Trial Users")


def test_compute(plunk):
    plunk.contact("jane@example.com", data={"plan": "pro"})
    made = plunk.post("/segments", {"name": "Pros", "condition": PRO}, 201)
    plunk.post(f"/segments/{made['id']}/compute", status=400)
    plunk.patch(f"/segments/{made['id']}", {"trackMembership": True})
    plunk.contact("lee@example.com", data={"plan": "pro"})
    answer = plunk.post(f"/segments/{made['id']}/compute")
    assert (set(answer), answer["total"]) == ({"added", "removed", "total"}, 2)


# Templates.

TEMPLATE = {"name": "Welcome", "subject": "Hello {{firstName ?? there}}", "body": "<p>{{ data.plan ?? none }}</p>", "from": "hi@yourdomain.com",
            "fromName": "Jo Doe", "replyTo": "team@yourdomain.com", "description": "first mail"}


def test_templates(plunk):
    made = plunk.post("/templates", TEMPLATE, 201)
    assert {name: made[name] for name in TEMPLATE} == TEMPLATE
    assert made["type"] == "MARKETING"
    assert plunk.get(f"/templates/{made['id']}") == made
    changed = plunk.patch(f"/templates/{made['id']}", {"type": "TRANSACTIONAL", "fromName": "Ann", "body": "<b>{{ x }}</b>"})
    assert (changed["type"], changed["from"], changed["fromName"], changed["body"], changed["subject"]) == (
        "TRANSACTIONAL", "hi@yourdomain.com", "Ann", "<b>{{ x }}</b>", TEMPLATE["subject"])
    copy = plunk.post(f"/templates/{made['id']}/duplicate", status=201)
    assert (copy["name"], copy["id"] != made["id"], copy["fromName"]) == ("Welcome (copy)", True, "Ann")
    page = plunk.get("/templates?pageSize=1&dir=asc")
    assert (page["data"][0]["id"], page["total"], page["totalPages"]) == (made["id"], 2, 2)
    assert plunk.get("/templates?search=copy")["total"] == 1
    assert plunk.get("/templates?type=MARKETING")["total"] == 0
    assert plunk.get(f"/templates/{made['id']}/usage")["canDelete"] is True
    plunk.delete(f"/templates/{made['id']}", status=204)
    assert plunk.get(f"/templates/{made['id']}", 404)["error"]["code"] == "TEMPLATE_NOT_FOUND"


@pytest.mark.parametrize(("change", "status", "field"), [
    pytest.param({"body": "{% if %}"}, 400, "body", id="a syntax error"), pytest.param({"body": "{% include 'x' %}"}, 400, "body", id="include"),
    pytest.param({"body": "{% render 'x' %}"}, 400, "body", id="render"), pytest.param({"body": "{% layout 'x' %}"}, 400, "body", id="layout"),
    pytest.param({"subject": "{{ a | nosuch }}"}, 400, "subject", id="no such filter"), pytest.param({"from": "nonsense"}, 422, "from", id="no address"),
    pytest.param({"replyTo": "nonsense"}, 422, "replyTo", id="no reply address"), pytest.param({"name": "n" * 101}, 422, "name", id="a name too long"),
    pytest.param({"fromName": "a\r\nBcc: b"}, 422, "name", id="a line break"), pytest.param({"type": "HEADLESS"}, 422, "type", id="no such type"),
])
def test_templates_that_are_refused(plunk, change, status, field):
    assert plunk.post("/templates", {**TEMPLATE, **change}, status)["error"]["errors"][0]["field"] == field
    assert plunk.get("/templates")["total"] == 0


@pytest.mark.parametrize(("missing", "text"), [("name", "Name is required"), ("subject", "Subject is required"), ("from", "From is required")])
def test_a_missing_field_of_a_template_is_told_in_the_words_of_old(plunk, missing, text):
    assert plunk.post("/templates", {name: value for name, value in TEMPLATE.items() if name != missing}, 400)["error"] == text


def test_a_template_is_a_native_one_too(plunk):
    made = plunk.post("/templates", TEMPLATE, 201)
    shown = plunk.tenant.post(f"/templates/{made['id']}/render", {"variables": {"firstName": "Zoë", "data": {"plan": "pro"}}})
    assert (shown["subject"], shown["html"]) == ("Hello Zoë", "<p>pro</p>")
    assert plunk.tenant.get(f"/templates/{made['id']}")["published"] is True


# Events.


def test_events_have_plunks_names(plunk):
    plunk.post("/v1/send", {"to": "jane.events@example.com", "subject": "Hello", "body": "<p>Hi</p>", "from": "hi@yourdomain.com"})
    plunk.tenant.until("/emails", lambda got: got["emails"][0]["status"] == "delivered")
    plunk.post("/v1/track", {"event": "signed_up", "email": "jane.events@example.com"})
    names = plunk.get("/events/names")["eventNames"]
    assert {"email.delivery", "signed_up", "contact.created"} <= set(names)
    assert "email.delivered" not in names
    event, = plunk.get("/events?eventName=email.delivery")["data"]
    assert (event["name"], event["emailId"][:3]) == ("email.delivery", "em_")
    stats = {each["name"]: each["count"] for each in plunk.get("/events/stats")["stats"]}
    assert (stats["email.delivery"], stats["signed_up"]) == (1, 1)
    first = plunk.get("/events?limit=1")
    rest = plunk.get(f"/events?limit=100&cursor={first['cursor']}")
    assert (first["hasMore"], rest["hasMore"]) == (True, False)
    assert first["data"][0]["id"] not in {each["id"] for each in rest["data"]}
    assert first["data"][0]["name"] == "signed_up"


def test_a_tracked_event_can_be_forgotten(plunk, other):
    for each in (plunk, other):
        jane = each.contact()
        each.post("/v1/track", {"event": "signed_up", "email": "jane@example.com"})
    made = plunk.post("/segments", {"name": "New", "condition": one("event.signed_up", "triggered")}, 201)
    plunk.delete("/events/signed_up", status=400)
    plunk.delete("/events/email.opened", status=400)
    plunk.delete(f"/segments/{made['id']}", status=204)
    assert plunk.delete("/events/signed_up") == {"success": True, "eventName": "signed_up"}
    assert "signed_up" not in plunk.get("/events/names")["eventNames"]
    assert other.get(f"/events/contact/{jane['id']}")["data"][0]["name"] == "signed_up"


def test_a_segment_that_asks_about_an_event_uses_it(plunk):
    made = plunk.post("/segments", {"name": "Openers", "condition": one("email.opened", "triggered")}, 201)
    used = plunk.get("/events/email.open/usage")
    assert (used["segments"], used["canDelete"]) == ([{"id": made["id"], "name": "Openers"}], False)


# Domains.


def test_domains(plunk, other):
    made = plunk.post("/domains", {"domain": "example.org"}, 201)
    assert (made["domain"], made["verified"], {each["purpose"] for each in made["records"]} >= {"dkim", "spf", "dmarc"}) == ("example.org", False, True)
    assert plunk.get(f"/domains/project/{made['projectId']}") == [made]
    assert plunk.get(f"/domains/{made['id']}/verify")["verified"] is False
    plunk.post("/domains", {"domain": "example.org"}, 409)
    for path in (f"/domains/project/{made['projectId']}", f"/domains/{made['id']}/verify"):
        other.get(path, 404)
    other.delete(f"/domains/{made['id']}", status=404)
    plunk.delete(f"/domains/{made['id']}", status=204)
    assert plunk.get("/health") == {"status": "ok"}


def test_a_sender_whose_domain_is_not_verified(tmp_path):
    with Served(tmp_path, "", RELAY_DOMAINS__REQUIRE_VERIFIED="true") as relay:
        plunk = Plunk(relay.tenant())
        mail = {"to": "jane@example.com", "subject": "Hello", "body": "<p>Hi</p>", "from": "hi@yourdomain.com"}
        error = plunk.post("/v1/send", mail, 403)["error"]
        assert (error["code"], error["statusCode"]) == ("FORBIDDEN", 403)
        assert "yourdomain.com" in error["message"]


def test_another_project_sees_nothing(plunk, other):
    jane, segment, template = plunk.contact(), plunk.post("/segments", {"name": "Beta", "type": "STATIC"}, 201), plunk.post("/templates", TEMPLATE, 201)
    plunk.post("/v1/track", {"event": "signed_up", "email": "jane@example.com"})
    path, emails = f"/segments/{segment['id']}", {"emails": ["jane@example.com"]}
    for method, where, body in (("GET", path, None), ("PATCH", path, {"name": "Mine"}), ("DELETE", path, None), ("POST", f"{path}/members", emails),
                                ("DELETE", f"{path}/members", emails), ("POST", f"{path}/compute", None), ("GET", f"{path}/contacts", None),
                                ("GET", f"/templates/{template['id']}", None), ("PATCH", f"/templates/{template['id']}", {"name": "Mine"}),
                                ("DELETE", f"/templates/{template['id']}", None), ("GET", f"/events/contact/{jane['id']}", None)):
        other.ask(method, where, body, 404)
    assert (other.get("/segments"), other.get("/templates")["total"], other.get("/events")["data"], other.get("/events/names")["eventNames"]) == ([], 0, [], [])
    own = other.post("/segments", {"name": "Mine", "type": "STATIC"}, 201)
    assert other.post(f"/segments/{own['id']}/members", emails)["notFound"] == ["jane@example.com"]
