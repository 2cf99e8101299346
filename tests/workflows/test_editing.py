"""A graph edited by hand: steps put into ways and taken out, ways led elsewhere; whatever is done, it stays a graph that leads forward."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid, NotFound
from relay.workflows import editing, graph, steps
from relay.workflows.graph import EMPTY, Edge, Graph, Node
from tests.workflows.flowing import line, node

PRO = [{"field": "plan", "operator": "equals", "value": "pro"}]
CONFIGS = {"condition": {"rules": PRO}, "wait": {"delay": "1d"}, "webhook": {"url": "https://a.example/"}}
THREE = {"branches": [{"name": "gold", "rules": PRO}, {"name": "silver", "rules": PRO}]}


def made(nodes, edges):
    return graph.read([node("trigger", "trigger"), *nodes], edges, steps.STEPS)


ASKED = made([node("ask", "condition", rules=PRO), node("yes", "wait", delay="1d"), node("no", "wait", delay="2d"), node("end", "exit")],
             [*line("trigger", "ask"), *line("ask:match", "yes", "end"), *line("ask:no_match", "no", "end")])


def edges(found):
    return {(each.origin, each.branch, each.target) for each in found.edges}


def test_the_first_step_of_nothing_gets_a_trigger():
    found, name = editing.added(editing.begun(EMPTY), "send_email", {"subject": "x"}, "trigger")
    assert (name, edges(found), found.first()) == ("send", {("trigger", None, "send")}, "send")
    assert editing.begun(found) is found


@pytest.mark.parametrize(("kind", "after", "branch", "gone", "new"), [
    pytest.param("wait", "trigger", None, {("trigger", None, "ask")}, {("trigger", None, "wait"), ("wait", None, "ask")}, id="into a way"),
    pytest.param("wait", "ask", "match", {("ask", "match", "yes")}, {("ask", "match", "wait"), ("wait", None, "yes")}, id="into one answer"),
    pytest.param("exit", "ask", "no_match", {("ask", "no_match", "no")}, {("ask", "no_match", "exit")}, id="an end leads nowhere"),
    pytest.param("condition", "yes", None, {("yes", None, "end")}, {("yes", None, "ask-2"), ("ask-2", None, "end")}, id="both answers go on"),
])
def test_a_step_is_put_into_a_way(kind, after, branch, gone, new):
    found, _ = editing.added(ASKED, kind, CONFIGS.get(kind, {}), after, branch)
    assert edges(found) == edges(ASKED) - gone | new
    assert edges(ASKED) == edges(made([node(name, each.kind, **each.config) for name, each in ASKED.nodes.items() if name != "trigger"],
                                      graph.shown(ASKED)["edges"]))  # the old one is as it was


@pytest.mark.parametrize(("kind", "after", "branch", "error"), [
    ("rocket", "ask", "match", Invalid), ("trigger", "ask", "match", Invalid), ("wait", "nobody", None, NotFound), ("wait", "ask", None, Invalid),
    ("wait", "ask", "maybe", Invalid), ("wait", "end", None, Invalid),
], ids=["no such kind", "a second trigger", "after nobody", "no answer", "no such answer", "after an end"])
def test_a_step_that_cannot_be_there_is_refused(kind, after, branch, error):
    with pytest.raises(error):
        editing.added(ASKED, kind, {}, after, branch)


def test_a_workflow_has_an_end():
    full = Graph({"trigger": Node("trigger", "trigger"), **{f"n{each}": Node(f"n{each}", "wait") for each in range(graph.NODES - 1)}}, ())
    with pytest.raises(Invalid, match="at most 200 steps"):
        editing.added(full, "wait", {}, "trigger")


@pytest.mark.parametrize(("name", "gone", "new"), [
    pytest.param("yes", {("ask", "match", "yes"), ("yes", None, "end")}, {("ask", "match", "end")}, id="in between"),
    pytest.param("ask", {("trigger", None, "ask"), ("ask", "match", "yes"), ("ask", "no_match", "no")}, {("trigger", None, "yes")}, id="its first way goes on"),
    pytest.param("end", {("yes", None, "end"), ("no", None, "end")}, set(), id="the end"),
])
def test_a_step_is_taken_out(name, gone, new):
    found = editing.removed(ASKED, name)
    assert (edges(found), name in found.nodes) == (edges(ASKED) - gone | new, False)


def test_the_trigger_stays():
    with pytest.raises(Invalid, match="trigger stays"):
        editing.removed(ASKED, "trigger")


def test_ways_that_a_step_no_longer_has_are_gone():
    three = editing.changed(ASKED, "ask", THREE)
    assert {way.branch for way in editing.ways(three, "ask")} == {"gold", "silver", "no_match"}
    assert edges(three) == edges(ASKED) - {("ask", "match", "yes")}


@pytest.mark.parametrize(("branch", "target", "gone", "new"), [
    ("match", "no", {("ask", "match", "yes")}, {("ask", "match", "no")}), ("match", None, {("ask", "match", "yes")}, set()),
], ids=["to another step", "to the end"])
def test_a_way_leads_elsewhere(branch, target, gone, new):
    assert edges(editing.led(ASKED, "ask", branch, target)) == edges(ASKED) - gone | new


def test_one_answer_ends_and_the_other_keeps_the_way_that_was_for_both():
    both = made([node("ask", "condition", rules=PRO), node("end", "exit")], [*line("trigger", "ask"), *line("ask", "end")])
    assert edges(editing.led(both, "ask", "match", None)) == {("trigger", None, "ask"), ("ask", "no_match", "end")}


@pytest.mark.parametrize(("name", "target"), [("yes", "ask"), ("yes", "yes"), ("yes", "trigger"), ("yes", "nobody")])
def test_no_way_leads_back(name, target):
    with pytest.raises(Invalid, match="does not come before it"):
        editing.led(ASKED, name, None, target)


ACTS = st.lists(st.tuples(st.sampled_from(("add", "remove", "lead", "change")), st.integers(0, 30), st.integers(0, 5), st.sampled_from(sorted(steps.STEPS))),
                max_size=25)


@given(ACTS)
def test_whatever_is_done_the_graph_leads_forward_and_is_one_that_is_kept(acts):
    found = editing.begun(EMPTY)
    for act, place, way, kind in acts:
        names = list(found.nodes)
        name = names[place % len(names)]
        if act == "remove" and name != "trigger":
            found = editing.removed(found, name)
        elif act == "change" and found.nodes[name].kind == "condition":
            found = editing.changed(found, name, THREE if way % 2 else {"rules": PRO})
        elif branches := editing.branches(found.nodes[name]):
            branch = branches[way % len(branches)]
            if act == "add":
                found, _ = editing.added(found, kind, CONFIGS.get(kind, {}), name, branch)
            elif act == "lead":
                onward = [*editing.onward(found, name), None]
                found = editing.led(found, name, branch, onward[place % len(onward)])
    assert graph.read(**graph.shown(found), kinds=steps.STEPS) == found
    known = {name: tuple(each for each in editing.branches(one) if each is not None) for name, one in found.nodes.items()}
    assert {fault.code for fault in graph.faults(found, known)} <= {"leads_nowhere"}
    assert all(isinstance(each, Edge) for each in found.edges)
