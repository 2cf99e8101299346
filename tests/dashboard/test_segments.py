"""The pages of segments: dynamic ones built row by row with words and a count, static ones whose members are searched, added and removed."""

from __future__ import annotations

import orjson
import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.support.visitor import visiting, words

NEW = "/dashboard/segments/new"
HOSTILE = "<script>alert(1)</script>\"' onload=x"


@pytest.fixture
def people(tenant):
    plans = {"ada": "pro", "bob": "free", "eve": "pro"}
    return {name: tenant.post("/contacts", {"email": f"{name}@example.com", "properties": {"plan": plan}}, 201)["id"] for name, plan in plans.items()}


@pytest.fixture
def listed(tenant):
    return tenant.post("/segments", {"name": "Beta testers"}, 201)


def row(place, field, operator="", value="", **parts):
    """A row of the rule: `place` is its number, or "0.1" for the second within the first group."""
    return {f"g.{place}.{name}": each for name, each in {"field": field, "operator": operator, "value": value, **parts}.items()}


def members(tenant, segment):
    return sorted(each["email"] for each in tenant.get(f"/segments/{segment['id']}/members")["contacts"])


def only(tenant):
    (found,) = tenant.get("/segments")["segments"]
    return found


def test_a_dynamic_segment_is_created_and_edited(tenant, visitor, people):
    said = words(visitor.submit("/segments/new", NEW, name="Pro users", **row(0, "properties.plan", "equals", "pro"), track_membership="1").text)
    assert "Rule contacts whose plan is pro" in said
    assert "ada@example.com" in said
    assert "bob@example.com" not in said
    made = only(tenant)
    assert (made["type"], made["contact_count"], made["track_membership"]) == ("dynamic", 2, True)
    place = f"/dashboard/segments/{made['id']}"
    visitor.submit(f"{place}/edit", f"{place}/edit", name="Free users", **row(0, "properties.plan", "not_equals", "pro"))
    assert (only(tenant)["name"], members(tenant, made)) == ("Free users", ["bob@example.com"])
    assert "Pro users" not in visitor.text("/segments")


def test_rows_and_groups_are_added_and_removed_by_buttons_and_what_was_typed_stays(tenant, visitor, people):
    first = row(0, "first_name", "equals", "Ada")
    page = visitor.submit("/segments/new", NEW, name="Some", **first, do="rule:g").text
    assert page.count('name="g.0.field"') == page.count('name="g.1.field"') == 1
    assert 'value="Ada"' in page
    nested = visitor.submit("/segments/new", NEW, name="Some", **first, do="group:g").text
    assert page.count('name="g.1.0.field"') + nested.count('name="g.1.0.field"') == 1
    deeper = visitor.submit("/segments/new", NEW, name="Some", **first, **{"g.1.match": "or"}, **row("1.0", "email", "contains", "eve"), do="rule:g.1").text
    assert deeper.count('name="g.1.1.field"') == 1
    less = visitor.submit("/segments/new", NEW, name="Some", **first, **{"g.1.match": "or"}, **row("1.0", "email", "contains", "eve"), do="less:g.0").text
    assert 'name="g.0.0.field"' in less
    assert 'value="eve"' in less
    assert 'value="Ada"' not in less
    assert tenant.get("/segments")["segments"] == []


def test_a_field_chosen_anew_gets_its_own_operators_and_input(tenant, visitor):
    tenant.post("/contact-properties", {"name": "plan", "type": "select", "options": ["pro", "free"]}, 201)
    tenant.post("/contact-properties", {"name": "seats", "type": "number"}, 201)
    tenant.post("/segments", {"name": "Beta"}, 201)
    for field, operator, kind, offered in (
            ("properties.plan", "equals", "select", "pro free"), ("properties.seats", "greater_than", "number", ""),
            ("subscribed", "equals", "select", "true false"),
            ("segment", "equals", "select", "Beta"), ("created_at", "after", "date", ""), ("email.opened", "in_last_days", "number", ""),
            ("engagement_segment", "equals", "select", "active, in the last 30 days"), ("tags", "contains", "text", ""), ("tags", "is_set", "", "")):
        page = words_of(visitor, do="set:g.0", **row(0, field, operator))
        found = page.css_first("[name='g.0.value']")
        assert (found.attributes.get("type", found.tag) if found is not None else "") == kind, field
        assert not offered or offered in " ".join(found.text(separator=" ").split()), field
    assert "in the last" in words_of(visitor, do="set:g.0", **row(0, "email.opened", "equals")).css_first(".condition").text()


