"""The resources beside emails: suppressions, templates, domains, keys, project, usage, events."""

import re

import pytest

from tests.support.served import email

# Suppressions


def test_suppressions_in_any_spelling(tenant):
    entry = tenant.post("/suppressions", {"email": "Ann@Bücher.Example", "reason": "complaint", "note": "wrote to us"}, 201)
    assert (entry["reason"], entry["evidence"]) == ("complaint", {"note": "wrote to us"})
    found = tenant.get("/suppressions/ann@xn--bcher-kva.example")
    assert found["id"] == entry["id"]
    assert [each["id"] for each in tenant.get("/suppressions", reason="complaint")["suppressions"]] == [entry["id"]]
    assert tenant.get("/suppressions", reason="manual")["suppressions"] == []
    assert tenant.delete("/suppressions/ANN@bücher.example") == {"deleted": True}
    assert tenant.http.delete("/suppressions/ann@bücher.example").status_code == 404
    assert tenant.http.get("/suppressions", params={"reason": "spite"}).json()["field"] == "reason"


@pytest.mark.parametrize("given", [{"email": "x"}, {"email": "a@b.example", "reason": "x"}, {"reason": "manual"}, {"email": "a@b.example", "scope": "topic:"}])
def test_a_bad_suppression_is_refused(tenant, given):
    assert tenant.http.post("/suppressions", json=given).status_code == 422


# Templates


def test_a_template_from_draft_to_send(served, tenant):
    made = tenant.post("/templates", {"name": "Welcome", "subject": "Hi {{ name }}", "html": "<p>{{ name }}</p>", "text": "{{ name }}"}, 201)
    assert (made["status"], made["version"], made["variables"]) == ("draft", 1, ["name"])
    send = email(template_id=made["id"], variables={"name": "<Ann>"}, subject=None, text=None)
    answer = tenant.http.post("/emails", json=send)
    assert (answer.status_code, answer.json()) == (422, {"error": "Template not published", "code": "template_not_published"})
    assert tenant.post(f"/templates/{made['id']}/publish")["status"] == "published"
    sent = tenant.http.post("/emails", json=send).json()
    found = tenant.get(f"/emails/{sent['id']}")
    assert (found["subject"], found["html"], found["text"]) == ("Hi <Ann>", "<p>&lt;Ann&gt;</p>", "<Ann>")


def test_a_published_template_changes_only_when_published_again(tenant):
    made = tenant.post("/templates", {"name": "T", "subject": "one", "text": "x"}, 201)
    tenant.post(f"/templates/{made['id']}/publish")
    changed = tenant.patch(f"/templates/{made['id']}", {"subject": "two"})
    assert (changed["version"], changed["published_version"], changed["subject"]) == (2, 1, "two")
    sent = tenant.http.post("/emails", json=email(template_id=made["id"])).json()
    assert tenant.get(f"/emails/{sent['id']}")["subject"] == "one"
    tenant.post(f"/templates/{made['id']}/publish")
    sent = tenant.http.post("/emails", json=email(template_id=made["id"])).json()
    assert tenant.get(f"/emails/{sent['id']}")["subject"] == "two"
    assert [each["version"] for each in tenant.get(f"/templates/{made['id']}/versions")["versions"]] == [2, 1]
    assert tenant.post(f"/templates/{made['id']}/versions/1/restore")["subject"] == "one"
    tenant.post(f"/templates/{made['id']}/unpublish")
    assert tenant.http.post("/emails", json=email(template_id=made["id"])).status_code == 422


def test_duplicate_render_search_and_delete(tenant):
    made = tenant.post("/templates", {"name": "News", "subject": "S", "html": "{% for i in items %}{{ i }}{% endfor %}{{ properties.plan }}"}, 201)
    copy = tenant.post(f"/templates/{made['id']}/duplicate", status=201)
    assert (copy["name"], copy["html"]) == ("News (copy)", made["html"])
    rendered = tenant.post(f"/templates/{made['id']}/render", {"variables": {"plan": "pro"}})
    assert rendered == {"subject": "S", "html": "pro", "text": None, "missing_variables": ["items"], "template_variables": ["items"]}
    assert len(tenant.get("/templates", search="copy")["templates"]) == 1
    assert tenant.get("/templates", published="true")["templates"] == []
    assert tenant.delete(f"/templates/{made['id']}") == {"deleted": True}
    assert tenant.http.get(f"/templates/{made['id']}").status_code == 404


def test_presets_can_be_used(tenant):
    presets = tenant.get("/templates/presets")["presets"]
    assert "welcome" in {each["id"] for each in presets}
    for preset in presets:
        used = tenant.post(f"/templates/presets/{preset['id']}/use", status=201)
        tenant.post(f"/templates/{used['id']}/publish")
    assert tenant.http.post("/templates/presets/nosuch/use").status_code == 404


