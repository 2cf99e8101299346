"""relay workflow: an operator sees a workflow, its runs and what would happen, and stops it, beside a relay that runs; without one as well."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.running import OPEN, Running
from tests.workflows.flowing import line, node


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("workflows"), OPEN) as running:
        yield running


@pytest.fixture(scope="module")
def flow(relay: Running) -> str:
    """The id of an active workflow that one contact waits in."""
    with httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {relay.key()}"}, timeout=60) as api:
        nodes = [node("t", "trigger"), node("wait", "wait", delay="3d"), node("end", "exit", reason="was patient")]
        made = api.post("/workflows", json={"name": "Wait \x1b[31mred", "trigger_type": "manual", "nodes": nodes, "edges": line("t", "wait", "end")})
        number = made.json()["id"]
        assert api.post(f"/workflows/{number}/activate").status_code == 200, made.text
        assert api.post("/contacts", json={"email": "ann@reader.example"}).status_code == 201
        assert api.post(f"/workflows/{number}/trigger", json={"email": "ann@reader.example"}).status_code == 201
    return number


def test_a_workflow_is_seen_simulated_and_stopped(relay: Running, flow: str) -> None:
    assert [each["id"] for each in relay.command("workflow", "list")] == [flow]
    assert "\x1b" not in relay.text("workflow", "list")
    shown = relay.text("workflow", "show", flow)
    assert "begun by manual" in shown
    assert "LEADS TO" in shown
    run, = relay.command("workflow", "runs", flow, "--contact", "ann@reader.example")
    assert (run["status"], run["steps"][0]["outcome"]) == ("running", "began")
    told = relay.command("workflow", "simulate", flow, "ann@reader.example", "--at", "2027-01-01")
    assert [(each["node_id"], each["at"][:10]) for each in told["steps"]] == [
        ("t", "2027-01-01"), ("wait", "2027-01-01"), ("wait", "2027-01-04"), ("end", "2027-01-04")]
    assert "It would not begin as things are: again." in relay.text("workflow", "simulate", flow, "ann@reader.example")
    assert relay.command("workflow", "pause", flow)["status"] == "paused"
    assert relay.command("workflow", "stop", flow) == {"stopped": 1}
    assert json.loads(relay.text("workflow", "runs", flow, "--status", "stopped", "--json"))[0]["email"] == "ann@reader.example"
