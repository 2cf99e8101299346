"""/events in the Plunk dialect: what was tracked and what mail did, under Plunk's names (email.open for our email.opened)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.fields import asking
from relay.api.compat.plunk.paging import Walking, walked
from relay.api.contacts import number
from relay.api.core import Core, Owner, resource
from relay.clock import iso
from relay.events import reserved
from relay.mail import ids
from relay.store import events as stored
from relay.store import namings
from relay.store.audience import contacts
from relay.store.engine import JOBS
from relay.store.events import Event
from relay.store.workflows import workflows

router = resource("Events")

NAMES = {"email.delivered": "email.delivery", "email.opened": "email.open", "email.clicked": "email.click", "email.bounced": "email.bounce",
         "email.complained": "email.complaint", "email.inbound": "email.received"}  # our names and Plunk's
OURS = {theirs: ours for ours, theirs in NAMES.items()}


@router.get("/events")
async def list_events(
    here: Core, who: Owner, walk: Walking, name: Annotated[str | None, Query(alias="eventName", max_length=64)] = None,
) -> Any:
    """A page of events, newest first."""
    return await _page(here, who, walk, (OURS.get(name, name),) if name else (), None)


@router.get("/events/names")
async def list_names(here: Core, who: Owner) -> Any:
    """The names of all events of the last while."""
    found = await here.store.read(namings.counts, who.project)
    return {"eventNames": sorted(NAMES.get(name, name) for name in found)}


@router.get("/events/stats")
async def get_stats(here: Core, who: Owner) -> Any:
    """How often each event happened in the last while."""
    found = await here.store.read(namings.counts, who.project)
    stats = [{"name": NAMES.get(name, name), "count": count} for name, count in sorted(found.items(), key=lambda pair: -pair[1])]
    return {"stats": stats, "total": sum(found.values())}


@router.get("/events/contact/{contact_id}")
async def list_of_contact(here: Core, who: Owner, contact_id: str, walk: Walking) -> Any:
    """A page of a contact's events, newest first."""
    contact = await here.store.read(contacts.get, who.project, number(contact_id))
    return await _page(here, who, walk, (), contact.id)


@router.get("/events/{name}/usage")
async def get_usage(here: Core, who: Owner, name: str) -> Any:
    """The segments that ask about an event, and the workflows that begin by it or wait for it."""
    ours = OURS.get(name, name)
    used = await here.store.read(asking, who.project, "activity", ours)
    flows = await here.store.read(listening, who.project, ours)
    return {"eventName": name, "segments": used, "workflows": flows, "canDelete": not used and not flows}


@router.delete("/events/{name}")
async def delete_event(here: Core, who: Owner, name: str) -> Any:
    """Forget all tracked events of a name; 400 for the system's own, and while a segment asks about it or a workflow listens for it."""
    if reserved(name):
        raise Bad("name", f"{name} is an event of the system's own")
    used = await here.store.read(asking, who.project, "activity", name)
    if used:
        raise Bad("name", f"{name} is used by the segment {used[0]['name']}")
    flows = await here.store.read(listening, who.project, name)
    if flows:
        raise Bad("name", f"{name} is used by the workflow {flows[0]['name']}")
    while await here.store.write(namings.forget, who.project, name, lane=JOBS):
        pass
    return {"success": True, "eventName": name}


def listening(conn: Any, project: int, name: str) -> list[dict[str, str]]:
    """The workflows of a project that begin by an event or wait for it."""
    return [{"id": each.public_id, "name": each.name} for each, version in workflows.using(conn, project)
            if each.config.get("event") == name or any(node["config"].get("event") == name for node in version.nodes)]


async def _page(here: Any, who: Any, walk: Any, types: tuple[str, ...], contact: int | None) -> dict[str, Any]:
    before = None if walk.after is None else ids.internal(walk.after, "evt")
    if walk.after is not None and before is None:
        raise Bad("cursor", "cursor is not one that a page gave")
    rows = await here.store.read(_newest, who.project, types, contact, before, walk.limit + 1)
    return walked(rows, walk, 0, lambda event: event.public_id, shown)


def _newest(conn: Any, project: int, types: tuple[str, ...], contact: int | None, before: int | None, limit: int) -> list[Event]:
    return stored.newest(conn, project, types=types, contact_id=contact, before=before, limit=limit)


def shown(event: Event) -> dict[str, Any]:
    tracked = event.data.get("data")
    contact = None if event.contact_id is None else ids.public("ct", event.contact_id)
    email = None if event.message_id is None else ids.public("em", event.message_id)
    return {"id": event.public_id, "name": NAMES.get(event.type, event.type), "contactId": contact, "emailId": email,
            "data": tracked if isinstance(tracked, dict) else event.data, "createdAt": iso(event.at)}
