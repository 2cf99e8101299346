"""The pages of workflows: drawn, looked over, activated, tried on a contact, and the path of each run."""

from __future__ import annotations

import json

import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.dashboard import drawing
from tests.support.visitor import visiting, words
from tests.workflows.flowing import Flows, line, node

LIST = "/dashboard/workflows"
HOSTILE = "<script>alert(1)</script>\"' onload=x"
PRO = [{"field": "plan", "operator": "equals", "value": "pro"}]


@pytest.fixture
def owner(tenant):
    return Flows(tenant)


def steps(owner):
    """Ask for the plan; a letter to the one, a tag for the other."""
    nodes = [node("ask", "condition", rules=PRO), owner.letter("thank", "Thank you, {{ first_name }}"), node("mark", "update_contact", add_tags=["free"])]
    return nodes, [*line("ask:match", "thank"), *line("ask:no_match", "mark")]


def boxes(page):
    return {box.css_first("title").text().rpartition("(")[2][:-1]: box for box in page.css("svg g.box")}


def test_a_workflow_is_made_drawn_activated_and_followed(owner, visitor):
    ann = owner.person("ann", properties={"plan": "pro"})
    made = visitor.submit("/workflows/new", f"{LIST}/new", name="Greeting", trigger_type="manual", reentry="always")
    place = str(made.url.path)
    assert "Nothing is drawn yet" in words(made.text)
    nodes, edges = steps(owner)
    graph = {"nodes": [node("trigger", "trigger"), *nodes], "edges": [*line("trigger", "ask"), *edges]}
    assert "The graph is kept." in words(visitor.submit(place, f"{place}/draw", graph=json.dumps(graph)).text)
    page = visitor.see(place, part="findings")
    assert "Nothing is in its way." in words(page)
    assert {name: words(box.html) for name, box in boxes(page).items()}["ask"].startswith("Ask whose plan is pro (ask)")
    assert [each.text() for each in page.css("svg text.branch")] == ["yes", "no"]
    assert "Active: runs begin from now on." in words(visitor.submit(place, f"{place}/activate").text)
    assert "The run begins." in words(visitor.submit(place, f"{place}/trigger", email=ann["email"]).text)
    run, = owner.runs(place.rpartition("/")[2])
    seen = visitor.see(f"{place}/runs/{run['id']}")
    assert {name for name, box in boxes(seen).items() if "visited" in box.attributes["class"]} >= {"ask", "thank"}
    assert "visited" not in boxes(seen)["mark"].attributes["class"]
    assert "Send thank" in words(seen.css_first("ol.timeline").html)
    assert run["id"] in visitor.see(place, status="completed").css_first("tbody a").attributes["href"]
    assert "No run like that." in visitor.text(place, status="failed")
    assert "1 sent" in boxes(visitor.see(place))["thank"].text()
    assert "Paused" in words(visitor.submit(place, f"{place}/pause").text)


def test_what_would_happen_is_shown_and_nothing_happens(owner, visitor):
    bob = owner.person("bob", properties={"plan": "free"})
    number = owner.draft("contact.created", *steps(owner))
    place = f"{LIST}/{number}"
    page = LexborHTMLParser(visitor.submit(place, f"{place}/simulate", email=bob["email"], data='{"x": 1}', events="purchased 2d\n").text)
    assert f"What would happen to {bob['email']}" in words(page)
    assert {name for name, box in boxes(page).items() if "visited" in box.attributes["class"]} >= {"ask", "mark"}
    assert "free" not in owner.get(f"/contacts/{bob['id']}")["tags"]
    assert owner.get(f"/workflows/{number}/runs")["runs"] == []


@pytest.mark.parametrize(("act", "fields", "said"), [
    ("simulate", {"email": "nobody@example.com"}, "no contact has this address"), ("simulate", {"email": "ann", "events": "purchased"}, "purchased 2d"),
    ("simulate", {"email": "ann", "data": "{"}, "data is no JSON"), ("draw", {"graph": "[]"}, "a JSON object"),
    ("draw", {"graph": '{"nodes": [{"public_id": "a", "type": "rocket"}], "edges": []}'}, "there is no 'rocket'"),
    ("simulate", {"email": "ann", "at": "soon"}, "ISO 8601"),
    ("", {"name": "", "trigger_type": "manual"}, "name"), ("", {"name": "x", "trigger_config": "{"}, "trigger config is no JSON"),
], ids=["nobody", "no span", "no data", "no graph", "no such step", "no time", "no name", "no config"])
def test_what_is_wrong_is_said(owner, visitor, act, fields, said):
    owner.person("ann")
    number = owner.draft("contact.created", *steps(owner))
    place = f"{LIST}/{number}"
    if "email" in fields and "@" not in fields["email"]:
        fields = {**fields, "email": f"ann@{owner.domain}"}
    answer = visitor.submit(place, f"{place}/{act}".rstrip("/"), **fields)
    assert (answer.status_code, said in words(answer.text)) == (422, True), words(answer.text)[:800]


def test_what_is_in_the_way_is_named_with_its_step(owner, visitor):
    number = owner.draft("custom", [node("mail", "send_email")], [])
    place = f"{LIST}/{number}"
    assert "mail" in {each.text() for each in visitor.see(place, part="findings").css("#findings .problem code")}
    answer = visitor.submit(place, f"{place}/activate")
    assert answer.status_code == 422
    assert owner.get(f"/workflows/{number}")["status"] == "draft"


