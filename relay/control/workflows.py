"""Acts on workflows: look at one and at its runs, see what would happen, hold it up. They are made by the API and the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from relay.control import Control
from relay.errors import Invalid, NotFound
from relay.mail import address as mail_address
from relay.mail import ids
from relay.mail.message import Principal
from relay.store import projects, secrets
from relay.store.engine import JOBS
from relay.store.pages import Page
from relay.store.workflows import counts, runs, workflows
from relay.store.workflows.runs import STATUSES
from relay.store.workflows.workflows import Workflow
from relay.workflows import simulate as simulation
from relay.workflows import telling
from relay.workflows.acts import Acts
from relay.workflows.advance import Tools
from relay.workflows.plan import Plans
from relay.workflows.simulate import Coming

PAGE = 100  # runs of one answer


async def every(control: Control, project: str = projects.DEFAULT) -> list[dict[str, Any]]:
    """A project's workflows, newest first, with their runs by status."""
    owner = await control.store.read(projects.by_name, project)
    found = await control.store.read(workflows.every, owner.id)
    figures = await control.store.read(counts.of_many, [each.id for each in found])
    return [telling.shown(each, figures.get(each.id, {})) for each in found]


async def show(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """One workflow with its graph, and what came of each node."""
    _, found = await _found(control, number, project)
    version = await control.store.read(workflows.graph, found.id, found.version)
    return {**await _told(control, found), "graph": telling.graph(version, await control.store.read(counts.of_nodes, found.id))}


async def every_run(
    control: Control, number: str, project: str = projects.DEFAULT, status: str = "", contact: str = "", limit: int = PAGE,
) -> list[dict[str, Any]]:
    """The newest runs of a workflow; with an address its contact's, each with its history."""
    if status and status not in STATUSES:
        raise Invalid("status", f"status is one of {', '.join(STATUSES)}")
    _, found = await _found(control, number, project)
    person = await control.store.read(simulation.of, found.project_id, mail_address.key(contact)) if contact else None
    rows = (await control.store.read(runs.paged, found.id, Page(1, max(1, min(limit, PAGE))), status or None, person)).rows
    emails = await control.store.read(runs.emails, [each.contact_id for each in rows])
    told = [telling.run(each, emails.get(each.contact_id)) for each in rows]
    if person is not None:
        for each, shown in zip(rows, told, strict=True):
            shown["steps"] = [telling.step(line) for line in await control.store.read(runs.history, each.id)]
    return told


async def simulate(control: Control, number: str, address: str, project: str = projects.DEFAULT, at: str = "") -> dict[str, Any]:
    """What would happen to the contact of this address, from now or from `at` (ISO 8601) on; nothing is written."""
    _, found = await _found(control, number, project)
    person = await control.store.read(simulation.of, found.project_id, mail_address.key(address))
    start = _time(at) if at else control.clock.now()
    held = tuple(secrets.ensure(control.store.data_dir, control.settings.secret_key, control.store.dialect != "sqlite"))
    tools = Tools(Plans(), control.maker, held)
    cause = Coming("simulation", start, {})
    return telling.course(await control.store.write(simulation.course, found.project_id, found.id, person, start, cause, (), tools, lane=JOBS))


async def pause(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """No run begins from now on; those under way go on."""
    who, found = await _found(control, number, project)
    return await _told(control, await _acts(control).pause(who, found.id))


async def stop(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, int]:
    """Stop every run that is under way; how many."""
    who, found = await _found(control, number, project)
    return {"stopped": await _acts(control).stop_all(who, found.id)}


def _acts(control: Control) -> Acts:
    """The acts of those that need no door."""
    door: Any = control.door() if control.door is not None else None
    return Acts(control.store, door, control.clock, control.maker, lambda: None, control.settings.webhooks.allow_private)


async def _found(control: Control, number: str, project: str) -> tuple[Principal, Workflow]:
    owner = await control.store.read(projects.by_name, project)
    internal = ids.internal(number, "wf")
    if internal is None:
        raise NotFound(f"there is no workflow {number}; relay workflow list --project {project} names them")
    return Principal("local", owner.id, name="relay workflow"), await control.store.read(workflows.get, owner.id, internal)


async def _told(control: Control, found: Workflow) -> dict[str, Any]:
    return telling.shown(found, (await control.store.read(counts.of_many, [found.id])).get(found.id, {}))


def _time(text: str) -> float:
    """UTC seconds; raises Invalid."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid("at", "at is a time such as 2027-03-25T09:00:00Z") from None
