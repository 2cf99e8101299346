"""Acts on broadcasts: look at one, send it, hold it up, end it. Drafts are written by the API and the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from relay.broadcasts import telling
from relay.broadcasts.acts import Acts
from relay.control import Control
from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store import projects
from relay.store.broadcasts import broadcasts, counts
from relay.store.broadcasts.broadcasts import STATUSES, Broadcast
from relay.store.pages import Page

PAGE = 100  # broadcasts of one answer


async def every(control: Control, project: str = projects.DEFAULT, status: str = "", limit: int = PAGE) -> list[dict[str, Any]]:
    """The newest broadcasts of a project, with their figures."""
    if status and status not in STATUSES:
        raise Invalid("status", f"status is one of {', '.join(STATUSES)}")
    owner = await control.store.read(projects.by_name, project)
    found = await control.store.read(broadcasts.paged, owner.id, Page(1, max(1, min(limit, PAGE))), status or None)
    figures = await control.store.read(counts.of_many, [each.id for each in found.rows])
    return [telling.shown(each, counts.whole(figures.get(each.id, {}))) for each in found.rows]


async def show(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """One broadcast: what it says, how far it is, what became of its copies."""
    _, found = await _found(control, number, project)
    return {**await telling.one(control.store, found), "html": found.html, "text": found.text}


async def forecast(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """How long it will take, or what is left of it."""
    _, found = await _found(control, number, project)
    if control.runner is None:
        raise Conflict("no relay runs, so nobody knows how fast it would be; start it: relay serve")
    return await telling.ahead(control.store, found, control.runner, control.settings.limit, control.clock.now())


async def send(control: Control, number: str, project: str = projects.DEFAULT, at: str = "") -> dict[str, Any]:
    """The broadcast, which begins now, at the time its draft names, or at `at`, ISO 8601."""
    who, found = await _found(control, number, project)
    if control.door is None:
        raise Conflict("no relay runs; start it first: relay serve")
    when = _time(at) if at else found.scheduled_at if found.status == broadcasts.DRAFT else None
    return await telling.one(control.store, await _acts(control).send(who, found.id, when))


async def pause(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """Nothing more of it leaves until it is resumed."""
    who, found = await _found(control, number, project)
    return await telling.one(control.store, await _acts(control).pause(who, found.id))


async def resume(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """It goes on where it was."""
    who, found = await _found(control, number, project)
    return await telling.one(control.store, await _acts(control).resume(who, found.id))


async def cancel(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """Nobody else gets it."""
    who, found = await _found(control, number, project)
    return await telling.one(control.store, await _acts(control).cancel(who, found.id))


def _acts(control: Control) -> Acts:
    """The acts; without a relay in this process there is no door, which only sending needs."""
    door = cast("Any", control.door() if control.door is not None else None)
    return Acts(control.store, door, control.clock, control.maker, control.runner, lambda: control.changed("queue"))


async def _found(control: Control, number: str, project: str) -> tuple[Principal, Broadcast]:
    owner = await control.store.read(projects.by_name, project)
    internal = ids.internal(number, "brd")
    if internal is None:
        raise NotFound(f"there is no broadcast {number}; relay broadcast list --project {project} names them")
    return Principal("local", owner.id, name="relay broadcast"), await control.store.read(broadcasts.get, owner.id, internal)


def _time(text: str) -> float:
    """UTC seconds; raises Invalid."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid("at", "at is a time such as 2027-03-25T09:00:00Z") from None
