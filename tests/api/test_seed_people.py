"""Every example of the contact pages, as the pages show them, and of the segment page, against a running relay; files are in test_imports."""

from __future__ import annotations

import csv
import io
import re

import pytest

from relay.mail import ids
from relay.store import events
from relay.store.audience.rules import DAY
from relay.store.events import Event
from tests.api.test_seed import STAMP

# The features page.
SYNCED = {"email": "alice@example.com", "firstName": "Alice", "lastName": "Smith", "tags": ["customer", "pro-plan"],
          "customFields": {"company": "Acme Inc", "signedUpAt": "2026-01-15"}}
# The reference page.
ALICE = {"email": "alice@example.com", "first_name": "Alice", "last_name": "Smith", "properties": {"plan": "pro", "signed_up": "2026-01-15"},
         "unsubscribed": False}
CUSTOM = {"email": "alice@example.com", "first_name": "Alice",
          "properties": {"plan": "enterprise", "company": "Acme Inc", "signup_source": "website", "lifetime_value": "4500"}}
ENTERPRISE = {"name": "Enterprise Users", "type": "dynamic", "rules": [{"field": "properties.plan", "operator": "equals", "value": "enterprise"}]}
# The concepts page.
PRO_JOINED = {"logic": "AND", "groups": [{"filters": [{"field": "data.plan", "operator": "equals", "value": "pro"},
                                                      {"field": "createdAt", "operator": "within", "value": 30, "unit": "days"}]}]}


def members(tenant, segment):
    return sorted(each["email"] for each in tenant.get(f"/segments/{segment['id']}/members")["contacts"])


def active(served, tenant, contact, days):
    """The person did something so many days ago."""
    at = served.relay.clock.now() - days * DAY
    served.call(served.relay.store.write(events.append, [Event(tenant.number, "visited", at, contact_id=ids.internal(contact["id"], "ct"))]))


def test_create_with_tags_and_custom_fields(tenant):
    made = tenant.post("/contacts", SYNCED, 201)
    assert (made["email"], made["first_name"], made["last_name"]) == ("alice@example.com", "Alice", "Smith")
    assert (made["tags"], made["properties"]) == (SYNCED["tags"], SYNCED["customFields"])


def test_the_page_s_life_of_a_contact(tenant):
    made = tenant.post("/contacts", ALICE, 201)
    assert re.fullmatch(r"ct_[0-9a-z]+", made["id"])
    listed = tenant.get("/contacts", search="alice", page=1, per_page=20)
    assert set(listed["contacts"][0]) == {"id", "email", "first_name", "last_name", "unsubscribed", "created_at"}
    assert listed["pagination"] == {"total": 1, "page": 1, "per_page": 20, "total_pages": 1}
    got = tenant.get(f"/contacts/{made['id']}")
    assert {name: got[name] for name in ALICE} == ALICE
    assert re.fullmatch(STAMP, got["created_at"])
    changed = tenant.patch(f"/contacts/{made['id']}", {"first_name": "Alice", "properties": {"plan": "enterprise", "upgraded_at": "2026-03-23"}})
    assert changed["properties"] == {"plan": "enterprise", "signed_up": "2026-01-15", "upgraded_at": "2026-03-23"}
    left = tenant.post(f"/contacts/{made['id']}/unsubscribe")
    assert (left["id"], left["email"], left["unsubscribed"]) == (made["id"], "alice@example.com", True)
    assert re.fullmatch(STAMP, left["unsubscribed_at"])
    assert tenant.get("/contacts")["pagination"]["total"] == 1
    assert tenant.delete(f"/contacts/{made['id']}") == {"deleted": True}
    assert tenant.get("/contacts")["contacts"] == []


