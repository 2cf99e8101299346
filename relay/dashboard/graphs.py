"""The graph of a workflow, edited by forms: a step added where a way out of another is, its fields changed, where its ways lead, taken out; the drawing beside.

Every act puts the whole graph, as the API does, so an active workflow takes only what is sound. Forms carry a mark of the graph that they were made for: when
somebody changed it meanwhile nothing is overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from relay.api import workflows
from relay.api.flowing import GraphInput
from relay.audience.grammars import FILTERS, read
from relay.dashboard import builder, drawing, rules, steps
from relay.dashboard.drawing import KINDS
from relay.dashboard.rules import Form as Rule
from relay.dashboard.visit import Visit, get, post
from relay.dashboard.workflows import NAMED, PLACE, drawn
from relay.errors import Conflict, Invalid, NotFound, RelayError
from relay.store import templates
from relay.workflows import editing
from relay.workflows import graph as graphs
from relay.workflows.acts import read_graph
from relay.workflows.form import Form as Config
from relay.workflows.graph import TRIGGER, Graph, Node
from relay.workflows.steps import BRANCHES, MATCH, METHODS, NO_MATCH, STEPS, question

CONDITION = "condition"
MANY = ("subscribe", "unsubscribe")  # fields of which several may be chosen
TELLS = {
    "send_email": "Send a mail", "wait": "Wait: for a time, until a date of the contact, or for an event",
    "condition": "Ask about the contact, and go two ways or more",
    "update_contact": "Change the contact: fields, tags, topics, lists", "webhook": "Call a URL of yours", "exit": "End the run, with a reason",
}
ANSWERS = {MATCH: "if yes", NO_MATCH: "if not", None: "then"}


async def add(visit: Visit) -> Response:
    """The choice of a kind of step; with `type`, its form."""
    graph = editing.begun(await _graph(visit))
    after, branch, kind = visit.asked("after") or TRIGGER, visit.asked("branch") or None, visit.asked("type")
    if branch not in editing.branches(editing.node(graph, after)):
        raise NotFound("there is no such way out of this step")
    if kind not in STEPS:
        return visit.show("workflows/add.html", workflow=await _workflow(visit), after=after, branch=branch, tells=TELLS, kinds=KINDS,
                          from_=_called(graph, after), answer=ANSWERS.get(branch, branch), drawn=await _drawn(visit, graph, after))
    return await _page(visit, graph, Node("", kind), way=(after, branch))


async def put(visit: Visit) -> Response:
    """A new step with what its form says."""
    graph = editing.begun(await _graph(visit))
    after, branch, kind = visit.given("after"), visit.given("branch") or None, visit.given("type")
    if kind not in STEPS:
        raise Invalid("type", f"type is one of {', '.join(STEPS)}")
    blank = Node("", kind)
    if (pressed := _pressed(visit)) is not None:
        return await _page(visit, graph, blank, rule=pressed, way=(after, branch), count=await _count(visit))
    try:
        _unchanged(visit, graph)
        graph, _ = editing.added(graph, kind, _config(visit, blank), after, branch)
        return await _kept(visit, graph, "The step is there.")
    except (RelayError, ValidationError) as error:
        return await _page(visit, editing.begun(await _graph(visit)), blank, visit.wrong(error), way=(after, branch))


async def one(visit: Visit) -> Response:
    """A step: what it does, where its ways lead, its place in the graph."""
    graph = await _graph(visit)
    return await _page(visit, graph, editing.node(graph, visit.number("step_id")))


async def change(visit: Visit) -> Response:
    graph = await _graph(visit)
    node = editing.node(graph, visit.number("step_id"))
    if (pressed := _pressed(visit)) is not None:
        return await _page(visit, graph, node, rule=pressed, count=await _count(visit))
    return await _tried(visit, lambda: editing.changed(graph, node.id, _config(visit, node)), "Saved. Runs under way keep to the graph before.")


async def lead(visit: Visit) -> Response:
    """Let a way out of the step lead to another, or to the end."""
    graph = await _graph(visit)
    name, way, target = visit.number("step_id"), visit.given("way") or None, visit.given("target") or None
    return await _tried(visit, lambda: editing.led(graph, name, way, target), "It leads there now.")


async def remove(visit: Visit) -> Response:
    graph = await _graph(visit)
    name = editing.node(graph, visit.number("step_id")).id
    return await _tried(visit, lambda: editing.removed(graph, name), "The step is gone; what led to it leads to what came after.", here=False)


async def split(visit: Visit) -> Response:
    """One more answer of a condition, under a name of its own."""
    graph = await _graph(visit)
    node = editing.node(graph, visit.number("step_id"))

    def act() -> Graph:
        held = _answers(node)
        if len(held) >= BRANCHES:
            raise Invalid("name", f"a condition has at most {BRANCHES} answers")
        return editing.changed(graph, node.id, {"branches": [*held, {"name": _name(visit, held), "rules": []}]})

    return await _tried(visit, act, "The answer is there: say when it holds.")


def _name(visit: Visit, held: list[Any]) -> str:
    name = visit.given("name")
    if not graphs.ID.fullmatch(name) or name == NO_MATCH or any(each.get("name") == name for each in held):
        raise Invalid("name", "an answer has a name of its own, of letters, digits and . _ : -")
    return name


async def join(visit: Visit) -> Response:
    """Take an answer from a condition."""
    graph = await _graph(visit)
    node = editing.node(graph, visit.number("step_id"))
    left = [each for each in _answers(node) if each.get("name") != visit.given("name")]
    return await _tried(visit, lambda: editing.changed(graph, node.id, {"branches": left}) if left else graph, "The answer is gone.")


def _answers(node: Node) -> list[Any]:
    """The named answers of a condition; its one question as the first where it has but that."""
    if node.kind != CONDITION:
        raise NotFound("Step not found")
    held = node.config.get("branches")
    if isinstance(held, list):
        return [each for each in held if isinstance(each, Mapping)]
    return [{"name": MATCH, "rules": question(Config(node.config)) or []}]


# What the acts have in common.


async def _workflow(visit: Visit) -> Any:
    return await workflows.get_workflow(visit.here, visit.who, visit.number("workflow_id"))


async def _graph(visit: Visit) -> Graph:
    told = await workflows.get_graph(visit.here, visit.who, visit.number("workflow_id"))
    return read_graph(told["nodes"], told["edges"])


def _mark(graph: Graph) -> str:
    return hashlib.sha256(orjson.dumps(graphs.shown(graph))).hexdigest()[:16]


def _unchanged(visit: Visit, graph: Graph) -> None:
    if visit.given("mark") != _mark(graph):
        raise Conflict("somebody changed this graph meanwhile: this is how it is now, and nothing of yours is kept yet")


async def _kept(visit: Visit, graph: Graph, said: str, here: bool = False) -> Response:
    name = visit.number("workflow_id")
    await workflows.put_graph(visit.here, visit.who, name, GraphInput(**graphs.shown(graph)))
    return visit.go(f"{PLACE}/{name}/steps/{visit.number('step_id')}" if here else f"{PLACE}/{name}", said)


async def _tried(visit: Visit, act: Any, said: str, here: bool = True) -> Response:
    """The step's page after an act on the graph; what is wrong is said on it."""
    try:
        _unchanged(visit, await _graph(visit))
        return await _kept(visit, act(), said, here)
    except (RelayError, ValidationError) as error:
        graph = await _graph(visit)
        return await _page(visit, graph, editing.node(graph, visit.number("step_id")), visit.wrong(error))


