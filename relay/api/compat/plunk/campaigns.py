"""/campaigns in the Plunk dialect: broadcasts, whose way out stops marketing mail and nothing else.

    MARKETING      subscribed contacts only; one-click fields and a footer
    HEADLESS       the same without the footer: the way out is in the header, and wherever the author puts {{unsubscribeUrl}}
    TRANSACTIONAL  all contacts, without a way out: for what everybody must be told, not for advertising
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from relay import templates
from relay.api.broadcasts import acts
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.letter import box
from relay.api.compat.plunk.paging import Paging, paged
from relay.api.core import Core, Input, Owner, Relay, resource
from relay.api.draft import SUBJECT, Moment
from relay.audience.grammars import read
from relay.broadcasts.telling import tallied
from relay.clock import iso
from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids, mailbox
from relay.mail.message import MARKETING, Principal
from relay.mail.mime import Texts
from relay.store.audience import segments
from relay.store.broadcasts import broadcasts, counts
from relay.store.broadcasts.broadcasts import CANCELLED, DRAFT, FAILED, PAUSED, QUEUED, SCHEDULED, SENDING, SENT, Broadcast

router = resource("Campaigns")

STATUSES = {DRAFT: "DRAFT", SCHEDULED: "SCHEDULED", QUEUED: "SENDING", SENDING: "SENDING", PAUSED: "SENDING", SENT: "SENT", CANCELLED: "CANCELLED",
            FAILED: "CANCELLED"}
NATIVE = {"DRAFT": DRAFT, "SCHEDULED": SCHEDULED, "SENDING": SENDING, "SENT": SENT, "CANCELLED": CANCELLED}

Status = Literal["DRAFT", "SCHEDULED", "SENDING", "SENT", "CANCELLED"]


class CampaignChange(Input):
    """What to change of a draft; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=500)
    subject: str | None = Field(None, min_length=1, max_length=SUBJECT)
    body: str | None = Field(None, min_length=1)
    sender: str | None = Field(None, validation_alias="from", min_length=1, max_length=320)
    from_name: str | None = Field(None, max_length=100)
    reply_to: str | None = Field(None, max_length=320)
    type: Literal["MARKETING", "TRANSACTIONAL", "HEADLESS"] | None = None
    audience_type: Literal["ALL", "SEGMENT", "FILTERED"] | None = None
    segment_id: str | None = None
    audience_condition: dict[str, Any] | None = None


class CampaignInput(CampaignChange):
    """A new campaign, to ALL contacts, to a SEGMENT, or to those FILTERED by a condition."""

    name: str = Field(min_length=1, max_length=200)
    subject: str = Field(min_length=1, max_length=SUBJECT)
    body: str = Field(min_length=1)
    sender: str = Field(validation_alias="from", min_length=1, max_length=320)
    audience_type: Literal["ALL", "SEGMENT", "FILTERED"] = "ALL"


class WhenInput(Input):
    scheduled_for: Moment | None = None


class TestInput(Input):
    email: str = Field(max_length=320)


@router.post("/campaigns", status_code=201)
async def create_campaign(here: Core, who: Owner, given: CampaignInput) -> Any:
    """Create a campaign; it is a draft."""
    values, now = await _columns(here, who, given), here.clock.now()
    made = Broadcast(
        here.maker.next(), who.project, given.name, DRAFT, values["sender"], values.get("reply_to", []), given.subject, given.body, None, None,
        values["segment_id"], None, None, values["everyone"], values["rules"], None, {}, None, "plunk", {}, now, now,
        description=given.description or "", kind=values.get("kind", MARKETING))
    return {"success": True, "data": await _one(here, await here.store.write(broadcasts.add, made))}


@router.get("/campaigns")
async def list_campaigns(here: Core, who: Owner, page: Paging, status: Status | None = None, search: Annotated[str, Query(max_length=200)] = "") -> Any:
    """A page of campaigns, newest first."""
    found = await here.store.read(broadcasts.paged, who.project, page, NATIVE[status] if status else None, search)
    figures = await here.store.read(counts.of_many, [each.id for each in found.rows])
    return paged(found, page, lambda each: _shown(each, counts.whole(figures.get(each.id, {}))))


@router.get("/campaigns/{campaign_id}")
async def get_campaign(here: Core, who: Owner, campaign_id: str) -> Any:
    """One campaign."""
    return await _one(here, await _found(here, who, campaign_id))


@router.put("/campaigns/{campaign_id}")
async def change_campaign(here: Core, who: Owner, campaign_id: str, given: CampaignChange) -> Any:
    """Change a draft."""
    found = await _found(here, who, campaign_id)
    values = {**await _columns(here, who, given, found), "updated_at": here.clock.now()}
    return await _one(here, await here.store.write(broadcasts.change, who.project, found.id, values))


@router.delete("/campaigns/{campaign_id}", status_code=204)
async def delete_campaign(here: Core, who: Owner, campaign_id: str) -> Response:
    """Delete a campaign that is not on its way."""
    await acts(here).remove(who, (await _found(here, who, campaign_id)).id)
    return Response(status_code=204)


@router.post("/campaigns/{campaign_id}/send")
async def send_campaign(here: Core, who: Owner, campaign_id: str, given: WhenInput | None = None) -> Any:
    """Send a draft now, or at `scheduledFor`."""
    found = await _found(here, who, campaign_id)
    sent = await acts(here).send(who, found.id, given.scheduled_for if given else None)
    return {"success": True, "data": await _one(here, sent), "message": "Campaign scheduled" if sent.status == SCHEDULED else "Campaign is being sent"}


