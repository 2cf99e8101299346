"""Contacts over HTTP, as the pages about them show: made, listed, changed, unsubscribed, deleted and known again; and their typed properties."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import update

from relay.mail import ids
from relay.store.audience.schema import contacts
from tests.support.served import email

ALICE = {"email": "alice@example.com", "first_name": "Alice", "last_name": "Smith", "properties": {"plan": "pro", "signed_up": "2026-01-15"},
         "unsubscribed": False}
SYNC = {"email": "alice@example.com", "firstName": "Alice", "lastName": "Smith", "tags": ["customer", "pro-plan"],
        "customFields": {"company": "Acme Inc", "signedUpAt": "2026-01-15"}}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def alice(tenant):
    return tenant.post("/contacts", ALICE, 201)


def types(tenant, **query):
    return [event["type"] for event in tenant.get("/events", **query)["events"]]


def test_a_contact_is_made_and_read(tenant, alice):
    assert re.fullmatch("ct_[0-9a-z]{13}", alice["id"])
    assert {name: alice[name] for name in ALICE} == ALICE
    assert STAMP.fullmatch(alice["created_at"])
    assert tenant.get(f"/contacts/{alice['id']}") == alice
    assert tenant.get(f"/contacts/con_{alice['id'][3:]}") == alice
    assert types(tenant, contact_id=alice["id"]) == ["contact.created"]


def test_the_other_spelling_is_the_same(tenant):
    made = tenant.post("/contacts", SYNC, 201)
    assert (made["first_name"], made["last_name"], made["tags"], made["properties"]) == ("Alice", "Smith", SYNC["tags"], SYNC["customFields"])
    assert tenant.get(f"/contacts/{made['id']}") == made


@pytest.mark.parametrize("spelling", ["alice@example.com", "ALICE@Example.COM", " alice@example.com "])
def test_an_address_is_unique(tenant, alice, spelling):
    assert tenant.post("/contacts", {"email": spelling}, 409) == {"error": "Contact already exists", "code": "conflict"}


def test_the_list_is_the_seed_s(tenant, alice):
    assert tenant.get("/contacts") == {
        "contacts": [{name: alice[name] for name in ("id", "email", "first_name", "last_name", "unsubscribed", "created_at")}],
        "pagination": {"total": 1, "page": 1, "per_page": 20, "total_pages": 1}}


@pytest.fixture
def people(tenant):
    for name, last in (("Ann", "Berg"), ("Bob", "Ärmel"), ("Cid", "100% Cotton")):
        tenant.post("/contacts", {"email": f"{name}@example.org", "first_name": name, "last_name": last, "unsubscribed": name == "Bob"}, 201)
    return tenant


@pytest.mark.parametrize(("query", "found"), [
    pytest.param({}, ["Cid", "Bob", "Ann"], id="newest first"),
    pytest.param({"search": "ann@EXAMPLE"}, ["Ann"], id="address, any case"),
    pytest.param({"search": "berg"}, ["Ann"], id="name"),
    pytest.param({"search": "ÄRMEL"}, ["Bob"], id="a name outside ASCII"),
    pytest.param({"search": "0%"}, ["Cid"], id="no wildcards"),
    pytest.param({"search": "nn%berg"}, [], id="no wildcards at all"),
    pytest.param({"unsubscribed": "true"}, ["Bob"], id="unsubscribed"),
    pytest.param({"segment_id": "seg_0000000000001"}, ["Cid", "Bob", "Ann"], id="unknown segment ignored"),
    pytest.param({"per_page": "2"}, ["Cid", "Bob"], id="first page"),
    pytest.param({"per_page": "2", "page": "2"}, ["Ann"], id="second page"),
])
def test_a_list_is_filtered(people, query, found):
    assert [each["first_name"] for each in people.get("/contacts", **query)["contacts"]] == found


def test_pages_by_cursor(people):
    first = people.get("/contacts", per_page=2)
    second = people.get("/contacts", per_page=2, cursor=first["pagination"]["next_cursor"])
    assert [each["first_name"] for each in second["contacts"]] == ["Ann"]
    assert "next_cursor" not in second["pagination"]


def test_a_change_merges_properties(tenant, alice):
    changed = tenant.patch(f"/contacts/{alice['id']}", {"first_name": "Alice", "properties": {"plan": "enterprise", "upgraded_at": "2026-03-23"}})
    assert changed["properties"] == {"plan": "enterprise", "signed_up": "2026-01-15", "upgraded_at": "2026-03-23"}
    assert changed["last_name"] == "Smith"
    changed = tenant.patch(f"/contacts/{alice['id']}", {"last_name": None, "properties": {"plan": None}})
    assert (changed["last_name"], "plan" in changed["properties"]) == (None, False)
    assert types(tenant, contact_id=alice["id"]) == ["contact.updated", "contact.updated", "contact.created"]


def test_a_change_of_nothing_is_no_event(tenant, alice):
    assert tenant.patch(f"/contacts/{alice['id']}", {"first_name": "Alice"}) == alice
    assert types(tenant, contact_id=alice["id"]) == ["contact.created"]


def test_an_address_may_change_but_not_into_another_s(tenant, alice):
    tenant.post("/contacts", {"email": "bob@example.com"}, 201)
    assert tenant.patch(f"/contacts/{alice['id']}", {"email": "bob@example.com"}, 409)["code"] == "conflict"
    assert tenant.patch(f"/contacts/{alice['id']}", {"email": "al@example.com"})["email"] == "al@example.com"
    assert tenant.get("/contacts/by-email/al@example.com")["id"] == alice["id"]


def test_tags_are_replaced_added_and_removed(tenant):
    made = tenant.post("/contacts", SYNC, 201)
    path = f"/contacts/{made['id']}"
    assert tenant.patch(path, {"add_tags": ["VIP", "customer"], "removeTags": ["pro-plan"]})["tags"] == ["customer", "VIP"]
    assert tenant.patch(path, {"tags": ["vip"]})["tags"] == ["vip"]


@pytest.mark.parametrize(("given", "field"), [
    pytest.param({"email": "nobody"}, "email", id="no address"),
    pytest.param({}, "email", id="none"),
    pytest.param({"email": "a@example.com", "first_name": "x" * 256}, "first_name", id="long name"),
    pytest.param({"email": "a@example.com", "tags": ["x" * 65]}, "tags", id="long tag"),
    pytest.param({"email": "a@example.com", "tags": [f"t{n}" for n in range(101)]}, "tags", id="many tags"),
    pytest.param({"email": "a@example.com", "properties": {'a"b': 1}}, "properties", id="odd name"),
    pytest.param({"email": "a@example.com", "properties": {"x": 2**70}}, "properties.x", id="huge number"),
    pytest.param({"email": "a@example.com", "properties": {"x": "y" * 70_000}}, "properties", id="large"),
    pytest.param({"email": "a@example.com", "properties": [1]}, "properties", id="no object"),
])
def test_what_no_contact_holds(tenant, given, field):
    assert tenant.post("/contacts", given, 422)["field"] == field
    assert tenant.get("/contacts")["pagination"]["total"] == 0


def test_by_email_reads_and_upserts(tenant):
    assert tenant.http.get("/contacts/by-email/alice@example.com").status_code == 404
    made = tenant.http.put("/contacts/by-email/Alice%40example.com", json={"firstName": "Alice", "customFields": {"plan": "pro"}})
    assert made.status_code == 201
    again = tenant.http.put("/contacts/by-email/alice@example.com", json={"email": "alice@example.com", "properties": {"seats": 3}})
    assert (again.status_code, again.json()["properties"], again.json()["id"]) == (200, {"plan": "pro", "seats": 3}, made.json()["id"])
    assert tenant.get("/contacts/by-email/ALICE@example.com")["first_name"] == "Alice"
    assert tenant.http.put("/contacts/by-email/a@example.com", json={"email": "b@example.com"}).json()["field"] == "email"


# Consent.


def test_unsubscribe_is_remembered_with_its_source(tenant, alice):
    answer = tenant.post(f"/contacts/{alice['id']}/unsubscribe")
    assert (answer["id"], answer["email"], answer["unsubscribed"]) == (alice["id"], "alice@example.com", True)
    assert STAMP.fullmatch(answer["unsubscribed_at"])
    assert tenant.post(f"/contacts/{alice['id']}/unsubscribe") == answer
    entries = tenant.get(f"/contacts/{alice['id']}/history")["history"]
    assert [(entry["type"], entry["source"]) for entry in entries] == [("unsubscribed", "api"), ("created", "api")]
    assert entries[0]["at"] == answer["unsubscribed_at"]
    assert entries[0]["evidence"]["client"] == "127.0.0.1"
    assert types(tenant, contact_id=alice["id"]) == ["contact.unsubscribed", "contact.created"]


def test_an_unsubscribed_contact_gets_transactional_mail_only(tenant, alice):
    tenant.patch(f"/contacts/{alice['id']}", {"unsubscribed": True})
    assert tenant.http.post("/emails", json=email(to=["alice@example.com"])).status_code == 202
    refused = tenant.http.post("/emails", json=email(to=["alice@example.com"], unsubscribe=True))
    assert (refused.status_code, refused.json()["code"]) == (422, "recipient_suppressed")
    tenant.patch(f"/contacts/{alice['id']}", {"unsubscribed": False})
    assert tenant.http.post("/emails", json=email(to=["alice@example.com"], unsubscribe=True)).status_code == 202
    assert types(tenant, contact_id=alice["id"]) == ["contact.subscribed", "contact.unsubscribed", "contact.created"]


def test_a_deleted_contact_is_gone_but_what_it_wanted_is_not(tenant, alice):
    tenant.post(f"/contacts/{alice['id']}/unsubscribe")
    assert tenant.delete(f"/contacts/{alice['id']}") == {"deleted": True}
    assert tenant.http.get(f"/contacts/{alice['id']}").status_code == 404
    assert tenant.http.delete(f"/contacts/{alice['id']}").status_code == 404
    assert all("alice" not in str(event["data"]) for event in tenant.get("/events", contact_id=alice["id"])["events"])
    tenant.http.delete("/suppressions/alice@example.com")
    again = tenant.post("/contacts", ALICE, 201)
    assert again["unsubscribed"] is True
    assert tenant.get(f"/contacts/{again['id']}/history")["history"][0]["source"] == "earlier"


def test_nobody_sees_another_project_s_contacts(served, tenant, alice):
    other = served.tenant()
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/unsubscribe"), ("GET", "/history")):
        answer = other.http.request(method, f"/contacts/{alice['id']}{path}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404, (method, path)
    assert other.get("/contacts")["contacts"] == []
    assert other.post("/contacts", ALICE, 201)["id"] != alice["id"]


def test_a_sending_key_reads_no_contacts(served, tenant):
    sender = served.tenant(permission="sending_access", project=tenant.project)
    assert sender.http.get("/contacts").status_code == 403
    assert served.tenant(project=tenant.project).http.get("/contacts", headers={"Authorization": "Bearer sk_live_x"}).status_code == 401


# Many at once.


@pytest.mark.parametrize(("body", "check"), [
    pytest.param({"action": "tag", "tags": ["new"]}, lambda each: each["tags"] == ["new"], id="tag"),
    pytest.param({"action": "unsubscribe"}, lambda each: each["unsubscribed"], id="unsubscribe"),
])
def test_a_bulk_action_changes_those_named(tenant, body, check):
    made = [tenant.post("/contacts", {"email": f"p{n}@example.com"}, 201)["id"] for n in range(3)]
    assert tenant.post("/contacts/bulk", {**body, "contact_ids": made[:2]}) == {"action": body["action"], "changed": 2}
    assert [bool(check(tenant.get(f"/contacts/{each}"))) for each in made] == [True, True, False]
    assert tenant.post("/contacts/bulk", {**body, "contact_ids": made[:2]})["changed"] == 0


def test_a_bulk_action_deletes(tenant):
    made = [tenant.post("/contacts", {"email": f"p{n}@example.com"}, 201)["id"] for n in range(3)]
    assert tenant.post("/contacts/bulk", {"action": "delete", "contact_ids": made})["changed"] == 3
    assert tenant.get("/contacts")["contacts"] == []


@pytest.mark.parametrize(("body", "field"), [
    ({"action": "tag", "tags": ["x"]}, "contact_ids"), ({"action": "tag", "contact_ids": []}, "tags"), ({"action": "paint", "contact_ids": []}, "action"),
])
def test_a_bulk_action_says_what_it_lacks(tenant, body, field):
    assert tenant.post("/contacts/bulk", body, 422)["field"] == field


# Typed properties.


@pytest.mark.parametrize(("kind", "good", "bad"), [
    pytest.param("string", "x", 1, id="string"),
    pytest.param("number", 4.5, "4.5", id="number"),
    pytest.param("number", 7, True, id="number, not a boolean"),
    pytest.param("boolean", False, "false", id="boolean"),
    pytest.param("date", "2026-01-15", "15.1.2026", id="date"),
    pytest.param("date", "2026-01-15T10:00:00Z", "2026-13-01", id="moment"),
    pytest.param("select", "b", "z", id="select"),
])
def test_a_defined_property_takes_its_type_only(tenant, kind, good, bad):
    made = tenant.post("/contact-properties", {"name": "x", "type": kind, **({"options": ["a", "b"]} if kind == "select" else {})}, 201)
    assert made["type"] == ("text" if kind == "string" else kind)
    refused = tenant.post("/contacts", {"email": "a@example.com", "properties": {"x": bad}}, 422)
    assert refused["field"] == "properties.x"
    contact = tenant.post("/contacts", {"email": "a@example.com", "properties": {"x": good, "free": [1, {"a": None}]}}, 201)
    assert contact["properties"] == {"x": good, "free": [1, {"a": None}]}
    assert tenant.patch(f"/contacts/{contact['id']}", {"customFields": {"x": bad}}, 422)["field"] == "properties.x"


def test_a_property_s_life(tenant):
    made = tenant.post("/contact-properties", {"name": "plan", "label": "Plan", "type": "select", "options": ["free", "pro"], "required": True}, 201)
    assert tenant.get("/contact-properties")["properties"] == [made]
    assert tenant.post("/contact-properties", {"name": "plan"}, 409)["code"] == "conflict"
    assert tenant.post("/contacts", {"email": "a@example.com"}, 422)["field"] == "properties.plan"
    contact = tenant.post("/contacts", {"email": "a@example.com", "properties": {"plan": "pro", "seats": 1}}, 201)
    assert tenant.patch(f"/contacts/{contact['id']}", {"properties": {"plan": None}}, 422)["field"] == "properties.plan"
    assert tenant.get(f"/contact-properties/{made['id']}/option-usage") == {"usage": {"free": 0, "pro": 1}}
    assert tenant.patch(f"/contact-properties/{made['id']}", {"label": "P", "options": ["pro", "max"], "type": "text"}) == {
        **made, "label": "P", "options": ["pro", "max"]}
    assert tenant.delete(f"/contact-properties/{made['id']}") == {"deleted": True}
    assert tenant.get(f"/contacts/{contact['id']}")["properties"] == {"seats": 1}
    assert tenant.get("/contact-properties")["properties"] == []


def test_contacts_are_told_by_when_they_were_last_active(served, tenant):
    """engagement_segment of the live platform: within 30 days, within 90, longer ago or never; of this project's contacts only."""
    now, day = served.relay.clock.now(), 86_400.0
    ages = {"fresh": now - day, "fading": now - 60 * day, "old": now - 100 * day, "never": None}
    made = {name: tenant.post("/contacts", {"email": f"{name}@engaged.example"}, 201)["id"] for name in ages}
    served.tenant().post("/contacts", {"email": "theirs@engaged.example"}, 201)

    def lived(conn):
        for name, at in ages.items():
            conn.execute(update(contacts).where(contacts.c.id == ids.internal(made[name])).values(last_active_at=at))

    served.call(served.relay.store.write(lived))
    for level, names in {"active": ["fresh"], "at_risk": ["fading"], "dormant": ["never", "old"]}.items():
        found = tenant.get("/contacts", engagement_segment=level)
        assert [each["email"].partition("@")[0] for each in found["contacts"]] == names
        assert found["pagination"]["total"] == len(names)
        assert {tenant.get(f"/contacts/{made[name]}")["engagement_segment"] for name in names} == {level}
        assert tenant.get(f"/poststack/contacts/{made[names[0]]}")["contact"]["engagementSegment"] == level
    assert tenant.get("/contacts", engagement_segment="dormant", search="old")["pagination"]["total"] == 1
    assert tenant.http.get("/contacts?engagement_segment=keen").status_code == 422


