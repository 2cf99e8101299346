"""/contacts: the people a project writes to."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import AliasChoices, Field

from relay.api.core import Core, Input, Json, Owner, Paging, Relay, known, listed, resource
from relay.audience import contacts as acts
from relay.audience import values
from relay.audience.contacts import By, Changed
from relay.audience.grammars import read
from relay.clock import iso
from relay.consent import Act
from relay.errors import Invalid, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import audiences, contacts, history, segments, topics
from relay.store.audience.contacts import Contact, Filter
from relay.store.audience.history import Entry
from relay.store.audience.rules import DAY
from relay.store.audience.topics import Subscription
from relay.store.suppressions import said

router = resource("Contacts")

Engagement = Literal["active", "at_risk", "dormant"]

_PROPERTIES = AliasChoices("properties", "customFields", "custom_fields", "data")


class ContactInput(Input):
    """What a contact holds. In a change, what is absent stays; properties are merged, and one that is null goes."""

    email: str | None = Field(None, max_length=320)
    first_name: str | None = Field(None, validation_alias=AliasChoices("first_name", "firstName"))
    last_name: str | None = Field(None, validation_alias=AliasChoices("last_name", "lastName"))
    properties: dict[str, Any] | None = Field(None, validation_alias=_PROPERTIES)
    tags: list[str] | None = None
    add_tags: list[str] | None = Field(None, validation_alias=AliasChoices("add_tags", "addTags"))
    remove_tags: list[str] | None = Field(None, validation_alias=AliasChoices("remove_tags", "removeTags"))
    unsubscribed: bool | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were there; a null that means nothing counts as absent."""
        named = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in named.items() if value is not None or name in ("first_name", "last_name")}


def by(here: Relay, who: Principal, request: Request, source: str = "api") -> By:
    """The one who acts through this request, for history and evidence."""
    client = request.client.host if request.client else ""
    act = Act(source, client, request.headers.get("user-agent", ""), here.clock.now(), {"key": who.name} if who.name else {})
    return By(who.project, act, here.maker, here.services.tokens.secrets)


def done(here: Relay, stopped: tuple[int, ...]) -> None:
    """Tell who should know that something changed: webhooks, and the queue whose rows are gone."""
    here.occurred()
    if stopped and here.control.runner is not None:
        here.control.runner.forget(stopped)


def changed(here: Relay, result: Changed) -> dict[str, Any]:
    done(here, result.stopped)
    return shown(here, result.contact)


def number(contact_id: str) -> int:
    """The number of ct_... or con_...; raises NotFound."""
    return known("con" if contact_id.startswith("con_") else "ct", contact_id, "Contact")


def internal(contact_id: str) -> int | None:
    """The same, None where it cannot be the id of a contact."""
    return ids.internal(contact_id, "con" if contact_id.startswith("con_") else "ct")


@router.post("/contacts", status_code=201)
async def create_contact(here: Core, who: Owner, request: Request, given: ContactInput) -> Any:
    """Create a contact: its address must be new in the project."""
    return changed(here, await here.store.write(acts.create, given.given(), by(here, who, request)))


@router.get("/contacts")
async def list_contacts(
    here: Core, who: Owner, page: Paging,
    search: Annotated[str | None, Query(max_length=200, description="Part of the address or of the names")] = None,
    segment_id: Annotated[str | None, Query(description="Members of this segment; one that does not exist is ignored")] = None,
    audience_id: Annotated[str | None, Query(description="Members of this audience")] = None,
    tag: Annotated[str | None, Query(min_length=1, max_length=values.TAG, description="Those with this tag, in exactly this case")] = None,
    unsubscribed: bool | None = None,
    engagement_segment: Annotated[Engagement | None, Query(description="Active in the last 30 days, in the last 90 (at_risk), longer ago or never")] = None,
) -> Any:
    """List contacts, newest first."""
    wanted = Filter(search, unsubscribed, known("aud", audience_id, "Audience") if audience_id else None)
    asked = (("engagement_segment", "equals", engagement_segment), ("tags", "contains", tag))
    rules = [{"field": field, "operator": operator, "value": value} for field, operator, value in asked if value]
    found = await here.store.read(segments.paged, who.project, page, wanted, ids.internal(segment_id or "", "seg"), here.clock.now(), read, rules or None)
    return listed("contacts", found, page, brief)


@router.get("/contacts/by-email/{email}")
async def get_by_email(here: Core, who: Owner, email: str) -> Any:
    """A contact by its address, in any spelling."""
    return shown(here, await _found(here, who, email))


