"""/segments: saved questions about contacts, and lists of them kept by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from relay.api.contacts import brief, internal, number
from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, resource
from relay.audience import removing, values
from relay.audience import segments as acts
from relay.audience.grammars import PLAIN, read
from relay.audience.words import Names, phrase
from relay.clock import iso
from relay.errors import Invalid, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import audiences, contacts, names, segments
from relay.store.audience.contacts import Filter
from relay.store.audience.rules import belongings
from relay.store.audience.segments import Segment
from relay.store.pages import Page

router = resource("Segments")

MEMBERS = 1_000  # contacts of one request that adds or removes them
COUNTING = 5.0  # seconds for the numbers of members in a list of segments; the next request goes on where this one was
NOBODY = "None of these contacts exists"
FIRST = 100  # contacts that a segment shows with itself


RULES = f"""A list of `{{field, operator, value}}` that must all hold, or `{{operator: and|or, conditions: [...]}}`, nested, or Plunk's `{{logic, groups}}`.

Fields: email, first_name, last_name, tags, subscribed, unsubscribed, suppressed, created_at, updated_at, last_active, engagement_segment (active, at_risk,
dormant); segment, audience, topic (equals an id); what people did, `event.NAME` and `email.opened`, clicked, delivered, bounced, complained, sent (is_set,
in_last_days, or how often: a number with `window_days`, 30); emails_opened, emails_clicked and so on, the same counted; `properties.NAME`. Any other name is a
property.

