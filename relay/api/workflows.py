"""/workflows: what happens to contacts, step by step, from something that happened to them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from relay import events
from relay.api.contacts import number as contact_number
from relay.api.core import Core, Json, Owner, Paging, Relay, known, listed, resource, whole
from relay.api.flowing import (
    ContactNamed,
    EventInput,
    GraphInput,
    SimulationInput,
    WorkflowChange,
    WorkflowInput,
    columns,
    coming,
)
from relay.audience import values
from relay.errors import Invalid, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import contacts
from relay.store.engine import JOBS
from relay.store.workflows import counts, runs, workflows
from relay.store.workflows.runs import STATUSES, Run
from relay.store.workflows.workflows import Workflow
from relay.workflows import simulate
from relay.workflows.acts import Acts, read_graph
from relay.workflows.advance import Tools
from relay.workflows.plan import Plans
from relay.workflows.simulate import Coming
from relay.workflows.telling import course, findings, graph, run, shown, step

router = resource("Workflows")

DATA = 16_384  # octets of what an event or a trigger brings

Status = Annotated[str | None, Query(description=", ".join(STATUSES))]


def number_of(text: str) -> int:
    """The id in a path; raises NotFound."""
    return known("wf", text, "Workflow")


def acts(here: Relay) -> Acts:
    return Acts(here.store, here.door, here.clock, here.maker, here.occurred, here.settings.webhooks.allow_private)


@router.post("/workflows", status_code=201)
async def create_workflow(here: Core, who: Owner, given: WorkflowInput) -> Any:
    """Create a draft; nothing begins before it is activated."""
    drawn = read_graph(given.nodes, given.edges or []) if given.nodes is not None else None
    return await _one(here, await acts(here).create(who, columns(given), drawn))


@router.get("/workflows")
async def list_workflows(here: Core, who: Owner) -> Any:
    """All workflows of the project, newest first."""
    found = await here.store.read(workflows.every, who.project)
    figures = await here.store.read(counts.of_many, [each.id for each in found])
    return whole("workflows", [shown(each, figures.get(each.id, {})) for each in found])


@router.post("/workflows/events")
async def post_event(here: Core, who: Owner, given: EventInput) -> Any:
    """Something happened to a contact: it begins the active workflows that listen for it, and takes on runs that wait for it. Segments and webhooks know
    the event too."""
    if events.reserved(given.event):
        raise Invalid("event", f"{given.event} is an event of the system's own")
    matched = await acts(here).happened(who, events.own(given.event), await named(here, who, given), _small(given.data))
    return {"event": given.event, "matched": matched}


@router.get("/workflows/{workflow_id}")
async def get_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """A workflow, with its runs by status."""
    return await _one(here, await here.store.read(workflows.get, who.project, number_of(workflow_id)))


@router.patch("/workflows/{workflow_id}")
async def change_workflow(here: Core, who: Owner, workflow_id: str, given: WorkflowChange) -> Any:
    """Change name, trigger or re-entry."""
    return await _one(here, await acts(here).change(who, number_of(workflow_id), columns(given)))


@router.delete("/workflows/{workflow_id}")
async def delete_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """Delete a workflow with its runs, those under way too; sent mail stays."""
    await acts(here).remove(who, number_of(workflow_id))
    return {"deleted": True}


@router.get("/workflows/{workflow_id}/graph")
async def get_graph(here: Core, who: Owner, workflow_id: str) -> Any:
    """The nodes and edges, each node with what came of it so far."""
    found = await here.store.read(workflows.get, who.project, number_of(workflow_id))
    return await _graph(here, found)


@router.put("/workflows/{workflow_id}/graph")
async def put_graph(here: Core, who: Owner, workflow_id: str, given: GraphInput) -> Any:
    """Replace the graph at once. Runs under way keep to the graph they began on; an active workflow takes only a graph without errors."""
    found = await acts(here).put_graph(who, number_of(workflow_id), read_graph(*given.given))
    return await _graph(here, found)


@router.post("/workflows/{workflow_id}/validate")
async def validate_workflow(here: Core, who: Owner, workflow_id: str, given: GraphInput | None = None) -> Any:
    """All that is in the way of activating it, each with its node; or what would be with the graph in the body. Every email is checked as it would be sent."""
    drawn = read_graph(*given.given) if given is not None and given.given[0] is not None else None
    found = await acts(here).findings(who, number_of(workflow_id), drawn)
    return findings(found.errors, found.warnings)


@router.post("/workflows/{workflow_id}/activate")
async def activate_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """Begin runs from now on; 422 with the first error, and all of them at `/validate`."""
    return await _one(here, await acts(here).activate(who, number_of(workflow_id)))


@router.post("/workflows/{workflow_id}/pause")
async def pause_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """Begin no more runs; those under way go on to their end."""
    return await _one(here, await acts(here).pause(who, number_of(workflow_id)))


@router.post("/workflows/{workflow_id}/duplicate", status_code=201)
async def duplicate_workflow(here: Core, who: Owner, workflow_id: str) -> Any:
    """A new draft with the same trigger and graph."""
    return await _one(here, await acts(here).duplicate(who, number_of(workflow_id)))


@router.post("/workflows/{workflow_id}/trigger", status_code=201)
async def trigger_workflow(here: Core, who: Owner, workflow_id: str, given: ContactNamed) -> Any:
    """Begin a run of one contact, of an active workflow whose trigger is manual; `data` is `event` in its texts."""
    found = await acts(here).trigger(who, number_of(workflow_id), await named(here, who, given), {"data": _small(given.data)})
    return await _run(here, found)


@router.post("/workflows/{workflow_id}/stop")
async def stop_runs(here: Core, who: Owner, workflow_id: str) -> Any:
    """Stop every run that is under way."""
    return {"stopped": await acts(here).stop_all(who, number_of(workflow_id))}


@router.post("/workflows/{workflow_id}/simulate")
async def simulate_workflow(here: Core, who: Owner, workflow_id: str, given: SimulationInput) -> Any:
    """What would happen to a contact, and when, on a clock that does not wait; nothing is sent, asked or written."""
    contact = await named(here, who, ContactNamed(contact_id=given.contact_id, email=given.email))
    at = given.at if given.at is not None else here.clock.now()
    cause = Coming(given.event.event, at, {"data": given.event.data}) if given.event is not None else Coming("simulation", at, {"data": given.data})
    tools = Tools(Plans(), here.maker, here.services.tokens.secrets)
    found = await here.store.write(
        simulate.course, who.project, number_of(workflow_id), contact, at, cause, coming(given.events, at), tools, lane=JOBS)
    return course(found)


@router.get("/workflows/{workflow_id}/runs")
async def list_runs(here: Core, who: Owner, page: Paging, workflow_id: str, status: Status = None, contact_id: str | None = None) -> Any:
    """Runs, newest first."""
    if status is not None and status not in STATUSES:
        raise Invalid("status", f"status is one of {', '.join(STATUSES)}")
    found = await here.store.read(workflows.get, who.project, number_of(workflow_id))
    contact = None if contact_id is None else contact_number(contact_id)
    rows = await here.store.read(runs.paged, found.id, page, status, contact)
    emails = await here.store.read(runs.emails, [each.contact_id for each in rows.rows])
    return listed("runs", rows, page, lambda each: run(each, emails.get(each.contact_id)))


@router.get("/workflows/{workflow_id}/runs/{run_id}")
async def get_run(here: Core, who: Owner, workflow_id: str, run_id: str) -> Any:
    """A run with its history: why it went where it went."""
    found = await _found(here, who, workflow_id, run_id)
    return {**await _run(here, found), "event": found.event.get("data") or {}, "steps": [step(each) for each in await here.store.read(runs.history, found.id)]}


@router.post("/workflows/{workflow_id}/runs/{run_id}/stop")
async def stop_run(here: Core, who: Owner, workflow_id: str, run_id: str) -> Any:
    """Stop a run that is under way."""
    found = await _found(here, who, workflow_id, run_id)
    return await _run(here, await acts(here).stop(who, found.id))


@router.get("/contacts/{contact_id}/workflows")
async def list_contact_runs(here: Core, who: Owner, contact_id: str) -> Any:
    """The latest runs of a contact, of all workflows."""
    contact = await here.store.read(contacts.get, who.project, contact_number(contact_id))
    found = await here.store.read(runs.of_contact, who.project, contact.id)
    names = {each.id: each.name for each in await here.store.read(workflows.every, who.project)}
    return whole("runs", [{**run(each, contact.email), "workflow_name": names.get(each.workflow_id)} for each in found])


async def named(here: Relay, who: Principal, given: ContactNamed) -> int:
    """The number of the contact that a body names; raises Invalid and NotFound."""
    if given.contact_id is not None:
        bare = given.contact_id.isascii() and given.contact_id.isdecimal() and len(given.contact_id) < 19
        return (await here.store.read(contacts.get, who.project, int(given.contact_id) if bare else contact_number(given.contact_id))).id
    if given.email is None:
        raise Invalid("contact_id", "name the contact by contact_id or email")
    return await here.store.read(simulate.of, who.project, values.key(given.email))


def _small(data: dict[str, Any]) -> dict[str, Any]:
    if len(Json().render(data)) > DATA:
        raise Invalid("data", f"data has at most {DATA} octets")
    return data


async def _found(here: Relay, who: Principal, workflow_id: str, run_id: str) -> Run:
    flow = await here.store.read(workflows.get, who.project, number_of(workflow_id))
    number = ids.internal(run_id, "wfr")
    found = None if number is None else await here.store.read(runs.get, who.project, number)
    if found is None or found.workflow_id != flow.id:
        raise NotFound("Workflow run not found")
    return found


async def _run(here: Relay, found: Run) -> dict[str, Any]:
    emails = await here.store.read(runs.emails, [found.contact_id])
    return run(found, emails.get(found.contact_id))


async def _one(here: Relay, found: Workflow) -> dict[str, Any]:
    return shown(found, (await here.store.read(counts.of_many, [found.id])).get(found.id, {}))


async def _graph(here: Relay, found: Workflow) -> dict[str, Any]:
    version = await here.store.read(workflows.graph, found.id, found.version)
    return graph(version, await here.store.read(counts.of_nodes, found.id))