@pytest.mark.parametrize(("html", "says"), [
    pytest.param("{{#if name}}x{{/if}}", "Liquid", id="Handlebars if"),
    pytest.param("{{#each items}}x{{/each}}", "Liquid", id="Handlebars each"),
    pytest.param("{% if x %}", "not a template", id="never closed"),
    pytest.param("{% include 'x' %}", "not a template", id="a tag that there is not"),
    pytest.param("{{ x | nosuch }}", "nosuch", id="a filter that there is not"),
])
def test_what_is_no_template_is_refused(tenant, html, says):
    answer = tenant.http.post("/templates", json={"name": "T", "subject": "S", "html": html})
    assert (answer.status_code, answer.json()["field"]) == (422, "html")
    assert says in answer.json()["error"]


def test_a_template_that_never_ends_is_refused(tenant):
    made = tenant.post("/templates", {"name": "T", "subject": "S", "html": "{% for i in (1..100000000) %}x{% endfor %}"}, 201)
    assert tenant.http.post(f"/templates/{made['id']}/render", json={}).status_code == 422


def test_an_author_places_the_unsubscribe_link(served, tenant):
    made = tenant.post("/templates", {"name": "T", "subject": "S", "html": '<a href="{{ unsubscribe_url }}">out</a>'}, 201)
    assert made["variables"] == []
    tenant.post(f"/templates/{made['id']}/publish")
    sent = tenant.send(template_id=made["id"], unsubscribe=True)
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    (content,) = [each.content for each in served.sink.messages if f"<{sent['id']}@".encode() in each.content]
    assert re.search(rf'<a href="{re.escape(served.public)}/u/[a-z2-7]+">out</a>'.encode(), content.replace(b"=\r\n", b"").replace(b"=3D", b"="))


# Domains


def test_a_domain_has_the_records_to_publish(tenant):
    made = tenant.post("/domains", {"name": "Mail.Example", "openTracking": True}, 201)
    assert (made["name"], made["status"], made["open_tracking"], made["click_tracking"]) == ("mail.example", "pending", True, False)
    assert {"spf", "dkim", "dmarc", "return_path"} <= {each["purpose"] for each in made["dns_records"]}
    assert all(set(each) == {"type", "name", "value", "purpose", "verified"} for each in made["dns_records"])
    assert tenant.http.post("/domains", json={"name": "mail.example"}).status_code == 409
    assert tenant.patch(f"/domains/{made['id']}", {"click_tracking": True, "tracking_domain": "Go.mail.example"})["tracking_domain"] == "go.mail.example"
    assert tenant.patch(f"/domains/{made['id']}", {"tracking_domain": None})["tracking_domain"] is None
    assert [each["id"] for each in tenant.get("/domains")["domains"]] == [made["id"]]
    assert tenant.delete(f"/domains/{made['id']}") == {"deleted": True}
    assert tenant.http.get(f"/domains/{made['id']}").status_code == 404


def test_a_rotation_waits_and_can_be_cancelled(tenant):
    made = tenant.post("/domains", {"name": "rotate.example"}, 201)
    begun = tenant.post(f"/domains/{made['id']}/dkim/rotate")
    assert (begun["state"], begun["active_selector"] == begun["pending_selector"]) == ("pending_dns", False)
    assert tenant.http.post(f"/domains/{made['id']}/dkim/rotate").status_code == 409
    assert tenant.delete(f"/domains/{made['id']}/dkim/rotate")["state"] == "idle"


@pytest.mark.parametrize("name", ["", "x", "a b.example", "-.example", "a" * 300])
def test_what_is_no_domain_is_refused(tenant, name):
    answer = tenant.http.post("/domains", json={"name": name})
    assert (answer.status_code, answer.json()["field"]) == (422, "name")


# Keys


def test_a_key_is_shown_once(tenant):
    made = tenant.post("/api-keys", {"name": "app", "permission": "sending_access", "mode": "test"}, 201)
    assert made["key"].startswith("sk_test_")
    assert "key" not in tenant.get(f"/api-keys/{made['id']}")
    assert made["id"] in {each["id"] for each in tenant.get("/api-keys")["api_keys"]}
    assert tenant.patch(f"/api-keys/{made['id']}", {"name": "renamed"})["name"] == "renamed"
    rotated = tenant.post(f"/api-keys/{made['id']}/rotate")
    assert (rotated["key"] != made["key"], rotated["name"], rotated["mode"]) == (True, "renamed", "test")
    assert tenant.http.get("/emails", headers={"Authorization": f"Bearer {made['key']}"}).status_code == 401
    assert tenant.http.get("/emails", headers={"Authorization": f"Bearer {rotated['key']}"}).status_code == 200