def test_custom_properties_and_their_segment(tenant):
    tenant.post("/contacts", CUSTOM, 201)
    tenant.post("/contacts", {"email": "bob@example.com", "properties": {"plan": "free"}}, 201)
    segment = tenant.post("/segments", ENTERPRISE, 201)
    assert re.fullmatch(r"seg_[0-9a-z]+", segment["id"])
    assert members(tenant, segment) == ["alice@example.com"]
    worth = tenant.post("/segments", {"name": "Whales", "rules": [{"field": "properties.lifetime_value", "operator": "greater_than", "value": "4000"}]}, 201)
    assert members(tenant, worth) == ["alice@example.com"]
    only = tenant.http.get("/contacts/export", params={"segment_id": segment["id"]})
    assert only.headers["content-type"].startswith("text/csv")
    assert [row["email"] for row in csv.DictReader(io.StringIO(only.text))] == ["alice@example.com"]
    assert len(list(csv.DictReader(io.StringIO(tenant.http.get("/contacts/export").text)))) == 2


def test_the_segment_of_the_features_page(served, tenant):
    """paid_customers WHERE last_active > 30 days ago AND plan = "pro"."""
    audience = tenant.post("/audiences", {"name": "paid_customers"}, 201)
    people = {name: tenant.post("/contacts", {"email": f"{name}@example.com", "properties": {"plan": plan}}, 201)
              for name, plan in (("long", "pro"), ("lately", "pro"), ("never", "pro"), ("free", "free"), ("outside", "pro"))}
    tenant.post(f"/audiences/{audience['id']}/contacts", {"contact_ids": [each["id"] for name, each in people.items() if name != "outside"]})
    for name, days in (("long", 40), ("lately", 5), ("free", 40), ("outside", 40)):
        active(served, tenant, people[name], days)
    rules = [{"field": "last_active", "operator": "not_in_last_days", "value": 30}, {"field": "plan", "operator": "equals", "value": "pro"}]
    segment = tenant.post("/segments", {"name": "dormant", "audience_id": audience["id"], "rules": rules}, 201)
    tenant.until(f"/segments/{segment['id']}/members", lambda got: len(got["contacts"]) == 2)
    assert members(tenant, segment) == ["long@example.com", "never@example.com"]
    ever = [*rules, {"field": "last_active", "operator": "is_set"}]
    assert tenant.post("/segments/preview", {"rules": ever, "audience_id": audience["id"]})["count"] == 1
    tenant.patch(f"/contacts/{people['never']['id']}", {"properties": {"plan": "free"}})  # and it is current at once
    assert members(tenant, segment) == ["long@example.com"]


def test_the_concepts_page_s_dynamic_segment(tenant):
    for name, plan in (("ann", "pro"), ("bob", "free")):
        tenant.post("/contacts", {"email": f"{name}@example.com", "properties": {"plan": plan}}, 201)
    segment = tenant.post("/segments", {"name": "pro, joined lately", "rules": PRO_JOINED}, 201)
    assert (members(tenant, segment), segment["summary"]) == (["ann@example.com"], "contacts whose plan is pro and who joined in the last 30 days")


def test_the_concepts_page_s_static_segment(tenant):
    for name in ("ann", "bob"):
        tenant.post("/contacts", {"email": f"{name}@example.com"}, 201)
    segment = tenant.post("/segments", {"name": "trial-users", "type": "static", "track_membership": True}, 201)
    path = f"/segments/{segment['id']}/members"
    assert tenant.post(path, {"emails": ["ann@example.com", "BOB@example.com"]})["added"] == 2
    assert tenant.http.request("DELETE", path, json={"emails": ["ann@example.com"]}).json()["removed"] == 1
    assert members(tenant, segment) == ["bob@example.com"]
    told = [event["type"] for event in tenant.get("/events", per_page=50)["events"] if event["type"].startswith("segment.")]
    assert told == ["segment.trial-users.exit", "segment.trial-users.entry", "segment.trial-users.entry"]


@pytest.mark.parametrize(("kind", "good", "bad"), [("string", "Acme", 1), ("number", 4500, "many"), ("boolean", True, "yes"), ("date", "2026-01-15", "soon")])
def test_types_are_checked_when_written(tenant, kind, good, bad):
    tenant.post("/contact-properties", {"name": "value", "label": "Value", "type": kind}, 201)
    tenant.post("/contacts", {"email": "a@example.com", "properties": {"value": good}}, 201)
    assert tenant.post("/contacts", {"email": "b@example.com", "properties": {"value": bad}}, 422)["field"] == "properties.value"
