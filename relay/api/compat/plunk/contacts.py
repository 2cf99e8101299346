"""/contacts in the Plunk dialect: made or changed by their address, read, looked up, and by their number changed and deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from relay.api.compat.plunk import data
from relay.api.compat.plunk.data import Data
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.paging import Walking, walked
from relay.api.contacts import by, done, number
from relay.api.core import Core, Input, Json, Owner, resource
from relay.audience import contacts as acts
from relay.audience import values
from relay.audience.contacts import By, Changed
from relay.clock import iso
from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.store.audience import contacts, walks
from relay.store.audience.contacts import Contact, Filter

router = resource("Contacts")

LOOKED_UP = 500  # addresses of one lookup


class ContactInput(Input):
    """A person by their address. `data` is merged key by key; null takes a key away."""

    email: str = Field(max_length=320)
    subscribed: bool | None = None
    data: dict[str, Any] | None = None


class ContactChange(Input):
    """What to change; what is absent stays."""

    email: str | None = Field(None, max_length=320)
    subscribed: bool | None = None
    data: dict[str, Any] | None = None


class LookupInput(Input):
    emails: list[str] = Field(max_length=LOOKED_UP)


def upserted(conn: Any, email: str, given: Data, subscribed: bool | None, at_first: bool, one: By) -> Changed:
    """The contact of this address, changed or made.

    subscribed  None leaves it as it is
    at_first    what a new contact is, when nothing is said
    """
    wanted: dict[str, Any] = {"properties": given.kept} if given.kept else {}
    found = contacts.by_key(conn, one.project, values.key(email))
    if found is None:
        with suppress(Conflict):  # another node may have made it this very moment
            return acts.create(conn, {**wanted, "email": email.strip().lower(), "unsubscribed": not (at_first if subscribed is None else subscribed)}, one)
        found = contacts.by_key(conn, one.project, values.key(email))
    if found is None:
        raise NotFound("Contact not found")
    if subscribed is not None:
        wanted["unsubscribed"] = not subscribed
    return acts.change(conn, found.id, wanted, one) if wanted else Changed(found)


@router.post("/contacts", status_code=201)
async def upsert_contact(here: Core, who: Owner, request: Request, given: ContactInput) -> Any:
    """Create the contact of this address, subscribed unless said otherwise, or change it."""
    result = await here.store.write(upserted, given.email, data.read(given.data), given.subscribed, True, by(here, who, request))
    done(here, result.stopped)
    return Json({**shown(result.contact), "_meta": {"isNew": result.new, "isUpdate": not result.new}}, 201 if result.new else 200)


@router.get("/contacts")
async def list_contacts(
    here: Core, who: Owner, walk: Walking,
    search: Annotated[str | None, Query(max_length=200, description="Part of the address")] = None,
    subscribed: bool | None = None,
    sort: Annotated[Literal["email", "createdAt"], Query()] = "createdAt",
    direction: Annotated[Literal["asc", "desc"], Query(alias="dir")] = "desc",
) -> Any:
    """A page of contacts; the total is counted on the first one."""
    wanted = Filter(search, None if subscribed is None else not subscribed)
    by_email = sort == "email"
    after: int | str | None = walk.after
    if walk.after is not None and not by_email:
        after = ids.internal(walk.after, "ct")
        if after is None:
            raise Bad("cursor", "cursor is of a list that was sorted otherwise")
    rows = await here.store.read(walks.walked, who.project, wanted, after, direction == "desc", walk.limit + 1, by_email)
    total = 0 if walk.after is not None else await here.store.read(contacts.count, who.project, wanted)
    return walked(rows, walk, total, lambda contact: contact.key if by_email else contact.public_id, shown)


@router.post("/contacts/lookup")
async def look_up(here: Core, who: Owner, given: LookupInput) -> Any:
    """Which of these addresses are contacts; each as it was spelled."""
    keys = {}
    for email in given.emails:
        try:
            keys[email] = values.key(email, "emails")
        except Invalid:  # what is no address is nobody's
            keys[email] = ""
    there = await here.store.read(contacts.by_keys, who.project, sorted(set(keys.values())))
    found = [email for email in given.emails if keys[email] in there]
    return {"found": found, "notFound": [email for email in given.emails if keys[email] not in there]}


@router.get("/contacts/{contact_id}")
async def get_contact(here: Core, who: Owner, contact_id: str) -> Any:
    """One contact."""
    return shown(await here.store.read(contacts.get, who.project, number(contact_id)))


@router.patch("/contacts/{contact_id}")
async def change_contact(here: Core, who: Owner, request: Request, contact_id: str, given: ContactChange) -> Any:
    """Change address, subscription or data; 409 for an address that another contact has."""
    wanted: dict[str, Any] = {"properties": data.read(given.data).kept} if given.data else {}
    if given.email is not None:
        wanted["email"] = given.email.strip().lower()
    if given.subscribed is not None:
        wanted["unsubscribed"] = not given.subscribed
    result = await here.store.write(acts.change, number(contact_id), wanted, by(here, who, request))
    done(here, result.stopped)
    return shown(result.contact)


@router.delete("/contacts/{contact_id}", status_code=204)
async def delete_contact(here: Core, who: Owner, request: Request, contact_id: str) -> Response:
    """Delete a contact for ever; that it had unsubscribed is remembered by a hash of its address."""
    if not await here.store.write(acts.erase, [number(contact_id)], by(here, who, request)):
        raise NotFound("Contact not found")
    here.occurred()
    return Response(status_code=204)


def shown(contact: Contact) -> dict[str, Any]:
    return {"id": contact.public_id, "email": contact.email, "subscribed": not contact.unsubscribed, "data": contact.properties,
            "createdAt": iso(contact.created_at), "updatedAt": iso(contact.updated_at), "projectId": ids.public("prj", contact.project_id)}
