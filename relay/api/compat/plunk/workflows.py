"""/workflows in the Plunk dialect: steps and transitions in place of a graph, executions in place of runs.

Plunk edits a workflow step by step; each act here is a new graph, whole. `enabled` is active. What would break an enabled workflow is refused, with all that
would be wrong.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from relay.api.compat.plunk import steps
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.paging import Paging, paged
from relay.api.core import Core, Input, Owner, Relay, resource
from relay.api.flowing import ContactNamed
from relay.api.workflows import acts, named
from relay.clock import iso
from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.pages import Found
from relay.store.workflows import counts, runs, workflows
from relay.store.workflows.runs import COMPLETED, FAILED, RUNNING, STOPPED, Run
from relay.store.workflows.workflows import ACTIVE, ALWAYS, ONCE, Workflow
from relay.workflows.graph import PRIORITY, TRIGGER, Edge, Graph, Node
from relay.workflows.plan import graph_of
from relay.workflows.triggers import CUSTOM, MANUAL, SCHEDULE, TRIGGERS

router = resource("Workflows")

TYPES = {"EVENT": CUSTOM, "MANUAL": MANUAL, "SCHEDULE": SCHEDULE}
Kind = Literal["SEND_EMAIL", "DELAY", "WAIT_FOR_EVENT", "CONDITION", "WEBHOOK", "UPDATE_CONTACT", "EXIT"]
Status = Literal["RUNNING", "WAITING", "COMPLETED", "EXITED", "FAILED", "CANCELLED"]
NATIVE: dict[str | None, tuple[str | None, bool | None]] = {  # the native status, and whether there is a reason: for waiting, or for the exit
    None: (None, None), "RUNNING": (RUNNING, False), "WAITING": (RUNNING, True), "COMPLETED": (COMPLETED, False), "EXITED": (COMPLETED, True),
    "FAILED": (FAILED, None), "CANCELLED": (STOPPED, None)}


class FlowChange(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=500)
    trigger_type: Literal["EVENT", "MANUAL", "SCHEDULE"] | None = None
    trigger_config: dict[str, Any] | None = None
    enabled: bool | None = None
    allow_reentry: bool | None = None


class FlowInput(FlowChange):
    """A workflow, begun by the event `triggerConfig.eventName` (or `eventName`) unless it says otherwise; it is not enabled."""

    name: str = Field(min_length=1, max_length=200)
    event_name: str | None = Field(None, max_length=64)


class StepChange(Input):
    name: str | None = Field(None, max_length=200)
    config: dict[str, Any] | None = None
    template_id: str | None = Field(None, max_length=64)
    position: dict[str, Any] | None = None


class StepInput(StepChange):
    type: Kind


class TransitionInput(Input):
    from_step_id: str = Field(max_length=64)
    to_step_id: str = Field(max_length=64)
    condition: Any = None
    priority: int = Field(0, ge=-PRIORITY, le=PRIORITY, description="Of two transitions that fit an answer, its own and the one for all, the lower is taken")


@router.post("/workflows", status_code=201)
async def create_workflow(here: Core, who: Owner, given: FlowInput) -> Any:
    """Create a workflow with its TRIGGER step."""
    values = {"trigger": CUSTOM, **_columns(given)}
    if given.event_name and values["trigger"] == CUSTOM:
        values["config"] = {**values.get("config", {}), "event": steps.OURS.get(given.event_name, given.event_name)}
    made = await acts(here).create(who, values, dialect="plunk")
    return await _whole(here, made)


@router.get("/workflows")
async def list_workflows(here: Core, who: Owner, page: Paging) -> Any:
    """A page of workflows, newest first."""
    every = await here.store.read(workflows.every, who.project)
    rows = every[(page.number - 1) * page.size:page.number * page.size]
    figures = await here.store.read(counts.of_many, [each.id for each in rows])
    return paged(Found(rows, len(every)), page, lambda each: {**_shown(each), "_count": {"executions": sum(figures.get(each.id, {}).values())}})


@router.get("/workflows/fields")
async def list_trigger_types(who: Owner) -> Any:
    """What may begin a workflow, and the steps that it may have."""
    return {"triggerTypes": list(TYPES), "stepTypes": list(steps.NATIVE)}


@router.get("/workflows/{workflow_id}")
async def get_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """A workflow with its steps and transitions."""
    return await _whole(here, await _found(here, who, workflow_id))


@router.patch("/workflows/{workflow_id}")
async def change_workflow(here: Core, who: Owner, workflow_id: str, given: FlowChange) -> Any:
    """Change, enable or disable a workflow; executions under way go on to their end."""
    found = await _found(here, who, workflow_id)
    if values := _columns(given, found):
        found = await acts(here).change(who, found.id, values)
    if given.enabled is True and found.status != ACTIVE:
        found = await acts(here).activate(who, found.id)
    elif given.enabled is False and found.status == ACTIVE:
        found = await acts(here).pause(who, found.id)
    return await _whole(here, found)


@router.delete("/workflows/{workflow_id}", status_code=204)
async def delete_workflow(here: Core, who: Owner, workflow_id: str) -> Response:
    """Delete a workflow with its executions."""
    await acts(here).remove(who, (await _found(here, who, workflow_id)).id)
    return Response(status_code=204)


# Steps and transitions.


@router.post("/workflows/{workflow_id}/steps", status_code=201)
async def create_step(here: Core, who: Owner, workflow_id: str, given: StepInput) -> Any:
    """Add a step; transitions lead to it."""
    found, graph = await _graph(here, who, workflow_id)
    config = {**(given.config or {}), **({"templateId": given.template_id} if given.template_id else {})}
    made = steps.node(ids.public("wfs", here.maker.next()), given.type, given.name or "", config, given.position or {})
    await _put(here, who, found, {**graph.nodes, made.id: made}, graph.edges)
    return steps.shown(made, found.public_id)


@router.patch("/workflows/{workflow_id}/steps/{step_id}")
async def change_step(here: Core, who: Owner, workflow_id: str, step_id: str, given: StepChange) -> Any:
    """Change a step; executions under way keep to what it was when they began."""
    found, graph = await _graph(here, who, workflow_id)
    old = _node(graph, step_id)
    told = steps.written(old)
    config = {**(told["config"] if given.config is None else given.config), **({"templateId": given.template_id} if given.template_id else {})}
    place = given.position if given.position is not None else {"x": old.x, "y": old.y}
    title = told["name"] if given.name is None else given.name
    made = steps.node(old.id, told["type"], title, config, place)
    await _put(here, who, found, {**graph.nodes, made.id: made}, graph.edges)
    return steps.shown(made, found.public_id)


@router.delete("/workflows/{workflow_id}/steps/{step_id}", status_code=204)
async def delete_step(here: Core, who: Owner, workflow_id: str, step_id: str) -> Response:
    """Delete a step with the transitions to it and from it."""
    found, graph = await _graph(here, who, workflow_id)
    if _node(graph, step_id).kind == TRIGGER:
        raise Bad("stepId", "the TRIGGER step goes with its workflow")
    nodes = {name: each for name, each in graph.nodes.items() if name != step_id}
    await _put(here, who, found, nodes, tuple(edge for edge in graph.edges if step_id not in (edge.origin, edge.target)))
    return Response(status_code=204)


@router.post("/workflows/{workflow_id}/transitions", status_code=201)
async def create_transition(here: Core, who: Owner, workflow_id: str, given: TransitionInput) -> Any:
    """Lead from one step to another, for every answer or for one branch."""
    found, graph = await _graph(here, who, workflow_id)
    edge = Edge(_node(graph, given.from_step_id).id, _node(graph, given.to_step_id).id, steps.branch(given.condition), given.priority)
    if any((each.origin, each.branch) == (edge.origin, edge.branch) for each in graph.edges):
        raise Conflict("a transition leads on from this step already" + (f" for {edge.branch}" if edge.branch else ""))
    await _put(here, who, found, graph.nodes, (*graph.edges, edge))
    return {**steps.transition(edge), "workflowId": found.public_id}


@router.delete("/workflows/{workflow_id}/transitions/{transition_id}", status_code=204)
async def delete_transition(here: Core, who: Owner, workflow_id: str, transition_id: str) -> Response:
    """Take a transition away."""
    found, graph = await _graph(here, who, workflow_id)
    left = tuple(edge for edge in graph.edges if steps.number(edge) != transition_id)
    if len(left) == len(graph.edges):
        raise NotFound("Transition not found")
    await _put(here, who, found, graph.nodes, left)
    return Response(status_code=204)


# Executions.


@router.post("/workflows/{workflow_id}/executions", status_code=201)
async def start_execution(here: Core, who: Owner, workflow_id: str, given: ContactNamed) -> Any:
    """Begin a MANUAL workflow that is enabled for one contact."""
    found = await _found(here, who, workflow_id)
    return _execution(await acts(here).trigger(who, found.id, await named(here, who, given), {"data": given.data}))


@router.get("/workflows/{workflow_id}/executions")
async def list_executions(here: Core, who: Owner, workflow_id: str, page: Paging, status: Status | None = None) -> Any:
    """A page of executions, newest first."""
    found = await _found(here, who, workflow_id)
    native, reason = NATIVE[status]
    rows = await here.store.read(runs.paged, found.id, page, native, None, reason)
    emails = await here.store.read(runs.emails, [each.contact_id for each in rows.rows])
    return paged(rows, page, lambda each: _execution(each, emails.get(each.contact_id)))


@router.post("/workflows/{workflow_id}/executions/cancel-all")
async def cancel_all(here: Core, who: Owner, workflow_id: str) -> Any:
    """Cancel every execution that is under way."""
    return {"success": True, "cancelled": await acts(here).stop_all(who, (await _found(here, who, workflow_id)).id, "cancelled")}


@router.get("/workflows/{workflow_id}/executions/{execution_id}")
async def get_execution(here: Core, who: Owner, workflow_id: str, execution_id: str) -> Any:
    """An execution with what it did."""
    run = await _run(here, who, workflow_id, execution_id)
    lines = await here.store.read(runs.history, run.id)
    emails = await here.store.read(runs.emails, [run.contact_id])
    told = [{"stepId": each.node, "status": "WAITING" if each.outcome == "waiting" else "FAILED" if each.outcome == "failed" else "COMPLETED",
             "output": {"outcome": each.outcome, **each.detail}, "completedAt": iso(each.at)} for each in lines]
    return {**_execution(run, emails.get(run.contact_id)), "stepExecutions": told}


@router.delete("/workflows/{workflow_id}/executions/{execution_id}")
async def cancel_execution(here: Core, who: Owner, workflow_id: str, execution_id: str) -> Any:
    """Cancel an execution."""
    run = await _run(here, who, workflow_id, execution_id)
    return _execution(await acts(here).stop(who, run.id, "cancelled"))


# What they share.


async def _found(here: Relay, who: Principal, workflow_id: str) -> Workflow:
    number = ids.internal(workflow_id, "wf")
    if number is None:
        raise NotFound("Workflow not found")
    return await here.store.read(workflows.get, who.project, number)


async def _graph(here: Relay, who: Principal, workflow_id: str) -> tuple[Workflow, Graph]:
    found = await _found(here, who, workflow_id)
    return found, graph_of(await here.store.read(workflows.graph, found.id, found.version))


def _node(graph: Graph, name: str) -> Node:
    if name not in graph.nodes:
        raise NotFound("Step not found")
    return graph.nodes[name]


async def _put(here: Relay, who: Principal, found: Workflow, nodes: Any, edges: tuple[Edge, ...]) -> None:
    await acts(here).put_graph(who, found.id, Graph(nodes, edges))


async def _run(here: Relay, who: Principal, workflow_id: str, execution_id: str) -> Run:
    found, number = await _found(here, who, workflow_id), ids.internal(execution_id, "wfr")
    run = None if number is None else await here.store.read(runs.get, who.project, number)
    if run is None or run.workflow_id != found.id:
        raise NotFound("Execution not found")
    return run


def _columns(given: FlowChange, old: Workflow | None = None) -> dict[str, Any]:
    values: dict[str, Any] = {"name": given.name} if given.name is not None else {}
    if given.trigger_type is not None:
        values["trigger"] = TYPES[given.trigger_type]
    if given.trigger_config is not None:
        told = dict(given.trigger_config)
        if isinstance(told.get("eventName"), str):
            told["event"] = steps.OURS.get(told["eventName"], told["eventName"])
        values["config"] = told
    if given.description is not None:
        values["config"] = {**(old.config if old is not None else {}), **values.get("config", {}), "description": given.description}
    if given.allow_reentry is not None:
        values["reentry"] = ALWAYS if given.allow_reentry else ONCE
    return values


def _shown(each: Workflow) -> dict[str, Any]:
    kind = next((word for word, native in TYPES.items() if native == each.trigger), "EVENT")
    config = {name: value for name, value in each.config.items() if name not in ("description", "event")}
    if kind == "EVENT":
        config["eventName"] = each.config.get("eventName") or steps.theirs(each.config.get("event", each.trigger if each.trigger in TRIGGERS else ""))
    return {"id": each.public_id, "name": each.name, "description": each.config.get("description"), "triggerType": kind, "triggerConfig": config or None,
            "enabled": each.status == ACTIVE, "allowReentry": each.reentry != ONCE, "projectId": ids.public("prj", each.project_id),
            "createdAt": iso(each.created_at), "updatedAt": iso(each.updated_at)}


async def _whole(here: Relay, each: Workflow) -> dict[str, Any]:
    graph = graph_of(await here.store.read(workflows.graph, each.id, each.version))
    listed = []
    for node in graph.nodes.values():
        outgoing = [steps.transition(edge) for edge in graph.leaving(node.id)]
        listed.append({**steps.shown(node, each.public_id), "outgoingTransitions": outgoing})
    return {**_shown(each), "steps": listed, "transitions": [steps.transition(edge) for edge in graph.edges]}


def _status(run: Run) -> str:
    if run.status == RUNNING:
        return "WAITING" if run.reason else "RUNNING"
    return {COMPLETED: "EXITED" if run.reason else "COMPLETED", FAILED: "FAILED", STOPPED: "CANCELLED"}[run.status]


def _execution(run: Run, email: str | None = None) -> dict[str, Any]:
    contact = ids.public("ct", run.contact_id)
    return {"id": run.public_id, "workflowId": ids.public("wf", run.workflow_id), "contactId": contact, "contact": {"id": contact, "email": email},
            "status": _status(run), "currentStepId": run.node, "exitReason": run.reason or None if run.status != RUNNING else None,
            "startedAt": iso(run.started_at), "completedAt": iso(run.ended_at)}