def words_of(visitor, **fields):
    return LexborHTMLParser(visitor.submit("/segments/new", NEW, name="x", **fields).text)


@pytest.mark.parametrize(("match", "wanted"), [("and", ["eve@example.com"]), ("or", ["ada@example.com", "bob@example.com", "eve@example.com"])])
def test_all_or_any_of_the_rows(tenant, visitor, people, match, wanted):
    rows = {**row(0, "properties.plan", "equals", "pro"), **row(1, "email", "not_contains", "ada"), **row(2, "")}
    visitor.submit("/segments/new", NEW, name="Some", **{"g.match": match}, **rows)
    assert members(tenant, only(tenant)) == wanted


def test_the_count_and_the_words_come_before_it_is_saved(tenant, visitor, people):
    rows = row(0, "properties.plan", "equals", "pro")
    looked = words(visitor.submit("/segments/new", NEW, name="", **rows, do="look").text)
    assert "2 contacts are in it now: contacts whose plan is pro." in looked
    token = visitor.see("/segments/new").css_first("main input[name=token]").attributes["value"]
    live = visitor.http.post("/dashboard/segments/preview", data={"token": token, **rows}, headers={"hx-request": "true"})
    assert words(live.text) == "2 contacts are in it now: contacts whose plan is pro."
    wrong = visitor.http.post("/dashboard/segments/preview", data={"token": token, **row(0, "created_at", "after", "soon")})
    assert (wrong.status_code, "a date such as" in words(wrong.text)) == (200, True)
    assert tenant.get("/segments")["segments"] == []


@pytest.mark.parametrize(("fields", "said"), [
    ({"name": ""}, "name"), ({"name": "x", **row(0, "properties.plan", "equals", "")}, "value is required"),
    ({"name": "x", **row(0, "", "equals", "")}, "rules"), ({"name": "x", **row(0, "created_at", "after", "soon")}, "a date"),
    ({"name": "x", "rules": "{"}, "no JSON"), ({"name": "x", "rules": "{}"}, "rules is a list"), ({"name": "x", "do": "look"}, "rules"),
], ids=["no name", "no value", "no row", "no date", "broken JSON", "no rules", "count of nothing"])
def test_a_segment_that_cannot_be_is_refused(tenant, visitor, fields, said):
    answer = visitor.submit("/segments/new", NEW, **fields)
    assert answer.status_code == 422
    assert said in words(answer.text)
    assert tenant.get("/segments")["segments"] == []


NESTED = {"logic": "OR", "groups": [
    {"filters": [{"field": "data.plan", "operator": "equals", "value": "free"}]},
    {"filters": [{"field": "data.plan", "operator": "equals", "value": "pro"}, {"field": "email", "operator": "contains", "value": "eve"}]},
]}


TREE = {"operator": "or", "conditions": [
    {"field": "data.plan", "comparator": "eq", "value": "free"},
    {"operator": "and", "conditions": [
        {"field": "plan", "operator": "equals", "value": "pro", "note": "kept"}, {"field": "email", "operator": "contains", "value": "eve"}]},
]}


@pytest.mark.parametrize("rules", [NESTED, TREE], ids=["groups", "tree"])
def test_nested_rules_are_shown_and_edited_and_lose_nothing(tenant, visitor, people, rules):
    made = tenant.post("/segments", {"name": "Nested", "rules": rules}, 201)
    place = f"/dashboard/segments/{made['id']}"
    visitor.submit(f"{place}/edit", f"{place}/edit", name="Still nested")
    assert (only(tenant)["name"], only(tenant)["rules"], members(tenant, made)) == ("Still nested", rules, ["bob@example.com", "eve@example.com"])
    assert made["summary"] in visitor.text(place)
    changed = "g.1.1.value"
    assert visitor.see(f"{place}/edit").css_first(f"[name='{changed}']").attributes["value"] == "eve"
    visitor.submit(f"{place}/edit", f"{place}/edit", **{changed: "ada"})
    assert members(tenant, made) == ["ada@example.com", "bob@example.com"]
    new = orjson.loads(orjson.dumps(rules).replace(b'"eve"', b'"ada"'))
    assert only(tenant)["rules"] == new


