"""How runs begin: by a page of the event log, by a schedule, by hand. Each in one transaction with what says that it has happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from relay import log
from relay.audience.grammars import read
from relay.errors import Conflict, Invalid, NotFound
from relay.mail.ids import Maker
from relay.metrics import counter
from relay.store import faults
from relay.store.audience import contacts
from relay.store.workflows import hearing, people, runs, workflows
from relay.store.workflows.hearing import Heard
from relay.store.workflows.runs import SLICE, Entry, Run
from relay.store.workflows.workflows import ACTIVE, ALWAYS, Workflow
from relay.workflows import triggers
from relay.workflows.plan import Plans
from relay.workflows.triggers import MANUAL, Wanted

LOG = log.get("workflows")
BEGUN = counter("workflow_runs_begun_total", "Workflow runs that began, by trigger", "trigger")
REFUSED = counter("workflow_runs_refused_total", "Contacts that a trigger was about and that began no run, by the reason", "reason")


def _begin(conn: Any, flow: Workflow, given: Sequence[Entry], now: float, plans: Plans) -> list[Run]:
    """Runs of a locked workflow."""
    graph = plans.of(conn, flow).graph
    first, trigger = graph.first(), graph.trigger
    if first is None or trigger is None:
        return []
    made, refused = runs.begin(conn, flow, given, first, trigger.id, now)
    BEGUN.labels(flow.trigger).inc(len(made))
    for why, count in refused.items():
        REFUSED.labels(why).inc(count)
    return made


# By the event log.


def wanted(flows: Sequence[Workflow]) -> dict[int, Wanted]:
    """What these workflows wait for, by their number."""
    return {flow.id: triggers.read(flow.trigger, flow.config)[0] for flow in flows}


def names(known: Mapping[int, Wanted]) -> tuple[set[str], bool]:
    """The types of events that are of interest, and whether entries and exits of segments are."""
    return {each.type for each in known.values() if each.type}, any(each.edge for each in known.values())


def by_events(conn: Any, found: Sequence[Heard], before: str | None, after: str, now: float, plans: Plans) -> bool:
    """Begin runs, take waiting ones on, and move the cursor; False, and nothing done, when another has read on from there."""
    if not hearing.move(conn, before, after):
        return False
    hearing.take_on(conn, [each for each in found if each.run is not None], now)
    news = [each for each in found if each.run is None]
    flows = workflows.active(conn) if news else []
    here = people.present(conn, [each.contact_id for each in news])
    for flow in flows:
        since, what = hearing.place(flow.since or "0.0"), triggers.read(flow.trigger, flow.config)[0]
        mine = [Entry(each.contact_id, f"event:{each.id}", each.told) for each in news
                if each.project_id == flow.project_id and each.contact_id in here and each.place > since and triggers.matches(what, each.type, each.data)]
        if mine and (locked := workflows.locked(conn, flow.id)) is not None and locked.status == ACTIVE:
            _begin(conn, locked, mine, now, plans)
    faults.point("workflow.heard")
    return True


# By a schedule.


def by_schedule(conn: Any, number: int, now: float, plans: Plans, maker: Maker) -> bool:
    """Begin the next slice of contacts of a schedule whose time has come; whether there are more. What was missed while no relay ran is one start."""
    flow = workflows.locked(conn, number)
    if flow is None or flow.status != ACTIVE or (flow.walk_at is None and (flow.next_at is None or flow.next_at > now)):
        return False
    what = triggers.read(flow.trigger, flow.config)[0]
    next_at = flow.next_at
    if flow.walk_at is None:
        next_at = triggers.following(what.schedule, max(now, flow.next_at or now)) if what.schedule else None
        flow = replace(flow, walk_at=flow.next_at, walk_after=0, walk_until=maker.next())
    at = flow.walk_at or now
    try:
        found = people.following(conn, flow.project_id, what.segment, flow.walk_after, flow.walk_until, SLICE, now, read)
    except NotFound as error:
        LOG.warning("scheduled start left out", workflow=flow.public_id, project=flow.project_id, reason=error.text)
        found = []
    _begin(conn, flow, [Entry(each, f"schedule:{int(at)}", {"type": "schedule", "at": at, "data": {}}) for each in found], now, plans)
    more = len(found) >= SLICE
    workflows.set_schedule(conn, number, next_at, flow.walk_at if more else None, found[-1] if more else 0, flow.walk_until if more else 0)
    return more


# By hand.


def by_hand(conn: Any, project: int, number: int, contact: int, data: dict[str, Any], now: float, plans: Plans, maker: Maker) -> Run:
    """The run of this contact; raises NotFound, Invalid unless the workflow is active and manual, Conflict by the rules of re-entry."""
    workflows.get(conn, project, number)
    flow = workflows.locked(conn, number)
    contacts.get(conn, project, contact)
    if flow is None or flow.status != ACTIVE:
        raise Invalid("workflow_id", "the workflow is not active: activate it first")
    if flow.trigger != MANUAL:
        raise Invalid("workflow_id", f"the workflow begins by {flow.trigger}, only one with trigger_type manual is begun by hand")
    made = _begin(conn, flow, [Entry(contact, f"manual:{maker.next()}", {"type": MANUAL, "at": now, "data": data})], now, plans)
    if not made:
        again = "has a run of it that is under way" if flow.reentry != ALWAYS else "has begun it too often within the last hour"
        raise Conflict(f"the contact {again if flow.reentry != 'once' else 'has had a run of it: reentry is once'}", code="workflow_again")
    return made[0]
