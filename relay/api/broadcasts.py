"""/broadcasts: one letter to a segment, an audience, the subscribers of a topic or all contacts, each of them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from relay import templates
from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, whole
from relay.api.draft import SUBJECT, Addresses, Moment, TrackingInput
from relay.audience import grammars
from relay.broadcasts.acts import Acts
from relay.clock import iso
from relay.errors import Invalid, NotFound
from relay.mail import ids, mime
from relay.mail.message import Principal
from relay.mail.mime import Texts
from relay.store import templates as stored_templates
from relay.store.audience import audiences, segments, topics
from relay.store.broadcasts import broadcasts, counts, reach
from relay.store.broadcasts.broadcasts import DRAFT, STATUSES, Broadcast, Variant

router = APIRouter(tags=["Broadcasts"])

Search = Annotated[str, Query(max_length=200, description="Part of the subject or name")]
RowState = Literal["pending", "queued", "delivered", "bounced", "failed", "suppressed", "cancelled", "skipped"]


class VariantInput(Input):
    """One wording of an A/B test."""

    name: str = Field("", max_length=100)
    subject: str = Field(min_length=1, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    weight: int = Field(ge=1, le=100)


class TestInput(Input):
    """An A/B test: a sample gets the variants by weight, and after the window the rest gets the one with the best rate."""

    variants: list[VariantInput] = Field(min_length=2, max_length=5)
    test_sample_size: float = Field(20, ge=5, le=50, description="Percent of the audience")
    test_duration_minutes: int = Field(120, ge=30, le=1440)
    winner_metric: Literal["open_rate", "click_rate"] = "open_rate"


class BroadcastChange(Input):
    """What to change of a draft; what is absent stays, null takes away."""

    name: str | None = Field(None, max_length=200)
    from_: str | None = Field(None, alias="from", max_length=1_000)
    reply_to: Addresses | None = None
    subject: str | None = Field(None, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    template_id: str | None = None
    segment_id: str | None = None
    audience_id: str | None = None
    topic_id: str | None = None
    all_contacts: bool | None = None
    rules: Any = None
    per_minute: int | None = Field(None, ge=1, le=1_000_000, description="Copies a minute at most; without it as fast as the receiving sites allow")
    tracking: TrackingInput | None = None
    ab_test: TestInput | None = None
    scheduled_at: Moment | None = None


class BroadcastInput(BroadcastChange):
    """A new draft. Who gets it: a segment, an audience, a topic's subscribers, rules of its own, or `all_contacts`."""

    from_: str = Field(alias="from", max_length=1_000, examples=["News <news@yourdomain.com>"])


class WhenInput(Input):
    scheduled_at: Moment | None = None


class TestMailInput(Input):
    email: str = Field(max_length=1_000)
    variant: int = Field(1, ge=1, le=5)


class ResendInput(Input):
    target: Literal["non_openers", "non_clickers"] = "non_openers"
    subject: str | None = Field(None, max_length=SUBJECT)


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
    empty: dict[str, Any] = {
        "name": "", "reply_to": [], "subject": "", "html": None, "text": None, "template_id": None, "segment_id": None, "audience_id": None,
        "topic_id": None, "everyone": False, "rules": None, "per_minute": None, "tracking": {}, "ab_test": None}
    made = Broadcast(id=here.maker.next(), project_id=who.project, status=DRAFT, dialect="native", origin={}, created_at=now, updated_at=now,
                     **{**empty, **values})
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
    await here.store.write(broadcasts.remove, who.project, number_of(broadcast_id))
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


# What was given, as columns.


async def columns(here: Relay, who: Principal, given: BroadcastChange) -> tuple[dict[str, Any], list[Variant] | None]:
    """The columns that were given, checked, and the variants of a test; raises Invalid and NotFound."""
    said = given.model_fields_set
    values: dict[str, Any] = {name: getattr(given, name) for name in ("html", "text", "per_minute", "scheduled_at", "rules") if name in said}
    for name in ("name", "subject"):
        if name in said:
            values[name] = getattr(given, name) or ""
    if given.from_ is not None:
        mime.mailboxes(given.from_, "from")
        values["sender"] = given.from_
    if "reply_to" in said:
        values["reply_to"] = given.reply_to or []
        for each in values["reply_to"]:
            mime.mailboxes(each, "reply_to")
    if "all_contacts" in said:
        values["everyone"] = bool(given.all_contacts)
    if "tracking" in said:
        values["tracking"] = given.tracking.model_dump(exclude_none=True) if given.tracking else {}
    if given.rules is not None:
        grammars.read(given.rules)
    values |= await _named(here, who, given, said)
    for field, source in Texts(given.subject or "", given.html, given.text).each():
        templates.compiled(field, source)
    if "ab_test" not in said:
        return values, None
    if given.ab_test is None:
        return {**values, "ab_test": None}, []
    return {**values, "ab_test": _test(given.ab_test)}, _variants(given.ab_test)