def _pressed(visit: Visit) -> Rule | None:
    """The rule after one of its buttons, None for any other button of the form."""
    do = visit.given("do").partition(":")[0]
    return rules.pressed(rules.typed(visit), visit.given("do")) if do in ("rule", "group", "less", "set", "look") else None


async def _count(visit: Visit) -> tuple[Any, str]:
    """How many contacts the rule is true of where that was asked for, or what is wrong with it."""
    if visit.given("do") != "look":
        return None, ""
    told, error, _ = await builder.told(visit)
    return told, error.text if error else ""


def _config(visit: Visit, node: Node) -> dict[str, Any]:
    """What the form says the step is to do; raises Invalid."""
    if node.kind != CONDITION:
        form = steps.FORMS[node.kind]
        return form.kept(node.config, _given(visit, form.shown(node.config)))
    which, held = visit.given("answer"), node.config.get("branches")
    if not isinstance(held, list):
        old = question(Config(node.config))
        wanted = _rules(visit, old)
        return dict(node.config) if wanted == old else {"rules": wanted}
    return {**node.config, "branches": [{**each, "rules": _rules(visit, _asked(each))} if each.get("name") == which else each for each in held]}


def _rules(visit: Visit, old: Any) -> Any:
    """The rules that the form means; raises Invalid, which names the row."""
    wanted, places = rules.kept(rules.typed(visit), old or None)
    try:
        read(wanted)
    except Invalid as error:
        raise builder.placed(error, places)[1] from None
    return wanted