@router.put("/contacts/by-email/{email}")
async def upsert_contact(here: Core, who: Owner, request: Request, email: str, given: ContactInput) -> Any:
    """Create the contact of this address, or change it: what an app calls to keep contacts in step."""
    wanted = given.given()
    if values.key(wanted.setdefault("email", email)) != values.key(email):
        raise Invalid("email", "email is not the address in the path")
    result = await here.store.write(acts.upsert, wanted, by(here, who, request))
    return Json(changed(here, result), 201 if result.new else 200)


@router.get("/contacts/{contact_id}")
async def get_contact(here: Core, who: Owner, contact_id: str) -> Any:
    """A contact with its properties and subscription status."""
    return shown(here, await here.store.read(contacts.get, who.project, number(contact_id)))


@router.patch("/contacts/{contact_id}")
async def change_contact(here: Core, who: Owner, request: Request, contact_id: str, given: ContactInput) -> Any:
    """Change what is given; properties are merged."""
    return changed(here, await here.store.write(acts.change, number(contact_id), given.given(), by(here, who, request)))


@router.delete("/contacts/{contact_id}")
async def delete_contact(here: Core, who: Owner, request: Request, contact_id: str) -> Any:
    """Delete a contact for ever, with its history and memberships; that it had opted out is remembered by a hash of its address."""
    if not await here.store.write(acts.erase, [number(contact_id)], by(here, who, request)):
        raise NotFound("Contact not found")
    here.occurred()
    return {"deleted": True}


@router.post("/contacts/{contact_id}/unsubscribe")
async def unsubscribe_contact(here: Core, who: Owner, request: Request, contact_id: str) -> Any:
    """Unsubscribe a contact from marketing mail; a second time changes nothing."""
    result = await here.store.write(acts.leave, number(contact_id), by(here, who, request))
    done(here, result.stopped)
    contact = result.contact
    return {"id": contact.public_id, "email": contact.email, "unsubscribed": contact.unsubscribed, "unsubscribed_at": iso(contact.unsubscribed_at)}


@router.get("/contacts/{contact_id}/history")
async def get_history(here: Core, who: Owner, contact_id: str, page: Paging) -> Any:
    """What the contact agreed to and took back: when, by which way, and what shows it; newest first."""
    contact = await here.store.read(contacts.get, who.project, number(contact_id))
    return listed("history", await here.store.read(history.paged, contact.id, page), page, _entry)


@router.get("/contacts/{contact_id}/audiences")
async def get_audiences(here: Core, who: Owner, contact_id: str) -> Any:
    """The audiences that a contact is in."""
    contact = await here.store.read(contacts.get, who.project, number(contact_id))
    found = await here.store.read(audiences.of_contact, contact.id)
    return {"audiences": [{"id": each.public_id, "name": each.name} for each in found]}


@router.get("/contacts/{contact_id}/topics")
async def get_topics(here: Core, who: Owner, contact_id: str) -> Any:
    """Every topic, and whether the contact gets its mail."""
    contact = await here.store.read(contacts.get, who.project, number(contact_id))
    return {"subscriptions": [subscription(each) for each in await here.store.read(topics.of_contact, contact)]}


async def _found(here: Relay, who: Principal, email: str) -> Contact:
    contact = await here.store.read(contacts.by_key, who.project, values.key(email))
    if contact is None:
        raise NotFound("Contact not found")
    return contact


def brief(contact: Contact) -> dict[str, Any]:
    """A contact in a list."""
    return {"id": contact.public_id, "email": contact.email, "first_name": contact.first_name, "last_name": contact.last_name,
            "unsubscribed": contact.unsubscribed, "created_at": iso(contact.created_at)}


def shown(here: Relay, contact: Contact) -> dict[str, Any]:
    """A contact; its engagement is that of this moment, as segments ask it (relay.audience.grammars)."""
    quiet = (here.clock.now() - contact.last_active_at) / DAY if contact.last_active_at else math.inf
    level: Engagement = "active" if quiet <= 30 else "at_risk" if quiet <= 90 else "dormant"
    return {"id": contact.public_id, "email": contact.email, "first_name": contact.first_name, "last_name": contact.last_name,
            "properties": contact.properties, "tags": contact.tags, "unsubscribed": contact.unsubscribed, "unsubscribed_at": iso(contact.unsubscribed_at),
            "engagement_segment": level, "last_active_at": iso(contact.last_active_at), "created_at": iso(contact.created_at),
            "updated_at": iso(contact.updated_at)}


def subscription(each: Subscription) -> dict[str, Any]:
    return {"topic_id": each.topic.public_id, "contact_id": ids.public("ct", each.contact_id), "subscribed": each.subscribed,
            "updated_at": iso(each.updated_at), "topic": {"id": each.topic.public_id, "name": each.topic.name}}


def _entry(entry: Entry) -> dict[str, Any]:
    evidence = {name: value for name, value in entry.evidence.items() if name != "source"}
    return {"type": entry.act, "source": entry.source, "at": iso(entry.at), "evidence": said(evidence)}
