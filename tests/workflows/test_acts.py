"""What can be done to a workflow, what is refused and why, and what a simulation says."""

from __future__ import annotations

import pytest

from relay.api import workflows
from relay.api.compat.plunk import workflows as dialect
from relay.store.audience.rules import DAY
from relay.workflows import graph as graphs
from relay.workflows import steps
from relay.workflows.graph import read
from tests.compat.hostile import faults
from tests.support.served import Served
from tests.workflows.flowing import Flows, line, node

T = node("t", "trigger")
X = node("x", "exit")


def codes(nodes, edges):
    drawn = read(nodes, edges, steps.STEPS)
    branches = {each.id: steps.branches(steps.read(each.kind, each.config)[0]) for each in drawn.nodes.values() if each.kind in steps.STEPS}
    return sorted((fault.code, fault.node) for fault in (*graphs.faults(drawn, branches), *graphs.unreached(drawn)))


CHECK = node("c", "condition", rules=[{"field": "email", "operator": "is_set"}])


@pytest.mark.parametrize(("nodes", "edges", "wanted"), [
    pytest.param([T, X], line("t", "x"), [], id="sound"),
    pytest.param([X], [], [("trigger_missing", "")], id="no trigger"),
    pytest.param([T, node("u", "trigger"), X], line("t", "x"), [("trigger_twice", "u"), ("unreachable", "u")], id="two triggers"),
    pytest.param([T], [], [("leads_nowhere", "t")], id="an end at once"),
    pytest.param([T, X, node("y", "exit")], line("t", "x"), [("unreachable", "y")], id="unreachable"),
    pytest.param([T, X, node("y", "exit")], [*line("t", "x"), *line("t", "y")], [("branch_twice", "t")], id="two ways"),
    pytest.param([T, X], [*line("t", "x"), *line("x", "t")], [("after_exit", "x"), ("into_trigger", "x"), ("loop", "t"), ("loop", "x")], id="back"),
    pytest.param([T, CHECK], line("t", "c"), [("leads_nowhere", "c")], id="a condition that leads nowhere"),
    pytest.param([T, CHECK, X], [*line("t", "c"), *line("c:maybe", "x")], [("branch_unknown", "c")], id="a branch that there is not"),
    pytest.param([T, node("w", "wait", delay="1d"), X], [*line("t", "w"), *line("w:match", "x")], [("branch_unknown", "w")], id="a wait has one way"),
])
def test_what_is_wrong_with_a_shape(nodes, edges, wanted):
    assert codes(nodes, edges) == wanted


@pytest.mark.parametrize(("body", "field"), [
    ({"nodes": 7}, "nodes"), ({"nodes": [7]}, "nodes[0]"), ({"nodes": [{"type": "exit"}]}, "nodes[0].public_id"),
    ({"nodes": [node("a b", "exit")]}, "nodes[0].public_id"), ({"nodes": [node("a", "dance")]}, "nodes[0].type"), ({"nodes": [X, X]}, "nodes[1].public_id"),
    ({"nodes": [{**X, "config": []}]}, None), ({"nodes": [{**X, "config": [1]}]}, "nodes[0].config"),
    ({"nodes": [{**X, "canvas_x": "1"}]}, "nodes[0].canvas_x"),
    ({"nodes": [X], "edges": [{"from_public_id": "x", "to_public_id": "z"}]}, "edges[0].to_public_id"),
    ({"nodes": [X], "edges": [{"from_public_id": "x", "to_public_id": "x", "branch": 1}]}, "edges[0].branch"),
    ({"nodes": [node("n" * 65, "exit")]}, "nodes[0].public_id"), ({}, "nodes"), ({"nodes": [node(f"n{n}", "exit") for n in range(201)]}, "nodes")])
def test_a_graph_that_cannot_be_kept_names_its_place(owner, body, field):
    number = owner.post("/workflows", {"name": "F", "trigger_type": "manual"}, 201)["id"]
    answer = owner.http.put(f"/workflows/{number}/graph", json=body)
    assert (answer.status_code, answer.json().get("field")) == ((422, field) if field else (200, None)), answer.text


def test_all_that_is_in_the_way_is_named_with_its_node(owner):
    nodes = [node("mail", "send_email", template_id="tpl_0000000000001"), node("wait", "wait"), node("bare", "send_email", subject="Hi", text="x"),
             node("list", "update_contact", add_to_segment="seg_0000000000001"),
             node("check", "condition", rules=[{"field": "segment", "operator": "equals", "value": "seg_0000000000002"}])]
    number = owner.draft("segment.entry", nodes, line("mail", "wait", "bare", "list", "check"), {"segment_id": "seg_0000000000003"})
    found = owner.post(f"/workflows/{number}/validate")
    assert found["valid"] is False
    assert sorted((each["node"], each["code"]) for each in found["errors"]) == [
        ("bare", "email"), ("check", "leads_nowhere"), ("check", "segment_missing"), ("list", "segment_missing"), ("mail", "template"),
        ("trigger", "segment_missing"), ("wait", "config")]
    refused = owner.post(f"/workflows/{number}/activate", status=422)
    assert (refused["code"], len(refused["errors"])) == ("workflow_invalid", 7)
    assert owner.get(f"/workflows/{number}")["status"] == "draft"


