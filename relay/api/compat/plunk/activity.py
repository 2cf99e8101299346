"""/activity in the Plunk dialect: what happened in the project, newest first, in one list; and what is going to."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import Annotated, Any

from fastapi import Query

from relay.api.compat.plunk import steps
from relay.api.compat.plunk.happened import Happened, Place, Wanted, newest
from relay.api.compat.plunk.interval import During, Interval
from relay.api.compat.plunk.paging import Walking, walked
from relay.api.contacts import number
from relay.api.core import Core, Owner, Relay, resource
from relay.clock import iso
from relay.mail import ids
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

router = resource("Activity")

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
    named = {name.strip() for name in types.split(",") if name.strip()}
    contact = None if contact_id is None else (await here.store.read(contacts.get, who.project, number(contact_id))).id
    of_mail = tuple(TYPES[name] for name in TYPES if name in named)
    events = () if not named or TRIGGERED in named else of_mail or None
    wanted = Wanted(events, not named or STARTED in named, not named or COMPLETED in named, None if walk.after else during.start, contact)
    place = Place() if walk.after is None else Place.read(walk.after)
    rows, flows = await here.store.read(newest, who.project, wanted, place, walk.limit + 1)
    people = await here.store.read(contacts.by_ids, who.project, sorted({row.what.contact_id for row in rows if row.what.contact_id}))
    emails = {each.id: each.email for each in people}
    places = list(accumulate(rows, lambda so_far, row: row.after(so_far), initial=place))[1:]
    page = walked(list(zip(rows, places, strict=True)), walk, 0, lambda each: str(each[1]), lambda each: _shown(each[0], emails, flows))
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


def _shown(each: Happened, emails: dict[int, str], flows: dict[int, str]) -> dict[str, Any]:
    whose = {"timestamp": iso(each.at), "contactEmail": emails.get(each.what.contact_id or 0),
             "contactId": None if each.what.contact_id is None else ids.public("ct", each.what.contact_id)}
    if isinstance(each.what, Run):
        run = each.what
        said = {"workflowId": ids.public("wf", run.workflow_id), "workflowName": flows[run.workflow_id], "executionId": run.public_id}
        return {"id": f"{run.public_id}.{'end' if each.over else 'start'}", "type": COMPLETED if each.over else STARTED, **whose, "metadata": said}
    event = each.what
    kind = KINDS.get(event.type, TRIGGERED)
    told = {"eventName": event.type, "eventData": event.data.get("data", event.data)} if kind == TRIGGERED else {**event.data, "emailId": _email(event)}
    return {"id": event.public_id, "type": kind, **whose, "metadata": told}


def _email(event: Event) -> str | None:
    return None if event.message_id is None else ids.public("em", event.message_id)
