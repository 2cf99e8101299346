"""How workflows, their graphs, runs and histories are told: one form for the API, the dashboard and the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relay.clock import iso
from relay.mail import ids
from relay.store.workflows.runs import RUNNING, STATUSES, Run, Step
from relay.store.workflows.workflows import Version, Workflow
from relay.workflows.graph import Fault
from relay.workflows.simulate import Course


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


def course(found: Course) -> dict[str, Any]:
    """What a simulation found."""
    told = run(found.run)
    return {"would_begin": not found.refused, "refused": found.refused or None,
            **{name: told[name] for name in ("status", "reason", "waiting", "started_at", "completed_at")}, "steps": [step(each) for each in found.steps]}
