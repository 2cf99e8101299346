"""Contacts in the Plunk dialect: data, subscription, pages, lookup, fields, bulk, imports; and that no project sees another's."""

from concurrent.futures import ThreadPoolExecutor

import pytest


def test_a_contact_is_made_and_then_changed_by_its_address(plunk):
    made = plunk.contact(" Jane@Example.com ", data={"firstName": "Jane", "plan": "free", "seats": 3})
    assert made["_meta"] == {"isNew": True, "isUpdate": False}
    assert (made["email"], made["subscribed"], made["data"]) == ("jane@example.com", True, {"firstName": "Jane", "plan": "free", "seats": 3})
    again = plunk.contact("JANE@example.com", 200, data={"plan": "pro", "seats": None, "firstName": ""})
    assert again["_meta"] == {"isNew": False, "isUpdate": True}
    assert (again["id"], again["data"]) == (made["id"], {"firstName": "Jane", "plan": "pro"})
    assert plunk.get(f"/contacts/{made['id']}") == {name: value for name, value in again.items() if name != "_meta"}
    assert {"createdAt", "updatedAt", "projectId"} <= made.keys()


@pytest.mark.parametrize(("first", "then", "subscribed"), [
    pytest.param({}, None, True, id="subscribed unless said otherwise"),
    pytest.param({"subscribed": False}, None, False, id="not when it says so"),
    pytest.param({"subscribed": False}, {}, False, id="omitting keeps the state"),
    pytest.param({}, {"subscribed": False}, False, id="unsubscribed by an upsert"),
    pytest.param({"subscribed": False}, {"subscribed": True}, True, id="subscribed again"),
])
def test_subscription(plunk, first, then, subscribed):
    found = plunk.contact(**first)
    if then is not None:
        found = plunk.contact(status=200, **then)
    assert found["subscribed"] is subscribed


def test_many_at_once_make_one_contact(plunk):
    def track(number):
        return plunk.post("/v1/track", {"event": "login", "email": "jane@example.com", "data": {f"n{number}": number}})["contact"]

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(track, range(16)))) == 1
    assert plunk.contact(status=200)["data"] == {f"n{number}": number for number in range(16)}


@pytest.mark.parametrize(("given", "kept"), [
    pytest.param({"email": "x", "createdAt": "x", "updatedAt": "x", "subscribed": False, "id": 1, "plunk_id": 2, "manageUrl": "x", "ok": 1},
                 {"ok": 1}, id="reserved"),
    pytest.param({"a": {"value": 1, "persistent": False}, "b": {"value": 2, "persistent": True}}, {"b": 2}, id="not persistent"),
    pytest.param({"a": "", "b": None, "c": 0, "d": False}, {"c": 0, "d": False}, id="empty and null"),
    pytest.param({"when": "2025-03-01T00:00:00Z", "n": 9.99, "tags": ["a"], "deep": {"x": {"y": 1}}},
                 {"when": "2025-03-01T00:00:00Z", "n": 9.99, "tags": ["a"], "deep": {"x": {"y": 1}}}, id="every type"),
    pytest.param({"locale": "fr"}, {"locale": "fr"}, id="locale"),
])
def test_data(plunk, given, kept):
    found = plunk.contact(data=given)
    assert (found["data"], found["subscribed"]) == (kept, True)


@pytest.mark.parametrize(("body", "status", "code", "field"), [
    pytest.param({"email": "nonsense"}, 422, "VALIDATION_ERROR", "email", id="no address"),
    pytest.param({"email": "a@example.com", "data": {"locale": 7}}, 400, "BAD_REQUEST", "data.locale", id="locale is a text"),
    pytest.param({"email": "a@example.com", "data": []}, 422, "VALIDATION_ERROR", "data", id="data is an object"),
    pytest.param({"email": "a@example.com", "data": {"a\"b": 1}}, 422, "VALIDATION_ERROR", "data", id="a key that cannot be"),
    pytest.param({"email": "a@example.com", "subscribed": "perhaps"}, 422, "VALIDATION_ERROR", "subscribed", id="subscribed is a boolean"),
])
def test_errors_name_the_field(plunk, body, status, code, field):
    told = plunk.post("/contacts", body, status)
    error = told["error"]
    assert (told["success"], error["code"], error["statusCode"], error["errors"][0]["field"]) == (False, code, status, field)
    assert told["message"] == error["message"]
    assert error["requestId"]
    assert told["timestamp"]