Operators: {', '.join(PLAIN)}. A date is 2026-03-23, or a time with its zone."""
EXAMPLES: list[Any] = [
    [{"field": "plan", "operator": "equals", "value": "trial"}, {"field": "event.signed_up", "operator": "in_last_days", "value": 14}],
    {"operator": "or", "conditions": [{"field": "tags", "operator": "contains", "value": "vip"},
                                      {"field": "emails_clicked", "operator": "greater_than", "value": 2, "window_days": 90}]},
]


class SegmentInput(Input):
    """A segment with `rules` asks anew each time; one without is a list that is kept by hand."""

    name: str = Field(min_length=1, max_length=128)
    description: str = Field("", max_length=500)
    type: Literal["dynamic", "static"] | None = None
    rules: Any = Field(None, description=RULES, examples=EXAMPLES)
    audience_id: str | None = None
    track_membership: bool = False


class SegmentChange(Input):
    """What is given changes; `rules` null makes a list of it."""

    name: str | None = Field(None, min_length=1, max_length=128)
    description: str | None = Field(None, max_length=500)
    rules: Any = Field(None, description=RULES, examples=EXAMPLES)
    audience_id: str | None = None
    track_membership: bool | None = None


class RulesInput(Input):
    rules: Any = Field(description=RULES, examples=EXAMPLES)
    audience_id: str | None = None


class MembersInput(Input):
    """Contacts by id or by address."""

    contact_ids: list[str] = Field(default_factory=list, max_length=MEMBERS)
    emails: list[str] = Field(default_factory=list, max_length=MEMBERS)


@router.post("/segments", status_code=201)
async def create_segment(here: Core, who: Owner, given: SegmentInput) -> Any:
    """Create a segment."""
    if (given.type == "dynamic" and given.rules is None) or (given.type == "static" and given.rules is not None):
        raise Invalid("rules", "a dynamic segment has rules, a static one has none")
    now = here.clock.now()
    made = Segment(here.maker.next(), who.project, given.name, given.description, given.rules, await _audience(here, who, given.audience_id),
                   given.track_membership, now, now)
    return await _shown(here, await here.store.write(acts.create, made))


@router.get("/segments")
async def list_segments(here: Core, who: Owner, page: Paging, audience_id: str | None = None) -> Any:
    """List segments, newest first, each with the number of its members: up to a minute old for one of very many contacts, null when that would take long."""
    audience = known("aud", audience_id, "Audience") if audience_id else None
    found = await here.store.read(segments.paged_list, who.project, page, audience)
    counts: dict[int, int] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(COUNTING):
            for each in found.rows:
                some = await here.store.read(segments.paged, who.project, Page(1, 1), Filter(), each.id, here.clock.now(), read)
                counts[each.id] = some.total
    known_as = await _names(here, who.project, *found.rows)
    return listed("segments", found, page, lambda each: shown(each, counts.get(each.id), known_as))


async def uncounted(here: Relay, who: Principal, page: Page) -> dict[str, Any]:
    """As list_segments, without the numbers of members, which may take long."""
    found = await here.store.read(segments.paged_list, who.project, page, None)
    known_as = await _names(here, who.project, *found.rows)
    return listed("segments", found, page, lambda each: shown(each, None, known_as))


async def described(here: Relay, who: Principal, segment_id: str) -> dict[str, Any]:
    """A segment without the number of its members, which may take long."""
    found = await here.store.read(segments.get, who.project, _id(segment_id))
    return shown(found, None, await _names(here, who.project, found))


@router.post("/segments/preview")
async def preview_segment(here: Core, who: Owner, given: RulesInput) -> Any:
    """How many contacts some rules are true of, and the rules in words."""
    rule = read(given.rules)
    audience = await _audience(here, who, given.audience_id)
    count = await here.store.read(segments.preview, who.project, rule, here.clock.now(), read, audience)
    return {"count": count, "summary": phrase(rule, await here.store.read(names.of, who.project, belongings(rule)))}


@router.get("/segments/{segment_id}")
async def get_segment(here: Core, who: Owner, segment_id: str) -> Any:
    """A segment, with its first hundred members."""
    found = await here.store.read(segments.get, who.project, _id(segment_id))
    some = await here.store.read(segments.members_after, who.project, found.id, 0, FIRST, here.clock.now(), read)
    return {**await _shown(here, found), "contacts": [brief(each) for each in some]}


@router.patch("/segments/{segment_id}")
async def change_segment(here: Core, who: Owner, segment_id: str, given: SegmentChange) -> Any:
    """Change a segment."""
    changes: dict[str, Any] = {"updated_at": here.clock.now()}
    for name, column in (("name", "name"), ("description", "description"), ("track_membership", "tracked")):
        if getattr(given, name) is not None:
            changes[column] = getattr(given, name)
    if "rules" in given.model_fields_set:
        changes["rules"] = given.rules
    if "audience_id" in given.model_fields_set:
        changes["audience_id"] = await _audience(here, who, given.audience_id)
    return await _shown(here, await here.store.write(acts.change, who.project, _id(segment_id), changes))


@router.delete("/segments/{segment_id}")
async def delete_segment(here: Core, who: Owner, segment_id: str) -> Any:
    """Delete a segment; its contacts stay."""
    await removing.segment(here.store, who.project, _id(segment_id), here.clock.now())
    return {"deleted": True}


@router.get("/segments/{segment_id}/members")
async def list_members(
    here: Core, who: Owner, page: Paging, segment_id: str, search: Annotated[str | None, Query(max_length=200)] = None,
) -> Any:
    """The contacts that are in a segment now, newest first."""
    found = await here.store.read(segments.get, who.project, _id(segment_id))
    members = await here.store.read(segments.paged, who.project, page, Filter(search), found.id, here.clock.now(), read)
    return listed("contacts", members, page, brief)


@router.post("/segments/{segment_id}/contacts")
async def add_members(here: Core, who: Owner, segment_id: str, given: MembersInput) -> Any:
    """Put contacts on a static segment's list."""
    return await _list(here, who, segment_id, given, acts.put, "added")


@router.post("/segments/{segment_id}/members")
async def add_by_email(here: Core, who: Owner, segment_id: str, given: MembersInput) -> Any:
    """The same, by address."""
    return await _list(here, who, segment_id, given, acts.put, "added")


@router.delete("/segments/{segment_id}/members")
async def remove_by_email(here: Core, who: Owner, segment_id: str, given: MembersInput) -> Any:
    """Take contacts off a static segment's list."""
    return await _list(here, who, segment_id, given, acts.take, "removed")


