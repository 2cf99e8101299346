"""Imports and exports of contacts over HTTP: files as people have them, what is left out and why, and everything out again without loss."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

from relay.audience.reader import SMALL
from tests.support.databases import DATABASES
from tests.support.dns import DnsServer, Fault
from tests.support.fixtures import serving

ZONES = {"example.com": {"MX": "10 mx.example.com."}, "mx.example.com": {"A": "192.0.2.1"}, "plain.example": {"A": "192.0.2.2"}, "null.example": {"MX": "0 ."},
         "silent.example": {"TXT": "x"}, "broken.example": {"MX": "10 mx.example.com."}}


@pytest.fixture(scope="module", params=DATABASES)
def served(request):
    with DnsServer(ZONES) as dns:
        dns.faults["broken.example"] = Fault(rcode="SERVFAIL")
        with serving(request, RELAY_DNS__NAMESERVERS=dns.address) as relay:
            yield relay


def upload(tenant, data, status=200, query="", **fields):
    data = data.encode() if isinstance(data, str) else data
    answer = tenant.http.post(f"/contacts/import{query}", files={"file": ("contacts.csv", data)}, data=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


def figures(answer):
    return {name: answer[name] for name in ("imported", "updated", "skipped", "errors")}


@pytest.mark.parametrize("padding", [0, SMALL], ids=["in a thread", "in a process"])
def test_columns_mean_what_the_request_says(tenant, padding):
    mapping = '{"Wer": "email", "Stufe": "properties.plan", "Notiz": ""}'
    data = "Wer,Stufe,Notiz,Land\nada@example.com,pro,secret,DK\n" + "\n" * padding
    assert upload(tenant, data, 422)["error"].endswith("'Wer', 'Stufe', 'Notiz', 'Land'; call one of them email, or say by mapping what they mean")
    answer = upload(tenant, data, mapping=mapping)
    assert tenant.get("/contacts/by-email/ada@example.com")["properties"] == {"plan": "pro", "Land": "DK"}
    assert [each["id"] for each in tenant.get("/contacts/imports")["imports"]] == [answer["id"]]


def test_a_mapping_of_a_column_that_is_not_there_names_those_that_are(tenant):
    told = upload(tenant, "email,Stufe\nada@example.com,pro\n", 422, mapping='{"Plan": "properties.plan"}')
    assert (told["field"], told["error"]) == ("mapping", "mapping: the file has no column 'Plan'; it has 'email', 'Stufe'")
    assert tenant.get("/contacts/imports")["imports"] == []


@pytest.mark.parametrize(("content", "kind", "status", "said"), [
    pytest.param(b"email\nada@example.com\n", "text/csv", 400, "a file goes into the field file of a form", id="a file without a form"),
    pytest.param(b'{"contacts": [{"email": "a@example.com"}, 5]}', "application/json", 422, "contacts[1] is no object", id="a number among contacts"),
])
def test_a_body_that_is_no_import_is_told_what_to_send(tenant, content, kind, status, said):
    answer = tenant.http.post("/contacts/import", content=content, headers={"Content-Type": kind})
    assert (answer.status_code, said in answer.json()["error"]) == (status, True)


@pytest.mark.parametrize("mapping", ["{", "[]", '{"Who": "email"}', '{"Wer": "emial"}', '{"Wer": 1}', '{"Wer": "properties."}'])
def test_a_mapping_that_is_none_is_refused(tenant, mapping):
    assert upload(tenant, "Wer\nada@example.com\n", 422, mapping=mapping)["field"] == "mapping"


def test_a_file_creates_and_updates(tenant):
    tenant.post("/contacts", {"email": "bob@example.com", "first_name": "Bob", "properties": {"plan": "free", "seats": 3}}, 201)
    answer = upload(tenant, "email,first_name,last_name,plan\nalice@example.com,Alice,Smith,pro\nBOB@example.com,,Jones,\nnobody,,,\n")
    assert figures(answer) == {"imported": 1, "updated": 1, "skipped": 0, "errors": 1}
    alice, bob = (tenant.get(f"/contacts/by-email/{name}@example.com") for name in ("alice", "bob"))
    assert (alice["first_name"], alice["properties"]) == ("Alice", {"plan": "pro"})
    assert (bob["first_name"], bob["last_name"], bob["properties"]) == ("Bob", "Jones", {"plan": "free", "seats": 3})
    shown = tenant.get(f"/contacts/imports/{answer['id']}")
    assert (shown["status"], shown["total"], shown["invalid"]) == ("completed", 3, 1)
    rows = list(csv.reader(io.StringIO(tenant.http.get(f"/contacts/imports/{answer['id']}/errors").text)))
    assert rows == [["row", "email", "error"], ["4", "nobody", "'nobody' has no @"]]
    types = [event["type"] for event in tenant.get("/events")["events"]]
    assert types == ["import.completed", "contact.created"]
    assert tenant.get(f"/contacts/{alice['id']}/history")["history"][0]["source"] == "import"


def test_json_skips_those_that_are_there(tenant):
    tenant.post("/contacts", {"email": "bob@example.com", "first_name": "Bob"}, 201)
    ann = {"email": "a@example.com", "firstName": "Ann", "customFields": {"plan": "pro"}}
    rows = [{"email": "bob@example.com", "first_name": "Robert"}, ann, {"email": "x"}]
    answer = tenant.post("/contacts/import", {"contacts": rows})
    assert figures(answer) == {"imported": 1, "updated": 0, "skipped": 1, "errors": ["x: 'x' has no @"]}
    assert tenant.get("/contacts/by-email/bob@example.com")["first_name"] == "Bob"
    assert tenant.get("/contacts/by-email/a@example.com")["properties"] == {"plan": "pro"}
    assert tenant.post("/contacts/import", {"contacts": rows, "on_existing": "update"})["updated"] == 2
    assert tenant.get("/contacts/by-email/bob@example.com")["first_name"] == "Robert"


@pytest.mark.parametrize(("address", "error"), [
    pytest.param("a@gmial.com", "did they mean gmail.com?", id="a misspelling"),
    pytest.param("a@nowhere.example", "does not exist", id="no domain"),
    pytest.param("a@null.example", "does not accept mail", id="null MX"),
    pytest.param("a@silent.example", "has no mail server", id="neither MX nor address"),
    pytest.param("a@plain.example", "", id="an address is enough"),
    pytest.param("a@broken.example", "", id="DNS failed: kept"),
    pytest.param("a@example.com", "", id="MX"),
])
def test_domains_without_mail_are_left_out(tenant, address, error):
    answer = tenant.post("/contacts/import", {"contacts": [{"email": address}]})
    assert (answer["imported"], len(answer["errors"])) == ((0, 1) if error else (1, 0))
    assert error in "".join(answer["errors"])


def test_domains_are_looked_up_by_the_process_that_reads_a_large_file(tenant):
    people = [f"person{n}@{('example.com', 'null.example', 'gmial.com', 'broken.example')[n % 4]}" for n in range(2_400)]
    data = "email,note\n" + "\n".join(f"{each},{'x' * 60}" for each in people)
    assert len(data) > SMALL
    assert figures(upload(tenant, data)) == {"imported": 1_200, "updated": 0, "skipped": 0, "errors": 1_200}
    told = tenant.http.get(f"/contacts/imports/{tenant.get('/contacts/imports')['imports'][0]['id']}/errors").text
    assert (told.count("does not accept mail"), told.count("did they mean gmail.com?")) == (600, 600)


def test_an_import_never_brings_anybody_back(tenant):
    tenant.post("/suppressions", {"email": "gone@example.com", "reason": "hard_bounce"}, 201)
    left = tenant.post("/contacts", {"email": "left@example.com"}, 201)
    tenant.post(f"/contacts/{left['id']}/unsubscribe")
    deleted = tenant.post("/contacts", {"email": "deleted@example.com", "unsubscribed": True}, 201)
    tenant.delete(f"/contacts/{deleted['id']}")
    rows = ("gone@example.com,true", "left@example.com,true", "deleted@example.com,true", "no@example.com,no", "yes@example.com,yes")
    answer = upload(tenant, "\n".join(("email,subscribed", *rows)))
    assert figures(answer) == {"imported": 3, "updated": 1, "skipped": 1, "errors": 0}
    assert tenant.http.get("/contacts/by-email/gone@example.com").status_code == 404
    flags = {name: tenant.get(f"/contacts/by-email/{name}@example.com")["unsubscribed"] for name in ("left", "deleted", "no", "yes")}
    assert flags == {"left": True, "deleted": True, "no": True, "yes": False}


def test_a_preview_writes_nothing(tenant):
    tenant.post("/contacts", {"email": "old@example.com"}, 201)
    tenant.post("/suppressions", {"email": "gone@example.com"}, 201)
    data = "E-Mail,Plan\nold@example.com,\nnew@example.com,pro\nNEW@example.com,x\ngone@example.com,\nbad,\na@gmial.com,\n"
    answer = upload(tenant, data, query="?preview=true")
    rows, mapping, faults = answer.pop("rows"), answer.pop("mapping"), answer.pop("faults")
    assert [(each["row"], each["email"]) for each in faults] == [(6, "bad"), (7, "a@gmial.com")]
    assert answer == {"total": 6, "valid": 2, "new": 1, "existing": 1, "duplicates": 1, "invalid": 1, "suppressed": 1, "no_mx": 1}
    assert mapping == {"E-Mail": "email", "Plan": "properties.Plan"}
    assert rows[1] == {"email": "new@example.com", "first_name": None, "last_name": None, "properties": {"Plan": "pro"}, "tags": None}
    assert tenant.get("/contacts")["pagination"]["total"] == 1


PEOPLE = "email;First Name\r\na@example.com;Ünal\r\n"


@pytest.mark.parametrize(("data", "first"), [
    pytest.param(PEOPLE.encode(), "Ünal", id="semicolons"),
    pytest.param(PEOPLE.encode("utf-8-sig"), "Ünal", id="a byte order mark"),
    pytest.param(PEOPLE.encode("utf-16"), "Ünal", id="UTF-16"),
    pytest.param(PEOPLE.encode("cp1252"), "Ünal", id="cp1252"),
    pytest.param(PEOPLE.replace(";", "\t").encode(), "Ünal", id="tabs"),
    pytest.param(("sep=;\r\n" + PEOPLE).encode(), "Ünal", id="a sep= line"),
    pytest.param(b'Given Name,E-mail 1 - Value,Note\nAnn,a@example.com,"two\nlines"\n', "Ann", id="Google's names, a quoted line break"),
    pytest.param(b"First Name,E-mail Address\nAnn,a@example.com,more,than,there,is\n\n", "Ann", id="Outlook's names, a long row"),
    pytest.param(b"Email Address,First Name,Last Name\na@example.com,Ann\n", "Ann", id="Mailchimp's names, a short row"),
    pytest.param(b"email,first_name\n" + b"b@example.com," + b"x" * 70_000 + b"\na@example.com,Ann\n", "Ann", id="an over-long field"),
])
def test_files_as_people_have_them(tenant, data, first):
    assert upload(tenant, data)["imported"] == 1
    assert tenant.get("/contacts/by-email/a@example.com")["first_name"] == first


@pytest.mark.parametrize("data", [b"", b"name\nAnn\n", b"\xff\xfe", b"\x00\x01\x02"])
def test_a_file_without_addresses(tenant, data):
    assert upload(tenant, data, 422)["field"] == "file"


def test_an_import_has_targets_and_can_be_undone(tenant):
    audience, segment = tenant.post("/audiences", {"name": "a"}, 201), tenant.post("/segments", {"name": "s"}, 201)
    tenant.post("/contacts", {"email": "old@example.com"}, 201)
    fields = {"audience_id": audience["id"], "segment_id": segment["id"], "tags": "fair, 2026"}
    answer = upload(tenant, "email,tags\nold@example.com,\nnew@example.com,\"x,y\"\n", **fields)
    assert tenant.get(f"/audiences/{audience['id']}")["contact_count"] == 2
    assert tenant.get(f"/segments/{segment['id']}")["contact_count"] == 2
    assert tenant.get("/contacts/by-email/new@example.com")["tags"] == ["x", "y", "fair", "2026"]
    assert tenant.post(f"/contacts/imports/{answer['id']}/undo") == {"id": answer["id"], "deleted": 1, "restored": 1}
    assert tenant.get("/contacts")["pagination"]["total"] == 1


def test_cells_become_what_their_property_is(tenant):
    for name, kind in (("seats", "number"), ("ok", "boolean")):
        tenant.post("/contact-properties", {"name": name, "type": kind}, 201)
    answer = upload(tenant, "email,seats,ok,free\na@example.com,12,yes,12\nb@example.com,many,,\n")
    assert (answer["imported"], answer["errors"]) == (1, 1)
    assert tenant.get("/contacts/by-email/a@example.com")["properties"] == {"seats": 12, "ok": True, "free": "12"}


# Exports.


def table(answer):
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.fixture
def stocked(tenant):
    ann = {"plan": "pro", "note": "'=x", "phone": "+49 1"}
    tenant.post("/contacts", {"email": "ann@example.com", "first_name": "=1+1", "tags": ["a", "b"], "properties": ann}, 201)
    tenant.post("/contacts", {"email": "bob@example.com", "last_name": 'O"Neil, Bob', "unsubscribed": True, "properties": {"plan": "free", "minus": "-5"}}, 201)
    return tenant


def test_an_export_is_defused_and_comes_back_without_loss(served, stocked):
    answer = stocked.http.get("/contacts/export")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = table(answer)
    assert [(row["email"], row["first_name"], row["phone"], row["minus"]) for row in rows] == [
        ("ann@example.com", "'=1+1", "'+49 1", ""), ("bob@example.com", "", "", "-5")]
    other = served.tenant()
    assert upload(other, answer.content)["imported"] == 2
    kept = ("email", "first_name", "last_name", "tags", "properties", "unsubscribed")
    for name in ("ann", "bob"):
        before, after = (each.get(f"/contacts/by-email/{name}@example.com") for each in (stocked, other))
        assert {field: before[field] for field in kept} == {field: after[field] for field in kept}


def test_exports_of_all_kinds(stocked):
    segment = stocked.post("/segments", {"name": "Pro", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)
    assert [row["email"] for row in table(stocked.http.get("/contacts/export", params={"segment_id": segment["id"]}))] == ["ann@example.com"]
    assert stocked.http.get("/contacts/export", params={"segment_id": "seg_0000000000001"}).status_code == 404
    assert [each["email"] for each in stocked.get("/contacts/export", format="json")] == ["ann@example.com", "bob@example.com"]
    assert stocked.get("/segments/export")[0]["rules"] == segment["rules"]
    audience = stocked.post("/audiences", {"name": "all"}, 201)
    stocked.post(f"/audiences/{audience['id']}/contacts", {"emails": ["bob@example.com"]})
    assert stocked.get("/audiences/export") == [{"id": audience["id"], "audience": "all", "description": "", "email": "bob@example.com"}]
    assert [row["email"] for row in table(stocked.http.get(f"/audiences/{audience['id']}/export"))] == ["bob@example.com"]
    topic = stocked.post("/subscription-topics", {"name": "news"}, 201)
    ann = stocked.get("/contacts/by-email/ann@example.com")["id"]
    stocked.delete(f"/subscription-topics/contacts/{ann}/subscriptions/{topic['id']}")
    (row,) = table(stocked.http.get("/subscriptions/export"))
    assert (row["email"], row["topic"], row["subscribed"]) == ("ann@example.com", "news", "false")


def test_a_long_list_goes_in_and_out_by_processes_of_their_own(served, tenant):
    """More octets than a thread reads, more rows than a page has; the project beside sees nothing of it."""
    people = "email,first_name,plan\n" + "".join(f"p{n}@example.com,Person {n},{'pro' if n % 2 else 'free'}\n" for n in range(3_000))
    assert len(people) > SMALL
    assert figures(upload(tenant, people)) == {"imported": 3_000, "updated": 0, "skipped": 0, "errors": 0}
    assert figures(upload(tenant, people)) == {"imported": 0, "updated": 3_000, "skipped": 0, "errors": 0}
    rows = table(tenant.http.get("/contacts/export"))
    assert [(row["email"], row["plan"]) for row in rows] == [(f"p{n}@example.com", "pro" if n % 2 else "free") for n in range(3_000)]
    assert [each["email"] for each in tenant.get("/contacts/export", format="json")] == [row["email"] for row in rows]
    assert table(served.tenant().http.get("/contacts/export")) == []


def test_mailchimp_s_lists_end_as_they_were_there(tenant):
    tenant.post("/contacts", {"email": "stays@example.com"}, 201)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("subscribed_1.csv", "Email Address,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,LEID\nin@example.com,2020-01-01 00:00:00,192.0.2.1,,1\n")
        archive.writestr("unsubscribed_1.csv", "Email Address,LEID,UNSUB_TIME,UNSUB_REASON\nout@example.com,2,2021-02-03 04:05:06,NORMAL\n")
        archive.writestr("cleaned_1.csv", "Email Address,LEID,CLEAN_TIME\ngone@nowhere.example,3,2021-02-03 04:05:06\n"
                                          "stays@example.com,4,2021-02-03 04:05:06\n")
    answer = upload(tenant, buffer.getvalue())
    assert (answer["imported"], answer["errors"]) == (2, 0)
    entries = {row["email"]: (row["reason"], row["scope"], row["created_at"]) for row in table(tenant.http.get("/suppressions/export"))}
    stamp = "2021-02-03T04:05:06.000Z"
    assert entries == {"out@example.com": ("unsubscribe", "marketing", stamp), "gone@nowhere.example": ("hard_bounce", "all", stamp),
                       "stays@example.com": ("hard_bounce", "all", stamp)}
    flags = {each["email"]: (each["unsubscribed"], each["unsubscribed_at"]) for each in tenant.get("/contacts/export", format="json")}
    assert flags == {"stays@example.com": (True, stamp), "in@example.com": (False, None), "out@example.com": (True, stamp)}
    contact = tenant.get("/contacts/by-email/in@example.com")
    proof = next(each for each in tenant.get(f"/contacts/{contact['id']}/history")["history"] if each["type"] == "subscribed")
    assert (proof["at"], proof["evidence"]["optin_ip"], proof["evidence"]["import_id"]) == ("2020-01-01T00:00:00.000Z", "192.0.2.1", answer["id"])
    tenant.post(f"/contacts/imports/{answer['id']}/undo")
    assert table(tenant.http.get("/suppressions/export")) == []


def test_an_import_tells_of_each_contact_only_when_asked(tenant):
    upload(tenant, "email\na@example.com\n")
    upload(tenant, "email,first_name\na@example.com,Ann\nb@example.com,Bob\n", events="true")
    types = [event["type"] for event in tenant.get("/events")["events"]]
    assert sorted(types) == ["contact.created", "contact.updated", "import.completed", "import.completed"]
    answer = tenant.http.post("/contacts/import", files={"file": ("x.csv", b"email\n")}, data={"events": "maybe"})
    assert (answer.status_code, answer.json()["field"]) == (422, "events")


def test_what_would_be_too_much_for_a_contact_is_an_error_of_its_row(tenant):
    tenant.post("/contacts", {"email": "a@example.com", "tags": [f"t{n}" for n in range(100)]}, 201)
    answer = upload(tenant, "email,tags\na@example.com,one more\nb@example.com,one\n")
    assert figures(answer) == {"imported": 1, "updated": 0, "skipped": 0, "errors": 1}
    assert "a contact has at most 100 tags" in tenant.http.get(f"/contacts/imports/{answer['id']}/errors").text


def test_tags_that_are_too_many_with_those_of_the_import_make_no_contact_with_fewer(tenant):
    many = ";".join(f"t{n}" for n in range(100))
    answer = upload(tenant, f"email,tags\na@example.com,{many}\nb@example.com,one\n", tags="fair")
    assert figures(answer) == {"imported": 1, "updated": 0, "skipped": 0, "errors": 1}
    told = table(tenant.http.get(f"/contacts/imports/{answer['id']}/errors"))
    assert [row["error"] for row in told] == ["a contact has at most 100 tags, this one has 101 with those of the import"]
    assert [each["email"] for each in tenant.get("/contacts")["contacts"]] == ["b@example.com"]
    assert tenant.get("/contacts/by-email/b@example.com")["tags"] == ["one", "fair"]


def test_another_project_s_targets_and_imports_are_not_found(served, tenant):
    other = served.tenant()
    answer = upload(other, "email\na@example.com\n")
    for path in ("", "/errors"):
        assert tenant.http.get(f"/contacts/imports/{answer['id']}{path}").status_code == 404
    assert tenant.http.post(f"/contacts/imports/{answer['id']}/undo").status_code == 404
    audience = other.post("/audiences", {"name": "x"}, 201)
    assert upload(tenant, "email\na@example.com\n", 404, audience_id=audience["id"])["code"] == "not_found"