def test_a_missing_address_is_told_in_the_words_of_old(plunk):
    assert plunk.post("/contacts", {}, 400)["error"] == "Email is required"


def test_a_body_that_is_no_json(plunk):
    answer = plunk.http.post("/plunk/contacts", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(("key", "code"), [("", "MISSING_AUTH"), ("Bearer sk_live_nonsense", "INVALID_API_KEY")])
def test_without_a_key_that_lives(plunk, key, code):
    answer = plunk.http.get("/plunk/contacts", headers={"Authorization": key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert answer.json()["message"]


def test_a_sending_key_reads_no_contacts(served):
    answer = served.tenant("sending_access").http.get("/plunk/contacts")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


def test_change_and_delete(plunk):
    jane, john = plunk.contact(), plunk.contact("john@example.com")
    found = plunk.patch(f"/contacts/{jane['id']}", {"subscribed": False, "data": {"plan": "pro"}})
    assert (found["subscribed"], found["data"]) == (False, {"plan": "pro"})
    clash = plunk.patch(f"/contacts/{jane['id']}", {"email": "JOHN@example.com"}, 409)
    assert clash["error"]["code"] == "CONFLICT"
    assert plunk.patch(f"/contacts/{jane['id']}", {"email": "jane@example.org"})["email"] == "jane@example.org"
    assert plunk.delete(f"/contacts/{john['id']}", status=204) is None
    gone = plunk.get(f"/contacts/{john['id']}", 404)
    assert (gone["error"]["code"], gone["message"]) == ("CONTACT_NOT_FOUND", "Contact not found")


def test_who_left_and_was_deleted_is_unsubscribed_when_added_again(plunk):
    jane = plunk.contact(subscribed=False)
    plunk.delete(f"/contacts/{jane['id']}", status=204)
    assert plunk.contact()["subscribed"] is False


@pytest.mark.parametrize(("sort", "emails"), [
    ("", [f"c{n}@example.com" for n in (5, 4, 3, 2, 1)]), ("sort=createdAt&dir=asc", [f"c{n}@example.com" for n in (1, 2, 3, 4, 5)]),
    ("sort=email&dir=desc", [f"c{n}@example.com" for n in (5, 4, 3, 2, 1)]), ("sort=email&dir=asc", [f"c{n}@example.com" for n in (1, 2, 3, 4, 5)]),
])
def test_pages_by_cursor(plunk, sort, emails):
    for number in range(1, 6):
        plunk.contact(f"c{number}@example.com", subscribed=number != 3)
    first = plunk.get(f"/contacts?limit=2&{sort}")
    assert ([each["email"] for each in first["data"]], first["hasMore"], first["total"]) == (emails[:2], True, 5)
    second = plunk.get(f"/contacts?limit=2&{sort}&cursor={first['cursor']}")
    third = plunk.get(f"/contacts?limit=2&{sort}&cursor={second['cursor']}")
    assert [each["email"] for each in (*second["data"], *third["data"])] == emails[2:]
    assert (second["total"], third["hasMore"], third["cursor"]) == (0, False, None)


def test_filters(plunk):
    plunk.contact("jane@example.com")
    plunk.contact("john@example.org", subscribed=False)
    assert [each["email"] for each in plunk.get("/contacts?search=example.org")["data"]] == ["john@example.org"]
    assert [each["email"] for each in plunk.get("/contacts?subscribed=true")["data"]] == ["jane@example.com"]
    assert plunk.get("/contacts?limit=1000")["total"] == 2
    assert plunk.get("/contacts?cursor=nonsense!", 400)["error"]["errors"][0]["field"] == "cursor"


def test_lookup_keeps_the_spelling(plunk):
    plunk.contact()
    assert plunk.post("/contacts/lookup", {"emails": ["JANE@Example.com", "nobody@example.com", "nonsense"]}) == {
        "found": ["JANE@Example.com"], "notFound": ["nobody@example.com", "nonsense"]}
    plunk.post("/contacts/lookup", {"emails": ["a@example.com"] * 501}, 422)


def test_fields_have_inferred_types_and_mixed_ones_are_strings(plunk):
    plunk.contact("a@example.com", data={"plan": "pro", "age": 7, "vip": True, "trialEndsAt": "2025-03-01T00:00:00Z", "mixed": 1})
    plunk.contact("b@example.com", data={"plan": "free", "mixed": "1"})
    found = plunk.get("/contacts/fields")
    types = {each["field"]: (each["type"], each["coverage"]) for each in found["fields"]}
    assert found["count"] == len(types)
    assert types == {"email": ("string", 100), "subscribed": ("boolean", 100), "createdAt": ("date", 100), "updatedAt": ("date", 100),
                     "data.plan": ("string", 100), "data.age": ("number", 50), "data.vip": ("boolean", 50),
                     "data.trialEndsAt": ("date", 50), "data.mixed": ("string", 100)}
    assert sorted(plunk.get("/contacts/fields/data.plan/values")["values"]) == ["free", "pro"]


def test_a_field_goes_unless_a_segment_asks_about_it(plunk):
    jane = plunk.contact(data={"plan": "pro", "age": 7})
    made = plunk.post("/segments", {"name": "Pros", "condition": {"logic": "AND", "groups": [{"filters": [
        {"field": "data.plan", "operator": "equals", "value": "pro"}]}]}}, 201)
    assert plunk.get("/contacts/fields/plan/usage")["segments"] == [{"id": made["id"], "name": "Pros"}]
    plunk.delete("/contacts/fields/data.plan", status=400)
    plunk.delete("/contacts/fields/email", status=400)
    assert plunk.delete("/contacts/fields/age")["success"] is True
    assert plunk.get(f"/contacts/{jane['id']}")["data"] == {"plan": "pro"}


def job(plunk, path, number):
    return plunk.tenant.until(f"/plunk/contacts/{path}/{number}", lambda answer: answer["status"] != "active")


def test_bulk_by_ids(plunk):
    some = [plunk.contact(f"c{number}@example.com")["id"] for number in range(3)]
    begun = plunk.post("/contacts/bulk-unsubscribe", {"mode": "ids", "contactIds": [*some[:2], "ct_0000000000000"]}, 202)
    assert job(plunk, "bulk", begun["jobId"])["result"] == {"total": 3, "successCount": 2}
    assert [plunk.get(f"/contacts/{each}")["subscribed"] for each in some] == [False, False, True]
    begun = plunk.post("/contacts/bulk-subscribe", {"mode": "ids", "contactIds": some}, 202)
    assert job(plunk, "bulk", begun["jobId"])["status"] == "completed"
    assert plunk.get("/contacts?subscribed=true")["total"] == 3


def test_bulk_by_query(plunk):
    some = [plunk.contact(f"c{number}@example.com", subscribed=number % 2 == 0)["id"] for number in range(4)]
    plunk.contact("jane@example.org", subscribed=False)
    wanted = {"mode": "query", "filter": {"search": "example.com", "subscribed": False}, "excludeIds": [some[1]]}
    begun = plunk.post("/contacts/bulk-delete", wanted, 202)
    assert job(plunk, "bulk", begun["jobId"])["result"]["successCount"] == 1
    assert sorted(each["email"] for each in plunk.get("/contacts")["data"]) == ["c0@example.com", "c1@example.com", "c2@example.com", "jane@example.org"]
    plunk.post("/contacts/bulk-delete", {"mode": "ids", "contactIds": []}, 422)
    assert plunk.get("/contacts/bulk/job_0000000000000", 404)["error"]["code"] == "RESOURCE_NOT_FOUND"


def upload(plunk, text, name="contacts.csv"):
    return plunk.http.post("/plunk/contacts/import", files={"file": (name, text.encode(), "text/csv")})


def test_import_runs_behind_a_202(plunk):
    there = plunk.contact("old@[127.0.0.1]", subscribed=False, data={"plan": "free"})
    answer = upload(plunk, "Email,Subscribed,Plan,Seats,VIP,Zip,createdAt\nnew@[127.0.0.1],true,pro,3,yes,0123,x\n\nOLD@[127.0.0.1],true,pro,,,,\n"
                           "left@[127.0.0.1],no,\nnonsense,,\n,,pro\n")
    assert answer.status_code == 202
    told = job(plunk, "import", answer.json()["jobId"])
    assert told["status"] == "completed"
    result = told["result"]
    assert (result["createdCount"], result["updatedCount"], result["successCount"]) == (2, 1, 3)
    assert [(each["row"], each["email"]) for each in result["errors"]] == [(6, "nonsense"), (7, "")]
    assert result["errors"][1]["error"] == "Email is required"
    found = {each["email"]: each for each in plunk.get("/contacts")["data"]}
    assert found["new@[127.0.0.1]"]["data"] == {"plan": "pro", "seats": 3, "vip": True, "zip": "0123"}
    assert (found["old@[127.0.0.1]"]["id"], found["old@[127.0.0.1]"]["data"], found["old@[127.0.0.1]"]["subscribed"]) == (there["id"], {"plan": "pro"}, False)
    assert found["left@[127.0.0.1]"]["subscribed"] is False


@pytest.mark.parametrize(("text", "name", "status"), [
    pytest.param("name\nJane\n", "contacts.csv", 400, id="no column email"), pytest.param("email\na@example.com\n", "contacts.pdf", 400, id="no CSV file"),
    pytest.param("", "contacts.csv", 400, id="empty"), pytest.param("email\n" + "a@example.com\n" * 400_000, "contacts.csv", 413, id="too large"),
])
def test_imports_that_are_refused(plunk, text, name, status):
    assert upload(plunk, text, name).status_code == status


def test_another_project_sees_nothing(plunk, other):
    jane = plunk.contact(data={"plan": "pro"})
    begun = plunk.post("/contacts/bulk-unsubscribe", {"mode": "ids", "contactIds": [jane["id"]]}, 202)
    imported = upload(plunk, "email\nx@[127.0.0.1]\n").json()
    for path in (f"/contacts/{jane['id']}", f"/contacts/bulk/{begun['jobId']}", f"/contacts/import/{imported['jobId']}"):
        assert other.get(path, 404)["success"] is False
    other.patch(f"/contacts/{jane['id']}", {"subscribed": True}, 404)
    other.delete(f"/contacts/{jane['id']}", status=404)
    stolen = other.post("/contacts/bulk-delete", {"mode": "ids", "contactIds": [jane["id"]]}, 202)
    assert job(other, "bulk", stolen["jobId"])["result"]["successCount"] == 0
    assert other.get("/contacts") == {"data": [], "cursor": None, "hasMore": False, "total": 0}
    assert other.post("/contacts/lookup", {"emails": ["jane@example.com"]})["found"] == []
    assert [each["field"] for each in other.get("/contacts/fields")["fields"]] == ["email", "subscribed", "createdAt", "updatedAt"]
    job(plunk, "bulk", begun["jobId"])
    assert plunk.get(f"/contacts/{jane['id']}")["email"] == "jane@example.com"
