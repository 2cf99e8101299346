"""The settings' pages: each does what its API does, shows secrets once, and keeps to its project."""

from __future__ import annotations

import re

import pytest

from tests.support.served import email
from tests.support.visitor import Visitor, visiting, words

HOSTILE = '"><script>alert(1)</script>'


def action_of(page, question):
    """Where the form with this question posts to."""
    return next(form.attributes["action"] for form in page.css("form") if form.attributes.get("data-ask", "") == question)


def test_a_domain_is_added_shown_with_its_records_and_removed(visitor, tenant):
    name = f"{tenant.project}.example"
    page = visitor.submit("/settings/domains", "/dashboard/settings/domains", name=name.upper())
    assert "v=spf1 a:relay.test ~all" in page.text
    assert f"_domainkey.{name}" in page.text
    place = page.url.path
    saved = visitor.submit(place, place, open_tracking="1", tracking_domain="links.example.com", return_path="")
    assert "Saved." in words(saved.text)
    found = tenant.get("/domains")["domains"][0]
    assert (found["open_tracking"], found["click_tracking"], found["tracking_domain"], found["return_path"]) == (True, False, "links.example.com", None)
    assert "New keys wait" in words(visitor.submit(place, f"{place}/rotate").text)
    assert "are forgotten" in words(visitor.submit(place, f"{place}/forget").text)
    assert visiting(tenant.served.tenant()).get(place).status_code == 404
    assert "The domain is gone." in words(visitor.submit(place, f"{place}/remove").text)
    assert tenant.get("/domains")["domains"] == []


@pytest.mark.parametrize("name", ["localhost", "exa mple", HOSTILE, "x" * 300, ""], ids=["one label", "a space", "hostile", "too long", "empty"])
def test_a_domain_that_is_none_is_refused_beside_what_was_typed(visitor, name):
    page = visitor.submit("/settings/domains", "/dashboard/settings/domains", name=name)
    assert page.status_code == 422
    assert 'aria-invalid="true"' in page.text or "class=\"problem\"" in page.text
    assert "<script>alert" not in page.text


def test_a_key_is_made_shown_once_works_and_is_revoked(served, visitor, tenant):
    page = visitor.submit("/settings/keys", "/dashboard/settings/keys", name="web shop", permission="sending_access")
    key = re.search(r"sk_live_[0-9a-f]{40}", page.text)[0]
    assert key not in visitor.get("/settings/keys").text
    assert "web shop" in visitor.text("/settings/keys")
    Visitor(served).sign_in(key).see("/mail")
    place = action_of(visitor.see("/settings/keys"), "Revoke web shop for good?")
    assert "the key is dead" in words(visitor.submit("/settings/keys", place).text)
    assert Visitor(served).http.post("/dashboard/sign-in", data={"secret": key}).status_code == 401
    Visitor(served).sign_in(tenant.key)


def test_a_key_of_another_project_is_not_there(visitor, served, tenant):
    other = served.tenant()
    theirs = other.get("/api-keys")["api_keys"][0]["id"]
    token = visitor.see("/settings/keys").css_first("input[name=token]").attributes["value"]
    for act in ("rotate", "revoke"):
        assert visitor.http.post(f"/dashboard/settings/keys/{theirs}/{act}", data={"token": token}).status_code == 404
    assert other.get("/api-keys")["api_keys"][0]["id"] == theirs


def test_a_webhook_is_added_tested_and_its_deliveries_are_replayed(visitor, tenant, free_port):
    url = f"http://127.0.0.1:{free_port()}/hook"
    page = visitor.submit("/settings/webhooks", "/dashboard/settings/webhooks", url=url, events="email.delivered, email.bounced", description=HOSTILE)
    assert "whsec_" in page.text
    assert "<script>alert" not in page.text
    hook = tenant.get("/webhooks")["webhooks"][0]
    assert hook["events"] == ["email.delivered", "email.bounced"]
    place = f"/dashboard/settings/webhooks/{hook['id']}"
    assert "whsec_" not in visitor.get(place).text
    assert "The test failed" in words(visitor.submit(place, f"{place}/test").text)
    tenant.send()
    tenant.until(f"/webhooks/{hook['id']}/deliveries", lambda found: found.get("deliveries") and found["deliveries"][0]["attempts"] > 0)
    assert "email.delivered" in visitor.text(place)
    delivery = tenant.get(f"/webhooks/{hook['id']}/deliveries")["deliveries"][0]["id"]
    assert "It is delivered again now." in words(visitor.submit(place, f"{place}/replay", delivery=delivery).text)
    assert "Saved." in words(visitor.submit(place, place, url=url, events="*").text)
    other = visiting(tenant.served.tenant())
    assert other.get(place).status_code == 404
    assert url not in other.text("/settings/webhooks")
    assert "The webhook is gone." in words(visitor.submit(place, f"{place}/remove").text)