@router.post("/campaigns/{campaign_id}/cancel")
async def cancel_campaign(here: Core, who: Owner, campaign_id: str) -> Any:
    """Nobody else gets it."""
    return {"success": True, "data": await _one(here, await acts(here).cancel(who, (await _found(here, who, campaign_id)).id))}


@router.post("/campaigns/{campaign_id}/test")
async def test_campaign(here: Core, who: Owner, campaign_id: str, given: TestInput) -> Any:
    """One copy to an address."""
    await acts(here).test(who, (await _found(here, who, campaign_id)).id, given.email)
    return {"success": True, "message": f"Test email sent to {given.email}"}


@router.post("/campaigns/{campaign_id}/duplicate", status_code=201)
async def duplicate_campaign(here: Core, who: Owner, campaign_id: str) -> Any:
    """A new draft that says the same."""
    return {"success": True, "data": await _one(here, await acts(here).duplicate(who, (await _found(here, who, campaign_id)).id))}


@router.get("/campaigns/{campaign_id}/stats")
async def get_stats(here: Core, who: Owner, campaign_id: str) -> Any:
    """Counts, and rates in percent of what was sent."""
    found = await _found(here, who, campaign_id)
    told = tallied(counts.whole(await here.store.read(counts.of, found.id)))
    sent = _sent(told)
    names = ("delivered", "opened", "clicked", "bounced", "complained", "unsubscribed")
    rates = {f"{word}Rate": round(told[name] / sent * 100, 2) if sent else 0
             for name, word in zip(names, ("delivery", "open", "click", "bounce", "complaint", "unsubscribe"), strict=True)}
    return {"success": True, "data": {"totalRecipients": told["total_recipients"], "sentCount": sent,
                                      **{f"{name}Count": told[name] for name in names}, **rates}}


def _sent(told: dict[str, Any]) -> int:
    """Copies that have gone out, whatever became of them."""
    return told["delivered"] + told["bounced"] + told["failed"]


async def _found(here: Relay, who: Principal, campaign_id: str) -> Broadcast:
    number = ids.internal(campaign_id, "brd")
    if number is None:
        raise NotFound("Campaign not found")
    try:
        return await here.store.read(broadcasts.get, who.project, number)
    except NotFound:
        raise NotFound("Campaign not found") from None


async def _columns(here: Relay, who: Principal, given: CampaignChange, old: Broadcast | None = None) -> dict[str, Any]:
    """The columns that were given, checked; raises Bad, Invalid and NotFound."""
    values: dict[str, Any] = {name: getattr(given, name) for name in ("name", "subject", "description") if getattr(given, name) is not None}
    if given.type is not None:
        values["kind"] = given.type.lower()
    if given.body is not None:
        values["html"] = given.body
        try:
            templates.variables(Texts(given.subject or "", given.body))
        except Invalid as error:
            raise Bad(error.field, error.text) from None
    if given.sender is not None or (given.from_name is not None and old is not None):
        address, name = (box(given.sender, "from").address if given.sender else mailbox.mailboxes(old.sender)[0].address), given.from_name
        values["sender"] = mailbox.text(name, address) if name else box(given.sender, "from").text if given.sender else old.sender
    if given.reply_to is not None:
        values["reply_to"] = [box(given.reply_to, "replyTo").text]
    return values if given.audience_type is None else {**values, **await _audience(here, who, given)}


async def _audience(here: Relay, who: Principal, given: CampaignChange) -> dict[str, Any]:
    values: dict[str, Any] = {"segment_id": None, "rules": None, "everyone": given.audience_type == "ALL"}
    if given.audience_type == "SEGMENT":
        number = ids.internal(given.segment_id or "", "seg")
        if number is None:
            raise Bad("segmentId", "segmentId is required for the audience SEGMENT")
        await here.store.read(segments.get, who.project, number)
        values["segment_id"] = number
    if given.audience_type == "FILTERED":
        try:
            read(given.audience_condition)
        except Invalid as error:
            raise Bad("audienceCondition", error.text) from None
        values["rules"] = given.audience_condition
    return values


async def _one(here: Relay, each: Broadcast) -> dict[str, Any]:
    return _shown(each, counts.whole(await here.store.read(counts.of, each.id)))


def _shown(each: Broadcast, figures: Counter[str]) -> dict[str, Any]:
    author, told = mailbox.mailboxes(each.sender)[0], tallied(figures)
    kind = "SEGMENT" if each.segment_id is not None else "FILTERED" if each.rules is not None else "ALL"
    return {
        "id": each.public_id, "name": each.name, "description": each.description or None, "subject": each.subject, "body": each.html or each.text or "",
        "from": author.address, "fromName": author.name or None, "replyTo": each.reply_to[0] if each.reply_to else None,
        "type": each.kind.upper(), "status": STATUSES[each.status],
        "audienceType": kind, "segmentId": None if each.segment_id is None else ids.public("seg", each.segment_id), "audienceCondition": each.rules,
        "totalRecipients": told["total_recipients"], "sentCount": _sent(told),
        **{f"{name}Count": told[name] for name in ("delivered", "opened", "clicked", "bounced")},
        "scheduledFor": iso(each.scheduled_at), "sentAt": iso(each.started_at), "projectId": ids.public("prj", each.project_id),
        "createdAt": iso(each.created_at), "updatedAt": iso(each.updated_at)}


async def unused(here: Relay, who: Principal, segment: int) -> None:
    """Raises Conflict while a campaign that has not ended is for this segment."""
    if await here.store.read(broadcasts.uses_segment, who.project, segment):
        raise Conflict("a campaign is for this segment; change or cancel it first")
