"""A file of contacts from the dashboard: preview, start, progress, the rows with errors, undo; what is no list is told, nobody starts a stranger's."""

from __future__ import annotations

import csv
import io

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.support.databases import DATABASES
from tests.support.dns import DnsServer
from tests.support.fixtures import serving
from tests.support.visitor import held, visiting, words

ZONES = {"example.com": {"MX": "10 mx.example.com."}, "mx.example.com": {"A": "192.0.2.1"}}
FILE = "Email Address,First Name,plan,=cmd\nada@example.com,Ada,pro,1\nbob@example.com,,free,2\nBOB@example.com,,free,2\nnobody,,,\nx@nowhere.example,,,\n"
START, AGAIN = "/dashboard/contacts/import/start", "/dashboard/contacts/import/preview"


@pytest.fixture(scope="module", params=DATABASES)
def served(request):
    with DnsServer(ZONES) as dns, serving(request, RELAY_DNS__NAMESERVERS=dns.address) as relay:
        yield relay


def previewed(visitor, data=FILE, name="contacts.csv", **fields):
    data = data.encode() if isinstance(data, str) else data
    return visitor.submit("/contacts/import", "/dashboard/contacts/import", files={"file": (name, data)}, **fields)


def filled(page):
    """The form of a preview as it stands."""
    return held(next(form for form in LexborHTMLParser(page.text).css("form") if form.attributes["action"] == AGAIN))


def pressed(visitor, page, **fields):
    """Where the start of a previewed import leads."""
    return visitor.http.post(START, data={**filled(page), **fields})


def ended(tenant, place):
    return tenant.until(f"/contacts/imports/{place.rpartition('/')[2]}", lambda told: told["status"] != "running")


def waiting(served):
    """The files that wait for their start, by name."""
    return {path.name for path in (served.directory / "imports").glob("*")}


def test_a_file_is_previewed_imported_and_taken_back(served, tenant, visitor):
    before = waiting(served)
    tenant.post("/contacts", {"email": "bob@example.com", "first_name": "Bob", "properties": {"plan": "trial"}}, 201)
    page = previewed(visitor, tags="fair, 2026")
    said = words(page.text)
    assert all(part in said for part in ("5 Rows", "1 New contacts", "1 There already", "1 Twice in the file", "1 No address", "1 Domain takes no mail"))
    becomes = {each.parent.parent.parent.css_first("th").text(): each.text() for each in LexborHTMLParser(page.text).css("td.column > select option[selected]")}
    assert becomes == {"Email Address": "Address", "First Name": "First name", "plan": "a property plan", "=cmd": "a property =cmd"}
    assert all(part in said for part in ("Import 2 contacts", "The first errors", "5 nobody", "6 x@nowhere.example"))
    assert tenant.get("/contacts")["pagination"]["total"] == 1
    place = pressed(visitor, page).headers["location"]
    told = ended(tenant, place)
    assert (told["imported"], told["updated"], told["errors"]) == (1, 1, 2)
    assert tenant.get("/contacts/by-email/ada@example.com")["tags"] == ["fair", "2026"]
    assert "completed" in visitor.text(place)
    rows = list(csv.reader(io.StringIO(visitor.get(f"{place}/errors").text)))
    assert [row[0] for row in rows] == ["row", "5", "6"]
    assert "1 contacts are gone, 1 are as they were" in words(visitor.submit(place, f"{place}/undo").text)
    assert tenant.get("/contacts/by-email/bob@example.com")["properties"] == {"plan": "trial"}
    assert waiting(served) == before


STRANGE = "Wer,Kunde seit,Stufe,Umsatz,Notiz\nada@example.com,2026-01-15,pro,12.5,secret\nbob@example.com,soon,free,3,\n"


def test_columns_of_any_name_become_what_the_visitor_says(tenant, visitor):
    tenant.post("/contact-properties", {"name": "plan", "label": "Plan", "type": "text"}, 201)
    page = previewed(visitor, STRANGE)
    assert (page.status_code, "no column email" in words(page.text)) == (422, True)
    assert "Import " not in [each.text() for each in LexborHTMLParser(page.text).css("button")]
    chosen = {"column.0": "email", "column.1": "new", "property.1": "since", "type.1": "date", "column.2": "properties.plan", "column.4": ""}
    again = visitor.http.post(AGAIN, data={**filled(page), **chosen})
    said = words(again.text)
    assert all(part in said for part in ("Import 1 contact", "3 bob@example.com properties.since is a date", "1 New contacts"))
    assert [each["name"] for each in tenant.get("/contact-properties")["properties"]] == ["plan"]  # nothing happens before the start
    assert "secret" not in said.partition("The first rows")[2]
    told = ended(tenant, pressed(visitor, again).headers["location"])
    assert (told["imported"], told["errors"]) == (1, 1)
    assert tenant.get("/contacts/by-email/ada@example.com")["properties"] == {"since": "2026-01-15", "plan": "pro", "Umsatz": "12.5"}
    assert {each["name"]: each["type"] for each in tenant.get("/contact-properties")["properties"]} == {"plan": "text", "since": "date"}