async def _named(here: Relay, who: Principal, given: BroadcastChange, said: set[str]) -> dict[str, int | None]:
    """The ids of what is named, which the project must have."""
    values: dict[str, int | None] = {}
    for name, prefix, what, get in (("segment_id", "seg", "Segment", segments.get), ("audience_id", "aud", "Audience", audiences.get),
                                    ("topic_id", "top", "Topic", topics.get), ("template_id", "tpl", "Template", stored_templates.get)):
        if name not in said:
            continue
        text = getattr(given, name)
        values[name] = None if text is None else int(text) if text.isdecimal() and len(text) < 20 else known(prefix, text, what)
        if text is not None:
            await here.store.read(get, who.project, values[name])
    return values


def _test(given: TestInput) -> dict[str, Any]:
    if sum(v.weight for v in given.variants) != 100:
        raise Invalid("ab_test.variants", "the weights of the variants add up to 100")
    return {"sample": given.test_sample_size, "minutes": given.test_duration_minutes, "metric": given.winner_metric}


def _variants(given: TestInput) -> list[Variant]:
    made = []
    for number, v in enumerate(given.variants, 1):
        for field, source in Texts(v.subject, v.html, v.text).each():
            templates.compiled(field, source)
        if v.html is None and v.text is None:
            raise Invalid(f"ab_test.variants[{number - 1}].html", "one of html and text is required")
        made.append(Variant(number, v.name or "ABCDE"[number - 1], v.subject, v.html, v.text, v.weight))
    return made


# What is shown.


async def _one(here: Relay, found: Broadcast) -> dict[str, Any]:
    out = shown(found, counts.whole(await here.store.read(counts.of, found.id)))
    variants = await here.store.read(broadcasts.variants, found.id)
    if found.ab_test is not None:
        out["ab_test"]["variants"] = [wording(v) for v in variants]
    scores = [v.facts["spam_score"] for v in variants if v.facts.get("spam_score") is not None]
    return {**out, "spam_score": max(scores, default=None)}


def shown(each: Broadcast, figures: Mapping[str, int]) -> dict[str, Any]:
    """A broadcast as a list shows it."""
    return {
        "id": each.public_id, "name": each.name or None, "subject": each.subject, "status": each.status, "from": each.sender, "reply_to": each.reply_to,
        "template_id": _public("tpl", each.template_id), "segment_id": _public("seg", each.segment_id),
        "audience_id": _public("aud", each.audience_id), "topic_id": _public("top", each.topic_id),
        "all_contacts": each.everyone, "rules": each.rules, "per_minute": each.per_minute, "tracking": each.tracking, "ab_test": _shown_test(each),
        "error": each.error or None, **tallied(figures), "scheduled_at": iso(each.scheduled_at), "started_at": iso(each.started_at),
        "sent_at": iso(each.started_at), "ended_at": iso(each.ended_at), "created_at": iso(each.created_at), "updated_at": iso(each.updated_at),
    }


def _public(prefix: str, number: int | None) -> str | None:
    return None if number is None else ids.public(prefix, number)


STATES: Sequence[str] = ("pending", "queued", "delivered", "bounced", "failed", "suppressed", "cancelled")
ACTS: Sequence[str] = ("opened", "clicked", "unsubscribed", "complained")


def tallied(figures: Mapping[str, int]) -> dict[str, Any]:
    """The figures: everybody who may get it or might have, by what became of them; and who was left out, by reason."""
    figures = Counter(figures)
    skipped = {name.removeprefix("skipped."): count for name, count in sorted(figures.items()) if name.startswith("skipped.") and count}
    return {"total_recipients": sum(figures[name] for name in STATES), **{name: figures[name] for name in (*STATES, *ACTS)},
            "skipped": sum(skipped.values()), "skipped_by_reason": skipped}


def _shown_test(each: Broadcast) -> dict[str, Any] | None:
    if each.ab_test is None:
        return None
    said = each.ab_test
    return {"test_sample_size": said["sample"], "test_duration_minutes": said["minutes"], "winner_metric": said["metric"], "winner": each.winner,
            "ends_at": iso(each.test_ends_at)}


def wording(v: Variant) -> dict[str, Any]:
    return {"id": v.number, "name": v.name, "subject": v.subject, "html": v.html, "text": v.text, "weight": v.weight,
            "spam_score": v.facts.get("spam_score")}