def test_two_hundred_conditions_are_shown_and_saved(tenant, visitor):
    rules = {"operator": "or", "conditions": [{"operator": "and", "conditions": [
        {"field": "emails_opened", "operator": "greater_than", "value": number, "windowDays": 7} for number in range(48)]} for _ in range(4)]}
    made = tenant.post("/segments", {"name": "Large", "rules": rules}, 201)
    place = f"/dashboard/segments/{made['id']}/edit"
    assert visitor.submit(place, place, **{"g.3.47.value": "99"}).status_code == 200
    rules["conditions"][3]["conditions"][47]["value"] = 99
    assert only(tenant)["rules"] == rules


def test_a_rule_of_groups_within_groups_is_made_without_javascript(tenant, visitor, people):
    rows = {"g.match": "and", **row(0, "subscribed", "equals", "true"), "g.1.match": "or", **row("1.0", "properties.", "equals", "free", name="plan"),
            "g.1.1.match": "and", **row("1.1.0", "properties.", "equals", "pro", name="plan"), **row("1.1.1", "email", "starts_with", "ad")}
    said = words(visitor.submit("/segments/new", NEW, name="Deep", **rows).text)
    assert "contacts who are subscribed and (whose plan is free or (whose plan is pro and whose address starts with ad))" in said
    assert members(tenant, only(tenant)) == ["ada@example.com", "bob@example.com"]


def test_rows_become_json_and_json_becomes_rows(visitor, people):
    fields = {"name": "Some", **row(0, "properties.plan", "equals", "pro")}
    page = visitor.submit("/segments/new", NEW, **fields, do="json").text
    text = LexborHTMLParser(page).css_first("textarea").text()
    assert orjson.loads(text) == {"operator": "and", "conditions": [{"field": "properties.plan", "operator": "equals", "value": "pro"}]}
    assert "2 contacts are in it now" in words(page)
    back = LexborHTMLParser(visitor.submit("/segments/new", NEW, name="Some", rules=orjson.dumps(NESTED).decode(), do="rows").text)
    assert back.css_first("[name='g.1.1.value']").attributes["value"] == "eve"
    broken = visitor.submit("/segments/new", NEW, name="Some", rules="{", do="rows")
    assert (broken.status_code, LexborHTMLParser(broken.text).css_first("textarea").text().strip()) == (422, "{")


def test_what_is_wrong_is_said_at_its_row(visitor):
    rows = {**row(0, "subscribed", "equals", "true"), "g.1.match": "or", **row("1.0", "", ""), **row("1.1", "created_at", "after", "soon")}
    page = visitor.submit("/segments/new", NEW, name="Some", **rows)
    assert (page.status_code, "Rule 2.2: value is a date" in words(page.text)) == (422, True)
    wrong = LexborHTMLParser(page.text).css(".wrong")
    assert [each.attributes["aria-label"] for each in wrong] == ["Rule 2.2"]


def test_the_rule_names_what_it_asks_about_and_offers_nothing_of_another_project(served, tenant, visitor, listed):
    visiting(served.tenant()).submit("/segments/new?kind=static", NEW, name="Of others")
    page = words_of(visitor, do="look", **row(0, "segment", "equals", listed["id"]))
    assert 'contacts who are in the segment "Beta testers"' in words(page)
    assert "Of others" not in page.text()


@pytest.mark.parametrize("raw", ["{", "[]", "1", '{"field": 1}', '{"field": "email.", "operator": []}', '{"field": "data.", "operator": "equals"}'])
def test_a_form_that_was_tampered_with_is_refused(visitor, raw):
    for grammar in ("tree", "groups"):
        answer = visitor.submit("/segments/new", NEW, name="x", grammar=grammar, **row(0, "email", "equals", "x", raw=raw))
        assert answer.status_code in (200, 422)


def test_a_static_segment_is_created_and_its_members_come_and_go(tenant, visitor, people):
    said = words(visitor.submit("/segments/new?kind=static", NEW, name="Beta testers").text)
    assert "No member yet." in said
    made = only(tenant)
    assert made["type"] == "static"
    place = f"/dashboard/segments/{made['id']}"
    found = visitor.see(place, find="EVE@")
    assert "eve@example.com" in found.css_first("#found").text()
    assert "ada@example.com" not in found.css_first("#found").text()
    assert "Added." in words(visitor.submit(f"{place}?find=eve", f"{place}/members").text)
    assert "already" in words(visitor.submit(f"{place}?find=eve", f"{place}/members").text)
    visitor.submit(f"{place}?find=ada", f"{place}/members")
    assert members(tenant, made) == ["ada@example.com", "eve@example.com"]
    assert "ada@example.com" not in visitor.see(place, search="eve").css_first("tbody").text()
    visitor.submit(f"{place}?search=eve", f"{place}/remove")
    assert members(tenant, made) == ["ada@example.com"]
    assert tenant.get("/contacts")["pagination"]["total"] == 3


