"""Suppression rules in the Plunk dialect: what they match, where they stop mail, and that they are the project's own."""

import pytest

from relay.control import explain
from tests.compat.test_plunk_sending import SENDING

ROWS = {
    # id: kind, pattern, addresses that it stops, addresses that it lets go
    "address": ("ADDRESS", " Ann@Example.com", ["ann@example.com", "ANN@example.COM"], ["anna@example.com", "ann@sub.example.com"]),
    "domain": ("DOMAIN", "@Bücher.example", ["x@bücher.example", "y@xn--bcher-kva.example"], ["x@sub.bücher.example", "x@notbücher.example"]),
    "prefix": ("PREFIX", "Test+", ["test+1@example.com"], ["atest+1@example.com"]),
    "suffix": ("SUFFIX", ".Test", ["a@b.test", "a@b.c.test"], ["a@test", "a@b.test.example"]),
    "wildcard": ("WILDCARD", "qa-*@*.example.com", ["qa-1@x.example.com"], ["qa-1@example.com", "aqa-1@x.example.com"]),
    "letters of LIKE are letters": ("PREFIX", "a_b%", ["a_b%c@example.com"], ["axb@example.com", "a_b@example.com"]),
    "pieces do not overlap": ("WILDCARD", "ab*b@x.example", ["abb@x.example"], ["ab@x.example"]),
}


def rule(plunk, kind="ADDRESS", pattern="ann@example.com", status=201, **more):
    return plunk.post("/suppressions", {"name": "Ours", "kind": kind, "pattern": pattern, **more}, status)


@pytest.mark.parametrize(("kind", "pattern", "stopped", "free"), ROWS.values(), ids=ROWS.keys())
def test_patterns(plunk, kind, pattern, stopped, free):
    made = rule(plunk, kind, pattern)
    for address in (*stopped, *free):
        told = plunk.post("/suppressions/preview", {"address": address})
        assert told == {"suppressed": address in stopped, "match": made if address in stopped else None}, address


@pytest.mark.parametrize(("body", "status", "field"), [
    pytest.param({"name": "x", "kind": "ADDRESS", "pattern": "nobody"}, 400, "pattern", id="no address"),
    pytest.param({"name": "x", "kind": "DOMAIN", "pattern": "a b"}, 400, "pattern", id="no domain"),
    pytest.param({"name": "x", "kind": "WILDCARD", "pattern": "*"}, 400, "pattern", id="everybody"),
    pytest.param({"name": "x", "kind": "WILDCARD", "pattern": "*a*b*c*d*e*"}, 400, "pattern", id="too many stars"),
    pytest.param({"name": "x", "kind": "WILDCARD", "pattern": "abc"}, 400, "pattern", id="no star"),
    pytest.param({"name": "x", "kind": "REGEX", "pattern": ".*"}, 422, "kind", id="no such kind"),
    pytest.param({"name": "x", "kind": "PREFIX", "pattern": "a" * 255}, 422, "pattern", id="too long"),
    pytest.param({"kind": "PREFIX", "pattern": "a"}, 422, "name", id="no name"),
])
def test_rules_that_are_refused(plunk, body, status, field):
    assert plunk.post("/suppressions", body, status)["error"]["errors"][0]["field"] == field
    assert plunk.get("/suppressions") == []


def test_a_rule_is_changed_switched_off_and_deleted(plunk, other):
    first, second = rule(plunk), rule(plunk, "DOMAIN", "old.example")
    assert plunk.get("/suppressions") == [first, second]
    path = f"/suppressions/{first['id']}"
    assert plunk.ask("PUT", path, {"name": "Off", "kind": "PREFIX", "pattern": "Ann", "enabled": False}) == {"success": True}
    got = plunk.get(path)
    assert (got["name"], got["kind"], got["pattern"], got["enabled"], got["createdAt"]) == ("Off", "PREFIX", "ann", False, first["createdAt"])
    assert plunk.post("/suppressions/preview", {"address": "ann@example.com"})["suppressed"] is False
    assert other.get("/suppressions") == []
    other.get(path, 404)
    other.ask("PUT", path, {"name": "x", "kind": "PREFIX", "pattern": "x"}, 404)
    other.delete(path, status=404)
    plunk.delete(path, status=204)
    plunk.get(path, 404)
    for _ in range(99):
        rule(plunk)
    assert "100" in rule(plunk, status=400)["message"]


def test_mail_to_whom_a_rule_stops_is_captured_and_never_leaves(plunk, other):
    """At the door of /v1/send and of the native API, beside mail that goes; a switch holds at once, and another project's mail is its own."""
    rule(plunk, "DOMAIN", "stopped.example", name="No customers")
    made = plunk.ask("PUT", f"/suppressions/{plunk.get('/suppressions')[0]['id']}", {"name": "No customers", "kind": "DOMAIN", "pattern": "stopped.example"})
    assert made == {"success": True}
    sent = plunk.post("/v1/send", {**SENDING, "to": ["jane@stopped.example", "jane.rules@example.com"]})["data"]["emails"]
    assert plunk.tenant.get(f"/emails/{sent[0]['email']}")["status"] == "suppressed"
    plunk.tenant.until(f"/emails/{sent[1]['email']}", lambda got: got["status"] == "delivered")
    page = plunk.get("/suppressions/emails")
    assert [(row["id"], row["recipientAddress"], row["status"]) for row in page["emails"]] == [(sent[0]["email"], "jane@stopped.example", "SUPPRESSED")]
    assert page["nextCursor"] is None
    answer = plunk.http.post("/emails", json={"from": SENDING["from"], "to": ["x@stopped.example"], "subject": "Hi", "text": "Hi"})
    assert answer.status_code == 422
    assert 'change the rule "No customers"' in answer.json()["error"]
    told = plunk.tenant.served.act(explain.explain, what="nobody@stopped.example")["suppressions"]
    assert [(each["project"], each["reason"], each["evidence"]["rule"]) for each in told] == [(plunk.tenant.project, "rule", "No customers")]
    theirs = other.post("/v1/send", {**SENDING, "to": "lee@stopped.example"})["data"]["emails"][0]["email"]
    other.tenant.until(f"/emails/{theirs}", lambda got: got["status"] == "delivered")
    assert other.get("/suppressions/emails") == {"emails": [], "nextCursor": None}
    plunk.delete(f"/suppressions/{plunk.get('/suppressions')[0]['id']}", status=204)
    again = plunk.post("/v1/send", {**SENDING, "to": "jane@stopped.example"})["data"]["emails"][0]["email"]
    plunk.tenant.until(f"/emails/{again}", lambda got: got["status"] == "delivered")
