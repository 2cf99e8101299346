"""The pages of templates: written with a preview as a chosen contact, published as versions that are compared and put back, duplicated, begun from a preset."""

from __future__ import annotations

import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.dashboard import letters
from tests.support.visitor import held, visiting, words

NEW, LIST = "/dashboard/templates/new", "/dashboard/templates"
HOSTILE = "<script>alert(1)</script>\"' onload=x"


@pytest.fixture
def ada(tenant):
    return tenant.post("/contacts", {"email": "ada@example.com", "first_name": "Ada", "properties": {"plan": "<pro>"}}, 201)


@pytest.fixture
def kept(tenant):
    return tenant.post("/templates", {"name": "Welcome", "subject": "Hello {{ first_name }}", "html": "<p>one</p>\n<p>two</p>", "text": "one"}, 201)


def only(tenant):
    (found,) = tenant.get("/templates")["templates"]
    return found


def preview(visitor, what, **fields):
    """The answer to what the form's script posts."""
    form = held(visitor.see("/templates/new").css_first("form.letter"))
    return visitor.http.post(f"/dashboard/preview/{what}", data={**form, **fields})


def test_a_template_is_written_and_published(tenant, visitor):
    said = words(visitor.submit("/templates/new", NEW, name="Welcome", subject="Hi {{ first_name }}", html="<p>Hi</p>\r\n<p>there</p>", do="save").text)
    assert "Saved as a draft." in said
    made = only(tenant)
    assert (made["status"], made["html"], made["text"], made["variables"]) == ("draft", "<p>Hi</p>\n<p>there</p>", None, ["first_name"])
    place = f"{LIST}/{made['id']}"
    assert "version 1 is sent" in words(visitor.submit(place, place, do="publish").text)
    assert "Version 1 goes on being sent" in words(visitor.submit(place, place, subject="Hello").text)
    assert (only(tenant)["published_version"], only(tenant)["version"]) == (1, 2)
    assert "edited since" in visitor.text("/templates")
    assert "A draft again" in words(visitor.submit(place, f"{place}/unpublish").text)
    assert only(tenant)["status"] == "draft"


@pytest.mark.parametrize(("fields", "said", "field"), [
    ({"name": "", "subject": "x", "text": "x"}, "name", "name"), ({"name": "x", "subject": "", "text": "x"}, "subject", "subject"),
    ({"name": "x", "subject": "x"}, "html and text", "html"), ({"name": "x", "subject": "{% if %}", "text": "x"}, "subject is not a template", "subject"),
    ({"name": "x", "subject": "x", "text": "{{#if y}}"}, "Handlebars", "text"),
], ids=["no name", "no subject", "no text", "no template", "Handlebars"])
def test_what_cannot_be_sent_is_refused_and_what_was_typed_stays(tenant, visitor, kept, fields, said, field):
    place = f"{LIST}/{kept['id']}"
    for path, action in (("/templates/new", NEW), (place, place)):
        answer = visitor.submit(path, action, **{"html": "", "text": "", **fields})
        assert answer.status_code == 422
        assert said in words(answer.text)
        assert [each.attributes["name"] for each in LexborHTMLParser(answer.text).css("form.letter [aria-invalid]")] == [field]
    assert only(tenant)["subject"] == kept["subject"]


def test_a_preview_shows_it_as_a_chosen_contact(tenant, visitor, ada):
    tenant.post("/contacts", {"email": "bob@example.com", "first_name": "Bob"}, 201)
    letter = {"subject": "Hi {{ first_name }} of {{ shop }}", "html": "<p>{{ plan }} {{ unsubscribe_url }}</p>", "text": "{{ plan }}"}
    seen = words(preview(visitor, "words", **letter, contact="ADA@example.com").text)
    assert "Seen by ada@example.com Subject Hi Ada of Without a value shop" in seen
    assert "<pro>" in seen
    assert "Seen by bob@example.com Subject Hi Bob of Kiosk" in words(preview(visitor, "words", **letter, variables='{"shop": "Kiosk"}').text)
    assert "no contact has this address" in preview(visitor, "words", **letter, contact="eve@example.com").text
    frame = preview(visitor, "frame", **letter, contact="ada@example.com")
    assert frame.text == "<p>&lt;pro&gt; https://relay.invalid/</p>"
    assert frame.headers["content-security-policy"].startswith("sandbox; default-src 'none'; img-src data: https:;")
    assert frame.headers["x-frame-options"] == "SAMEORIGIN"
    assert preview(visitor, "frame", subject="x", text="1 < 2").text == "<pre>1 &lt; 2</pre>"
    assert tenant.get("/templates")["templates"] == []


@pytest.mark.parametrize(("fields", "said"), [
    ({"html": "{% if %}"}, "html is not a template"), ({"html": "x", "variables": "{"}, "no JSON"), ({"html": "x", "variables": "[1]"}, "JSON object"),
    ({"html": "{% for i in (1..99999) %}x{% endfor %}"}, "cannot be rendered"),
], ids=["no template", "broken JSON", "no object", "too many loops"])
def test_a_preview_says_what_is_wrong(visitor, fields, said):
    assert said in preview(visitor, "words", **fields).text
    assert said in preview(visitor, "frame", **fields).text