def test_a_full_key_is_made_on_purpose_only(tenant):
    assert tenant.http.post("/api-keys", json={"name": "x", "permission": "full_access"}).status_code == 403
    tenant.post("/api-keys", {"name": "x", "permission": "full_access", "allowFullAccess": True}, 201)
    assert tenant.http.post("/api-keys", json={"name": "x", "permission": "root"}).json()["field"] == "permission"


def test_a_key_makes_none_that_may_do_more(served, tenant):
    one, other = (tenant.post("/domains", {"name": name}, 201)["id"] for name in ("one.example", "other.example"))
    live = tenant.post("/api-keys", {"name": "live", "permission": "sending_access"}, 201)["id"]
    testing = served.tenant(mode="test", project=tenant.project)
    narrow = served.tenant(domain="one.example", project=tenant.project)
    wanted = {"name": "x", "permission": "full_access", "allow_full_access": True}
    for key, given in ((testing, {}), (narrow, {}), (narrow, {"domain_id": other})):
        assert key.http.post("/api-keys", json=wanted | given).status_code == 403
        assert key.http.post(f"/api-keys/{live}/rotate").status_code == 403
    assert testing.post("/api-keys", wanted | {"mode": "test"}, 201)["mode"] == "test"
    made = narrow.post("/api-keys", wanted | {"domain_id": one}, 201)
    assert narrow.post(f"/api-keys/{made['id']}/rotate")["domain"] == "one.example"


def test_another_project_s_things_are_not_found(served, tenant):
    other = served.tenant()
    key = tenant.post("/api-keys", {"name": "x", "permission": "sending_access"}, 201)["id"]
    domain = tenant.post("/domains", {"name": f"{tenant.project}.example"}, 201)["id"]
    template = tenant.post("/templates", {"name": "T", "subject": "S", "text": "x"}, 201)["id"]
    webhook = tenant.post("/webhooks", {"url": "http://127.0.0.1:1/", "events": ["*"]}, 201)["id"]
    for path in (f"/api-keys/{key}", f"/domains/{domain}", f"/templates/{template}", f"/webhooks/{webhook}"):
        assert other.http.get(path).status_code == 404
        assert other.http.delete(path).status_code == 404
        assert tenant.http.get(path).status_code == 200
    assert other.http.post("/emails", json=email(template_id=template)).status_code == 404


# Project, usage, events


def test_project_settings(tenant):
    assert tenant.get("/project")["language"] == "en"
    changed = tenant.patch("/project", {"name": "Acme", "postalAddress": "1 Main St"})
    assert (changed["name"], changed["postal_address"], changed["language"]) == ("Acme", "1 Main St", "en")
    assert tenant.http.patch("/project", json={"language": "tlh"}).json()["field"] == "language"


def test_usage_counts_what_was_sent(served, tenant):
    tenant.post("/suppressions", {"email": "gone@example.com"}, 201)
    tenant.send(to=["a@example.com", "gone@example.com"])
    tenant.send(**{"from": "x@other.example"}, to=["a@example.com", "b@example.com"], idempotency_key="k")
    tenant.send(**{"from": "x@other.example"}, to=["a@example.com", "b@example.com"], idempotency_key="k")
    served.tenant(mode="test", project=tenant.project).send()
    assert tenant.http.post("/emails", json=email(to=["gone@example.com"])).status_code == 422
    found = tenant.get("/usage")
    assert (found["sent"], found["by_domain"]) == (3, {"other.example": 2, "yourdomain.com": 1})
    assert tenant.get("/usage", month="2020-01")["sent"] == 0
    assert tenant.http.get("/usage", params={"month": "2020-13"}).json()["field"] == "month"


def test_events_newest_first_and_filtered(tenant):
    first, second = tenant.send()["id"], tenant.send()["id"]
    for one in (first, second):
        tenant.until(f"/emails/{one}", lambda got: got["status"] == "delivered")
    found = tenant.get("/events")
    assert found["pagination"]["total"] == 6
    assert set(found["events"][0]) == {"id", "type", "timestamp", "data"}
    assert [each["data"]["email_id"] for each in tenant.get("/events", type="email.queued")["events"]] == [second, first]
    assert {each["type"] for each in tenant.get("/events", email_id=first, type="email.sent,email.delivered")["events"]} == {"email.sent", "email.delivered"}
    assert tenant.get("/events", since="2999-01-01")["events"] == []
    page = tenant.get("/events", per_page=4)
    rest = tenant.get("/events", per_page=4, cursor=page["pagination"]["next_cursor"])
    assert len({each["id"] for each in (*page["events"], *rest["events"])}) == 6
