"""The pages of audiences, topics and properties, exports, and acts on many contacts; two projects side by side."""

from __future__ import annotations

import csv
import io
import time

import orjson
import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.api.properties import FEW
from relay.store.audience.schema import contacts
from tests.support.until import PATIENCE
from tests.support.visitor import visiting, words

HOSTILE = "<script>alert(1)</script>\"' onload=x"


@pytest.fixture
def people(tenant):
    return {name: tenant.post("/contacts", {"email": f"{name}@example.com", "properties": {"plan": "pro"}}, 201)["id"] for name in ("ada", "bob", "eve")}


def emails(page):
    return sorted(link.text() for link in page.css("tbody a") if "@" in link.text())


def test_an_audience_is_made_filled_renamed_exported_and_deleted(tenant, visitor, people):
    assert "No audience yet." in visitor.text("/audiences")
    assert "The audience is there" in words(visitor.submit("/audiences", "/dashboard/audiences", name="Paid", description="who pays").text)
    place = visitor.see("/audiences").css_first("tbody a").attributes["href"]
    said = words(visitor.submit(place, f"{place}/members", emails="ada@example.com, Bob@Example.com nobody@example.com").text)
    assert "2 added. No contact has nobody@example.com." in said
    assert emails(visitor.see(place)) == ["ada@example.com", "bob@example.com"]
    rows = list(csv.reader(io.StringIO(visitor.get(f"{place}/export").text)))
    assert sorted(row[rows[0].index("email")] for row in rows[1:]) == ["ada@example.com", "bob@example.com"]
    visitor.submit(place, f"{place}/remove", contact_id=people["ada"])
    assert emails(visitor.see(place)) == ["bob@example.com"]
    visitor.submit(place, place, name="Payers")
    (found,) = tenant.get("/audiences")["audiences"]
    assert (found["name"], found["contact_count"]) == ("Payers", 1)
    assert visitor.submit("/audiences", "/dashboard/audiences", name="Payers").status_code == 409
    assert visitor.submit(place, f"{place}/members", emails="nobody").status_code == 422
    visitor.submit(place, f"{place}/delete")
    assert tenant.get("/audiences")["audiences"] == []
    assert tenant.get("/contacts")["pagination"]["total"] == 3


def test_a_topic_is_made_and_people_leave_it_and_come_back(tenant, visitor, people):
    visitor.submit("/topics", "/dashboard/topics", name="News", description="once a month")
    place = visitor.see("/topics").css_first("tbody a").attributes["href"]
    assert emails(visitor.see(place)) == ["ada@example.com", "bob@example.com", "eve@example.com"]
    visitor.submit(place, f"{place}/subscriber", contact_id=people["ada"])
    assert emails(visitor.see(place)) == ["bob@example.com", "eve@example.com"]
    assert emails(visitor.see(place, show="out")) == ["ada@example.com"]
    history = tenant.get(f"/contacts/{people['ada']}/history")["history"]
    assert history[0]["type"].startswith("topic") or "topic" in str(history[0])
    visitor.submit(f"{place}?show=out", f"{place}/subscriber", contact_id=people["ada"])
    assert emails(visitor.see(place, show="out")) == []
    by_hand = {"token": visitor.see(place).css_first("main input[name=token]").attributes["value"], "subscribed": "0"}
    assert visitor.http.post(f"{place}/subscriber", data={**by_hand, "email": "EVE@example.com"}).status_code == 303
    assert emails(visitor.see(place, show="out")) == ["eve@example.com"]
    wrong = visitor.http.post(f"{place}/subscriber", data={**by_hand, "email": "nobody@example.com"})
    assert (wrong.status_code, "no contact has the address nobody@example.com" in words(wrong.text)) == (422, True)
    assert "eve@example.com" in visitor.get("/topics/export").text
    visitor.submit(place, place, name="Newsletter")
    assert tenant.get("/subscription-topics")["topics"][0]["name"] == "Newsletter"
    visitor.submit(place, f"{place}/delete")
    assert tenant.get("/subscription-topics")["topics"] == []


