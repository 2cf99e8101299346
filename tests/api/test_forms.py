"""Signup forms: made over the API, filled in by visitors without a key, confirmed by the link in a letter."""

import re

import httpx2 as httpx
import pytest

from relay.audience import signups
from relay.mail.tokens import SIGNUP, Tokens, pack
from relay.words import WORDS
from tests.support.served import Served, arrived

FIELDS = [{"name": "email", "type": "email"}, {"name": "first_name", "label": "Your <name>"}, {"name": "plan", "type": "select", "options": ["free", "pro"]},
          {"name": "terms", "type": "checkbox", "label": "I agree", "required": True}]
GOOD = {"email": "ann@example.com", "first_name": "Ann", "plan": "pro", "terms": True}
THERE = "https://example.com/thanks?x=1"


@pytest.fixture
def visitor(served):
    with httpx.Client(base_url=served.public, headers={"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/140.0"}) as client:
        yield client


@pytest.fixture(autouse=True)
def everybody_has_room(monkeypatch):
    monkeypatch.setattr(signups, "CALLER", 1_000)  # all tests come from one address


def make(tenant, status=201, **given):
    return tenant.post("/signup-forms", {"name": "Newsletter", "fields": FIELDS, **given}, status)


def submit(visitor, form, status=200, **given):
    answer = visitor.post(f"/signup-forms/{form['id']}/submit", json={**GOOD, **given})
    assert answer.status_code == status, answer.text
    assert answer.headers["access-control-allow-origin"] == "*"
    return answer.json()


def people(tenant):
    return tenant.get("/contacts")["contacts"]


def test_a_form_is_made_read_changed_and_deleted(tenant):
    form = make(tenant, successMessage="Thanks!", redirect_url=THERE)
    assert form["id"].startswith("sf_")
    assert (form["active"], form["double_opt_in"], form["success_message"], form["redirect_url"]) == (True, False, "Thanks!", THERE)
    assert [(each["name"], each["label"], each["required"]) for each in form["fields"]] == [
        ("email", "Email", True), ("first_name", "Your <name>", False), ("plan", "Plan", False), ("terms", "I agree", True)]
    changed = tenant.patch(f"/signup-forms/{form['id']}", {"name": "News", "redirect_url": None})
    assert (changed["name"], changed["redirect_url"], changed["fields"]) == ("News", None, form["fields"])
    assert [each["id"] for each in tenant.get("/signup-forms")["signup_forms"]] == [form["id"]]
    tenant.delete(f"/signup-forms/{form['id']}")
    assert tenant.http.get(f"/signup-forms/{form['id']}").status_code == 404


@pytest.mark.parametrize(("given", "field"), [
    pytest.param({"fields": []}, "fields", id="no fields"),
    pytest.param({"fields": [{"name": f"f{n}"} for n in range(11)]}, "fields", id="too many fields"),
    pytest.param({"fields": [{"name": "a"}, {"name": "a"}]}, "fields[1].name", id="twice"),
    pytest.param({"fields": [{"name": "x y"}]}, "fields[0].name", id="an odd name"),
    pytest.param({"fields": [{"name": signups.TRAP}]}, "fields[0].name", id="the trap"),
    pytest.param({"fields": [{"name": "a", "type": "select"}]}, "fields[0].options", id="a select of nothing"),
    pytest.param({"fields": [{"name": "other", "type": "email"}]}, "fields[0].type", id="a second address"),
    pytest.param({"redirect_url": "javascript:alert(1)"}, "redirect_url", id="a script"),
    pytest.param({"redirect_url": "//evil.example"}, "redirect_url", id="no scheme"),
    pytest.param({"redirect_url": "https://x.example/\r\nSet-Cookie: a"}, "redirect_url", id="a line break"),
    pytest.param({"redirect_url": "https://x.example; script-src *"}, "redirect_url", id="a policy"),
    pytest.param({"double_opt_in": True}, "from", id="nobody writes"),
    pytest.param({"double_opt_in": True, "from": "no address"}, "from", id="no address"),
])
def test_what_no_form_can_be_is_refused_by_name(tenant, given, field):
    assert make(tenant, 422, **given)["field"] == field


