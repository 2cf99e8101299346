"""/broadcasts: one letter to a segment, an audience, the subscribers of a topic or all contacts, each of them once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query

from relay.api.core import Core, Owner, Paging, Relay, known, listed, resource, whole
from relay.api.mailing import BroadcastChange, BroadcastInput, ResendInput, TestMailInput, WhenInput, columns
from relay.broadcasts import telling
from relay.broadcasts.acts import Acts
from relay.broadcasts.telling import shown
from relay.clock import iso
from relay.errors import Invalid, NotFound
from relay.mail import ids
from relay.store.audience import segments
from relay.store.broadcasts import broadcasts, counts, reach
from relay.store.broadcasts.broadcasts import DRAFT, STATUSES, Broadcast

router = resource("Broadcasts")

NOTHING: dict[str, Any] = {  # what a draft has of which nothing is said
    "name": "", "reply_to": [], "subject": "", "html": None, "text": None, "template_id": None, "segment_id": None, "audience_id": None, "topic_id": None,
    "everyone": False, "rules": None, "per_minute": None, "tracking": {}, "ab_test": None}

Search = Annotated[str, Query(max_length=200, description="Part of the subject or name")]
RowState = Literal["pending", "queued", "delivered", "bounced", "failed", "suppressed", "cancelled", "skipped"]


def number_of(text: str) -> int:
    """The id in a path; raises NotFound."""
    found = ids.internal(text, "brd", "bc", "br")
    if found is None:
        raise NotFound("Broadcast not found")
    return found


def acts(here: Relay) -> Acts:
    return Acts(here.store, here.door, here.clock, here.maker, here.control.runner, here.occurred)


@router.post("/broadcasts", status_code=201)
async def create_broadcast(here: Core, who: Owner, given: BroadcastInput) -> Any:
    """Create a draft; nothing is sent before `/send`."""
    values, given_variants = await columns(here, who, given)
    now = here.clock.now()
    made = Broadcast(id=here.maker.next(), project_id=who.project, status=DRAFT, dialect="native", origin={}, created_at=now, updated_at=now,
                     **{**NOTHING, **values})
    made = await here.store.write(broadcasts.add, made, given_variants or [])
    return await _one(here, made)


@router.get("/broadcasts")
async def list_broadcasts(here: Core, who: Owner, page: Paging, search: Search = "", status: str | None = None) -> Any:
    """List broadcasts, newest first."""
    if status is not None and status not in STATUSES:
        raise Invalid("status", f"status is one of {', '.join(STATUSES)}")
    found = await here.store.read(broadcasts.paged, who.project, page, status, search)
    figures = await here.store.read(counts.of_many, [each.id for each in found.rows])
    return listed("broadcasts", found, page, lambda each: shown(each, counts.whole(figures.get(each.id, {}))))


@router.get("/broadcasts/{broadcast_id}")
async def get_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """One broadcast: what it says, how far it is, what became of its copies."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    return {**await _one(here, found), "html": found.html, "text": found.text}


@router.patch("/broadcasts/{broadcast_id}")
async def change_broadcast(here: Core, who: Owner, broadcast_id: str, given: BroadcastChange) -> Any:
    """Change a draft; `per_minute` also of one that is on its way."""
    values, given_variants = await columns(here, who, given)
    values["updated_at"] = here.clock.now()
    return await _one(here, await here.store.write(broadcasts.change, who.project, number_of(broadcast_id), values, given_variants))


@router.delete("/broadcasts/{broadcast_id}")
async def delete_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """Delete a broadcast that is not on its way, with its ledger; sent mail stays."""
    await acts(here).remove(who, number_of(broadcast_id))
    return {"deleted": True}


@router.post("/broadcasts/{broadcast_id}/send")
async def send_broadcast(here: Core, who: Owner, broadcast_id: str, given: WhenInput | None = None) -> Any:
    """Send a draft now, or at `scheduled_at`. Refused at once with the reason when its first copy would be: domain, template, spam score."""
    number = number_of(broadcast_id)
    found = await here.store.read(broadcasts.get, who.project, number)
    at = given.scheduled_at if given is not None and given.scheduled_at is not None else found.scheduled_at if found.status == DRAFT else None
    return await _one(here, await acts(here).send(who, number, at))