@router.delete("/segments/{segment_id}/contacts/{contact_id}")
async def remove_member(here: Core, who: Owner, segment_id: str, contact_id: str) -> Any:
    """Take a contact off a static segment's list."""
    done = await here.store.write(acts.take, who.project, _id(segment_id), [number(contact_id)], here.clock.now())
    if not done:
        raise NotFound("Contact not found in this segment")
    here.occurred()
    return {"deleted": True}


@router.get("/segments/{segment_id}/growth")
async def get_growth(here: Core, who: Owner, segment_id: str, days: Annotated[int, Query(ge=1, le=365)] = 30) -> Any:
    """How many members a segment had at the end of each day; one that is neither static nor tracked is counted once a day."""
    daily = await here.store.read(segments.daily, who.project, _id(segment_id), days, here.clock.now())
    if daily is None:
        return {"available": False, "daily": []}
    return {"available": True, "daily": [{"date": (iso(at) or "")[:10], "members": members} for at, members in daily]}


async def _list(here: Relay, who: Principal, segment_id: str, given: MembersInput, act: Any, word: str) -> dict[str, Any]:
    numbers, missing = await members(here, who, given)
    if not numbers and act is acts.put:
        raise NotFound(NOBODY)
    done = await here.store.write(act, who.project, _id(segment_id), numbers, here.clock.now())
    here.occurred()
    return {word: done, "not_found": missing}


async def members(here: Relay, who: Principal, given: MembersInput) -> tuple[list[int], list[str]]:
    """The ids of the contacts that there are, and the ids and addresses, as written, of nobody; raises Invalid when none is named."""
    if not (given.contact_ids or given.emails):
        raise Invalid("contact_ids", "name contacts by contact_ids or emails")
    wanted = {text: internal(text) for text in given.contact_ids}
    found, missing = await here.store.read(chosen, who.project, [each for each in wanted.values() if each is not None], given.emails)
    return found, [*(text for text, each in wanted.items() if each not in found), *missing]


def chosen(conn: Any, project: int, given: Sequence[int], emails: Sequence[str]) -> tuple[list[int], list[str]]:
    """The ids of the contacts that there are, and the addresses, as written, that nobody has."""
    keys = {email: values.key(email, "emails") for email in emails}
    size = contacts.KEYS
    unique, wanted = list(set(keys.values())), list(dict.fromkeys(given))
    found = {key: each.id for start in range(0, len(unique), size) for key, each in contacts.by_keys(conn, project, unique[start:start + size]).items()}
    by_number = [each.id for start in range(0, len(wanted), size) for each in contacts.by_ids(conn, project, wanted[start:start + size])]
    return list(dict.fromkeys([*by_number, *found.values()])), [email for email in emails if keys[email] not in found]


def _id(segment_id: str) -> int:
    return known("seg", segment_id, "Segment")


async def _audience(here: Relay, who: Principal, audience_id: str | None) -> int | None:
    if not audience_id:
        return None
    found = ids.internal(audience_id, "aud")
    if found is None:
        raise Invalid("audience_id", "audience_id is not the id of an audience")
    return (await here.store.read(audiences.get, who.project, found)).id


async def _shown(here: Relay, segment: Segment) -> dict[str, Any]:
    count = await here.store.read(segments.counted, segment, here.clock.now(), read)
    return shown(segment, count, await _names(here, segment.project_id, segment))


async def _names(here: Relay, project: int, *found: Segment) -> Names:
    """What the rules of these segments ask about, by name."""
    wanted = {each for segment in found if segment.rules is not None for each in belongings(read(segment.rules))}
    return await here.store.read(names.of, project, wanted) if wanted else {}


def shown(each: Segment, count: int | None, known_as: Names) -> dict[str, Any]:
    return {"id": each.public_id, "name": each.name, "description": each.description, "type": "static" if each.rules is None else "dynamic",
            "rules": each.rules, "summary": "" if each.rules is None else phrase(read(each.rules), known_as),
            "audience_id": None if each.audience_id is None else ids.public("aud", each.audience_id), "track_membership": each.tracked,
            "contact_count": count, "created_at": iso(each.created_at), "updated_at": iso(each.updated_at)}
