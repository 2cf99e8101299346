"""Workflows: the graph drawn with what came of each step, its runs and the path of each, activated and paused, and tried on a contact without a mail sent."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from relay.api import flowing, workflows
from relay.api.flowing import ContactNamed, GraphInput, SimulationInput, WorkflowChange, WorkflowInput
from relay.dashboard import drawing, steps
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, NotFound, RelayError
from relay.store import templates
from relay.store.audience import segments
from relay.store.pages import Page
from relay.store.workflows import workflows as stored
from relay.store.workflows.runs import STATUSES
from relay.store.workflows.workflows import REENTRY
from relay.workflows.triggers import TRIGGERS

PLACE = "/dashboard/workflows"
NAMED = Page(1, 200)  # templates whose names a drawing knows
SHOWN = 100  # steps of a run
COMING = 20  # events of a simulation
OFTEN = {"once": "once", "after_exit": "again when its run has ended", "always": "each time"}
BEGINS = {
    "contact.created": "when a contact is added", "contact.updated": "when a contact changes", "contact.subscribed": "when a contact subscribes",
    "property.changed": "when a property changes", "custom": "when an event comes", "segment.entry": "when a contact enters a segment",
    "segment.exit": "when a contact leaves a segment", "schedule": "at a time", "manual": "when it is told to",
}
EMPTY = {"name": "", "trigger_type": "contact.created", "trigger_config": None, "reentry": "once"}


async def every(visit: Visit) -> Response:
    found = (await workflows.list_workflows(visit.here, visit.who))["workflows"]
    return visit.show("workflows/list.html", workflows=found, begins=BEGINS)


async def new(visit: Visit, error: RelayError | None = None) -> Response:
    return visit.show("workflows/new.html", error=error, workflow=EMPTY, **await _choices(visit))


async def _choices(visit: Visit, config: Any = None) -> dict[str, Any]:
    """What the form of a workflow offers, and the fields of what begins it."""
    fields = steps.BEGINS.shown(config or {})
    if "trigger_type" in visit.form:
        fields = {name: visit.given(f"begins.{name}") for name in fields}
    found = await visit.here.store.read(segments.paged_list, visit.who.project, NAMED)
    return {"triggers": [(each, BEGINS.get(each, each)) for each in TRIGGERS], "often": [(each, OFTEN.get(each, each)) for each in REENTRY],
            "begin": fields, "of_trigger": steps.OF_TRIGGER, "lists": [(each.public_id, each.name) for each in found.rows]}


async def create(visit: Visit) -> Response:
    try:
        made = await workflows.create_workflow(visit.here, visit.who, WorkflowInput(**_said(visit, {})))
    except (Invalid, ValidationError) as error:
        return await new(visit, visit.wrong(error))
    return visit.go(f"{PLACE}/{made['id']}", "A draft: draw its graph, look what is in the way, then activate it.")


def _said(visit: Visit, old: Any) -> dict[str, Any]:
    """Name, trigger and re-entry; the trigger's config by its fields, or as JSON where somebody wrote that. Raises Invalid."""
    trigger, config = visit.given("trigger_type"), _object(visit, "trigger_config")
    if not config:
        names = steps.OF_TRIGGER.get(trigger, ())
        given = {name: visit.given(f"begins.{name}") if name in names else "" for name in steps.BEGINS.shown({})}
        config = steps.BEGINS.kept(old, given) if "begins.event" in visit.form else old
    return {"name": visit.given("name"), "trigger_type": trigger, "reentry": visit.given("reentry") or None, "trigger_config": config}


