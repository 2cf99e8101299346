"""The pages of contacts: found, added by hand, edited, tagged, described, unsubscribed and deleted, with nothing of another project's."""

from __future__ import annotations

import pytest

from tests.support.visitor import visiting, words

HOSTILE = "<script>alert(1)</script>\"' onload=x"


@pytest.fixture
def ada(tenant):
    return tenant.post("/contacts", {"email": "ada@example.com", "first_name": "Ada", "properties": {"plan": "pro", "seats": 3}, "tags": ["vip"]}, 201)


def there(tenant, contact):
    return tenant.get(f"/contacts/{contact['id']}")


def emails(page):
    return [link.text() for link in page.css("tbody a")]


def test_a_contact_is_added_by_hand_and_is_subscribed(tenant, visitor):
    assert "No contact here yet" in visitor.text("/contacts")
    answer = visitor.submit("/contacts/new", "/dashboard/contacts/new", email="Grace@Example.com", first_name="Grace", last_name="", tags="navy, , vip")
    assert "is a contact now" in words(answer.text)
    made = tenant.get("/contacts/by-email/grace@example.com")
    assert (made["first_name"], made["last_name"], made["tags"], made["unsubscribed"]) == ("Grace", None, ["navy", "vip"], False)
    history = tenant.get(f"/contacts/{made['id']}/history")["history"]
    assert [(entry["type"], entry["source"]) for entry in history] == [("created", "dashboard")]


@pytest.mark.parametrize(("email", "status", "said"), [("nobody", 422, "has no @"), ("ada@example.com", 409, "already exists"), ("", 422, "@")])
def test_an_address_that_cannot_be_is_refused_and_what_was_typed_stays(ada, visitor, email, status, said):
    answer = visitor.submit("/contacts/new", "/dashboard/contacts/new", email=email, first_name="Kept")
    assert answer.status_code == status
    assert said in words(answer.text)
    assert 'value="Kept"' in answer.text


@pytest.mark.parametrize(("query", "wanted"), [
    ({"search": "ada"}, ["ada@example.com"]), ({"search": "ADA@EX"}, ["ada@example.com"]), ({"search": "nobody"}, []), ({"search": "%"}, []),
    ({"state": "unsubscribed"}, ["bob@example.com"]), ({"state": "subscribed"}, ["ada@example.com"]), ({}, ["bob@example.com", "ada@example.com"]),
    ({"search": "x" * 400}, []), ({"state": "odd"}, ["bob@example.com", "ada@example.com"]),
])
def test_the_list_is_searched(tenant, visitor, ada, query, wanted):
    tenant.post("/contacts", {"email": "bob@example.com", "unsubscribed": True}, 201)
    assert emails(visitor.see("/contacts", **query)) == wanted


def test_a_long_list_has_pages(tenant, visitor):
    for number in range(30):
        tenant.post("/contacts", {"email": f"c{number:02}@example.com"}, 201)
    first = visitor.see("/contacts")
    older = first.css_first("a[rel=next]").attributes["href"]
    assert len(emails(first)) == 25
    assert sorted(emails(first) + emails(visitor.see(older))) == [f"c{number:02}@example.com" for number in range(30)]


def test_fields_tags_and_properties_are_edited(tenant, visitor, ada):
    place = f"/dashboard/contacts/{ada['id']}"
    visitor.submit(place, place, first_name="Augusta", last_name="King")
    visitor.submit(place, f"{place}/tags", tags="math, first")
    visitor.submit(place, f"{place}/untag", tag="vip")
    visitor.submit(place, f"{place}/properties", **{"property.plan": "", "property.seats": "4", "name": "since", "kind": "date", "value": "2026-01-02"})
    found = there(tenant, ada)
    assert (found["first_name"], found["last_name"], found["tags"]) == ("Augusta", "King", ["math", "first"])
    assert found["properties"] == {"seats": 4, "since": "2026-01-02"}


@pytest.mark.parametrize(("value", "fields"), [
    ("first\nsecond", {}), ({"deep": [1, True]}, {}), (True, {}), (1.5, {}), ("5", {}),
], ids=["lines", "json", "boolean", "number", "digits in a text"])
def test_a_property_that_nobody_touched_stays_what_it_is(tenant, visitor, ada, value, fields):
    tenant.patch(f"/contacts/{ada['id']}", {"properties": {"plan": value}})
    place = f"/dashboard/contacts/{ada['id']}"
    visitor.submit(place, f"{place}/properties", name="other", kind="boolean", value="True")
    assert there(tenant, ada)["properties"] == {"plan": value, "seats": 3, "other": True}


