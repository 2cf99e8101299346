"""The OpenAPI document describes the API, and nothing that it allows makes the API fail: schemathesis finds no 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from relay.audience.grammars import WORDS
from tests.support.until import PATIENCE

EXAMPLES = 4  # of each operation and mode


@pytest.mark.limit(400)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as the document says", "against it"])
def test_nothing_makes_a_5xx(served, tenant, mode):
    if served.relay.store.dialect == "sqlite":
        pytest.skip("PostgreSQL refuses all that SQLite does, and more")
    document = schemathesis.openapi.from_url(f"{served.base}/openapi.json")
    headers, asked = {"Authorization": f"Bearer {tenant.key}"}, set()

    def ask(operation):
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.explicit, Phase.generate])
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case):
            answer = case.call(base_url=served.base, headers=headers, timeout=PATIENCE)
            asked.add((operation.method, operation.path))
            assert answer.status_code < 500 or "Retry-After" in answer.headers, f"{case.as_curl_command()}\n{answer.text}"

        run()

    for found in document.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.POSITIVE or operation.body or operation.query or operation.path_parameters:
            ask(operation)
    assert len(asked) > 30


def test_the_document_is_openapi_3_1_and_names_every_route(tenant):
    document = tenant.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {"/emails", "/emails/send", "/emails/batch", "/emails/{email_id}", "/suppressions", "/templates", "/domains", "/api-keys", "/webhooks", "/events",
            "/usage", "/project"} <= set(document["paths"])
    assert document["paths"]["/emails"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SendInput"}
    assert {"from", "to", "cc", "bcc", "reply_to", "attachments", "scheduled_at", "idempotency_key", "tracking", "unsubscribe", "topic_id"} <= set(
        document["components"]["schemas"]["SendInput"]["properties"])
    assert not any(path.startswith(("/u/", "/t/", "/metrics")) for path in document["paths"])


def test_the_document_spells_fields_as_answers_do_and_requests_so_spelled_are_taken(tenant):
    schemas = tenant.get("/openapi.json")["components"]["schemas"]
    named = {(schema, name) for schema, each in schemas.items() for name in (*each.get("properties", ()), *each.get("required", ()))}
    assert {("SegmentInput", "track_membership"), ("BulkInput", "contact_ids"), ("WhenInput", "scheduled_at"), ("ContactInput", "first_name")} <= named
    assert not [pair for pair in named if pair[1] != pair[1].lower()]
    for spelled in ({"track_membership": True}, {"trackMembership": True}):
        assert tenant.post("/segments", {"name": "x", **spelled}, 201)["track_membership"] is True


def test_the_document_says_what_rules_are(tenant):
    """By examples that are rules, and by the operators that there are."""
    schemas = tenant.get("/openapi.json")["components"]["schemas"]
    for name in ("SegmentInput", "SegmentChange", "RulesInput"):
        told = schemas[name]["properties"]["rules"]
        assert all(operator in told["description"] for operator in WORDS if operator.islower() and len(operator) > 3)
        assert [tenant.post("/segments/preview", {"rules": each})["count"] for each in told["examples"]] == [0, 0]


def test_docs_are_served(tenant):
    assert tenant.http.get("/docs").status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nosuch", 404), ("DELETE", "/emails", 405), ("PUT", "/project", 405)])
def test_errors_outside_the_routes_have_the_same_shape(tenant, method, path, status):
    answer = tenant.http.request(method, path)
    assert (answer.status_code, set(answer.json())) == (status, {"error", "code"})


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("PUT", "/emails", "GET, POST"), ("OPTIONS", "/emails", "GET, POST"), ("POST", "/emails/em_0000000000000", "GET, PATCH"),
    ("GET", "/emails/preview/x", None), ("PUT", "/suppressions/a@example.com", "DELETE, GET"),
])
def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(tenant, method, path, allowed):
    answer = tenant.http.request(method, path)
    assert answer.status_code == (405 if allowed else 404)
    assert answer.headers.get("allow") == allowed