def test_contacts_are_listed_by_a_tag_in_exactly_its_case(served, tenant):
    for name, tags in {"one": ["VIP", "x"], "two": ["vip"], "three": ["VIPs"], "four": ["VIP"]}.items():
        tenant.post("/contacts", {"email": f"{name}@tagged.example", "tags": tags}, 201)
    served.tenant().post("/contacts", {"email": "theirs@tagged.example", "tags": ["VIP"]}, 201)
    first = tenant.get("/contacts", tag="VIP", per_page=1)
    assert ([each["email"] for each in first["contacts"]], first["pagination"]["total"]) == (["four@tagged.example"], 2)
    rest = tenant.get("/contacts", tag="VIP", per_page=1, cursor=first["pagination"]["next_cursor"])
    assert [each["email"] for each in rest["contacts"]] == ["one@tagged.example"]
    assert tenant.get("/contacts", tag="VIP", engagement_segment="dormant", search="one")["pagination"]["total"] == 1
    assert tenant.get("/contacts", tag="VIP", engagement_segment="active")["contacts"] == []
    assert tenant.http.get("/contacts", params={"tag": "x" * 65}).status_code == 422


@pytest.mark.parametrize(("content", "kind"), [
    pytest.param(b'{"email": "ann@example.com"}', "application/x-www-form-urlencoded", id="as curl -d sends it"),
    pytest.param(b'{"email": "ann@example.com"}', "text/plain", id="a text"), pytest.param(b"[]", "application/json", id="a list"),
    pytest.param(b"null", "application/json", id="null"), pytest.param(b"", "application/json", id="nothing"),
])
def test_a_body_that_is_no_object_is_told_what_to_send(tenant, content, kind):
    answer = tenant.http.post("/contacts", content=content, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["field"]) == (422, "body")
    assert answer.json()["error"] == "body: send a JSON object, with the header Content-Type: application/json"