def test_an_address_is_suppressed_found_with_its_evidence_and_lifted(visitor, tenant):
    page = visitor.submit("/settings/suppressions", "/dashboard/settings/suppressions", email="Ada@Example.com", note="asked by phone")
    assert "Ada@Example.com gets no more mail." in words(page.text)
    text = visitor.text("/settings/suppressions", email="ada@example.com", reason="manual")
    assert "asked by phone" in text
    assert "ada@example.com" not in visiting(tenant.served.tenant()).text("/settings/suppressions").lower()
    assert "may get mail again" in words(visitor.submit("/settings/suppressions", "/dashboard/settings/suppressions/lift").text)
    wrong = visitor.submit("/settings/suppressions", "/dashboard/settings/suppressions", email="nobody")
    assert wrong.status_code == 422
    assert 'value="nobody"' in wrong.text


def test_a_user_is_added_signs_in_and_is_removed(served, visitor, tenant):
    name = f"grace-{tenant.project}@example.com"
    page = visitor.submit("/settings/users", "/dashboard/settings/users", name=name, permission="sending_access")
    password = re.search(r'data-copy="([^"]+)" aria-label="Copy the password"', page.text)[1]
    person = Visitor(served).sign_in(password, name)
    assert person.get("/mail").status_code == 200
    assert person.get("/settings/users").status_code == 403
    assert visitor.submit("/settings/users", "/dashboard/settings/users", name=name.upper()).status_code == 409
    assert name not in visiting(served.tenant()).text("/settings/users")
    place = next(f.attributes["action"] for f in visitor.see("/settings/users").css("form") if f.attributes["action"].endswith("/remove"))
    assert "signs in no more" in words(visitor.submit("/settings/users", place).text)
    assert person.get("/mail").status_code == 303


def test_the_project_is_named_and_its_usage_shown(visitor, tenant):
    page = visitor.submit("/settings/project", "/dashboard/settings/project", name="Ada & Co", language="de", postal_address="1 Main St\n<b>Town</b>")
    assert "Saved." in words(page.text)
    assert tenant.get("/project")["name"] == "Ada & Co"
    assert tenant.get("/project")["postal_address"].replace("\r\n", "\n") == "1 Main St\n<b>Town</b>"
    assert "<b>Town" not in visitor.get("/settings/project").text
    tenant.send()
    assert "yourdomain.com" in visitor.text("/settings/project")
    assert visitor.get("/settings/project", month="2026-13").status_code == 422


def test_suppression_rules_are_made_tried_switched_and_deleted(tenant, visitor):
    page = "/dashboard/settings/rules"
    assert "No rule." in visitor.text("/settings/rules")
    assert "*+demo@shop.example gets no mail from now on." in words(visitor.submit(page, page, kind="WILDCARD", pattern="*+Demo@shop.example").text)
    assert "ann+demo@shop.example is stopped by *+demo@shop.example" in visitor.text("/settings/rules", address="ann+demo@shop.example")
    assert "No rule stops ann@shop.example." in visitor.text("/settings/rules", address="ann@shop.example")
    refused = tenant.http.post("/emails", json=email(to=["ann+demo@shop.example"]))
    assert refused.json()["code"] == "recipient_suppressed"
    act = next(each.attributes["action"] for each in visitor.see(page).css("form") if each.attributes["action"].endswith("/switch"))
    assert "gets mail again." in words(visitor.submit(page, act).text)
    assert "No rule stops ann+demo@shop.example." in visitor.text("/settings/rules", address="ann+demo@shop.example")
    wrong = visitor.submit(page, page, kind="WILDCARD", pattern="no star")
    assert (wrong.status_code // 100, "a wildcard has" in words(wrong.text) or "no space" in words(wrong.text)) == (4, True)
    assert "The rule is deleted" in words(visitor.submit(page, act.replace("/switch", "/delete")).text)


def test_another_project_s_rules_are_not_seen_or_switched(served, tenant, visitor):
    page = "/dashboard/settings/rules"
    visitor.submit(page, page, kind="DOMAIN", pattern="gone.example", name=HOSTILE)
    assert HOSTILE in visitor.see(page).body.text()
    act = next(each.attributes["action"] for each in visitor.see(page).css("form") if each.attributes["action"].endswith("/switch"))
    other = visiting(served.tenant())
    assert "gone.example" not in other.text("/settings/rules")
    token = other.see("/settings/rules").css_first("main input[name=token]").attributes["value"]
    for path in (act, act.replace("/switch", "/delete")):
        assert other.http.post(path, data={"token": token, "enabled": ""}).status_code == 404
    assert "enabled" in visitor.text("/settings/rules")