@pytest.mark.parametrize(("fields", "said"), [
    ({"property.seats": "many"}, "seats is a number, which 'many' is not"), ({"name": "x", "kind": "boolean", "value": "1"}, "true or false"),
    ({"name": "x", "kind": "json", "value": "{"}, "JSON"), ({"value": "x"}, "needs a name"), ({"name": 'a"b', "value": "x"}, "a property's name"),
    ({"name": "age", "value": "old"}, "age"),
], ids=["number", "boolean", "json", "no name", "bad name", "defined"])
def test_a_property_that_cannot_be_changes_nothing(tenant, visitor, ada, fields, said):
    tenant.post("/contact-properties", {"name": "age", "type": "number"}, 201)
    place = f"/dashboard/contacts/{ada['id']}"
    answer = visitor.submit(place, f"{place}/properties", **fields)
    assert answer.status_code == 422
    assert said in words(answer.text)
    assert there(tenant, ada)["properties"] == {"plan": "pro", "seats": 3}


def test_the_state_changes_both_ways_with_its_history(tenant, visitor, ada):
    place = f"/dashboard/contacts/{ada['id']}"
    visitor.submit(place, f"{place}/state")
    assert there(tenant, ada)["unsubscribed"] is True
    assert "unsubscribed dashboard" in visitor.text(place)
    visitor.submit(place, f"{place}/state")
    assert there(tenant, ada)["unsubscribed"] is False
    assert [entry["type"] for entry in tenant.get(f"/contacts/{ada['id']}/history")["history"]] == ["subscribed", "unsubscribed", "created"]


def test_a_topic_is_left_and_joined(tenant, visitor, ada):
    topic = tenant.post("/subscription-topics", {"name": "News"}, 201)
    place = f"/dashboard/contacts/{ada['id']}"
    for wanted in (False, True):
        visitor.submit(place, f"{place}/topics")
        assert [each["subscribed"] for each in tenant.get(f"/contacts/{ada['id']}/topics")["subscriptions"]] == [wanted]
    assert topic["name"] in visitor.text(place)


def test_a_contact_is_deleted(tenant, visitor, ada):
    place = f"/dashboard/contacts/{ada['id']}"
    assert "The contact is deleted." in words(visitor.submit(place, f"{place}/delete").text)
    visitor.see(place, 404)
    assert tenant.get("/contacts")["pagination"]["total"] == 0


def test_an_address_of_another_contact_is_refused(tenant, visitor, ada):
    bob = tenant.post("/contacts", {"email": "bob@example.com"}, 201)
    place = f"/dashboard/contacts/{bob['id']}"
    answer = visitor.submit(place, place, email="ADA@example.com")
    assert (answer.status_code, there(tenant, bob)["email"]) == (409, "bob@example.com")


def test_what_people_are_called_is_never_run(tenant, visitor):
    tenant.post("/contact-properties", {"name": "x", "label": HOSTILE}, 201)
    made = tenant.post("/contacts", {"email": "a@example.com", "first_name": HOSTILE, "tags": [HOSTILE], "properties": {"y<b>": HOSTILE}}, 201)
    for path in ("/contacts", f"/contacts/{made['id']}"):
        page = visitor.see(path)
        assert HOSTILE in page.body.text() or any(HOSTILE in (field.attributes.get("value") or "") for field in page.css("input"))
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_contacts_are_not_there(served, ada, visitor):
    stranger = visiting(served.tenant())
    place = f"/dashboard/contacts/{ada['id']}"
    token = stranger.see("/contacts/new").css_first("input[name=token]").attributes["value"]
    assert emails(stranger.see("/contacts")) == []
    stranger.see(place, 404)
    for act in ("", "/tags", "/untag", "/state", "/properties", "/topics", "/delete"):
        answer = stranger.http.post(place + act, data={"token": token, "tags": "x", "tag": "vip", "unsubscribed": "1", "email": "x@example.com"})
        assert answer.status_code == 404, act
    assert "ada@example.com" in visitor.text(place)


def test_a_key_that_only_sends_sees_no_contacts(served, tenant, ada):
    sender = visiting(served.tenant("sending_access", project=tenant.project))
    for path in ("/contacts", "/contacts/new", f"/contacts/{ada['id']}"):
        assert "Contacts" not in sender.text(path, 403).split("Sign out", 1)[0]