def test_a_static_segment_begins_with_the_members_that_were_picked(served, tenant, visitor, people):
    """Seed 2: "Start typing an email address to search for existing contacts and add them to the segment immediately"; without JavaScript too."""
    fields = {"name": "Friends", "kind": "static"}
    found = LexborHTMLParser(visitor.submit("/segments/new?kind=static", NEW, **fields, find="eve", do="find").text)
    assert [each.attributes["value"] for each in found.css("#picked input")] == [people["eve"]]
    again = LexborHTMLParser(visitor.submit("/segments/new?kind=static", NEW, **fields, find="ada", do="find", member=people["eve"]).text)
    assert ["checked" in each.attributes for each in again.css("#picked input")] == [True, False]
    visitor.submit("/segments/new?kind=static", NEW, **fields, member=[people["eve"], people["ada"]])
    assert members(tenant, only(tenant)) == ["ada@example.com", "eve@example.com"]
    stranger = visiting(served.tenant())
    assert stranger.submit("/segments/new?kind=static", NEW, **fields, member=[people["eve"]]).status_code == 404
    assert "eve@example.com" not in stranger.submit("/segments/new?kind=static", NEW, **fields, find="eve", do="find", member=people["eve"]).text


def test_a_static_segment_is_renamed_and_tracked_and_deleted(tenant, visitor, listed):
    place = f"/dashboard/segments/{listed['id']}"
    visitor.submit(f"{place}/edit", f"{place}/edit", name="Testers", track_membership="1")
    assert (only(tenant)["name"], only(tenant)["track_membership"], only(tenant)["type"]) == ("Testers", True, "static")
    daily = visitor.get(f"{place}/growth").json()
    assert len(daily["at"]) == len(daily["series"][0]["values"]) > 0
    assert "The segment is deleted" in words(visitor.submit(place, f"{place}/delete").text)
    visitor.see(place, 404)


def test_members_of_a_dynamic_segment_are_not_put_there_by_hand(tenant, visitor, people):
    made = tenant.post("/segments", {"name": "Pro", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)
    place = f"/dashboard/segments/{made['id']}"
    page = visitor.see(place, find="bob")
    assert "bob@example.com" not in page.text()
    assert not [form for form in page.css("form") if (form.attributes.get("action") or "").endswith(("/remove", "/members"))]


def test_what_segments_are_called_is_never_run(tenant, visitor):
    made = tenant.post("/segments", {"name": HOSTILE, "description": HOSTILE, "rules": [{"field": "first_name", "operator": "equals", "value": HOSTILE}]}, 201)
    tenant.post("/contacts", {"email": "a@example.com", "first_name": HOSTILE}, 201)
    for path in ("/segments", f"/segments/{made['id']}", f"/segments/{made['id']}/edit"):
        page = visitor.see(path)
        assert HOSTILE in page.body.text() or any(HOSTILE in (field.attributes.get("value") or "") for field in page.css("input"))
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_segments_are_not_there(served, tenant, listed, people):
    tenant.post(f"/segments/{listed['id']}/members", {"emails": ["ada@example.com"]})
    stranger = visiting(served.tenant())
    place = f"/dashboard/segments/{listed['id']}"
    token = stranger.see("/segments/new").css_first("main input[name=token]").attributes["value"]
    assert "No segment yet." in stranger.text("/segments")
    for path in ("", "/edit", "/growth"):
        stranger.see(place + path, 404)
    for act in ("/edit", "/members", "/remove", "/delete"):
        assert stranger.http.post(place + act, data={"token": token, "contact_id": people["ada"], "name": "x"}).status_code == 404, act
    assert members(tenant, listed) == ["ada@example.com"]
    stranger.submit("/segments/new?kind=static", NEW, name="Mine")
    own = stranger.see("/segments").css_first("tbody a").attributes["href"]
    assert stranger.http.post(f"{own}/members", data={"token": token, "contact_id": people["bob"]}).status_code == 404
    assert "No member yet." in stranger.text(own)
