"""/activity in the Plunk dialect: what happened in the project, newest first, in one list; and what is going to."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Query

from relay.api.compat.plunk import steps
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.interval import During, Interval
from relay.api.compat.plunk.paging import Walking, walked
from relay.api.contacts import number
from relay.api.core import Core, Owner, Relay
from relay.clock import iso
from relay.mail import ids
from relay.store import events as stored
from relay.store import namings
from relay.store.audience import contacts
from relay.store.audience.rules import DAY
from relay.store.broadcasts import broadcasts
from relay.store.broadcasts.broadcasts import SCHEDULED
from relay.store.events import Event
from relay.store.pages import Page
from relay.store.workflows import runs, workflows
from relay.store.workflows.runs import Run
from relay.store.workflows.workflows import Workflow
from relay.workflows.graph import Graph, Node
from relay.workflows.plan import graph_of
from relay.workflows.steps import NO_MATCH

router = APIRouter(tags=["Activity"])

TYPES = {"email.sent": "email.sent", "email.delivered": "email.delivered", "email.opened": "email.opened", "email.clicked": "email.clicked",
         "email.bounced": "email.bounced", "email.complaint": "email.complained", "email.received": "email.inbound"}  # Plunk's types and our events
KINDS = {ours: theirs for theirs, ours in TYPES.items()}
TRIGGERED, STARTED, COMPLETED, SENDING = "event.triggered", "workflow.started", "workflow.completed", "campaign.scheduled"
LETTER, STEP = "workflow.email.scheduled", "workflow.step.scheduled"  # what a workflow does next for somebody; the second is our word, Plunk tells of mail only


@router.get("/activity")
async def list_activity(
    here: Core, who: Owner, walk: Walking, during: During, types: Annotated[str, Query(max_length=400, description="Comma-separated")] = "",
    contact_id: Annotated[str | None, Query(alias="contactId")] = None,
) -> Any:
    """A page of what happened, newest first. With a cursor it goes on beyond `startDate`."""
    wanted = {name.strip() for name in types.split(",") if name.strip()}
    before = None if walk.after is None else ids.internal(walk.after, "evt")
    if walk.after is not None and before is None:
        raise Bad("cursor", "cursor is not one that a page gave")
    contact = None if contact_id is None else (await here.store.read(contacts.get, who.project, number(contact_id))).id
    if wanted and not wanted & {*TYPES, TRIGGERED}:
        return {"data": [], "cursor": None, "hasMore": False}
    only = () if not wanted or TRIGGERED in wanted else tuple(TYPES[name] for name in wanted & TYPES.keys())
    rows = await here.store.read(_newest, who.project, only, contact, before, None if walk.after else during.start, walk.limit + 1)
    people = await here.store.read(contacts.by_ids, who.project, sorted({row.contact_id for row in rows if row.contact_id}))
    emails = {each.id: each.email for each in people}
    page = walked(rows, walk, 0, lambda event: event.public_id, lambda event: _shown(event, emails))
    return {name: page[name] for name in ("data", "cursor", "hasMore")}


@router.get("/activity/stats")
async def get_stats(here: Core, who: Owner, during: During) -> Any:
    """Figures of an interval; rates in percent of the mail that was accepted."""
    told = await _counted(here, who.project, during)
    began = await here.store.read(runs.begun, who.project, during.start, during.end)
    sent, opened, clicked = (told[name] for name in ("email.queued", "email.opened", "email.clicked"))
    return {"totalEvents": told.total(), "totalEmailsSent": sent, "totalEmailsOpened": opened, "totalEmailsClicked": clicked,
            "totalWorkflowsStarted": began, "openRate": 100 * opened / sent if sent else 0, "clickRate": 100 * clicked / sent if sent else 0}


@router.get("/activity/recent-count")
async def get_recent_count(here: Core, who: Owner, minutes: Annotated[int, Query(description="Up to 60")] = 5) -> Any:
    """How much happened in the last minutes."""
    minutes = min(max(minutes, 1), 60)
    now = here.clock.now()
    return {"count": (await _counted(here, who.project, Interval(now - 60.0 * minutes, now + 1))).total(), "minutes": minutes}


@router.get("/activity/types")
async def list_types(who: Owner) -> Any:
    """The types that `types` takes."""
    return {"types": [TRIGGERED, *TYPES, STARTED, COMPLETED]}


@router.get("/activity/upcoming")
async def list_upcoming(
    here: Core, who: Owner, limit: Annotated[int, Query(description="Up to 100")] = 50, days: Annotated[int, Query(alias="daysAhead")] = 30,
) -> Any:
    """The campaigns that wait for their time, and what workflows do next for whom; the next one first."""
    limit, now = min(max(limit, 1), 100), here.clock.now()
    last = now + min(max(days, 1), 366) * DAY
    told = [*await _campaigns(here, who.project, last, limit), *await _waits(here, who.project, now, last, limit)]
    return {"activities": sorted(told, key=lambda each: each["timestamp"])[:limit]}


async def _campaigns(here: Relay, project: int, last: float, limit: int) -> list[dict[str, Any]]:
    found = await here.store.read(broadcasts.paged, project, Page(1, limit), SCHEDULED)
    return [{"id": each.public_id, "type": SENDING, "timestamp": iso(each.scheduled_at), "metadata": {"campaignName": each.name, "subject": each.subject}}
            for each in found.rows if each.scheduled_at and each.scheduled_at <= last]


async def _waits(here: Relay, project: int, now: float, last: float, limit: int) -> list[dict[str, Any]]:
    found = await here.store.read(_coming, project, now, last, limit)
    emails = await here.store.read(runs.emails, [run.contact_id for _, run, _ in found])
    return [_waiting(flow, run, step, emails.get(run.contact_id)) for flow, run, step in found]


def _coming(conn: Any, project: int, now: float, last: float, limit: int) -> list[tuple[Workflow, Run, Node]]:
    found, graphs = runs.coming(conn, project, now, last, limit), {}
    for version in {(run.workflow_id, run.version) for _, run in found}:
        graphs[version] = graph_of(workflows.graph(conn, *version))
    return [(flow, run, _next(graphs[run.workflow_id, run.version], run)) for flow, run in found]


def _next(graph: Graph, run: Run) -> Node:
    """The step that a run comes to when its time has come: the one after a wait, else the one that is tried again."""
    node = graph.nodes[run.node or ""]
    following = graph.after(node.id, NO_MATCH if run.awaits else None) if node.kind == "wait" else None
    return node if following is None else graph.nodes[following]


def _waiting(flow: Workflow, run: Run, step: Node, email: str | None) -> dict[str, Any]:
    told = steps.written(step)
    return {"id": run.public_id, "type": LETTER if step.kind == "send_email" else STEP, "timestamp": iso(run.due), "contactEmail": email,
            "contactId": ids.public("ct", run.contact_id),
            "metadata": {"workflowId": flow.public_id, "workflowName": flow.name, "stepName": told["name"], "stepType": told["type"],
                         "subject": step.config.get("subject")}}


async def _counted(here: Relay, project: int, during: Interval) -> Counter[str]:
    told: Counter[str] = Counter()
    for (_, name), count in (await here.store.read(namings.daily, project, max(during.start, 0.0), during.end)).items():
        told[name] += count
    return told


def _newest(conn: Any, project: int, types: tuple[str, ...], contact: int | None, before: int | None, after: float | None, limit: int) -> list[Event]:
    return stored.newest(conn, project, types=types, contact_id=contact, before=before, after=after, limit=limit)


def _shown(event: Event, emails: dict[int, str]) -> dict[str, Any]:
    kind = KINDS.get(event.type, TRIGGERED)
    said = {"eventName": event.type, "eventData": event.data.get("data", event.data)} if kind == TRIGGERED else {**event.data, "emailId": _email(event)}
    return {"id": event.public_id, "type": kind, "timestamp": iso(event.at), "contactEmail": emails.get(event.contact_id or 0),
            "contactId": None if event.contact_id is None else ids.public("ct", event.contact_id), "metadata": said}


def _email(event: Event) -> str | None:
    return None if event.message_id is None else ids.public("em", event.message_id)