def test_a_form_names_nothing_of_another_project(served, tenant):
    other = served.tenant()
    segment = other.post("/segments", {"name": "Theirs"}, 201)["id"]
    topic = other.post("/subscription-topics", {"name": "Theirs"}, 201)["id"]
    make(tenant, 404, segment_id=segment)
    make(tenant, 404, topic_id=topic)
    form = make(other)
    for answer in (tenant.http.get(f"/signup-forms/{form['id']}"), tenant.http.patch(f"/signup-forms/{form['id']}", json={"name": "x"}),
                   tenant.http.delete(f"/signup-forms/{form['id']}")):
        assert answer.status_code == 404


def test_a_segment_with_rules_takes_nobody(tenant):
    rules = [{"field": "plan", "operator": "equals", "value": "pro"}]
    segment = tenant.post("/segments", {"name": "Pro", "rules": rules}, 201)["id"]
    assert make(tenant, 422, segment_id=segment)["field"] == "segment_id"


def test_a_submission_becomes_a_contact_on_the_list(served, tenant, visitor):
    segment = tenant.post("/segments", {"name": "Readers"}, 201)["id"]
    form = make(tenant, segment_id=segment, redirect_url=THERE)
    answer = submit(visitor, form, admin=True, locale="de")
    assert answer == {"success": True, "message": WORDS["en"]["welcome"], "redirect_url": THERE}
    (contact,) = people(tenant)
    whole = tenant.get(f"/contacts/{contact['id']}")
    assert (whole["email"], whole["first_name"], whole["properties"]) == ("ann@example.com", "Ann", {"plan": "pro", "terms": True})
    assert [each["id"] for each in tenant.get(f"/segments/{segment}/members")["contacts"]] == [contact["id"]]
    (entry,) = tenant.get(f"/contacts/{contact['id']}/history")["history"]
    assert (entry["type"], entry["source"], entry["evidence"]["form"], entry["evidence"]["client"]) == ("created", "form", form["id"], "127.0.0.1")
    assert people(served.tenant()) == []


@pytest.mark.parametrize(("given", "field"), [
    ({"email": "nobody"}, "email"), ({"email": None}, "email"), ({"email": ["a@b.example"]}, "email"), ({"terms": False}, "terms"), ({"plan": "gold"}, "plan"),
    ({"first_name": "x" * 1_001}, "first_name"), ({"first_name": {"a": 1}}, "first_name"), ({"first_name": "a\0b"}, "first_name"),
], ids=str)
def test_a_wrong_field_is_named(tenant, visitor, given, field):
    assert submit(visitor, make(tenant), 422, **given)["field"] == field
    assert people(tenant) == []


def test_a_typed_property_takes_its_type_from_a_text(tenant, visitor):
    tenant.post("/contact-properties", {"name": "age", "type": "number"}, 201)
    form = make(tenant, fields=[{"name": "age"}])
    submit(visitor, form, age="41")
    assert tenant.get(f"/contacts/{people(tenant)[0]['id']}")["properties"] == {"age": 41}
    assert submit(visitor, form, 422, age="old")["field"].endswith("age")


def test_who_fills_the_trap_is_thanked_and_forgotten(tenant, visitor):
    assert submit(visitor, make(tenant), **{signups.TRAP: "0815"})["success"] is True
    assert people(tenant) == []


def test_a_form_that_is_off_stops_at_once(tenant, visitor):
    form = make(tenant)
    tenant.patch(f"/signup-forms/{form['id']}", {"active": False})
    submit(visitor, form, 404)
    assert visitor.get(f"/f/{form['id']}").status_code == 404
    assert visitor.post("/signup-forms/sf_nothing/submit", json=GOOD).status_code == 404


def test_a_submission_alone_lifts_no_unsubscribe(tenant, visitor):
    made = tenant.post("/contacts", {"email": "ann@example.com"}, 201)
    tenant.post(f"/contacts/{made['id']}/unsubscribe")
    submit(visitor, make(tenant))
    assert tenant.get(f"/contacts/{made['id']}")["unsubscribed"] is True


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"email": "' + b"x" * 70_000 + b'"}', b"\xff"],
                         ids=["empty", "cut", "list", "null", "large", "octets"])