@pytest.mark.parametrize("allowed", [False, True], ids=["refused", "allowed"])
def test_a_request_to_a_private_address_is_named_unless_it_is_allowed(tmp_path, allowed):
    """As it is written; what variables or a name lead to is looked at when it is called."""
    urls = {"loopback": "http://127.0.0.1:1/x", "six": "http://[::1]/", "decimal": "http://2130706433/", "name": "http://localhost/{{ id }}",
            "public": "https://example.com/", "variable": "https://{{ properties.host }}/", "path": "https://example.com/127.0.0.1"}
    with Served(tmp_path, "", RELAY_WEBHOOKS__ALLOW_PRIVATE=str(allowed).lower()) as relay:
        owner = Flows(relay.tenant())
        number = owner.draft("manual", [node(name, "webhook", url=url) for name, url in urls.items()], line(*urls))
        errors = owner.post(f"/workflows/{number}/validate").get("errors", [])
        wanted = [] if allowed else ["decimal", "loopback", "name", "six"]
        assert sorted(each["node"] for each in errors) == wanted
        assert {(each["code"], each["field"]) for each in errors} == ({("url_private", "url")} if wanted else set())
        assert owner.http.post(f"/workflows/{number}/activate").status_code == (200 if allowed else 422)


def test_an_untracked_segment_begins_nothing(owner):
    segment = owner.post("/segments", {"name": "Pros", "rules": [{"field": "email", "operator": "is_set"}]}, 201)["id"]
    number = owner.draft("segment.exit", [X], [], {"segment_id": segment})
    found, = owner.post(f"/workflows/{number}/validate")["errors"]
    assert (found["code"], found["field"]) == ("segment_untracked", "trigger_config.segment_id")


def test_a_graph_is_replaced_for_runs_that_come(owner, calendar):
    number = owner.active("contact.created", [node("wait", "wait", delay="1d"), node("old", "exit", reason="old")], line("wait", "old"))
    owner.person("ann")
    owner.waiting(number)
    drawn = {"nodes": [node("trigger", "trigger"), node("new", "exit", reason="new")], "edges": line("trigger", "new")}
    assert owner.http.put(f"/workflows/{number}/graph", json={"nodes": [X], "edges": []}).status_code == 422, "an active workflow stays sound"
    assert owner.http.put(f"/workflows/{number}/graph", json=drawn).json()["version"] == 3
    owner.person("bob")
    calendar.pass_(DAY)
    assert {each["email"].partition("@")[0]: each["reason"] for each in owner.runs(number, 2)} == {"ann": "old", "bob": "new"}


def test_runs_are_stopped_one_by_one_and_all(owner):
    number = owner.active("contact.created", [node("wait", "wait", delay="1d")])
    for name in ("ann", "bob", "cid"):
        owner.person(name)
    first = owner.waiting(number, 3)[0]
    stopped = owner.post(f"/workflows/{number}/runs/{first['id']}/stop")
    assert (stopped["status"], stopped["reason"]) == ("stopped", "stopped by hand")
    assert owner.post(f"/workflows/{number}/runs/{first['id']}/stop", status=409)["code"] == "run_state"
    assert owner.post(f"/workflows/{number}/stop") == {"stopped": 2}
    assert owner.get(f"/workflows/{number}")["runs"] == {"running": 0, "completed": 0, "failed": 0, "stopped": 3}


def test_a_contact_that_is_deleted_takes_its_runs_along(owner):
    number = owner.active("contact.created", [node("wait", "wait", delay="1d")])
    person = owner.person("ann")
    owner.waiting(number)
    owner.delete(f"/contacts/{person['id']}")
    assert owner.get(f"/workflows/{number}/runs")["runs"] == []


def test_states_that_forbid_an_act(owner):
    number = owner.draft("manual", [X], [])
    person = owner.person("ann")["id"]
    assert owner.post(f"/workflows/{number}/trigger", {"contact_id": person}, 422)["error"] == "the workflow is not active: activate it first"
    assert owner.post(f"/workflows/{number}/pause", status=409)["code"] == "workflow_state"
    owner.post(f"/workflows/{number}/activate")
    assert owner.post(f"/workflows/{number}/activate", status=409)["code"] == "workflow_state"
    owner.patch(f"/workflows/{number}", {"trigger_type": "contact.created"})
    assert owner.post(f"/workflows/{number}/trigger", {"contact_id": person}, 422)["field"] == "workflow_id"
    copy = owner.post(f"/workflows/{number}/duplicate", status=201)
    assert (copy["status"], copy["trigger_type"], copy["name"]) == ("draft", "contact.created", "Flow (copy)")
    assert owner.delete(f"/workflows/{number}") == {"deleted": True}
    assert owner.http.get(f"/workflows/{number}").status_code == 404
    assert [each["id"] for each in owner.get("/workflows")["workflows"]] == [copy["id"]]


