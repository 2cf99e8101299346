"""The dialect as a whole: errors, neighbours, what nobody may bring it to, and what its document says."""

from pathlib import Path

import pytest

from relay.api.compat.poststack.table import ROUTES
from tests.compat.conftest import client
from tests.compat.hostile import faults
from tests.compat.poststack import EMAIL, refused


@pytest.mark.parametrize(("ask", "status", "code"), [
    pytest.param(lambda live: live.emails.get("em_0000000000000"), 404, "not_found", id="no such email"),
    pytest.param(lambda live: live.domains.get(12), 404, "not_found", id="no such number"),
    pytest.param(lambda live: live.domains.get(1 << 63), 404, "not_found", id="a number too large"),
    pytest.param(lambda live: live.contacts.get("../emails"), 404, "not_found", id="a path in an id"),
    pytest.param(lambda live: live.contacts.create({"email": "nonsense"}), 422, "validation_error", id="invalid"),
    pytest.param(lambda live: live._client.get("/mailboxes"), 404, "not_found", id="no such route yet"),
    pytest.param(lambda live: live._client.delete("/emails"), 405, "method_not_allowed", id="no such method"),
])
def test_errors_are_the_sdks(live, ask, status, code):
    error = refused(ask, live)
    assert (error.status_code, error.code, bool(error.error), bool(error.request_id)) == (status, code, True, True)


def test_without_a_key(tenant):
    answer = tenant.http.get("/poststack/contacts", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["code"], answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")


def test_another_project_sees_nothing(live, stranger, tenant, alice, segment, topic, template, webhook):
    sent, domain = live.emails.send(EMAIL)["id"], live.domains.create({"name": "example.org"})["domain"]
    live.suppressions.add({"email": "gone@example.com", "reason": "manual"})
    asked = [
        (stranger.emails.get, sent), (stranger.emails.cancel, sent), (stranger.contacts.get, alice["publicId"]), (stranger.contacts.delete, str(alice["id"])),
        (stranger.contacts.get_by_email, "alice@example.com"), (stranger.segments.get, segment["publicId"]), (stranger.segments.delete, segment["publicId"]),
        (stranger.subscription_topics.get, topic["publicId"]), (stranger.templates.render, template["publicId"]), (stranger.webhooks.get, webhook["id"]),
        (stranger.webhooks.delete, webhook["id"]), (stranger.domains.get, domain["id"]), (stranger.domains.delete, domain["id"]),
        (stranger.suppressions.remove, "gone@example.com"),
    ]
    assert {refused(ask, what).status_code for ask, what in asked} == {404}
    empty = [stranger.emails.list()["data"], stranger.contacts.list()["data"], stranger.segments.list()["segments"], stranger.templates.list()["data"],
             stranger.webhooks.list()["webhooks"], stranger.domains.list()["domains"], stranger.suppressions.list()["data"]]
    assert not any(empty)


def test_every_method_of_these_resources_has_a_test():
    """A method that a later SDK adds must be looked at."""
    resources = ("emails", "contacts", "contact_properties", "segments", "subscription_topics", "suppressions", "templates", "webhooks", "domains", "api_keys",
                 "email_validations")
    here = "".join(each.read_text() for each in Path(__file__).parent.glob("*.py"))
    sdk = client(type("Tenant", (), {"key": "sk_test_x", "served": type("Served", (), {"base": "http://localhost"})}))
    methods = {f"{name}.{each}" for name in resources for each in dir(getattr(sdk, name)) if not each.startswith("_")}
    elsewhere = {"domains.assign_ip", "domains.unassign_ip", "domains.get_inbox_placement", "webhooks.verify"}
    elsewhere |= {"segments.broadcasts"}  # with broadcasts
    assert {each for each in methods - elsewhere if f"live.{each}" not in here} == set()


def test_nothing_makes_a_fault(tenant):
    if tenant.served.relay.store.dialect == "sqlite":
        pytest.skip("PostgreSQL refuses all that SQLite does, and more")
    routes = [(route.method, f"/poststack{route.path}") for routes in ROUTES.values() for route in routes]
    assert faults(tenant.http, routes) == []


def test_the_document_names_routes_and_mapped_words(tenant):
    document = tenant.get("/poststack/openapi.json")
    assert set(document["paths"]) == {route.path for routes in ROUTES.values() for route in routes}
    assert document["servers"][0]["url"] == "/poststack"
    for word in ("`scheduled` as `queued`", "`dkim_rotation` as `dkim`", "not_supported"):
        assert word in document["info"]["description"]
    assert tenant.http.get("/poststack/docs").status_code == 200