def test_what_is_no_object_is_refused(tenant, visitor, content):
    answer = visitor.post(f"/signup-forms/{make(tenant)['id']}/submit", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


def test_any_origin_may_ask_first(tenant, visitor):
    answer = visitor.options(f"/signup-forms/{make(tenant)['id']}/submit", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"})
    assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (204, "Content-Type")


def test_many_from_one_address_wait(tenant, visitor, monkeypatch):
    monkeypatch.setattr(signups, "CALLER", 2)
    form = make(tenant)
    for _ in range(2):
        submit(visitor, form)
    assert submit(visitor, form, 429)["code"] == "rate_limit_exceeded"
    answer = visitor.post(f"/f/{form['id']}", data=GOOD)
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)
    submit(visitor, make(tenant))


# The page


def test_the_page_has_a_label_for_everything_and_runs_no_script(tenant, visitor):
    tenant.patch("/project", {"language": "de"})
    form = make(tenant, redirect_url=THERE, name="News & <more>")
    page = visitor.get(f"/f/{form['id']}")
    assert (page.status_code, 'lang="de"' in page.text, "News &amp; &lt;more&gt;" in page.text) == (200, True, True)
    assert "Your &lt;name&gt;" in page.text
    assert page.text.count("<label") == len(FIELDS) + 1
    assert "<script" not in page.text
    assert "form-action 'self' https://example.com;" in page.headers["content-security-policy"]
    assert people(tenant) == []


def test_a_posted_page_leads_on_or_says_what_is_wrong(tenant, visitor):
    form = make(tenant, redirect_url=THERE)
    wrong = visitor.post(f"/f/{form['id']}", data={"email": '"><script>', "terms": "on", "redirect_url": "https://evil.example"})
    assert (wrong.status_code, 'role="alert"' in wrong.text, "<script" in wrong.text) == (422, True, False)
    done = visitor.post(f"/f/{form['id']}", data={**GOOD, "terms": "on", "redirect_url": "https://evil.example"})
    assert (done.status_code, done.headers["location"]) == (303, THERE)
    assert len(people(tenant)) == 1


def test_a_browser_that_posts_to_the_address_for_scripts_gets_pages(tenant, visitor):
    form, browser = make(tenant, redirect_url=THERE), {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    path = f"/signup-forms/{form['id']}/submit"
    wrong = visitor.post(path, data={"email": "nobody", "terms": "on"}, headers=browser)
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (422, True)
    done = visitor.post(path, data={**GOOD, "terms": "on"}, headers=browser)
    assert (done.status_code, done.headers["location"]) == (303, THERE)
    assert visitor.post(path, data={**GOOD, "terms": "on"}).json()["redirect_url"] == THERE
    assert len(people(tenant)) == 1


# Double opt-in


def letter(served, tenant, visitor, form, **given):
    """The confirmation's path in the letter that a submission brings."""
    before = len(tenant.get("/emails")["emails"])
    answer = submit(visitor, form, **given)
    assert answer == {"success": True, "message": WORDS["en"]["inbox"]}
    newest = tenant.until("/emails", lambda got: len(got["emails"]) > before)["emails"][0]
    message = arrived(served, tenant, newest)[0]
    assert (message["To"], message["From"].addresses[0].addr_spec) == (given.get("email", "ann@example.com"), "news@yourdomain.com")
    assert message["List-Unsubscribe"] is None
    return re.search(r"http://[^/]+(/f/confirm/[\w-]+)", message.get_body(("plain",)).get_content())[1]


def double(tenant, **given):
    return make(tenant, double_opt_in=True, **{"from": "News <news@yourdomain.com>"}, **given)


def test_a_key_of_one_domain_has_letters_written_from_that_one_only(served):
    bound = served.tenant(domain="yourdomain.com")
    double(bound)
    assert make(bound, 422, double_opt_in=True, **{"from": "news@other.example"})["field"] == "from"


def test_letters_come_from_a_verified_domain_only(tmp_path):
    with Served(tmp_path, f"sqlite:///{tmp_path / 'relay.db'}", RELAY_DOMAINS__REQUIRE_VERIFIED="true") as relay:
        tenant, other = relay.tenant(), relay.tenant()
        other.post("/domains", {"name": "yourdomain.com"}, 201)
        for each in (tenant, other):
            refused = each.http.post("/signup-forms", json={"name": "N", "fields": FIELDS, "double_opt_in": True, "from": "news@yourdomain.com"})
            assert (refused.status_code, refused.json()["field"]) == (422, "from")


def test_a_contact_is_there_when_the_address_has_confirmed(served, tenant, visitor):
    link = letter(served, tenant, visitor, double(tenant, redirect_url=THERE))
    for _ in range(2):
        page = visitor.get(link)
        assert (page.status_code, "ann@example.com" in page.text) == (200, True)
    assert people(tenant) == []
    for _ in range(2):
        assert visitor.post(link).headers["location"] == THERE
    (contact,) = people(tenant)
    agreed, = [each for each in tenant.get(f"/contacts/{contact['id']}/history")["history"] if each["type"] == "subscribed"]
    assert (agreed["source"], agreed["evidence"]["double_opt_in"], agreed["evidence"]["asked_from"]) == ("form", True, "127.0.0.1")
    assert [each["submission_count"] for each in tenant.get("/signup-forms")["signup_forms"]] == [1]
    tenant.post(f"/contacts/{contact['id']}/unsubscribe")
    assert visitor.post(link).headers["location"] == THERE, "who left and presses the button again wants it"
    assert tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is False


def test_what_no_contact_can_be_is_refused_before_anybody_is_asked_to_confirm_it(tenant, visitor):
    form = double(tenant)
    assert submit(visitor, form, 422, first_name="x" * 256)["field"] == "first_name"
    tenant.post("/contact-properties", {"name": "age", "type": "number", "required": True}, 201)
    assert submit(visitor, form, 422)["field"] == "properties.age"
    submit(visitor, double(tenant, fields=[{"name": "age"}]), age="41")
    assert len(tenant.until("/emails", lambda got: got["emails"])["emails"]) == 1


def test_a_confirmation_lifts_an_unsubscribe_and_joins_the_topic(served, tenant, visitor):
    topic = tenant.post("/subscription-topics", {"name": "News"}, 201)["id"]
    made = tenant.post("/contacts", {"email": "ann@example.com"}, 201)
    tenant.post(f"/contacts/{made['id']}/unsubscribe")
    tenant.delete(f"/subscription-topics/contacts/{made['id']}/subscriptions/{topic}")
    tenant.post("/suppressions", {"email": "ann@example.com", "reason": "unsubscribe"}, 201)
    visitor.post(letter(served, tenant, visitor, double(tenant, topic_id=topic)))
    assert tenant.get("/suppressions")["suppressions"] == []
    assert tenant.get(f"/contacts/{made['id']}")["unsubscribed"] is False
    assert tenant.get(f"/subscription-topics/contacts/{made['id']}/subscriptions")["subscriptions"][0]["subscribed"] is True


@pytest.mark.parametrize("reason", ["hard_bounce", "complaint", "manual"])
def test_who_must_not_be_written_to_gets_no_letter_and_nobody_is_told(tenant, visitor, reason):
    tenant.post("/suppressions", {"email": "ann@example.com", "reason": reason}, 201)
    assert submit(visitor, double(tenant)) == {"success": True, "message": WORDS["en"]["inbox"]}
    assert tenant.get("/emails")["emails"] == []


def test_letters_to_one_address_are_few(tenant, visitor):
    form = double(tenant)
    for _ in range(signups.LETTERS + 2):
        submit(visitor, form)
    assert len(tenant.get("/emails")["emails"]) == signups.LETTERS


def test_old_forged_and_orphaned_links_sign_nobody_up(served, tenant, visitor):
    form = double(tenant)
    link = letter(served, tenant, visitor, form)
    old = Tokens(("a secret of thirty-two characters",), served.relay.clock).make(SIGNUP, pack(1, b"[{},{}]"), 1.0)
    tenant.delete(f"/signup-forms/{form['id']}")
    for method in ("GET", "POST"):
        assert visitor.request(method, f"/f/confirm/{old}").status_code == 410
        assert visitor.request(method, "/f/confirm/" + "A" * 60).status_code == 404
        assert visitor.request(method, link).status_code == 404
    assert people(tenant) == []


def test_the_document_has_the_public_route_without_a_key(tenant):
    route = tenant.get("/openapi.json")["paths"]["/signup-forms/{form_id}/submit"]["post"]
    assert "security" not in route