@router.post("/broadcasts/{broadcast_id}/schedule")
async def schedule_broadcast(here: Core, who: Owner, broadcast_id: str, given: WhenInput) -> Any:
    """Send a draft at a time, or move the time of one that is scheduled."""
    if given.scheduled_at is None:
        raise Invalid("scheduled_at", "scheduled_at is required")
    return await _one(here, await acts(here).send(who, number_of(broadcast_id), given.scheduled_at))


@router.post("/broadcasts/{broadcast_id}/pause")
async def pause_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """Nothing more of it leaves until it is resumed."""
    return await _one(here, await acts(here).pause(who, number_of(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/resume")
async def resume_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """Go on with a paused broadcast where it was."""
    return await _one(here, await acts(here).resume(who, number_of(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/cancel")
async def cancel_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """Nobody else gets it."""
    return await _one(here, await acts(here).cancel(who, number_of(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/test")
async def test_broadcast(here: Core, who: Owner, broadcast_id: str, given: TestMailInput) -> Any:
    """One copy to an address, as the contact with it would get it."""
    receipt = await acts(here).test(who, number_of(broadcast_id), given.email, given.variant)
    return {"success": True, "id": receipt.id}


@router.post("/broadcasts/{broadcast_id}/duplicate", status_code=201)
async def duplicate_broadcast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """A new draft that says the same to the same audience."""
    return await _one(here, await acts(here).duplicate(who, number_of(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/resend", status_code=201)
async def resend_broadcast(here: Core, who: Owner, broadcast_id: str, given: ResendInput | None = None) -> Any:
    """A new draft for those who got it and did not open (or click); it is not sent."""
    given = given or ResendInput()
    draft, segment, count = await acts(here).resend(who, number_of(broadcast_id), given.target, given.subject)
    return {"broadcast": await _one(here, draft), "segment": {"id": segment.public_id, "name": segment.name}, "recipient_count": count}


@router.post("/broadcasts/{broadcast_id}/end-ab-test")
async def end_ab_test(here: Core, who: Owner, broadcast_id: str) -> Any:
    """End an A/B test early: who leads has won."""
    return await _one(here, await acts(here).end_test(who, number_of(broadcast_id)))


@router.get("/broadcasts/{broadcast_id}/recipients")
async def list_recipients(
    here: Core, who: Owner, broadcast_id: str, state: RowState | None = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before")] = None,
) -> Any:
    """The ledger: one row for each contact of the audience, with what became of it."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    after = 0 if cursor is None else known("cur", cursor, "Page")
    rows = await here.store.read(reach.rows, found.id, state, after, limit)
    more = {"next_cursor": ids.public("cur", rows[-1].contact_id)} if len(rows) == limit else {}
    return {"recipients": [_row(row) for row in rows], **more}


def _row(row: Any) -> dict[str, Any]:
    return {
        "contact_id": ids.public("ct", row.contact_id), "email": row.email, "state": row.state, "reason": row.reason or None, "variant": row.variant or None,
        "at": iso(row.at), **{name: iso(getattr(row, name)) for name in ("opened_at", "clicked_at", "unsubscribed_at", "complained_at")}}


@router.get("/segments/{segment_id}/broadcasts")
async def list_segment_broadcasts(here: Core, who: Owner, segment_id: str) -> Any:
    """The latest broadcasts to a segment."""
    segment = await here.store.read(segments.get, who.project, known("seg", segment_id, "Segment"))
    found = await here.store.read(broadcasts.to_segment, who.project, segment.id)
    figures = await here.store.read(counts.of_many, [each.id for each in found])
    return whole("broadcasts", [shown(each, counts.whole(figures.get(each.id, {}))) for each in found])


async def _one(here: Relay, found: Broadcast) -> dict[str, Any]:
    return await telling.one(here.store, found)