def _given(visit: Visit, names: Mapping[str, str]) -> dict[str, str]:
    return {name: ",".join(map(str, visit.form.getlist(name)[:FILTERS])) if name in MANY else visit.given(name) for name in names}


def _asked(answer: Mapping[str, Any]) -> Any:
    return answer.get("rules", answer.get("condition"))


# What the templates show.


async def _page(visit: Visit, graph: Graph, node: Node, error: RelayError | None = None, rule: Rule | None = None,
                way: tuple[str, str | None] | None = None, count: tuple[Any, str] = (None, "")) -> Response:
    """A step's form; with `way` that of a new one, put into that way out of another; `count` what the rule of a condition is true of, or what is wrong."""
    fields = {}
    if node.kind in steps.FORMS:
        fields = steps.FORMS[node.kind].shown(node.config)
        fields = _given(visit, fields) if error is not None and "do" in visit.form else fields
    held, which = node.config.get("branches"), visit.given("answer") or visit.asked("answer")
    answers = [each.get("name") for each in held if isinstance(each, Mapping)] if isinstance(held, list) else []
    which = which if which in answers else answers[0] if answers else ""
    ground = await builder.surveyed(visit)
    shown = None
    if node.kind == CONDITION:
        wrong = ""
        if rule is None:
            rule = rules.typed(visit) if error is not None and "grammar" in visit.form else _ruled(node, which)
        shown = builder.looks(rule, ground, wrong)
    found = await visit.here.store.read(templates.page, visit.who.project, NAMED)
    return visit.show(
        "workflows/step.html", error=error, workflow=await _workflow(visit), node=node, fields=fields, way=way, mark=_mark(graph), kinds=KINDS, tells=TELLS,
        answers=answers, answer=which, rule=shown, told=count[0], wrong=count[1], added=visit.given("do"), methods=METHODS, trigger=TRIGGER,
        ways=[] if way else [_way(graph, each) for each in editing.ways(graph, node.id)], onward=[] if way else [
            (each, f"{_called(graph, each)} ({each})") for each in editing.onward(graph, node.id)],
        from_=_called(graph, way[0]) if way else "", told_way=ANSWERS.get(way[1], way[1]) if way else "",
        letters=[(each.public_id, each.name) for each in found.rows if each.published],
        topics=ground.members["topic"], lists=await _lists(visit), drawn=await _drawn(visit, graph, way[0] if way else node.id))


def _ruled(node: Node, which: str) -> Rule:
    """The rules of a condition in a form, blank where there are none that can be read."""
    found = question(Config(node.config))
    if which:
        found = next((_asked(each) for each in _answers(node) if each.get("name") == which), None)
    try:
        return rules.shown(found) if found else rules.BLANK
    except (RelayError, AttributeError, KeyError, TypeError, ValueError):
        return rules.BLANK


def _called(graph: Graph, name: str) -> str:
    """A step in words."""
    node = editing.node(graph, name)
    said = drawing.does({"type": node.kind, "config": node.config}, {})
    return f"{KINDS.get(node.kind, node.kind)} {said}".strip()


def _way(graph: Graph, way: editing.Way) -> dict[str, Any]:
    return {"branch": way.branch or "", "label": ANSWERS.get(way.branch, way.branch), "target": way.target or "",
            "to": _called(graph, way.target) if way.target else ""}


async def _lists(visit: Visit) -> list[tuple[str, str]]:
    """Static segments to put contacts on."""
    found = await visit.here.store.read(builder.stored.paged_list, visit.who.project, builder.CHOICES)
    return [(each.public_id, each.name) for each in found.rows if each.rules is None]


async def _drawn(visit: Visit, graph: Graph, name: str) -> drawing.Drawing:
    return await drawn(visit, await _workflow(visit), graphs.shown(graph), frozenset({name}))


ROUTES = (
    get("/workflows/{workflow_id}/add", add), post("/workflows/{workflow_id}/add", put),
    get("/workflows/{workflow_id}/steps/{step_id}", one), post("/workflows/{workflow_id}/steps/{step_id}", change),
    *(post(f"/workflows/{{workflow_id}}/steps/{{step_id}}/{act.__name__}", act) for act in (lead, remove, split, join)),
)