def test_a_property_is_defined_changed_and_deleted_with_the_consequence_told(tenant, visitor, people):
    made = words(visitor.submit("/properties", "/dashboard/properties", name="plan", label="Plan", type="select", options="pro\nfree\n").text)
    assert "Plan is defined" in made
    (found,) = tenant.get("/contact-properties")["properties"]
    assert (found["name"], found["type"], found["options"], found["required"]) == ("plan", "select", ["pro", "free"], False)
    place = f"/dashboard/properties/{found['id']}"
    visitor.submit(place, place, label="Tariff", options="pro\nfree\nteam", required="1")
    (changed,) = tenant.get("/contact-properties")["properties"]
    assert (changed["label"], changed["options"], changed["required"]) == ("Tariff", ["pro", "free", "team"], True)
    tenant.post("/segments", {"name": "Pros", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)
    assert "Segments whose rules ask about it, which then nobody has: Pros." in visitor.text(f"{place}/delete")
    assert "3 contacts have a value of it now." in words(visitor.get(f"{place}/usage").text)
    visitor.submit(f"{place}/delete", f"{place}/delete")
    assert tenant.get("/contact-properties")["properties"] == []
    assert tenant.get(f"/contacts/{people['ada']}")["properties"] == {}


def test_the_values_of_very_many_contacts_go_in_the_background(served, tenant, visitor):
    many, now = FEW + 1, served.relay.clock.now()
    told = {"project_id": tenant.number, "properties": {"plan": "pro"}, "tags": [], "unsubscribed": False, "created_at": now, "updated_at": now}
    emails = [f"person{number}@example.com" for number in range(many)]
    rows = [{**told, "id": served.relay.maker.next(), "key": email, "email": email, "search": email} for email in emails]
    served.call(served.relay.store.write(lambda conn: conn.execute(contacts.insert(), rows) and None))
    place = f"/properties/{tenant.post('/contact-properties', {'name': 'plan'}, 201)['id']}/delete"
    act = visitor.submit(place, f"/dashboard{place}")
    assert "Take the deleted property plan from everybody" in words(act.text)
    end = time.monotonic() + PATIENCE
    while "1,001 contacts are without it now." not in (said := visitor.text(act.url.path)):
        assert time.monotonic() < end, said
    tenant.post("/contact-properties", {"name": "plan"}, 201)
    assert "0 contacts have a value of it now." in words(visitor.get(f"/properties/{tenant.get('/contact-properties')['properties'][0]['id']}/usage").text)


@pytest.mark.parametrize(("fields", "status", "said"), [
    ({"name": "1st"}, 422, "begins with a letter"), ({"name": "x", "type": "select"}, 422, "at least one option"), ({"name": "x", "type": "blob"}, 422, "type"),
    ({"name": "plan"}, 409, "exists already"), ({"name": "x", "options": "a"}, 422, "options are of a select"),
], ids=["odd name", "no options", "odd type", "twice", "options of a text"])
def test_a_property_that_cannot_be_is_refused(tenant, visitor, fields, status, said):
    tenant.post("/contact-properties", {"name": "plan"}, 201)
    answer = visitor.submit("/properties", "/dashboard/properties", **fields)
    assert (answer.status_code, said in words(answer.text)) == (status, True)


def test_everything_is_exported(tenant, visitor, people):
    tenant.post("/suppressions", {"email": "gone@example.com"}, 201)
    segment = tenant.post("/segments", {"name": "Ada", "rules": [{"field": "email", "operator": "contains", "value": "ada"}]}, 201)["id"]
    for path, wanted in (("/contacts/export", "bob@example.com"), ("/segments/export", "Ada"), ("/settings/suppressions/export", "gone@example.com"),
                         ("/audiences/export", ""), ("/topics/export", "")):
        for form in ("csv", "json"):
            answer = visitor.get(path, format=form)
            assert answer.status_code == 200, path
            assert "attachment" in answer.headers["content-disposition"]
            assert wanted in answer.text
            assert form == "csv" or isinstance(orjson.loads(answer.text), list | dict)
    members = visitor.get("/contacts/export", segment=segment).text
    assert ("ada@example.com" in members, "bob@example.com" in members) == (True, False)
    assert visitor.get("/contacts/export", format="exe").status_code == 422


def ticked(visitor, act, **fields):
    """The question after a press of a button of a list."""
    return visitor.get("/contacts/many", act=act, **fields)


def done(visitor, question, **fields):
    form = next(each for each in LexborHTMLParser(question.text).css("form") if each.attributes["action"].endswith("/contacts/many"))
    data = [(each.attributes["name"], each.attributes.get("value") or "") for each in form.css("input[name]") if each.attributes["name"] not in fields]
    answer = visitor.http.post("/dashboard/contacts/many", data={**_lists(data), **fields})
    return visitor.http.get(answer.headers["location"]) if answer.status_code == 303 else answer


def _lists(pairs):
    found = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def test_those_who_are_ticked_are_tagged_unsubscribed_and_deleted_after_a_question_that_counts(tenant, visitor, people):
    two = [people["ada"], people["bob"]]
    question = ticked(visitor, "tag", contact=two)
    assert "Tag 2 contacts?" in words(question.text)
    assert "bob@example.com" in words(question.text)
    assert tenant.get(f"/contacts/{two[0]}")["tags"] == []
    assert done(visitor, question).status_code == 422  # which tag?
    assert "2 contacts are tagged now." in words(done(visitor, question, tags="fair, 2026").text)
    assert tenant.get(f"/contacts/{two[0]}")["tags"] == ["fair", "2026"]
    assert "1 contact is without the tag now." in words(done(visitor, ticked(visitor, "untag", contact=two[:1]), tags="fair").text)
    assert "2 contacts are unsubscribed now." in words(done(visitor, ticked(visitor, "unsubscribe", contact=two)).text)
    history = tenant.get(f"/contacts/{two[1]}/history")["history"]
    assert history[0]["type"] == "unsubscribed"
    assert "1 contact is deleted now." in words(done(visitor, ticked(visitor, "delete", contact=two[:1])).text)
    assert emails(visitor.see("/contacts")) == ["bob@example.com", "eve@example.com"]
    assert "Nobody is ticked" in words(visitor.http.get(ticked(visitor, "tag").headers["location"]).text)
    assert ticked(visitor, "burn", contact=two).status_code == 422


def ended(visitor, page):
    """What the page of an act says once it has ended."""
    path, until = str(page.url.path), time.monotonic() + PATIENCE
    while "since" not in (said := visitor.text(path)) or "running" in said:
        assert time.monotonic() < until, said
        time.sleep(0.02)
    return said


def test_a_whole_segment_is_tagged_and_deleted_in_the_background(tenant, visitor, people):
    segment = tenant.post("/segments", {"name": "Pros", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)["id"]
    question = ticked(visitor, "tag", segment_id=segment)
    assert "Tag 3 contacts? Everybody in the segment Pros: contacts whose plan is pro." in words(question.text)
    assert done(visitor, question).status_code == 422  # which tag?
    assert "3 contacts are tagged now." in ended(visitor, done(visitor, question, tags="all"))
    assert tenant.get(f"/contacts/{people['eve']}")["tags"] == ["all"]
    assert "0 contacts are tagged now." in ended(visitor, done(visitor, question, tags="all"))  # they have it
    assert "3 contacts are deleted now." in ended(visitor, done(visitor, ticked(visitor, "delete", segment_id=segment)))
    assert tenant.get("/contacts")["pagination"]["total"] == 0
    listed = visitor.see("/contacts/acts")
    assert [[cell.text() for cell in row.css("td.number")] for row in listed.css("tbody tr")] == [["3", "3", "3"], ["3", "3", "0"], ["3", "3", "3"]]


def test_names_of_tags_properties_and_events_are_offered(tenant, visitor, people):
    tenant.post("/contact-properties", {"name": "tier", "type": "text"}, 201)
    tenant.patch(f"/contacts/{people['ada']}", {"tags": ["vip", HOSTILE]})
    tenant.post("/workflows/events", {"event": "signed_up", "email": "ada@example.com"})
    page = visitor.see("/segments/names")
    offered = {each.attributes["id"]: [option.attributes["value"] for option in each.css("option")] for each in page.css("datalist")}
    assert offered == {"names-tags": sorted(["vip", HOSTILE]), "names-properties": ["plan", "tier"], "names-events": ["signed_up"]}
    assert visitor.see("/segments/new").css_first("#names").attributes["hx-get"] == "/dashboard/segments/names"


def test_a_stranger_sees_and_touches_nothing_of_ours(served, tenant, visitor, people):
    audience = tenant.post("/audiences", {"name": HOSTILE}, 201)["id"]
    topic = tenant.post("/subscription-topics", {"name": HOSTILE}, 201)["id"]
    prop = tenant.post("/contact-properties", {"name": "plan", "label": HOSTILE, "type": "text"}, 201)["id"]
    segment = tenant.post("/segments", {"name": "Ours", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)["id"]
    stranger = visiting(served.tenant())
    token = stranger.see("/audiences").css_first("main input[name=token]").attributes["value"]
    for place in (f"/audiences/{audience}", f"/topics/{topic}", f"/properties/{prop}", f"/properties/{prop}/delete", f"/properties/{prop}/usage",
                  f"/audiences/{audience}/export", f"/contacts/export?segment={segment}"):
        assert stranger.get(place).status_code == 404, place
    for act in (f"/audiences/{audience}", f"/audiences/{audience}/members", f"/audiences/{audience}/remove", f"/audiences/{audience}/delete",
                f"/topics/{topic}", f"/topics/{topic}/subscriber", f"/topics/{topic}/delete", f"/properties/{prop}", f"/properties/{prop}/delete"):
        data = {"token": token, "name": "x", "label": "x", "contact_id": people["ada"], "emails": "ada@example.com", "subscribed": "0"}
        assert stranger.http.post(f"/dashboard{act}", data=data).status_code == 404, act
    many = {"token": token, "act": "delete", "contact": [people["ada"]]}
    assert "Delete 0 contacts?" in words(ticked(stranger, "delete", contact=[people["ada"]]).text)
    stranger.http.post("/dashboard/contacts/many", data=many)
    whole = {"act": "tag", "segment_id": segment, "tags": "x"}
    assert stranger.get("/contacts/many", **whole).status_code == 404
    assert stranger.http.post("/dashboard/contacts/many", data={"token": token, **whole}).status_code == 404
    act = done(visitor, ticked(visitor, "tag", segment_id=segment), tags="x").url.path
    assert stranger.get(act).status_code == 404
    assert "Nothing was done to very many contacts lately." in stranger.text("/contacts/acts")
    assert "plan" not in {each.attributes["value"] for each in stranger.see("/segments/names").css("option")}
    assert tenant.get("/contacts")["pagination"]["total"] == 3
    assert "ada@example.com" not in stranger.get("/contacts/export").text
    for path in ("/audiences", "/topics", "/properties", f"/audiences/{audience}", f"/topics/{topic}", f"/properties/{prop}", f"/properties/{prop}/delete"):
        page = visitor.see(path)
        assert HOSTILE in page.body.text() or any(HOSTILE in (field.attributes.get("value") or "") for field in page.css("input"))
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")