def test_it_is_changed_duplicated_and_deleted(owner, visitor):
    number = owner.draft("custom", *steps(owner), {"event": "signed_up"})
    place = f"{LIST}/{number}"
    assert "when an event comes: signed_up" in visitor.text(place)
    visitor.submit(place, place, name="Renamed", trigger_config='{"event": "bought"}')
    told = owner.get(f"/workflows/{number}")
    assert (told["name"], told["trigger_config"], told["trigger_type"]) == ("Renamed", {"event": "bought"}, "custom")
    copy = str(visitor.submit(place, f"{place}/duplicate").url.path)
    assert copy != place
    assert "The workflow is deleted" in words(visitor.submit(copy, f"{copy}/delete").text)
    assert [each["name"] for each in owner.get("/workflows")["workflows"]] == ["Renamed"]


def test_a_run_that_waits_is_stopped(owner, visitor):
    ann = owner.person("ann")
    number = owner.active("manual", [node("rest", "wait", delay="3d")])
    run = owner.post(f"/workflows/{number}/trigger", {"contact_id": ann["id"]}, 201)["id"]
    place = f"{LIST}/{number}"
    assert "waits until" in visitor.text(place, status="running")
    assert "The run is stopped." in words(visitor.submit(f"{place}/runs/{run}", f"{place}/runs/{run}/stop").text)
    assert owner.get(f"/workflows/{number}/runs/{run}")["status"] == "stopped"


@pytest.mark.parametrize(("edges", "rows"), [
    ([], [["a", "b", "c", "d"]]), ([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")], [["a"], ["b", "c"], ["d"]]),
    ([("a", "b"), ("b", "d"), ("a", "d")], [["a", "c"], ["b"], ["d"]]), ([("a", "b"), ("b", "c"), ("c", "b")], [["a", "d"], ["b", "c"]]),
], ids=["apart", "a diamond", "a short way", "a way back"])
def test_lines_point_down(edges, rows):
    graph = {"nodes": [node(name, "exit") for name in "abcd"], "edges": [{"from_public_id": a, "to_public_id": b, "branch": None} for a, b in edges]}
    found = drawing.drawn(graph)
    by_row = {}
    for box in found.boxes:
        by_row.setdefault(box.y, []).append(box.id)
    assert [sorted(row) for _, row in sorted(by_row.items())] == rows
    assert all(0 <= box.x <= found.width - drawing.WIDE and box.y + drawing.HIGH <= found.height for box in found.boxes)
    assert len({(box.x, box.y) for box in found.boxes}) == 4


@pytest.mark.parametrize(("kind", "config", "said"), [
    ("wait", {"delay": "3d"}, "3d"), ("wait", {"until": "trial_ends_at", "offset": "-3d"}, "until trial_ends_at -3d"),
    ("wait", {"event": "bought", "timeout": "7d"}, "for bought, at most 7d"), ("webhook", {"url": "https://a.example/"}, "POST https://a.example/"),
    ("condition", {"branches": [{"name": "x"}, {"name": "y"}]}, "which of x, y"), ("condition", {}, "nothing yet"), ("send_email", {}, "nothing yet"),
    ("send_email", {"template_id": "tpl_1"}, "Offer"), ("update_contact", {"add_tags": ["x"]}, "add tags"), ("exit", {"reason": "done"}, "done"),
    ("wait", {}, "nothing yet"), ("condition", {"branches": [1]}, "which of "),
], ids=str)
def test_what_a_step_does_in_words(kind, config, said):
    assert drawing.does(node("a", kind, **config), {"tpl_1": "Offer"}) == said


def test_what_workflows_say_is_never_run(owner, visitor):
    owner.person("ann", properties={"plan": HOSTILE})
    number = owner.draft("custom", [owner.letter("mail", HOSTILE)], [], {"event": HOSTILE[:60]}, name=HOSTILE)
    place = f"{LIST}/{number}"
    for page in (visitor.see("/workflows"), visitor.see(place), visitor.see(place, part="findings")):
        assert HOSTILE in page.body.text()
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_workflows_are_not_there(served, owner):
    ann = owner.person("ann")
    number = owner.active("manual", [node("rest", "wait", delay="3d")])
    owner.post(f"/workflows/{number}/trigger", {"contact_id": ann["id"]}, 201)
    run = owner.get(f"/workflows/{number}/runs")["runs"][0]["id"]
    stranger = visiting(served.tenant())
    place = f"{LIST}/{number}"
    token = stranger.see("/workflows/new").css_first("main input[name=token]").attributes["value"]
    for path in ("", f"/runs/{run}"):
        stranger.see(place + path, 404)
    fields = {"token": token, "name": "x", "trigger_type": "manual", "email": ann["email"], "graph": '{"nodes": [], "edges": []}'}
    for act in ("", "/draw", "/activate", "/pause", "/stop", "/trigger", "/duplicate", "/delete", "/simulate", f"/runs/{run}/stop"):
        assert stranger.http.post(place + act, data=fields).status_code == 404, act
    assert "No workflow yet." in stranger.text("/workflows")
    stranger.submit("/workflows/new", f"{LIST}/new", name="Mine", trigger_type="manual")
    mine = stranger.see("/workflows").css_first("tbody a").attributes["href"]
    assert stranger.http.get(f"{mine}/runs/{run}").status_code == 404
    assert "no contact has this address" in stranger.http.post(f"{mine}/simulate", data=fields).text
    assert owner.get(f"/workflows/{number}")["status"] == "active"
