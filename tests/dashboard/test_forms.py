"""The pages of signup forms: made, filled in by a visitor of a website, stopped and deleted; nothing of another project's."""

from __future__ import annotations

import pytest

from tests.support.visitor import visiting, words

NEW = "/dashboard/forms/new"
HOSTILE = "<script>alert(1)</script>\"' onload=x"


def made(visitor, **fields):
    page = visitor.see("/forms/new")
    token = page.css_first("main input[name=token]").attributes["value"]
    return visitor.http.post(NEW, data={"token": token, "name": "News", "active": "1", "name.0": "email", "type.0": "email", **fields})


def test_a_form_is_made_and_people_sign_up_by_it_until_it_is_stopped(served, tenant, visitor):
    assert "No form yet." in visitor.text("/forms")
    segment = tenant.post("/segments", {"name": "Readers"}, 201)["id"]
    place = made(visitor, segment_id=segment, **{"name.1": "plan", "type.1": "select", "options.1": "pro, free", "required.1": "1"}).headers["location"]
    (form,) = tenant.get("/signup-forms")["signup_forms"]
    assert [(each["name"], each["type"], each["options"], each["required"]) for each in form["fields"]] == [
        ("email", "email", [], True), ("plan", "select", ["pro", "free"], True)]
    assert form["url"] in visitor.text(place)
    sign_up = f"/signup-forms/{form['id']}/submit"
    assert visitor.http.post(sign_up, json={"email": "ada@example.com", "plan": "pro"}).status_code == 200
    assert [each["email"] for each in tenant.get(f"/segments/{segment}/members")["contacts"]] == ["ada@example.com"]
    fields = {"token": visitor.see(place).css_first("main input[name=token]").attributes["value"], "name": "Letters", "name.0": "email", "type.0": "email"}
    assert visitor.http.post(place, data=fields).status_code == 303
    (changed,) = tenant.get("/signup-forms")["signup_forms"]
    assert (changed["name"], changed["active"], len(changed["fields"])) == ("Letters", False, 1)
    assert visitor.http.post(sign_up, json={"email": "bob@example.com", "plan": "pro"}).status_code == 404
    visitor.submit(place, f"{place}/delete")
    assert tenant.get("/signup-forms")["signup_forms"] == []


@pytest.mark.parametrize(("fields", "said"), [
    ({"name.0": ""}, "fields"), ({"name.1": "email", "type.1": "email"}, "email is there twice"), ({"double_opt_in": "1"}, "from is needed"),
    ({"redirect_url": "javascript:alert(1)"}, "an http or https URL"), ({"name": ""}, "name"), ({"name.1": "plan", "type.1": "select"}, "a select has"),
], ids=["no question", "twice", "no author", "no URL", "no name", "no options"])
def test_a_form_that_cannot_be_is_refused_and_what_was_typed_stays(tenant, visitor, fields, said):
    answer = made(visitor, success_message="kept", **fields)
    assert (answer.status_code, said in words(answer.text)) == (422, True)
    assert 'value="kept"' in answer.text
    assert tenant.get("/signup-forms")["signup_forms"] == []


def test_a_stranger_finds_no_form_of_ours_and_hostile_names_run_nothing(served, tenant, visitor):
    place = made(visitor, name=HOSTILE, **{"label.0": HOSTILE}).headers["location"]
    for path in ("/forms", place):
        page = visitor.see(path)
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")
    stranger = visiting(served.tenant())
    token = stranger.see("/forms/new").css_first("main input[name=token]").attributes["value"]
    assert "No form yet." in stranger.text("/forms")
    assert stranger.get(place).status_code == 404
    for act in ("", "/delete"):
        assert stranger.http.post(place + act, data={"token": token, "name": "x", "name.0": "email", "type.0": "email"}).status_code == 404
