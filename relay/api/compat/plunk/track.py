"""POST /v1/track: something that a person did. Their contact is made if there is none; segments, webhooks and workflows know the event by its name."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request
from pydantic import Field

from relay import events
from relay.api.compat.plunk import data
from relay.api.compat.plunk.contacts import upserted
from relay.api.compat.plunk.data import Data
from relay.api.compat.plunk.errors import Reserved
from relay.api.compat.plunk.once import once
from relay.api.contacts import by, done
from relay.api.core import Core, Input, Relay, Sender, resource
from relay.audience import values
from relay.audience.contacts import By, Changed
from relay.clock import iso
from relay.errors import Invalid
from relay.mail.message import Principal
from relay.store import events as stored
from relay.store.audience import contacts
from relay.store.events import Event

router = resource("Events")


class TrackInput(Input):
    """An event. Without `subscribed` a new contact is subscribed, and one that is there stays as it is."""

    event: str = Field(min_length=1, max_length=events.LONGEST)
    email: str = Field(max_length=320)
    subscribed: bool | None = None
    preserve_existing_subscription: bool = False
    data: dict[str, Any] | None = None


@router.post("/v1/track")
async def track(here: Core, who: Sender, request: Request, given: TrackInput) -> Any:
    """Track an event."""
    return await _tracked(here, who, request, given, given.event)


@router.post("/v1", include_in_schema=False)
async def track_as_of_old(here: Core, who: Sender, request: Request, given: TrackInput) -> Any:
    """As the first version had it: names in lower case, with hyphens for spaces."""
    return await _tracked(here, who, request, given, given.event.lower().replace(" ", "-"))


async def _tracked(here: Relay, who: Principal, request: Request, given: TrackInput, name: str) -> dict[str, Any]:
    said = data.read(given.data)
    if len(orjson.dumps(said.all)) > values.SIZE:
        raise Invalid("data", f"data has at most {values.SIZE} octets")
    async with once(here, who, request) as state:
        result, number, at = await here.store.write(happened, _named(name), given, said, by(here, who, request, "event"))
        state.kept = True
    done(here, result.stopped)
    told = {"contact": result.contact.public_id, "event": Event(0, "", 0.0, id=number).public_id if number else name, "timestamp": iso(at)}
    return {"success": True, "data": told, **told}


def _named(name: str) -> str:
    if events.reserved(name):
        raise Reserved("event", f"{name} is an event of the system's own")
    return events.own(name)


def happened(conn: Any, name: str, given: TrackInput, said: Data, one: By) -> tuple[Changed, int, float]:
    """The contact and the number of the event, which is in the log from now on."""
    there = contacts.by_key(conn, one.project, values.key(given.email)) is not None
    subscribed = None if there and given.preserve_existing_subscription else given.subscribed
    result = upserted(conn, given.email, said, subscribed, True, one)
    event = Event(one.project, name, one.act.at, contact_id=result.contact.id, data={"email": result.contact.email, "data": said.all})
    stored.append(conn, [event])
    newest = stored.newest(conn, one.project, contact_id=result.contact.id, limit=1)
    return result, newest[0].id if newest else 0, one.act.at
