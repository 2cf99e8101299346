"""The npm package @plunk/node with another base URL, for the calls that its version shares; and hostile callers of every route."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from relay.api.compat.plunk.app import ROUTERS
from relay.metrics import REGISTRY
from tests.compat.hostile import faults
from tests.support import peers

HERE, PEERS = Path(__file__).parent, Path(__file__).parent.parent.parent / ".peers"
TRACK = ["events", "track", {"event": "signed_up", "email": "jane@example.com", "data": {"plan": "pro", "code": {"persistent": False, "value": "1"}}}]
SEND = ["emails", "send", {"to": ["jane@example.com", "john@example.com"], "subject": "Hello", "body": "<p>Hi</p>", "from": "hi@yourdomain.com", "name": "Jo",
                           "type": "html", "subscribed": True}]


@pytest.fixture
def package(plunk):
    """Call methods of the package; gives what each of them gave or threw."""
    node = peers.need("node")
    if not (PEERS / "node_modules/@plunk/node").exists():
        peers.absent("@plunk/node")

    def call(*calls, key=plunk.tenant.key):
        command = [node, str(HERE / "plunk.mjs"), f"{plunk.tenant.served.base}/plunk/v1/", key]
        done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, check=True, timeout=99, env={**os.environ, "PEERS": str(PEERS)})
        return json.loads(done.stdout)

    return call


def test_track_and_send(plunk, package):
    tracked, sent = (each["given"] for each in package(TRACK, SEND))
    assert (tracked["success"], sent["success"]) == (True, True)
    found = plunk.get(f"/contacts/{tracked['contact']}")
    assert (found["email"], found["subscribed"], found["data"]) == ("jane@example.com", True, {"plan": "pro"})
    assert [each["contact"]["email"] for each in sent["emails"]] == ["jane@example.com", "john@example.com"]
    plunk.tenant.until("/emails", lambda got: [each["status"] for each in got["emails"]] == ["delivered"] * 2)


@pytest.mark.parametrize(("call", "key", "thrown", "message"), [
    pytest.param(TRACK, "sk_live_nonsense", "TokenError", "API key", id="a key that does not live"),
    pytest.param(["emails", "send", {"to": "jane@example.com", "template": "tpl_0000000000000"}], None, "NotFoundError", "not found", id="no template"),
    pytest.param(["emails", "send", {"to": "nonsense", "subject": "a", "body": "b", "from": "hi@yourdomain.com"}], None, "Error", "to", id="no address"),
    pytest.param(["events", "track", {"event": "email.opened", "email": "jane@example.com"}], None, "Error", "system", id="a reserved name"),
])
def test_its_errors_say_what_is_wrong(package, call, key, thrown, message):
    answer, = package(call, **({"key": key} if key else {}))
    assert answer["thrown"] == thrown
    assert message in answer["message"]


def test_nothing_makes_a_fault(tenant):
    if tenant.served.relay.store.dialect == "sqlite":
        pytest.skip("PostgreSQL refuses all that SQLite does, and more")
    routes = [(method, f"/plunk{route.path}") for router in ROUTERS for route in router.routes for method in route.methods]
    assert len(routes) > 30
    assert faults(tenant.http, routes) == []


def test_the_document_names_every_route(tenant):
    document = tenant.get("/plunk/openapi.json")
    assert {"/v1/track", "/v1/send", "/v1/verify", "/contacts", "/contacts/import", "/segments/{segment_id}/members", "/templates"} <= set(document["paths"])
    assert tenant.http.get("/plunk/docs").status_code == 200
    assert not any(path.startswith("/plunk") for path in tenant.get("/openapi.json")["paths"])


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nosuch", 404), ("DELETE", "/contacts", 405)])
def test_errors_outside_the_routes_have_the_same_envelope(plunk, method, path, status):
    told = plunk.ask(method, path, status=status)
    assert (told["success"], told["error"]["statusCode"]) == (False, status)


def test_requests_are_counted_by_dialect(plunk):
    def count(status):
        return REGISTRY.get_sample_value("relay_dialect_requests_total", {"dialect": "plunk", "status": status}) or 0.0

    before = count("2xx"), count("4xx")
    plunk.get("/contacts")
    plunk.get("/nosuch", 404)
    assert (count("2xx"), count("4xx")) == (before[0] + 1, before[1] + 1)
