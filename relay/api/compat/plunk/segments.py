"""/segments in the Plunk dialect: conditions of nested groups, and lists that are kept by address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from relay.api.compat.plunk.campaigns import unused
from relay.api.compat.plunk.contacts import shown as contact_shown
from relay.api.compat.plunk.contacts import upserted
from relay.api.compat.plunk.data import Data
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.paging import Paging, paged
from relay.api.contacts import by, done
from relay.api.core import Core, Input, Json, Owner, Relay, known, resource
from relay.api.segments import COUNTING, chosen
from relay.audience import removing
from relay.audience import segments as acts
from relay.audience.contacts import By, Changed
from relay.audience.grammars import read
from relay.audience.membership import Membership
from relay.clock import iso
from relay.errors import Invalid
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import growth, memberships, segments
from relay.store.audience.contacts import Filter
from relay.store.audience.segments import Segment
from relay.store.pages import Page

router = resource("Segments")

MEMBERS = 500  # addresses of one request
SLICE = 100  # contacts made in one transaction
ALL = 1_000  # segments of an answer, which is not paged

Condition = dict[str, Any]


class SegmentInput(Input):
    """A DYNAMIC segment has a condition, a STATIC one members."""

    name: str = Field(min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)
    type: Literal["DYNAMIC", "STATIC"] = "DYNAMIC"
    condition: Condition | None = None
    track_membership: bool = False


class SegmentChange(Input):
    """What to change; what is absent stays, the type always does."""

    name: str | None = Field(None, min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)
    condition: Condition | None = None
    track_membership: bool | None = None


class MembersInput(Input):
    """Contacts by address, in any letter case. With `createMissing` who is no contact becomes one."""

    emails: list[str] = Field(min_length=1, max_length=MEMBERS)
    create_missing: bool = False
    subscribed: bool | None = None


@router.post("/segments", status_code=201)
async def create_segment(here: Core, who: Owner, given: SegmentInput) -> Any:
    """Create a segment."""
    if given.type == "DYNAMIC" and given.condition is None:
        raise Bad("condition", "condition is required for a DYNAMIC segment")
    if given.type == "STATIC" and given.condition is not None:
        raise Bad("condition", "a STATIC segment has no condition")
    now = here.clock.now()
    made = Segment(here.maker.next(), who.project, given.name, given.description or "", _grouped(given.condition), None, given.track_membership, now, now)
    return await _shown(here, await _written(here, acts.create, made))


@router.get("/segments")
async def list_segments(here: Core, who: Owner) -> Any:
    """All segments, newest first, each with the number of its members: where counting them all would take long, as it was when a day last began."""
    rows: list[Segment] = []
    page = Page(1, 100)
    while len(rows) < ALL:
        found = await here.store.read(segments.paged_list, who.project, page)
        rows += found.rows
        if found.last is None:
            break
        page = Page(page.number + 1, 100, found.last)
    counts = await _counts(here, who, rows)
    return Json([shown(each, counts[each.id]) for each in rows])


async def _counts(here: Relay, who: Principal, rows: list[Segment]) -> dict[int, int]:
    """Members of each segment; a list of very many contacts is counted once a minute, and all of them together for COUNTING seconds."""
    found = await here.store.read(growth.latest, [each.id for each in rows])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(COUNTING):
            for each in rows:
                some = await here.store.read(segments.paged, who.project, Page(1, 1), Filter(), each.id, here.clock.now(), read)
                found[each.id] = some.total
    return {each.id: found.get(each.id, 0) for each in rows}


@router.get("/segments/{segment_id}")
async def get_segment(here: Core, who: Owner, segment_id: str) -> Any:
    """One segment."""
    return await _shown(here, await _found(here, who, segment_id))


@router.patch("/segments/{segment_id}")
async def change_segment(here: Core, who: Owner, segment_id: str, given: SegmentChange) -> Any:
    """Change a segment; a new condition sets new memberships of which no event tells."""
    old = await _found(here, who, segment_id)
    changes: dict[str, Any] = {"updated_at": here.clock.now()}
    for name, column in (("name", "name"), ("description", "description"), ("track_membership", "tracked")):
        if getattr(given, name) is not None:
            changes[column] = getattr(given, name)
    if given.condition is not None:
        if old.rules is None:
            raise Bad("condition", "a STATIC segment has no condition")
        changes["rules"] = _grouped(given.condition)
    return await _shown(here, await _written(here, acts.change, who.project, old.id, changes))


@router.delete("/segments/{segment_id}", status_code=204)
async def delete_segment(here: Core, who: Owner, segment_id: str) -> Response:
    """Delete a segment; its contacts stay. Not while a campaign that has not ended is for it."""
    await unused(here, who, _id(segment_id))
    await removing.segment(here.store, who.project, _id(segment_id), here.clock.now())
    return Response(status_code=204)


@router.get("/segments/{segment_id}/contacts")
async def list_members(here: Core, who: Owner, segment_id: str, page: Paging) -> Any:
    """The contacts that are in it now, newest first."""
    found = await _found(here, who, segment_id)
    members = await here.store.read(segments.paged, who.project, page, Filter(), found.id, here.clock.now(), read)
    return paged(members, page, contact_shown)


@router.post("/segments/{segment_id}/members")
async def add_members(here: Core, who: Owner, request: Request, segment_id: str, given: MembersInput) -> Any:
    """Put contacts on the list of a STATIC segment."""
    segment = await _static(here, who, segment_id)
    numbers, missing = await here.store.read(chosen, who.project, [], given.emails)
    created: list[int] = []
    if given.create_missing:
        one = by(here, who, request)
        for start in range(0, len(missing), SLICE):
            made = await here.store.write(_made, missing[start:start + SLICE], given.subscribed, one)
            created += [each.contact.id for each in made if each.new]
            numbers += [each.contact.id for each in made]
            done(here, tuple(number for each in made for number in each.stopped))
        missing = []
    added = await here.store.write(acts.put, who.project, segment.id, list(dict.fromkeys(numbers)), here.clock.now())
    here.occurred()
    return {"added": added, "created": len(created), "notFound": missing}


def _made(conn: Any, emails: list[str], subscribed: bool | None, one: By) -> list[Changed]:
    return [upserted(conn, email, Data({}, {}), subscribed, True, one) for email in emails]


@router.delete("/segments/{segment_id}/members")
async def remove_members(here: Core, who: Owner, segment_id: str, given: MembersInput) -> Any:
    """Take contacts off the list of a STATIC segment."""
    segment = await _static(here, who, segment_id)
    numbers, _ = await here.store.read(chosen, who.project, [], given.emails)
    removed = await here.store.write(acts.take, who.project, segment.id, numbers, here.clock.now())
    here.occurred()
    return {"removed": removed}


@router.post("/segments/{segment_id}/compute")
async def compute_segment(here: Core, who: Owner, segment_id: str) -> Any:
    """Look at every contact now: who came and who left since the last look, each of them an event. Needs trackMembership."""
    segment = await _found(here, who, segment_id)
    if not segment.tracked:
        raise Bad("trackMembership", "trackMembership is off for this segment")
    moved = {"added": await _count(here, memberships.entering, segment), "removed": await _count(here, memberships.leaving, segment)}
    await Membership(here.store, here.clock.now, here.occurred).walk(segment)
    return {**moved, "total": await here.store.read(segments.counted, segment, here.clock.now(), read)}


async def _count(here: Relay, find: Any, segment: Segment) -> int:
    last = total = 0
    while found := await here.store.read(find, segment, last, here.clock.now(), read):
        last, total = found[-1], total + len(found)
    return total


@router.post("/segments/{segment_id}/refresh")
async def refresh_segment(here: Core, who: Owner, segment_id: str) -> Any:
    """Count its members."""
    segment = await _found(here, who, segment_id)
    return {"memberCount": await here.store.read(segments.counted, segment, here.clock.now(), read)}


def _grouped(condition: Condition | None) -> Condition | None:
    """Nested groups, and none of the other grammars; raises Bad."""
    if condition is None:
        return None
    if "groups" not in condition:
        raise Bad("condition", "condition is {logic, groups}")
    try:
        read(condition)
    except Invalid as error:
        raise Bad(error.field, error.text) from None
    return condition


async def _written(here: Relay, act: Any, *args: Any) -> Segment:
    """What a write gives; a condition that asks about its own segment, or about one that is not there, is a 400 here."""
    try:
        return await here.store.write(act, *args)
    except Invalid as error:
        raise Bad(error.field, error.text) from None


async def _static(here: Relay, who: Principal, segment_id: str) -> Segment:
    segment = await _found(here, who, segment_id)
    if segment.rules is not None:
        raise Bad("type", "the members of a DYNAMIC segment follow from its condition")
    return segment


async def _found(here: Relay, who: Principal, segment_id: str) -> Segment:
    return await here.store.read(segments.get, who.project, _id(segment_id))


def _id(segment_id: str) -> int:
    return known("seg", segment_id, "Segment")


async def _shown(here: Relay, each: Segment) -> dict[str, Any]:
    return shown(each, await here.store.read(segments.counted, each, here.clock.now(), read))


def shown(each: Segment, count: int) -> dict[str, Any]:
    condition: Mapping[str, Any] | None = each.rules
    return {"id": each.public_id, "name": each.name, "description": each.description or None, "type": "STATIC" if each.rules is None else "DYNAMIC",
            "condition": condition, "trackMembership": each.tracked, "memberCount": count, "projectId": ids.public("prj", each.project_id),
            "createdAt": iso(each.created_at), "updatedAt": iso(each.updated_at)}
