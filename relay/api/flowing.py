"""What a caller writes to say a workflow, and how workflows, runs and their histories are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from relay.api.core import Input
from relay.api.draft import Moment
from relay.clock import iso
from relay.errors import Invalid
from relay.mail import ids
from relay.store.workflows.runs import RUNNING, STATUSES, Run, Step
from relay.store.workflows.workflows import REENTRY, Version, Workflow
from relay.workflows.form import LONGEST, span
from relay.workflows.graph import Fault
from relay.workflows.simulate import Coming
from relay.workflows.triggers import TRIGGERS

Named = Annotated[str, Field(max_length=64), BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)]  # an id, also as a number


class WorkflowChange(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    trigger_type: str | None = Field(None, description=", ".join(TRIGGERS))
    trigger_config: dict[str, Any] | None = None
    reentry: str | None = Field(None, description="once (the default): a contact passes once; after_exit: again when its run has ended; always")


class WorkflowInput(WorkflowChange):
    """A new workflow, a draft until it is activated; with its graph, or with that put later."""

    name: str = Field(min_length=1, max_length=200)
    trigger_type: str = Field(description=", ".join(TRIGGERS))
    nodes: list[Any] | None = None
    edges: list[Any] | None = None


class GraphInput(Input):
    """All nodes and edges, in place of those there were."""

    nodes: list[Any] | None = None
    edges: list[Any] | None = None
    graph: dict[str, Any] | None = None

    @property
    def given(self) -> tuple[Any, Any]:
        """Nodes and edges, wherever they are."""
        inner = self.graph or {}
        return (self.nodes if self.nodes is not None else inner.get("nodes")), (self.edges if self.edges is not None else inner.get("edges", []))


class ContactNamed(Input):
    contact_id: Named | None = None
    email: str | None = Field(None, max_length=320)
    data: dict[str, Any] = Field(default_factory=dict)


class EventInput(ContactNamed):
    event: str = Field(min_length=1, max_length=64)


class ComingInput(Input):
    """An event in a simulation: its name, and how long after the start it comes."""

    event: str = Field(min_length=1, max_length=64)
    after: str | float = Field("0s", description='Since the start, such as "2d"')
    data: dict[str, Any] = Field(default_factory=dict)


class SimulationInput(Input):
    """Which contact, from when on, and what shall happen meanwhile."""

    contact_id: Named | None = None
    email: str | None = Field(None, max_length=320)
    at: Moment | None = Field(None, description="When it begins; now without it")
    event: EventInput | None = None
    data: dict[str, Any] = Field(default_factory=dict, validation_alias=AliasChoices("data", "trigger_data"))
    events: list[ComingInput] = Field(default_factory=list, max_length=100)


def columns(given: WorkflowChange) -> dict[str, Any]:
    """The columns that were given, checked; raises Invalid."""
    values: dict[str, Any] = {}
    if given.name is not None:
        values["name"] = given.name
    if given.trigger_type is not None:
        if given.trigger_type not in TRIGGERS:
            raise Invalid("trigger_type", f"trigger_type is one of {', '.join(TRIGGERS)}")
        values["trigger"] = given.trigger_type
    if "trigger_config" in given.model_fields_set:
        values["config"] = given.trigger_config or {}
    if given.reentry is not None:
        if given.reentry not in REENTRY:
            raise Invalid("reentry", f"reentry is one of {', '.join(REENTRY)}")
        values["reentry"] = given.reentry
    return values


def coming(given: Sequence[ComingInput], start: float) -> list[Coming]:
    """The events of a simulation; raises Invalid."""
    found = []
    for number, each in enumerate(given):
        after = span(each.after)
        if after is None:
            raise Invalid(f"events[{number}].after", f'events[{number}].after is a time span such as "2d", at most {LONGEST / 86_400:.0f}d')
        found.append(Coming(each.event, start + after, each.data))
    return found


# What is shown.


def shown(flow: Workflow, figures: Mapping[str, int]) -> dict[str, Any]:
    """A workflow with its runs by status."""
    counted = Counter(figures)
    return {
        "id": flow.public_id, "name": flow.name, "trigger_type": flow.trigger, "trigger_config": flow.config or None, "status": flow.status,
        "reentry": flow.reentry, "version": flow.version, "runs": {status: max(0, counted[status]) for status in STATUSES},
        "next_start_at": iso(flow.walk_at if flow.walk_at is not None else flow.next_at), "activated_at": iso(flow.activated_at),
        "created_at": iso(flow.created_at), "updated_at": iso(flow.updated_at)}


def graph(version: Version, outcomes: Mapping[str, Counter[str]]) -> dict[str, Any]:
    """A graph as it was put, with what came of each node so far."""
    nodes = [{**node, "counts": dict(outcomes.get(node["public_id"], {}))} for node in version.nodes]
    return {"version": version.version, "nodes": nodes, "edges": version.edges}


def findings(errors: Sequence[Fault], warnings: Sequence[Fault]) -> dict[str, Any]:
    return {"valid": not errors, **({"errors": [each.shown for each in errors]} if errors else {}), "warnings": [each.shown for each in warnings]}


def run(each: Run, email: str | None = None) -> dict[str, Any]:
    """A run: where it is, what it waits for, or how it ended."""
    waits = each.status == RUNNING and (each.due is not None or each.awaits is not None)
    waiting = {"until": iso(each.due), "event": each.awaits, "why": each.reason or None} if waits else None
    return {
        "id": each.public_id, "workflow_id": ids.public("wf", each.workflow_id), "contact_id": ids.public("ct", each.contact_id), "email": email,
        "status": each.status, "current_node_id": each.node, "nodes_visited": each.visited, "waiting": waiting,
        "reason": None if waiting else each.reason or None, "trigger": {"type": each.event.get("type"), "at": iso(each.event.get("at"))},
        "version": each.version, "started_at": iso(each.started_at), "completed_at": iso(each.ended_at)}


def step(each: Step) -> dict[str, Any]:
    return {"node_id": each.node or None, "type": each.kind or None, "outcome": each.outcome, "detail": each.detail, "at": iso(each.at)}