def test_a_project_sees_its_own(owner, other):
    number = owner.active("manual", [X])
    theirs = other.person("ann")
    assert owner.http.post(f"/workflows/{number}/trigger", json={"contact_id": theirs["id"]}).status_code == 404
    assert other.http.post(f"/workflows/{number}/trigger", json={"contact_id": theirs["id"]}).status_code == 404
    assert other.http.post(f"/workflows/{number}/simulate", json={"contact_id": theirs["id"]}).status_code == 404
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/graph"), ("PUT", "/graph"), ("POST", "/validate"), ("POST", "/activate"),
                         ("POST", "/pause"), ("POST", "/duplicate"), ("GET", "/runs"), ("POST", "/stop")):
        body = {"nodes": [], "edges": []} if method == "PUT" else {} if method == "PATCH" else None
        assert other.http.request(method, f"/workflows/{number}{path}", json=body).status_code == 404, path
    assert other.get("/workflows")["workflows"] == []


# Simulation.


def test_a_simulation_says_what_would_happen_and_when_and_does_nothing(owner, calendar):
    pro = [{"field": "properties.plan", "operator": "equals", "value": "pro"}]
    grow = node("grow", "update_contact", set={"properties": {"plan": "pro"}})
    nodes = [owner.letter("one", "Hello {{ first_name }}"), node("wait", "wait", delay="3d"), grow, node("check", "condition", rules=pro),
             node("for", "wait", event="bought", timeout="30d"), node("hook", "webhook", url="https://x.example/{{ id }}"),
             node("end", "exit", reason="done")]
    number = owner.draft("custom", nodes, [*line("one", "wait", "grow", "check"), *line("check:match", "for", "hook", "end")], {"event": "came"})
    person = owner.person("ann", properties={"plan": "free"})
    start = "2027-01-01T00:00:00.000Z"
    told = owner.post(f"/workflows/{number}/simulate", {"contact_id": person["id"], "at": start, "events": [{"event": "bought", "after": "5d"}]})
    assert [(each["node_id"], each["outcome"], each["at"][:10]) for each in told["steps"]] == [
        ("trigger", "began", "2027-01-01"), ("one", "sent", "2027-01-01"), ("wait", "waiting", "2027-01-01"), ("wait", "waited", "2027-01-04"),
        ("grow", "changed", "2027-01-04"), ("check", "match", "2027-01-04"), ("for", "waiting", "2027-01-04"), ("for", "event", "2027-01-06"),
        ("hook", "called", "2027-01-06"), ("end", "exit", "2027-01-06")]
    assert told["steps"][1]["detail"]["subject"] == "Hello Ann"
    assert (told["would_begin"], told["status"], told["reason"]) == (True, "completed", "done")
    assert owner.post(f"/workflows/{number}/simulate", {"email": person["email"], "at": start})["steps"][7]["outcome"] == "timeout"
    assert owner.get(f"/contacts/{person['id']}")["properties"] == {"plan": "free"}
    assert owner.get(f"/workflows/{number}/runs")["runs"] == []
    assert "contact.updated" not in {each["type"] for each in owner.get("/events")["events"]}
    assert owner.mail(0) == []


def test_a_simulation_knows_who_would_not_begin_or_not_get_it(owner):
    number = owner.active("contact.created", [owner.letter("one")])
    person = owner.person("ann")
    owner.runs(number)
    owner.post(f"/contacts/{person['id']}/unsubscribe")
    told = owner.post(f"/workflows/{number}/simulate", {"contact_id": person["id"]})
    assert (told["would_begin"], told["refused"]) == (False, "again")
    assert (told["steps"][1]["outcome"], told["steps"][1]["detail"]) == ("skipped", {"reason": "unsubscribed"})


# Bad input.


def test_nothing_makes_a_fault_of_ours(owner):
    number = owner.draft("custom", [X], [], {"event": "come"})
    plain = [(method, route.path) for route in workflows.router.routes for method in route.methods if method != "DELETE"]
    plunk = [(method, f"/plunk{route.path}") for route in dialect.router.routes for method in route.methods if method != "DELETE"]
    known = [(method, path.replace("{workflow_id}", number)) for method, path in (*plain, *plunk)]
    assert faults(owner.http, [*plain, *plunk, *known]) == []


@pytest.mark.parametrize("text", ["wf_zzz", "wf_0000000000000", "wf_%00", "é", "0" * 200])
def test_ids_that_are_none(owner, text):
    for path in (f"/workflows/{text}", f"/workflows/{text}/runs", f"/workflows/{text}/runs/{text}"):
        assert owner.http.get(path).status_code in (400, 404, 422)
