"""What would happen to a contact in a workflow, and when: the engine's own transaction on a clock that jumps, in a savepoint that is rolled back.

Conditions see what earlier steps changed and what time it would be. Emails are rendered and asked for consent, requests are put together, none of them leaves.
Events that a wait is for come when the caller says they do; otherwise waits run out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay import copies, templates
from relay.errors import Conflict, Invalid, NotFound, Refuse
from relay.store import bulk
from relay.store.audience import contacts
from relay.store.workflows import hearing, runs, workflows
from relay.store.workflows.runs import Entry, Run, Step
from relay.store.workflows.workflows import ALWAYS, Workflow
from relay.workflows import advance, calls, letters
from relay.workflows.advance import CALLED, SENT, Done, Tools, Turn, context
from relay.workflows.letters import Work
from relay.workflows.plan import Plans
from relay.workflows.steps import MATCH, Call, Email

TURNS = 2_000  # of the clock


@dataclass(frozen=True, slots=True)
class Coming:
    """An event that shall come: its name, when (UTC seconds), its data."""

    name: str
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Course:
    """What would happen: the run as it would end, its history, and why it would not begin at all as things are ("" if it would)."""

    run: Run
    steps: list[Step]
    refused: str


def course(conn: Any, project: int, number: int, contact: int, at: float, cause: Coming | None, coming: Sequence[Coming], tools: Tools) -> Course:
    """What would happen to this contact from a time on; nothing is written. Raises NotFound, and Invalid for a graph without a way to go.

    cause   the event that would begin it, for its data
    """
    flow = workflows.get(conn, project, number)
    contacts.get(conn, project, contact)
    bulk.run(conn, "SAVEPOINT simulation")
    try:
        return _course(conn, flow, contact, at, cause, coming, Tools(Plans(), tools.maker, tools.secrets))
    finally:
        bulk.run(conn, "ROLLBACK TO SAVEPOINT simulation")
        bulk.run(conn, "RELEASE SAVEPOINT simulation")


def _course(conn: Any, flow: Workflow, contact: int, at: float, cause: Coming | None, coming: Sequence[Coming], tools: Tools) -> Course:
    graph = tools.plans.of(conn, flow).graph
    first, trigger = graph.first(), graph.trigger
    if first is None or trigger is None:
        raise Invalid("graph", "the graph has no trigger that leads anywhere")
    event = {"type": cause.name if cause else flow.trigger, "at": at, "data": cause.data if cause else {}}
    refused = _refused(conn, flow, Entry(contact, "simulation", event), first, trigger.id, at)
    made, often = runs.begin(conn, replace(flow, reentry=ALWAYS), [Entry(contact, "simulation", event)], first, trigger.id, at)
    if not made:
        raise Conflict(f"the contact has begun this workflow too often to begin it again: {', '.join(often)}")
    now, ahead = at, sorted(coming, key=lambda each: each.at)
    for _ in range(TURNS):
        run = runs.get(conn, flow.project_id, made[0].id)
        if run.status != runs.RUNNING:
            break
        came = next((each for each in ahead if each.name == run.awaits and each.at >= now and (run.due is None or each.at < run.due)), None)
        if came is not None:
            now = came.at
            hearing.take_on(conn, [_heard(flow, run, came)], now)
            ahead = [each for each in ahead if each is not came]
            run = runs.get(conn, flow.project_id, run.id)
        now = max(now, run.due if run.due is not None else now)
        advance.take(conn, [Turn(run.id, run.visited, _done(conn, flow, run, tools, now))], now, tools)
    return Course(runs.get(conn, flow.project_id, made[0].id), runs.history(conn, made[0].id), refused)


def _refused(conn: Any, flow: Workflow, entry: Entry, first: str, trigger: str, at: float) -> str:
    """Why the contact would not begin as things are."""
    bulk.run(conn, "SAVEPOINT entrance")
    try:
        return ", ".join(runs.begin(conn, flow, [entry], first, trigger, at)[1])
    finally:
        bulk.run(conn, "ROLLBACK TO SAVEPOINT entrance")
        bulk.run(conn, "RELEASE SAVEPOINT entrance")


def _heard(flow: Workflow, run: Run, came: Coming) -> hearing.Heard:
    return hearing.Heard(0, (0, 0), flow.project_id, came.name, came.at, {"data": came.data}, run.contact_id, run.id)


def _done(conn: Any, flow: Workflow, run: Run, tools: Tools, now: float) -> Done | None:
    """What would come of a step that the engine does."""
    step = tools.plans.of(conn, flow).steps.get(run.node or "")
    if not isinstance(step, (Email, Call)):
        return None
    work = Work(run, flow, step, contacts.get(conn, flow.project_id, run.contact_id), *letters.template(conn, flow.project_id, step))
    try:
        return _letter(work) if isinstance(step, Email) else _call(work)
    except (Refuse, Invalid, NotFound) as error:
        return Done("failed", {"reason": error.text}, ends=isinstance(step, Email))


def _letter(work: Work) -> Done:
    if work.fault is not None:
        raise work.fault
    said = letters.letter(work.flow, work.step, work.template)
    variables = {**context(work.flow, work.run, work.contact), **work.step.variables}
    copies.build(said, work.contact.email, variables)
    subject = " ".join(templates.render(said.texts, variables, templates.LATER).subject.split())
    told = {"to": work.contact.email, "from": said.sender, "subject": subject, "stream": said.stream}
    return Done(SENT, told, stream=said.stream, topic=work.step.topic)


def _call(work: Work) -> Done:
    method, url, body, _ = calls.request(work)
    return Done(CALLED, {"method": method, "url": url, "bytes": len(body or b"")}, MATCH)


def of(conn: Any, project: int, text: str) -> int:
    """The number of the contact of an address; raises NotFound."""
    found = contacts.by_key(conn, project, text)
    if found is None:
        raise NotFound("Contact not found")
    return found.id
