"""Suppression rules over the native API: what they match, that they hold at once, and that they are the project's own."""

import pytest

RULE = {"name": "Test people", "kind": "wildcard", "pattern": "QA-*@*.Example.com"}


def test_a_rule_s_life(tenant, served):
    made = tenant.post("/suppression-rules", RULE, 201)
    assert (made["kind"], made["pattern"], made["enabled"]) == ("wildcard", "qa-*@*.example.com", True)
    path, beside = f"/suppression-rules/{made['id']}", served.tenant()
    assert tenant.get(path) == made
    assert tenant.get("/suppression-rules")["suppression_rules"] == [made]
    assert tenant.post("/suppression-rules/preview", {"email": "qa-1@x.example.com"}) == {"suppressed": True, "match": made}
    assert tenant.post("/suppression-rules/preview", {"email": "ann@x.example.com"}) == {"suppressed": False, "match": None}
    assert beside.get("/suppression-rules")["suppression_rules"] == []
    assert beside.post("/suppression-rules/preview", {"email": "qa-1@x.example.com"})["suppressed"] is False
    assert [beside.http.request(method, path, json={}).status_code for method in ("GET", "PATCH", "DELETE")] == [404, 404, 404]
    assert tenant.http.patch(path, json={"enabled": False}).json()["pattern"] == "qa-*@*.example.com"
    assert tenant.post("/suppression-rules/preview", {"email": "qa-1@x.example.com"})["suppressed"] is False
    changed = tenant.http.patch(path, json={"kind": "domain", "pattern": "@Old.Example", "enabled": True}).json()
    assert (changed["name"], changed["kind"], changed["pattern"], changed["created_at"]) == (RULE["name"], "domain", "old.example", made["created_at"])
    answer = tenant.http.post("/emails", json={"from": "hi@yourdomain.com", "to": ["x@old.example"], "subject": "Hi", "text": "Hi"})
    assert (answer.status_code, 'the rule "Test people"' in answer.json()["error"]) == (422, True)
    assert tenant.delete(path) == {"deleted": True}
    assert tenant.http.get(path).status_code == 404


@pytest.mark.parametrize(("body", "field"), [
    pytest.param({**RULE, "pattern": "*"}, "pattern", id="everybody"),
    pytest.param({**RULE, "kind": "address", "pattern": "nobody"}, "pattern", id="no address"),
    pytest.param({**RULE, "kind": "regex"}, "kind", id="no such kind"),
    pytest.param({**RULE, "pattern": "a" * 255}, "pattern", id="too long"),
    pytest.param({"kind": "prefix", "pattern": "a"}, "name", id="no name"),
])
def test_rules_that_are_refused(tenant, body, field):
    answer = tenant.http.post("/suppression-rules", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert tenant.get("/suppression-rules")["suppression_rules"] == []