def _object(visit: Visit, name: str) -> dict[str, Any]:
    """A field that holds a JSON object, {} for nothing; raises Invalid."""
    text = visit.given(name)
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise Invalid(name, f"{name.replace('_', ' ')} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Invalid(name, f"{name.replace('_', ' ')} is a JSON object")
    return found


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    """The graph, its runs, and the ways to try and to change it; `part` "findings" adds what is in the way of activating it."""
    name, status = visit.number("workflow_id"), visit.asked("status")
    found = await workflows.get_workflow(visit.here, visit.who, name)
    graph = await workflows.get_graph(visit.here, visit.who, name)
    rows = await workflows.list_runs(visit.here, visit.who, visit.page(), name, status if status in STATUSES else None, None)
    findings = await workflows.validate_workflow(visit.here, visit.who, name) if visit.asked("part") == "findings" else None
    text = orjson.dumps({"nodes": [{key: value for key, value in node.items() if key != "counts"} for node in graph["nodes"]], "edges": graph["edges"]},
                        option=orjson.OPT_INDENT_2).decode()
    return visit.show("workflows/one.html", error=error, workflow=found, begins=begins(found), drawn=await drawn(visit, found, graph), text=text,
                      runs=rows["runs"], pagination=rows["pagination"], status=status, statuses=STATUSES, findings=findings, simulated=None,
                      kinds=drawing.KINDS, **await _choices(visit, found["trigger_config"]))


def begins(workflow: Any) -> str:
    """What begins it, in words."""
    config = workflow["trigger_config"] or {}
    said = BEGINS.get(workflow["trigger_type"], workflow["trigger_type"])
    which = next((str(config[each]) for each in ("event", "property", "segment_id", "cron", "every", "at") if config.get(each)), "")
    return f"{said}: {which}" if which else said


async def drawn(visit: Visit, workflow: Any, graph: Any, visited: frozenset[str] = frozenset()) -> drawing.Drawing:
    """The drawing of a workflow's graph, whose steps `visited` are marked."""
    found = await visit.here.store.read(templates.page, visit.who.project, NAMED)
    return drawing.drawn(graph, begins(workflow), visited, {each.public_id: each.name for each in found.rows})


async def save(visit: Visit) -> Response:
    old = (await workflows.get_workflow(visit.here, visit.who, visit.number("workflow_id")))["trigger_config"] or {}
    return await _tried(visit, workflows.change_workflow, lambda: WorkflowChange(**_said(visit, old)), "Saved.")


async def draw(visit: Visit) -> Response:
    """Put the graph that was written as JSON in the place of the one there is."""
    said = "The graph is kept. Runs under way keep to the one before."
    return await _tried(visit, workflows.put_graph, lambda: GraphInput(graph=_object(visit, "graph")), said)


async def activate(visit: Visit) -> Response:
    return await _tried(visit, workflows.activate_workflow, None, "Active: runs begin from now on.")


async def pause(visit: Visit) -> Response:
    return await _tried(visit, workflows.pause_workflow, None, "Paused: no more runs begin; those under way go on.")


async def stop(visit: Visit) -> Response:
    return await _tried(visit, workflows.stop_runs, None, "Every run that was under way is stopped.")


async def trigger(visit: Visit) -> Response:
    """Begin a run of one contact."""
    return await _tried(visit, workflows.trigger_workflow, lambda: ContactNamed(email=visit.given("email"), data=_object(visit, "data")), "The run begins.")


async def _tried(visit: Visit, act: Any, given: Any, said: str) -> Response:
    """The workflow's page after an act; what is wrong is said on it."""
    name = visit.number("workflow_id")
    try:
        await act(visit.here, visit.who, name, *([given()] if given else []))
    except NotFound:
        if visit.given("email") == "":
            raise
        return await one(visit, Invalid("email", "no contact has this address"))
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(f"{PLACE}/{name}", said)


async def duplicate(visit: Visit) -> Response:
    made = await workflows.duplicate_workflow(visit.here, visit.who, visit.number("workflow_id"))
    return visit.go(f"{PLACE}/{made['id']}", "This is the copy, a draft.")


async def delete(visit: Visit) -> Response:
    await workflows.delete_workflow(visit.here, visit.who, visit.number("workflow_id"))
    return visit.go(PLACE, "The workflow is deleted; sent mail stays.")


async def simulate(visit: Visit) -> Response:
    """What would happen to a contact, and when; nothing is sent."""
    name = visit.number("workflow_id")
    found = await workflows.get_workflow(visit.here, visit.who, name)
    try:
        when = {"at": visit.given("at")} if visit.given("at") else {}
        given = SimulationInput(email=visit.given("email"), data=_object(visit, "data"), events=_coming(visit), **when)
        told = await workflows.simulate_workflow(visit.here, visit.who, name, given)
    except NotFound:
        return await one(visit, Invalid("email", "no contact has this address"))
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    visited = frozenset(each["node_id"] for each in told["steps"] if each["node_id"])
    graph = await workflows.get_graph(visit.here, visit.who, name)
    return visit.show("workflows/run.html", workflow=found, run={**told, "email": visit.given("email"), "id": None}, simulated=True,
                      drawn=await drawn(visit, found, graph, visited), steps=told["steps"][:SHOWN], kinds=drawing.KINDS)


def _coming(visit: Visit) -> list[dict[str, Any]]:
    """Events that shall come, a line each: its name and how long after the start, "purchased 2d"; raises Invalid."""
    found = []
    for line in visit.given("events").splitlines()[:COMING]:
        words = line.split()
        if len(words) not in (0, 2):
            raise Invalid("events", 'events are lines such as "purchased 2d"')
        found += [{"event": words[0], "after": words[1]}] if words else []
    return found


async def run(visit: Visit) -> Response:
    """One run: the path it took through the graph it began on, and why."""
    name = visit.number("workflow_id")
    found = await workflows.get_workflow(visit.here, visit.who, name)
    told = await workflows.get_run(visit.here, visit.who, name, visit.number("run_id"))
    graph = flowing.graph(await visit.here.store.read(stored.graph, workflows.number_of(name), told["version"]), {})
    visited = frozenset(each["node_id"] for each in told["steps"] if each["node_id"])
    return visit.show("workflows/run.html", workflow=found, run=told, simulated=False, steps=told["steps"][:SHOWN], kinds=drawing.KINDS,
                      drawn=await drawn(visit, found, graph, visited))


async def stop_run(visit: Visit) -> Response:
    name, number = visit.number("workflow_id"), visit.number("run_id")
    await workflows.stop_run(visit.here, visit.who, name, number)
    return visit.go(f"{PLACE}/{name}/runs/{number}", "The run is stopped.")


ROUTES = (
    get("/workflows", every), get("/workflows/new", new), post("/workflows/new", create), get("/workflows/{workflow_id}", one),
    post("/workflows/{workflow_id}", save), get("/workflows/{workflow_id}/runs/{run_id}", run), post("/workflows/{workflow_id}/runs/{run_id}/stop", stop_run),
    *(post(f"/workflows/{{workflow_id}}/{act.__name__}", act) for act in (draw, activate, pause, stop, trigger, duplicate, delete, simulate)),
)