@pytest.mark.parametrize(("chosen", "said"), [
    ({"column.0": ""}, "no column email"), ({"column.0": "nonsense"}, "there is no 'nonsense'"),
    ({"column.1": "new", "property.1": 'a"b', "type.1": "text"}, "a property's name has"), ({"column.1": "new", "property.1": ""}, "a property's name has"),
    ({"column.1": "new", "property.1": "1st", "type.1": "number"}, "begins with a letter"), ({"column.1": "new", "type.1": "blob"}, "a property is text"),
], ids=["no address", "no meaning", "odd name", "no name", "a name no definition has", "no type"])
def test_what_columns_cannot_mean_is_said_beside_them(tenant, visitor, chosen, said):
    page = previewed(visitor, "email,plan\nada@example.com,pro\n")
    answer = pressed(visitor, page, **chosen)
    assert (answer.status_code, said in words(answer.text)) == (422, True)
    assert tenant.get("/contacts")["pagination"]["total"] == 0
    assert tenant.get("/contact-properties")["properties"] == []


def test_imports_are_listed_newest_first_with_their_files(served, tenant, visitor):
    for name in ("first.csv", "<b>second.csv"):
        page = previewed(visitor, "email\nada@example.com\nnobody\n", name=name)
        place = pressed(visitor, page).headers["location"]
        ended(tenant, place)
    rows = [words(each.html) for each in visitor.see("/contacts/imports").css("tbody tr")]
    assert [row.split(" ")[0] for row in rows] == ["<b>second.csv", "first.csv"]
    assert "completed" in rows[0]
    assert "3 nobody" in visitor.text(place)
    assert [each["name"] for each in tenant.get("/contacts/imports")["imports"]] == ["<b>second.csv", "first.csv"]
    assert visiting(served.tenant()).text("/contacts/imports").count("first.csv") == 0


def test_a_file_goes_into_an_audience_and_a_list_and_leaves_those_there_alone(tenant, visitor):
    tenant.post("/contacts", {"email": "bob@example.com", "first_name": "Bob"}, 201)
    audience, listed = tenant.post("/audiences", {"name": "All"}, 201), tenant.post("/segments", {"name": "Fair"}, 201)
    tenant.post("/segments", {"name": "Asks", "rules": [{"field": "email", "operator": "contains", "value": "x"}]}, 201)
    assert "Asks" not in visitor.text("/contacts/import")
    page = previewed(visitor, "email,first_name\nbob@example.com,Robert\neve@example.com,Eve\n", on_existing="skip", audience_id=audience["id"],
                     segment_id=listed["id"])
    ended(tenant, pressed(visitor, page).headers["location"])
    assert tenant.get("/contacts/by-email/bob@example.com")["first_name"] == "Bob"
    assert "eve@example.com" in [each["email"] for each in tenant.get(f"/segments/{listed['id']}/members")["contacts"]]
    assert "eve@example.com" in [each["email"] for each in tenant.get("/contacts", audience_id=audience["id"])["contacts"]]


@pytest.mark.parametrize(("data", "fields", "said"), [
    (b"PK\x03\x04broken", {}, ""), ("email\na@example.com\n", {"on_existing": "burn"}, "on_existing is skip or update"),
    ("email\na@example.com\n", {"tags": "x" * 65}, "a tag is a text of 1 to 64 characters"), ("", {}, ""),
    ("email\na@example.com\n", {"audience_id": "aud_nothing"}, "Audience not found"),
], ids=["broken", "odd choice", "long tag", "empty", "no such audience"])
def test_what_cannot_be_imported_is_said_and_leaves_no_file(served, visitor, data, fields, said):
    before = waiting(served)
    answer = previewed(visitor, data, **fields)
    assert answer.status_code in (404, 422)
    assert said in words(answer.text)
    assert "Preview" in answer.text
    assert waiting(served) == before


def test_a_form_without_a_file_says_so(visitor):
    answer = visitor.submit("/contacts/import", "/dashboard/contacts/import")
    assert (answer.status_code, "choose a file" in words(answer.text)) == (422, True)


def test_what_a_file_holds_is_never_run(visitor):
    hostile = "<script>alert(1)</script>"
    page = previewed(visitor, f"email,{hostile}\na@example.com,{hostile}\n{hostile},x\n", name=f"{hostile}.csv")
    assert page.status_code == 200
    assert hostile not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


@pytest.mark.parametrize("change", [lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"), lambda _: "", lambda _: "../../relay.db"],
                         ids=["changed", "none", "a path"])
def test_only_a_form_of_ours_starts_a_file(visitor, change):
    form = filled(previewed(visitor))
    answer = visitor.http.post(START, data={**form, "upload": change(form["upload"])})
    assert (answer.status_code, "choose it once more" in words(answer.text)) == (422, True)


def test_a_stranger_starts_and_sees_nothing_of_ours(served, tenant, visitor):
    stranger = visiting(served.tenant())
    page = previewed(visitor)
    form = filled(page)
    token = stranger.see("/contacts/import").css_first("form.narrow input[name=token]").attributes["value"]
    assert stranger.http.post(START, data={**form, "token": token}).status_code == 422
    place = pressed(visitor, page).headers["location"]
    ended(tenant, place)
    for path in ("", "/errors"):
        assert stranger.get(place + path).status_code == 404
    assert stranger.http.post(f"{place}/undo", data={"token": token}).status_code == 404
    assert tenant.get("/contacts")["pagination"]["total"] == 2


def test_a_second_press_starts_no_second_import(tenant, visitor):
    page = previewed(visitor)
    ended(tenant, pressed(visitor, page).headers["location"])
    again = pressed(visitor, page)
    assert (again.status_code, "choose it once more" in words(again.text)) == (422, True)
    assert tenant.get("/contacts")["pagination"]["total"] == 2
