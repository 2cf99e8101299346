"""The pages of segments: dynamic ones built row by row with words and a count, static ones whose members are searched, added and removed."""

from __future__ import annotations

import pytest

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


def row(number, field, operator, value=""):
    return {f"field.{number}": field, f"operator.{number}": operator, f"value.{number}": value}


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


def test_rows_are_added_and_removed_by_buttons_and_what_was_typed_stays(tenant, visitor, people):
    first = row(0, "properties.plan", "equals", "pro")
    page = visitor.submit("/segments/new", NEW, name="Some", **first, do="more").text
    assert page.count("field.0") == page.count("field.1") == 1
    assert 'value="properties.plan"' in page
    less = visitor.submit("/segments/new", NEW, name="Some", **first, **row(1, "email", "contains", "eve"), do="less.0").text
    assert "field.1" not in less
    assert 'value="eve"' in less
    assert tenant.get("/segments")["segments"] == []


@pytest.mark.parametrize(("match", "wanted"), [("and", ["eve@example.com"]), ("or", ["ada@example.com", "bob@example.com", "eve@example.com"])])
def test_all_or_any_of_the_rows(tenant, visitor, people, match, wanted):
    rows = {**row(0, "properties.plan", "equals", "pro"), **row(1, "email", "not_contains", "ada"), **row(2, "", "equals", "")}
    visitor.submit("/segments/new", NEW, name="Some", match=match, **rows)
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


def test_nested_rules_are_edited_as_json(tenant, visitor, people):
    made = tenant.post("/segments", {"name": "Nested", "rules": NESTED}, 201)
    place = f"/dashboard/segments/{made['id']}"
    page = visitor.see(f"{place}/edit")
    assert '"logic": "OR"' in page.css_first("textarea").text()
    visitor.submit(f"{place}/edit", f"{place}/edit", name="Still nested")
    assert (only(tenant)["name"], only(tenant)["rules"], members(tenant, made)) == ("Still nested", NESTED, ["bob@example.com", "eve@example.com"])
    assert made["summary"] in visitor.text(place)


def test_rows_become_json_to_be_nested(visitor, people):
    page = visitor.submit("/segments/new", NEW, name="Some", **row(0, "properties.plan", "equals", "pro"), do="json").text
    assert "properties.plan" in page.partition("<textarea")[2]
    assert "2 contacts are in it now" in words(page)


@pytest.mark.parametrize("rules", [
    [{"field": "emails_opened", "operator": "gt", "value": 3, "windowDays": 7}], [{"field": "properties.seats", "operator": "greater_than", "value": 3}],
    {"operator": "or", "conditions": [{"field": "subscribed", "operator": "equals", "value": True}, {"field": "first_name", "operator": "is_set"}]},
], ids=["what rows cannot show", "a number", "flags"])
def test_rules_that_nobody_touched_mean_the_same(tenant, visitor, rules):
    made = tenant.post("/segments", {"name": "Some", "rules": rules}, 201)
    place = f"/dashboard/segments/{made['id']}"
    visitor.submit(f"{place}/edit", f"{place}/edit", description="changed")
    assert (only(tenant)["description"], only(tenant)["summary"]) == ("changed", made["summary"])


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