def test_contacts_are_suggested_by_part_of_address_or_name(visitor, ada):
    assert [each.attributes["value"] for each in visitor.see("/preview/contacts", contact="ada@").css("option")] == ["ada@example.com"]
    assert not visitor.see("/preview/contacts", contact="nobody").css("option")


def test_versions_are_compared_and_put_back(tenant, visitor, kept):
    place = f"{LIST}/{kept['id']}"
    tenant.post(f"/templates/{kept['id']}/publish")
    tenant.patch(f"/templates/{kept['id']}", {"subject": "Good day", "html": "<p>one</p>\n<p>three</p>"})
    tenant.post(f"/templates/{kept['id']}/publish")
    page = visitor.see(f"{place}/versions", version="1")
    assert [each.text() for each in page.css("del")] == ["-Hello {{ first_name }}", "-<p>two</p>"]
    assert [each.text() for each in page.css("ins")] == ["+Good day", "+<p>three</p>"]
    assert "They say the same." in visitor.text(f"{place}/versions", version="2")
    assert "From version 2 to version 1" in visitor.text(f"{place}/versions", version="2", beside="1")
    assert visitor.get(f"{place}/versions/1").text == "<p>one</p>\n<p>two</p>"
    for odd in ("3", "0", "9" * 30):
        visitor.see(f"{place}/versions/{odd}", 404)
    visitor.see(f"{place}/versions", version="9" * 30)
    first = visitor.see(f"{place}/versions").css(f'form[action="{place}/restore"]')[-1]
    assert "are back" in words(visitor.http.post(f"{place}/restore", data=held(first), follow_redirects=True).text)
    assert (only(tenant)["subject"], only(tenant)["published_version"], only(tenant)["version"]) == ("Hello {{ first_name }}", 2, 3)
    assert visitor.http.post(f"{place}/restore", data={**held(first), "version": "x"}).status_code == 422


def test_texts_too_long_to_compare_say_so():
    old, new = ({"subject": "x", "html": mark * letters.LINES + mark, "text": None} for mark in ("a\n", "b\n"))
    assert letters.differences(old, new) == [("html", None)]


def test_a_template_is_duplicated_searched_and_deleted(tenant, visitor, kept):
    place = f"{LIST}/{kept['id']}"
    assert "Welcome (copy)" in words(visitor.submit(place, f"{place}/duplicate").text)
    assert visitor.text("/templates", search="copy").count("Hello") == 1
    assert "No template matches." in visitor.text("/templates", state="published")
    assert "The template is deleted" in words(visitor.submit(place, f"{place}/delete").text)
    visitor.see(place, 404)


def test_a_preset_is_seen_and_begun_with(tenant, visitor, ada):
    frames = [frame.attributes["src"] for frame in visitor.see("/templates/new").css("iframe[src]")]
    assert len(frames) == 4
    assert "Welcome" in visitor.get(frames[0]).text
    visitor.submit("/templates/new", "/dashboard/templates/presets")
    assert (only(tenant)["name"], only(tenant)["status"]) == ("Welcome", "draft")
    visitor.see("/templates/presets/nothing", 404)


def test_what_templates_say_is_never_run(tenant, visitor):
    made = tenant.post("/templates", {"name": HOSTILE, "subject": HOSTILE, "html": HOSTILE, "text": HOSTILE}, 201)
    tenant.post(f"/templates/{made['id']}/publish")
    tenant.patch(f"/templates/{made['id']}", {"html": f"{HOSTILE} 2"})
    for path in ("/templates", f"/templates/{made['id']}", f"/templates/{made['id']}/versions?version=1"):
        page = visitor.see(path)
        assert HOSTILE in page.body.text()
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_templates_and_contacts_are_not_there(served, tenant, kept, ada):
    tenant.post(f"/templates/{kept['id']}/publish")
    stranger = visiting(served.tenant())
    place = f"{LIST}/{kept['id']}"
    token = stranger.see("/templates/new").css_first("main input[name=token]").attributes["value"]
    for path in ("", "/versions", "/versions/1"):
        stranger.see(place + path, 404)
    for act in ("", "/unpublish", "/duplicate", "/delete", "/restore"):
        assert stranger.http.post(place + act, data={"token": token, "name": "x", "subject": "x", "text": "x", "version": "1"}).status_code == 404, act
    assert "no contact has this address" in preview(stranger, "words", subject="{{ first_name }}", contact="ada@example.com").text
    assert "Template not found" in preview(stranger, "words", template_id=kept["id"]).text
    assert not stranger.see("/preview/contacts", contact="ada").css("option")
    assert "No template yet." in stranger.text("/templates")
    assert only(tenant)["published"] is True
