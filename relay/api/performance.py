"""What came of broadcasts: rates, variants, links, and who did not open or click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Query

from relay.api.broadcasts import number_of
from relay.api.core import Core, Owner, Relay, resource, whole
from relay.api.draft import Moment
from relay.broadcasts import contest, telling
from relay.broadcasts.telling import tallied, wording
from relay.clock import iso
from relay.errors import Conflict, Invalid
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.broadcasts import broadcasts, counts, reach, tally
from relay.store.broadcasts.broadcasts import OPEN, Broadcast, Variant

PEOPLE = 5_000  # contacts of one answer

router = resource("Broadcasts")

Metric = Literal["open_rate", "click_rate", "delivered"]
Limit = Annotated[int, Query(ge=1, le=PEOPLE)]


@router.get("/broadcasts/performance")
async def rank_broadcasts(
    here: Core, who: Owner, since: Annotated[Moment | None, Query(description="Those that began after this time")] = None,
    metric: Metric = "click_rate", limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    """Sent broadcasts, the best first."""
    found = await here.store.read(broadcasts.sent_since, who.project, since or 0.0)
    figures = await here.store.read(counts.of_many, [each.id for each in found])
    rows = [performance(each, counts.whole(figures.get(each.id, {}))) for each in found]
    rows.sort(key=lambda row: row[metric], reverse=True)
    return {"metric": metric, "since": iso(since), "broadcasts": rows[:limit]}


@router.get("/broadcasts/{broadcast_id}/performance")
async def get_performance(here: Core, who: Owner, broadcast_id: str) -> Any:
    """The figures of one broadcast and of its variants, and how sure it is which of these is best."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    figures = await here.store.read(counts.of, found.id)
    told = {"broadcast": performance(found, counts.whole(figures)), "variants": None}
    return told if found.ab_test is None else {**told, **await _variants(here, found, figures)}


@router.get("/broadcasts/{broadcast_id}/variants")
async def list_variants(here: Core, who: Owner, broadcast_id: str) -> Any:
    """The wordings of an A/B test, or the one there is, with their figures."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    figures = await here.store.read(counts.of, found.id)
    given = await here.store.read(broadcasts.variants, found.id)
    return whole("variants", [{**wording(v), **_variant(v, figures.get(v.number, Counter()))} for v in given])


@router.get("/broadcasts/{broadcast_id}/variant-stats")
async def get_variant_stats(here: Core, who: Owner, broadcast_id: str) -> Any:
    """The figures of the variants of an A/B test."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    if found.ab_test is None:
        raise Invalid("ab_test", "the broadcast has no A/B test")
    return await _variants(here, found, await here.store.read(counts.of, found.id))


@router.get("/broadcasts/{broadcast_id}/links")
async def list_links(here: Core, who: Owner, broadcast_id: str) -> Any:
    """The links that people clicked, most clicks first."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    rows = await here.store.read(tally.clicked_links, found.id)
    return {"links": [{"url": row.url, "clicks": row.clicks, "people": row.people} for row in rows]}


@router.get("/broadcasts/{broadcast_id}/forecast")
async def get_forecast(here: Core, who: Owner, broadcast_id: str) -> Any:
    """How long it will take under the limits of this moment, what takes longest, and who will be left out; of a running one what is left."""
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    if here.control.runner is None:
        raise Conflict("no relay delivers here")
    return await telling.ahead(here.store, found, here.control.runner, here.settings.limit, here.clock.now())


@router.get("/broadcasts/{broadcast_id}/non-openers")
async def list_non_openers(here: Core, who: Owner, broadcast_id: str, limit: Limit = 500) -> Any:
    """Contacts that got it and did not open it; who is on the way or could not be reached is not among them."""
    return await _without(here, who, broadcast_id, "opened_at", limit)


@router.get("/broadcasts/{broadcast_id}/non-clickers")
async def list_non_clickers(here: Core, who: Owner, broadcast_id: str, limit: Limit = 500) -> Any:
    """Contacts that got it and clicked no link."""
    return await _without(here, who, broadcast_id, "clicked_at", limit)


async def _without(here: Relay, who: Principal, broadcast_id: str, column: str, limit: int) -> dict[str, Any]:
    found = await here.store.read(broadcasts.get, who.project, number_of(broadcast_id))
    count, rows = await here.store.read(reach.counted_without, found.id, column, limit)
    people = [{"id": ids.public("ct", row.id), "email": row.email, "first_name": row.first_name, "last_name": row.last_name} for row in rows]
    return {"broadcast": {"id": found.public_id, "subject": found.subject}, "count": count, "contacts": people}


async def _variants(here: Relay, found: Broadcast, figures: Mapping[int, Counter[str]]) -> dict[str, Any]:
    given = await here.store.read(broadcasts.variants, found.id)
    leader = contest.standing(found.ab_test, [v.number for v in given], figures)
    return {"variants": [_variant(v, figures.get(v.number, Counter())) for v in given], "winner_variant_id": found.winner,
            "leader_variant_id": leader.winner if _any(figures) else None, "confidence": _rounded(leader)}


def _any(figures: Mapping[int, Counter[str]]) -> bool:
    return any(figure["delivered"] for figure in figures.values())


def _rounded(result: contest.Result) -> float | None:
    return None if result.confidence is None else round(result.confidence, 4)


def _variant(v: Variant, figures: Counter[str]) -> dict[str, Any]:
    told = tallied(figures)
    return {"id": v.number, "name": v.name, "subject": v.subject, "weight": v.weight, "recipient_count": told["total_recipients"],
            "delivered_count": told["delivered"], "opened_count": told["opened"], "clicked_count": told["clicked"], "bounced_count": told["bounced"],
            **rates(told)}


def performance(each: Broadcast, figures: Mapping[str, int]) -> dict[str, Any]:
    told = tallied(figures)
    names = ("total_recipients", "delivered", "opened", "clicked", "bounced", "failed", "unsubscribed", "complained", "skipped")
    return {"id": each.public_id, "name": each.name or None, "subject": each.subject, "status": each.status, "sent_at": iso(each.started_at),
            **{name: told[name] for name in names}, **rates(told), "in_progress": each.status in OPEN}


def rates(told: Mapping[str, Any]) -> dict[str, float]:
    """Shares of all recipients, 0 to 1, by people; what machines do is not in the figures."""
    total = told["total_recipients"]
    return {f"{name}_rate": round(told[done] / total, 6) if total else 0.0
            for name, done in (("open", "opened"), ("click", "clicked"), ("bounce", "bounced"), ("unsubscribe", "unsubscribed"), ("complaint", "complained"))}
