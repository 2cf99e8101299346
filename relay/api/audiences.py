"""/audiences: named groups of contacts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from relay.api.contacts import brief, number
from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, resource
from relay.api.segments import NOBODY, MembersInput, members
from relay.audience import audiences as acts
from relay.audience import removing
from relay.clock import iso
from relay.errors import NotFound
from relay.mail.message import Principal
from relay.store.audience import audiences, contacts
from relay.store.audience.audiences import Audience
from relay.store.audience.contacts import Filter
from relay.store.pages import Page

router = resource("Audiences")


class AudienceInput(Input):
    name: str = Field(min_length=1, max_length=128)
    description: str = Field("", max_length=500)


class AudienceChange(Input):
    name: str | None = Field(None, min_length=1, max_length=128)
    description: str | None = Field(None, max_length=500)


@router.post("/audiences", status_code=201)
async def create_audience(here: Core, who: Owner, given: AudienceInput) -> Any:
    """Create an audience; its name must be new in the project."""
    now = here.clock.now()
    return shown(await here.store.write(audiences.add, Audience(here.maker.next(), who.project, given.name, given.description, now, now)), 0)


@router.get("/audiences")
async def list_audiences(here: Core, who: Owner, page: Paging) -> Any:
    """List audiences, newest first, each with the number of its contacts."""
    found = await here.store.read(audiences.paged, who.project, page)
    sizes = {each.id: await here.store.read(audiences.size, each.id) for each in found.rows}
    return listed("audiences", found, page, lambda each: shown(each, sizes[each.id]))


async def uncounted(here: Relay, who: Principal, page: Page) -> dict[str, Any]:
    """As list_audiences, without the numbers of contacts, which may take long."""
    return listed("audiences", await here.store.read(audiences.paged, who.project, page), page, lambda each: shown(each, None))


async def described(here: Relay, who: Principal, audience_id: str) -> dict[str, Any]:
    """An audience without the number of its contacts, which may take long."""
    return shown(await here.store.read(audiences.get, who.project, _id(audience_id)), None)


@router.get("/audiences/{audience_id}")
async def get_audience(here: Core, who: Owner, audience_id: str) -> Any:
    """One audience."""
    return await _shown(here, await here.store.read(audiences.get, who.project, _id(audience_id)))


@router.patch("/audiences/{audience_id}")
async def change_audience(here: Core, who: Owner, audience_id: str, given: AudienceChange) -> Any:
    """Change name or description."""
    changes = {**given.model_dump(exclude_none=True), "updated_at": here.clock.now()}
    return await _shown(here, await here.store.write(audiences.change, who.project, _id(audience_id), changes))


@router.delete("/audiences/{audience_id}")
async def delete_audience(here: Core, who: Owner, audience_id: str) -> Any:
    """Delete an audience; its contacts stay."""
    await removing.audience(here.store, who.project, _id(audience_id), here.clock.now())
    return {"deleted": True}


@router.get("/audiences/{audience_id}/contacts")
async def list_members(here: Core, who: Owner, audience_id: str, page: Paging) -> Any:
    """The contacts of an audience, newest first."""
    found = await here.store.read(audiences.get, who.project, _id(audience_id))
    return listed("contacts", await here.store.read(contacts.paged, who.project, page, Filter(audience=found.id)), page, brief)


@router.post("/audiences/{audience_id}/contacts")
async def add_members(here: Core, who: Owner, audience_id: str, given: MembersInput) -> Any:
    """Put contacts into an audience, by id or by address."""
    audience = await here.store.read(audiences.get, who.project, _id(audience_id))
    numbers, missing = await members(here, who, given)
    if not numbers:
        raise NotFound(NOBODY)
    added = await here.store.write(acts.put, audience.id, numbers, here.clock.now())
    here.occurred()
    return {"added": added, "not_found": missing}


@router.delete("/audiences/{audience_id}/contacts/{contact_id}")
async def remove_member(here: Core, who: Owner, audience_id: str, contact_id: str) -> Any:
    """Take a contact out of an audience."""
    audience = await here.store.read(audiences.get, who.project, _id(audience_id))
    if not await here.store.write(acts.take, audience.id, [number(contact_id)], here.clock.now()):
        raise NotFound("Contact not found in this audience")
    here.occurred()
    return {"deleted": True}


def _id(audience_id: str) -> int:
    return known("aud", audience_id, "Audience")


async def _shown(here: Relay, each: Audience) -> dict[str, Any]:
    return shown(each, await here.store.read(audiences.size, each.id))


def shown(each: Audience, size: int | None) -> dict[str, Any]:
    return {"id": each.public_id, "name": each.name, "description": each.description, "contact_count": size, "created_at": iso(each.created_at),
            "updated_at": iso(each.updated_at)}
